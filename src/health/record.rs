//! What is known of an endpoint, to be handed over to another process: pure.
//!
//! Moments are written as times from now, since no clock is shared that a version after this one must read as this one does.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::balance::detail::Override;
use crate::settings::TargetState;

/// What checks and workers have made of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRecord {
    /// The target's address as configured.
    pub target: String,
    /// The endpoint's own. Empty: what is said here is of the target, and of every endpoint that it will have.
    pub address: String,
    /// Whether its checks say that it may be picked; `None` if none has ended yet.
    pub passing: Option<bool>,
    /// Consecutive checks that say otherwise.
    pub against: u32,
    /// Nobody was there when it was last checked.
    pub absent: bool,
    /// It was up at some time.
    pub known: bool,
    /// Milliseconds until its ejection is over, if it is ejected.
    pub ejected_ms: Option<u64>,
    /// Ejections one after another so far.
    pub ejections: u32,
    /// Milliseconds since it last came in after one.
    pub returned_ms: Option<u64>,
    /// Milliseconds since it is as it is.
    pub since_ms: Option<u64>,
    /// Why it is down or ejected.
    pub reason: Option<String>,
    /// Likewise, the word of its reason.
    pub reason_word: Option<String>,
    /// What somebody has decided about it, in a word.
    pub override_state: Option<String>,
    /// Likewise, its weight.
    pub override_weight: Option<u16>,
}

impl EndpointRecord {
    /// Of what somebody has decided about a target as a whole.
    pub(super) fn of_target(target: &str, decided: Override) -> EndpointRecord {
        EndpointRecord {
            target: target.to_owned(),
            override_state: decided.state.map(|state| state.name().to_owned()),
            override_weight: decided.weight,
            ..EndpointRecord::default()
        }
    }

    /// What somebody has decided.
    pub(super) fn decided(&self) -> Override {
        let state = self.override_state.as_deref().and_then(TargetState::of);
        Override { state, weight: self.override_weight, ..Override::default() }
    }
}

/// Milliseconds from one moment to a later one, rounded up: what is to end then does not end before.
pub(super) fn ms_between(from: Instant, to: Instant) -> u64 {
    let nanos = to.saturating_duration_since(from).as_nanos();
    u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// So many milliseconds, a year at most, so that no sum of times overflows.
pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count.min(365 * 24 * 3600 * 1000))
}
