//! Entries as lines. Pure: bytes and numbers in, text out.
//!
//! Owns how a line looks. Nothing here allocates for an ordinary entry but the lines' own growth: numbers are written
//! digit by digit, text in clean runs, and the time is put together once a second.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Facts, PARTS};
use crate::base::address::Address;
use crate::base::decimal::{ip, number};
use crate::base::log::{clf_timestamp, timestamp};
use crate::base::text::{self, is_active};
use crate::settings::AccessFormat;

/// Turns entries into lines of one format.
#[derive(Debug)]
pub struct Renderer {
    format: AccessFormat,
    /// The second that `stamp` tells.
    second: Option<u64>,
    /// The time of the last entry as its line has it; for JSON without what follows the second.
    stamp: String,
}

impl Renderer {
    /// For lines of this format.
    pub fn new(format: AccessFormat) -> Self {
        Renderer { format, second: None, stamp: String::new() }
    }

    /// Appends the line of one entry that began at `time`.
    pub fn line(
        &mut self,
        time: SystemTime,
        facts: &Facts,
        parts: &[&[u8]; PARTS],
        out: &mut Vec<u8>,
    ) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.follow(since.as_secs());
        match self.format {
            AccessFormat::Json => self.json(since.subsec_millis(), facts, parts, out),
            AccessFormat::Combined => self.combined(facts, parts, out),
        }
    }

    fn follow(&mut self, second: u64) {
        if self.second.replace(second) == Some(second) {
            return;
        }
        let time = UNIX_EPOCH + Duration::from_secs(second);
        self.stamp = match self.format {
            AccessFormat::Json => timestamp(time).trim_end_matches("000Z").to_owned(),
            AccessFormat::Combined => clf_timestamp(time),
        };
    }

    fn json(&self, millis: u32, facts: &Facts, parts: &[&[u8]; PARTS], out: &mut Vec<u8>) {
        let [request, host, referer, agent] = parts;
        put(out, "{\"time\":\"");
        put(out, &self.stamp);
        thousandths(out, millis.into());
        put(out, "Z\",\"client\":\"");
        ip(out, facts.client);
        put(out, "\",\"request\":");
        string(out, request);
        put(out, ",\"host\":");
        string(out, host);
        put(out, ",\"status\":");
        number(out, facts.status.into());
        put(out, ",\"bytes\":");
        number(out, facts.bytes);
        put(out, ",\"duration_ms\":");
        let micros = u64::try_from(facts.duration.as_micros()).unwrap_or(u64::MAX);
        number(out, micros / 1_000);
        out.push(b'.');
        thousandths(out, micros % 1_000);
        put(out, ",\"upstream\":");
        upstream(out, facts.upstream.as_ref());
        put(out, ",\"referer\":");
        string(out, referer);
        put(out, ",\"user_agent\":");
        string(out, agent);
        put(out, ",\"end\":\"");
        put(out, facts.end.as_str());
        out.push(b'"');
        if !facts.reason.is_empty() {
            put(out, ",\"reason\":");
            string(out, facts.reason.as_bytes());
        }
        put(out, "}\n");
    }

    /// The combined log format of Apache httpd.
    fn combined(&self, facts: &Facts, parts: &[&[u8]; PARTS], out: &mut Vec<u8>) {
        let [request, _, referer, agent] = parts;
        ip(out, facts.client);
        put(out, " - - [");
        put(out, &self.stamp);
        put(out, "] ");
        quoted(out, request);
        out.push(b' ');
        number(out, facts.status.into());
        out.push(b' ');
        number(out, facts.bytes);
        out.push(b' ');
        quoted(out, referer);
        out.push(b' ');
        quoted(out, agent);
        out.push(b'\n');
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn digit(value: u64) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

/// The last three digits.
fn thousandths(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&[digit(value / 100), digit(value / 10), digit(value)]);
}

fn upstream(out: &mut Vec<u8>, address: Option<&Address>) {
    match address {
        None => put(out, "null"),
        Some(Address::Ip(SocketAddr::V4(address))) => {
            out.push(b'"');
            ip(out, IpAddr::V4(*address.ip()));
            out.push(b':');
            number(out, address.port().into());
            out.push(b'"');
        }
        Some(other) => string(out, other.to_string().as_bytes()),
    }
}

/// A JSON string (RFC 8259 section 7) that drives no terminal. What is no UTF-8 becomes U+FFFD.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if text.is_ascii() {
        escaped(out, text, is_special_in_json, escape_for_json);
    } else {
        beyond_ascii(out, &String::from_utf8_lossy(text));
    }
    out.push(b'"');
}

