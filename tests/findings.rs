//! What fuzzing and the differential tests found, each as a plain test.

mod exchanges;

use evenly::exchange::{Break, ExchangeRules, Failure, Next, Remedy};
use evenly::http1::{Fault, FieldSpace, HeadLimits, parse_request};

use exchanges::Exchanges;

fn rules() -> ExchangeRules {
    ExchangeRules {
        limits: HeadLimits { bytes: 16 * 1024, fields: 100 },
        fallback_host: "fallback".to_owned(),
        replay: false,
        request_via: None,
        response_via: None,
        max_hops: 0,
        proxy_status: evenly::settings::ProxyStatus::Off,
        describe: false,
        draining: false,
    }
}

/// The target closes the connection before its response is whole.
fn target_closes(exchanges: &mut Exchanges) -> Remedy {
    let broken =
        Break { failure: Failure::Closed, sent: true, held: false, budget: true, elsewhere: true };
    let Exchanges { rules, flow, client, out, .. } = exchanges;
    flow.upstream_failed(rules, client, broken, out)
}

/// A request whose body is longer than the head, and without a line end.
fn upload() -> Vec<u8> {
    let body = "x".repeat(500);
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{body}").into_bytes()
}

/// How far an unfinished head was looked at was remembered beyond the exchange: the next head was not seen.
#[test]
fn a_request_behind_an_unfinished_response_head_is_seen() {
    let mut exchanges = Exchanges::new(rules());
    let mut get = *b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchanges.client_bytes(&mut get).next, Next::NeedUpstream);
    let mut part = *b"HTTP/1.1 200 OK\r\nX-Long-Enough: to reach behind the next head, and cut he";
    assert_eq!(exchanges.upstream_bytes(&mut part).next, Next::NeedMore);
    assert_eq!(target_closes(&mut exchanges), Remedy::Answer(502));
    assert!(exchanges.next_request());
    assert_eq!(exchanges.client_bytes(&mut upload()).next, Next::NeedUpstream);
}

/// Likewise behind a head that came in two parts and was answered by us.
#[test]
fn a_request_behind_an_answer_of_ours_is_seen() {
    let mut exchanges = Exchanges::new(rules());
    let mut options =
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX: abcdefghij\r\n\r\n".to_vec();
    let last = options.len() - 1;
    assert_eq!(exchanges.client_bytes(&mut options[..last]).next, Next::NeedMore);
    assert_eq!(exchanges.client_bytes(&mut options).next, Next::Answered);
    assert!(exchanges.next_request());
    assert_eq!(exchanges.client_bytes(&mut upload()).next, Next::NeedUpstream);
}

/// The status of a refused request head.
fn refusal(input: &[u8]) -> Option<u16> {
    parse_request(input, rules().limits, &mut FieldSpace::new()).err().map(Fault::status)
}

/// The status of a request with two faults hung on how far it had come.
#[test]
fn the_first_fault_of_a_request_line_decides_however_much_has_come() {
    let method = "M".repeat(33);
    for (first, status, then) in [
        (&*method, 501, "/ / HTTP/1.1\r\n"),
        (&*method, 501, " / HTTP/1.1\n"),
        ("GET / HTTP/2.0", 505, "\n"),
        ("GET / HTTP/2.0", 505, "x\r\n"),
        ("GET / HTTP/2.0", 505, " \r\n"),
        ("G(T", 400, &*method),
    ] {
        let both = format!("{first}{then}Host: a\r\n\r\n");
        assert_eq!(refusal(first.as_bytes()), Some(status), "{first:?}");
        assert_eq!(refusal(both.as_bytes()), Some(status), "{both:?}");
    }
}
