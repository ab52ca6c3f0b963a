//! Any bytes as a chunked body: the same payload, trailers, end and verdict however the bytes are split, and the same
//! payload when it is sent on in chunks of ours.

use evenly::http1::{BodyDecoder, BodyLength, LAST_CHUNK, chunk_head};

use crate::LIMITS;

#[derive(Debug, PartialEq)]
struct Read {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    /// Bytes up to the end of the body, or of what was taken.
    consumed: usize,
    done: bool,
}

pub fn check(input: &[u8]) {
    let whole = read(input, [input.len()]);
    let bytewise = read(input, std::iter::repeat_n(1, input.len()));
    assert_eq!(whole, bytewise, "byte by byte");
    // Every split of a short input into two, some of a long one.
    for at in (1..input.len()).step_by(input.len() / 128 + 1) {
        assert_eq!(whole, read(input, [at, input.len() - at]), "split at {at}");
    }
    if let Some(whole) = whole.filter(|whole| whole.done) {
        assert_eq!(read_again(&whole), whole.payload);
    }
}

/// `None` if it was refused.
fn read(input: &[u8], steps: impl IntoIterator<Item = usize>) -> Option<Read> {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let (mut held, mut rest) = (Vec::new(), input);
    let mut read = Read { payload: vec![], trailers: vec![], consumed: 0, done: false };
    for step in steps {
        let (piece, after) = rest.split_at(step);
        held.extend_from_slice(piece);
        rest = after;
        let decoded = decoder.decode(&mut held, LIMITS, &mut read.trailers).ok()?;
        assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= held.len());
        assert_eq!(decoded.done, decoder.is_done());
        read.payload.extend_from_slice(&held[decoded.data]);
        held.drain(..decoded.consumed);
        read.consumed += decoded.consumed;
        // What is not taken is part of one line.
        assert!(decoded.done || held.len() <= LIMITS.bytes + 2, "{} bytes wait", held.len());
    }
    read.done = decoder.is_done();
    assert_eq!(decoder.finish_at_close().is_ok(), read.done, "a close ends no chunked body");
    Some(read)
}

/// The payload of what we send on.
fn read_again(whole: &Read) -> Vec<u8> {
    let mut sent = Vec::new();
    for chunk in whole.payload.chunks(7) {
        chunk_head(chunk.len(), &mut sent);
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(LAST_CHUNK);
    sent.extend_from_slice(&whole.trailers);
    sent.extend_from_slice(b"\r\n");
    let again = read(&sent, [sent.len()]).unwrap_or_else(|| {
        panic!("we send what we refuse: \"{}\"", sent.escape_ascii());
    });
    assert!(again.done && again.consumed == sent.len() && again.trailers == whole.trailers);
    again.payload
}
