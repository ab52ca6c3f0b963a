//! The exchanges that ended last, or that went wrong last, as JSON: each as a line of the access log would have it. Pure.

use std::borrow::Cow;

use crate::access::TextPart;
use crate::access::recorder::Record;
use crate::access::render::Renderer;
use crate::base::log::timestamp;
use crate::settings::AccessFormat;

use super::view::View;

/// How many exchanges are shown when nobody says how many.
const LIMIT: usize = 1_000;
/// How many may be asked for: about 10 MB, which the admin thread writes in some 20 ms.
const MOST: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    errors: bool,
    limit: usize,
}

/// The answer to a query such as `errors&limit=20`: the newest ones, the oldest of them first. For who is not `trusted` without
/// what may hold secrets: queries of URLs, and lines that are no requests.
///
/// # Errors
/// What is wrong with the query, and what to write instead.
pub(super) fn render(query: &str, view: &View, trusted: bool) -> Result<String, String> {
    let wish = wish(query)?;
    let records = if wish.errors { view.errors(wish.limit) } else { view.exchanges(wish.limit) };
    let mut renderer = Renderer::new(&AccessFormat::Json);
    let time = timestamp(view.now.wall);
    let mut text = format!("{{\n\"time\": \"{time}\",\n\"exchanges\": [").into_bytes();
    let records = records.iter().filter_map(|(worker, raw)| Some((worker, raw.record()?)));
    for (nth, (worker, record)) in records.enumerate() {
        let (separator, cut) = (if nth == 0 { "\n" } else { ",\n" }, record.cut);
        text.extend_from_slice(
            format!("{separator}{{\"worker\":{worker},\"cut\":{cut},").as_bytes(),
        );
        text.extend_from_slice(line(&record, trusted, &mut renderer).trim_ascii_end());
    }
    text.extend_from_slice(b"\n]\n}\n");
    // The renderer writes nothing else.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Its line without the brace in front.
fn line(record: &Record, trusted: bool, renderer: &mut Renderer) -> Vec<u8> {
    let mut parts = record.parts();
    let path = path_of(parts[TextPart::Uri as usize]);
    if !trusted {
        parts[TextPart::Uri as usize] = &path;
        // Whatever it holds: of a request that was not understood it is not known what is secret.
        (parts[TextPart::Referer as usize], parts[TextPart::Line as usize]) = (b"", b"");
    }
    let mut line = Vec::new();
    renderer.line(record.time, &record.facts, &parts, &mut line);
    line.drain(..1);
    line
}

/// A request target up to what may be more than a path: a query, parameters, a fragment, also where that is percent-encoded.
fn path_of(target: &[u8]) -> Cow<'_, [u8]> {
    let encoded =
        |at: usize| target[at..].get(1..3).is_some_and(|it| it.eq_ignore_ascii_case(b"3f"));
    let ends = |at: &usize| match target[*at] {
        b'?' | b';' | b'#' => true,
        b'%' => encoded(*at),
        _ => false,
    };
    match (0..target.len()).find(ends) {
        None => target.into(),
        Some(at) => [&target[..at], "?\u{2026}".as_bytes()].concat().into(),
    }
}

fn wish(query: &str) -> Result<Wish, String> {
    let mut wish = Wish { errors: false, limit: LIMIT };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=').unwrap_or((part, "")) {
            ("errors", "") => wish.errors = true,
            ("limit", limit) => {
                let limit = limit.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                wish.limit =
                    limit.ok_or_else(|| format!("limit: write a number from 1 to {MOST}"))?;
            }
            _ => return Err(format!("{part:?} is unknown; errors and limit=N are taken")),
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::access::recorder::FlightRecorder;
    use crate::access::{End, Facts, LogPhase, push_part};
    use crate::base::tick::Tick;
    use crate::reason::Reason;

    /// Two workers, each with exchanges of these statuses, which ended at these microseconds.
    fn view(of_workers: [&[(u64, u16)]; 2]) -> View {
        let recorders = of_workers.map(|exchanges| {
            let recorder = FlightRecorder::default();
            for &(ended, status) in exchanges {
                let cause = (status == 502).then(|| Reason::ConnectionRefused.into());
                let facts = Facts {
                    at: Tick(0),
                    duration: 0,
                    connect: None,
                    first_byte: None,
                    client: [192, 0, 2, 7].into(),
                    listener: None,
                    endpoint: None,
                    attempts: 1,
                    status,
                    bytes_in: 0,
                    bytes_out: 0,
                    end: End::Answered,
                    phase: LogPhase::Connect,
                    cause,
                };
                let mut text = Vec::new();
                for part in ["GET", "/a?token=secret", "HTTP/1.1", "example.org", "http://b/?c=d"] {
                    push_part(&mut text, part.as_bytes());
                }
                recorder.record(ended, &facts, [b"", b"api:80"], &text);
            }
            Arc::new(recorder)
        });
        View { recorders: recorders.into(), ..View::sample() }
    }

    fn exchanges(query: &str, view: &View) -> Vec<Value> {
        let text = render(query, view, true).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        json["exchanges"].as_array().unwrap().clone()
    }

    #[test]
    fn exchanges_of_all_workers_come_in_the_order_in_which_they_ended() {
        let view = view([&[(10, 200), (30, 201)], &[(20, 202), (40, 203)]]);
        let seen = |query| {
            let rows = exchanges(query, &view);
            rows.iter()
                .map(|row| (row["worker"].clone(), row["status"].clone()))
                .collect::<Vec<_>>()
        };
        let all = [(0, 200), (1, 202), (0, 201), (1, 203)].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(seen(""), all);
        assert_eq!(seen("limit=3"), all[1..]);
        assert_eq!(seen("limit=1"), all[3..]);
    }

    #[test]
    fn errors_are_those_with_a_reason_or_with_a_status_of_the_server() {
        let view = view([&[(10, 200), (11, 502), (12, 404)], &[(9, 500)]]);
        let errors = exchanges("errors", &view);
        let seen: Vec<_> = errors.iter().map(|row| (&row["status"], &row["reason"])).collect();
        assert_eq!(
            seen,
            [(&500.into(), &Value::Null), (&502.into(), &"connection_refused".into())]
        );
        assert!(exchanges("errors", &self::view([&[(1, 200)], &[]])).is_empty());
    }

    #[test]
    fn queries_of_urls_are_for_those_who_may_give_commands() {
        let view = view([&[(10, 200)], &[]]);
        let shown = |trusted| render("", &view, trusted).unwrap();
        assert!(shown(true).contains("/a?token=secret") && shown(true).contains("b/?c=d"));
        let hidden = shown(false);
        assert!(!hidden.contains("secret") && !hidden.contains("c=d"), "{hidden}");
        let json: Value = serde_json::from_str(&hidden).unwrap();
        assert_eq!(json["exchanges"][0]["uri"], "/a?\u{2026}");
        for target in ["/a?s", "/a;s", "/a#s", "/a%3Fs", "/a%3fs"] {
            assert_eq!(path_of(target.as_bytes()), "/a?\u{2026}".as_bytes(), "{target}");
        }
        for target in ["/a", "*", "/%41%", "/a%3"] {
            assert_eq!(path_of(target.as_bytes()), target.as_bytes());
        }
    }

    #[test]
    fn a_query_that_asks_for_something_else_is_refused_with_what_there_is() {
        let view = view([&[], &[]]);
        for query in ["limit=0", "limit=10001", "limit=", "limit=x", "error", "errors=1", "a&b"] {
            let why = render(query, &view, true).unwrap_err();
            assert!(why.contains("limit"), "{query}: {why}");
        }
    }
}
