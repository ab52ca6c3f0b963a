//! The target's direction: interim and final heads, bodies, the switch to a tunnel, and what is done when the
//! target breaks the exchange.

use super::{
    Answering, Break, Early, Expects, Failure, MAX_INTERIM, Next, Output, Reading, Remedy, Reuse,
    Session, SessionRules, Step, Steps, pass_all, retry,
};
use crate::http1::body::Decoded;
use crate::http1::head::ResponseHead;
use crate::http1::mend;
use crate::http1::{BodyLength, Fault, Progress};

impl Session {
    /// Bytes of the target.
    pub fn upstream_bytes(
        &mut self,
        cx: &SessionRules,
        input: &mut [u8],
        out: &mut Output,
    ) -> Step {
        match self.answering {
            Answering::Awaited => self.response_head(cx, input, out),
            Answering::Body => {
                let mut decoded = Decoded { consumed: 0, data: 0..0, done: false };
                let Output { head, tail, trailers, .. } = out;
                let result =
                    self.target_side.response_body(input, cx.limits, trailers, &mut decoded);
                self.client_side.frame_body(&decoded, trailers, (head, tail));
                if let Err(bad) = result {
                    // What stands before the fault is whole, and nothing behind it is.
                    out.reason = bad.why();
                    return decoded.step(Next::Failed(Failure::BadResponse));
                }
                if !decoded.done {
                    return decoded.step(Next::ToClient);
                }
                let left = input.len() - decoded.consumed;
                self.finished(decoded, left)
            }
            Answering::Tunnel => pass_all(input, Next::ToClient),
            Answering::Nothing | Answering::Complete => {
                // Nobody asked for this: the connection is not to be trusted any more.
                out.reason = "The target sent a response before there was a request.";
                Step { consumed: input.len(), body: 0..0, next: Next::Failed(Failure::BadResponse) }
            }
        }
    }

    /// `left`: bytes of the target behind the end, which nobody asked for.
    fn finished(&mut self, decoded: Decoded, left: usize) -> Step {
        self.end_answer();
        let reuse = match self.target_side.reuse_behind(left) {
            Reuse::Pool if self.private => Reuse::Private,
            reuse => reuse,
        };
        decoded.step(Next::Finished { reuse })
    }

    /// The response is whole. What its target does not want of the request is not read any more.
    fn end_answer(&mut self) {
        self.answering = Answering::Complete;
        if self.exchange.early == Early::Enough && !self.request_complete() {
            self.reading = Reading::Closed;
        }
    }

