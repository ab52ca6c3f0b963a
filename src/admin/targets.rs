//! Each target and its endpoints as JSON: how each is, since when, why, and what its last checks found. Pure.

use serde::Serialize;

use crate::balance::Endpoint;
use crate::balance::detail::{CheckNote, EndpointDetail, Moment, Override};
use crate::base::log::timestamp;
use crate::base::text::quiet_json;
use crate::metrics::endpoint::EndpointTotals;
use crate::reason::Reason;

use crate::settings::TargetState;

use super::view::View;

#[derive(Serialize)]
struct TargetList<'a> {
    generation: u64,
    time: String,
    targets: Vec<TargetRow<'a>>,
}

/// One target.
#[derive(Serialize)]
struct TargetRow<'a> {
    target: &'a str,
    /// Endpoints that may be picked.
    healthy: usize,
    /// Why it has no endpoint, if it has none.
    unresolved: Option<&'a str>,
    endpoints: Vec<EndpointEntry>,
}

/// One endpoint.
#[derive(Serialize)]
struct EndpointEntry {
    address: String,
    state: String,
    /// It has a turn in each round; `false` for one that may be picked and stands by.
    in_rotation: bool,
    since: Option<String>,
    for_seconds: Option<f64>,
    health: String,
    why: Option<String>,
    reason: Option<&'static str>,
    #[serde(rename = "override")]
    decided: Option<Decision>,
    ejected_until: Option<String>,
    /// Requests that are with it.
    in_flight: u64,
    totals: TotalsRow,
    priority: u16,
    weight: u16,
    checks: Vec<CheckRow>,
}

/// What was counted of it, over upgrades too.
#[derive(Serialize)]
struct TotalsRow {
    responses: u64,
    connects: u64,
    connect_failures: u64,
    failures: u64,
    retries: u64,
    ejections: u64,
}

/// What somebody has decided.
#[derive(Serialize)]
struct Decision {
    state: &'static str,
    weight: Option<u16>,
    unsaved: bool,
}

#[derive(Serialize)]
struct CheckRow {
    time: String,
    latency_ms: f64,
    passed: bool,
    result: String,
    reason: Option<&'static str>,
}

/// Every target, indented, with a line end.
pub(super) fn render(view: &View) -> String {
    text(&TargetList {
        generation: view.snapshot.generation,
        time: timestamp(view.now.wall),
        targets: rows(view),
    })
}

/// The target of this name, or those that have an endpoint at this address, in the same form; `None` if there is none.
pub(super) fn render_one(view: &View, name: &str) -> Option<String> {
    let mut targets = rows(view);
    match targets.iter().any(|row| row.target == name) {
        true => targets.retain(|row| row.target == name),
        false => targets.retain_mut(|row| {
            row.endpoints.retain(|endpoint| endpoint.address == name);
            !row.endpoints.is_empty()
        }),
    }
    let list = TargetList {
        generation: view.snapshot.generation,
        time: timestamp(view.now.wall),
        targets,
    };
    (!list.targets.is_empty()).then(|| text(&list))
}

fn text(list: &TargetList<'_>) -> String {
    // Plain values under fixed keys always serialize; an empty body would be the visible sign that they did not.
    let mut text = quiet_json(serde_json::to_string_pretty(list).unwrap_or_default());
    text.push('\n');
    text
}

