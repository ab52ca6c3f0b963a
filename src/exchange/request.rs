//! The client's direction: heads that become requests for a target, bodies, and refusals.

use super::{
    Answering, ClientEnd, ExchangeRules, Expects, Flow, Halves, Next, Output, Reading, Step, Steps,
    pass_all,
};
use crate::access::{push_part, push_refused};
use crate::http1::body::Decoded;
use crate::http1::head::{FieldSpace, RequestHead};
use crate::http1::rewrite::RequestRewrite;
use crate::http1::{BodyLength, ClientAddress, Fault, Progress, ServerHalf, TraceParent};
use crate::reason::{Cause, Reason};

impl Flow {
    /// Bytes of the client, which is at `address`: the head of a request, more of its body, or whatever runs through a tunnel.
    pub fn client_bytes(
        &mut self,
        rules: &ExchangeRules,
        address: &ClientAddress,
        mut halves: Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        match self.reading {
            Reading::Head => self.request_head(rules, address, &mut halves, input, out),
            Reading::Body => {
                self.at_hand = false;
                match self.request_body(rules, &mut halves, input, out) {
                    Ok(decoded) => decoded.step(Next::ToUpstream),
                    Err(fault) => self.refuse(fault, rules, halves.client, out),
                }
            }
            Reading::Tunnel => pass_all(input, Next::ToUpstream),
            Reading::Complete | Reading::Closed => {
                Step { consumed: 0, body: 0..0, next: Next::NeedMore }
            }
        }
    }

    fn request_head(
        &mut self,
        rules: &ExchangeRules,
        address: &ClientAddress,
        halves: &mut Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        let empty = halves.client.empty_lines(input);
        match input.get_mut(empty..) {
            Some(rest) if !rest.is_empty() => {
                self.one_request_head(rules, address, halves, rest, out).behind(empty)
            }
            _ => Step { consumed: empty, body: 0..0, next: Next::NeedMore },
        }
    }

    fn one_request_head(
        &mut self,
        rules: &ExchangeRules,
        address: &ClientAddress,
        halves: &mut Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        let Halves { client, target } = halves;
        let mut space = FieldSpace::new();
        let (len, length) = match client.request_head(input, rules.limits, &mut space) {
            Err(fault) => {
                if fault == Fault::OtherVersion && client.lowers_minor(input) {
                    return self.one_request_head(rules, address, halves, input, out);
                }
                push_refused(&mut out.line, input);
                return self.refuse(fault, rules, client, out);
            }
            Ok(Progress::Partial) => {
                return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
            }
            Ok(Progress::Complete(head)) => {
                self.begin(&head);
                if out.ids.request_ids {
                    self.set_id(head.request_id(address.trusted, &mut out.ids));
                }
                let span =
                    out.ids.traces.then(|| TraceParent::next(head.traceparent(), &mut out.ids));
                match rules.describe {
                    true => describe(&head, input, span.as_ref(), address.trusted, &mut out.line),
                    false => describe_briefly(&head, input, address.trusted, &mut out.line),
                }
                if rules.request_via.is_some_and(|us| head.passes(&us) > rules.max_hops) {
                    return self.answer_loop(&head, rules, client, out);
                }
                if head.max_forwards_zero {
                    return self.answer_for_target(&head, client, out);
                }
                let by = RequestRewrite {
                    client: *address,
                    fallback_host: &rules.fallback_host,
                    via: rules.request_via.as_ref(),
                    request_id: self.id(),
                    span: span.as_ref(),
                };
                target.request_head(&head, input, &by, &mut out.head);
                (head.len, head.body)
            }
        };
        self.answering = Answering::Awaited;
        if matches!(length, BodyLength::None) {
            self.reading = Reading::Complete;
            return Step { consumed: len, body: 0..0, next: Next::NeedUpstream };
        }
        self.reading = Reading::Body;
        match self.request_body(rules, halves, &mut input[len..], out) {
            Ok(decoded) => decoded.step(Next::NeedUpstream).behind(len),
            Err(fault) => self.refuse(fault, rules, halves.client, out),
        }
    }

