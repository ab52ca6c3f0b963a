//! What a proxy says of itself and of its client (RFC 9110 section 7.6.3; `X-Forwarded-For` has no standard).

use std::net::IpAddr;

use super::syntax;

/// Where a client's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The other end of it.
    pub ip: IpAddr,
    /// Whether it is in `trusted_proxies`: then the `X-Forwarded-*` fields of its requests are kept.
    pub trusted: bool,
}

/// What one instance of this program calls itself in `Via`: `evenly-` and 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    /// The whole line of a message that came as HTTP/1.1.
    line: [u8; VIA_LINE.len()],
}

const VIA_LINE: &[u8; 34] = b"Via: 1.1 evenly-0123456789abcdef\r\n";
/// Where the minor version stands in it.
const VIA_MINOR: usize = "Via: 1.".len();
const VIA_NAME: std::ops::Range<usize> = "Via: 1.1 ".len()..VIA_LINE.len() - 2;

impl Pseudonym {
    /// That of an instance with this number.
    #[must_use]
    pub const fn new(instance: u64) -> Self {
        let mut line = *VIA_LINE;
        let mut place = 0;
        while place < 16 {
            let digit = (instance >> (place * 4)) & 15;
            line[VIA_NAME.end - 1 - place] = b"0123456789abcdef"[digit as usize];
            place += 1;
        }
        Self { line }
    }

    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.line[VIA_NAME]
    }

    /// Is a hop of a `Via` field, as its element has it, by the instance that calls itself so?
    pub(crate) fn is_by(&self, hop: &[u8]) -> bool {
        let mut words =
            hop.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(self.name()))
    }

    /// How many of the hops of this `Via` field are by the instance that calls itself so?
    pub(crate) fn count_in(&self, via: &[u8]) -> usize {
        syntax::list(via).filter(|hop| self.is_by(hop)).count()
    }

    /// Appends the field line for a message that was received as HTTP/1.1, or as HTTP/1.0 if it is `old`.
    pub(crate) fn append(&self, old: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.line);
        if old && let Some(minor) = out.get_mut(start + VIA_MINOR) {
            *minor = b'0';
        }
    }
}
