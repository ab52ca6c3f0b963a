//! Names of requests: `X-Request-ID` (no standard has the field; a UUID of version 7, RFC 9562 section 5.7, where it is made here), and
//! where random bits come from for that and for [`trace`](super::trace).
//!
//! Owns: which name of a client is kept, how one is made and written. Does not own: whether there are names (the configuration says),
//! or who is trusted.

/// Bytes that a kept name has at most.
pub const MAX_REQUEST_ID: usize = 128;

/// How one request is called, in the `X-Request-ID` that its target and its client get, and in the access log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RequestId {
    /// It has no name of ours.
    #[default]
    None,
    /// A UUID: made here, or a trusted client's that is written as ours are.
    Uuid([u8; 16]),
    /// Another name that a trusted client gave it. Of a length from 1 to [`MAX_REQUEST_ID`].
    Kept(Box<[u8]>),
}

impl RequestId {
    /// What a trusted client calls its request, if that can be passed on: one value of at most [`MAX_REQUEST_ID`] letters, digits
    /// and `-_.~:=+/@`, which mean nothing to a shell, a terminal or a log. Nothing is allocated for a UUID.
    #[must_use]
    pub fn keep(value: &[u8]) -> Option<RequestId> {
        let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~:=+/@".contains(byte);
        if !(1..=MAX_REQUEST_ID).contains(&value.len()) || !value.iter().all(is_sane) {
            return None;
        }
        Some(uuid_of(value).map_or_else(|| RequestId::Kept(value.into()), RequestId::Uuid))
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, RequestId::None)
    }

    /// Appends it as text; nothing if there is none.
    pub fn append(&self, out: &mut Vec<u8>) {
        match self {
            RequestId::None => {}
            RequestId::Uuid(bytes) => out.extend_from_slice(&uuid_text(bytes)),
            RequestId::Kept(text) => out.extend_from_slice(text),
        }
    }

    /// Appends the field line; nothing if there is none.
    pub(crate) fn append_field(&self, out: &mut Vec<u8>) {
        const NAME: &[u8; 14] = b"X-Request-ID: ";
        match self {
            RequestId::None => {}
            RequestId::Uuid(bytes) => {
                let mut line = [0; NAME.len() + UUID + 2];
                line[..NAME.len()].copy_from_slice(NAME);
                line[NAME.len()..NAME.len() + UUID].copy_from_slice(&uuid_text(bytes));
                line[NAME.len() + UUID..].copy_from_slice(b"\r\n");
                out.extend_from_slice(&line);
            }
            RequestId::Kept(text) => {
                for part in [NAME.as_slice(), text, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
    }
}

/// Length of a UUID in text.
const UUID: usize = 36;
/// Where the digits of each byte stand in it (RFC 9562 section 4).
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// Two hex digits for each byte.
static HEX: [[u8; 2]; 256] = hex();

const fn hex() -> [[u8; 2]; 256] {
    let (mut table, mut byte) = ([[0; 2]; 256], 0);
    while byte < 256 {
        table[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    table
}

/// Bytes as lower-case hex digits, two for each, at the places that `at` gives.
fn uuid_text(bytes: &[u8; 16]) -> [u8; UUID] {
    let mut text = [b'-'; UUID];
    for (byte, at) in bytes.iter().zip(PLACES) {
        text[at..at + 2].copy_from_slice(&HEX[usize::from(*byte)]);
    }
    text
}

/// The bytes of a UUID that is written as ours are.
fn uuid_of(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; UUID] = text.try_into().ok()?;
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip(PLACES) {
        *byte = hex_byte(text[at], text[at + 1])?;
    }
    (uuid_text(&bytes) == *text).then_some(bytes)
}

/// The byte of two lower-case hex digits.
pub(super) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Appends bytes as lower-case hex digits.
pub(super) fn append_hex<const LEN: usize>(bytes: &[u8; LEN], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend_from_slice(&HEX[usize::from(*byte)]);
    }
}

/// What new names are made of, by one worker: its wall clock, as it was last read, and random numbers that are no secret. Which names are
/// made is set here too: none by default.
#[derive(Debug, Clone, Default)]
pub struct IdSource {
    /// Requests get an `X-Request-ID` (`request_id`).
    pub request_ids: bool,
    /// Traces are taken part in (`trace`).
    pub traces: bool,
    /// Microseconds since 1970.
    micros: u64,
    random: u64,
}

impl IdSource {
    /// Has the random numbers begin at `seed`, which no other worker of any process should have.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// It is so many microseconds since 1970. A clock that was put back is followed.
    pub fn set_time(&mut self, micros: u64) {
        self.micros = micros;
    }

    /// A random number: wyrand, of which each of the 2^64 states has one successor, so that none comes again before all have been.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.random) * u128::from(self.random ^ 0xe703_7ed1_a0b4_28db);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are meant")]
        let mixed = (product >> 64) as u64 ^ product as u64;
        mixed
    }

    /// A new name, or none if they are off. A UUID of version 7: 48 bits of milliseconds, 12 bits of the fraction of one (RFC 9562
    /// section 6.2, method 3), so that names of one worker are in the order of their turns; 62 random bits.
    pub fn request_id(&mut self) -> RequestId {
        if !self.request_ids {
            return RequestId::None;
        }
        let (millis, rest) = (self.micros / 1_000, self.micros % 1_000);
        let fraction = rest * 4_096 / 1_000;
        let high = millis << 16 | 7 << 12 | fraction;
        let low = 0b10 << 62 | self.random() >> 2;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        RequestId::Uuid(bytes)
    }

    /// A trace that begins here.
    pub(super) fn trace_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        // One that is all zeros is not valid.
        id[..8].copy_from_slice(&self.random().max(1).to_be_bytes());
        id[8..].copy_from_slice(&self.random().to_be_bytes());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: &RequestId) -> String {
        let mut out = Vec::new();
        id.append(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn source(seed: u64) -> IdSource {
        IdSource { request_ids: true, random: seed, ..IdSource::default() }
    }

    #[test]
    fn a_name_is_a_uuid_of_version_7_with_the_time_in_front() {
        let mut ids = source(7);
        // The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22.000Z.
        ids.set_time(1_645_557_742_000_000);
        let id = text(&ids.request_id());
        assert!(id.starts_with("017f22e2-79b0-7000-"), "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "the variant: {id}");
        ids.set_time(1_645_557_742_000_999);
        assert!(text(&ids.request_id()).starts_with("017f22e2-79b0-7ffb-"));
    }

    #[test]
    fn names_are_in_the_order_of_time_and_no_two_are_equal() {
        let (mut one, mut other) = (source(1), source(2));
        let mut all = Vec::new();
        for micros in 0..2_000 {
            for ids in [&mut one, &mut other] {
                ids.set_time(1_800_000_000_000_000 + micros);
                all.push(text(&ids.request_id()));
            }
        }
        assert!(all.iter().step_by(2).is_sorted_by_key(|id| &id[..18]));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4_000);
    }

    #[test]
    fn nothing_is_made_unless_it_is_asked_for() {
        let id = IdSource::default().request_id();
        assert!(id.is_none());
        let mut out = Vec::new();
        id.append_field(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_name_is_kept_only_if_it_is_harmless() {
        let long = "a".repeat(MAX_REQUEST_ID);
        for kept in [
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
            "Root=1-67891233-abcdef012345678912345678",
            "a",
            "x_y.z~0:1+2/3@4",
            &long,
        ] {
            let id = RequestId::keep(kept.as_bytes()).unwrap();
            assert_eq!(text(&id), kept);
            let mut line = Vec::new();
            id.append_field(&mut line);
            assert_eq!(String::from_utf8(line).unwrap(), format!("X-Request-ID: {kept}\r\n"));
        }
        let longer = "a".repeat(MAX_REQUEST_ID + 1);
        for replaced in
            ["", " ", "a b", "a,b", "a;b", "\"a\"", "a\u{1b}[31m", "\u{e4}", "a\tb", &longer]
        {
            assert_eq!(RequestId::keep(replaced.as_bytes()), None, "{replaced:?}");
        }
        for byte in 0..=u8::MAX {
            let kept = RequestId::keep(&[byte]).is_some();
            assert!(
                !kept || byte.is_ascii_graphic() && !b"\"'`\\$<>{}[]()|&*?!#%,;^".contains(&byte)
            );
        }
    }

    #[test]
    fn a_uuid_takes_no_memory_of_its_own() {
        let id = RequestId::keep(b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f").unwrap();
        assert!(matches!(id, RequestId::Uuid(_)));
        assert!(size_of::<RequestId>() <= 24);
    }
}
