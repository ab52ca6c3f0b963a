//! Lines of a head or a trailer section (RFC 9112 sections 2.2 and 5).
//!
//! Owns: where a line ends, and what a field line consists of. Does not own: what a field means.

use crate::http::Fault;
use crate::http::syntax::{TOKEN, VALUE, all, trim};

/// A line as far as it has come.
#[derive(Clone, Copy)]
pub(crate) enum Line<'a> {
    /// A line without its CRLF, and what follows.
    Whole(&'a [u8], &'a [u8]),
    /// No end yet; a last CR is left out.
    Part(&'a [u8]),
}

/// The first line of `input`. Refuses a bare LF; a bare CR stays in the line, where no production allows it.
pub(crate) fn next_line(input: &[u8]) -> Result<Line<'_>, Fault> {
    let Some(lf) = memchr::memchr(b'\n', input) else {
        return Ok(Line::Part(input.strip_suffix(b"\r").unwrap_or(input)));
    };
    let line = input[..lf].strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
    Ok(Line::Whole(line, &input[lf + 1..]))
}

/// Name and trimmed value of a whole field line (RFC 9112 section 5).
pub(crate) fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    begins_with_text(line)?;
    let colon = memchr::memchr(b':', line).ok_or(Fault::NoColon)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() {
        return Err(Fault::NoFieldName);
    }
    field_name_bytes(name)?;
    field_value_bytes(value)?;
    Ok((name, trim(value)))
}

/// What can be said of a field line that has no end yet.
pub(crate) fn field_line_in_part(line: &[u8]) -> Result<(), Fault> {
    match memchr::memchr(b':', line) {
        None => field_name_bytes(line),
        Some(_) => field_line(line).map(|_| ()),
    }
}

/// A line that continues the one before it (obs-fold, RFC 9112 section 5.2) is refused, whatever it holds.
fn begins_with_text(line: &[u8]) -> Result<(), Fault> {
    match line.first() {
        Some(b' ' | b'\t') => Err(Fault::FoldedLine),
        _ => Ok(()),
    }
}

fn field_name_bytes(name: &[u8]) -> Result<(), Fault> {
    begins_with_text(name)?;
    all(name, TOKEN).then_some(()).ok_or(Fault::FieldNameCharacter)
}

fn field_value_bytes(value: &[u8]) -> Result<(), Fault> {
    all(value, VALUE).then_some(()).ok_or(Fault::FieldValueCharacter)
}
