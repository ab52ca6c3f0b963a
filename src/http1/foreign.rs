//! What does not speak HTTP/1.x, told by its first bytes: people point the wrong client, or the wrong kind of load
//! balancer, at a port, and "The request method is not valid." does not tell them which.
//!
//! Owns: the list of such protocols and the sentence for each. Does not own: that it is refused (`diagnose` refuses all of
//! it in any case), what is logged of it (`engine`).

use super::{BadMessage, Refusal};

/// For clients that speak TLS.
pub const TLS: &str = "The client speaks TLS, but this port speaks plain HTTP: use http:// for it, or put a TLS terminator in front.";
/// For load balancers in front that send a PROXY protocol header, of version 1 or 2.
pub const PROXY: &str = "The connection begins with a PROXY protocol header, which is not supported: turn it off in the load balancer in front.";
/// For clients that begin with HTTP/2 (RFC 9113 section 3.3).
pub const HTTP_2: &str = "The client speaks HTTP/2 from the start, but this port speaks HTTP/1.1 alone: turn HTTP/2 (h2c, gRPC) off for it.";

/// For targets that speak TLS.
pub const TLS_TARGET: &str = "The target speaks TLS, but requests are sent to it as plain HTTP: use the port where it speaks that.";
/// For targets that begin with HTTP/2.
pub const HTTP_2_TARGET: &str =
    "The target speaks HTTP/2 alone, but requests are sent to it as HTTP/1.1: turn that on there.";

/// A TLS record that holds a handshake message (RFC 8446 section 5.1): the first thing that any client of TLS sends, and a
/// control character to HTTP.
const HANDSHAKE: u8 = 0x16;
/// A PROXY protocol header, version 2, behind the two empty lines with which it begins.
const SIGNATURE: &[u8] = b"\0\r\nQUIT\n";
/// A PROXY protocol header, version 1, as far as it is always the same.
const LINES: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
/// The line with which HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Refuses what begins as another protocol does. No valid request begins so.
pub(super) fn refuse(start: &[u8]) -> Result<(), Refusal> {
    if start.first() == Some(&HANDSHAKE) {
        return Err(Refusal::bad(TLS));
    }
    if start.starts_with(SIGNATURE) || LINES.iter().any(|line| start.starts_with(line)) {
        return Err(Refusal::bad(PROXY));
    }
    if start.starts_with(PREFACE) {
        return Err(Refusal::new(505, HTTP_2));
    }
    Ok(())
}

/// A TLS record that holds an alert, as an answer to what is not TLS.
const ALERT: u8 = 0x15;
/// A SETTINGS frame of HTTP/2, behind the byte that is the length (RFC 9113 section 4.1).
const SETTINGS: u8 = 4;

/// Refuses a response that begins as another protocol does. No response of HTTP/1.x begins so.
pub(super) fn refuse_response(start: &[u8]) -> Result<(), BadMessage> {
    match start {
        [ALERT | HANDSHAKE, ..] => Err(BadMessage { why: TLS_TARGET }),
        [0, 0, _, SETTINGS, ..] => Err(BadMessage { why: HTTP_2_TARGET }),
        _ => Ok(()),
    }
}

/// Whether a request was refused with `why` because it is of another protocol.
#[must_use]
pub fn is_foreign(why: &str) -> bool {
    [TLS, PROXY, HTTP_2].contains(&why)
}
