//! Messages that parsers are known to read differently, and sound ones to make more of.

use crate::random::{Random, mutate};

/// What stands between `POST / HTTP/1.1 CRLF Host: a CRLF` and the end of the head; `hello` in both framings follows.
const FIELD_LINES: &[&[u8]] = &[
    b"",
    b"Content-Length: 5\r\n",
    b"content-length:5\r\n",
    b"Content-Length: 05\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: 5.\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 5 5\r\n",
    b"Content-Length: 5,5\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Content-Length: \"5\"\r\n",
    b"Content-Length: 5\x0b\r\n",
    b"Content-Length: \xa05\r\n",
    b"Content-Length:\r\n",
    b"Content-Length: \t5 \t\r\n",
    b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nContent-Length: 05\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: 9223372036854775808\r\n",
    b"Content-Length : 5\r\n",
    b" Content-Length: 5\r\n",
    b"Content-Length\r\n",
    b"Content_Length: 5\r\n",
    b"X: y\r\n Content-Length: 5\r\n",
    b"X: y\nContent-Length: 5\r\n",
    b"X: y\rContent-Length: 5\r\n",
    b"X: y\r\n\nContent-Length: 5\r\n",
    b"X: \0\r\nContent-Length: 5\r\n",
    b": y\r\nContent-Length: 5\r\n",
    b"X\0: y\r\nContent-Length: 5\r\n",
    b"\xff: y\r\nContent-Length: 5\r\n",
    b"X: \xff\x80\r\nContent-Length: 5\r\n",
    b"Connection: Content-Length\r\nContent-Length: 5\r\n",
    b"Connection: close\r\nContent-Length: 5\r\n",
    b"Connection: close, keep-alive\r\nContent-Length: 5\r\n",
    b"Connection: keep-alive\r\nConnection: close\r\nContent-Length: 5\r\n",
    b"Expect: 100-continue\r\nContent-Length: 5\r\n",
    b"Expect: 200-ok\r\nContent-Length: 5\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:chunked\r\n",
    b"TRANSFER-ENCODING: CHUNKED\r\n",
    b"Transfer-Encoding: \tchunked\t \r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: chunked,\r\n",
    b"Transfer-Encoding: ,chunked\r\n",
    b"Transfer-Encoding: chunked;x=1\r\n",
    b"Transfer-Encoding: \"chunked\"\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunkedx\r\n",
    b"Transfer-Encoding: chun\r\n ked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: chunked\x00\r\n",
    b"Transfer-Encoding: chunked\x7f\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\n",
    b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
    b"A: 1\r\nB: 2\r\na: 3\r\nA: 1\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 5\r\nForwarded: for=1\r\n",
];

/// Lines without a fault and without a word on framing.
const SOUND_LINES: &[&[u8]] = &[
    b"A: 1\r\nB: 2\r\na: 3\r\n",
    b"Connection: keep-alive, A\r\n",
    b"Connection: TE\r\nTE: trailers\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Cookie: a=b; c=d\r\n",
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n",
    b"X-Real-IP: 1\r\nX-Forwarded-Proto: https\r\n",
    b"X-Empty:\r\nX-Spaces: \t a \t b \t\r\n",
    b"Expect: 100-continue\r\n",
    b"Trailer: X-Sum\r\n",
];

/// Chunked bodies.
const CHUNKED: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
    b"5;a=\"x;y\\\"\"\r\nhello\r\n0\r\n\r\n",
    b"5 ;a\r\nhello\r\n0\r\n\r\n",
    b"5\t\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n0\r\n\r\n",
    b"5;a\rhello\r\n0\r\n\r\n",
    b"5;\0\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"05\r\nhello\r\n00\r\n\r\n",
    b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5g\r\nhello\r\n0\r\n\r\n",
    b"5,5\r\nhello\r\n0\r\n\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"7fffffffffffffff\r\nhello",
    b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n",
    b"5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: 1\n\r\n",
    b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
    b"5\r\nhell",
];

/// First lines of requests, without their CRLF.
const REQUEST_LINES: &[&[u8]] = &[
    b"GET / HTTP/1.1",
    b"GET /a/b;c=d?e=f&g HTTP/1.1",
    b"GET /?a?b/c%20d HTTP/1.1",
    b"GET // HTTP/1.1",
    b"GET /../a HTTP/1.1",
    b"GET /%2e%2E/%00 HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET /a\\b HTTP/1.1",
    b"GET /a|b[c] HTTP/1.1",
    b"GET /?{a}|^`\" HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /a\0b HTTP/1.1",
    b"GET /a\x7fb HTTP/1.1",
    b"GET /a\tb HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET\t/ HTTP/1.1",
    b" GET / HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET / HTTP/0.9",
    b"GET /",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / HTTP/1.10",
    b"GET / HTTP/01.1",
    b"GET / http/1.1",
    b"GET / HTTP/1,1",
    b"GET http://a/b HTTP/1.1",
    b"GET http://b HTTP/1.1",
    b"GET HTTP://b?c HTTP/1.1",
    b"GET http://u@b/ HTTP/1.1",
    b"GET http://u:p@b:1/ HTTP/1.1",
    b"GET http://b:/ HTTP/1.1",
    b"GET http://b:99999/ HTTP/1.1",
    b"GET http://b:x/ HTTP/1.1",
    b"GET http://[::1]:80/ HTTP/1.1",
    b"GET http://[::1/ HTTP/1.1",
    b"GET http://b%41/ HTTP/1.1",
    b"GET http:/// HTTP/1.1",
    b"GET https://b/ HTTP/1.1",
    b"GET ftp://b/ HTTP/1.1",
    b"GET a HTTP/1.1",
    b"GET ?a HTTP/1.1",
    b"GET * HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"OPTIONS http://b HTTP/1.1",
    b"OPTIONS / HTTP/1.1",
    b"CONNECT b:443 HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"get / HTTP/1.1",
    b"G\xc3\xa9T / HTTP/1.1",
    b"G(T / HTTP/1.1",
    b"!#$%&'*+-.^_`|~ / HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"HEAD / HTTP/1.1",
    b"HTTP/1.1 200 OK",
    b"\x16\x03\x01\x02\x00\x01",
];

