//! What a running evenly says of itself as JSON, for people. Pure.
//!
//! Invariant: nothing that is not of this program gets to a terminal raw.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::base::text::is_active;
use crate::reason::Reason;

/// `text` without what a terminal would follow.
pub fn quiet(text: &str) -> String {
    let shown = |c: char| if is_active(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// A text of `value`, likewise; empty if it is none.
pub fn text(value: &Value) -> String {
    quiet(value.as_str().unwrap_or_default())
}

/// The endpoints of each target of `/targets`, with the name of their target.
pub fn endpoints(targets: &Value) -> impl Iterator<Item = (String, &Value)> {
    let targets = targets["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| {
        let endpoints = target["endpoints"].as_array().into_iter().flatten();
        endpoints.map(|endpoint| (text(&target["target"]), endpoint))
    })
}

/// A time in two units at most: `41s`, `3h 12m`.
pub fn time(seconds: f64) -> String {
    // A time that is none, or before now, shows as 0.
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Why an endpoint is as it is, as far as its state does not say.
fn why(endpoint: &Value) -> String {
    let mut parts = Vec::new();
    let decided = &endpoint["override"];
    if let Some(state) = decided["state"].as_str() {
        let by = if decided["unsaved"] == true { "hand, unsaved" } else { "the file" };
        parts.push(format!("{state} by {by}"));
    }
    if let Some(weight) = decided["weight"].as_u64() {
        parts.push(format!("weight {weight} by hand"));
    }
    let (state, health) = (text(&endpoint["state"]), text(&endpoint["health"]));
    let why = text(&endpoint["why"]);
    match (state == health, why.is_empty()) {
        (true, true) => {}
        (true, false) => parts.push(why),
        (false, true) => parts.push(format!("its checks say {health}")),
        (false, false) => parts.push(format!("its checks say {health}: {why}")),
    }
    if let Some(until) = endpoint["ejected_until"].as_str() {
        parts.push(format!("until {until}"));
    }
    if state == "up" && endpoint["in_rotation"] == false {
        parts.push("stands by for others of its target".to_owned());
    }
    if let Some(left @ 1..) = endpoint["in_flight"].as_u64()
        && state != "up"
    {
        parts.push(format!("requests left: {left}"));
    }
    parts.join("; ")
}

/// The last checks, the oldest first, a character each.
fn strip(endpoint: &Value) -> String {
    let checks = endpoint["checks"].as_array().into_iter().flatten();
    checks.map(|check| if check["passed"] == true { '+' } else { '-' }).collect()
}

/// `/targets` as a table, a line for each endpoint.
pub fn targets(targets: &Value) -> String {
    let titles = ["target", "address", "state", "for", "last checks", "why"].map(str::to_owned);
    let mut rows = vec![titles];
    for (target, endpoint) in endpoints(targets) {
        rows.push([
            target,
            text(&endpoint["address"]),
            text(&endpoint["state"]),
            endpoint["for_seconds"].as_f64().map(time).unwrap_or_default(),
            strip(endpoint),
            why(endpoint),
        ]);
    }
    for target in targets["targets"].as_array().into_iter().flatten() {
        if target["unresolved"].is_string() {
            let why = text(&target["unresolved"]);
            let (name, none) = (text(&target["target"]), String::new());
            rows.push([name, "-".to_owned(), "unresolved".to_owned(), none.clone(), none, why]);
        }
    }
    table(&rows)
}

/// Cells in columns, without white space at the end of a line.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut lines = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// What the reason with this word means; of a word that this version does not know the word alone.
fn explained(word: &str) -> String {
    match Reason::of_word(word) {
        _ if word.is_empty() => String::new(),
        None => format!("  reason: {word}\n"),
        Some(it) => format!(
            "  reason: {word}: {}\n  usual cause: {}\n  what helps: {}\n",
            it.meaning(),
            it.cause(),
            it.remedy()
        ),
    }
}

/// One target of `/targets` at length.
pub fn one(targets: &Value) -> String {
    let mut lines = String::new();
    for (target, endpoint) in endpoints(targets) {
        let (address, state) = (text(&endpoint["address"]), text(&endpoint["state"]));
        let name = if target == address { target } else { format!("{target} ({address})") };
        let time = endpoint["for_seconds"].as_f64().map(time).unwrap_or_default();
        let since = text(&endpoint["since"]);
        let _ = writeln!(lines, "{name} is {state} for {time}, since {since}");
        let why = why(endpoint);
        if !why.is_empty() {
            let _ = writeln!(lines, "  {why}");
        }
        lines += &explained(&text(&endpoint["reason"]));
        for check in endpoint["checks"].as_array().into_iter().flatten() {
            let passed = if check["passed"] == true { "passed" } else { "failed" };
            let took = check["latency_ms"].as_f64().unwrap_or_default();
            let (when, mut found) = (text(&check["time"]), text(&check["result"]));
            if check["reason"].is_string() {
                let _ = write!(found, " ({})", text(&check["reason"]));
            }
            let _ = writeln!(lines, "  {when}  {passed}  {took:.1} ms  {found}");
        }
    }
    for target in targets["targets"].as_array().into_iter().flatten() {
        if target["unresolved"].is_string() {
            let (name, why) = (text(&target["target"]), text(&target["unresolved"]));
            let _ = writeln!(lines, "{name} has no address: {why}");
        }
    }
    lines
}

/// Whether one of the endpoints of `/targets` gets requests.
pub fn gets_requests(targets: &Value) -> bool {
    endpoints(targets).any(|(_, endpoint)| endpoint["in_rotation"] == true)
}

/// How many requests are with endpoints of `/targets` that are out; `None` if one of them is not.
pub fn requests_left(targets: &Value) -> Option<u64> {
    let left = |endpoint: &Value| match endpoint["state"] == "up" {
        true => None,
        false => endpoint["in_flight"].as_u64(),
    };
    endpoints(targets).map(|(_, endpoint)| left(endpoint)).sum()
}

/// `/status` in a few lines.
pub fn status(status: &Value) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    let all = status["endpoints"].as_array().map_or(0, Vec::len);
    let uptime = time(status["uptime_seconds"].as_f64().unwrap_or_default());
    let mut lines = format!(
        "evenly {}, process {}, {} for {uptime}, generation {}\n\
         endpoints that get requests: {} of {all} ({} failing checks, {} ejected)\n\
         client connections: {} of at most {}\n\
         buffers: {} of at most {} MiB\n",
        text(&status["version"]),
        number("pid"),
        text(&status["stage"]),
        number("generation"),
        number("endpoints_healthy"),
        number("endpoints_failing"),
        number("endpoints_ejected"),
        number("connections"),
        number("connections_limit"),
        number("buffer_bytes") >> 20,
        number("buffer_bytes_limit") >> 20,
    );
    if status["file"].is_string() {
        let _ = writeln!(lines, "file: {}", text(&status["file"]));
    }
    lines
}

/// Whether `/status` says that it serves: it wants connections, and some endpoint gets requests.
pub fn serves(status: &Value) -> bool {
    status["stage"] == "running" && status["endpoints_healthy"].as_u64().is_some_and(|it| it > 0)
}

/// `/explain` in a few lines.
pub fn explanation(explained: &Value) -> String {
    let part = |key: &str| text(&explained[key]);
    let listeners = explained["listeners"].as_array().into_iter().flatten().map(text);
    let listeners: Vec<String> = listeners.collect();
    let mut lines = format!(
        "{} {}{} by {}\n",
        part("method"),
        part("host"),
        part("path"),
        listeners.join(" or ")
    );
    let refused = &explained["refused"];
    if refused.is_object() {
        let _ =
            writeln!(lines, "is refused with {}: {}", refused["status"], text(&refused["reason"]));
        return lines;
    }
    let titles = ["target", "address", "takes it", "why"].map(str::to_owned);
    let mut rows = vec![titles];
    for endpoint in explained["endpoints"].as_array().into_iter().flatten() {
        let takes = if endpoint["eligible"] == true { "yes" } else { "no" };
        let part = |key: &str| text(&endpoint[key]);
        rows.push([part("target"), part("address"), takes.to_owned(), part("why")]);
    }
    lines + &table(&rows)
}

/// `/recent` as a table, a line for each exchange.
pub fn recent(recent: &Value) -> String {
    let titles =
        ["time", "client", "request", "status", "ms", "endpoint", "why"].map(str::to_owned);
    let mut rows = vec![titles];
    for exchange in recent["exchanges"].as_array().into_iter().flatten() {
        let part = |key: &str| text(&exchange[key]);
        let uri = part("uri");
        // Others name their host, or no resource.
        let host = if uri.starts_with('/') { part("host") } else { String::new() };
        let asked = match exchange["method"].is_string() {
            true => format!("{} {host}{uri}", part("method")),
            false => part("line"),
        };
        rows.push([
            part("time"),
            part("client"),
            short(asked, exchange["cut"] == true),
            exchange["status"].to_string(),
            exchange["duration_ms"].to_string(),
            part("endpoint"),
            ending(exchange),
        ]);
    }
    if rows.len() == 1 {
        return "none since it was started\n".to_owned();
    }
    table(&rows)
}

/// A request in a column: its first characters, with a mark if there are more.
fn short(text: String, cut: bool) -> String {
    const WIDTH: usize = 60;
    if text.chars().count() <= WIDTH && !cut {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['\u{2026}']).collect()
}

/// Why an exchange did not end as it should, or did after several attempts.
fn ending(exchange: &Value) -> String {
    let part = |key: &str| text(&exchange[key]);
    let mut parts = Vec::new();
    if exchange["reason"].is_string() {
        parts.push(part("reason"));
    }
    if exchange["detail"].is_string() {
        parts.push(format!("({})", part("detail")));
    }
    if exchange["ended_by"].is_string() {
        parts.push(format!("by {} in {}", part("ended_by"), part("phase")));
    }
    if let Some(attempts @ 2..) = exchange["attempts"].as_u64() {
        parts.push(format!("after {attempts} attempts"));
    }
    parts.join(" ")
}

/// Whether the request of `/explain` is not refused, and an endpoint could take it.
pub fn is_taken(explained: &Value) -> bool {
    let mut endpoints = explained["endpoints"].as_array().into_iter().flatten();
    explained["refused"].is_null() && endpoints.any(|it| it["eligible"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        let check = |passed| json!({"time": "2026-12-01T10:00:00.000Z", "latency_ms": 1.25, "passed": passed, "result": "200"});
        json!({"targets": [
            {"target": "a:1", "unresolved": null, "endpoints": [
                {"address": "10.0.0.1:1", "state": "drained", "health": "down", "in_rotation": false, "for_seconds": 61.5,
                 "since": "2026-12-01T10:00:00.000Z", "why": "connect refused", "reason": "connection_refused", "ejected_until": null, "in_flight": 2,
                 "override": {"state": "drain", "weight": null, "unsaved": true}, "checks": [check(true), check(false)]},
                {"address": "10.0.0.2:1", "state": "up", "health": "up", "in_rotation": true, "for_seconds": 4000.0,
                 "since": "x\u{1b}[31m", "why": null, "reason": null, "ejected_until": null, "in_flight": 3, "override": null, "checks": []},
            ]},
            {"target": "b:1", "unresolved": "no such name", "endpoints": []},
        ]})
    }

    #[test]
    fn targets_are_lines_in_columns() {
        let shown = targets(&sample());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "target  address     state       for    last checks  why",
                "a:1     10.0.0.1:1  drained     1m 1s  +-           drain by hand, unsaved; its checks say down: connect refused; requests left: 2",
                "a:1     10.0.0.2:1  up          1h 6m",
                "b:1     -           unresolved                      no such name",
            ]
        );
    }

    #[test]
    fn exchanges_are_lines_with_what_went_wrong_at_the_end() {
        let exchange = json!({"time": "2026-12-01T10:00:00.000Z", "client": "192.0.2.7", "method": "GET", "uri": "/a", "host": "x",
            "status": 200, "duration_ms": 1.25, "endpoint": "10.0.0.1:1", "attempts": 1, "reason": null, "detail": null,
            "ended_by": null, "phase": null, "line": null});
        let (mut cut, mut refused) = (exchange.clone(), exchange.clone());
        for (key, value) in [
            ("status", json!(502)),
            ("attempts", json!(3)),
            ("reason", json!("connection_refused")),
            ("ended_by", json!("target")),
            ("phase", json!("connect")),
        ] {
            cut[key] = value;
        }
        for (key, value) in [
            ("method", Value::Null),
            ("line", json!("G\u{1b}[31mET")),
            ("status", json!(400)),
            ("endpoint", Value::Null),
            ("reason", json!("http_request_error")),
            ("detail", json!("no_host")),
            ("ended_by", json!("client")),
            ("phase", json!("request")),
        ] {
            refused[key] = value;
        }
        let shown = recent(&json!({"exchanges": [exchange, cut, refused]}));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "time                      client     request   status  ms    endpoint    why",
                "2026-12-01T10:00:00.000Z  192.0.2.7  GET x/a   200     1.25  10.0.0.1:1",
                "2026-12-01T10:00:00.000Z  192.0.2.7  GET x/a   502     1.25  10.0.0.1:1  connection_refused by target in connect after 3 attempts",
                "2026-12-01T10:00:00.000Z  192.0.2.7  G\u{fffd}[31mET  400     1.25              http_request_error (no_host) by client in request",
            ]
        );
        assert_eq!(recent(&json!({"exchanges": []})), "none since it was started\n");
    }

    #[test]
    fn one_target_is_shown_at_length_and_nothing_drives_the_terminal() {
        let shown = one(&sample());
        assert!(shown.starts_with("a:1 (10.0.0.1:1) is drained for 1m 1s, since 2026"), "{shown}");
        assert!(shown.contains("\n  2026-12-01T10:00:00.000Z  failed  1.2 ms  200\n"), "{shown}");
        assert!(shown.contains("\n  reason: connection_refused: The endpoint refused"), "{shown}");
        assert!(shown.contains("\n  usual cause: The server does not run"), "{shown}");
        assert!(shown.contains("\n  what helps: Start the server"), "{shown}");
        assert!(shown.contains("b:1 has no address: no such name\n"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        assert!(gets_requests(&sample()));
        assert_eq!(requests_left(&sample()), None, "one of them is up");
    }
}
