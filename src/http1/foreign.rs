//! What does not speak HTTP/1.x, told by its first bytes: people point the wrong client, or the wrong kind of load
//! balancer, at a port, and "The request method is not valid." does not tell them which.
//!
//! Owns: the list of such protocols. Does not own: that it is refused (`diagnose` refuses all of
//! it in any case), what is logged of it (`engine`).

use super::Fault;

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
pub(super) fn refuse(start: &[u8]) -> Result<(), Fault> {
    if start.first() == Some(&HANDSHAKE) {
        return Err(Fault::ClientSpeaksTls);
    }
    if start.starts_with(SIGNATURE) || LINES.iter().any(|line| start.starts_with(line)) {
        return Err(Fault::ProxyProtocol);
    }
    if start.starts_with(PREFACE) {
        return Err(Fault::ClientSpeaksHttp2);
    }
    Ok(())
}

/// A TLS record that holds an alert, as an answer to what is not TLS.
const ALERT: u8 = 0x15;
/// A SETTINGS frame of HTTP/2, behind the byte that is the length (RFC 9113 section 4.1).
const SETTINGS: u8 = 4;

/// Refuses a response that begins as another protocol does. No response of HTTP/1.x begins so.
pub(super) fn refuse_response(start: &[u8]) -> Result<(), Fault> {
    match start {
        [ALERT | HANDSHAKE, ..] => Err(Fault::TargetSpeaksTls),
        [0, 0, _, SETTINGS, ..] => Err(Fault::TargetSpeaksHttp2),
        _ => Ok(()),
    }
}
