//! Bodies, chunk by chunk.

use super::*;

/// Payload, trailers and bytes left over; or the fault.
type WholeBody = Result<(Vec<u8>, String, usize, bool), &'static str>;

/// Decodes `input` handed in `step` bytes at a time, what is left in front of what is new.
pub(super) fn decode(
    length: BodyLength,
    input: &[u8],
    step: usize,
    limits: HeadLimits,
) -> WholeBody {
    let mut decoder = BodyDecoder::new(length);
    let (mut payload, mut trailers, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        held.extend_from_slice(piece);
        let decoded = decoder.decode(&mut held, limits, &mut trailers).map_err(Fault::why)?;
        payload.extend_from_slice(&held[decoded.data.clone()]);
        assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= held.len());
        assert_eq!(decoded.done, decoder.is_done());
        held.drain(..decoded.consumed);
    }
    let trailers = String::from_utf8_lossy(&trailers).into_owned();
    Ok((payload, trailers, held.len(), decoder.is_done()))
}

fn chunked(input: &[u8]) -> WholeBody {
    let whole = decode(BodyLength::Chunked, input, input.len(), LIMITS);
    let bytewise = decode(BodyLength::Chunked, input, 1, LIMITS);
    assert_eq!(whole.is_ok(), bytewise.is_ok(), "{}", input.escape_ascii());
    if whole.is_ok() {
        assert_eq!(whole, bytewise, "{}", input.escape_ascii());
    }
    whole
}

#[test]
fn chunks_are_read_as_rfc_9112_section_7_1_writes_them() {
    let rows: [(&str, &str, usize); 12] = [
        ("0\r\n\r\n", "", 0),
        ("000\r\n\r\n", "", 0),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET", "hello world", 3),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 0),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", 0),
        ("5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5 ; a = b\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5\t;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n\r\n", "0\r\n\r\n", 2),
    ];
    for (input, payload, left) in rows {
        let expected = Ok((payload.as_bytes().to_vec(), String::new(), left, true));
        assert_eq!(chunked(input.as_bytes()), expected, "{input:?}");
    }
}

#[test]
fn what_stands_before_a_fault_is_told() {
    for (input, whole, consumed) in [
        ("zz\r\n", "", 0),
        ("2\r\nab\r\nzz\r\n", "ab", 7),
        ("2\r\nab\r\n3\r\ncde\r\n-1\r\n", "abcde", 15),
        ("2\r\nab\r\n3\r\ncde!!", "abcde", 13),
        ("2\r\nab\r\n0\r\nno field\r\n\r\n", "ab", 10),
    ] {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);
        let (mut bytes, mut trailers) = (input.as_bytes().to_vec(), b"kept".to_vec());
        let mut decoded = Decoded { consumed: 0, data: 0..0, done: false };
        let result = decoder.decode_up_to_fault(&mut bytes, LIMITS, &mut trailers, &mut decoded);
        assert!(result.is_err(), "{input:?}");
        assert_eq!(bytes[decoded.data], *whole.as_bytes(), "{input:?}");
        assert_eq!((decoded.consumed, decoded.done), (consumed, false), "{input:?}");
        assert_eq!(trailers, b"kept");
    }
}

