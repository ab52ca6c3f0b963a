//! Differential tests: the same bytes through our codec and exchange, through hyper, and through kawa.
//!
//! We may refuse what the others take. Never may we take what they refuse, or take something else from the same bytes:
//! another method, target, field, body, or another place where the next message begins. `ALLOWED` lists the
//! exceptions, each with its reason. `CASES=100000 SEED=7 cargo test --release --test differential` runs more.

#[path = "../exchanges/mod.rs"]
mod exchanges;
mod hyper_side;
mod kawa_side;
mod ours;
mod random;
mod seeds;

use std::fmt;

use kawa::Kind;
use random::Random;

/// Cases of each property unless `CASES` says otherwise.
const CASES: usize = 4000;

pub(crate) type Field = (String, Vec<u8>);

/// One message as one of the parsers saw it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The method, or the status.
    pub(crate) start: String,
    /// That of a target in absolute-form.
    pub(crate) authority: Option<String>,
    /// Path and query, or `*`.
    pub(crate) target: String,
    pub(crate) version: &'static str,
    /// Names in lower case.
    pub(crate) fields: Vec<Field>,
    pub(crate) trailers: Vec<Field>,
    pub(crate) body: Vec<u8>,
    /// Bytes of input up to the end of the message; 0 where the parser does not say.
    pub(crate) consumed: usize,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { start, authority, target, version, body, consumed, .. } = self;
        write!(f, "{start} {authority:?} {target:?} {version}, {consumed} bytes")?;
        for (name, value) in self.fields.iter().chain(&self.trailers) {
            write!(f, ", {name}: \"{}\"", value.escape_ascii())?;
        }
        write!(f, ", body \"{}\"", body.escape_ascii())
    }
}

/// Why nothing more was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The input ended behind a message.
    End,
    /// The input ended within a message.
    Part,
    Refused(String),
    /// The last message was the last one of its connection.
    Closed,
}

impl Stop {
    /// Was it a refusal that speaks of `what`?
    fn says(&self, what: &str) -> bool {
        matches!(self, Stop::Refused(why) if why.contains(what))
    }
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) messages: Vec<Message>,
    pub(crate) stop: Stop,
}

/// Whose reading is compared with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Hyper,
    Kawa,
}

/// Something we take and another parser does not.
struct Exception {
    other: Other,
    why: &'static str,
    /// Does the message that `input` begins with fall under it, where the other parser stopped with `stop`?
    covers: fn(input: &[u8], stop: &Stop) -> bool,
}

const ALLOWED: &[Exception] = &[
    Exception {
        other: Other::Hyper,
        why: "RFC 3986 section 3.2.2 allows percent-encoding in a host; the http crate has it in user \
              information only. Not framing: method, target and length are agreed on.",
        covers: |input, stop| {
            let line =
                input.split(|&byte| byte == b'\r').find(|line| !line.is_empty() && *line != b"\n");
            let target = line.and_then(|line| line.split(|&byte| byte == b' ').nth(1));
            let authority = target.and_then(|target| target.split(|&byte| byte == b'/').nth(2));
            stop.says("Parse(Uri)") && authority.is_some_and(|authority| authority.contains(&b'%'))
        },
    },
    Exception {
        other: Other::Kawa,
        why: "RFC 9110 section 5.5 lets field values and RFC 9112 section 4 lets reasons hold obs-text; kawa refuses \
              bytes above 127 unless it is built to tolerate them.",
        covers: |input, stop| stop.says("marker") && !head_of(input).is_ascii(),
    },
    Exception {
        other: Other::Kawa,
        why: "RFC 9112 section 7.1.1 has extensions of chunks and trailers may hold obs-text; kawa has neither.",
        covers: |input, stop| {
            let body = &input[head_of(input).len()..];
            stop.says("marker: Chunks") && body.contains(&b';')
                || stop.says("marker: Trailers") && !body.is_ascii()
        },
    },
    Exception {
        other: Other::Kawa,
        why: "RFC 9112 section 4 has a space before an empty reason, which many servers leave out (hyper takes it, too).",
        covers: |input, stop| stop.says("marker: StatusLine") && input.get(12) == Some(&b'\r'),
    },
    Exception { other: Other::Hyper, why: OLD, covers: |input, _| is_old(input) },
    Exception { other: Other::Kawa, why: OLD, covers: |input, _| is_old(input) },
];

const OLD: &str = "What old servers write is taken where it has one meaning: chunked from HTTP/1.0 (RFC 9112 section 6.1, whose \
                   connection ends), lists with one value, statuses beyond 599.";

