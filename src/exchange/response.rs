//! The target's direction: interim and final heads, bodies, the switch to a tunnel, and what is done when the
//! target breaks the exchange.

use super::{
    Answering, Break, Early, ExchangeRules, Expects, Failure, Flow, Halves, MAX_INTERIM, Next,
    Output, Reading, Remedy, Reuse, Step, Steps, pass_all, retry,
};
use crate::http1::answer::received_status;
use crate::http1::body::Decoded;
use crate::http1::head::ResponseHead;
use crate::http1::{BodyLength, Fault, Progress, ServerHalf};
use crate::reason::Cause;
use crate::settings::ProxyStatus;

impl Flow {
    /// Bytes of the target.
    pub fn upstream_bytes(
        &mut self,
        rules: &ExchangeRules,
        mut halves: Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        match self.answering {
            Answering::Awaited => self.response_head(rules, &mut halves, input, out),
            Answering::Body => {
                let mut decoded = Decoded { consumed: 0, data: 0..0, done: false };
                let Output { head, tail, trailers, .. } = out;
                let result =
                    halves.target.response_body(input, rules.limits, trailers, &mut decoded);
                halves.client.frame_body(&decoded, trailers, (head, tail));
                if let Err(bad) = result {
                    // What stands before the fault is whole, and nothing behind it is.
                    out.cause = Some(Cause::of_response(bad));
                    return decoded.step(Next::Failed(Failure::BadResponse));
                }
                if !decoded.done {
                    return decoded.step(Next::ToClient);
                }
                let left = input.len() - decoded.consumed;
                self.finished(&halves, decoded, left)
            }
            Answering::Tunnel => pass_all(input, Next::ToClient),
            Answering::Nothing | Answering::Complete => {
                // Nobody asked for this: the connection is not to be trusted any more.
                out.cause = Some(Cause::of_response(Fault::UnaskedResponse));
                Step { consumed: input.len(), body: 0..0, next: Next::Failed(Failure::BadResponse) }
            }
        }
    }

    /// `left`: bytes of the target behind the end, which nobody asked for.
    fn finished(&mut self, halves: &Halves<'_>, decoded: Decoded, left: usize) -> Step {
        self.end_answer();
        let reuse = match halves.target.reuse_behind(left) {
            Reuse::Pool if halves.client.is_private() => Reuse::Private,
            reuse => reuse,
        };
        decoded.step(Next::Finished { reuse })
    }

    /// The response is whole. What its target does not want of the request is not read any more.
    fn end_answer(&mut self) {
        self.answering = Answering::Complete;
        if self.early == Early::Enough && !self.request_complete() {
            self.reading = Reading::Closed;
        }
    }

    fn response_head(
        &mut self,
        rules: &ExchangeRules,
        halves: &mut Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        let mut at = 0;
        loop {
            match self.one_head(rules, halves, &mut input[at..], out) {
                Ok(Headed::Interim(len)) => at += len,
                Ok(Headed::Partial) if at > 0 => {
                    return Step { consumed: at, body: 0..0, next: Next::ToClient };
                }
                Ok(Headed::Partial) => {
                    return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
                }
                Ok(Headed::Final(step)) => return step.behind(at),
                Err(bad) => {
                    out.cause = Some(Cause::of_response(bad));
                    return Step {
                        consumed: 0,
                        body: 0..0,
                        next: Next::Failed(Failure::BadResponse),
                    };
                }
            }
        }
    }

    fn one_head(
        &mut self,
        rules: &ExchangeRules,
        halves: &mut Halves<'_>,
        input: &mut [u8],
        out: &mut Output,
    ) -> Result<Headed, Fault> {
        let Halves { client, target } = halves;
        let progress = target.response_head(input, rules.limits, |target, head, bytes| {
            self.judged(rules, Halves { client, target }, head, bytes, out)
        })?;
        let Progress::Complete((head_len, length)) = progress else { return Ok(Headed::Partial) };
        let Some(length) = length else { return Ok(Headed::Interim(head_len)) };
        match self.behind_head(rules, halves, length, &mut input[head_len..], out) {
            Ok(step) => Ok(Headed::Final(step.behind(head_len))),
            Err(bad) => {
                // Its head has not gone out: the client can still be answered.
                self.answering = Answering::Awaited;
                self.status = 0;
                Err(bad)
            }
        }
    }

