//! Our own reading of the same bytes: by the codec alone, and through an exchange to what is sent on.

use evenly::exchange::{ExchangeRules, Halves, Next, Step};
use evenly::http1::{
    BodyDecoder, BodyLength, FieldSpace, HeadLimits, Method, Progress, RequestHead, Version,
    parse_request, parse_response,
};
use evenly::settings::Limits;

use crate::exchanges::Exchanges;
use crate::{Dialogue, Message, Stop};

pub(crate) fn limits() -> HeadLimits {
    let limits = Limits::default();
    HeadLimits { bytes: limits.head, fields: limits.headers }
}

fn text(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn method_of(name: &str) -> Method {
    match name {
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => Method::Get,
    }
}

/// A body at the start of `input`, handed in `step` bytes at a time.
struct Body {
    payload: Vec<u8>,
    consumed: usize,
}

/// Why there is no whole body.
enum NoBody {
    Short,
    Bad(&'static str),
}

fn body(length: BodyLength, input: &[u8], step: usize) -> Result<Body, NoBody> {
    let mut decoder = BodyDecoder::new(length);
    let (mut payload, mut trailers, mut held, mut consumed) = (vec![], vec![], vec![], 0);
    for piece in input.chunks(step.max(1)) {
        if decoder.is_done() {
            break;
        }
        held.extend_from_slice(piece);
        let decoded = decoder.decode(&mut held, limits(), &mut trailers);
        let decoded = decoded.map_err(|bad| NoBody::Bad(bad.why()))?;
        payload.extend_from_slice(&held[decoded.data]);
        consumed += decoded.consumed;
        held.drain(..decoded.consumed);
    }
    if !decoder.is_done() && decoder.finish_at_close().is_err() {
        return Err(NoBody::Short);
    }
    Ok(Body { payload, consumed })
}

/// The values of those fields of `head` that `names` has.
fn fields<'n>(
    names: impl Iterator<Item = &'n str>,
    field: impl Fn(&str) -> Option<Vec<u8>>,
) -> Vec<(String, Vec<u8>)> {
    names.filter_map(|name| Some((name.to_owned(), field(name)?))).collect()
}

/// The requests the codec sees in `input`. `names` gives the fields to report of each.
pub(crate) fn requests<'n, I: Iterator<Item = &'n str>>(
    input: &[u8],
    step: usize,
    names: impl Fn(usize) -> I,
) -> Dialogue {
    let mut messages = Vec::new();
    let mut at = 0;
    let stop = loop {
        let rest = &input[at..];
        let mut space = FieldSpace::new();
        let head = match parse_request(rest, limits(), &mut space) {
            Ok(Progress::Complete(head)) => head,
            Ok(Progress::Partial) if rest.is_empty() => break Stop::End,
            Ok(Progress::Partial) => break Stop::Part,
            Err(refusal) => {
                break Stop::Refused(format!("{}: {}", refusal.status(), refusal.why()));
            }
        };
        let body = match body(head.body, &rest[head.len..], step) {
            Ok(body) => body,
            Err(NoBody::Short) => break Stop::Part,
            Err(NoBody::Bad(why)) => break Stop::Refused(why.to_owned()),
        };
        at += head.len + body.consumed;
        messages.push(request_message(&head, body.payload, at, names(messages.len())));
        if !head.keep_alive {
            break Stop::Closed;
        }
    };
    Dialogue { messages, stop }
}

fn request_message<'n>(
    head: &RequestHead<'_, '_>,
    body: Vec<u8>,
    consumed: usize,
    names: impl Iterator<Item = &'n str>,
) -> Message {
    let is_scheme = |scheme: &&str| {
        head.target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let (authority, target) = match ["http://", "https://"].into_iter().find(is_scheme) {
        Some(scheme) => {
            let after = &head.target[scheme.len()..];
            let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
            let slash = if rest.starts_with('/') { "" } else { "/" };
            (Some(authority.to_owned()), format!("{slash}{rest}"))
        }
        None => (None, head.target.to_owned()),
    };
    Message {
        start: head.method_text.to_owned(),
        authority,
        target,
        version: text(head.version),
        fields: fields(names, |name| head.field(name).map(<[u8]>::to_vec)),
        trailers: Vec::new(),
        body,
        consumed,
    }
}

/// The response the codec sees in `input` as the answer to a `method` request.
pub(crate) fn response(method: &str, input: &[u8], step: usize) -> Dialogue {
    let refused = |why: &str| Dialogue { messages: vec![], stop: Stop::Refused(why.to_owned()) };
    let part = Dialogue { messages: vec![], stop: Stop::Part };
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let mut space = FieldSpace::new();
        let head = match parse_response(rest, limits(), &mut space) {
            Ok(Progress::Complete(head)) => head,
            Ok(Progress::Partial) => return part,
            Err(bad) => return refused(bad.why()),
        };
        at += head.len;
        if matches!(head.status, 100..=199) && head.status != 101 {
            continue;
        }
        let length = match head.body(method_of(method)) {
            Ok(length) => length,
            Err(bad) => return refused(bad.why()),
        };
        let body = match body(length, &rest[head.len..], step) {
            Ok(body) => body,
            Err(NoBody::Short) => return part,
            Err(NoBody::Bad(why)) => return refused(why),
        };
        let message = Message {
            start: head.status.to_string(),
            authority: None,
            target: String::new(),
            version: text(head.version),
            fields: Vec::new(),
            trailers: Vec::new(),
            body: body.payload,
            consumed: at + body.consumed,
        };
        return Dialogue { messages: vec![message], stop: Stop::End };
    }
}

