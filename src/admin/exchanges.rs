//! What was counted of exchanges, as families of metrics. Pure.

use crate::metrics::traffic::Way;

use super::exposition::{MetricKind, Text};
use super::view::View;

/// The families of bytes.
const BYTES: [(Way, &str, &str); 4] = [
    (
        Way::FromClients,
        "evenly_client_received_bytes_total",
        "Bytes of requests and tunnels that clients sent.",
    ),
    (
        Way::ToClients,
        "evenly_client_sent_bytes_total",
        "Bytes of responses and tunnels that clients were sent.",
    ),
    (
        Way::FromTargets,
        "evenly_upstream_received_bytes_total",
        "Bytes of responses and tunnels that endpoints sent.",
    ),
    (
        Way::ToTargets,
        "evenly_upstream_sent_bytes_total",
        "Bytes of requests and tunnels that endpoints were sent.",
    ),
];

/// Writes them.
pub(super) fn render(view: &View, text: &mut Text) {
    let traffic = &view.traffic;
    let name = "evenly_responses_total";
    let help =
        "Exchanges that have ended, by method and by the status code that the client was sent.";
    text.family(name, MetricKind::Counter, help);
    for (method, code, count) in traffic.exchanges() {
        text.sample(name, &[("method", &method), ("code", &code)], count);
    }
    let name = "evenly_request_duration_seconds";
    let help = "Time from the head of a request to the end of its exchange, tunnels left out.";
    text.family(name, MetricKind::Histogram, help);
    text.times(name, &[], &traffic.durations);
    let name = "evenly_response_first_byte_seconds";
    let help = "Time from the head of a request to the first byte of its response.";
    text.family(name, MetricKind::Histogram, help);
    text.times(name, &[], &traffic.first_bytes);
    let help = "Exchanges that have begun and not ended.";
    text.single("evenly_requests_in_flight", MetricKind::Gauge, help, view.in_flight);
    for (way, name, help) in BYTES {
        text.single(name, MetricKind::Counter, help, traffic.bytes(way));
    }
}