fn beyond_ascii(out: &mut Vec<u8>, mut text: &str) {
    let is_special = |c: char| !c.is_ascii() && is_active(c);
    while let Some((at, special)) = text.char_indices().find(|&(_, c)| is_special(c)) {
        escaped(out, &text.as_bytes()[..at], is_special_in_json, escape_for_json);
        let mut escape = String::new();
        text::escape_for_json(&mut escape, special);
        put(out, &escape);
        text = &text[at + special.len_utf8()..];
    }
    escaped(out, text.as_bytes(), is_special_in_json, escape_for_json);
}

fn is_special_in_json(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
}

fn escape_for_json(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        // Writing to a vector cannot fail.
        _ => drop(write!(out, "\\u{byte:04x}")),
    }
}

/// In quotes, `-` for nothing; quotes, backslashes and all that is not printable ASCII escaped, as httpd does.
fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if text.is_empty() {
        out.push(b'-');
    }
    escaped(out, text, is_special_in_quotes, escape_in_quotes);
    out.push(b'"');
}

fn is_special_in_quotes(byte: u8) -> bool {
    !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\')
}

fn escape_in_quotes(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        // Writing to a vector cannot fail.
        _ => drop(write!(out, "\\x{byte:02x}")),
    }
}

/// Copies run after run of what is not special, and gives each special byte to `escape`.
fn escaped(
    out: &mut Vec<u8>,
    mut text: &[u8],
    is_special: impl Fn(u8) -> bool,
    escape: impl Fn(&mut Vec<u8>, u8),
) {
    loop {
        let (run, rest) = text.split_at(clean_run(text, &is_special));
        out.extend_from_slice(run);
        let Some((&special, rest)) = rest.split_first() else { return };
        escape(out, special);
        text = rest;
    }
}

/// How many bytes at the front are not special. Sixteen are looked at together, without a branch for each.
fn clean_run(text: &[u8], is_special: impl Fn(u8) -> bool) -> usize {
    const BLOCK: usize = 16;
    let is_clean = |block: &&[u8]| !block.iter().fold(false, |dirty, &b| dirty | is_special(b));
    let blocks = text.chunks_exact(BLOCK).take_while(is_clean).count() * BLOCK;
    let rest = text.get(blocks..).unwrap_or_default();
    blocks + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
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
            reason: "",
        };
        let mut out = Vec::new();
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Renderer::new(format).line(time, &facts, &PART, &mut out);
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
        assert!(value.get("reason").is_none());
    }

    #[test]
    fn combined_escapes_what_could_break_a_line() {
        assert_eq!(
            rendered(AccessFormat::Combined),
            "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"GET /a\\\"b HTTP/1.1\" 200 128 \"-\" \
             \"x\\xff\\x0a\"\n"
        );
    }

    #[test]
    fn every_string_is_what_a_json_parser_reads_back() {
        let all: Vec<u8> = (0..=255).collect();
        // Each byte at each place within a block, between clean bytes.
        for at in 0..40 {
            for &byte in &all {
                let mut text = vec![b'a'; 40];
                text[at] = byte;
                let mut out = Vec::new();
                string(&mut out, &text);
                let read: String = serde_json::from_slice(&out).unwrap();
                assert_eq!(read, String::from_utf8_lossy(&text));
            }
        }
        let active = "a\u{9b}31m\u{7f}\u{202e}\u{2028} \"\u{85}\u{e4}\u{2069}";
        let mut out = Vec::new();
        string(&mut out, active.as_bytes());
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), active);
        let written = String::from_utf8(out).unwrap();
        assert!(!written.contains(is_active) && written.contains('\u{e4}'), "{written}");
        let mut out = Vec::new();
        string(&mut out, "gr\u{fc}n \u{1f600}".as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), "\"gr\u{fc}n \u{1f600}\"");
    }

    #[test]
    fn the_time_goes_on_within_a_second_and_from_one_to_the_next() {
        let facts = Facts {
            at: Tick(0),
            duration: Duration::from_secs(61),
            client: "2001:db8::1".parse().unwrap(),
            upstream: Some(Address::Unix("/a\"b".into())),
            status: 204,
            bytes: 0,
            end: End::Cut,
            reason: "a \"b\"",
        };
        let mut renderer = Renderer::new(AccessFormat::Json);
        let mut told = Vec::new();
        for millis in [1_007, 1_999, 2_000, 1_500] {
            let mut out = Vec::new();
            renderer.line(UNIX_EPOCH + Duration::from_millis(millis), &facts, &PART, &mut out);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(
                (&value["client"], &value["upstream"]),
                (&"2001:db8::1".into(), &"unix:/a\"b".into())
            );
            assert_eq!(value["duration_ms"], 61_000.0);
            assert_eq!(value["reason"], "a \"b\"");
            told.push(value["time"].as_str().unwrap().get(17..).unwrap().to_owned());
        }
        assert_eq!(told, ["01.007Z", "01.999Z", "02.000Z", "01.500Z"]);
    }
}