    /// Passes a whole head on. `None` if it was an interim one, else where its body ends.
    fn judged(
        &mut self,
        rules: &ExchangeRules,
        halves: Halves<'_>,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<Option<BodyLength>, Fault> {
        match head.status {
            101 => self
                .switch_protocols(rules, halves.client, head, input, out)
                .map(|()| Some(BodyLength::None)),
            100..200 => self.interim(rules, halves, head, input, out).map(|()| None),
            _ => self.final_head(rules, halves, head, input, out).map(Some),
        }
    }

    /// What follows a final head in the same read.
    fn behind_head(
        &mut self,
        rules: &ExchangeRules,
        halves: &mut Halves<'_>,
        length: BodyLength,
        rest: &mut [u8],
        out: &mut Output,
    ) -> Result<Step, Fault> {
        if self.answering != Answering::Body {
            return Ok(pass_all(rest, Next::ToClient));
        }
        let mut decoded = Decoded { consumed: 0, data: 0..0, done: true };
        if !matches!(length, BodyLength::None) {
            let Output { head, tail, trailers, .. } = out;
            halves.target.response_body(rest, rules.limits, trailers, &mut decoded)?;
            halves.client.frame_body(&decoded, trailers, (head, tail));
        }
        if !decoded.done {
            return Ok(decoded.step(Next::ToClient));
        }
        let left = rest.len() - decoded.consumed;
        Ok(self.finished(halves, decoded, left))
    }

    /// Passes a 1xx on (RFC 9110 section 15.2), but not to a 1.0 client, and not a 100 nobody asked for.
    fn interim(
        &mut self,
        rules: &ExchangeRules,
        halves: Halves<'_>,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), Fault> {
        let Halves { client, target } = halves;
        self.interim += 1;
        target.interim(head);
        if self.interim > MAX_INTERIM {
            return Err(Fault::TooManyInterim);
        }
        let unasked = head.status == 100 && self.expects == Expects::Nothing;
        if client.takes_interim() && !unasked {
            let added = (rules.response_via.as_ref(), self.id());
            client.interim_head(head, input, added, &mut out.head);
            if head.status == 100 {
                self.expects = Expects::NoMore;
            }
        }
        Ok(())
    }

    /// A 101 is good only if the client asked for that protocol and its request is complete
    /// (RFC 9110 sections 7.8 and 15.2.2).
    fn switch_protocols(
        &mut self,
        rules: &ExchangeRules,
        client: &ServerHalf,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), Fault> {
        let agreed = match (&self.rarities, head.upgrade) {
            (Some(asked), Some(got)) => offers(&asked.protocols, got),
            _ => false,
        };
        if !agreed || !self.request_complete() {
            return Err(Fault::UnaskedSwitch);
        }
        let added = (rules.response_via.as_ref(), self.id());
        client.interim_head(head, input, added, &mut out.head);
        self.status = head.status;
        self.answering = Answering::Tunnel;
        self.reading = Reading::Tunnel;
        Ok(())
    }

    fn final_head(
        &mut self,
        rules: &ExchangeRules,
        halves: Halves<'_>,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<BodyLength, Fault> {
        let Halves { client, target } = halves;
        let length = head.body(self.method)?;
        let whole = self.request_complete();
        if !whole || self.early != Early::No {
            let reads_on = self.wants_the_rest(head);
            self.early = if reads_on { Early::ReadsOn } else { Early::Enough };
        }
        if rules.draining || (!whole && self.early == Early::Enough) {
            client.end();
        }
        let added = (rules.response_via.as_ref(), self.id());
        client.response_head(head, input, length, added, &mut out.head);
        if rules.proxy_status == ProxyStatus::All {
            received_status(head.status, &mut out.head);
        }
        target.begin_body(head, length);
        self.status = head.status;
        if self.early != Early::No || may_have_stopped_reading(head.status, self.has_content) {
            target.rule_out_reuse();
        }
        self.answering = Answering::Body;
        Ok(length)
    }

