//! Entries as lines. Pure: bytes and numbers in, text out.
//!
//! Owns how a line looks. Every format is a list of pieces: text that all lines have, and fields; which fields there are is
//! `settings::template`'s. Nothing here allocates for an ordinary entry but the lines' own growth: numbers are written
//! digit by digit, text in clean runs, and the time is put together once a second.
//! Invariants: an entry is one line, of characters that drive no terminal; what a client or a target sent stays within its field.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Facts, PARTS, TextPart};
use crate::base::address::Address;
use crate::base::decimal::{ip, number};
use crate::base::log::{clf_timestamp, timestamp};
use crate::base::text::{self, is_active};
use crate::reason::Cause;
use crate::settings::{AccessFormat, LogField, LogPiece, LogTemplate};

/// The combined log format of Apache httpd.
const COMBINED: &str =
    "{client} - - [{time_clf}] \"{request}\" {status} {bytes_out} \"{referer}\" \"{user_agent}\"";
/// Likewise, with the virtual host in front (`vhost_combined`).
const VHOST_COMBINED: &str = "{vhost} {client} - - [{time_clf}] \"{request}\" {status} {bytes_out} \"{referer}\" \"{user_agent}\"";

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dress {
    /// As a JSON value; `null` for nothing.
    Json,
    /// Within quotes of the text; `-` for nothing.
    Quoted,
    /// Outside of quotes: without a space; `-` for nothing.
    Bare,
}

/// A part of every line.
#[derive(Debug)]
enum LinePart {
    Text(Box<[u8]>),
    Field(LogField, Dress),
}

/// Turns entries into lines of one format.
#[derive(Debug)]
pub struct Renderer {
    parts: Vec<LinePart>,
    /// Bytes that are escaped in a bare field beside those that always are: with each of them the text behind some bare field begins.
    ends: [bool; 128],
    /// The second that both stamps tell.
    second: Option<u64>,
    /// RFC 3339 up to the second, with the dot.
    stamp: String,
    /// As the combined format has it.
    clf: String,
}

/// What the fields of one line are made of.
#[derive(Clone, Copy)]
struct Logged<'e> {
    since: Duration,
    facts: &'e Facts,
    parts: &'e [&'e [u8]; PARTS],
}

impl Logged<'_> {
    fn part(&self, part: TextPart) -> &[u8] {
        self.parts[part as usize]
    }
}

impl Renderer {
    /// For lines of this format.
    pub fn new(format: &AccessFormat) -> Self {
        let parts = match format {
            AccessFormat::Json => of_json(),
            AccessFormat::Combined => {
                LogTemplate::parse(COMBINED).map_or_else(|_| of_json(), |it| of(&it))
            }
            AccessFormat::VhostCombined => {
                LogTemplate::parse(VHOST_COMBINED).map_or_else(|_| of_json(), |it| of(&it))
            }
            AccessFormat::Template(template) => of(template),
        };
        let ends = ends_of(&parts);
        Renderer { parts, ends, second: None, stamp: String::new(), clf: String::new() }
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
        let entry = Logged { since, facts, parts };
        for part in &self.parts {
            match part {
                LinePart::Text(text) => out.extend_from_slice(text),
                LinePart::Field(field, dress) => self.field(*field, *dress, entry, out),
            }
        }
        out.push(b'\n');
    }

    fn follow(&mut self, second: u64) {
        if self.second.replace(second) == Some(second) {
            return;
        }
        let time = UNIX_EPOCH + Duration::from_secs(second);
        self.stamp = timestamp(time).trim_end_matches("000Z").to_owned();
        self.clf = clf_timestamp(time);
    }

