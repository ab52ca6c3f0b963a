//! What is done when an exchange with a target breaks: one `match`, which is the table.
//!
//! A connect that failed is not in it: nothing was sent, so the request simply moves on to another endpoint,
//! whatever its method, and that is for the engine to do. What may have been processed is sent twice only if its
//! method says that this does no harm (RFC 9110 section 9.2.2), and only once, and within the retry budget.
//!
//! `docs/design.md` has the same table; a test reads it and compares.

use crate::reason::Reason;

/// Why an exchange with a target failed.
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
    /// It went down while the request waited for its response.
    Down,
    /// It sent what is not a response, or one that could be read two ways.
    BadResponse,
}

impl Failure {
    /// The reason of what follows, of a response that has `begun` or not.
    pub fn reason(self, begun: bool) -> Reason {
        match self {
            Failure::Closed | Failure::Reset if begun => Reason::HttpResponseIncomplete,
            Failure::Closed | Failure::Reset => Reason::ConnectionTerminated,
            Failure::HeadTimeout | Failure::BodyTimeout => Reason::ConnectionReadTimeout,
            Failure::Down => Reason::DestinationUnavailable,
            Failure::BadResponse => Reason::HttpProtocolError,
        }
    }

    /// One short sentence for the answer's body.
    pub fn why(self) -> &'static str {
        match self {
            Failure::Closed | Failure::Reset => "The target closed the connection.",
            Failure::HeadTimeout | Failure::BodyTimeout => "The target did not respond in time.",
            Failure::Down => "The target went down.",
            Failure::BadResponse => "The target sent an invalid response.",
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the request a second time on a fresh connection, to another endpoint if there is one. After
    /// [`Failure::HeadTimeout`], [`Failure::BodyTimeout`] and [`Failure::Down`] there is one, or this would not be the remedy.
    Replay,
    /// Answer with this status.
    Answer(u16),
    /// The response has begun: end the client's connection so that it can see the cut, by a reset where a plain close would
    /// look like a proper end ([`ServerHalf::is_framed_by_its_end`](crate::http1::ServerHalf::is_framed_by_its_end)).
    Cut,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) failure: Failure,
    /// Some byte of the request may have reached the target.
    pub(super) sent: bool,
    pub(super) idempotent: bool,
    /// Nothing stands against sending it again from its first byte: all its bytes so far are held, it was not sent twice already,
    /// and no 1xx has come, of which its client may know.
    pub(super) intact: bool,
    /// The retry budget allows one more.
    pub(super) budget: bool,
    /// There is another endpoint that it was not sent to yet.
    pub(super) elsewhere: bool,
    /// Some byte of a response was passed on.
    pub(super) begun: bool,
}

