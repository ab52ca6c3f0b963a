//! Any list of operations on two proxies' exchanges, one behind the other, as two proxies one behind the other: what the first sends on, the
//! second never refuses; what the second answers, the first never finds wrong; and both ends only ever see messages.

use std::collections::VecDeque;
use std::net::IpAddr;

use arbitrary::Arbitrary;
use evenly::exchange::{
    Break, ClientEnd, Ending, ExchangeRules, Failure, Flow, Halves, Next, Output, Remedy, Reuse,
};
use evenly::http1::{
    BodyDecoder, BodyLength, ClientAddress, ClientHalf, FieldSpace, HeadLimits, Method, Progress,
    Pseudonym, ServerHalf, parse_request, parse_response,
};

use crate::LIMITS;
use crate::pieces::{Answered, Said};

/// What happens next.
#[derive(Arbitrary, Debug)]
pub enum Operation {
    /// The client sends this, so many bytes at a time.
    Client(Said, u8),
    /// The target sends this, so many bytes at a time.
    Target(Answered, u8),
    /// The target's side of the connection ends.
    TargetEnds,
    /// The client's side of the connection ends.
    ClientEnds,
    /// The client was too slow.
    ClientLate,
    /// The target was too slow.
    TargetLate,
    /// From now on there is, or is not, an endpoint.
    Endpoints(bool),
    /// The workers begin to stop.
    Drain,
}

const MOST_OPERATIONS: usize = 64;

pub fn check(operations: &[Operation]) {
    let mut chain = Chain::new();
    for operation in operations.iter().take(MOST_OPERATIONS) {
        chain.operate(operation);
        chain.settle();
    }
    chain.end();
}

/// A client, two proxies one behind the other, and a target.
struct Chain {
    rules: ExchangeRules,
    endpoints: bool,
    near: Hop,
    far: Option<Hop>,
}

/// One proxy: an exchange after the other, and what is around them.
struct Hop {
    flow: Flow,
    client: ServerHalf,
    target: ClientHalf,
    /// What its client sent and it has not used.
    from_client: Vec<u8>,
    /// What its upstream sent and it has not used.
    from_upstream: Vec<u8>,
    /// Bytes for its upstream that were not carried there yet.
    to_upstream: Vec<u8>,
    to_client: Vec<u8>,
    has_upstream: bool,
    /// The response is whole, and the rest of the request still comes.
    answered: bool,
    /// The upstream connection of the last exchange may be used again.
    reuses: bool,
    is_open: bool,
    /// Its client can tell that the last response is not whole.
    was_cut: bool,
    /// The methods of the requests whose heads it took.
    asked: Vec<Method>,
    /// More is needed before the same bytes are worth another look.
    starved: bool,
}

fn method_of(input: &[u8]) -> Method {
    let empty = input.chunks(2).take_while(|line| line == b"\r\n").count() * 2;
    let input = &input[empty..];
    match parse_request(input, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Complete(head)) => head.method,
        _ => Method::Get,
    }
}

impl Hop {
    fn new() -> Self {
        Hop {
            flow: Flow::READY,
            client: ServerHalf::READY,
            target: ClientHalf::READY,
            from_client: vec![],
            from_upstream: vec![],
            to_upstream: vec![],
            to_client: vec![],
            has_upstream: false,
            answered: false,
            reuses: false,
            is_open: true,
            was_cut: false,
            asked: vec![],
            starved: false,
        }
    }

