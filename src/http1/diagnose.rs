//! The slow, exact reading of a head that is not whole or not right: what is wrong with the bytes that are there?
//!
//! Owns: the first fault in a head, found as soon as its byte has come. Does not own: reading good heads (`head`).
//! Invariant: a fault found in a prefix is found again, with the same status, in every longer input.

use super::foreign;
use super::syntax::{self, Line, QUERY, TOKEN};
use super::{BadMessage, Refusal};

/// No method that is in use comes near to it.
pub(crate) const MAX_METHOD: usize = 32;

const VERSION_PATTERN: &[u8; 8] = b"HTTP/0.0";
const STATUS_PATTERN: &[u8; 12] = b"HTTP/0.0 000";

/// The first fault of a request head, of which `input` may be a part. `field_limit` counts fields.
pub(crate) fn request(input: &[u8], field_limit: usize) -> Result<(), Refusal> {
    let Some(rest) = after_empty_line(input)? else { return Ok(()) };
    foreign::refuse(rest)?;
    match syntax::next_line(rest) {
        Ok(Line::Part(line)) => request_line(line, false),
        Ok(Line::Whole(line, rest)) => {
            request_line(line, true)?;
            field_lines(rest, field_limit)
        }
        Err(why) => {
            // What comes before the bare LF may have a fault of its own.
            request_line(rest.split(|&byte| byte == b'\n').next().unwrap_or_default(), false)?;
            Err(Refusal::bad(why))
        }
    }
}

/// The first fault of a response head, of which `input` may be a part.
pub(crate) fn response(input: &[u8], field_limit: usize) -> Result<(), BadMessage> {
    let bad = |why| BadMessage { why };
    foreign::refuse_response(input)?;
    match syntax::next_line(input).map_err(bad)? {
        Line::Part(line) => status_line(line, false).map_err(bad),
        Line::Whole(line, rest) => {
            status_line(line, true).map_err(bad)?;
            field_lines(rest, field_limit).map_err(BadMessage::from)
        }
    }
}

/// One empty line before a request is let pass (RFC 9112 section 2.2). None: more bytes are needed to know.
fn after_empty_line(input: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let rest = match input {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', rest @ ..] => rest,
        _ => return Ok(Some(input)),
    };
    match rest {
        [] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Refusal::bad("There is more than one empty line.")),
        _ => Ok(Some(rest)),
    }
}

fn request_line(line: &[u8], is_whole: bool) -> Result<(), Refusal> {
    let (method, rest) = word(line);
    let first_bytes = &method[..method.len().min(MAX_METHOD + 1)];
    if !syntax::all(first_bytes, TOKEN) || (method.is_empty() && (is_whole || rest.is_some())) {
        return Err(Refusal::bad("The request method is not valid."));
    }
    if method.len() > MAX_METHOD {
        return Err(Refusal::new(501, "The method is longer than any that is known."));
    }
    let (target, version) = rest.map_or((&[][..], None), word);
    if !target.iter().all(|&byte| syntax::is(byte, QUERY)) {
        return Err(Refusal::bad("The request target holds a character that is not allowed."));
    }
    match version {
        Some(_) if target.is_empty() => Err(Refusal::bad("Malformed request line.")),
        Some(version) => request_version(version, is_whole),
        None if is_whole => Err(Refusal::bad("The request line has no HTTP version.")),
        None => Ok(()),
    }
}

/// Text up to the first space, and what follows it.
fn word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b' ', text) {
        Some(space) => (&text[..space], Some(&text[space + 1..])),
        None => (text, None),
    }
}

/// A well-formed version that is not spoken is 505, anything else 400 (RFC 9110 section 15.6.6).
fn request_version(version: &[u8], is_whole: bool) -> Result<(), Refusal> {
    let is_other = |first: &[u8; 8]| fits(first, VERSION_PATTERN) && !is_spoken(first);
    if version.first_chunk().is_some_and(is_other) {
        return Err(Refusal::new(505, "Unsupported HTTP version; use HTTP/1.1 or HTTP/1.0."));
    }
    if !fits(version, VERSION_PATTERN) || (is_whole && version.len() != VERSION_PATTERN.len()) {
        return Err(Refusal::bad("The request line does not end in an HTTP version."));
    }
    Ok(())
}

fn is_spoken(version: &[u8]) -> bool {
    matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
}

/// RFC 9112 section 4, but the space before an empty reason may be missing.
fn status_line(line: &[u8], is_whole: bool) -> Result<(), &'static str> {
    let (start, reason) = line.split_at(line.len().min(STATUS_PATTERN.len()));
    let version_is_spoken = start.get(..8).is_none_or(is_spoken);
    let status_is_valid = start.get(9).is_none_or(|hundreds| matches!(hundreds, b'1'..=b'9'));
    let is_exact = fits(start, STATUS_PATTERN)
        && version_is_spoken
        && status_is_valid
        && !(is_whole && start.len() < STATUS_PATTERN.len())
        && matches!(reason.first(), None | Some(b' '))
        && syntax::all(reason, syntax::VALUE);
    is_exact.then_some(()).ok_or("Malformed status line.")
}

/// Is `text` the beginning of something that looks like `pattern`, where `0` stands for any digit?
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let same = |(&byte, &like): (&u8, &u8)| match like {
        b'0' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    text.len() <= pattern.len() && text.iter().zip(pattern).all(same)
}

fn field_lines(mut rest: &[u8], field_limit: usize) -> Result<(), Refusal> {
    let mut count = 0;
    loop {
        match syntax::next_line(rest).map_err(Refusal::bad)? {
            Line::Part(line) => return syntax::field_line_in_part(line).map_err(Refusal::bad),
            Line::Whole([], _) => return Ok(()),
            Line::Whole(line, next) => {
                syntax::field_line(line).map_err(Refusal::bad)?;
                rest = next;
            }
        }
        count += 1;
        if count > field_limit {
            return Err(Refusal::new(431, "There are too many header fields."));
        }
    }
}
