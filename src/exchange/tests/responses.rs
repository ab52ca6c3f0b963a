//! The target's direction: interim responses, final ones, tunnels, and what its connection may carry then.

use std::time::Duration;

use super::*;

#[test]
fn a_100_ends_the_wait_of_a_client_that_expects_it() {
    let mut talk =
        Talk::of("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert!(talk.heard_by_target().contains("Expect: 100-continue\r\n"));
    talk.target_says("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(talk.flow.awaits_response());
    talk.client_says("body").target_says(OK);
    assert_eq!((talk.heard_by_client().as_str(), talk.ending), (OK, Some(Ending::KeepAlive)));
}

#[test]
fn a_100_nobody_asked_for_is_dropped() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "");
    talk.target_says(OK);
    assert_eq!(talk.heard_by_client(), OK);
}

#[test]
fn early_hints_pass_but_not_with_framing_and_not_to_a_1_0_client() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 5\r\n\r\n";
    let mut talk = Talk::of(GET);
    talk.target_says(hints);
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    let mut talk = Talk::of("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    talk.target_says(&format!("{hints}{OK}"));
    assert!(talk.heard_by_client().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_1_0_client_expects_nothing() {
    let mut talk =
        Talk::of("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    talk.target_says("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "");
}

#[test]
fn interim_and_final_response_may_come_in_one_piece() {
    let mut talk = Talk::of(GET);
    talk.target_says(&format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{OK}"));
    assert_eq!(talk.heard_by_client(), format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}"));
    assert_eq!((talk.next, talk.reuse), (Next::Finished { reuse: Reuse::Pool }, Some(Reuse::Pool)));
}

#[test]
fn too_many_interim_responses_break_the_exchange() {
    let mut talk = Talk::of(GET);
    for _ in 0..MAX_INTERIM {
        talk.target_says("HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(talk.next, Next::ToClient);
    }
    talk.target_says("HTTP/1.1 103 Early Hints\r\n\r\n");
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.target_fails(Failure::BadResponse, true, true), Remedy::Answer(502));
}

#[test]
fn a_response_with_a_length_passes_as_it_is() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(talk.next, Next::ToClient);
    talk.target_says("llo");
    assert_eq!(talk.next, Next::Finished { reuse: Reuse::Pool });
    let wanted = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!((talk.heard_by_client().as_str(), talk.ending), (wanted, Some(Ending::KeepAlive)));
}

#[test]
fn head_204_and_304_have_no_body_whatever_the_target_says() {
    for (method, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ] {
        let mut talk = Talk::of(&GET.replace("GET", method));
        talk.target_says(response);
        assert_eq!(talk.next, Next::Finished { reuse: Reuse::Pool }, "{response}");
        assert_eq!(talk.ending, Some(Ending::KeepAlive));
        assert!(talk.heard_by_client().ends_with("\r\n\r\n"));
    }
}

#[test]
fn a_204_that_announces_a_body_costs_its_connection() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(
        (talk.next, talk.ending),
        (Next::Finished { reuse: Reuse::Ends }, Some(Ending::KeepAlive))
    );
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn a_chunked_response_is_framed_anew_with_its_trailers() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc");
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(talk.heard_by_client(), format!("{head}3\r\nabc\r\n"));
    talk.target_says("\r\n0\r\nX-Sum: 6\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "0\r\nX-Sum: 6\r\n\r\n");
    assert_eq!((talk.reuse, talk.ending), (Some(Reuse::Pool), Some(Ending::KeepAlive)));
}

#[test]
fn a_close_delimited_response_becomes_chunked() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\n\r\nhello").target_closes();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(talk.heard_by_client(), format!("{head}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!((talk.reuse, talk.ending), (Some(Reuse::Ends), Some(Ending::KeepAlive)));
}

#[test]
fn a_1_0_client_gets_bare_bytes_until_the_close() {
    let get = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let wanted = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc";
    let mut talk = Talk::of(get);
    talk.target_says(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    );
    assert_eq!(talk.heard_by_client(), wanted);
    assert_eq!((talk.reuse, talk.ending), (Some(Reuse::Pool), Some(Ending::Linger)));
    let mut talk = Talk::of(get);
    talk.target_says("HTTP/1.1 200 OK\r\n\r\nabc").target_closes();
    assert_eq!((talk.heard_by_client().as_str(), talk.ending), (wanted, Some(Ending::Linger)));
}

#[test]
fn a_1_0_client_is_kept_only_if_it_asks() {
    let mut talk = Talk::of("GET / HTTP/1.0\r\n\r\n");
    assert!(talk.heard_by_target().starts_with("GET / HTTP/1.1\r\nHost: fallback\r\n"));
    talk.target_says(OK);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!(talk.ending, Some(Ending::Close));
    let mut talk = Talk::of("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    talk.target_says(OK);
    assert!(talk.heard_by_client().contains("Connection: keep-alive\r\n"));
    assert_eq!(talk.ending, Some(Ending::KeepAlive));
}

#[test]
fn a_client_that_wants_the_end_gets_it() {
    let mut talk = Talk::of("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(!talk.heard_by_target().contains("Connection"));
    talk.target_says(OK);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!((talk.reuse, talk.ending), (Some(Reuse::Pool), Some(Ending::Close)));
}

#[test]
fn a_target_that_wants_the_end_gets_it_and_the_client_is_kept() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!((talk.heard_by_client().as_str(), talk.reuse), (OK, Some(Reuse::Ends)));
    assert_eq!(talk.ending, Some(Ending::KeepAlive));
}

#[test]
fn how_long_a_target_keeps_an_idle_connection_is_known_from_its_response() {
    for (field, seconds) in [
        ("", None),
        ("Keep-Alive: timeout=5\r\n", Some(5)),
        ("keep-alive: max=100, Timeout = 65\r\n", Some(65)),
        ("Keep-Alive: timeout=0\r\n", Some(0)),
        ("Keep-Alive: timeout=5, timeout=7\r\n", Some(5)),
        ("Keep-Alive: timeout=99999\r\n", Some(65534)),
        ("Keep-Alive: timeout=-1\r\n", None),
        ("Keep-Alive: timeout\r\n", None),
        ("Keep-Alive: idletimeout=5\r\n", None),
        ("Keep-Alive: 300\r\n", None),
    ] {
        let mut talk = Talk::of(GET);
        assert_eq!(talk.far.idle_hint(), None);
        talk.target_says(&OK.replace("\r\n\r\n", &format!("\r\n{field}\r\n")));
        assert_eq!(talk.far.idle_hint(), seconds.map(Duration::from_secs), "{field:?}");
        assert_eq!(talk.heard_by_client(), OK, "it is about the target's connection alone");
        talk.goes_on();
        assert_eq!(talk.far.idle_hint(), None);
    }
}

#[test]
fn bytes_behind_a_response_discard_the_upstream_and_reach_nobody() {
    for response in
        [OK, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    {
        let mut talk = Talk::of(GET);
        talk.target_says(&format!("{response}HTTP/1.1 200 Evil\r\n\r\n"));
        assert_eq!((talk.heard_by_client().as_str(), talk.reuse), (response, Some(Reuse::No)));
        assert_eq!(talk.ending, Some(Ending::KeepAlive));
    }
}

/// Whether the upstream connection may carry more after `request`, all of it read, was answered with `response`.
#[track_caller]
fn reuse(request: &str, response: &str) -> Reuse {
    let mut talk = Talk::of(request);
    talk.target_says(response);
    talk.reuse.expect("the exchange is over")
}

#[test]
fn content_that_a_target_may_not_have_read_never_becomes_the_next_request() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND", "get"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
        let ok = if method == "HEAD" { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" } else { OK };
        assert_eq!(reuse(&format!("{head}\r\n"), ok), Reuse::Pool);
        assert_eq!(reuse(&format!("{head}Content-Length: 0\r\n\r\n"), ok), Reuse::Pool);
        for content in [
            "Content-Length: 2\r\n\r\nab",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ] {
            assert_eq!(reuse(&format!("{head}{content}"), ok), Reuse::No, "{method} {content}");
        }
    }
    for method in ["POST", "PUT", "PATCH"] {
        let request = format!("{POST}body").replace("POST", method);
        assert_eq!(reuse(&request, OK), Reuse::Pool, "{method}");
    }
}

#[test]
fn a_target_that_refuses_a_request_may_not_have_read_it() {
    let post = format!("{POST}body");
    for (status, without, with) in [
        (200, Reuse::Pool, Reuse::Pool),
        (302, Reuse::Pool, Reuse::Pool),
        (303, Reuse::Pool, Reuse::Pool),
        (307, Reuse::Pool, Reuse::No),
        (400, Reuse::No, Reuse::No),
        (401, Reuse::Pool, Reuse::No),
        (404, Reuse::Pool, Reuse::No),
        (408, Reuse::No, Reuse::No),
        (413, Reuse::No, Reuse::No),
        (414, Reuse::No, Reuse::No),
        (417, Reuse::No, Reuse::No),
        (431, Reuse::No, Reuse::No),
        (500, Reuse::Pool, Reuse::No),
        (503, Reuse::Pool, Reuse::No),
    ] {
        let response = OK.replace("200", &status.to_string());
        assert_eq!((reuse(GET, &response), reuse(&post, &response)), (without, with), "{status}");
    }
}

#[test]
fn an_early_response_ends_the_upstream_connection() {
    let mut talk = Talk::of(POST);
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").client_says("body");
    talk.target_says("ok");
    assert_eq!(talk.reuse, Some(Reuse::No));
    // All was read, but some of it waits to be written.
    let mut talk = Talk::of(&format!("{POST}body"));
    talk.flow.answered_early(&mut talk.far);
    talk.target_says(OK);
    assert_eq!(talk.reuse, Some(Reuse::No));
    let mut talk = Talk::of(&POST.replace("Content", "Expect: 100-continue\r\nContent"));
    talk.target_says("HTTP/1.1 100 Continue\r\n\r\n").client_says("body").target_says(OK);
    assert_eq!(talk.reuse, Some(Reuse::Pool), "an interim response is no answer");
}

#[test]
fn a_connection_authenticated_as_a_whole_becomes_its_clients_own() {
    let denied =
        |fields: &str| format!("HTTP/1.1 401 Unauthorized\r\n{fields}Content-Length: 0\r\n\r\n");
    for (fields, wanted) in [
        ("WWW-Authenticate: NTLM\r\n", Reuse::Private),
        ("www-authenticate: nTlM TlRMTVNTUAAC=\r\n", Reuse::Private),
        ("WWW-Authenticate: Negotiate\r\n", Reuse::Private),
        ("WWW-Authenticate: Basic realm=\"a\", Negotiate\r\n", Reuse::Private),
        ("WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM\r\n", Reuse::Private),
        ("WWW-Authenticate: Basic realm=\"NTLM\"\r\n", Reuse::Pool),
        ("WWW-Authenticate: Bearer\r\n", Reuse::Pool),
        ("X-Authenticate: NTLM\r\n", Reuse::Pool),
    ] {
        assert_eq!(reuse(GET, &denied(fields)), wanted, "{fields:?}");
    }
    let proxy = denied("Proxy-Authenticate: Negotiate\r\n").replace("401", "407");
    assert_eq!(reuse(GET, &proxy), Reuse::Private);
    for (credentials, wanted) in [
        ("Authorization: Negotiate YII=", Reuse::Private),
        ("authorization: NTLM TlRMTVNTUAAB", Reuse::Private),
        ("Proxy-Authorization: NTLM TlRMTVNTUAAB", Reuse::Private),
        ("Authorization: Basic bnRsbTpudGxt", Reuse::Pool),
    ] {
        let request = GET.replace("\r\n\r\n", &format!("\r\n{credentials}\r\n\r\n"));
        assert_eq!(reuse(&request, OK), wanted, "{credentials}");
    }
    // The next request of the same client does not make it anybody's again.
    let mut talk = Talk::of(GET);
    talk.target_says(&denied("WWW-Authenticate: NTLM\r\n")).goes_on();
    talk.client_says(GET).target_says(OK);
    assert_eq!(talk.reuse, Some(Reuse::Private));
    talk.goes_on().client_says(GET).target_says("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    assert_eq!(talk.target_closes().reuse, Some(Reuse::Ends));
}

#[test]
fn a_response_nobody_asked_for_is_a_failure() {
    let mut talk = Talk::new();
    talk.target_says(OK);
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.heard_by_client(), "");
}

#[test]
fn an_upload_goes_on_after_its_response_and_the_next_request_behind_it() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    talk.target_says(OK);
    assert_eq!((talk.heard_by_client().as_str(), talk.ending), (OK, None));
    assert_eq!(talk.reuse, Some(Reuse::No), "the target may have stopped reading when it answered");
    assert!(talk.flow.is_uploading() && talk.flow.wants_client_bytes());
    talk.heard_by_target();
    talk.client_says(&format!("cd{GET}"));
    assert_eq!((talk.heard_by_target().as_str(), talk.ending), ("cd", Some(Ending::KeepAlive)));
    talk.goes_on().target_says(OK);
    assert_eq!((talk.heard_by_client().as_str(), talk.reuse), (OK, Some(Reuse::Pool)));
}

#[test]
fn an_upload_goes_on_while_an_early_response_does() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nx");
    talk.heard_by_target();
    talk.client_says("cd");
    assert_eq!(talk.heard_by_target(), "cd");
    talk.target_says("yz!");
    assert_eq!(talk.reuse, Some(Reuse::No), "the target may have stopped reading when it answered");
    assert_eq!(talk.ending, Some(Ending::KeepAlive));
}

