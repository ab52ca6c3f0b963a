//! What a proxy says of itself and of its client (RFC 9110 section 7.6.3; `X-Forwarded-For` has no standard).

use std::net::IpAddr;

use super::syntax;

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

    /// Is one of the hops of this `Via` field by the instance that calls itself so?
    pub(crate) fn is_in(&self, via: &[u8]) -> bool {
        syntax::list(via).any(|hop| self.is_by(hop))
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

/// Each octet in decimal with a dot behind it, and how many digits it has: to divide for them costs ten times as much.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (text, len) = &mut table[octet];
        let mut power = if octet >= 100 {
            100
        } else if octet >= 10 {
            10
        } else {
            1
        };
        while power > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "a digit")]
            let digit = (octet / power % 10) as u8;
            text[*len as usize] = b'0' + digit;
            *len += 1;
            power /= 10;
        }
        octet += 1;
    }
    table
}

/// An address as people write it; an IPv4 one in IPv6 clothes as IPv4.
pub(crate) fn address(client: IpAddr, out: &mut Vec<u8>) {
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let (mut text, mut len) = ([0; "255.255.255.255.".len()], 0);
            for octet in v4.octets() {
                let (written, digits) = OCTETS[usize::from(octet)];
                text[len..len + 4].copy_from_slice(&written);
                len += usize::from(digits) + 1;
            }
            out.extend_from_slice(&text[..len - 1]);
        }
        IpAddr::V6(v6) => {
            use std::io::Write;
            // Writing to a Vec does not fail.
            let _ = write!(out, "{v6}");
        }
    }
}
