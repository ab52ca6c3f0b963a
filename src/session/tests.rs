//! Dialogues: what a client and a target say, and what the session makes of it. No socket, no clock.

use super::*;

const FORWARDED: &str =
    "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A session with somebody who carries its bytes, as the engine does.
struct Talk {
    session: Session,
    cx: Context,
    out: Output,
    /// Bytes that wait to be used.
    client: Vec<u8>,
    target: Vec<u8>,
    /// Bytes that were passed on.
    to_client: Vec<u8>,
    to_target: Vec<u8>,
    /// There is another endpoint.
    elsewhere: bool,
    /// What the last step asked for.
    next: Next,
    /// How the last exchange ended.
    ending: Option<Ending>,
    reuse: Option<bool>,
}

impl Talk {
    fn new() -> Talk {
        Talk {
            session: Session::new([10, 0, 0, 9].into(), false),
            cx: Context {
                limits: HeadLimits { bytes: 1024, fields: 20 },
                fallback_host: "fallback".to_owned(),
                replay: true,
                via: false,
                describe: false,
                draining: false,
            },
            out: Output::default(),
            client: Vec::new(),
            target: Vec::new(),
            to_client: Vec::new(),
            to_target: Vec::new(),
            elsewhere: false,
            next: Next::NeedMore,
            ending: None,
            reuse: None,
        }
    }

    /// A dialogue that begins with these bytes of the client.
    fn of(client: &str) -> Talk {
        let mut talk = Talk::new();
        talk.client_says(client);
        talk
    }

    fn client_says(&mut self, bytes: &str) -> &mut Talk {
        self.client.extend_from_slice(bytes.as_bytes());
        self.use_client();
        self
    }

    fn target_says(&mut self, bytes: &str) -> &mut Talk {
        self.target.extend_from_slice(bytes.as_bytes());
        while !self.target.is_empty() && self.ending.is_none() {
            self.out.clear();
            let step = self.session.upstream_bytes(&self.cx, &mut self.target, &mut self.out);
            let input: Vec<u8> = self.target.drain(..step.consumed).collect();
            self.carry(&step, &input);
            if step.consumed == 0 {
                break;
            }
        }
        self
    }

    fn target_closes(&mut self) -> &mut Talk {
        self.out.clear();
        let next = self.session.upstream_closed(&mut self.out);
        self.carry(&Step { consumed: 0, body: 0..0, next }, &[]);
        self
    }

    /// The target breaks the exchange; whatever answer that gives goes to the client.
    fn target_fails(&mut self, failure: Failure, sent: bool, held: bool) -> Remedy {
        let broken = Break { failure, sent, held, affordable: true, elsewhere: self.elsewhere };
        let remedy = self.session.upstream_failed(&self.cx, broken, &mut self.out);
        if let Remedy::Answer(_) = remedy {
            self.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
        }
        remedy
    }

    /// The connection is kept: the next request is looked at.
    fn goes_on(&mut self) -> &mut Talk {
        assert_eq!(self.ending.take(), Some(Ending::KeepAlive));
        self.session.next_request();
        self.use_client();
        self
    }

    fn use_client(&mut self) {
        while !self.client.is_empty() && self.session.wants_client_bytes() {
            self.out.clear();
            let step = self.session.client_bytes(&self.cx, &mut self.client, &mut self.out);
            let input: Vec<u8> = self.client.drain(..step.consumed).collect();
            self.carry(&step, &input);
            if step.consumed == 0 {
                break;
            }
        }
    }

    fn carry(&mut self, step: &Step, input: &[u8]) {
        self.next = step.next;
        let to = match step.next {
            Next::NeedUpstream | Next::ToUpstream => &mut self.to_target,
            Next::ToClient | Next::Finished { .. } | Next::Answered => &mut self.to_client,
            Next::NeedMore | Next::Failed(_) => return,
        };
        to.extend_from_slice(&self.out.head);
        to.extend_from_slice(&input[step.body.clone()]);
        to.extend_from_slice(&self.out.tail);
        match step.next {
            Next::NeedUpstream => self.session.attached(false),
            Next::Answered => self.ending = Some(self.session.ending()),
            Next::Finished { reuse } => {
                self.reuse = Some(reuse);
                self.ending = Some(self.session.ending());
            }
            _ => {}
        }
    }

