//! A view as JSON. Pure.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::balance::EndpointState;
use crate::base::text::quiet_json;
use crate::metrics::{Counts, ReasonCounts};
use crate::reason::Incident;
use crate::worker::Stage;

use super::view::View;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "application/json";

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    pid: u32,
    predecessor: Option<u32>,
    stage: &'a str,
    uptime_seconds: f64,
    connections: usize,
    connections_limit: usize,
    buffer_bytes: usize,
    buffer_bytes_limit: usize,
    worker_panics: u64,
    confinement: &'a str,
    file: Option<&'a str>,
    #[serde(serialize_with = "by_key")]
    counters: Counts,
    #[serde(serialize_with = "by_reason")]
    reasons: ReasonCounts,
    workers: Vec<WorkerRow>,
    generation: u64,
    targets: usize,
    unresolved: Vec<UnresolvedRow<'a>>,
    endpoints_healthy: usize,
    endpoints_ejected: usize,
    endpoints_failing: usize,
    endpoints: Vec<EndpointRow<'a>>,
}

#[derive(Serialize)]
struct WorkerRow {
    worker: usize,
    connections: usize,
    #[serde(serialize_with = "by_key")]
    counters: Counts,
}

#[derive(Serialize)]
struct UnresolvedRow<'a> {
    target: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct EndpointRow<'a> {
    target: &'a str,
    address: String,
    healthy: bool,
    state: String,
    priority: u16,
    weight: u16,
}

fn by_key<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(it, count)| (it.key, count)))
}

/// What has happened, by event and reason: `{"retry": {"connection_refused": 2}}`. Reasons that nothing had are left out.
fn by_reason<S: Serializer>(counts: &ReasonCounts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Incident::ALL.into_iter().map(|event| {
        let counted = counts.of_event(event).filter(|(_, count)| *count > 0);
        let counted = counted.map(|(reason, count)| (reason.word(), count));
        (event.word(), counted.collect::<BTreeMap<_, _>>())
    }))
}

/// The whole of `view`, indented, with a line end.
pub(super) fn render(view: &View) -> String {
    // Plain values under fixed keys always serialize; an empty body would be the visible sign that they did not.
    let mut text = quiet_json(serde_json::to_string_pretty(&status(view)).unwrap_or_default());
    text.push('\n');
    text
}

fn status(view: &View) -> Status<'_> {
    let workers = view.workers.iter().enumerate().map(|(worker, it)| WorkerRow {
        worker,
        connections: it.connections,
        counters: it.counts,
    });
    let endpoints = view.snapshot.endpoints().iter().map(|it| EndpointRow {
        target: &it.target,
        address: it.address.to_string(),
        healthy: it.healthy(),
        state: it.state.to_string(),
        priority: it.preference.priority,
        weight: it.preference.weight,
    });
    let unresolved = view.snapshot.unresolved().iter();
    let unresolved = unresolved.map(|it| UnresolvedRow { target: &it.target, reason: &it.reason });
    Status {
        version: view.version,
        pid: view.pid,
        predecessor: view.predecessor,
        stage: name(view.stage),
        uptime_seconds: view.uptime.as_secs_f64(),
        connections: view.connections(),
        connections_limit: view.cap,
        buffer_bytes: view.memory.0,
        buffer_bytes_limit: view.memory.1,
        worker_panics: view.panics,
        confinement: &view.confinement,
        file: view.file.as_deref(),
        counters: view.totals(),
        reasons: view.totals().reasons,
        workers: workers.collect(),
        generation: view.snapshot.generation,
        targets: view.snapshot.targets(),
        unresolved: unresolved.collect(),
        endpoints_healthy: view.snapshot.healthy_count(),
        endpoints_ejected: view.snapshot.count(EndpointState::Ejected),
        endpoints_failing: view.snapshot.count(EndpointState::Down),
        endpoints: endpoints.collect(),
    }
}

/// How far the process has been asked to stop, in a word.
pub(super) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Leaving => "leaving",
        Stage::Draining => "draining",
        Stage::Stopping => "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_view_has_these_fields() {
        let mut seen: Value = serde_json::from_str(&render(&View::sample())).unwrap();
        let mut counters = seen["counters"].take();
        assert_eq!(counters["requests"].take(), json!(2));
        assert_eq!(counters.as_object().unwrap().len(), crate::metrics::COUNTERS.len());
        for worker in [0, 1] {
            assert_eq!(seen["workers"][worker]["counters"].take()["requests"], json!(1));
        }
        let expected = json!({
            "version": "1.2.3",
            "pid": 4711,
            "predecessor": null,
            "stage": "running",
            "uptime_seconds": 12.345,
            "connections": 5,
            "connections_limit": 500,
            "buffer_bytes": 524288,
            "buffer_bytes_limit": 1073741824,
            "worker_panics": 1,
            "confinement": "user evenly, no_new_privs",
            "file": "/etc/evenly.toml",
            "counters": null,
            "reasons": { "response": {}, "cut": {}, "retry": {}, "ejection": {}, "check": {} },
            "workers": [
                { "worker": 0, "connections": 2, "counters": null },
                { "worker": 1, "connections": 3, "counters": null },
            ],
            "generation": 7,
            "targets": 3,
            "unresolved": [{ "target": "api-2:80", "reason": "no name server responded" }],
            "endpoints_healthy": 1,
            "endpoints_ejected": 1,
            "endpoints_failing": 0,
            "endpoints": [
                { "target": "api-0:80", "address": "192.0.2.1:8001", "healthy": true, "state": "up", "priority": 0, "weight": 1 },
                { "target": "api-1:80", "address": "192.0.2.1:8002", "healthy": false, "state": "ejected", "priority": 0, "weight": 1 },
            ],
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn every_stage_has_a_word() {
        let stages = [Stage::Running, Stage::Leaving, Stage::Draining, Stage::Stopping];
        assert_eq!(stages.map(name), ["running", "leaving", "draining", "stopping"]);
    }
}
