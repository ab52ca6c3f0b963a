//! Responses that evenly generates: refusals, 502 to 505, and to an OPTIONS whose Max-Forwards is 0.
//!
//! Owns: their bytes. Does not own: when one is sent, or whether the connection goes on.

use crate::base::decimal::number;
use crate::http::{RequestId, reason};
use crate::reason::Cause;

/// The methods that are served: the Allow field of a 405 and of a response to OPTIONS.
pub const ALLOW: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Appends a whole generated response. `why` is its body, a short sentence; where it is empty, and always for 503, the
/// body is the reason phrase. After HEAD (`head_only`) the body is left out and Content-Length stays (RFC 9110 section
/// 9.3.2). `told`: the cause that it says, and whether it says the detail (RFC 9209).
pub fn answer(
    (status, why): (u16, &str),
    request_id: &RequestId,
    told: Option<(Cause, bool)>,
    close: bool,
    head_only: bool,
    out: &mut Vec<u8>,
) {
    let reason = reason(status);
    let body = if why.is_empty() || status == 503 { reason } else { why };
    status_line(status, reason, out);
    if status == 405 {
        field("Allow", ALLOW, out);
    }
    field("Content-Type", "text/plain; charset=utf-8", out);
    out.extend_from_slice(b"Content-Length: ");
    number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n");
    if let Some((cause, in_detail)) = told {
        proxy_status(cause, in_detail, out);
    }
    end(request_id, close, out);
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Appends the response to an OPTIONS whose Max-Forwards is 0 (RFC 9110 section 7.6.2).
pub fn answer_options(request_id: &RequestId, close: bool, out: &mut Vec<u8>) {
    status_line(200, reason(200), out);
    field("Allow", ALLOW, out);
    field("Content-Length", "0", out);
    end(request_id, close, out);
}

/// Appends the field that says why (RFC 9209 section 2). Words and details are characters of a token, which a string may hold as they
/// are.
fn proxy_status(cause: Cause, in_detail: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Proxy-Status: evenly; error=");
    out.extend_from_slice(cause.reason.word().as_bytes());
    if let Some(fault) = cause.detail.filter(|_| in_detail) {
        for part in ["; details=\"", fault.name(), "\""] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Puts behind the fields of a whole `head` that the target sent this status: a member of its own, behind those of whoever the response
/// came through (RFC 9209 sections 2 and 2.1.4).
pub fn received_status(status: u16, head: &mut Vec<u8>) {
    head.truncate(head.len().saturating_sub(b"\r\n".len()));
    head.extend_from_slice(b"Proxy-Status: evenly; received-status=");
    number(head, u64::from(status));
    head.extend_from_slice(b"\r\n\r\n");
}

fn status_line(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn end(request_id: &RequestId, close: bool, out: &mut Vec<u8>) {
    request_id.append_field(out);
    if close {
        field("Connection", "close", out);
    }
    out.extend_from_slice(b"\r\n");
}
