//! How one endpoint has become what it is: its last checks, since when, and why. Pure: `now` is an argument.
//!
//! Owns what is shown of that; decides nothing. Invariant: what was last shown is what [`History::show`] was last given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::EndpointState;
use crate::balance::detail::{CHECKS, CheckNote, DetailCell, EndpointDetail, Moment, Override};
use crate::reason::Reason;

/// The past of one endpoint.
#[derive(Debug)]
pub(super) struct History {
    state: EndpointState,
    /// Since when it is in that state; nobody has asked yet.
    since: Option<Moment>,
    /// For how long it was in that state when that was handed over.
    before: Duration,
    /// Why its checks fail, if the last one did.
    failure: Option<Why>,
    /// What it was last ejected for.
    ejection: Option<Why>,
    checks: VecDeque<CheckNote>,
    /// Where it is shown, once it is.
    cell: Option<Arc<DetailCell>>,
}

/// Why an endpoint is out: a sentence, and one of the closed set. An older version hands over no more than the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) text: Arc<str>,
    pub(super) reason: Option<Reason>,
}

/// How it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standpoint {
    /// As workers see it.
    pub(super) state: EndpointState,
    /// As its checks and requests say.
    pub(super) health: EndpointState,
    pub(super) ejected_until: Option<Instant>,
    pub(super) decided: Override,
}

impl History {
    /// Of one of which nothing is known.
    pub(super) fn new() -> History {
        History {
            state: EndpointState::Unknown,
            since: None,
            before: Duration::ZERO,
            failure: None,
            ejection: None,
            checks: VecDeque::new(),
            cell: None,
        }
    }

    /// Goes on from what another process knew: for how long it is in `state`, and why.
    pub(super) fn resume(&mut self, state: EndpointState, before: Duration, why: Option<Why>) {
        (self.state, self.before) = (state, before);
        (self.failure, self.ejection) = (why.clone(), why);
    }

    /// A check has ended.
    pub(super) fn note_check(&mut self, check: CheckNote) {
        let why = || Why { text: Arc::clone(&check.result), reason: check.reason };
        self.failure = (!check.passed).then(why);
        if self.checks.len() == CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back(check);
    }

    /// It is ejected for this.
    pub(super) fn note_ejection(&mut self, why: Why) {
        self.ejection = Some(why);
    }

    /// Since when it is as it is, if that was ever shown.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since.map(|since| since.at)
    }

    /// Why its health is this and not up.
    pub(super) fn why(&self, health: EndpointState) -> Option<&Why> {
        match health {
            EndpointState::Down => self.failure.as_ref(),
            EndpointState::Ejected => self.ejection.as_ref(),
            EndpointState::Up
            | EndpointState::Unknown
            | EndpointState::Drained
            | EndpointState::Disabled => None,
        }
    }

    /// Shows how it is now.
    pub(super) fn show(&mut self, is: Standpoint, now: Moment) {
        let why = self.why(is.health).cloned();
        let since = self.since.get_or_insert(now.before(self.before));
        if is.state != self.state {
            (self.state, *since) = (is.state, now);
        }
        let detail = EndpointDetail {
            state: is.state,
            since: *since,
            health: is.health,
            why: why.as_ref().map(|why| Arc::clone(&why.text)),
            reason: why.and_then(|why| why.reason),
            ejected_until: is.ejected_until,
            decided: is.decided,
            checks: self.checks.iter().cloned().collect(),
        };
        match &self.cell {
            Some(cell) => cell.set(detail),
            None => self.cell = Some(DetailCell::new(detail)),
        }
    }

    /// Where that is shown; `None`: it never was.
    pub(super) fn cell(&self) -> Option<Arc<DetailCell>> {
        self.cell.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: u64, passed: bool) -> CheckNote {
        CheckNote {
            ended: Moment::now().wall,
            took: Duration::from_millis(number),
            passed,
            result: format!("check {number}").into(),
            reason: (!passed).then_some(Reason::UnexpectedStatus),
        }
    }

    fn resets(count: u32) -> Why {
        let text = format!("{count} consecutive resets").into();
        Why { text, reason: Some(Reason::ConsecutiveResets) }
    }

    fn standpoint(state: EndpointState) -> Standpoint {
        Standpoint { state, health: state, ejected_until: None, decided: Override::default() }
    }

    #[test]
    fn the_last_ten_checks_are_shown_and_the_last_failure_is_the_reason() {
        let begun = Moment::now();
        let mut history = History::new();
        for number in 0..12 {
            history.note_check(note(number, number < 11));
        }
        history.show(standpoint(EndpointState::Unknown), begun);
        let later = Moment { at: begun.at + Duration::from_secs(3), ..begun };
        history.show(standpoint(EndpointState::Down), later);
        let shown = history.cell().unwrap().get();
        let took: Vec<u128> = shown.checks.iter().map(|it| it.took.as_millis()).collect();
        assert_eq!(took, (2..12).collect::<Vec<u128>>());
        assert_eq!(shown.why.as_deref(), Some("check 11"));
        assert_eq!(shown.reason, Some(Reason::UnexpectedStatus));
        assert_eq!(shown.checks[0].reason, None);
        assert_eq!((shown.state, shown.since), (EndpointState::Down, later));
        history.show(standpoint(EndpointState::Down), Moment::now());
        assert_eq!(history.cell().unwrap().get().since, later, "nothing has changed");
    }

    #[test]
    fn an_ejection_has_its_own_reason_and_what_was_handed_over_goes_on() {
        let (now, mut history) = (Moment::now(), History::new());
        let minute = Duration::from_secs(60);
        history.resume(EndpointState::Ejected, minute, Some(resets(5)));
        history.show(standpoint(EndpointState::Ejected), now);
        let shown = history.cell().unwrap().get();
        assert_eq!(shown.why.as_deref(), Some("5 consecutive resets"));
        assert_eq!(shown.since, now.before(minute));
        history.note_ejection(resets(6));
        history.note_check(note(1, true));
        history.show(standpoint(EndpointState::Ejected), Moment::now());
        let shown = history.cell().unwrap().get();
        assert_eq!(shown.why.as_deref(), Some("6 consecutive resets"));
        assert_eq!(shown.reason, Some(Reason::ConsecutiveResets));
    }
}