    /// Uses what the client sent. Whether anything came of it.
    fn client_step(&mut self, rules: &ExchangeRules, endpoints: bool) -> bool {
        let blocked = self.flow.streams_to_upstream() && !self.has_upstream && !self.answered;
        let wants = self.is_open && self.flow.wants_client_bytes() && !blocked;
        if !wants || self.from_client.is_empty() || self.starved {
            return false;
        }
        let mut out = Output::default();
        let was_idle = self.flow.is_idle();
        let before = self.from_client.clone();
        let address = ClientAddress { ip: IpAddr::from([192, 0, 2, 1]), trusted: false };
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        let step = self.flow.client_bytes(rules, &address, halves, &mut self.from_client, &mut out);
        assert!(step.body.end <= before.len() && step.consumed <= before.len());
        let body = self.from_client[step.body.clone()].to_vec();
        self.from_client.drain(..step.consumed);
        self.starved = !self.flow.request_complete() && !self.flow.is_tunnel();
        if was_idle && step.next != Next::NeedMore {
            self.asked.push(method_of(&before));
        }
        let message = [&out.head, &body, &out.tail].map(Vec::as_slice).concat();
        match step.next {
            Next::NeedMore => {
                let taken = &before[..step.consumed];
                assert!(
                    taken.chunks(2).all(|line| line == b"\r\n"),
                    "only empty lines say nothing"
                );
                assert!(message.is_empty());
            }
            Next::NeedUpstream if endpoints => {
                self.has_upstream = true;
                self.target.attached();
                self.to_upstream.extend(message);
            }
            Next::NeedUpstream => {
                let reason = evenly::reason::Reason::DestinationUnavailable;
                self.flow.no_upstream(rules, &mut self.client, reason, &mut out);
                self.answer(&out);
            }
            Next::ToUpstream => {
                self.to_upstream.extend(message);
                if self.answered && self.flow.request_complete() {
                    self.finish(false);
                }
            }
            Next::Answered => self.answer(&out),
            Next::ClientBroke if self.answered => self.close(),
            Next::ClientBroke => self.cut(),
            Next::ToClient | Next::Finished { .. } | Next::Failed(_) => {
                panic!("{:?} of a client's bytes", step.next)
            }
        }
        true
    }

    /// Uses what the upstream sent. Whether anything came of it. `trusted`: it must be sound.
    fn upstream_step(&mut self, rules: &ExchangeRules, trusted: bool) -> bool {
        if self.answered {
            // More than its answer: it gets no more of the request.
            self.has_upstream &= self.from_upstream.is_empty();
        }
        if !self.is_open || !self.has_upstream || self.from_upstream.is_empty() {
            return false;
        }
        let mut out = Output::default();
        let len = self.from_upstream.len();
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        let step = self.flow.upstream_bytes(rules, halves, &mut self.from_upstream, &mut out);
        assert!(step.body.end <= len && step.consumed <= len);
        let body = self.from_upstream[step.body.clone()].to_vec();
        self.from_upstream.drain(..step.consumed);
        let message = [&out.head, &body, &out.tail].map(Vec::as_slice).concat();
        match step.next {
            Next::NeedMore => return false,
            Next::ToClient => self.to_client.extend(message),
            Next::Finished { reuse } => {
                self.to_client.extend(message);
                let reuses = matches!(reuse, Reuse::Pool | Reuse::Private);
                assert!(!reuses || self.from_upstream.is_empty(), "something follows");
                match self.flow.is_uploading() {
                    true => self.answered = true,
                    false => self.finish(reuses),
                }
            }
            Next::Failed(failure) => {
                assert!(!trusted, "what one of us answers, the other finds wrong: {failure:?}");
                if !step.body.is_empty() {
                    self.to_client.extend(message);
                }
                self.upstream_failed(rules, failure);
            }
            Next::NeedUpstream | Next::ToUpstream | Next::Answered | Next::ClientBroke => {
                panic!("{:?} of a target's bytes", step.next)
            }
        }
        step.consumed > 0
    }

    fn upstream_ends(&mut self, rules: &ExchangeRules) {
        if !self.is_open || !self.has_upstream {
            return;
        }
        if self.flow.is_tunnel() {
            return self.close();
        }
        if self.answered {
            self.has_upstream = false;
            return;
        }
        let mut out = Output::default();
        let halves = Halves { client: &mut self.client, target: &mut self.target };
        match self.flow.upstream_closed(halves, &mut out) {
            Next::Finished { reuse } => {
                assert_eq!(reuse, Reuse::Ends);
                self.to_client.extend([out.head, out.tail].concat());
                match self.flow.is_uploading() {
                    true => (self.answered, self.has_upstream) = (true, false),
                    false => self.finish(false),
                }
            }
            Next::Failed(failure) => self.upstream_failed(rules, failure),
            other => panic!("{other:?} of a target's end"),
        }
    }

    fn upstream_failed(&mut self, rules: &ExchangeRules, failure: Failure) {
        let mut out = Output::default();
        let broken = Break { failure, sent: true, held: false, budget: true, elsewhere: true };
        match self.flow.upstream_failed(rules, &mut self.client, broken, &mut out) {
            Remedy::Answer(_) => self.answer(&out),
            Remedy::Cut => self.cut(),
            Remedy::Replay => panic!("nothing is held that could be replayed"),
        }
    }

