//! Dialogues: what a client and a target say, and what the exchange makes of it. No socket, no clock.

mod failures;
mod requests;
mod responses;
mod splits;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::http1::ClientAddress;

const ADDRESS: ClientAddress =
    ClientAddress { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), trusted: false };
const FORWARDED: &str =
    "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An exchange with both its connections and somebody who carries the bytes, as the engine does.
struct Talk {
    flow: Flow,
    near: ServerHalf,
    far: ClientHalf,
    rules: ExchangeRules,
    out: Output,
    /// Bytes that wait to be used.
    client: Vec<u8>,
    target: Vec<u8>,
    /// Bytes that were passed on.
    to_client: Vec<u8>,
    to_target: Vec<u8>,
    /// There is another endpoint.
    elsewhere: bool,
    /// What the last step asked for.
    next: Next,
    /// How the last exchange ended.
    ending: Option<Ending>,
    reuse: Option<Reuse>,
}

impl Talk {
    fn new() -> Talk {
        Talk {
            flow: Flow::READY,
            near: ServerHalf::READY,
            far: ClientHalf::READY,
            rules: ExchangeRules {
                limits: HeadLimits { bytes: 1024, fields: 20 },
                fallback_host: "fallback".to_owned(),
                replay: true,
                request_via: None,
                response_via: None,
                max_hops: 0,
                proxy_status: ProxyStatus::Off,
                describe: false,
                draining: false,
            },
            out: Output::default(),
            client: Vec::new(),
            target: Vec::new(),
            to_client: Vec::new(),
            to_target: Vec::new(),
            elsewhere: false,
            next: Next::NeedMore,
            ending: None,
            reuse: None,
        }
    }

    /// A dialogue that begins with these bytes of the client.
    fn of(client: &str) -> Talk {
        let mut talk = Talk::new();
        talk.client_says(client);
        talk
    }

    fn client_says(&mut self, bytes: &str) -> &mut Talk {
        self.client.extend_from_slice(bytes.as_bytes());
        self.use_client();
        self
    }

    fn target_says(&mut self, bytes: &str) -> &mut Talk {
        self.target.extend_from_slice(bytes.as_bytes());
        while !self.target.is_empty() && self.ending.is_none() {
            self.out.clear();
            let halves = Halves { client: &mut self.near, target: &mut self.far };
            let (flow, out) = (&mut self.flow, &mut self.out);
            let step = flow.upstream_bytes(&self.rules, halves, &mut self.target, out);
            let input: Vec<u8> = self.target.drain(..step.consumed).collect();
            self.carry(&step, &input);
            if step.consumed == 0 {
                break;
            }
        }
        self
    }

    fn target_closes(&mut self) -> &mut Talk {
        self.out.clear();
        let halves = Halves { client: &mut self.near, target: &mut self.far };
        let next = self.flow.upstream_closed(halves, &mut self.out);
        self.carry(&Step { consumed: 0, body: 0..0, next }, &[]);
        self
    }

    /// The target breaks the exchange; whatever answer that gives goes to the client.
    fn target_fails(&mut self, failure: Failure, sent: bool, held: bool) -> Remedy {
        let broken = Break { failure, sent, held, budget: true, elsewhere: self.elsewhere };
        let (near, out) = (&mut self.near, &mut self.out);
        let remedy = self.flow.upstream_failed(&self.rules, near, broken, out);
        if let Remedy::Answer(_) = remedy {
            self.carry(&Step { consumed: 0, body: 0..0, next: Next::Answered }, &[]);
        }
        remedy
    }

    /// The connection is kept: the next request is looked at.
    fn goes_on(&mut self) -> &mut Talk {
        assert_eq!(self.ending.take(), Some(Ending::KeepAlive));
        self.reuse = None;
        self.flow = Flow::READY;
        self.near.next_request();
        self.far = ClientHalf::READY;
        self.use_client();
        self
    }

    fn use_client(&mut self) {
        while !self.client.is_empty() && self.flow.wants_client_bytes() {
            self.out.clear();
            let halves = Halves { client: &mut self.near, target: &mut self.far };
            let (flow, input, out) = (&mut self.flow, &mut self.client, &mut self.out);
            let step = flow.client_bytes(&self.rules, &ADDRESS, halves, input, out);
            let input: Vec<u8> = self.client.drain(..step.consumed).collect();
            self.carry(&step, &input);
            if step.consumed == 0 {
                break;
            }
        }
    }

    fn carry(&mut self, step: &Step, input: &[u8]) {
        self.next = step.next;
        let to = match step.next {
            Next::NeedUpstream | Next::ToUpstream => &mut self.to_target,
            Next::ToClient | Next::Finished { .. } | Next::Answered => &mut self.to_client,
            Next::Failed(_) if !step.body.is_empty() => &mut self.to_client,
            Next::NeedMore | Next::Failed(_) | Next::ClientBroke => return,
        };
        to.extend_from_slice(&self.out.head);
        to.extend_from_slice(&input[step.body.clone()]);
        to.extend_from_slice(&self.out.tail);
        match step.next {
            Next::NeedUpstream => self.far.attached(),
            Next::Answered => self.ending = Some(self.flow.ending(&self.near)),
            Next::Finished { reuse } => {
                self.reuse = Some(reuse);
                self.ending = (!self.flow.is_uploading()).then(|| self.flow.ending(&self.near));
            }
            // The response was whole before its request.
            Next::ToUpstream if self.reuse.is_some() && self.flow.request_complete() => {
                self.ending = Some(self.flow.ending(&self.near));
            }
            _ => {}
        }
    }

    /// What was passed on to the target since this was last asked.
    fn heard_by_target(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_target)).unwrap()
    }

    /// What was passed on to the client since this was last asked.
    fn heard_by_client(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.to_client)).unwrap()
    }

    /// The status and the body of what the client heard.
    #[track_caller]
    fn answer(&mut self) -> (u16, String) {
        let text = self.heard_by_client();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }
}

fn request(line: &str, fields: &str, more: &str) -> String {
    format!("{line}\r\n{fields}{more}{FORWARDED}\r\n")
}
