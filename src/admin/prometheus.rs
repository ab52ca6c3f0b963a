//! A view as Prometheus text, format 0.0.4. Pure.
//!
//! Invariant: a family's lines are together, `HELP` and `TYPE` first, and no family is repeated.

use std::fmt::{Display, Write as _};

use crate::balance::EndpointState;
use crate::base::text::is_active;

use super::view::View;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a family's values behave.
#[derive(Debug, Clone, Copy)]
enum MetricKind {
    Counter,
    Gauge,
}

/// All metrics of `view`.
pub(super) fn render(view: &View) -> String {
    let mut text = Text::default();
    process(view, &mut text);
    for (it, count) in view.totals().iter() {
        text.single(it.metric, MetricKind::Counter, it.help, count);
    }
    connections(view, &mut text);
    endpoints(view, &mut text);
    text.0
}

fn process(view: &View, text: &mut Text) {
    text.family("evenly_build_info", MetricKind::Gauge, "Always 1; its label is the version.");
    text.sample("evenly_build_info", &[("version", &view.version)], 1);
    let seconds = view.uptime.as_secs_f64();
    text.single(
        "evenly_uptime_seconds",
        MetricKind::Gauge,
        "Time since the process started.",
        seconds,
    );
    let help = "Workers restarted after a panic.";
    text.single("evenly_worker_panics_total", MetricKind::Counter, help, view.panics);
}

fn connections(view: &View, text: &mut Text) {
    let name = "evenly_client_connections";
    text.family(name, MetricKind::Gauge, "Open client connections, by worker.");
    for (at, worker) in view.workers.iter().enumerate() {
        text.sample(name, &[("worker", &at)], worker.connections);
    }
    let help = "Maximum number of client connections.";
    text.single("evenly_client_connections_limit", MetricKind::Gauge, help, view.cap);
    let (held, limit) = view.memory;
    let help = "Bytes that buffers of connections hold, with what workers have at hand for more.";
    text.single("evenly_buffer_bytes", MetricKind::Gauge, help, held);
    let help = "Bytes that they may hold.";
    text.single("evenly_buffer_bytes_limit", MetricKind::Gauge, help, limit);
}

fn endpoints(view: &View, text: &mut Text) {
    let snapshot = &view.snapshot;
    let help = "Generation of the published snapshot; increases with each change.";
    text.single("evenly_snapshot_generation", MetricKind::Gauge, help, snapshot.generation);
    let help = "Targets of the configuration.";
    text.single("evenly_targets", MetricKind::Gauge, help, snapshot.targets());
    let help = "Targets without a known address, which have no endpoint.";
    let unresolved = snapshot.unresolved().len();
    text.single("evenly_targets_unresolved", MetricKind::Gauge, help, unresolved);
    let help = "Endpoints known, healthy or not.";
    text.single("evenly_endpoints", MetricKind::Gauge, help, snapshot.endpoints().len());
    let help = "Endpoints that may get requests.";
    text.single("evenly_endpoints_healthy", MetricKind::Gauge, help, snapshot.healthy_count());
    let help = "Endpoints ejected for failing requests, although their health checks succeed.";
    let ejected = snapshot.count(EndpointState::Ejected);
    text.single("evenly_endpoints_ejected", MetricKind::Gauge, help, ejected);
    let help = "Endpoints whose health checks fail.";
    let failing = snapshot.count(EndpointState::Down);
    text.single("evenly_endpoints_failing", MetricKind::Gauge, help, failing);
    let name = "evenly_endpoint_up";
    text.family(name, MetricKind::Gauge, "Whether this endpoint may get requests.");
    for endpoint in snapshot.endpoints() {
        let labels: [Label; 2] = [("target", &endpoint.target), ("address", &endpoint.address)];
        text.sample(name, &labels, u8::from(endpoint.healthy()));
    }
}

/// A label's name and value.
type Label<'a> = (&'static str, &'a dyn Display);

/// Text under way. Writing to a string cannot fail.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(&text.to_string()));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// A family of one sample without labels.
    fn single(&mut self, name: &str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// A label's value as the format wants it: `\`, `"` and line feeds escaped. What would drive the terminal of somebody who
/// looks at the text is replaced by its name, since the format has no escape for it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            _ if is_active(c) => text.extend(c.escape_unicode().filter(|&c| c != '\\')),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::balance::{Endpoint, EndpointId, Preference, Served, Snapshot};
    use crate::base::address::Address;

    fn lines(view: &View) -> Vec<String> {
        render(view).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_view_has_these_samples() {
        let expected = "\
evenly_build_info{version=\"1.2.3\"} 1
evenly_uptime_seconds 12.345
evenly_worker_panics_total 1
evenly_client_connections_accepted_total 0
evenly_client_connections_closed_total 0
evenly_requests_total 2
evenly_exchanges_finished_total 0
evenly_own_answers_total 0
evenly_unavailable_answers_total 0
evenly_saturated_answers_total 0
evenly_exchanges_cut_total 0
evenly_exchanges_abandoned_total 0
evenly_tunnels_ended_total 0
evenly_upstream_connects_total 0
evenly_upstream_connect_failures_total 0
evenly_own_shortages_total 0
evenly_memory_answers_total 0
evenly_memory_waits_total 0
evenly_requests_replayed_total 0
evenly_access_entries_lost_total 0
evenly_commands_denied_total 0
evenly_impossible_states_total 0
evenly_client_connections{worker=\"0\"} 2
evenly_client_connections{worker=\"1\"} 3
evenly_client_connections_limit 500
evenly_buffer_bytes 524288
evenly_buffer_bytes_limit 1073741824
evenly_snapshot_generation 7
evenly_targets 3
evenly_targets_unresolved 1
evenly_endpoints 2
evenly_endpoints_healthy 1
evenly_endpoints_ejected 1
evenly_endpoints_failing 0
evenly_endpoint_up{target=\"api-0:80\",address=\"192.0.2.1:8001\"} 1
evenly_endpoint_up{target=\"api-1:80\",address=\"192.0.2.1:8002\"} 0";
        let samples: Vec<String> =
            lines(&View::sample()).into_iter().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.join("\n"), expected);
    }

    #[test]
    fn every_family_begins_with_its_help_and_type_and_is_there_once() {
        let lines = lines(&View::sample());
        let mut families = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(lines[at - 1].starts_with(&format!("# HELP {name} ")), "{line}");
                families.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(families.last(), Some(&name), "{line}");
            }
        }
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
    }

    #[test]
    fn labels_are_escaped() {
        for (value, expected) in
            [("a:1", "a:1"), ("a\"b", "a\\\"b"), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb")]
        {
            assert_eq!(escaped(value), expected);
        }
        let endpoint = Endpoint {
            id: EndpointId(0),
            address: Address::Unix("/run/\"a".into()),
            target: "\"} 1\n".into(),
            state: EndpointState::Up,
            preference: Preference::default(),
            absent: false,
            served: Served::default(),
        };
        let view = View { snapshot: Arc::new(Snapshot::new(1, vec![endpoint])), ..View::sample() };
        let last = lines(&view).pop().unwrap();
        assert_eq!(last, r#"evenly_endpoint_up{target="\"} 1\n",address="unix:/run/\"a"} 1"#);
    }

    #[test]
    fn without_endpoints_the_families_are_still_there() {
        let view = View { snapshot: Arc::default(), ..View::sample() };
        assert!(render(&view).ends_with("# TYPE evenly_endpoint_up gauge\n"));
        assert!(render(&view).contains("\nevenly_endpoints 0\n"));
    }
}