    fn request_body(
        &mut self,
        rules: &ExchangeRules,
        halves: &mut Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Result<Decoded, Fault> {
        let Output { head, tail, trailers, .. } = out;
        let decoded = halves.client.request_body(input, rules.limits, trailers)?;
        halves.target.frame_body(&decoded, trailers, (head, tail));
        if self.expects == Expects::Continue && decoded.consumed > 0 {
            self.expects = Expects::NoMore;
        }
        if decoded.done {
            self.reading = Reading::Complete;
        }
        Ok(decoded)
    }

    /// A target leads back to us: each round would take a connection on both sides, without end (RFC 5842 section 7.2 has the
    /// status).
    fn answer_loop(
        &mut self,
        head: &RequestHead<'_, '_>,
        rules: &ExchangeRules,
        client: &mut ServerHalf,
        out: &mut Output,
    ) -> Step {
        self.reading = if head.has_content() { Reading::Closed } else { Reading::Complete };
        let (status, why) = (Fault::Loop.status(), Fault::Loop.why());
        self.answer_with(client, (status, why), Cause::of_request(Fault::Loop), rules, out);
        Step { consumed: head.len, body: 0..0, next: Next::Answered }
    }

    /// `Max-Forwards: 0` makes us the final recipient (RFC 9110 section 7.6.2).
    fn answer_for_target(
        &mut self,
        head: &RequestHead<'_, '_>,
        client: &mut ServerHalf,
        out: &mut Output,
    ) -> Step {
        self.reading = if head.has_content() { Reading::Closed } else { Reading::Complete };
        if head.has_content() {
            client.end();
        }
        client.answer_options(self.id(), &mut out.head);
        self.status = 200;
        self.answering = Answering::Complete;
        Step { consumed: head.len, body: 0..0, next: Next::Answered }
    }

    /// Answers what cannot be served. Where the next request would begin is unknown then, so
    /// that the connection ends. A response already begun is cut instead, and one that is whole needs nothing more.
    fn refuse(
        &mut self,
        fault: Fault,
        rules: &ExchangeRules,
        client: &mut ServerHalf,
        out: &mut Output,
    ) -> Step {
        out.head.clear();
        out.tail.clear();
        let cause = Cause::of_request(fault);
        out.cause = Some(cause);
        if out.ids.request_ids && self.id().is_none() {
            self.set_id(out.ids.request_id());
        }
        self.reading = Reading::Closed;
        client.end();
        if matches!(self.answering, Answering::Body | Answering::Complete) {
            return Step { consumed: 0, body: 0..0, next: Next::ClientBroke };
        }
        self.answer_with(client, (fault.status(), fault.why()), cause, rules, out);
        Step { consumed: 0, body: 0..0, next: Next::Answered }
    }

    /// The client was too slow: 408 while nothing was answered yet.
    pub fn client_timed_out(
        &mut self,
        rules: &ExchangeRules,
        client: &mut ServerHalf,
        out: &mut Output,
    ) -> Next {
        self.refuse(Fault::SlowRequest, rules, client, out).next
    }

    /// There is no memory for a request of which nothing was answered yet: 503, and the connection ends.
    pub fn no_memory(&mut self, rules: &ExchangeRules, client: &mut ServerHalf, out: &mut Output) {
        out.head.clear();
        out.tail.clear();
        self.reading = Reading::Closed;
        client.end();
        self.answer_with(client, (503, ""), Reason::MemoryLimit.into(), rules, out);
    }

    /// The client's side of the connection ended.
    pub fn client_closed(&mut self) -> ClientEnd {
        match self.reading {
            Reading::Head if matches!(self.answering, Answering::Nothing) => ClientEnd::Close,
            Reading::Tunnel => {
                self.reading = Reading::Closed;
                ClientEnd::HalfClose
            }
            _ => ClientEnd::Abort,
        }
    }
}

/// What the access log says of a request, which goes on in the trace `span`, or in that of its client.
fn describe(
    head: &RequestHead<'_, '_>,
    input: &[u8],
    span: Option<&TraceParent>,
    trusted: bool,
    line: &mut Vec<u8>,
) {
    push_line(head, input, line);
    for name in ["host", "referer", "user-agent"] {
        push_part(line, head.field(name).unwrap_or_default());
    }
    if let Some(span) = span.copied().or_else(|| head.traceparent()) {
        span.append_trace(line);
    }
    line.push(0);
    push_part(line, if trusted { head.forwarded_for() } else { &[] });
}

/// What the flight recorder has room for, and what costs little.
fn describe_briefly(head: &RequestHead<'_, '_>, input: &[u8], trusted: bool, line: &mut Vec<u8>) {
    push_line(head, input, line);
    push_part(line, head.host.unwrap_or_default());
    if trusted {
        line.extend_from_slice(&[0; 3]);
        push_part(line, head.forwarded_for());
    }
}

/// Appends the request line, whose two spaces are single ones, as three text parts.
fn push_line(head: &RequestHead<'_, '_>, input: &[u8], line: &mut Vec<u8>) {
    let ends = [head.line_start, head.line_end.saturating_sub("\r".len())];
    line.extend_from_slice(input.get(ends[0]..ends[1]).unwrap_or_default());
    let target = head.method_text.len() + " ".len() + head.target.len();
    for end in [head.method_text.len(), target, line.len().saturating_sub(1)] {
        if let Some(byte) = line.get_mut(end) {
            *byte = 0;
        }
    }
}
