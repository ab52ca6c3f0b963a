//! An exchange driven by hand: slices of bytes go in, steps come out, and this file plays the engine.
//!
//! ```sh
//! cargo run --example exchange_by_hand
//! ```
//!
//! No socket, no clock, no thread: what the protocol does with a request can be seen, and tested, in a page of code.
//! `examples/engine_on_a_fake_network.rs` puts the real engine in the place of this one. `tests/examples.rs` compares what
//! this prints with what it must.

use std::fmt::Write;

use evenly::exchange::{
    Break, Ending, ExchangeRules, Failure, Flow, Halves, Next, Output, Remedy, Step,
};
use evenly::http1::{ClientAddress, ClientHalf, HeadLimits, ServerHalf};

/// A client's connection with one exchange after the other, and what was said on both sides so far.
struct Talk {
    flow: Flow,
    address: ClientAddress,
    /// What HTTP/1 remembers of the client's connection, and of the target's.
    client: ServerHalf,
    target: ClientHalf,
    rules: ExchangeRules,
    out: Output,
    /// Bytes of the client that were not used yet.
    pending: Vec<u8>,
    said: String,
}

impl Talk {
    fn new() -> Talk {
        let rules = ExchangeRules {
            limits: HeadLimits { bytes: 16 * 1024, fields: 100 },
            fallback_host: "localhost".to_owned(),
            replay: true,
            request_via: None,
            response_via: None,
            max_hops: 0,
            proxy_status: evenly::settings::ProxyStatus::Off,
            describe: false,
            draining: false,
        };
        Talk {
            flow: Flow::READY,
            address: ClientAddress { ip: [192, 0, 2, 1].into(), trusted: false },
            client: ServerHalf::READY,
            target: ClientHalf::READY,
            rules,
            out: Output::default(),
            pending: Vec::new(),
            said: String::new(),
        }
    }

    /// The exchange is over, and its connection is kept.
    fn next_request(&mut self) {
        self.flow = Flow::READY;
        self.client.next_request();
        self.target = ClientHalf::READY;
    }

    fn note(&mut self, who: &str, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            writeln!(self.said, "{who:>9} | {line}").expect("a string takes all");
        }
    }

    /// What the exchange makes of bytes of the client.
    fn client_says(&mut self, bytes: &str) -> Next {
        self.note("client", bytes.as_bytes());
        self.out.clear();
        // What was not used is handed in again, with more behind it.
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(bytes.as_bytes());
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        let (flow, out) = (&mut self.flow, &mut self.out);
        let step = flow.client_bytes(&self.rules, &self.address, halves, &mut input, out);
        self.carry(&step, &input);
        self.pending = input.split_off(step.consumed);
        step.next
    }

    /// What the exchange makes of bytes of the target.
    fn target_says(&mut self, bytes: &str) -> Next {
        self.note("target", bytes.as_bytes());
        self.out.clear();
        let mut input = bytes.as_bytes().to_vec();
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        let step = self.flow.upstream_bytes(&self.rules, halves, &mut input, &mut self.out);
        self.carry(&step, &input);
        step.next
    }

    /// The connection to the target ends although a response is awaited; the whole request is still held.
    fn target_closes(&mut self, sent: bool) -> Remedy {
        self.note("target", b"(closes)");
        self.out.clear();
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        let failure = match self.flow.upstream_closed(halves, &mut self.out) {
            Next::Failed(failure) => failure,
            _ => Failure::Closed,
        };
        let broken = Break { failure, sent, held: true, budget: true, elsewhere: true };
        let (client, out) = (&mut self.client, &mut self.out);
        let remedy = self.flow.upstream_failed(&self.rules, client, broken, out);
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
            self.target.attached();
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
    assert_eq!(talk.flow.ending(&talk.client), Ending::KeepAlive);
    talk.next_request();

    // A POST whose target closes the connection after it took some of it: it may have been processed, so the client gets a 502.
    talk.client_says("POST /pay HTTP/1.1\r\nHost: example.org\r\nContent-Length: 2\r\n\r\n42");
    assert_eq!(talk.target_closes(true), Remedy::Answer(502));
    talk.next_request();

    // A request that two parsers could read differently gets no target at all.
    let refused = talk.client_says(
        "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(refused, Next::Answered);
    assert_eq!(talk.flow.ending(&talk.client), Ending::Linger);
    talk.said
}

fn main() {
    print!("{}", dialogue());
}