/// Is there a response in `input` that only an old server writes?
fn is_old(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input).to_lowercase();
    let lines = || text.split("\r\n");
    let is_list = |line: &str| {
        (line.starts_with("content-length") || line.starts_with("transfer-encoding"))
            && line.contains(',')
    };
    let is_high = |line: &str| {
        line.starts_with("http/1.") && line.get(9..10).is_some_and(|digit| digit >= "6")
    };
    text.contains("http/1.0") && text.contains("chunked")
        || lines().any(is_list)
        || lines().any(is_high)
}

/// `input` up to the first empty line.
fn head_of(input: &[u8]) -> &[u8] {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n");
    &input[..end.map_or(input.len(), |end| end + 4)]
}

/// The reason why we may take a message that the other parser stopped at.
fn exception(other: Other, input: &[u8], stop: &Stop) -> Option<Outcome> {
    let covers = |it: &&Exception| it.other == other && (it.covers)(input, stop);
    ALLOWED.iter().find(covers).map(|it| Outcome::Excepted(it.why))
}

/// What a comparison came to, if nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// We took a message, and so did the other.
    Taken,
    /// We took none.
    Refused,
    /// We took one for a reason.
    Excepted(&'static str),
}

impl Outcome {
    fn of(was_taken: bool) -> Self {
        if was_taken { Self::Taken } else { Self::Refused }
    }
}

fn knob(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `check` on every seed and then on inputs that `make` makes of them.
fn over(
    seeds: &[Vec<u8>],
    make: impl Fn(&mut Random, &[Vec<u8>]) -> Vec<u8>,
    mut check: impl FnMut(&[u8], usize) -> Result<Outcome, String>,
) {
    let first = u64::try_from(knob("SEED", 1)).expect("a number");
    let (mut taken, mut excepted, mut wrong) = (0, 0, Vec::new());
    let mut run = |input: &[u8], step| match check(input, step) {
        Ok(Outcome::Taken) => taken += 1,
        Ok(Outcome::Refused) => {}
        Ok(Outcome::Excepted(_)) => excepted += 1,
        Err(what) => wrong.push(format!("{what}\n  input: \"{}\"", input.escape_ascii())),
    };
    for seed in seeds {
        run(seed, seed.len());
        run(seed, 1);
    }
    let cases = knob("CASES", CASES);
    for case in 0..cases {
        let mut random = Random::new(first.wrapping_mul(1 << 40) + case as u64);
        let input = make(&mut random, seeds);
        let step = [1, 2, 7, 64, 100_000][random.below(5)];
        run(&input, step);
    }
    let count = 2 * seeds.len() + cases;
    println!("{} seeds, {count} inputs, {taken} taken by us, {excepted} for a reason", seeds.len());
    wrong.truncate(12);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken * 10 > count, "only {taken} of {count} inputs are sound: what is tested?");
}

/// Where message `index` of ours begins in the input.
fn start_of(ours: &Dialogue, index: usize) -> usize {
    index.checked_sub(1).and_then(|before| ours.messages.get(before)).map_or(0, |m| m.consumed)
}

/// The first field of each name.
fn firsts(fields: &[Field]) -> Vec<Field> {
    let mut firsts: Vec<Field> = Vec::new();
    for field in fields {
        if firsts.iter().all(|(name, _)| *name != field.0) {
            firsts.push(field.clone());
        }
    }
    firsts
}

/// Is our `message` what hyper saw?
fn agrees_with_hyper(message: &Message, hyper: &Message) -> bool {
    let seen = Message {
        fields: firsts(&hyper.fields),
        trailers: Vec::new(),
        // hyper's server does not say where it stands.
        consumed: if hyper.consumed == 0 { message.consumed } else { hyper.consumed },
        ..hyper.clone()
    };
    Message { fields: firsts(&message.fields), ..message.clone() } == seen
}

fn requests_agree_with_hyper(input: &[u8], step: usize) -> Result<Outcome, String> {
    let hyper = hyper_side::requests(input, step);
    let names = |index: usize| {
        let message = hyper.messages.get(index);
        message.into_iter().flat_map(|m| m.fields.iter()).map(|(name, _)| name.as_str())
    };
    let ours = ours::requests(input, step, names);
    for (index, message) in ours.messages.iter().enumerate() {
        let agrees = hyper.messages.get(index).is_some_and(|seen| agrees_with_hyper(message, seen));
        if !agrees {
            let rest = &input[start_of(&ours, index)..];
            let wrong = || format!("we see {:?}\n  hyper sees {hyper:?}", ours.messages);
            return exception(Other::Hyper, rest, &hyper.stop).ok_or_else(wrong);
        }
    }
    let waits = matches!(ours.stop, Stop::End | Stop::Part);
    if waits && hyper.messages.len() > ours.messages.len() {
        return Err(format!("we wait ({:?}), hyper sees {hyper:?}", ours.stop));
    }
    Ok(Outcome::of(!ours.messages.is_empty()))
}