fn rows(view: &View) -> Vec<TargetRow<'_>> {
    let snapshot = &view.snapshot;
    let (turns, _) = snapshot.turns();
    let mut rows: Vec<TargetRow<'_>> = Vec::new();
    for (at, endpoint) in snapshot.endpoints().iter().enumerate() {
        let detail = snapshot.details().get(at).map(|cell| cell.get());
        let counts = view.endpoints.get(at).copied().unwrap_or_default();
        let row = row(endpoint, turns[at] > 0, (detail.as_deref(), counts), view.now);
        let is_last = |last: &&mut TargetRow<'_>| last.target == &*endpoint.target;
        let target = match rows.last_mut().filter(is_last) {
            Some(_) => rows.last_mut(),
            None => {
                rows.push(TargetRow {
                    target: &endpoint.target,
                    healthy: 0,
                    unresolved: None,
                    endpoints: Vec::new(),
                });
                rows.last_mut()
            }
        };
        if let Some(target) = target {
            target.healthy += usize::from(endpoint.healthy());
            target.endpoints.push(row);
        }
    }
    rows.extend(snapshot.unresolved().iter().map(|it| TargetRow {
        target: &it.target,
        healthy: 0,
        unresolved: Some(&it.reason),
        endpoints: Vec::new(),
    }));
    rows
}

fn row(
    endpoint: &Endpoint,
    in_rotation: bool,
    (detail, counts): (Option<&EndpointDetail>, EndpointTotals),
    now: Moment,
) -> EndpointEntry {
    let says = |it: &Override| it.is_set() || it.saved != TargetState::Auto;
    let decided = detail.map(|it| it.decided).filter(says);
    EndpointEntry {
        address: endpoint.address.to_string(),
        state: endpoint.state.to_string(),
        in_rotation,
        since: detail.map(|it| timestamp(it.since.wall)),
        for_seconds: detail
            .map(|it| now.at.saturating_duration_since(it.since.at).as_millis() as f64 / 1000.0),
        health: detail.map_or(endpoint.state, |it| it.health).to_string(),
        why: detail.and_then(|it| it.why.as_deref()).map(str::to_owned),
        reason: detail.and_then(|it| it.reason).map(Reason::word),
        decided: decided.map(|it| Decision {
            state: it.in_force().name(),
            weight: it.weight,
            unsaved: it.is_set(),
        }),
        ejected_until: detail.and_then(|it| it.ejected_until).map(|at| timestamp(now.wall_of(at))),
        in_flight: match endpoint.healthy() {
            true => counts.in_flight,
            false => endpoint.served.remaining() as u64,
        },
        totals: TotalsRow {
            responses: counts.classes.iter().sum(),
            connects: counts.connects,
            connect_failures: counts.connect_failures,
            failures: counts.failures,
            retries: counts.retries().map(|(_, count)| count).sum(),
            ejections: counts.ejections,
        },
        priority: endpoint.preference.priority,
        weight: endpoint.preference.weight,
        checks: detail.map(|it| it.checks.iter().map(check).collect()).unwrap_or_default(),
    }
}

fn check(note: &CheckNote) -> CheckRow {
    CheckRow {
        time: timestamp(note.ended),
        latency_ms: note.took.as_micros() as f64 / 1000.0,
        passed: note.passed,
        result: note.result.to_string(),
        reason: note.reason.map(Reason::word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_target_is_listed_with_its_endpoints() {
        let seen: Value = serde_json::from_str(&render(&View::sample())).unwrap();
        assert_eq!(seen["generation"], json!(7));
        let names: Vec<&str> = seen["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["target"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["api-0:80", "api-1:80", "api-2:80"]);
        let endpoint = &seen["targets"][1]["endpoints"][0];
        assert_eq!(
            (&endpoint["state"], &endpoint["in_rotation"]),
            (&json!("ejected"), &json!(false))
        );
        assert_eq!(seen["targets"][2]["unresolved"], json!("no name server responded"));
    }

    #[test]
    fn one_is_found_by_its_name_or_an_address_of_it() {
        let view = View::sample();
        for name in ["api-1:80", "192.0.2.1:8002"] {
            let seen: Value = serde_json::from_str(&render_one(&view, name).unwrap()).unwrap();
            assert_eq!(seen["targets"].as_array().unwrap().len(), 1);
            assert_eq!(seen["targets"][0]["target"], json!("api-1:80"));
        }
        assert!(render_one(&view, "api-1").is_none());
    }
}
