//! Trace context (W3C Trace Context, level 2): the fields `traceparent` and `tracestate`, by which the spans of one request are found in
//! everything that it passes.
//!
//! Owns: what is valid, and what is sent on by one who takes part. Does not own: whether anybody does; without that both fields pass
//! as they are.

use super::ids::{IdSource, append_hex, hex_byte};
use super::syntax;

/// The caller has recorded the request, or may have (section 3.2.2.5.1).
const SAMPLED: u8 = 1;
/// The trace has at least 56 random bits (section 3.2.2.5.2).
const RANDOM: u8 = 2;
/// Members that a `tracestate` has at most (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Characters of a key, and of a value, at most (section 3.3.1.3).
const MAX_PART: usize = 256;

/// One step of a request's way: a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    /// Who sends it.
    parent: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// What a `traceparent` says (section 3.2): `00-` 32 hex digits `-` 16 hex digits `-` 2 hex digits, in lower case. Of a later version
    /// more may follow behind another dash. `None` if it is malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        /// Length of what version 00 has.
        const WHOLE: usize = 55;
        let (own, more) = value.split_at_checked(WHOLE)?;
        let is_dashed = [2, 35, 52].iter().all(|&at| own.get(at) == Some(&b'-'));
        let [version] = bytes(own.get(..2)?)?;
        let may_follow = match (version, more.first()) {
            (0xff, _) => false,
            (_, None) => true,
            (0, Some(_)) => false,
            (_, Some(next)) => *next == b'-',
        };
        let trace = bytes(own.get(3..35)?)?;
        let parent = bytes(own.get(36..52)?)?;
        let [flags] = bytes(own.get(53..)?)?;
        let is_valid = is_dashed && may_follow && trace != [0; 16] && parent != [0; 8];
        is_valid.then_some(TraceParent { trace, parent, flags })
    }

    /// What the `traceparent` fields of a request say; `None` if there is not exactly one or it is malformed.
    pub(crate) fn only<'b>(mut values: impl Iterator<Item = &'b [u8]>) -> Option<TraceParent> {
        let one = values.next()?;
        values.next().is_none().then(|| TraceParent::parse(one)).flatten()
    }

    /// The next step after `came`: the same trace and the flags that are known, from a parent of its own. Without one a new trace
    /// begins, sampled, as those behind us are to decide: most of them follow what they are asked for.
    #[must_use]
    pub fn next(came: Option<TraceParent>, ids: &mut IdSource) -> TraceParent {
        // One that is all zeros is not valid.
        let parent = ids.random().max(1).to_be_bytes();
        match came {
            Some(came) => TraceParent { parent, flags: came.flags & (SAMPLED | RANDOM), ..came },
            None => TraceParent { trace: ids.trace_id(), parent, flags: SAMPLED | RANDOM },
        }
    }

    /// Appends the name of the trace: 32 hex digits.
    pub fn append_trace(&self, out: &mut Vec<u8>) {
        append_hex(&self.trace, out);
    }

    /// Appends the field line, of version 00.
    pub(crate) fn append_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"traceparent: 00-");
        append_hex(&self.trace, out);
        out.push(b'-');
        append_hex(&self.parent, out);
        out.push(b'-');
        append_hex(&[self.flags], out);
        out.extend_from_slice(b"\r\n");
    }
}

/// The bytes of lower-case hex digits, exactly so many.
fn bytes<const LEN: usize>(digits: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != LEN || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_byte(*high, *low)?;
    }
    Some(bytes)
}

/// Whether what the `tracestate` fields of a request say together may be passed on (section 3.3.1): at most 32 members with valid
/// keys and values, at least one. Two of the same key are left for the one who reads them.
pub(crate) fn state_is_valid<'b>(values: impl Iterator<Item = &'b [u8]>) -> bool {
    let mut members = 0;
    for member in values.flat_map(syntax::list).filter(|member| !member.is_empty()) {
        members += 1;
        if members > MAX_MEMBERS || !is_member(member) {
            return false;
        }
    }
    members > 0
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'=', member) else { return false };
    let (key, value) = (&member[..at], &member[at + 1..]);
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: &u8| begins(byte) || b"_-*/@".contains(byte);
    let is_value = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=MAX_PART).contains(&key.len())
        && (1..=MAX_PART).contains(&value.len())
        && key.first().is_some_and(begins)
        && key.iter().all(goes_on)
        && value.iter().all(is_value)
        && value.last() != Some(&b' ')
}

#[cfg(test)]
mod tests;
