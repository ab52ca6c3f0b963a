//! A view as metrics. Pure.
//!
//! Invariant: a family's lines are together, `HELP` and `TYPE` first, and no family is repeated.

use crate::balance::EndpointState;

use super::exposition::{Exposition, MetricKind, Text};
use super::view::View;
use super::{endpoints, exchanges};

/// All metrics of `view`.
pub(super) fn render(view: &View, form: Exposition) -> String {
    let mut text = Text::new(form);
    process(view, &mut text);
    for (it, count) in view.totals().iter() {
        text.single(it.metric, MetricKind::Counter, it.help, count);
    }
    exchanges::render(view, &mut text);
    connections(view, &mut text);
    configuration(view, &mut text);
    snapshot(view, &mut text);
    endpoints::render(view, &mut text);
    view.process.render(&mut text);
    text.finish()
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
    let name = "evenly_listener_accepted_total";
    text.family(name, MetricKind::Counter, "Client connections accepted, by listening address.");
    for (address, count) in &view.accepted {
        text.sample(name, &[("listener", address)], count);
    }
    let help = "Maximum number of client connections.";
    text.single("evenly_client_connections_limit", MetricKind::Gauge, help, view.cap);
    let (held, limit) = view.memory;
    let help = "Bytes that buffers of connections hold, with what workers have at hand for more.";
    text.single("evenly_buffer_bytes", MetricKind::Gauge, help, held);
    let help = "Bytes that they may hold.";
    text.single("evenly_buffer_bytes_limit", MetricKind::Gauge, help, limit);
}

fn configuration(view: &View, text: &mut Text) {
    let help = "Whether the last reload was applied; 0 if it was refused.";
    let (refused, applied_at) = view.last_reload;
    let name = "evenly_config_last_reload_successful";
    text.single(name, MetricKind::Gauge, help, u8::from(refused == 0));
    let help = "When a configuration was last applied, that of the start included, since 1970.";
    let name = "evenly_config_last_reload_success_timestamp_seconds";
    text.single(name, MetricKind::Gauge, help, applied_at);
    let help = "Generations of snapshots that workers still follow, or are about to.";
    text.single("evenly_snapshot_generations_alive", MetricKind::Gauge, help, view.generations);
}

