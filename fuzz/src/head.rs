//! Any bytes as a request head and as a response head: no panic, the same verdict however far the bytes have come, and
//! what is sent on of a good head is a good head that means the same.

use std::net::IpAddr;

use evenly::http1::{
    BodyLength, ClientAddress, ClientConnection, ClientFraming, FieldSpace, Method, Progress,
    Pseudonym, RequestId, RequestRewrite, ResponseRewrite, TraceParent, parse_request, parse_response, rewrite,
};

use crate::LIMITS;

pub fn check(input: &[u8]) {
    let whole = request_verdict(input);
    let response = response_verdict(input);
    for cut in cuts(input.len()) {
        agree(&request_verdict(&input[..cut]), &whole);
        agree(&response_verdict(&input[..cut]), &response);
    }
    for trusted in [false, true] {
        sent_request_is_sound(input, trusted);
    }
    for framing in [ClientFraming::AsIs, ClientFraming::Chunked, ClientFraming::UntilClose] {
        passed_response_is_sound(input, framing);
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Partial,
    Whole(usize),
    Refused(u16),
}

fn request_verdict(input: &[u8]) -> Verdict {
    match parse_request(input, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Partial) => Verdict::Partial,
        Ok(Progress::Complete(head)) => {
            assert!(head.len <= input.len() && head.body != BodyLength::UntilClose);
            Verdict::Whole(head.len)
        }
        Err(refusal) => {
            assert!((400..=505).contains(&refusal.status()) && !refusal.why().is_empty());
            Verdict::Refused(refusal.status())
        }
    }
}

fn response_verdict(input: &[u8]) -> Verdict {
    match parse_response(input, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Partial) => Verdict::Partial,
        Ok(Progress::Complete(head)) => {
            assert!(head.len <= input.len() && (100..=999).contains(&head.status));
            Verdict::Whole(head.len)
        }
        Err(_) => Verdict::Refused(502),
    }
}

/// Some places to cut at; all of them in a short input.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(len / 64 + 1)
}

/// A part is unfinished, or has the verdict of the whole.
fn agree(part: &Verdict, whole: &Verdict) {
    assert!(matches!(part, Verdict::Partial) || part == whole, "{part:?}, then {whole:?}");
}

static US: Pseudonym = Pseudonym::new(1);

fn sent_request_is_sound(input: &[u8], trusted: bool) {
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_request(input, LIMITS, &mut space) else { return };
    let span = TraceParent::parse(b"00-12345678901234567890123456789012-1234567890123456-01");
    let by = RequestRewrite {
        client: ClientAddress { ip: IpAddr::from([192, 0, 2, 1]), trusted },
        fallback_host: "fallback",
        via: Some(&US),
        request_id: &RequestId::Uuid([7; 16]),
        span: span.as_ref(),
    };
    let mut sent = Vec::new();
    rewrite::request(&head, input, &by, &mut sent);
    let limits = evenly::http1::HeadLimits { bytes: usize::MAX, fields: 256 };
    let mut space = FieldSpace::new();
    let again = match parse_request(&sent, limits, &mut space) {
        Ok(Progress::Complete(again)) => again,
        other => panic!("we send what we refuse: \"{}\": {other:?}", sent.escape_ascii()),
    };
    assert_eq!(again.len, sent.len());
    assert_eq!((again.method_text, again.body), (head.method_text, head.body));
    assert_eq!((again.upgrade, again.expect_continue), (head.upgrade, head.expect_continue));
    assert!(again.target == "*" || again.target.starts_with('/'));
    at_most_one_framing_field(&sent);
}

fn passed_response_is_sound(input: &[u8], framing: ClientFraming) {
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_response(input, LIMITS, &mut space) else { return };
    let as_sent = match head.body(Method::Get) {
        Ok(BodyLength::None | BodyLength::Length(_)) => ClientFraming::AsIs,
        Ok(_) if framing != ClientFraming::AsIs => framing,
        _ => return,
    };
    let by = ResponseRewrite {
        framing: as_sent,
        connection: ClientConnection::Implicit,
        via: Some(&US),
        request_id: &RequestId::Uuid([7; 16]),
    };
    let mut passed = Vec::new();
    rewrite::response(&head, input, &by, &mut passed);
    let limits = evenly::http1::HeadLimits { bytes: usize::MAX, fields: 256 };
    let mut space = FieldSpace::new();
    let again = match parse_response(&passed, limits, &mut space) {
        Ok(Progress::Complete(again)) => again,
        other => panic!("we pass what we refuse: \"{}\": {other:?}", passed.escape_ascii()),
    };
    assert_eq!((again.len, again.status), (passed.len(), head.status));
    let expected = match as_sent {
        ClientFraming::AsIs => head.body(Method::Get),
        ClientFraming::Chunked => Ok(BodyLength::Chunked),
        ClientFraming::UntilClose => Ok(BodyLength::UntilClose),
    };
    assert_eq!(again.body(Method::Get), expected);
    at_most_one_framing_field(&passed);
}

fn at_most_one_framing_field(head: &[u8]) {
    let is_framing = |line: &&[u8]| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        [&b"content-length"[..], b"transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f))
    };
    let lines = head.split(|&byte| byte == b'\n');
    assert!(lines.filter(is_framing).count() <= 1, "\"{}\"", head.escape_ascii());
}
