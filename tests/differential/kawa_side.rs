//! kawa, the parser of the sozu proxy, reading the same bytes. It shares no code with us or with hyper: those two stand
//! on httparse.

use kawa::{Block, Buffer, Kawa, Kind, ParsingPhase, SliceBuffer, StatusLine, Store, h1};

use crate::{Dialogue, Message, Stop};

/// The first message in `input`.
pub(crate) fn first(kind: Kind, input: &[u8]) -> Dialogue {
    let mut room = vec![0; input.len() + 1];
    let mut storage = Buffer::new(SliceBuffer(&mut room));
    storage.space()[..input.len()].copy_from_slice(input);
    let is_response = matches!(kind, Kind::Response);
    storage.fill(input.len());
    let mut kawa = Kawa::new(kind, storage);
    h1::parse(&mut kawa, &mut h1::NoCallbacks);
    let until_close = is_response
        && matches!(kawa.parsing_phase, ParsingPhase::Body)
        && matches!(kawa.body_size, kawa::BodySize::Empty);
    let stop = match kawa.parsing_phase {
        ParsingPhase::Terminated => Stop::End,
        ParsingPhase::Error { .. } => Stop::Refused(format!("{:?}", kawa.parsing_phase)),
        _ if until_close => Stop::End,
        _ => Stop::Part,
    };
    let messages = if stop == Stop::End { vec![message(&kawa)] } else { vec![] };
    Dialogue { messages, stop }
}

fn message(kawa: &Kawa<SliceBuffer<'_>>) -> Message {
    let buffer = kawa.storage.buffer();
    let text = |store: &Store| String::from_utf8_lossy(store.data(buffer)).into_owned();
    let (start, target) = match &kawa.detached.status_line {
        StatusLine::Request { method, uri, .. } => (text(method), text(uri)),
        StatusLine::Response { status, .. } => (text(status), String::new()),
        StatusLine::Unknown => (String::new(), String::new()),
    };
    let mut body = Vec::new();
    for block in &kawa.blocks {
        if let Block::Chunk(chunk) = block {
            body.extend_from_slice(chunk.data.data(buffer));
        }
    }
    Message {
        start,
        authority: None,
        target,
        version: "",
        // Those that say where the body ends, and cookies, are taken apart there.
        fields: Vec::new(),
        trailers: Vec::new(),
        body,
        consumed: kawa.storage.head,
    }
}
