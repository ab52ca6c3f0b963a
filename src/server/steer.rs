//! What somebody decides about a target while evenly runs: has the health thread follow it, waits for the workers, and says what
//! that comes to.

use crate::command::Reply;
use crate::health::{SteerError, SteerOrder, Steered};
use crate::settings::TargetState;

use super::reload::Running;

impl Running {
    /// Follows an order. When it returns, every worker does too.
    pub(super) fn steer(&mut self, order: SteerOrder) -> Reply {
        let (state, weight) = (order.state, order.weight);
        match self.health.steer(order) {
            Err(error) => {
                Reply::Failed(format!("{error}; it may yet be followed: evenly targets says"))
            }
            Ok((Err(SteerError::Unknown(nearest)), _)) => {
                Reply::Missing(SteerError::Unknown(nearest).to_string())
            }
            Ok((Err(error), _)) => Reply::Refused(vec![error.to_string()]),
            Ok((Ok(steered), generation)) => {
                self.await_workers(generation);
                let line = told(&steered, state, weight);
                log::info!("{line}");
                Reply::Done(line)
            }
        }
    }
}

/// What was decided, in a line.
fn told(steered: &Steered, state: Option<TargetState>, weight: Option<Option<u16>>) -> String {
    let mut parts = Vec::new();
    parts.extend(state.map(|state| match state {
        TargetState::Auto => "as its checks say".to_owned(),
        TargetState::Up => "up by hand, whatever its checks say".to_owned(),
        TargetState::Drain => {
            "drained by hand: no new requests, those under way go on to their end".to_owned()
        }
        TargetState::Down => "down by hand: no requests".to_owned(),
    }));
    parts.extend(weight.map(|weight| match weight {
        None => "of the weight that DNS says".to_owned(),
        Some(weight) => format!("of weight {weight} by hand"),
    }));
    let count = match steered.endpoints {
        1 => String::new(),
        0 => " (no address yet)".to_owned(),
        count => format!(" ({count} endpoints)"),
    };
    let none = if steered.healthy == 0 { ": every request is answered with 503" } else { "" };
    format!(
        "{steered}{count} is {}; healthy endpoints: {}{none}",
        parts.join(" and "),
        steered.healthy
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_a_line() {
        let label = "api:80".into();
        let steered = Steered { label, address: None, endpoints: 2, healthy: 0 };
        let drain = told(&steered, Some(TargetState::Drain), None);
        assert!(
            drain.starts_with("target api:80 (2 endpoints) is drained by hand: no new"),
            "{drain}"
        );
        assert!(
            drain.ends_with("healthy endpoints: 0: every request is answered with 503"),
            "{drain}"
        );
        let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80)).into();
        let one = Steered { address: Some(address), endpoints: 1, healthy: 1, ..steered };
        assert_eq!(
            told(&one, Some(TargetState::Auto), Some(Some(3))),
            "address 10.0.0.1:80 of target api:80 is as its checks say and of weight 3 by hand; healthy endpoints: 1"
        );
    }
}