    fn field(&self, field: LogField, dress: Dress, entry: Logged<'_>, out: &mut Vec<u8>) {
        let Logged { since, facts, .. } = entry;
        let part =
            |part, out: &mut Vec<u8>| self.text(entry.part(part), Absent::Nothing, dress, out);
        let kept = |part, out: &mut Vec<u8>| self.text(entry.part(part), Absent::Empty, dress, out);
        match field {
            LogField::Time => in_quotes(dress, out, |out| {
                put(out, &self.stamp);
                thousandths(out, since.subsec_millis().into());
                out.push(b'Z');
            }),
            LogField::TimeClf => in_quotes(dress, out, |out| put(out, &self.clf)),
            LogField::TimeUnix => {
                number(out, since.as_secs());
                out.push(b'.');
                thousandths(out, since.subsec_millis().into());
            }
            LogField::RequestId => part(TextPart::RequestId, out),
            LogField::TraceId => part(TextPart::TraceId, out),
            LogField::Client => in_quotes(dress, out, |out| ip(out, client(entry))),
            LogField::Listener => {
                let listener = facts.listener.map(Address::from);
                self.endpoint(listener.as_ref(), dress, out);
            }
            LogField::Method => part(TextPart::Method, out),
            LogField::Uri => part(TextPart::Uri, out),
            LogField::Protocol => part(TextPart::Protocol, out),
            LogField::Tls | LogField::Route => nothing(dress, out),
            LogField::Host => kept(TextPart::Host, out),
            LogField::Referer => kept(TextPart::Referer, out),
            LogField::UserAgent => kept(TextPart::UserAgent, out),
            LogField::Line => part(TextPart::Line, out),
            LogField::Target => part(TextPart::Target, out),
            LogField::Status => number(out, facts.status.into()),
            LogField::BytesIn => number(out, facts.bytes_in),
            LogField::BytesOut => number(out, facts.bytes_out),
            LogField::Endpoint => self.endpoint(facts.endpoint.as_ref(), dress, out),
            LogField::Attempts => number(out, facts.attempts.into()),
            LogField::ConnectMs => millis(facts.connect, dress, out),
            LogField::FirstByteMs => millis(facts.first_byte, dress, out),
            LogField::DurationMs => millis(Some(facts.duration), dress, out),
            LogField::End => word(Some(facts.end.as_str()), dress, out),
            LogField::EndedBy => word(facts.ended_by(), dress, out),
            LogField::Phase => word(facts.phase(), dress, out),
            LogField::Reason => word(facts.cause.map(|cause| cause.reason.word()), dress, out),
            LogField::Detail => word(facts.cause.and_then(Cause::detail_name), dress, out),
            LogField::Request => self.request(entry, dress, out),
            LogField::Vhost => self.vhost(entry, dress, out),
        }
    }

    /// Text of a client, a target or the configuration.
    fn text(&self, text: &[u8], absent: Absent, dress: Dress, out: &mut Vec<u8>) {
        match (dress, absent) {
            (Dress::Json, Absent::Nothing) if text.is_empty() => put(out, "null"),
            (Dress::Json, _) => string(out, text),
            (_, _) if text.is_empty() => out.push(b'-'),
            (Dress::Quoted, _) => escaped(out, text, is_special_in_quotes, escape_in_quotes),
            (Dress::Bare, _) => {
                let is_special = |byte: u8| {
                    is_special_in_quotes(byte) | (byte == b' ') | self.ends[usize::from(byte & 127)]
                };
                escaped(out, text, is_special, escape_bare);
            }
        }
    }

    /// Method, target and version, or what there is of them: as one text, so that nothing of it can pass for another field.
    fn request(&self, entry: Logged<'_>, dress: Dress, out: &mut Vec<u8>) {
        if entry.part(TextPart::Method).is_empty() {
            return self.text(entry.part(TextPart::Line), Absent::Empty, dress, out);
        }
        let words =
            [TextPart::Method, TextPart::Uri, TextPart::Protocol].map(|part| entry.part(part));
        self.text(&words.join(&b' '), Absent::Empty, dress, out);
    }

