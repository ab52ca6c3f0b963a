//! What is known of an endpoint beyond what a request needs, for people: since when it is as it is, why, and what its last checks
//! found.
//!
//! Owns the place where the health thread leaves that and whoever shows it finds it; workers look at neither. Invariant: one thread
//! writes, whole values only, so that a reader never waits and never sees half of one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::EndpointState;
use crate::reason::Reason;
use crate::settings::TargetState;

/// Checks that are remembered of each endpoint.
pub const CHECKS: usize = 10;

/// A moment by both clocks: the one tells which, the other how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock of people, which may be set.
    pub wall: SystemTime,
    /// By the clock that only goes on.
    pub at: Instant,
}

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment { wall: SystemTime::now(), at: Instant::now() }
    }

    /// So long before.
    #[must_use]
    pub fn before(self, time: Duration) -> Moment {
        Moment {
            wall: self.wall.checked_sub(time).unwrap_or(self.wall),
            at: self.at.checked_sub(time).unwrap_or(self.at),
        }
    }

    /// When this moment is over by the clock of people, seen from here: `at` may lie ahead.
    pub fn wall_of(self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(ahead) => self.wall + ahead,
            None => self.wall.checked_sub(self.at - at).unwrap_or(self.wall),
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckNote {
    /// When it ended.
    pub ended: SystemTime,
    /// From its start to its end.
    pub took: Duration,
    /// Whether it found what was expected.
    pub passed: bool,
    /// What it found: a status, or why it failed.
    pub result: Arc<str>,
    /// Why it failed, if it did.
    pub reason: Option<Reason>,
}

/// What somebody has decided about an endpoint, beside what the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Override {
    /// Whether it gets requests; `None`: as the file says.
    pub state: Option<TargetState>,
    /// What the file says.
    pub saved: TargetState,
    /// Its part of what its target gets; `None`: as DNS says.
    pub weight: Option<u16>,
}

impl Override {
    /// Whether anything was decided that the file does not say.
    pub fn is_set(&self) -> bool {
        self.state.is_some() || self.weight.is_some()
    }

    /// Whether it gets requests, by whoever says so.
    pub fn in_force(&self) -> TargetState {
        self.state.unwrap_or(self.saved)
    }

    /// After `state` was decided: nothing is left of a decision that the file says as well.
    #[must_use]
    pub fn deciding(self, state: TargetState) -> Override {
        Override { state: Some(state).filter(|state| *state != self.saved), ..self }
    }

    /// After the file says `saved`, likewise.
    #[must_use]
    pub fn saving(self, saved: TargetState) -> Override {
        Override { saved, state: self.state.filter(|state| *state != saved), ..self }
    }
}

/// What is known of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointDetail {
    /// Whether it may be picked, and if not, why.
    pub state: EndpointState,
    /// Since when that is so.
    pub since: Moment,
    /// What its checks and its requests say, whatever somebody has decided.
    pub health: EndpointState,
    /// Why `health` is other than up, in a sentence.
    pub why: Option<Arc<str>>,
    /// Likewise, as one of the closed set.
    pub reason: Option<Reason>,
    /// Until when it is out, if it is ejected.
    pub ejected_until: Option<Instant>,
    /// What somebody has decided about it.
    pub decided: Override,
    /// Its last checks, the oldest first; [`CHECKS`] at most.
    pub checks: Vec<CheckNote>,
}

/// Where that is left.
#[derive(Debug)]
pub struct DetailCell(ArcSwap<EndpointDetail>);

impl DetailCell {
    /// With this for a start.
    pub fn new(detail: EndpointDetail) -> Arc<DetailCell> {
        Arc::new(DetailCell(ArcSwap::from_pointee(detail)))
    }

    /// It is as this says from now on.
    pub fn set(&self, detail: EndpointDetail) {
        self.0.store(Arc::new(detail));
    }

    /// What is known now.
    pub fn get(&self) -> Arc<EndpointDetail> {
        self.0.load_full()
    }
}

impl PartialEq for DetailCell {
    /// Two are always equal: what they hold changes while a snapshot does not.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for DetailCell {}