    /// What was passed on to the target since this was last asked.
    fn heard_by_target(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_target)).unwrap()
    }

    /// What was passed on to the client since this was last asked.
    fn heard_by_client(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_client)).unwrap()
    }

    /// The status and the body of what the client heard.
    #[track_caller]
    fn answer(&mut self) -> (u16, String) {
        let text = self.heard_by_client();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }
}

fn request(line: &str, fields: &str, more: &str) -> String {
    format!("{line}\r\n{fields}{more}{FORWARDED}\r\n")
}

// Requests

#[test]
fn a_request_asks_for_an_upstream_with_its_head_rewritten() {
    let mut talk = Talk::of(GET);
    assert_eq!(talk.next, Next::NeedUpstream);
    assert_eq!(talk.heard_by_target(), request("GET / HTTP/1.1", "Host: a\r\n", ""));
    assert!(talk.session.request_complete() && talk.session.awaits_response());
}

#[test]
fn a_head_in_drips_asks_for_nothing_until_it_is_whole() {
    let mut talk = Talk::new();
    for byte in GET[..GET.len() - 1].chars() {
        talk.client_says(&byte.to_string());
        assert_eq!(talk.next, Next::NeedMore);
        assert!(talk.session.is_idle());
    }
    talk.client_says("\n");
    assert_eq!(talk.next, Next::NeedUpstream);
}

#[test]
fn a_pipelined_request_waits_for_the_first_to_be_answered() {
    let mut talk = Talk::of(&format!("{GET}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!talk.session.wants_client_bytes());
    assert!(talk.client.starts_with(b"GET /2"), "it was left where it is");
    assert!(!talk.heard_by_target().contains("/2"));
    talk.target_says(OK).goes_on();
    assert!(talk.heard_by_target().starts_with("GET /2 "));
}

#[test]
fn the_first_flight_takes_what_is_there_of_the_body() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    assert_eq!(talk.next, Next::NeedUpstream);
    assert!(talk.heard_by_target().ends_with("\r\n\r\nab"));
    assert!(talk.session.streams_to_upstream());
    talk.client_says("cdGET /2");
    assert_eq!((talk.next, talk.heard_by_target().as_str()), (Next::ToUpstream, "cd"));
    assert!(talk.session.request_complete());
    assert_eq!(talk.client, b"GET /2", "what follows the body is the next request's");
}

#[test]
fn a_chunked_request_is_framed_anew_with_its_trailers() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut talk = Talk::of(&format!("{head}2;x=y\r\nab\r\n1\r\nc\r\n"));
    let wanted = request("PUT / HTTP/1.1", "Host: a\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(talk.heard_by_target(), wanted + "3\r\nabc\r\n");
    talk.client_says("0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(talk.heard_by_target(), "0\r\nX-Sum: 6\r\n\r\n");
    assert!(talk.session.request_complete());
}

#[test]
fn a_broken_chunk_in_the_first_flight_is_refused_and_nothing_is_sent() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(talk.next, Next::Answered);
    assert_eq!((talk.answer().0, talk.ending), (400, Some(Ending::Linger)));
    assert_eq!(talk.heard_by_target(), "");
}

#[test]
fn a_broken_chunk_is_refused_while_the_response_has_not_begun() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.client_says("zz\r\n");
    assert_eq!((talk.answer().0, talk.ending), (400, Some(Ending::Linger)));
    assert!(!talk.session.wants_client_bytes());
}

