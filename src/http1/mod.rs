//! HTTP/1.1 as bytes: heads, framing, bodies and the rewriting a proxy owes both sides (RFC 9110, RFC 9112).