fn requests_agree_with_kawa(input: &[u8], step: usize) -> Result<Outcome, String> {
    let ours = ours::requests(input, step, |_| std::iter::empty());
    for (index, message) in ours.messages.iter().enumerate() {
        let rest = &input[start_of(&ours, index)..];
        // It takes no empty line before a request.
        let rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let kawa = kawa_side::first(Kind::Request, rest);
        let agrees = kawa.messages.first().is_some_and(|seen| {
            let end = input.len() - rest.len() + seen.consumed;
            (&seen.start, &seen.body, end) == (&message.start, &message.body, message.consumed)
        });
        if !agrees {
            let wrong = || format!("we see {message:?}\n  kawa sees {kawa:?}");
            return exception(Other::Kawa, rest, &kawa.stop).ok_or_else(wrong);
        }
    }
    Ok(Outcome::of(!ours.messages.is_empty()))
}

#[test]
fn no_request_is_read_other_than_hyper_reads_it() {
    over(&seeds::requests(), seeds::request_stream, requests_agree_with_hyper);
}

#[test]
fn no_request_is_read_other_than_kawa_reads_it() {
    over(&seeds::requests(), seeds::request_stream, requests_agree_with_kawa);
}

const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];

fn responses_agree_with_hyper(input: &[u8], step: usize) -> Result<Outcome, String> {
    let mut was_taken = false;
    for method in METHODS {
        let ours = ours::response(method, input, step);
        let Some(message) = ours.messages.first() else { continue };
        was_taken = true;
        let hyper = hyper_side::response(method, input, step);
        let agrees = hyper.messages.first().is_some_and(|seen| {
            let (start, version) = (&seen.start, seen.version);
            (start, version, &seen.body, seen.consumed)
                == (&message.start, message.version, &message.body, message.consumed)
        });
        if !agrees {
            let wrong = || format!("to {method} we see {message:?}\n  hyper sees {hyper:?}");
            return exception(Other::Hyper, input, &hyper.stop).ok_or_else(wrong);
        }
    }
    Ok(Outcome::of(was_taken))
}

#[test]
fn no_response_is_read_other_than_hyper_reads_it() {
    over(&seeds::responses(), seeds::response_stream, responses_agree_with_hyper);
}

fn responses_agree_with_kawa(input: &[u8], step: usize) -> Result<Outcome, String> {
    // kawa is not told of the request's method, and hands out each interim response.
    let ours = ours::response("GET", input, step);
    let Some(message) = ours.messages.first() else { return Ok(Outcome::Refused) };
    let mut rest = input;
    let kawa = loop {
        let kawa = kawa_side::first(Kind::Response, rest);
        match kawa.messages.first() {
            Some(seen) if seen.start.starts_with('1') && seen.start != "101" => {
                rest = &rest[seen.consumed..];
            }
            _ => break kawa,
        }
    };
    let agrees = kawa.messages.first().is_some_and(|seen| {
        let end = input.len() - rest.len() + seen.consumed;
        (&seen.start, &seen.body, end) == (&message.start, &message.body, message.consumed)
    });
    if !agrees {
        let wrong = || format!("we see {message:?}\n  kawa sees {kawa:?}");
        return exception(Other::Kawa, rest, &kawa.stop).ok_or_else(wrong);
    }
    Ok(Outcome::Taken)
}

#[test]
fn no_response_is_read_other_than_kawa_reads_it() {
    over(&seeds::responses(), seeds::response_stream, responses_agree_with_kawa);
}

/// The framing fields of a message.
fn framing(message: &Message) -> usize {
    let is_framing = |name: &str| matches!(name, "content-length" | "transfer-encoding");
    message.fields.iter().filter(|(name, _)| is_framing(name)).count()
}

/// Fields a proxy removes, replaces or adds; every other one has to arrive as it was sent.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
];

/// The fields that have to arrive, by name.
fn end_to_end(message: &Message) -> Vec<&Field> {
    let nominated: Vec<String> = message
        .fields
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|&byte| byte == b','))
        .map(|option| String::from_utf8_lossy(option).trim().to_lowercase())
        .collect();
    let passes = |(name, _): &&Field| {
        let plain = name.replace('_', "-");
        !OURS.contains(&plain.as_str())
            && !plain.starts_with("x-forwarded")
            && !nominated.contains(name)
    };
    let mut fields: Vec<&Field> = message.fields.iter().filter(passes).collect();
    fields.sort_by_key(|(name, _)| name);
    fields
}