#[test]
fn an_unwanted_upload_ends_with_its_early_response() {
    let refused = |status| format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
    let closes = |status| refused(status).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let post = format!("{POST}ab");
    let expects = POST.replace("Content", "Expect: 100-continue\r\nContent");
    for (request, response, goes_on) in [
        (&post, refused(413), true),
        (&post, closes(413), false),
        (&post, closes(401), false),
        (&post, closes(500), false),
        (&post, closes(202), true),
        (&post, closes(303), true),
        (&post, refused(413).replace("1.1", "1.0"), false),
        (&post, refused(200).replace("1.1", "1.0"), true),
        (&expects, refused(417), false),
        (&expects, refused(200), false),
        (&format!("{expects}ab"), refused(200), true),
        (&expects, format!("HTTP/1.1 100 Continue\r\n\r\n{}", refused(200)), true),
        (&expects, format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", refused(200)), false),
    ] {
        let mut talk = Talk::of(request);
        talk.target_says(&response);
        let ends = response.contains("close") || response.contains("HTTP/1.0");
        let reuse = if ends { Reuse::Ends } else { Reuse::No };
        let ending = (!goes_on).then_some(Ending::Linger);
        assert_eq!((talk.reuse, talk.ending), (Some(reuse), ending), "{request} {response}");
        assert_eq!(talk.heard_by_client().contains("Connection: close\r\n"), !goes_on);
        assert_eq!(talk.flow.is_uploading(), goes_on);
    }
}

#[test]
fn a_client_that_will_not_be_kept_may_end_its_upload_too() {
    for (request, response) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab", OK),
        ("POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nab", OK),
        (
            "POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ] {
        let mut talk = Talk::of(request);
        talk.target_says(response);
        assert!(talk.heard_by_client().contains("Connection: close\r\n"));
        assert_eq!(talk.near.is_framed_by_its_end(), response != OK);
        assert_eq!(talk.client_says("cd").ending, Some(Ending::Close));
        assert!(talk.heard_by_target().ends_with("abcd"));
    }
}

#[test]
fn a_request_that_breaks_after_its_response_ends_the_connection() {
    let mut talk = Talk::of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    talk.target_says(OK);
    talk.heard_by_client();
    talk.client_says("no size\r\n");
    assert_eq!(talk.next, Next::ClientBroke);
    assert_eq!(
        (talk.flow.ending(&talk.near), talk.heard_by_client().as_str()),
        (Ending::Linger, "")
    );
}

#[test]
fn what_is_no_response_is_a_502() {
    for bytes in [
        "220 smtp\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut talk = Talk::of(GET);
        talk.target_says(bytes);
        assert_eq!(talk.next, Next::Failed(Failure::BadResponse), "{bytes:?}");
    }
    let mut talk = Talk::of(GET);
    talk.target_says("220 smtp\r\n");
    assert_eq!(talk.target_fails(Failure::BadResponse, true, true), Remedy::Answer(502));
    assert_eq!((talk.answer().0, talk.ending), (502, Some(Ending::KeepAlive)));
}

#[test]
fn unambiguous_responses_of_old_targets_leave_in_exact_form() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    for (response, wanted) in [
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned(), OK.to_owned()),
        ("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), OK.to_owned()),
        ("HTTP/1.1 200 OK\r\nContent-Length \t: 2\r\n\r\nok".to_owned(), OK.to_owned()),
        (
            OK.replacen("\r\n", "\r\nA: b\u{1}c\u{1b}[m\u{7f}\t\r\n", 1),
            OK.replacen("\r\n", "\r\nA: b c [m \t\r\n", 1),
        ),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok".to_owned(), OK.replace("OK", "")),
        ("HTTP/1.1 200\nContent-Length: 2\n\nok".to_owned(), OK.replace("OK", "")),
        (OK.replace("200", "999"), OK.replace("200", "999")),
        (
            format!("HTTP/1.0 200 OK\r\n{chunked}\r\n{chunks}"),
            format!("HTTP/1.1 200 OK\r\n{chunked}\r\n{chunks}"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: , chunked\r\n\r\n2 \t\r\nok\r\n0  \r\n\r\n"
                .to_owned(),
            format!("HTTP/1.1 200 OK\r\n{chunked}\r\n{chunks}"),
        ),
    ] {
        let mut talk = Talk::of(GET);
        talk.target_says(&response);
        assert_eq!(talk.heard_by_client(), wanted, "{response:?}");
        let old = response.starts_with("HTTP/1.0");
        assert_eq!(talk.reuse, Some(if old { Reuse::Ends } else { Reuse::Pool }), "{response:?}");
        let mut talk = Talk::of(GET);
        for byte in response.chars() {
            talk.target_says(&byte.to_string());
        }
        let heard = talk.heard_by_client();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert_eq!(Some(head), wanted.split("\r\n\r\n").next(), "byte by byte");
        assert!(body.contains('o') && talk.ending == Some(Ending::KeepAlive), "{heard}");
    }
}

#[test]
fn a_response_without_content_ends_with_its_head_whatever_it_says() {
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        for (request, status) in
            [(GET, 204), (GET, 304), ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200)]
        {
            let mut talk = Talk::of(request);
            talk.target_says(&format!("HTTP/1.1 {status} X\r\n{framing}\r\n"));
            assert_eq!(talk.ending, Some(Ending::KeepAlive), "{status} {framing}");
            assert!(talk.heard_by_client().ends_with("\r\n\r\n"));
        }
    }
}