#[test]
fn a_broken_chunk_cuts_a_response_that_has_begun() {
    let mut talk =
        Talk::of("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").client_says("zz\r\n");
    assert_eq!(talk.next, Next::Failed(Failure::ClientBroke));
    let remedy = talk.target_fails(Failure::ClientBroke, true, false);
    assert_eq!(remedy, Remedy::Cut { reset: false });
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_ends() {
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
    ] {
        let mut talk = Talk::of(bytes);
        let head = String::from_utf8_lossy(&talk.to_client).into_owned();
        assert!(head.contains("\r\nConnection: close\r\n"), "{bytes:?}: {head}");
        assert_eq!((talk.answer().0, talk.ending), (status, Some(Ending::Linger)), "{bytes:?}");
        assert_eq!(talk.heard_by_target(), "");
        assert!(!talk.session.wants_client_bytes());
    }
}

#[test]
fn a_head_beyond_its_limits_is_refused() {
    let long_line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1024));
    assert_eq!(Talk::of(&long_line).answer().0, 414);
    let long_field = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(1024));
    assert_eq!(Talk::of(&long_field).answer().0, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20));
    assert_eq!(Talk::of(&many).answer().0, 431);
}

#[test]
fn options_with_no_forwards_left_is_answered_here() {
    let mut talk = Talk::of("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!((talk.next, talk.ending), (Next::Answered, Some(Ending::KeepAlive)));
    assert_eq!(talk.answer(), (200, String::new()));
    talk.goes_on().client_says("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\n\r\n");
    let heard = talk.heard_by_target();
    assert!(heard.contains("Max-Forwards: 6\r\n"), "{heard}");
}

#[test]
fn options_with_a_body_and_no_forwards_left_ends_the_connection() {
    let mut talk = Talk::of(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!(talk.ending, Some(Ending::Linger));
}

#[test]
fn a_slow_request_is_a_408_and_the_end() {
    for begun in ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"] {
        let mut talk = Talk::of(begun);
        talk.out.clear();
        let next = talk.session.client_timed_out(&mut talk.out);
        talk.carry(&Step { consumed: 0, body: 0..0, next }, &[]);
        assert_eq!((talk.answer().0, talk.ending), (408, Some(Ending::Linger)));
    }
}

// Interim responses

#[test]
fn a_100_ends_the_wait_of_a_client_that_expects_it() {
    let mut talk =
        Talk::of("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert!(talk.heard_by_target().contains("Expect: 100-continue\r\n"));
    talk.target_says("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(talk.session.awaits_response());
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
    assert_eq!((talk.next, talk.reuse), (Next::Finished { reuse: true }, Some(true)));
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

// Tunnels

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
    assert!(talk.session.is_tunnel());
    talk.client_says(" bird");
    assert_eq!(talk.heard_by_target(), "early bird");
    talk.target_says("HTTP/1.1 is only bytes now\r\n\r\n");
    assert_eq!(talk.heard_by_client(), "HTTP/1.1 is only bytes now\r\n\r\n");
}

#[test]
fn a_tunnel_half_closes() {
    let mut talk = Talk::of(UPGRADE);
    talk.target_says(SWITCH);
    assert_eq!(talk.session.client_closed(), ClientEnd::HalfClose);
    assert!(talk.session.tunnel_client_ended() && !talk.session.wants_client_bytes());
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

// Responses

#[test]
fn a_response_with_a_length_passes_as_it_is() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(talk.next, Next::ToClient);
    talk.target_says("llo");
    assert_eq!(talk.next, Next::Finished { reuse: true });
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
        assert_eq!(talk.next, Next::Finished { reuse: true }, "{response}");
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
        (Next::Finished { reuse: false }, Some(Ending::KeepAlive))
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
    assert_eq!((talk.reuse, talk.ending), (Some(true), Some(Ending::KeepAlive)));
}

#[test]
fn a_close_delimited_response_becomes_chunked() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\n\r\nhello").target_closes();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(talk.heard_by_client(), format!("{head}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!((talk.reuse, talk.ending), (Some(false), Some(Ending::KeepAlive)));
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
    assert_eq!((talk.reuse, talk.ending), (Some(true), Some(Ending::Linger)));
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
    assert_eq!((talk.reuse, talk.ending), (Some(true), Some(Ending::Close)));
}

#[test]
fn a_target_that_wants_the_end_gets_it_and_the_client_is_kept() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!((talk.heard_by_client().as_str(), talk.reuse), (OK, Some(false)));
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
        ("Keep-Alive: timeout=99999\r\n", Some(65535)),
        ("Keep-Alive: timeout=-1\r\n", None),
        ("Keep-Alive: timeout\r\n", None),
        ("Keep-Alive: idletimeout=5\r\n", None),
        ("Keep-Alive: 300\r\n", None),
    ] {
        let mut talk = Talk::of(GET);
        assert_eq!(talk.session.idle_hint(), None);
        talk.target_says(&OK.replace("\r\n\r\n", &format!("\r\n{field}\r\n")));
        assert_eq!(talk.session.idle_hint(), seconds.map(Duration::from_secs), "{field:?}");
        assert_eq!(talk.heard_by_client(), OK, "it is about the target's connection alone");
        talk.goes_on();
        assert_eq!(talk.session.idle_hint(), None);
    }
}