/// Is `sent` what a proxy makes of `original`?
fn is_sound_request(original: &Message, sent: &Message) -> bool {
    let host = |message: &Message| message.fields.iter().find(|(name, _)| name == "host").cloned();
    let asked = original.authority.as_ref().map(|authority| authority.clone().into_bytes());
    let asked = asked.or(host(original).map(|(_, value)| value)).unwrap_or(b"fallback".to_vec());
    let target = match (&*original.start, &original.authority, &*original.target) {
        // RFC 9112 section 3.2.4; hyper does not tell an empty path from "/".
        ("OPTIONS", Some(_), "/") => vec!["*", "/"],
        (_, _, target) => vec![target],
    };
    original.start == sent.start
        && target.contains(&sent.target.as_str())
        && (&original.body, "HTTP/1.1") == (&sent.body, sent.version)
        && host(sent).is_some_and(|(_, value)| value == asked)
        && framing(sent) == framing(original).min(1)
        && end_to_end(original) == end_to_end(sent)
        && sent.trailers.iter().all(|trailer| original.trailers.contains(trailer))
}

fn sent_requests_are_sound(input: &[u8], step: usize) -> Result<Outcome, String> {
    let sent = ours::sent_on(input, step);
    let originals = hyper_side::requests(input, step);
    for (original, sent) in originals.messages.iter().zip(&sent) {
        let seen = hyper_side::requests(sent, sent.len());
        let is_sound = matches!(&seen.messages[..], [one] if is_sound_request(original, one));
        if !is_sound || seen.stop != Stop::End {
            let sent = sent.escape_ascii();
            return Err(format!("of {original:?}\n  we make \"{sent}\"\n  hyper sees {seen:?}"));
        }
    }
    Ok(Outcome::of(!sent.is_empty()))
}

#[test]
fn what_is_sent_upstream_is_to_hyper_the_request_that_came() {
    over(&seeds::requests(), seeds::request_stream, sent_requests_are_sound);
}

/// Is `passed` what a proxy makes of `original`?
fn is_sound_response(original: &Message, passed: &Message, len: usize) -> bool {
    (&original.start, &original.body) == (&passed.start, &passed.body)
        && passed.consumed == len
        && framing(passed) <= 1
        && end_to_end(original) == end_to_end(passed)
        && passed.trailers.iter().all(|trailer| original.trailers.contains(trailer))
}

fn passed_responses_are_sound(input: &[u8], step: usize) -> Result<Outcome, String> {
    let mut was_taken = false;
    for (method, version) in METHODS.iter().flat_map(|m| [(m, "HTTP/1.1"), (m, "HTTP/1.0")]) {
        let read = ours::response(method, input, step);
        let passed = ours::passed_on(method, version, input, step);
        let switches = read.messages.first().is_some_and(|message| message.start == "101");
        if passed.is_some() && read.messages.is_empty() && matches!(read.stop, Stop::Refused(_)) {
            // A head that was mended, which the codec alone does not do.
            return Ok(Outcome::Excepted(OLD));
        }
        if passed.is_some() == (read.messages.is_empty() || switches) {
            return Err(format!(
                "{method}: the codec reads {read:?}, the exchange passes {passed:?}"
            ));
        }
        let Some(passed) = passed else { continue };
        was_taken = true;
        let original = hyper_side::response(method, input, step);
        let seen = hyper_side::response(method, &passed, passed.len());
        let is_sound = match (&original.messages[..], &seen.messages[..]) {
            ([original], [seen]) => is_sound_response(original, seen, passed.len()),
            _ => false,
        };
        if !is_sound && is_old(input) {
            return Ok(Outcome::Excepted(OLD));
        }
        if !is_sound {
            let passed = passed.escape_ascii();
            return Err(format!("of {original:?}\n  we make \"{passed}\"\n  hyper sees {seen:?}"));
        }
    }
    Ok(Outcome::of(was_taken))
}

#[test]
fn what_is_passed_to_a_client_is_to_hyper_the_response_that_came() {
    over(&seeds::responses(), seeds::response_stream, passed_responses_are_sound);
}

#[test]
fn every_exception_is_needed() {
    let mut needed = Vec::new();
    let mut note = |outcome: Result<Outcome, String>| {
        if let Ok(Outcome::Excepted(why)) = outcome {
            needed.push(why);
        }
    };
    for input in seeds::requests() {
        note(requests_agree_with_hyper(&input, input.len()));
        note(requests_agree_with_kawa(&input, input.len()));
    }
    for input in seeds::responses() {
        note(responses_agree_with_kawa(&input, input.len()));
        note(responses_agree_with_hyper(&input, input.len()));
    }
    for exception in ALLOWED {
        assert!(needed.contains(&exception.why), "no seed needs: {}", exception.why);
    }
}
