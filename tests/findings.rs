//! What fuzzing and the differential tests found, each as a plain test.

use std::net::IpAddr;

use evenly::exchange::{Break, Ending, ExchangeRules, Failure, Flow, Halves, Next, Output, Remedy};
use evenly::http1::{
    ClientAddress, ClientHalf, Fault, FieldSpace, HeadLimits, ServerHalf, parse_request,
};

fn rules() -> ExchangeRules {
    ExchangeRules {
        limits: HeadLimits { bytes: 16 * 1024, fields: 100 },
        fallback_host: "fallback".to_owned(),
        replay: false,
        request_via: None,
        response_via: None,
        describe: false,
        draining: false,
    }
}

/// One exchange after the other between a client and targets.
struct Exchanges {
    rules: ExchangeRules,
    flow: Flow,
    client: ServerHalf,
    target: ClientHalf,
    out: Output,
}

impl Exchanges {
    fn new() -> Exchanges {
        Exchanges {
            rules: rules(),
            flow: Flow::READY,
            client: ServerHalf::READY,
            target: ClientHalf::READY,
            out: Output::default(),
        }
    }

    fn client_says(&mut self, input: &mut [u8]) -> Next {
        let Exchanges { rules, flow, client, target, out } = self;
        out.clear();
        let address = ClientAddress { ip: IpAddr::from([192, 0, 2, 1]), trusted: false };
        flow.client_bytes(rules, &address, Halves { client, target }, input, out).next
    }

    fn target_says(&mut self, input: &mut [u8]) -> Next {
        let Exchanges { rules, flow, client, target, out } = self;
        out.clear();
        flow.upstream_bytes(rules, Halves { client, target }, input, out).next
    }

    /// The target closes the connection before its response is whole.
    fn target_closes(&mut self) -> Remedy {
        let broken = Break {
            failure: Failure::Closed,
            sent: true,
            held: false,
            budget: true,
            elsewhere: true,
        };
        self.flow.upstream_failed(&self.rules, &mut self.client, broken, &mut self.out)
    }

    /// The exchange is over, and its connection is kept.
    fn next_request(&mut self) {
        assert_eq!(self.flow.ending(&self.client), Ending::KeepAlive);
        self.flow = Flow::READY;
        self.client.next_request();
        self.target = ClientHalf::READY;
    }
}

/// A request whose body is longer than the head, and without a line end.
fn upload() -> Vec<u8> {
    let body = "x".repeat(500);
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{body}").into_bytes()
}

/// How far an unfinished head was looked at was remembered beyond the exchange: the next head was not seen.
#[test]
fn a_request_behind_an_unfinished_response_head_is_seen() {
    let mut exchanges = Exchanges::new();
    let mut get = *b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchanges.client_says(&mut get), Next::NeedUpstream);
    let mut part = *b"HTTP/1.1 200 OK\r\nX-Long-Enough: to reach behind the next head, and cut he";
    assert_eq!(exchanges.target_says(&mut part), Next::NeedMore);
    assert_eq!(exchanges.target_closes(), Remedy::Answer(502));
    exchanges.next_request();
    assert_eq!(exchanges.client_says(&mut upload()), Next::NeedUpstream);
}

/// Likewise behind a head that came in two parts and was answered by us.
#[test]
fn a_request_behind_an_answer_of_ours_is_seen() {
    let mut exchanges = Exchanges::new();
    let mut options =
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX: abcdefghij\r\n\r\n".to_vec();
    let last = options.len() - 1;
    assert_eq!(exchanges.client_says(&mut options[..last]), Next::NeedMore);
    assert_eq!(exchanges.client_says(&mut options), Next::Answered);
    exchanges.next_request();
    assert_eq!(exchanges.client_says(&mut upload()), Next::NeedUpstream);
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