    fn vhost(&self, entry: Logged<'_>, dress: Dress, out: &mut Vec<u8>) {
        let host = entry.part(TextPart::Host);
        let named = host.rsplit(|&byte| byte == b']').next().unwrap_or_default();
        let has_port = named.contains(&b':');
        in_quotes(dress, out, |out| {
            let inner = if dress == Dress::Json { Dress::Quoted } else { dress };
            self.text(host, Absent::Empty, inner, out);
            if !has_port {
                put(out, ":80");
            }
        });
    }

    fn endpoint(&self, address: Option<&Address>, dress: Dress, out: &mut Vec<u8>) {
        match address {
            None => nothing(dress, out),
            Some(Address::Ip(SocketAddr::V4(address))) => in_quotes(dress, out, |out| {
                ip(out, IpAddr::V4(*address.ip()));
                out.push(b':');
                number(out, address.port().into());
            }),
            Some(other) => self.text(other.to_string().as_bytes(), Absent::Nothing, dress, out),
        }
    }
}

/// What a text that is empty means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// That there is none: `null` in JSON.
    Nothing,
    /// What it says.
    Empty,
}

fn of_json() -> Vec<LinePart> {
    let mut parts = Vec::new();
    for field in LogField::of_json() {
        let before = if parts.is_empty() { "{" } else { "," };
        parts.push(LinePart::Text(format!("{before}\"{}\":", field.name()).into_bytes().into()));
        parts.push(LinePart::Field(field, Dress::Json));
    }
    parts.push(LinePart::Text(b"}".as_slice().into()));
    parts
}

fn of(template: &LogTemplate) -> Vec<LinePart> {
    let part = |piece: &LogPiece| match piece {
        LogPiece::Text(text) => LinePart::Text(text.as_bytes().into()),
        LogPiece::Bare(field) => LinePart::Field(*field, Dress::Bare),
        LogPiece::Quoted(field) => LinePart::Field(*field, Dress::Quoted),
    };
    template.pieces().iter().map(part).collect()
}

/// The bytes with which text behind a bare field of somebody else's text begins, but for letters and digits, which separate nothing.
fn ends_of(parts: &[LinePart]) -> [bool; 128] {
    let mut ends = [false; 128];
    for pair in parts.windows(2) {
        if let [LinePart::Field(field, Dress::Bare), LinePart::Text(text)] = pair
            && field.is_foreign()
            && let Some(&first) = text.first()
            && first.is_ascii()
            && !first.is_ascii_alphanumeric()
        {
            ends[usize::from(first)] = true;
        }
    }
    ends
}

/// Whose request it was: what a trusted proxy says, else who is at the other end of the connection.
fn client(entry: Logged<'_>) -> IpAddr {
    let forwarded = std::str::from_utf8(entry.part(TextPart::Forwarded)).ok();
    let forwarded = forwarded.filter(|text| !text.is_empty()).and_then(|text| text.parse().ok());
    forwarded.unwrap_or(entry.facts.client)
}

fn nothing(dress: Dress, out: &mut Vec<u8>) {
    put(out, if dress == Dress::Json { "null" } else { "-" });
}

/// A word of ours.
fn word(word: Option<&str>, dress: Dress, out: &mut Vec<u8>) {
    match word {
        None => nothing(dress, out),
        Some(word) => in_quotes(dress, out, |out| put(out, word)),
    }
}

/// Microseconds as milliseconds with three decimals.
fn millis(micros: Option<u64>, dress: Dress, out: &mut Vec<u8>) {
    let Some(micros) = micros else { return nothing(dress, out) };
    number(out, micros / 1_000);
    out.push(b'.');
    thousandths(out, micros % 1_000);
}

/// What needs no escape, in quotes of its own if it is JSON.
fn in_quotes(dress: Dress, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let quote: &[u8] = if dress == Dress::Json { b"\"" } else { b"" };
    out.extend_from_slice(quote);
    write(out);
    out.extend_from_slice(quote);
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

/// Outside of quotes: without a quote, which could begin some.
fn escape_bare(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\\\"),
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
mod tests;