fn rules() -> ExchangeRules {
    ExchangeRules {
        request_via: None,
        response_via: None,
        max_hops: 0,
        proxy_status: evenly::settings::ProxyStatus::Off,
        limits: limits(),
        fallback_host: "fallback".to_owned(),
        replay: true,
        describe: false,
        draining: false,
    }
}

/// The target ends its connection.
fn upstream_closed(exchanges: &mut Exchanges) -> Next {
    let Exchanges { flow, client, target, out, .. } = exchanges;
    out.clear();
    flow.upstream_closed(Halves { client, target }, out)
}

/// Appends what a step passes on.
fn pass(exchanges: &Exchanges, input: &[u8], step: &Step, to: &mut Vec<u8>) {
    to.extend_from_slice(&exchanges.out.head);
    to.extend_from_slice(&input[step.body.clone()]);
    to.extend_from_slice(&exchanges.out.tail);
}

/// Gives the request an empty 200. Whether another may follow.
fn answer(exchanges: &mut Exchanges) -> bool {
    let mut answer = *b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let step = exchanges.upstream_bytes(&mut answer);
    assert!(matches!(step.next, Next::Finished { .. }), "{:?}", step.next);
    exchanges.next_request()
}

/// What goes upstream of each request in `input` that is read to its end, handed in `step` bytes at a time.
/// Each is answered with an empty 200.
pub(crate) fn sent_on(input: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut exchanges = Exchanges::new(rules());
    let (mut sent, mut current, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let mut pieces = input.chunks(step.max(1));
    loop {
        let taken = exchanges.client_bytes(&mut held);
        match taken.next {
            Next::NeedUpstream | Next::ToUpstream => {
                pass(&exchanges, &held, &taken, &mut current);
                held.drain(..taken.consumed);
            }
            Next::NeedMore => {}
            _ => return sent,
        }
        if exchanges.flow.request_complete() {
            sent.push(std::mem::take(&mut current));
            if !answer(&mut exchanges) {
                return sent;
            }
        } else if let Some(piece) = pieces.next() {
            held.extend_from_slice(piece);
        } else {
            return sent;
        }
    }
}

/// What a client of `version` gets of the response in `input`, handed in `step` bytes at a time and then ended.
/// `None` unless all of it was passed on.
pub(crate) fn passed_on(method: &str, version: &str, input: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut exchanges = Exchanges::new(rules());
    let mut request = format!("{method} / {version}\r\nHost: a\r\n\r\n").into_bytes();
    assert_eq!(exchanges.client_bytes(&mut request).next, Next::NeedUpstream);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        held.extend_from_slice(piece);
        let taken = exchanges.upstream_bytes(&mut held);
        match taken.next {
            Next::ToClient | Next::Finished { .. } => {
                pass(&exchanges, &held, &taken, &mut passed);
                held.drain(..taken.consumed);
            }
            Next::NeedMore => assert_eq!(taken.consumed, 0),
            _ => return None,
        }
        if matches!(taken.next, Next::Finished { .. }) {
            return Some(passed);
        }
    }
    match upstream_closed(&mut exchanges) {
        Next::Finished { .. } => {
            passed.extend_from_slice(&exchanges.out.head);
            passed.extend_from_slice(&exchanges.out.tail);
            Some(passed)
        }
        _ => None,
    }
}