#[test]
fn a_broken_first_chunk_that_came_with_its_head_is_answered() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.target_fails(Failure::BadResponse, true, true), Remedy::Answer(502));
    assert_eq!((talk.answer().0, talk.ending), (502, Some(Ending::KeepAlive)));
}

#[test]
fn a_broken_chunk_after_the_head_was_passed_on_cuts_the_response() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.heard_by_client();
    talk.target_says("2\r\nbc\r\n1\r\nd\r\n-1\r\n");
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.heard_by_client(), "3\r\nbcd\r\n", "what is whole, and no end");
    assert_eq!(talk.target_fails(Failure::BadResponse, true, false), Remedy::Cut);
}

const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

#[test]
fn an_agreed_upgrade_is_a_tunnel_both_ways() {
    let mut talk = Talk::of(&format!("{UPGRADE}early"));
    assert!(talk.heard_by_target().contains("Upgrade: websocket\r\nConnection: upgrade\r\n"));
    assert_eq!(talk.client, b"early");
    talk.target_says(&format!("{SWITCH}hello"));
    let heard = talk.heard_by_client();
    assert!(heard.contains("Upgrade: WebSocket\r\nConnection: upgrade\r\n"), "{heard}");
    assert!(heard.ends_with("\r\n\r\nhello"));
    assert!(talk.flow.is_tunnel());
    talk.client_says(" bird");
    assert_eq!(talk.heard_by_target(), "early bird");
    talk.target_says("HTTP/1.1 is only bytes now\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 is only bytes now\r\n\r\n");
}

