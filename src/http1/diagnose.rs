//! The slow, exact reading of a head that is not whole or not right: what is wrong with the bytes that are there?
//!
//! Owns: the first fault in a head, found as soon as its byte has come. Does not own: reading good heads (`head`).
//! Invariant: a fault found in a prefix is found again, with the same status, in every longer input.

use super::Fault;
use super::foreign;
use super::line::{self, Line};
use crate::http::syntax::{self, QUERY, TOKEN};

/// No method that is in use comes near to it.
pub(crate) const MAX_METHOD: usize = 32;

const VERSION_PATTERN: &[u8; 8] = b"HTTP/0.0";
const STATUS_PATTERN: &[u8; 12] = b"HTTP/0.0 000";

/// The first fault of a request head, of which `input` may be a part. `field_limit` counts fields.
pub(crate) fn request(input: &[u8], field_limit: usize) -> Result<(), Fault> {
    let Some(rest) = after_empty_line(input)? else { return Ok(()) };
    foreign::refuse(rest)?;
    match line::next_line(rest) {
        Ok(Line::Part(line)) => request_line(line, false),
        Ok(Line::Whole(line, rest)) => {
            request_line(line, true)?;
            field_lines(rest, field_limit)
        }
        Err(why) => {
            // What comes before the bare LF may have a fault of its own.
            request_line(rest.split(|&byte| byte == b'\n').next().unwrap_or_default(), false)?;
            Err(why)
        }
    }
}

/// The first fault of a response head, of which `input` may be a part.
pub(crate) fn response(input: &[u8], field_limit: usize) -> Result<(), Fault> {
    foreign::refuse_response(input)?;
    match line::next_line(input)? {
        Line::Part(line) => status_line(line, false),
        Line::Whole(line, rest) => {
            status_line(line, true)?;
            field_lines(rest, field_limit)
        }
    }
}

/// One empty line before a request is let pass (RFC 9112 section 2.2). None: more bytes are needed to know.
fn after_empty_line(input: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let rest = match input {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', rest @ ..] => rest,
        _ => return Ok(Some(input)),
    };
    match rest {
        [] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Fault::EmptyLines),
        _ => Ok(Some(rest)),
    }
}

fn request_line(line: &[u8], is_whole: bool) -> Result<(), Fault> {
    let (method, rest) = word(line);
    let first_bytes = &method[..method.len().min(MAX_METHOD + 1)];
    if !syntax::all(first_bytes, TOKEN) || (method.is_empty() && (is_whole || rest.is_some())) {
        return Err(Fault::BadMethod);
    }
    if method.len() > MAX_METHOD {
        return Err(Fault::LongMethod);
    }
    let (target, version) = rest.map_or((&[][..], None), word);
    if !target.iter().all(|&byte| syntax::is(byte, QUERY)) {
        return Err(Fault::TargetCharacter);
    }
    match version {
        Some(_) if target.is_empty() => Err(Fault::BadRequestLine),
        Some(version) => request_version(version, is_whole),
        None if is_whole => Err(Fault::NoVersion),
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
fn request_version(version: &[u8], is_whole: bool) -> Result<(), Fault> {
    let is_other = |first: &[u8; 8]| fits(first, VERSION_PATTERN) && !is_spoken(first);
    if version.first_chunk().is_some_and(is_other) {
        return Err(Fault::OtherVersion);
    }
    if !fits(version, VERSION_PATTERN) || (is_whole && version.len() != VERSION_PATTERN.len()) {
        return Err(Fault::BadVersion);
    }
    Ok(())
}

fn is_spoken(version: &[u8]) -> bool {
    matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
}

/// RFC 9112 section 4, but the space before an empty reason may be missing.
fn status_line(line: &[u8], is_whole: bool) -> Result<(), Fault> {
    let (start, reason) = line.split_at(line.len().min(STATUS_PATTERN.len()));
    let version_is_spoken = start.get(..8).is_none_or(is_spoken);
    let status_is_valid = start.get(9).is_none_or(|hundreds| matches!(hundreds, b'1'..=b'9'));
    let is_exact = fits(start, STATUS_PATTERN)
        && version_is_spoken
        && status_is_valid
        && !(is_whole && start.len() < STATUS_PATTERN.len())
        && matches!(reason.first(), None | Some(b' '))
        && syntax::all(reason, syntax::VALUE);
    is_exact.then_some(()).ok_or(Fault::BadStatusLine)
}

/// Is `text` the beginning of something that looks like `pattern`, where `0` stands for any digit?
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let same = |(&byte, &like): (&u8, &u8)| match like {
        b'0' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    text.len() <= pattern.len() && text.iter().zip(pattern).all(same)
}

fn field_lines(mut rest: &[u8], field_limit: usize) -> Result<(), Fault> {
    let mut count = 0;
    loop {
        match line::next_line(rest)? {
            Line::Part(line) => return line::field_line_in_part(line),
            Line::Whole([], _) => return Ok(()),
            Line::Whole(line, next) => {
                line::field_line(line)?;
                rest = next;
            }
        }
        count += 1;
        if count > field_limit {
            return Err(Fault::TooManyFields);
        }
    }
}