#[test]
fn bytes_behind_a_response_discard_the_upstream_and_reach_nobody() {
    for response in
        [OK, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    {
        let mut talk = Talk::of(GET);
        talk.target_says(&format!("{response}HTTP/1.1 200 Evil\r\n\r\n"));
        assert_eq!((talk.heard_by_client().as_str(), talk.reuse), (response, Some(false)));
        assert_eq!(talk.ending, Some(Ending::KeepAlive));
    }
}

#[test]
fn a_response_nobody_asked_for_is_a_failure() {
    let mut talk = Talk::new();
    talk.target_says(OK);
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.heard_by_client(), "");
}

#[test]
fn an_early_response_says_close_and_lingers() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    talk.target_says(OK);
    let heard = talk.heard_by_client();
    assert!(heard.contains("Connection: close\r\n") && heard.ends_with("ok"), "{heard}");
    assert_eq!((talk.reuse, talk.ending), (Some(false), Some(Ending::Linger)));
}

#[test]
fn an_upload_goes_on_while_an_early_response_does() {
    let mut talk = Talk::of(&format!("{POST}ab"));
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nx");
    talk.heard_by_target();
    talk.client_says("cd");
    assert_eq!(talk.heard_by_target(), "cd");
    talk.target_says("yz!");
    assert_eq!(talk.reuse, Some(true), "both were read to their ends");
    assert_eq!(talk.ending, Some(Ending::Linger), "the client was told that it is over");
}

