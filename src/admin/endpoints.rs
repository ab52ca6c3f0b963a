//! What is known and counted of each endpoint, as families of metrics. Pure.

use std::time::UNIX_EPOCH;

use crate::balance::{Endpoint, EndpointState};
use crate::metrics::CLASSES;
use crate::metrics::endpoint::EndpointTotals;

use super::exposition::{Label, MetricKind, Text, seconds};
use super::view::View;

/// A family with one sample for each endpoint.
type Single = (&'static str, MetricKind, &'static str, fn(&EndpointTotals) -> u64);

const SINGLES: [Single; 6] = [
    (
        "evenly_endpoint_requests_in_flight",
        MetricKind::Gauge,
        "Requests that are with this endpoint.",
        |counts| counts.in_flight,
    ),
    (
        "evenly_endpoint_connects_total",
        MetricKind::Counter,
        "Connections to this endpoint begun for requests.",
        |counts| counts.connects,
    ),
    (
        "evenly_endpoint_connect_failures_total",
        MetricKind::Counter,
        "Connections to this endpoint that failed or timed out.",
        |counts| counts.connect_failures,
    ),
    (
        "evenly_endpoint_connection_reuses_total",
        MetricKind::Counter,
        "Responses of this endpoint on a connection that had carried others.",
        |counts| counts.reuses,
    ),
    (
        "evenly_endpoint_failures_total",
        MetricKind::Counter,
        "Exchanges that this endpoint broke, or did not answer in time.",
        |counts| counts.failures,
    ),
    (
        "evenly_endpoint_ejections_total",
        MetricKind::Counter,
        "How often this endpoint was ejected.",
        |counts| counts.ejections,
    ),
];

/// The states that an endpoint may be in.
const STATES: [EndpointState; 6] = [
    EndpointState::Unknown,
    EndpointState::Up,
    EndpointState::Down,
    EndpointState::Ejected,
    EndpointState::Drained,
    EndpointState::Disabled,
];

/// Writes them.
pub(super) fn render(view: &View, text: &mut Text) {
    state(view, text);
    since(view, text);
    responses(view, text);
    checks(view, text);
    retries(view, text);
    for (name, kind, help, value) in SINGLES {
        text.family(name, kind, help);
        each(view, |_, labels, counts| text.sample(name, &labels, value(counts)));
    }
}

/// Does `write` for each endpoint, with its labels and what was counted of it.
fn each<'v>(view: &'v View, mut write: impl FnMut(&Endpoint, [Label<'v>; 2], &EndpointTotals)) {
    for (endpoint, counts) in view.snapshot.endpoints().iter().zip(&view.endpoints) {
        write(endpoint, [("target", &endpoint.target), ("address", &endpoint.address)], counts);
    }
}

fn state(view: &View, text: &mut Text) {
    let name = "evenly_endpoint_up";
    text.family(name, MetricKind::Gauge, "Whether this endpoint may get requests.");
    each(view, |it, labels, _| text.sample(name, &labels, u8::from(it.healthy())));
    let name = "evenly_endpoint_state";
    text.family(
        name,
        MetricKind::Gauge,
        "1 for the state that this endpoint is in, 0 for the others.",
    );
    each(view, |it, [target, address], _| {
        for state in STATES {
            let is_in = u8::from(it.state == state);
            text.sample(name, &[target, address, ("state", &state)], is_in);
        }
    });
}

fn since(view: &View, text: &mut Text) {
    let name = "evenly_endpoint_state_since_timestamp_seconds";
    text.family(name, MetricKind::Gauge, "Since when this endpoint is in its state, since 1970.");
    let details = view.snapshot.details();
    for (endpoint, detail) in view.snapshot.endpoints().iter().zip(details) {
        let since = detail.get().since.wall.duration_since(UNIX_EPOCH);
        let labels: [Label<'_>; 2] = [("target", &endpoint.target), ("address", &endpoint.address)];
        text.sample(name, &labels, since.map_or(0, |since| since.as_secs()));
    }
}

fn responses(view: &View, text: &mut Text) {
    let name = "evenly_endpoint_responses_total";
    let help = "Complete responses of this endpoint, by the class of their status code.";
    text.family(name, MetricKind::Counter, help);
    each(view, |_, [target, address], counts| {
        for (class, count) in CLASSES.iter().zip(counts.classes) {
            text.sample(name, &[target, address, ("class", class)], count);
        }
    });
    let name = "evenly_endpoint_request_duration_seconds";
    let help = "Time from the head of a request to the end of this endpoint's response.";
    text.family(name, MetricKind::Histogram, help);
    each(view, |_, labels, counts| text.times(name, &labels, &counts.durations));
}

fn retries(view: &View, text: &mut Text) {
    let name = "evenly_endpoint_retries_total";
    let help = "Requests sent again or elsewhere because this endpoint did not take or answer them, by reason.";
    text.family(name, MetricKind::Counter, help);
    each(view, |_, [target, address], counts| {
        for (reason, count) in counts.retries() {
            text.sample(name, &[target, address, ("reason", &reason)], count);
        }
    });
}

fn checks(view: &View, text: &mut Text) {
    let name = "evenly_endpoint_checks_total";
    text.family(name, MetricKind::Counter, "Health checks of this endpoint that ended, by result.");
    each(view, |_, [target, address], counts| {
        for (result, count) in [("passed", counts.passed), ("failed", counts.failed)] {
            text.sample(name, &[target, address, ("result", &result)], count);
        }
    });
    let name = "evenly_endpoint_check_duration_seconds";
    text.family(name, MetricKind::Summary, "Time that health checks of this endpoint took.");
    each(view, |_, labels, counts| {
        text.sample(&format!("{name}_sum"), &labels, seconds(counts.check_micros));
        text.sample(&format!("{name}_count"), &labels, counts.passed + counts.failed);
    });
}
