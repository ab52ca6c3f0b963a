//! The character sets of RFC 9110 and RFC 3986, and the few productions built right on them.
//!
//! Owns: which byte may stand where. Does not own: what a field means.

use std::net::Ipv6Addr;

/// A byte of a token: method, field name, connection option (RFC 9110 section 5.6.2).
pub(crate) const TOKEN: u8 = 1;
/// A byte of a path, `%` included, and `[` `]` `|` `^`, which browsers send raw (RFC 3986 section 3.3).
pub(crate) const PATH: u8 = 2;
/// A byte of a query, `%` included, and the raw ``{}|^`[]\`` that browsers send (RFC 3986 section 3.4).
pub(crate) const QUERY: u8 = 4;
/// A byte of a field value or reason phrase (RFC 9110 section 5.5).
pub(crate) const VALUE: u8 = 8;
/// A byte of a registered name, `%` included (RFC 3986 section 3.2.2).
pub(crate) const REG_NAME: u8 = 16;
/// `%` alone.
const PERCENT: u8 = 32;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    mark(&mut table, b"!#$%&'*+-.^_`|~", TOKEN);
    mark(&mut table, b"-._~%!$&'()*+,;=", PATH | QUERY | REG_NAME);
    mark(&mut table, b":@/[]|^", PATH | QUERY);
    mark(&mut table, b"?{}`\\", QUERY);
    mark(&mut table, b"%", PERCENT);
    table[b'\t' as usize] |= VALUE;
    let mut byte = b' ';
    loop {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] |= TOKEN | PATH | QUERY | REG_NAME;
        }
        if byte != 0x7f {
            table[byte as usize] |= VALUE;
        }
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn mark(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] |= class;
        i += 1;
    }
}

/// Is `byte` in one of the classes?
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Are all of `bytes` in one of the classes? True for none.
#[inline]
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&byte| is(byte, class))
}

/// Is it a token: at least one byte, all of them token bytes?
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// `bytes` without the optional white space around it (RFC 9110 section 5.6.3).
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(is_text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_text).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// The elements of a comma-separated list, trimmed, empty ones included (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// A number of digits only, at most `i64::MAX`: a bigger one overflows in somebody's parser.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    /// So many digits are below `i64::MAX` whatever they are.
    const SURE: usize = 18;
    let (sure, more) = digits.split_at(digits.len().min(SURE));
    if sure.is_empty() {
        return None;
    }
    let mut value = 0;
    for &byte in sure {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    for &byte in more {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

/// The bytes at the start of `text` that are in `class`, and what follows; `None` if a `%` among them is not followed by
/// two hex digits.
#[inline]
pub(crate) fn run_of(text: &[u8], class: u8) -> Option<(&[u8], &[u8])> {
    let mut seen = 0;
    let end = text.iter().position(|&byte| {
        let classes = CLASSES[usize::from(byte)];
        seen |= classes;
        classes & class == 0
    });
    let (run, rest) = text.split_at(end.unwrap_or(text.len()));
    (seen & PERCENT == 0 || percent_is_exact(run)).then_some((run, rest))
}

/// Is each `%` followed by two hex digits (RFC 3986 section 2.1)?
fn percent_is_exact(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'%', bytes).all(|at| {
        bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `host [":" port]` with a host (RFC 9110 sections 4.2.1 and 7.2): no userinfo, nothing around it, port at most 65535.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host_is_valid, rest) = match text.strip_prefix(b"[") {
        Some(inner) => {
            let Some(end) = memchr::memchr(b']', inner) else { return false };
            (is_ip_literal(&inner[..end]), &inner[end + 1..])
        }
        // An IPv4 address is a registered name too, as far as characters go (RFC 3986 section 3.2.2).
        None => {
            let Some((host, rest)) = run_of(text, REG_NAME) else { return false };
            (!host.is_empty(), rest)
        }
    };
    host_is_valid && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

/// `*DIGIT` (RFC 3986 section 3.2.3), and a number that is a port.
fn is_port(digits: &[u8]) -> bool {
    digits.is_empty() || number(digits).is_some_and(|port| port <= u64::from(u16::MAX))
}

/// What stands between brackets: an IPv6 address without zone, or `v` hex `.` anything of a future version.
fn is_ip_literal(inner: &[u8]) -> bool {
    if let Some(future) = inner.strip_prefix(b"v").or_else(|| inner.strip_prefix(b"V")) {
        let Some(dot) = memchr::memchr(b'.', future) else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&b| b != b'%' && (is(b, REG_NAME) || b == b':'));
    }
    std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}