/// RFC 9112 section 7.1: every row breaks its grammar of chunks.
#[test]
fn chunks_that_are_not_exact_are_refused() {
    let rows = [
        ("\r\n", "no size"),
        (";a\r\n", "no size"),
        ("x\r\n", "not hex"),
        ("5x\r\nhello\r\n", "not hex"),
        ("0x5\r\nhello\r\n", "not hex"),
        ("+5\r\nhello\r\n", "a sign"),
        ("-1\r\n", "a sign"),
        (" 5\r\nhello\r\n", "space before"),
        ("5 \r\nhello\r\n", "space behind, no extension"),
        ("5 5\r\nhello\r\n", "space within"),
        ("5_0\r\n", "underscore"),
        ("5\nhello\r\n", "bare LF"),
        ("5\rhello\r\n", "bare CR"),
        ("5\r\r\nhello\r\n", "bare CR"),
        ("5;a\nhello\r\n", "bare LF in an extension"),
        ("5;a\rb\r\nhello\r\n", "bare CR in an extension"),
        ("5;a\0\r\nhello\r\n", "NUL in an extension"),
        ("5;\r\nhello\r\n", "an extension without a name"),
        ("5;;a\r\nhello\r\n", "an extension without a name"),
        ("5;a=\r\nhello\r\n", "an extension without a value"),
        ("5;a=\"b\r\nhello\r\n", "a quote left open"),
        ("5;a=\"\\\r\nhello\r\n", "a quote left open"),
        ("5;a b\r\nhello\r\n", "two names"),
        ("00000000000000005\r\nhello\r\n", "17 digits"),
        ("8000000000000000\r\n", "overflow"),
        ("ffffffffffffffff\r\n", "overflow"),
        ("10000000000000000\r\n", "overflow"),
        ("5\r\nhello0\r\n\r\n", "no CRLF behind the data"),
        ("5\r\nhello\n0\r\n\r\n", "LF behind the data"),
        ("5\r\nhello\r0\r\n\r\n", "CR behind the data"),
        ("5\r\nhello!\r\n0\r\n\r\n", "more data than said"),
        ("5\r\nhell\r\n0\r\n\r\n", "less data than said"),
        ("0\r\n\n", "bare LF at the end"),
        ("0\r\nA: b\n\r\n", "bare LF in trailers"),
        ("0\r\nA : b\r\n\r\n", "space before a colon"),
        ("0\r\n A: b\r\n\r\n", "space before a field"),
        ("0\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
        ("0\r\nA: \0\r\n\r\n", "NUL"),
        ("0\r\nA\r\n\r\n", "no colon"),
        ("0\r\n: b\r\n\r\n", "no name"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "no trailer"),
    ];
    for (input, why) in rows {
        assert!(chunked(input.as_bytes()).is_err(), "{input:?} ({why})");
    }
}

/// RFC 9112 sections 7.1 and 7.1.2.
#[test]
fn a_fault_in_an_unfinished_line_is_reported_at_once() {
    for input in
        ["x", "5x", "5;a\0", "5;a\rb", "5\rx", "5\r\nhellox", "5\r\nhello\rx", "0\r\n ", "0\r\nA\0"]
    {
        assert!(chunked(input.as_bytes()).is_err(), "{input:?}");
    }
    for input in ["", "5", "5\r", "5;a", "5;a\r", "5\r\nhello", "5\r\nhello\r", "0\r\n\r", "0\r\nA"]
    {
        assert!(chunked(input.as_bytes()).is_ok_and(|(.., done)| !done), "{input:?}");
    }
}

/// RFC 9112 section 7.1.3, in place.
#[test]
fn payload_is_moved_together_behind_its_first_run() {
    let mut input = *b"3\r\nabc\r\n2\r\nde\r\n4\r\nfg";
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let decoded = decoder.decode(&mut input, LIMITS, &mut Vec::new()).unwrap();
    assert_eq!(decoded, Decoded { consumed: 20, data: 3..10, done: false });
    assert_eq!(&input[decoded.data], b"abcdefg");
}

/// RFC 9110 section 6.5.1.
#[test]
fn trailers_that_may_not_pass_are_dropped() {
    let section = "X-Sum:  a b \r\nContent-Length: 5\r\nTRANSFER-encoding: chunked\r\nHost: b\r\n\
                   grpc-status: 0\r\nX_Forwarded_For: 1\r\nForwarded: x\r\nX-Real-IP: 1\r\n\
                   Authorization: x\r\nSet-Cookie: a\r\nContent-Type: b\r\nConnection: close\r\n\
                   Keep-Alive: 1\r\nTE: x\r\nTrailer: x\r\nUpgrade: x\r\nExpect: x\r\n\
                   Max-Forwards: 1\r\nCache-Control: x\r\nIf-Match: x\r\nRange: x\r\nAge: 1\r\n\
                   X-Empty:\r\n";
    let input = format!("0\r\n{section}\r\n");
    let passed = "X-Sum: a b\r\ngrpc-status: 0\r\nX-Empty: \r\n".to_owned();
    assert_eq!(chunked(input.as_bytes()), Ok((vec![], passed, 0, true)), "RFC 9110 6.5.1");
}

/// RFC 9112 section 7.1.2.
#[test]
fn a_trailer_section_is_taken_whole_or_not_at_all() {
    let whole = *b"0\r\nA: b\r\nC: d\r\n\r\n";
    let mut trailers = Vec::new();
    for end in 3..whole.len() {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);
        let decoded = decoder.decode(&mut whole.to_vec()[..end], LIMITS, &mut trailers).unwrap();
        assert_eq!((decoded.consumed, decoded.done, trailers.len()), (3, false, 0), "{end}");
        let decoded = decoder.decode(&mut whole.to_vec()[3..], LIMITS, &mut trailers).unwrap();
        assert_eq!((decoded.consumed, decoded.done), (whole.len() - 3, true));
        assert_eq!(std::mem::take(&mut trailers), b"A: b\r\nC: d\r\n");
    }
}