    fn client_ends(&mut self) {
        if !self.is_open {
            return;
        }
        match self.flow.client_closed() {
            ClientEnd::Close | ClientEnd::Abort => self.cut(),
            ClientEnd::HalfClose => assert!(self.flow.is_tunnel()),
        }
    }

    fn answer(&mut self, out: &Output) {
        self.to_client.extend([out.head.as_slice(), &out.tail].concat());
        let status = self.flow.status();
        assert!(matches!(status, 200 | 400..=599), "an answer of ours with status {status}");
        self.finish(false);
    }

    fn finish(&mut self, reuse: bool) {
        self.has_upstream = false;
        self.answered = false;
        self.reuses = reuse;
        self.starved = false;
        if !reuse {
            self.from_upstream.clear();
        }
        match self.flow.ending(&self.client) {
            Ending::KeepAlive => {
                self.flow = Flow::READY;
                self.client.next_request();
                self.target = ClientHalf::READY;
            }
            Ending::Close | Ending::Linger => self.close(),
        }
    }

    fn cut(&mut self) {
        self.was_cut = true;
        self.close();
    }

    fn close(&mut self) {
        self.is_open = false;
        self.has_upstream = false;
        self.answered = false;
        self.reuses = false;
    }

    /// What an idle connection leaves lying is no whole head. (It may have a fault: that is seen at the next line end.)
    fn check_nothing_is_overlooked(&self) {
        if self.is_open && self.flow.is_idle() {
            let mut space = FieldSpace::new();
            let verdict = parse_request(&self.from_client, LIMITS, &mut space);
            let is_whole = matches!(verdict, Ok(Progress::Complete(_)));
            assert!(!is_whole, "\"{}\" is overlooked", self.from_client.escape_ascii());
        }
    }

    /// All that went to the target is requests, whole but for the last.
    fn check_requests(&self) {
        let mut rest = &self.to_upstream[..];
        while !rest.is_empty() {
            let mut space = FieldSpace::new();
            let limits = HeadLimits { bytes: usize::MAX, fields: 256 };
            let head = match parse_request(rest, limits, &mut space) {
                Ok(Progress::Complete(head)) => head,
                other => panic!("no request: \"{}\": {other:?}", rest.escape_ascii()),
            };
            if head.upgrade.is_some() {
                return;
            }
            rest = &rest[head.len..];
            match body_len(head.body, rest) {
                Some(len) => rest = &rest[len..],
                None => return,
            }
        }
    }

    /// All that went to the client is responses, one for each request at most.
    fn check_responses(&self) {
        let mut asked = self.asked.iter().copied().collect::<VecDeque<_>>();
        let mut rest = &self.to_client[..];
        while !rest.is_empty() {
            let mut space = FieldSpace::new();
            let head = match parse_response(rest, LIMITS, &mut space) {
                Ok(Progress::Complete(head)) => head,
                other => panic!("no response: \"{}\": {other:?}", rest.escape_ascii()),
            };
            rest = &rest[head.len..];
            match head.status {
                101 => return,
                100..=199 => continue,
                _ => {}
            }
            let method = asked.pop_front().unwrap_or_else(|| {
                // A client that was too slow has not said what it wants.
                assert_eq!(head.status, 408, "a response nobody asked for");
                Method::Get
            });
            let length = head.body(method).expect("a body has an end");
            let is_last = !head.keep_alive || length == BodyLength::UntilClose;
            let Some(len) = body_len(length, rest) else {
                assert!(self.was_cut || self.is_open, "a response ends early and nobody sees it");
                return;
            };
            rest = &rest[len..];
            assert!(!is_last || rest.is_empty(), "\"{}\" behind the last", rest.escape_ascii());
        }
    }
}

/// The bytes that a body takes of `input`; `None` if it is not whole.
fn body_len(length: BodyLength, input: &[u8]) -> Option<usize> {
    let mut decoder = BodyDecoder::new(length);
    let mut input = input.to_vec();
    let decoded =
        decoder.decode(&mut input, LIMITS, &mut vec![]).expect("our own chunks are exact");
    (decoder.finish_at_close().is_ok()).then_some(decoded.consumed)
}

