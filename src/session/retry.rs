//! What is done when an exchange with a target breaks: one table, as data.
//!
//! A connect that failed is not in it: nothing was sent, so the request simply moves on to another endpoint,
//! whatever its method, and that is for the engine to do. Nothing that may have been processed is sent
//! twice unless its method says that is harmless (RFC 9110 section 9.2.2).

/// How a target, or our side of it, broke an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It closed the connection before its response was whole.
    Closed,
    /// It reset the connection.
    Reset,
    /// It let `timeouts.response_header` pass without a response head.
    HeadTimeout,
    /// It let `timeouts.response_body` pass within a body.
    BodyTimeout,
    /// It sent what is not a response, or one that could be read two ways.
    BadResponse,
    /// The client broke its own request after the response had begun.
    ClientBroke,
}

impl Failure {
    /// One short sentence for the answer's body.
    pub fn why(self) -> &'static str {
        match self {
            Failure::Closed | Failure::Reset => "the target closed the connection",
            Failure::HeadTimeout | Failure::BodyTimeout => "the target did not answer in time",
            Failure::BadResponse => "the target sent an invalid response",
            Failure::ClientBroke => "the request is invalid",
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the request once more on a fresh connection.
    Replay,
    /// Answer with this status.
    Answer(u16),
    /// The response has begun: end the client's connection so that it can see the cut.
    Cut {
        /// By a reset, because a plain close would look like a proper end.
        reset: bool,
    },
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) failure: Failure,
    /// Some byte of the request may have reached the target.
    pub(super) sent: bool,
    /// The connection had carried no exchange before.
    pub(super) fresh: bool,
    pub(super) idempotent: bool,
    /// The whole of the request's bytes so far is still held, and was not sent twice already.
    pub(super) at_hand: bool,
    /// The retry budget allows one more.
    pub(super) affordable: bool,
    /// No byte of a response was passed on.
    pub(super) awaited: bool,
}

/// One row: `None` matches anything. The first row that matches decides.
struct Row {
    failure: &'static [Failure],
    awaited: Option<bool>,
    sent: Option<bool>,
    fresh: Option<bool>,
    idempotent: Option<bool>,
    at_hand: Option<bool>,
    affordable: Option<bool>,
    remedy: Remedy,
}

const LOST: &[Failure] = &[Failure::Closed, Failure::Reset];
const TIMEOUT: &[Failure] = &[Failure::HeadTimeout, Failure::BodyTimeout];
const WRONG: &[Failure] = &[Failure::Closed, Failure::Reset, Failure::BadResponse];
const ANY: &[Failure] = &[
    Failure::Closed,
    Failure::Reset,
    Failure::HeadTimeout,
    Failure::BodyTimeout,
    Failure::BadResponse,
    Failure::ClientBroke,
];

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // What has begun cannot be taken back.
    Row { failure: ANY, awaited: NO, sent: None, fresh: None, idempotent: None, at_hand: None, affordable: None, remedy: Remedy::Cut { reset: false } },
    // Not a byte was taken: harmless whatever the method, and no more work for the targets than the request itself.
    Row { failure: LOST, awaited: YES, sent: NO, fresh: None, idempotent: None, at_hand: YES, affordable: None, remedy: Remedy::Replay },
    // A pooled connection that ended while the request was on its way to it: nearly always nobody has seen it.
    Row { failure: LOST, awaited: YES, sent: YES, fresh: NO, idempotent: YES, at_hand: YES, affordable: YES, remedy: Remedy::Replay },
    // A target that died with the request in its hands: harmless to repeat.
    Row { failure: LOST, awaited: YES, sent: YES, fresh: YES, idempotent: YES, at_hand: YES, affordable: YES, remedy: Remedy::Replay },
    // It may have been processed, its bytes are gone, it was sent twice already, or too many were.
    Row { failure: WRONG, awaited: YES, sent: None, fresh: None, idempotent: None, at_hand: None, affordable: None, remedy: Remedy::Answer(502) },
    // A target that is slow is not helped by the same work twice.
    Row { failure: TIMEOUT, awaited: YES, sent: None, fresh: None, idempotent: None, at_hand: None, affordable: None, remedy: Remedy::Answer(504) },
    // The client broke its own request.
    Row { failure: ANY, awaited: YES, sent: None, fresh: None, idempotent: None, at_hand: None, affordable: None, remedy: Remedy::Answer(400) },
];

/// The table's word on `situation`.
pub(super) fn remedy(situation: &Situation) -> Remedy {
    let fits = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
    TABLE
        .iter()
        .find(|row| {
            row.failure.contains(&situation.failure)
                && fits(row.sent, situation.sent)
                && fits(row.fresh, situation.fresh)
                && fits(row.idempotent, situation.idempotent)
                && fits(row.at_hand, situation.at_hand)
                && fits(row.affordable, situation.affordable)
                && fits(row.awaited, situation.awaited)
        })
        .map_or(Remedy::Cut { reset: true }, |row| row.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET_LOST: Situation = Situation {
        failure: Failure::Reset,
        sent: true,
        fresh: false,
        idempotent: true,
        at_hand: true,
        affordable: true,
        awaited: true,
    };

    #[test]
    fn every_situation_has_a_row() {
        for &failure in ANY {
            for bits in 0..64u8 {
                let bit = |n: u8| bits & (1 << n) != 0;
                let situation = Situation {
                    failure,
                    sent: bit(0),
                    fresh: bit(1),
                    idempotent: bit(2),
                    at_hand: bit(3),
                    affordable: bit(4),
                    awaited: bit(5),
                };
                assert_ne!(remedy(&situation), Remedy::Cut { reset: true }, "{situation:?}");
            }
        }
    }

    #[test]
    fn an_idempotent_request_at_hand_is_replayed() {
        assert_eq!(remedy(&GET_LOST), Remedy::Replay);
        assert_eq!(remedy(&Situation { failure: Failure::Closed, ..GET_LOST }), Remedy::Replay);
    }

    #[test]
    fn what_may_have_been_processed_is_not_sent_twice() {
        let post = Situation { idempotent: false, ..GET_LOST };
        assert_eq!(remedy(&post), Remedy::Answer(502));
        assert_eq!(remedy(&Situation { at_hand: false, ..GET_LOST }), Remedy::Answer(502));
    }

    #[test]
    fn what_was_not_sent_may_be_sent_whatever_its_method() {
        let post = Situation { idempotent: false, sent: false, ..GET_LOST };
        assert_eq!(remedy(&post), Remedy::Replay);
    }

    #[test]
    fn the_budget_bounds_what_is_sent_twice_but_not_what_was_never_sent() {
        let poor = Situation { affordable: false, ..GET_LOST };
        assert_eq!(remedy(&poor), Remedy::Answer(502));
        assert_eq!(remedy(&Situation { fresh: true, ..poor }), Remedy::Answer(502));
        assert_eq!(remedy(&Situation { sent: false, ..poor }), Remedy::Replay);
    }

    #[test]
    fn a_response_that_has_begun_is_cut() {
        for &failure in ANY {
            let begun = Situation { failure, awaited: false, ..GET_LOST };
            assert_eq!(remedy(&begun), Remedy::Cut { reset: false });
        }
    }

    #[test]
    fn a_slow_target_is_a_504_and_a_wrong_one_a_502() {
        let slow = Situation { failure: Failure::HeadTimeout, ..GET_LOST };
        assert_eq!(remedy(&slow), Remedy::Answer(504));
        let wrong = Situation { failure: Failure::BadResponse, ..GET_LOST };
        assert_eq!(remedy(&wrong), Remedy::Answer(502));
    }
}