/// First lines of responses, without their CRLF.
const STATUS_LINES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200 \xe9\x80 x",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 200\tOK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 +20 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 600 OK",
    b"HTTP/1.1 999 OK",
    b"HTTP/1.1 200 O\0K",
    b"HTTP/1.2 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/2 200",
    b"http/1.1 200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 205 Reset Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 500 x",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade",
    b"\r\nHTTP/1.1 200 OK",
    b" HTTP/1.1 200 OK",
];

/// Empty lines before a request.
const BEFORE: &[&[u8]] = &[b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" \r\n"];

const PLAIN_BODY: &[u8] = b"hello";

/// A head, and behind it what its framing field seems to ask for.
fn with_body(first: &[u8], fields: &[u8]) -> Vec<u8> {
    let chunked = fields.windows(6).any(|six| six.eq_ignore_ascii_case(b"chunke"));
    let body = if chunked { CHUNKED[0] } else { PLAIN_BODY };
    let has_body = fields.windows(6).any(|six| six.eq_ignore_ascii_case(b"length"));
    let body = if has_body || chunked { body } else { b"" };
    [first, b"\r\n", fields, b"\r\n", body].concat()
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let host = |fields: &[u8]| [&b"Host: a\r\n"[..], fields].concat();
    let chunked = host(b"Transfer-Encoding: chunked\r\n");
    let head = |first: &[u8], fields: &[u8]| [first, b"\r\n", fields, b"\r\n"].concat();
    let mut seeds = Vec::new();
    seeds.extend(REQUEST_LINES.iter().map(|line| with_body(line, &host(b""))));
    seeds.extend(REQUEST_LINES.iter().map(|line| with_body(line, &host(FIELD_LINES[1]))));
    seeds.extend(FIELD_LINES.iter().map(|lines| with_body(b"POST / HTTP/1.1", &host(lines))));
    seeds.extend(FIELD_LINES.iter().map(|lines| with_body(b"POST / HTTP/1.0", &host(lines))));
    seeds.extend(
        CHUNKED.iter().map(|body| [head(b"PUT /c HTTP/1.1", &chunked), body.to_vec()].concat()),
    );
    seeds.extend(BEFORE.iter().map(|before| [before, &seeds[0][..]].concat()).collect::<Vec<_>>());
    seeds
}

pub(crate) fn responses() -> Vec<Vec<u8>> {
    let head = |fields: &[u8]| [b"HTTP/1.1 200 OK\r\n", fields, b"\r\n"].concat();
    let chunked = head(b"Transfer-Encoding: chunked\r\n");
    let mut seeds = Vec::new();
    seeds.extend(STATUS_LINES.iter().map(|line| with_body(line, b"")));
    seeds.extend(STATUS_LINES.iter().map(|line| with_body(line, FIELD_LINES[1])));
    seeds
        .extend(STATUS_LINES.iter().map(|line| with_body(line, b"Transfer-Encoding: chunked\r\n")));
    seeds.extend(FIELD_LINES.iter().map(|lines| with_body(b"HTTP/1.1 200 OK", lines)));
    seeds.extend(FIELD_LINES.iter().map(|lines| with_body(b"HTTP/1.0 404 Not Found", lines)));
    seeds.extend(CHUNKED.iter().map(|body| [&chunked[..], body].concat()));
    seeds
}

fn one_of<'a>(random: &mut Random, of: &[&'a [u8]]) -> &'a [u8] {
    of[random.below(of.len())]
}

/// A message put together from parts of all tables.
fn assembled(random: &mut Random, firsts: &[&[u8]]) -> Vec<u8> {
    let first = if random.one_in(2) { firsts[0] } else { one_of(random, firsts) };
    let mut message = [first, b"\r\nHost: a\r\n"].concat();
    let is_sound = random.one_in(2);
    for _ in 0..random.below(4) {
        message.extend_from_slice(one_of(random, if is_sound { SOUND_LINES } else { FIELD_LINES }));
    }
    let (fields, body) = match random.below(4) {
        0 => (&b""[..], &b""[..]),
        1 => (FIELD_LINES[1], PLAIN_BODY),
        _ => (&b"Transfer-Encoding: chunked\r\n"[..], one_of(random, CHUNKED)),
    };
    let fields = if is_sound { fields } else { b"" };
    [&message, fields, b"\r\n", body].concat()
}

fn made_of(random: &mut Random, seeds: &[Vec<u8>], firsts: &[&[u8]]) -> Vec<u8> {
    let message = match random.below(4) {
        0 | 1 => return assembled(random, firsts),
        2 => assembled(random, firsts),
        _ => random.pick(seeds).clone(),
    };
    let other = random.pick(seeds);
    mutate(random, &message, other)
}

/// One to three requests, one behind the other.
pub(crate) fn request_stream(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = made_of(random, seeds, REQUEST_LINES);
    for _ in 0..random.below(3) {
        let next =
            if random.one_in(2) { NEXT.to_vec() } else { made_of(random, seeds, REQUEST_LINES) };
        stream.extend(next);
    }
    stream
}

/// A response, and now and then another behind it.
pub(crate) fn response_stream(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = made_of(random, seeds, STATUS_LINES);
    if random.one_in(3) {
        stream.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    stream
}

/// A sound request: whoever sees it sees where the one before it ended.
pub(crate) const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n";