/// The first row that fits decides.
pub(super) fn remedy(situation: &Situation) -> Remedy {
    use Failure::{BadResponse, BodyTimeout, Closed, Down, HeadTimeout, Reset};
    let &Situation { failure, begun, sent, idempotent, intact, budget, elsewhere } = situation;
    match (failure, begun, sent, idempotent, intact, budget, elsewhere) {
        // What has begun cannot be taken back.
        (_, true, _, _, _, _, _) => Remedy::Cut,
        // Not a byte was taken: harmless whatever the method, and no more work for the targets than the request itself.
        (Closed | Reset, false, false, _, true, _, _) => Remedy::Replay,
        (HeadTimeout | BodyTimeout | Down, false, false, _, true, _, true) => Remedy::Replay,
        // A kept connection that ended while the request was on its way, or a target that died with it in hand.
        (Closed | Reset, false, true, true, true, true, _) => Remedy::Replay,
        // A target that hangs: it does not help to ask the same one again.
        (HeadTimeout | BodyTimeout | Down, false, true, true, true, true, true) => Remedy::Replay,
        // It may have been processed, it is not intact, or too many were sent twice.
        (Closed | Reset | Down | BadResponse, false, _, _, _, _, _) => Remedy::Answer(502),
        (HeadTimeout | BodyTimeout, false, _, _, _, _, _) => Remedy::Answer(504),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Failure; 6] = [
        Failure::Closed,
        Failure::Reset,
        Failure::HeadTimeout,
        Failure::BodyTimeout,
        Failure::Down,
        Failure::BadResponse,
    ];

    const GET_LOST: Situation = Situation {
        failure: Failure::Reset,
        sent: true,
        idempotent: true,
        intact: true,
        budget: true,
        elsewhere: true,
        begun: false,
    };

    fn situations() -> impl Iterator<Item = Situation> {
        ALL.into_iter().flat_map(|failure| {
            (0..64u8).map(move |bits| {
                let bit = |n: u8| bits & (1 << n) != 0;
                Situation {
                    failure,
                    sent: bit(0),
                    idempotent: bit(1),
                    intact: bit(2),
                    budget: bit(3),
                    elsewhere: bit(4),
                    begun: bit(5),
                }
            })
        })
    }

    /// A row of the table in the documentation: what it asks of a situation, and what it says then.
    struct Row<'t> {
        broke: Vec<&'t str>,
        asks: Vec<(&'t str, bool)>,
        then: &'t str,
    }

    impl Row<'_> {
        fn fits(&self, situation: &Situation) -> bool {
            let name = match situation.failure {
                Failure::Closed => "closed",
                Failure::Reset => "reset",
                Failure::HeadTimeout | Failure::BodyTimeout => "timeout",
                Failure::Down => "down",
                Failure::BadResponse => "not a response",
            };
            let is = |column: &str| match column {
                "begun" => situation.begun,
                "sent" => situation.sent,
                "idempotent" => situation.idempotent,
                "intact" => situation.intact,
                "budget" => situation.budget,
                "elsewhere" => situation.elsewhere,
                other => panic!("no column of ours: {other}"),
            };
            (self.broke == ["anything"] || self.broke.contains(&name))
                && self.asks.iter().all(|&(column, wanted)| is(column) == wanted)
        }

        fn remedy(&self) -> Remedy {
            match self.then.split([',', ';']).next() {
                Some("sent again") => Remedy::Replay,
                Some("the client's connection is cut") => Remedy::Cut,
                Some(status) => Remedy::Answer(status.parse().expect("a status")),
                None => panic!("an empty cell"),
            }
        }
    }

    fn documented() -> Vec<Row<'static>> {
        const PAGE: &str = include_str!("../../docs/design.md");
        let cells = |line: &'static str| -> Vec<&'static str> {
            line.trim_matches('|').split('|').map(str::trim).collect()
        };
        let mut lines = PAGE.lines().skip_while(|line| !line.starts_with("| broke |"));
        let columns = cells(lines.next().expect("the table of what breaks"));
        let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
        rows.map(|row| {
            let (broke, then) = (row[0].split(", ").collect(), row[columns.len() - 1]);
            let asks = columns.iter().zip(&row).skip(1).take(columns.len() - 2);
            let asks = asks.filter(|(_, cell)| !cell.is_empty());
            let asks = asks.map(|(&column, &cell)| match cell {
                "yes" => (column, true),
                "no" => (column, false),
                other => panic!("neither yes nor no: {other}"),
            });
            Row { broke, asks: asks.collect(), then }
        })
        .collect()
    }

    #[test]
    fn the_documentation_says_what_is_done() {
        let rows = documented();
        assert!(rows.len() >= 7, "{} rows", rows.len());
        for situation in situations() {
            let row = rows.iter().find(|row| row.fits(&situation));
            let row = row.unwrap_or_else(|| panic!("no row for {situation:?}"));
            assert_eq!(row.remedy(), remedy(&situation), "{situation:?}");
        }
    }

    #[test]
    fn an_idempotent_request_at_hand_is_replayed() {
        assert_eq!(remedy(&GET_LOST), Remedy::Replay);
        assert_eq!(remedy(&Situation { failure: Failure::Closed, ..GET_LOST }), Remedy::Replay);
        let alone = Situation { elsewhere: false, ..GET_LOST };
        assert_eq!(remedy(&alone), Remedy::Replay, "to the same endpoint: a kept connection ended");
    }

    #[test]
    fn what_is_not_idempotent_and_may_have_been_processed_is_never_sent_twice() {
        let risky = |s: &Situation| s.sent && !s.idempotent;
        for situation in situations().filter(risky) {
            assert_ne!(remedy(&situation), Remedy::Replay, "{situation:?}");
        }
    }

    #[test]
    fn what_is_not_intact_is_never_sent_twice() {
        for situation in situations().filter(|s| !s.intact) {
            assert_ne!(remedy(&situation), Remedy::Replay, "{situation:?}");
        }
    }

    #[test]
    fn what_was_not_sent_may_be_sent_whatever_its_method() {
        let post = Situation { idempotent: false, sent: false, ..GET_LOST };
        assert_eq!(remedy(&post), Remedy::Replay);
        assert_eq!(remedy(&Situation { failure: Failure::HeadTimeout, ..post }), Remedy::Replay);
    }

    #[test]
    fn the_budget_bounds_what_is_sent_twice_but_not_what_was_never_sent() {
        let poor = Situation { budget: false, ..GET_LOST };
        assert_eq!(remedy(&poor), Remedy::Answer(502));
        assert_eq!(
            remedy(&Situation { failure: Failure::HeadTimeout, ..poor }),
            Remedy::Answer(504)
        );
        assert_eq!(remedy(&Situation { sent: false, ..poor }), Remedy::Replay);
    }

    #[test]
    fn a_response_that_has_begun_is_cut() {
        for situation in situations().filter(|s| s.begun) {
            assert_eq!(remedy(&situation), Remedy::Cut);
        }
    }

    #[test]
    fn a_target_that_hangs_is_not_asked_again_but_another_one_is() {
        for (failure, status) in [(Failure::HeadTimeout, 504), (Failure::Down, 502)] {
            let slow = Situation { failure, ..GET_LOST };
            assert_eq!(remedy(&slow), Remedy::Replay);
            let alone = Situation { elsewhere: false, ..slow };
            assert_eq!(remedy(&alone), Remedy::Answer(status));
            assert_eq!(remedy(&Situation { idempotent: false, ..slow }), Remedy::Answer(status));
        }
    }

    #[test]
    fn what_is_no_response_is_a_502() {
        let wrong = Situation { failure: Failure::BadResponse, ..GET_LOST };
        assert_eq!(remedy(&wrong), Remedy::Answer(502));
    }
}
