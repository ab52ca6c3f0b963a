//! What somebody decides about a target while evenly runs, and what became of it. Pure.
//!
//! Owns the form of both; who is meant is the roster's to say.

use std::fmt;
use std::sync::Arc;

use crate::balance::detail::Override;
use crate::base::address::Address;
use crate::settings::TargetState;

/// A decision about a target, or one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SteerOrder {
    /// A target as it is configured, or the address of an endpoint.
    pub name: String,
    /// Whether it gets requests; `None`: as before.
    pub state: Option<TargetState>,
    /// Its weight, `Some(None)` the one that DNS says; `None`: as before.
    pub weight: Option<Option<u16>>,
}

impl SteerOrder {
    /// What is decided then, where that was decided before.
    pub(super) fn over(&self, before: Override) -> Override {
        let decided = self.state.map_or(before, |state| before.deciding(state));
        Override { weight: self.weight.unwrap_or(before.weight), ..decided }
    }
}

/// What was decided about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steered {
    /// The target as it is configured.
    pub label: Arc<str>,
    /// The address, if not all of it was meant.
    pub address: Option<Address>,
    /// How many endpoints that are.
    pub endpoints: usize,
    /// How many endpoints may be picked now, of all.
    pub healthy: usize,
}

impl fmt::Display for Steered {
    /// `target api:80`, `address 10.0.0.1:80 of target api:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            None => write!(f, "target {}", self.label),
            Some(address) => write!(f, "address {address} of target {}", self.label),
        }
    }
}

/// Why nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SteerError {
    /// Nothing has this name; what may have been meant.
    Unknown(Option<String>),
    /// A target as a whole has no weight; whether it is a name, whose addresses have.
    Weight(bool),
}

impl fmt::Display for SteerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SteerError::Unknown(None) => {
                f.write_str("no target has this name or address; evenly targets lists them")
            }
            SteerError::Unknown(Some(nearest)) => write!(
                f,
                "no target has this name or address; did you mean {nearest}? evenly targets lists them"
            ),
            SteerError::Weight(true) => f.write_str(
                "a weight compares the addresses of one target; name one of its addresses, not the target",
            ),
            SteerError::Weight(false) => f.write_str(
                "a weight compares the addresses of one target, and this target has one address only",
            ),
        }
    }
}

/// Of `names` the one that `name` may be meant for: one of which it is a part, or else one that is written much like it.
pub(super) fn nearest(name: &str, names: &[String]) -> Option<String> {
    let part = names.iter().find(|known| !name.is_empty() && known.contains(name));
    let like = || {
        let distance = |known: &&String| strsim::damerau_levenshtein(name, known);
        let close = |known: &&String| distance(known) <= 1 + known.len() / 4;
        names.iter().filter(close).min_by_key(distance)
    };
    part.or_else(like).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_an_order_stays_as_it_was() {
        let saved = TargetState::Auto;
        let before = Override { state: Some(TargetState::Drain), saved, weight: Some(3) };
        let order = |state, weight| SteerOrder { name: String::new(), state, weight };
        assert_eq!(order(None, None).over(before), before);
        let up = order(Some(TargetState::Up), Some(Some(0))).over(before);
        assert_eq!(up, Override { state: Some(TargetState::Up), saved, weight: Some(0) });
        assert!(!order(Some(TargetState::Auto), Some(None)).over(before).is_set());
    }

    #[test]
    fn nothing_is_left_of_a_decision_that_the_file_says_as_well() {
        let order = |state| SteerOrder { name: String::new(), state: Some(state), weight: None };
        let saved = Override::default().saving(TargetState::Drain);
        assert_eq!((saved.is_set(), saved.in_force()), (false, TargetState::Drain));
        let auto = order(TargetState::Auto).over(saved);
        assert_eq!((auto.is_set(), auto.in_force()), (true, TargetState::Auto));
        assert_eq!(order(TargetState::Drain).over(auto), saved);
        let down = order(TargetState::Down).over(saved);
        assert_eq!(down.saving(TargetState::Up).in_force(), TargetState::Down);
        assert!(!down.saving(TargetState::Down).is_set());
    }

    #[test]
    fn a_name_that_is_a_part_of_one_or_nearly_one_is_guessed() {
        let names = ["http-api-1:8001", "http-api-2:8001", "10.0.0.7:80"].map(str::to_owned);
        for (said, meant) in [
            ("http-api-1", Some("http-api-1:8001")),
            ("http-api-2:80", Some("http-api-2:8001")),
            ("http-apj-2:8001", Some("http-api-2:8001")),
            ("10.0.0.7:81", Some("10.0.0.7:80")),
            ("grpc:1", None),
            ("", None),
        ] {
            assert_eq!(nearest(said, &names).as_deref(), meant, "{said}");
        }
    }
}