#[test]
fn what_is_no_response_is_a_502() {
    for bytes in [
        "220 smtp\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
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
fn a_broken_chunk_after_the_head_was_passed_on_cuts_the_response() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    talk.target_says("-1\r\n");
    assert_eq!(talk.next, Next::Failed(Failure::BadResponse));
    assert_eq!(talk.target_fails(Failure::BadResponse, true, false), Remedy::Cut { reset: false });
}

// Failures

#[test]
fn no_upstream_is_a_503_on_a_connection_that_stays_usable() {
    let mut talk = Talk::of(GET);
    talk.session.no_upstream(&talk.cx, &mut talk.out);
    talk.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
    let heard = String::from_utf8_lossy(&talk.to_client).into_owned();
    assert!(heard.contains("Content-Length: 19\r\n") && !heard.contains("Connection"), "{heard}");
    assert_eq!(talk.answer(), (503, "Service Unavailable".to_owned()));
    talk.heard_by_target();
    talk.goes_on().client_says(GET);
    assert!(talk.heard_by_target().starts_with("GET / "));
}

#[test]
fn a_503_before_the_request_was_read_ends_the_connection() {
    let mut talk = Talk::of(POST);
    talk.session.no_upstream(&talk.cx, &mut talk.out);
    talk.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!(talk.ending, Some(Ending::Linger));
}

#[test]
fn an_answer_of_our_own_to_head_has_no_body() {
    let mut talk = Talk::of("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.session.no_upstream(&talk.cx, &mut talk.out);
    talk.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
    assert_eq!(talk.answer(), (503, String::new()));
}

#[test]
fn an_idempotent_request_at_hand_is_sent_once_more_and_no_more() {
    let mut talk = Talk::of(GET);
    assert!(talk.session.may_replay(&talk.cx));
    assert_eq!(talk.target_fails(Failure::Reset, true, true), Remedy::Replay);
    assert!(!talk.session.may_replay(&talk.cx));
    assert_eq!(talk.target_fails(Failure::Closed, true, true), Remedy::Answer(502));
    assert_eq!((talk.answer().0, talk.ending), (502, Some(Ending::KeepAlive)));
}

#[test]
fn what_may_have_been_processed_or_is_gone_is_not_repeated() {
    let mut post = Talk::of(&format!("{POST}body"));
    assert!(!post.session.may_replay(&post.cx));
    assert_eq!(post.target_fails(Failure::Reset, true, true), Remedy::Answer(502));
    let mut put = Talk::of(&POST.replace("POST", "PUT"));
    assert!(put.session.may_replay(&put.cx));
    put.client_says("body");
    assert!(!put.session.may_replay(&put.cx), "more was sent than is held");
    assert_eq!(put.target_fails(Failure::Reset, true, false), Remedy::Answer(502));
    let mut off = Talk::new();
    off.cx.replay = false;
    off.client_says(GET);
    assert!(!off.session.may_replay(&off.cx), "replay is switched off");
}

#[test]
fn a_request_of_which_nothing_was_sent_moves_whatever_its_method() {
    let mut talk = Talk::of(&format!("{POST}body"));
    assert_eq!(talk.target_fails(Failure::Reset, false, true), Remedy::Replay);
}

#[test]
fn nothing_is_repeated_after_an_interim_response() {
    let mut talk = Talk::of(GET);
    talk.target_says("HTTP/1.1 103 Early Hints\r\n\r\n").target_closes();
    assert_eq!(talk.next, Next::Failed(Failure::Closed));
    assert_eq!(talk.target_fails(Failure::Closed, true, true), Remedy::Answer(502));
}

#[test]
fn a_slow_target_is_a_504() {
    let mut talk = Talk::of(GET);
    assert_eq!(talk.target_fails(Failure::HeadTimeout, true, true), Remedy::Answer(504));
    assert_eq!((talk.answer().0, talk.ending), (504, Some(Ending::KeepAlive)));
}

#[test]
fn a_target_that_hangs_has_its_idempotent_request_sent_to_another_one_once() {
    let mut talk = Talk::of(GET);
    talk.elsewhere = true;
    assert_eq!(talk.target_fails(Failure::HeadTimeout, true, true), Remedy::Replay);
    assert_eq!(talk.target_fails(Failure::HeadTimeout, true, true), Remedy::Answer(504));
    let mut post = Talk::of(&format!("{POST}body"));
    post.elsewhere = true;
    assert_eq!(post.target_fails(Failure::HeadTimeout, true, true), Remedy::Answer(504));
}

#[test]
fn a_response_that_ends_too_soon_is_cut_visibly() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n";
    let old = GET.replace("1.1", "1.0");
    for (request, response, reset) in
        [(GET, length, false), (GET, chunks, false), (&old, length, false), (&old, chunks, true)]
    {
        let mut talk = Talk::of(request);
        talk.target_says(response).target_closes();
        assert_eq!(talk.next, Next::Failed(Failure::Closed));
        // A plain close would look like the end only to a client that waits for just that.
        let remedy = talk.target_fails(Failure::Closed, true, false);
        assert_eq!(remedy, Remedy::Cut { reset }, "{request:?} {response:?}");
    }
}

// Endings

#[test]
fn a_draining_session_says_close_and_lingers() {
    let mut talk = Talk::of(GET);
    talk.cx.draining = true;
    talk.target_says(OK);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!((talk.reuse, talk.ending), (Some(true), Some(Ending::Linger)));
}

#[test]
fn a_draining_session_ends_with_an_answer_of_our_own_too() {
    let mut talk = Talk::of(GET);
    talk.cx.draining = true;
    assert_eq!(talk.target_fails(Failure::HeadTimeout, true, true), Remedy::Answer(504));
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
}

#[test]
fn a_client_that_ends_its_side_between_requests_is_done() {
    let mut talk = Talk::of(GET);
    talk.target_says(OK).goes_on();
    assert_eq!(talk.session.client_closed(), ClientEnd::Close);
}

#[test]
fn a_client_that_ends_its_side_within_a_body_has_left() {
    assert_eq!(Talk::of(POST).session.client_closed(), ClientEnd::Abort);
}

#[test]
fn a_half_closed_client_is_not_read_and_gets_its_answer() {
    let mut talk = Talk::of(GET);
    // Its end is not looked for while the request is under way.
    assert!(!talk.session.wants_client_bytes());
    talk.target_says(OK);
    assert_eq!(talk.heard_by_client(), OK);
    talk.goes_on();
    assert_eq!(talk.session.client_closed(), ClientEnd::Close);
}

// Splits

/// A message with its body taken out of its chunks, whatever their sizes were.
fn plain(bytes: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, mut body) = text.split_once("\r\n\r\n").unwrap();
    if !head.contains("chunked") {
        return (head.to_owned(), body.to_owned());
    }
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (head.to_owned(), whole + "|" + rest);
        }
        whole += &rest[..size];
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
}

