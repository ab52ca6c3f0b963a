//! Entries as lines. Pure: bytes and numbers in, text out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::{Facts, PARTS};
use crate::base::log::{clf_timestamp, timestamp};
use crate::settings::AccessFormat;

#[derive(Serialize)]
struct Object<'a> {
    time: String,
    client: String,
    request: &'a str,
    host: &'a str,
    status: u16,
    bytes: u64,
    duration_ms: f64,
    upstream: Option<String>,
    referer: &'a str,
    user_agent: &'a str,
    end: &'static str,
}

/// Appends the line of one entry that began at `time`.
pub fn line(
    format: AccessFormat,
    time: SystemTime,
    facts: &Facts,
    parts: &[&[u8]; PARTS],
    out: &mut Vec<u8>,
) {
    match format {
        AccessFormat::Json => json(time, facts, parts, out),
        AccessFormat::Combined => combined(time, facts, parts, out),
    }
}

fn json(time: SystemTime, facts: &Facts, parts: &[&[u8]; PARTS], out: &mut Vec<u8>) {
    let [request, host, referer, agent] = parts.map(String::from_utf8_lossy);
    let object = Object {
        time: timestamp(time),
        client: facts.client.to_string(),
        request: &request,
        host: &host,
        status: facts.status,
        bytes: facts.bytes,
        duration_ms: facts.duration.as_secs_f64() * 1_000.0,
        upstream: facts.upstream.as_ref().map(ToString::to_string),
        referer: &referer,
        user_agent: &agent,
        end: facts.end.as_str(),
    };
    // Neither strings under fixed keys nor a vector can fail.
    let _ = serde_json::to_writer(&mut *out, &object);
    out.push(b'\n');
}

/// The combined log format of Apache httpd.
fn combined(time: SystemTime, facts: &Facts, parts: &[&[u8]; PARTS], out: &mut Vec<u8>) {
    let [request, _, referer, agent] = parts.map(quotable);
    // Writing to a vector cannot fail.
    let _ = writeln!(
        out,
        "{} - - [{}] \"{request}\" {} {} \"{referer}\" \"{agent}\"",
        facts.client,
        clf_timestamp(time),
        facts.status,
        facts.bytes,
    );
}

/// `-` for nothing; quotes, backslashes and all that is not printable ASCII escaped, as httpd does.
fn quotable(text: &[u8]) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "\\x{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::End;
    use super::*;
    use crate::base::tick::Tick;

    const PART: [&[u8]; PARTS] = [b"GET /a\"b HTTP/1.1", b"example.org", b"", b"x\xff\n"];

    fn rendered(format: AccessFormat) -> String {
        let facts = Facts {
            at: Tick(0),
            duration: Duration::from_micros(1_500),
            client: IpAddr::from([192, 0, 2, 1]),
            upstream: Some(SocketAddr::from(([127, 0, 0, 1], 8001)).into()),
            status: 200,
            bytes: 128,
            end: End::Finished,
        };
        let mut out = Vec::new();
        line(format, UNIX_EPOCH + Duration::from_secs(1_000_000_000), &facts, &PART, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = rendered(AccessFormat::Json);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2001-09-09T01:46:40.000Z");
        assert_eq!(value["request"], "GET /a\"b HTTP/1.1");
        assert_eq!((&value["status"], &value["duration_ms"]), (&200.into(), &1.5.into()));
        assert_eq!(value["upstream"], "127.0.0.1:8001");
        assert_eq!(value["end"], "finished");
    }

    #[test]
    fn combined_escapes_what_could_break_a_line() {
        assert_eq!(
            rendered(AccessFormat::Combined),
            "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"GET /a\\\"b HTTP/1.1\" 200 128 \"-\" \
             \"x\\xff\\x0a\"\n"
        );
    }
}
