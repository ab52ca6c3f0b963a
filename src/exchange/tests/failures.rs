//! What is done when an exchange breaks, and how the client's connection ends.

use super::*;
use crate::http::Fault;
use crate::reason::{Cause, Reason};

#[test]
fn no_upstream_is_a_503_on_a_connection_that_stays_usable() {
    let mut talk = Talk::of(GET);
    talk.flow.no_upstream(
        &talk.rules,
        &mut talk.near,
        Reason::DestinationUnavailable,
        &mut talk.out,
    );
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
    talk.flow.no_upstream(
        &talk.rules,
        &mut talk.near,
        Reason::DestinationUnavailable,
        &mut talk.out,
    );
    talk.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!(talk.ending, Some(Ending::Linger));
}

#[test]
fn an_answer_of_our_own_to_head_has_no_body() {
    let mut talk = Talk::of("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.flow.no_upstream(
        &talk.rules,
        &mut talk.near,
        Reason::DestinationUnavailable,
        &mut talk.out,
    );
    talk.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
    assert_eq!(talk.answer(), (503, String::new()));
}

#[test]
fn an_idempotent_request_at_hand_is_sent_once_more_and_no_more() {
    let mut talk = Talk::of(GET);
    assert!(talk.flow.may_replay(&talk.rules));
    assert_eq!(talk.target_fails(Failure::Reset, true, true), Remedy::Replay);
    assert!(!talk.flow.may_replay(&talk.rules));
    assert_eq!(talk.target_fails(Failure::Closed, true, true), Remedy::Answer(502));
    assert_eq!((talk.answer().0, talk.ending), (502, Some(Ending::KeepAlive)));
}

#[test]
fn what_may_have_been_processed_or_is_gone_is_not_repeated() {
    let mut post = Talk::of(&format!("{POST}body"));
    assert!(!post.flow.may_replay(&post.rules));
    assert_eq!(post.target_fails(Failure::Reset, true, true), Remedy::Answer(502));
    let mut put = Talk::of(&POST.replace("POST", "PUT"));
    assert!(put.flow.may_replay(&put.rules));
    put.client_says("body");
    assert!(!put.flow.may_replay(&put.rules), "more was sent than is held");
    assert_eq!(put.target_fails(Failure::Reset, true, false), Remedy::Answer(502));
    let mut off = Talk::new();
    off.rules.replay = false;
    off.client_says(GET);
    assert!(!off.flow.may_replay(&off.rules), "replay is switched off");
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
fn why_an_exchange_failed_is_known() {
    for (response, failure, why) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Failure::BadResponse,
            Cause::of_response(Fault::SeveralCodings),
        ),
        (
            "HTTP/1.1 099 Low\r\n\r\n",
            Failure::BadResponse,
            Cause::of_response(Fault::BadStatusLine),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n folded\r\n\r\n",
            Failure::BadResponse,
            Cause::of_response(Fault::FoldedLine),
        ),
        ("HTTP/1.1 2", Failure::HeadTimeout, Reason::ConnectionReadTimeout.into()),
        ("HTTP/1.1 2", Failure::Reset, Reason::ConnectionTerminated.into()),
    ] {
        let mut talk = Talk::of(GET);
        talk.target_says(response);
        talk.target_fails(failure, true, false);
        assert_eq!(talk.out.cause, Some(why), "{response:?}");
    }
    let talk = Talk::of("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(talk.out.cause, Some(Cause::of_request(Fault::NoHost)));
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
        let found = (remedy, talk.near.is_framed_by_its_end());
        assert_eq!(found, (Remedy::Cut, reset), "{request:?} {response:?}");
    }
}

#[test]
fn while_draining_a_response_says_close_and_its_connection_lingers() {
    let mut talk = Talk::of(GET);
    talk.rules.draining = true;
    talk.target_says(OK);
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
    assert_eq!((talk.reuse, talk.ending), (Some(Reuse::Pool), Some(Ending::Linger)));
}

#[test]
fn while_draining_an_answer_of_our_own_ends_its_connection_too() {
    let mut talk = Talk::of(GET);
    talk.rules.draining = true;
    assert_eq!(talk.target_fails(Failure::HeadTimeout, true, true), Remedy::Answer(504));
    assert!(talk.heard_by_client().contains("Connection: close\r\n"));
}

#[test]
fn a_client_that_ends_its_side_between_requests_is_done() {
    let mut talk = Talk::of(GET);
    talk.target_says(OK).goes_on();
    assert_eq!(talk.flow.client_closed(), ClientEnd::Close);
}

#[test]
fn a_client_that_ends_its_side_within_a_body_has_left() {
    assert_eq!(Talk::of(POST).flow.client_closed(), ClientEnd::Abort);
}

#[test]
fn a_half_closed_client_is_not_read_and_gets_its_answer() {
    let mut talk = Talk::of(GET);
    // Its end is not looked for while the request is under way.
    assert!(!talk.flow.wants_client_bytes());
    talk.target_says(OK);
    assert_eq!(talk.heard_by_client(), OK);
    talk.goes_on();
    assert_eq!(talk.flow.client_closed(), ClientEnd::Close);
}
