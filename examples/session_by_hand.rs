//! A session driven by hand: slices of bytes go in, steps come out, and this file plays the engine.
//!
//! ```sh
//! cargo run --example session_by_hand
//! ```
//!
//! No socket, no clock, no thread: what the protocol does with a request can be seen, and tested, in a page of code.
//! `examples/engine_on_a_fake_network.rs` puts the real engine in the place of this one. `tests/examples.rs` compares what
//! this prints with what it must.

use std::fmt::Write;

use evenly::http1::HeadLimits;
use evenly::session::{Break, Ending, Failure, Next, Output, Remedy, Session, SessionRules, Step};

/// A client's connection with its session, and what was said on both sides so far.
struct Talk {
    session: Session,
    cx: SessionRules,
    out: Output,
    /// Bytes of the client that were not used yet.
    pending: Vec<u8>,
    said: String,
}

impl Talk {
    fn new() -> Talk {
        let cx = SessionRules {
            limits: HeadLimits { bytes: 16 * 1024, fields: 100 },
            fallback_host: "localhost".to_owned(),
            replay: true,
            request_via: None,
            response_via: None,
            describe: false,
            draining: false,
        };
        let session = Session::new([192, 0, 2, 1].into(), false);
        Talk { session, cx, out: Output::default(), pending: Vec::new(), said: String::new() }
    }

    fn note(&mut self, who: &str, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            writeln!(self.said, "{who:>9} | {line}").expect("a string takes all");
        }
    }

    /// What the session makes of bytes of the client.
    fn client_says(&mut self, bytes: &str) -> Next {
        self.note("client", bytes.as_bytes());
        self.out.clear();
        // What was not used is handed in again, with more behind it.
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(bytes.as_bytes());
        let step = self.session.client_bytes(&self.cx, &mut input, &mut self.out);
        self.carry(&step, &input);
        self.pending = input.split_off(step.consumed);
        step.next
    }

    /// What the session makes of bytes of the target.
    fn target_says(&mut self, bytes: &str) -> Next {
        self.note("target", bytes.as_bytes());
        self.out.clear();
        let mut input = bytes.as_bytes().to_vec();
        let step = self.session.upstream_bytes(&self.cx, &mut input, &mut self.out);
        self.carry(&step, &input);
        step.next
    }

    /// The connection to the target ends although a response is awaited; the whole request is still held.
    fn target_closes(&mut self, sent: bool) -> Remedy {
        self.note("target", b"(closes)");
        self.out.clear();
        let failure = match self.session.upstream_closed(&mut self.out) {
            Next::Failed(failure) => failure,
            _ => Failure::Closed,
        };
        let broken = Break { failure, sent, held: true, budget: true, elsewhere: true };
        let remedy = self.session.upstream_failed(&self.cx, broken, &mut self.out);
        if let Remedy::Answer(_) = remedy {
            self.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
        }
        remedy
    }

    /// Head, part of the input, tail: that is all an engine has to write, and `next` says where.
    fn carry(&mut self, step: &Step, input: &[u8]) {
        let to = match step.next {
            Next::NeedUpstream | Next::ToUpstream => "> target",
            Next::ToClient | Next::Finished { .. } | Next::Answered => "> client",
            Next::NeedMore | Next::Failed(_) | Next::ClientBroke => return,
        };
        let mut bytes = self.out.head.clone();
        bytes.extend_from_slice(&input[step.body.clone()]);
        bytes.extend_from_slice(&self.out.tail);
        self.note(to, &bytes);
        if step.next == Next::NeedUpstream {
            self.session.attached(false);
        }
    }
}

/// Three requests on one connection; every line is one that somebody said or was sent.
pub(crate) fn dialogue() -> String {
    let mut talk = Talk::new();

    // A GET. Its head comes in two pieces, and is read as one.
    assert_eq!(talk.client_says("GET /hello HTTP/1.1\r\nHost: exam"), Next::NeedMore);
    assert_eq!(talk.client_says("ple.org\r\n\r\n"), Next::NeedUpstream);
    talk.target_says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(talk.session.ending(), Ending::KeepAlive);
    talk.session.next_request();

    // A POST whose target closes the connection after it took some of it: it may have been processed, so the client gets a 502.
    talk.client_says("POST /pay HTTP/1.1\r\nHost: example.org\r\nContent-Length: 2\r\n\r\n42");
    assert_eq!(talk.target_closes(true), Remedy::Answer(502));
    talk.session.next_request();

    // A request that two parsers could read differently gets no target at all.
    let refused = talk.client_says(
        "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(refused, Next::Answered);
    assert_eq!(talk.session.ending(), Ending::Linger);
    talk.said
}

fn main() {
    print!("{}", dialogue());
}