#[test]
fn a_tunnel_half_closes() {
    let mut talk = Talk::of(UPGRADE);
    talk.target_says(SWITCH);
    assert_eq!(talk.flow.client_closed(), ClientEnd::HalfClose);
    assert!(talk.flow.tunnel_client_ended() && !talk.flow.wants_client_bytes());
    talk.heard_by_client();
    talk.target_says("still");
    assert_eq!(talk.heard_by_client(), "still");
}

#[test]
fn a_switch_that_was_not_asked_for_is_no_response() {
    let other = SWITCH.replace("WebSocket", "other");
    for (asked, got) in [(GET, SWITCH), (UPGRADE, other.as_str())] {
        let mut talk = Talk::of(asked);
        talk.target_says(got);
        assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
        assert_eq!(talk.target_fails(Failure::BadResponse, true, true), Remedy::Answer(502));
        assert_eq!(talk.heard_by_client().matches("101").count(), 0);
    }
}

#[test]
fn a_switch_before_the_request_is_complete_is_no_response() {
    let mut talk = Talk::of(&UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n"));
    talk.target_says(SWITCH);
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let mut talk = Talk::of(UPGRADE);
    talk.target_says(OK);
    assert_eq!((talk.heard_by_client().as_str(), talk.ending), (OK, Some(Ending::KeepAlive)));
}