fn pieces<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        pieces.push(&text[from..cut]);
        from = cut;
    }
    pieces.push(&text[from..]);
    pieces
}

/// What both sides heard and how it ended, with the client's and the target's bytes in these pieces.
#[allow(clippy::type_complexity)]
fn dialogue(
    client: &[&str],
    target: &[&str],
) -> ((String, String), (String, String), Option<Ending>, Option<bool>) {
    let mut talk = Talk::new();
    for piece in client {
        talk.client_says(piece);
    }
    for piece in target {
        talk.target_says(piece);
    }
    (plain(&talk.to_target), plain(&talk.to_client), talk.ending, talk.reuse)
}

const DIALOGUES: [(&str, &str); 4] = [
    (
        "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-S: 2\r\n\r\n",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "\r\nGET http://b/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close, x-y\r\nX-Y: z\r\n\r\nhello"),
];

#[test]
fn a_dialogue_comes_to_the_same_however_it_is_split() {
    for (client, target) in DIALOGUES {
        let wanted = dialogue(&[client], &[target]);
        for cut in 1..client.len() {
            assert_eq!(dialogue(&pieces(client, &[cut]), &[target]), wanted, "{client:?} at {cut}");
        }
        for first in 1..target.len() {
            for second in first..target.len() {
                let split = pieces(target, &[first, second]);
                assert_eq!(dialogue(&[client], &split), wanted, "{split:?}");
            }
        }
        let every = |text: &str| (1..text.len()).collect::<Vec<usize>>();
        let (by_byte, answer) = (pieces(client, &every(client)), pieces(target, &every(target)));
        assert_eq!(dialogue(&by_byte, &answer), wanted, "byte by byte");
    }
}

proptest::proptest! {
    #[test]
    fn a_dialogue_in_many_pieces_comes_to_the_same(
        which in 0..DIALOGUES.len(),
        client_cuts in proptest::collection::btree_set(1usize..40, 0..40),
        target_cuts in proptest::collection::btree_set(1usize..60, 0..60),
    ) {
        let (client, target) = DIALOGUES[which];
        let within = |cuts: std::collections::BTreeSet<usize>, text: &str| -> Vec<usize> {
            cuts.into_iter().filter(|&cut| cut < text.len()).collect()
        };
        let client_pieces = pieces(client, &within(client_cuts, client));
        let target_pieces = pieces(target, &within(target_cuts, target));
        proptest::prop_assert_eq!(
            dialogue(&client_pieces, &target_pieces),
            dialogue(&[client], &[target])
        );
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_reach_anybody_as_a_message(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    ) {
        let mut talk = Talk::new();
        talk.client.extend_from_slice(&bytes);
        talk.use_client();
        let mut talk = Talk::of(GET);
        talk.out.clear();
        let mut input = bytes;
        let step = talk.session.upstream_bytes(&talk.cx, &mut input, &mut talk.out);
        proptest::prop_assert!(step.consumed <= input.len());
    }
}