/// RFC 9112 sections 7.1.1 and 7.1.2: a recipient limits what it reads of both.
#[test]
fn trailers_and_chunk_lines_have_limits() {
    let limits = HeadLimits { bytes: 12, fields: 2 };
    let run = |section: &str, step| {
        let input = format!("0\r\n{section}");
        decode(BodyLength::Chunked, input.as_bytes(), step, limits).is_ok()
    };
    for step in [1, 99] {
        assert!(run("A: b\r\nC: d\r\n\r\n", step));
        assert!(!run("A: b\r\nC: de\r\n\r\n", step), "bytes");
        assert!(!run("A:\r\nB:\r\nC:\r\n\r\n", step), "fields");
        assert!(!run("Aaaaaaaaaaaa", step), "bytes without an end");
    }
    let line = |n| chunked(format!("5;{}", "a".repeat(n)).as_bytes());
    assert!(line(1000).is_ok());
    assert!(line(1100).is_err());
    assert!(chunked(format!("5;{}\r\n", "a".repeat(1100)).as_bytes()).is_err());
}

/// RFC 9112 section 7.1.1: a server limits the total of extensions.
#[test]
fn extensions_may_not_outweigh_the_payload() {
    let many = |size: usize, extension: usize, count: usize| {
        let data = "x".repeat(size);
        let chunk = format!("{size:x};{}\r\n{data}\r\n", "a".repeat(extension));
        let input = chunk.repeat(count) + "0\r\n\r\n";
        decode(BodyLength::Chunked, input.as_bytes(), 4096, LIMITS).is_ok()
    };
    assert!(many(1, 500, 30));
    assert!(!many(1, 500, 40));
    assert!(many(1000, 900, 1000), "a signature on each chunk");
}

/// RFC 9112 section 7.1.
#[test]
fn a_million_tiny_chunks_are_one_body() {
    let input = "1\r\nx\r\n".repeat(1_000_000) + "0\r\n\r\n";
    let (payload, _, left, done) =
        decode(BodyLength::Chunked, input.as_bytes(), 65_536, LIMITS).unwrap();
    assert_eq!((payload.len(), left, done), (1_000_000, 0, true));
}

/// RFC 9112 section 6.2.
#[test]
fn bodies_of_known_length_leave_what_follows() {
    let five = decode(BodyLength::Length(5), b"hello world", 99, LIMITS);
    assert_eq!(five, Ok((b"hello".to_vec(), String::new(), 6, true)));
    for length in [BodyLength::None, BodyLength::Length(0)] {
        assert_eq!(decode(length, b"GET", 9, LIMITS), Ok((vec![], String::new(), 3, true)));
    }
    let all = decode(BodyLength::UntilClose, b"hello", 2, LIMITS);
    assert_eq!(all, Ok((b"hello".to_vec(), String::new(), 0, false)));
}

/// RFC 9112 sections 6.3 and 8.
#[test]
fn a_close_ends_only_a_body_that_may_end_so() {
    let after = |length, input: &[u8]| {
        let mut decoder = BodyDecoder::new(length);
        decoder.decode(&mut input.to_vec(), LIMITS, &mut Vec::new()).unwrap();
        decoder.finish_at_close().is_ok() && decoder.is_done()
    };
    assert!(after(BodyLength::UntilClose, b"hello"));
    assert!(after(BodyLength::Length(5), b"hello"));
    assert!(!after(BodyLength::Length(5), b"hell"));
    assert!(after(BodyLength::Chunked, b"0\r\n\r\n"));
    for cut in ["", "5\r\nhel", "5\r\nhello\r\n", "0\r\n", "0\r\nA: b\r\n"] {
        assert!(!after(BodyLength::Chunked, cut.as_bytes()), "{cut:?}");
    }
}

/// RFC 9112 section 7.1.
#[test]
fn chunk_heads_are_lower_case_hex_without_leading_zeros() {
    for len in [1, 9, 10, 15, 16, 255, 256, 65_536, 0xdead_beef] {
        let mut out = Vec::new();
        chunk_head(len, &mut out);
        assert_eq!(out, format!("{len:x}\r\n").into_bytes());
    }
}