fn snapshot(view: &View, text: &mut Text) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::balance::{Endpoint, EndpointId, Preference, Served, Snapshot};
    use crate::base::address::Address;

    fn lines(view: &View) -> Vec<String> {
        render(view, Exposition::Plain).lines().map(str::to_owned).collect()
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
evenly_access_entries_written_total 0
evenly_access_entries_lost_total 0
evenly_config_reloads_applied_total 0
evenly_config_reloads_refused_total 0
evenly_commands_denied_total 0
evenly_impossible_states_total 0
evenly_responses_total{method=\"GET\",code=\"200\"} 1
evenly_request_duration_seconds_bucket{le=\"0.005\"} 0
evenly_request_duration_seconds_bucket{le=\"0.01\"} 1
evenly_request_duration_seconds_bucket{le=\"0.025\"} 1
evenly_request_duration_seconds_bucket{le=\"0.05\"} 1
evenly_request_duration_seconds_bucket{le=\"0.075\"} 1
evenly_request_duration_seconds_bucket{le=\"0.1\"} 1
evenly_request_duration_seconds_bucket{le=\"0.25\"} 1
evenly_request_duration_seconds_bucket{le=\"0.5\"} 1
evenly_request_duration_seconds_bucket{le=\"0.75\"} 1
evenly_request_duration_seconds_bucket{le=\"1.0\"} 1
evenly_request_duration_seconds_bucket{le=\"2.5\"} 1
evenly_request_duration_seconds_bucket{le=\"5.0\"} 1
evenly_request_duration_seconds_bucket{le=\"7.5\"} 1
evenly_request_duration_seconds_bucket{le=\"10.0\"} 1
evenly_request_duration_seconds_bucket{le=\"+Inf\"} 1
evenly_request_duration_seconds_sum 0.007000
evenly_request_duration_seconds_count 1
evenly_response_first_byte_seconds_bucket{le=\"0.005\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.01\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.025\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.05\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.075\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.1\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.25\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.5\"} 0
evenly_response_first_byte_seconds_bucket{le=\"0.75\"} 0
evenly_response_first_byte_seconds_bucket{le=\"1.0\"} 0
evenly_response_first_byte_seconds_bucket{le=\"2.5\"} 0
evenly_response_first_byte_seconds_bucket{le=\"5.0\"} 0
evenly_response_first_byte_seconds_bucket{le=\"7.5\"} 0
evenly_response_first_byte_seconds_bucket{le=\"10.0\"} 0
evenly_response_first_byte_seconds_bucket{le=\"+Inf\"} 0
evenly_response_first_byte_seconds_sum 0.000000
evenly_response_first_byte_seconds_count 0
evenly_requests_in_flight 2
evenly_client_received_bytes_total 0
evenly_client_sent_bytes_total 40
evenly_upstream_received_bytes_total 0
evenly_upstream_sent_bytes_total 0
evenly_client_connections{worker=\"0\"} 2
evenly_client_connections{worker=\"1\"} 3
evenly_listener_accepted_total{listener=\"127.0.0.1:80\"} 5
evenly_client_connections_limit 500
evenly_buffer_bytes 524288
evenly_buffer_bytes_limit 1073741824
evenly_config_last_reload_successful 1
evenly_config_last_reload_success_timestamp_seconds 1700000000
evenly_snapshot_generations_alive 1
evenly_snapshot_generation 7
evenly_targets 3
evenly_targets_unresolved 1
evenly_endpoints 2
evenly_endpoints_healthy 1
evenly_endpoints_ejected 1
evenly_endpoints_failing 0
process_cpu_seconds_total 1.5
process_virtual_memory_bytes 1073741824
process_resident_memory_bytes 8388608
process_open_fds 20
process_max_fds 1024
process_start_time_seconds 1700000000.25";
        let is_shown = |line: &String| !line.starts_with('#') && !line.contains("evenly_endpoint_");
        let samples: Vec<String> = lines(&View::sample()).into_iter().filter(is_shown).collect();
        assert_eq!(samples.join("\n"), expected);
    }

    #[test]
    fn an_endpoint_has_these_samples() {
        let of_first = |line: &&String| line.contains("{target=\"api-0:80\",address=");
        let lines = lines(&View::sample());
        let strip =
            |line: &String| line.replace("target=\"api-0:80\",address=\"192.0.2.1:8001\"", "");
        let mut samples: Vec<String> = lines.iter().filter(of_first).map(strip).collect();
        assert_eq!(samples.len(), 40);
        samples.retain(|line| !line.contains("_bucket{"));
        let expected = "\
evenly_endpoint_up{} 1
evenly_endpoint_state{,state=\"unknown\"} 0
evenly_endpoint_state{,state=\"up\"} 1
evenly_endpoint_state{,state=\"down\"} 0
evenly_endpoint_state{,state=\"ejected\"} 0
evenly_endpoint_state{,state=\"drained\"} 0
evenly_endpoint_state{,state=\"disabled\"} 0
evenly_endpoint_responses_total{,class=\"1xx\"} 0
evenly_endpoint_responses_total{,class=\"2xx\"} 0
evenly_endpoint_responses_total{,class=\"3xx\"} 0
evenly_endpoint_responses_total{,class=\"4xx\"} 0
evenly_endpoint_responses_total{,class=\"5xx\"} 0
evenly_endpoint_request_duration_seconds_sum{} 0.000000
evenly_endpoint_request_duration_seconds_count{} 0
evenly_endpoint_checks_total{,result=\"passed\"} 3
evenly_endpoint_checks_total{,result=\"failed\"} 0
evenly_endpoint_check_duration_seconds_sum{} 0.000000
evenly_endpoint_check_duration_seconds_count{} 3
evenly_endpoint_requests_in_flight{} 0
evenly_endpoint_connects_total{} 0
evenly_endpoint_connect_failures_total{} 0
evenly_endpoint_connection_reuses_total{} 0
evenly_endpoint_failures_total{} 0
evenly_endpoint_retries_total{} 0
evenly_endpoint_ejections_total{} 0";
        assert_eq!(samples.join("\n"), expected);
    }

    #[test]
    fn every_family_begins_with_its_help_and_type_and_is_there_once() {
        let lines = lines(&View::sample());
        let (mut families, mut current) = (Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}"));
                let has_parts = matches!(kind, "histogram" | "summary");
                current = if has_parts { parts.into() } else { vec![name.to_owned()] };
                assert!(lines[at - 1].starts_with(&format!("# HELP {name} ")), "{line}");
                families.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(current.iter().any(|it| it == name), "{line}");
            }
        }
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
    }

    #[test]
    fn labels_are_escaped() {
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
        let lines = lines(&view);
        let last = lines.iter().find(|line| line.starts_with("evenly_endpoint_up{")).unwrap();
        assert_eq!(last, r#"evenly_endpoint_up{target="\"} 1\n",address="unix:/run/\"a"} 1"#);
    }

    #[test]
    fn without_endpoints_the_families_are_still_there() {
        let view = View { snapshot: Arc::default(), ..View::sample() };
        let text = render(&view, Exposition::Plain);
        assert!(text.contains("\n# TYPE evenly_endpoint_up gauge\n"));
        assert!(!text.contains("\nevenly_endpoint_up"));
        assert!(text.contains("\nevenly_endpoints 0\n"));
    }
}
