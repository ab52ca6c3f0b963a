//! Response heads as old servers write them, put into the form that the rest of this room reads.
//!
//! Owns: which deviations of a response head have one meaning, and what is read instead: lines that all end in LF, a minor version
//! above 1 (RFC 9110 section 2.5), white space before a colon (RFC 9112 section 5.1), control characters in a value, which become
//! spaces (RFC 9110 section 5.5). Does not own: whether the mended head is valid; it is parsed like any other.
//! Invariants: requests never come here; a head with lines of both kinds, CRLF and LF alone, is not mended, since a line that ends
//! differently may be part of a value that somebody else chose.

use super::head::{FieldSpace, ResponseHead, parse_response};
use super::{Fault, HeadLimits, Progress};

/// Reads the response head at the start of `input`, mended if need be, and has `judge` look at it and at the bytes it is in. How
/// many bytes of the input it took, and what `judge` says.
///
/// # Errors
/// It is not a response head, nor can it be mended; or what `judge` finds.
#[inline]
pub fn read_response<R>(
    input: &[u8],
    limits: HeadLimits,
    judge: impl FnOnce(&ResponseHead<'_, '_>, &[u8]) -> Result<R, Fault>,
) -> Result<Progress<(usize, R)>, Fault> {
    let mut space = FieldSpace::new();
    match parse_response(input, limits, &mut space) {
        Ok(Progress::Partial) => Ok(Progress::Partial),
        Ok(Progress::Complete(head)) => Ok(Progress::Complete((head.len, judge(&head, input)?))),
        Err(bad) => read_mended(input, limits, bad, judge),
    }
}

/// Likewise, of a head that is not exact: `bad` is what is wrong with it.
fn read_mended<R>(
    input: &[u8],
    limits: HeadLimits,
    bad: Fault,
    judge: impl FnOnce(&ResponseHead<'_, '_>, &[u8]) -> Result<R, Fault>,
) -> Result<Progress<(usize, R)>, Fault> {
    let Some(mended) = mend_response(input, limits) else { return Err(bad) };
    // It has a CR more for each line. The limit is of the bytes that the target sent, and those were within it.
    let longer = HeadLimits { bytes: limits.bytes + mended.head.len(), ..limits };
    let mut space = FieldSpace::new();
    match parse_response(&mended.head, longer, &mut space)? {
        Progress::Partial if input.len() < limits.bytes => Ok(Progress::Partial),
        Progress::Partial => Err(bad),
        Progress::Complete(head) => {
            let taken = mended.taken.ok_or(bad)?;
            Ok(Progress::Complete((taken, judge(&head, &mended.head)?)))
        }
    }
}

/// A head in exact form.
struct Mended {
    /// The bytes to read instead.
    head: Vec<u8>,
    /// How many bytes of the input it stands for, if it is whole.
    taken: Option<usize>,
}

impl Mended {
    /// Adds a line of the input, which has lost its end: the first one is the status line.
    fn add_line(&mut self, line: &[u8]) {
        let is_status_line = self.head.is_empty();
        match is_status_line {
            true => status_line(line, &mut self.head),
            false => field_line(line, &mut self.head),
        }
    }
}

/// Mends the head at the start of `input`, as far as it has come. `None` if there is nothing to mend, or it cannot be.
fn mend_response(input: &[u8], limits: HeadLimits) -> Option<Mended> {
    let window = input.get(..limits.bytes.min(input.len()))?;
    let line_end = memchr::memchr(b'\n', window);
    let first = window.get(..line_end.unwrap_or(window.len()))?;
    let bare = line_end.is_some() && !first.ends_with(b"\r");
    let mut mended = Mended { head: Vec::with_capacity(window.len() + 64), taken: None };
    let mut rest = window;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest.get(..end)?;
        let text = match (line.strip_suffix(b"\r"), bare) {
            (Some(text), false) => text,
            (None, true) => line,
            _ => return None,
        };
        mended.add_line(text);
        mended.head.extend_from_slice(b"\r\n");
        rest = rest.get(end + 1..)?;
        if text.is_empty() {
            mended.taken = Some(window.len() - rest.len());
            break;
        }
    }
    if mended.taken.is_none() {
        // A line that has no end yet.
        mended.add_line(rest);
    }
    let len = mended.taken.unwrap_or(window.len());
    (window.get(..len) != Some(&*mended.head)).then_some(mended)
}

/// `HTTP/1.2` and above promise all that `HTTP/1.1` does.
fn status_line(line: &[u8], out: &mut Vec<u8>) {
    match line.strip_prefix(b"HTTP/1.") {
        Some([b'2'..=b'9', rest @ ..]) => {
            out.extend_from_slice(b"HTTP/1.1");
            out.extend_from_slice(rest);
        }
        _ => out.extend_from_slice(line),
    }
}

fn field_line(line: &[u8], out: &mut Vec<u8>) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let (name, rest) = line.split_at(colon);
    let blank = name.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let name =
        if rest.is_empty() || blank == name.len() { name } else { &name[..name.len() - blank] };
    out.extend_from_slice(name);
    // A CR or NUL may be meant for another parser: it stays, and is refused.
    let is_odd = |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\0');
    out.extend(rest.iter().map(|&byte| if is_odd(byte) { b' ' } else { byte }));
}