    fn response_head(&mut self, cx: &SessionRules, input: &mut [u8], out: &mut Output) -> Step {
        let mut at = 0;
        loop {
            match self.one_head(cx, &mut input[at..], out) {
                Ok(Headed::Interim(len)) => at += len,
                Ok(Headed::Partial) if at > 0 => {
                    return Step { consumed: at, body: 0..0, next: Next::ToClient };
                }
                Ok(Headed::Partial) => {
                    return Step { consumed: 0, body: 0..0, next: Next::NeedMore };
                }
                Ok(Headed::Final(step)) => return step.behind(at),
                Err(bad) => {
                    out.reason = bad.why();
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
        cx: &SessionRules,
        input: &mut [u8],
        out: &mut Output,
    ) -> Result<Headed, Fault> {
        if !self.target_side.is_head_due(input, cx.limits) {
            return Ok(Headed::Partial);
        }
        let judge = |head: &ResponseHead<'_, '_>, bytes: &[u8]| self.judged(cx, head, bytes, out);
        let Progress::Complete((head_len, length)) = mend::read_response(input, cx.limits, judge)?
        else {
            return Ok(Headed::Partial);
        };
        self.target_side.head_ends();
        let Some(length) = length else { return Ok(Headed::Interim(head_len)) };
        match self.behind_head(cx, length, &mut input[head_len..], out) {
            Ok(step) => Ok(Headed::Final(step.behind(head_len))),
            Err(bad) => {
                // Its head has not gone out: the client can still be answered.
                self.answering = Answering::Awaited;
                self.exchange.status = 0;
                Err(bad)
            }
        }
    }

    /// Passes a whole head on. `None` if it was an interim one, else where its body ends.
    fn judged(
        &mut self,
        cx: &SessionRules,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<Option<BodyLength>, Fault> {
        match head.status {
            101 => self.switch_protocols(cx, head, input, out).map(|()| Some(BodyLength::None)),
            100..200 => self.interim(cx, head, input, out).map(|()| None),
            _ => self.final_head(cx, head, input, out).map(Some),
        }
    }

    /// What follows a final head in the same read.
    fn behind_head(
        &mut self,
        cx: &SessionRules,
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
            self.target_side.response_body(rest, cx.limits, trailers, &mut decoded)?;
            self.client_side.frame_body(&decoded, trailers, (head, tail));
        }
        if !decoded.done {
            return Ok(decoded.step(Next::ToClient));
        }
        let left = rest.len() - decoded.consumed;
        Ok(self.finished(decoded, left))
    }

    /// Passes a 1xx on (RFC 9110 section 15.2), but not to a 1.0 client, and not a 100 nobody asked for.
    fn interim(
        &mut self,
        cx: &SessionRules,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), Fault> {
        self.exchange.interim += 1;
        self.target_side.interim(head);
        if self.exchange.interim > MAX_INTERIM {
            return Err(Fault::TooManyInterim);
        }
        let unasked = head.status == 100 && self.exchange.expects == Expects::Nothing;
        if self.client_side.takes_interim() && !unasked {
            self.client_side.interim_head(head, input, cx.response_via.as_ref(), &mut out.head);
            if head.status == 100 {
                self.exchange.expects = Expects::NoMore;
            }
        }
        Ok(())
    }

    /// A 101 is good only if the client asked for that protocol and its request is complete
    /// (RFC 9110 sections 7.8 and 15.2.2).
    fn switch_protocols(
        &mut self,
        cx: &SessionRules,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), Fault> {
        let agreed = match (&self.exchange.upgrade, head.upgrade) {
            (Some(asked), Some(got)) => offers(&asked.protocols, got),
            _ => false,
        };
        if !agreed || !self.request_complete() {
            return Err(Fault::UnaskedSwitch);
        }
        self.client_side.interim_head(head, input, cx.response_via.as_ref(), &mut out.head);
        self.exchange.status = head.status;
        self.answering = Answering::Tunnel;
        self.reading = Reading::Tunnel;
        Ok(())
    }

    fn final_head(
        &mut self,
        cx: &SessionRules,
        head: &ResponseHead<'_, '_>,
        input: &[u8],
        out: &mut Output,
    ) -> Result<BodyLength, Fault> {
        let length = head.body(self.exchange.method)?;
        let whole = self.request_complete();
        if !whole || self.exchange.early != Early::No {
            let reads_on = self.wants_the_rest(head);
            self.exchange.early = if reads_on { Early::ReadsOn } else { Early::Enough };
        }
        if cx.draining || (!whole && self.exchange.early == Early::Enough) {
            self.client_side.end();
        }
        let via = cx.response_via.as_ref();
        self.client_side.response_head(head, input, length, via, &mut out.head);
        self.target_side.begin_body(head, length);
        self.exchange.status = head.status;
        if self.exchange.early != Early::No
            || may_have_stopped_reading(head.status, self.exchange.has_content)
        {
            self.target_side.rule_out_reuse();
        }
        self.private |= head.binds_connection();
        self.answering = Answering::Body;
        Ok(length)
    }

    /// Whether a target that answers with `head` before it has the whole request goes on to read it. It has to, or to close
    /// (RFC 9112 section 9.3); with an error and the announcement to close it says that it will not (section 9.5). What a
    /// client holds back until it is asked for it may never send.
    fn wants_the_rest(&self, head: &ResponseHead<'_, '_>) -> bool {
        self.exchange.expects != Expects::Continue && (head.keep_alive || head.status < 400)
    }

    /// The target's side of the connection ended. `Finished` if that is how its response ends.
    pub fn upstream_closed(&mut self, out: &mut Output) -> Next {
        if self.answering != Answering::Body || self.target_side.closed().is_err() {
            return Next::Failed(Failure::Closed);
        }
        let end = Decoded { consumed: 0, data: 0..0, done: true };
        let Output { head, tail, trailers, .. } = out;
        self.client_side.frame_body(&end, trailers, (head, tail));
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
            intact: broken.held && !self.exchange.replayed && self.exchange.interim == 0,
            budget: broken.budget,
            elsewhere: broken.elsewhere,
            begun: !self.awaits_response(),
        }
    }

    /// The exchange with the target broke. Says what is to be done, by the table in `retry`; an answer
    /// is then in `out`.
    pub fn upstream_failed(
        &mut self,
        cx: &SessionRules,
        broken: Break,
        out: &mut Output,
    ) -> Remedy {
        let found = std::mem::take(&mut out.reason);
        out.clear();
        out.reason = match broken.failure {
            Failure::BadResponse if !found.is_empty() => found,
            failure => failure.why(),
        };
        let remedy = retry::remedy(&self.situation(broken));
        match remedy {
            Remedy::Replay => self.exchange.replayed = true,
            Remedy::Answer(status) if self.awaits_response() => {
                self.end_if_draining(cx);
                self.answer_with(status, broken.failure.why(), out);
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