    /// Whether a target that answers with `head` before it has the whole request goes on to read it. It has to, or to close
    /// (RFC 9112 section 9.3); with an error and the announcement to close it says that it will not (section 9.5). What a
    /// client holds back until it is asked for it may never send.
    fn wants_the_rest(&self, head: &ResponseHead<'_, '_>) -> bool {
        self.expects != Expects::Continue && (head.keep_alive || head.status < 400)
    }

    /// The target's side of the connection ended. `Finished` if that is how its response ends.
    pub fn upstream_closed(&mut self, halves: Halves<'_>, out: &mut Output) -> Next {
        let Halves { client, target } = halves;
        if self.answering != Answering::Body || target.closed().is_err() {
            return Next::Failed(Failure::Closed);
        }
        let end = Decoded { consumed: 0, data: 0..0, done: true };
        let Output { head, tail, trailers, .. } = out;
        client.frame_body(&end, trailers, (head, tail));
        self.end_answer();
        Next::Finished { reuse: Reuse::Ends }
    }

    /// Whether the table in `retry` would have a request that broke like this sent again.
    pub fn would_replay(&self, broken: Break) -> bool {
        retry::remedy(&self.situation(broken)) == Remedy::Replay
    }

    fn situation(&self, broken: Break) -> retry::Situation {
        retry::Situation {
            failure: broken.failure,
            sent: broken.sent,
            idempotent: self.is_idempotent(),
            intact: broken.held && !self.replayed && self.interim == 0,
            budget: broken.budget,
            elsewhere: broken.elsewhere,
            begun: !self.awaits_response(),
        }
    }

    /// The exchange with the target broke. Says what is to be done, by the table in `retry`; an answer
    /// is then in `out`.
    pub fn upstream_failed(
        &mut self,
        rules: &ExchangeRules,
        client: &mut ServerHalf,
        broken: Break,
        out: &mut Output,
    ) -> Remedy {
        let found = out.cause.take().filter(|_| broken.failure == Failure::BadResponse);
        let cause = found.unwrap_or(broken.failure.reason(!self.awaits_response()).into());
        out.clear();
        out.cause = Some(cause);
        let remedy = retry::remedy(&self.situation(broken));
        match remedy {
            Remedy::Replay => self.replayed = true,
            Remedy::Answer(status) if self.awaits_response() => {
                rules.end_if_draining(client);
                self.answer_with(client, (status, broken.failure.why()), cause, rules, out);
            }
            Remedy::Answer(_) | Remedy::Cut => {
                self.answering = Answering::Complete;
                self.reading = Reading::Closed;
                return Remedy::Cut;
            }
        }
        remedy
    }
}

/// Whether a target that answers with `status` may not have read its request to the end, although it keeps its connection. What
/// it left would be its next request, with bytes that the client chose.
fn may_have_stopped_reading(status: u16, has_content: bool) -> bool {
    match status {
        // It says that it could not read the request, or would not: also the fields may have been too much.
        400 | 408 | 413 | 414 | 417 | 431 | 505 => true,
        // It says where else to send the content, or that it has no use for it.
        301 | 307 | 308 | 400.. => has_content,
        _ => false,
    }
}

enum Headed {
    Partial,
    Interim(usize),
    Final(Step),
}

/// Whether the list of protocols `asked` has `got`, in any casing.
fn offers(asked: &[u8], got: &[u8]) -> bool {
    let got = got.trim_ascii();
    asked.split(|&byte| byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(got))
}