impl Chain {
    fn new() -> Self {
        let rules = ExchangeRules {
            limits: LIMITS,
            fallback_host: "fallback".to_owned(),
            replay: true,
            // Both proxies share this: what the first has passed on has not come back.
            request_via: None,
            response_via: Some(Pseudonym::new(1)),
            max_hops: 0,
            proxy_status: evenly::settings::ProxyStatus::Off,
            describe: true,
            draining: false,
        };
        Chain { rules, endpoints: true, near: Hop::new(), far: None }
    }

    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::Client(said, step) => {
                for piece in said.bytes("a/1").chunks(usize::from(*step).max(1)) {
                    if self.near.from_client.len() > 2 * LIMITS.bytes {
                        return;
                    }
                    self.near.from_client.extend_from_slice(piece);
                    self.near.starved = false;
                    self.settle();
                }
            }
            Operation::Target(answered, step) => {
                for piece in answered.bytes().chunks(usize::from(*step).max(1)) {
                    if let Some(far) = self.far.as_mut().filter(|far| far.has_upstream) {
                        far.from_upstream.extend_from_slice(piece);
                    }
                    self.settle();
                }
            }
            Operation::TargetEnds => {
                self.far.iter_mut().for_each(|far| far.upstream_ends(&self.rules));
            }
            Operation::ClientEnds => self.near.client_ends(),
            Operation::ClientLate => self.client_late(),
            Operation::TargetLate => {
                if let Some(far) = self.far.as_mut().filter(|far| far.has_upstream)
                    && !far.flow.is_tunnel()
                    && !far.answered
                {
                    let head = far.flow.awaits_response();
                    let failure = if head { Failure::HeadTimeout } else { Failure::BodyTimeout };
                    far.upstream_failed(&self.rules, failure);
                }
            }
            Operation::Endpoints(there) => self.endpoints = *there,
            Operation::Drain => self.rules.draining = true,
        }
    }

    /// The engine says so only while the client owes something and has been answered nothing.
    fn client_late(&mut self) {
        let near = &mut self.near;
        let owes = near.flow.is_idle() && !near.from_client.is_empty()
            || near.flow.streams_to_upstream() && near.flow.awaits_response();
        if near.is_open && owes && !near.flow.is_tunnel() {
            let mut out = Output::default();
            match near.flow.client_timed_out(&self.rules, &mut near.client, &mut out) {
                Next::Answered => near.answer(&out),
                _ => near.cut(),
            }
        }
    }

    /// Carries bytes until nothing moves.
    fn settle(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 100_000, "it goes on without end");
        }
    }

    fn turn(&mut self) -> bool {
        let mut moved = self.near.client_step(&self.rules, true);
        if !self.near.has_upstream
            && !self.near.reuses
            && let Some(far) = self.far.take()
        {
            far.check_requests();
        }
        if self.near.has_upstream {
            let far = self.far.get_or_insert_with(Hop::new);
            if !self.near.to_upstream.is_empty() {
                let begins = self.near.flow.awaits_response() && far.to_client.is_empty();
                assert!(far.is_open || !begins, "a connection that was to be kept is closed");
                far.from_client.append(&mut self.near.to_upstream);
                far.starved = false;
            }
            let status = far.flow.status();
            moved |= far.client_step(&self.rules, self.endpoints);
            let refused = far.flow.status() != status && (400..500).contains(&far.flow.status());
            assert!(!refused, "what one of us sends on, the other refuses: {:?}", far.flow);
            moved |= far.upstream_step(&self.rules, false);
            self.carry_back();
            moved |= self.near.upstream_step(&self.rules, true);
            if let Some(far) = &self.far
                && !far.is_open
                && self.near.has_upstream
                && !moved
            {
                self.near.upstream_ends(&self.rules);
                moved = true;
            }
        } else {
            self.near.to_upstream.clear();
        }
        moved
    }

    fn carry_back(&mut self) {
        if let Some(far) = &mut self.far {
            let carried: Vec<u8> = far.to_client.drain(..).collect();
            self.near.from_upstream.extend(carried);
        }
    }

    fn end(&mut self) {
        self.settle();
        self.near.check_responses();
        for hop in self.far.iter().chain([&self.near]) {
            hop.check_nothing_is_overlooked();
        }
        self.far.iter().for_each(Hop::check_requests);
    }
}
