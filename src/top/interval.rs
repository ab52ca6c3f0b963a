//! Two readouts: how many per second there were of what is counted between them, and within which time requests ended.

use std::collections::HashMap;

use serde_json::Value;

use crate::remote::show::{endpoints, quiet, text};

use super::readout::{Buckets, EndpointName, Readout};

/// Whose readout one is, as seen from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continuity {
    /// The same process's.
    Same,
    /// That of the process which took its place by an upgrade: its counters go on.
    Upgraded,
    /// Another one's, which has nothing to do with it.
    Restarted,
}

impl Continuity {
    pub(super) fn of(before: &Readout, now: &Readout) -> Continuity {
        // In a container a restarted one often has the process ID of the one before.
        if before.pid() == now.pid() && before.uptime() <= now.uptime() {
            return Continuity::Same;
        }
        let predecessor = now.status["predecessor"].as_u64();
        if predecessor.is_some() && predecessor == before.pid() {
            return Continuity::Upgraded;
        }
        Continuity::Restarted
    }
}

/// One or two readouts, the later one last. Without an earlier one nothing has a rate.
pub(super) struct Interval<'a> {
    before: Option<&'a Readout>,
    pub(super) now: &'a Readout,
}

impl<'a> Interval<'a> {
    pub(super) fn new(before: Option<&'a Readout>, now: &'a Readout) -> Interval<'a> {
        let before = before.filter(|it| Continuity::of(it, now) != Continuity::Restarted);
        Interval { before, now }
    }

    /// How many per second were added to what `count` reads; `None` also if it went back, as that of an endpoint does which
    /// went and came again.
    pub(super) fn rate(&self, count: impl Fn(&Readout) -> Option<f64>) -> Option<f64> {
        self.per_second(count(self.now), count(self.before?))
    }

    fn per_second(&self, now: Option<f64>, before: Option<f64>) -> Option<f64> {
        let seconds = self.now.at.saturating_sub(self.before?.at).as_secs_f64();
        let added = now? - before?;
        (seconds > 0.0 && added >= 0.0).then(|| added / seconds)
    }

    /// Likewise, of a sample without a label.
    pub(super) fn rate_of(&self, name: &str) -> Option<f64> {
        self.rate(|it| it.single.get(name).copied())
    }

    /// Likewise, of responses of a class. One that was not there before counts from 0.
    pub(super) fn rate_of_class(&self, class: &str) -> Option<f64> {
        self.rate(|it| Some(it.classes.get(class).copied().unwrap_or_default()))
    }

    /// The time within which this part of the requests of the interval ended, in seconds, by the histogram of this name.
    pub(super) fn percentile(&self, part: f64, name: &str) -> Option<f64> {
        quantile(part, self.now.times.get(name)?, self.before?.times.get(name)?)
    }

    /// Every endpoint, in the order of the configuration, and after them every target without an address.
    pub(super) fn endpoints(&self) -> Vec<EndpointFigures> {
        let counted: Option<HashMap<EndpointName, &Value>> = self.before.map(|before| {
            let named = endpoints(&before.targets).map(|(target, it)| (name(target, it), it));
            named.collect()
        });
        let row = |(target, endpoint): (String, &Value)| {
            let name = name(target, endpoint);
            let earlier = counted.as_ref().and_then(|them| them.get(&name)).copied();
            self.figures(name, endpoint, earlier)
        };
        let unresolved = |target: &Value| {
            target["unresolved"].is_string().then(|| EndpointFigures {
                target: text(&target["target"]),
                address: "-".to_owned(),
                state: "unresolved".to_owned(),
                why: text(&target["unresolved"]),
                ..EndpointFigures::default()
            })
        };
        let targets = self.now.targets["targets"].as_array().into_iter().flatten();
        endpoints(&self.now.targets).map(row).chain(targets.filter_map(unresolved)).collect()
    }

    fn figures(
        &self,
        name: EndpointName,
        endpoint: &Value,
        earlier: Option<&Value>,
    ) -> EndpointFigures {
        let total = |endpoint: &Value, keys: &[&str]| -> Option<f64> {
            keys.iter().map(|key| endpoint["totals"][key].as_f64()).sum()
        };
        let rate = |keys: &[&str]| self.per_second(total(endpoint, keys), total(earlier?, keys));
        let times = |it: &'a Readout| it.endpoint_times.get(&name);
        let p99 = || quantile(0.99, times(self.now)?, times(self.before?)?);
        let check = endpoint["checks"].as_array().and_then(|checks| checks.last());
        let by_hand = if endpoint["override"].is_null() { "" } else { "by hand" };
        EndpointFigures {
            state: text(&endpoint["state"]),
            is_in_rotation: endpoint["in_rotation"] == true,
            seconds: endpoint["for_seconds"].as_f64(),
            rate: rate(&["responses"]),
            server_errors: self.rate(|it| it.endpoint_errors.get(&name).copied()),
            failures: rate(&["failures", "connect_failures"]),
            in_flight: endpoint["in_flight"].as_f64(),
            p99: p99(),
            check: check.map(|it| (it["passed"] == true, it["latency_ms"].as_f64())),
            why: match text(&endpoint["reason"]) {
                reason if reason.is_empty() => by_hand.to_owned(),
                reason => reason,
            },
            target: name.0,
            address: name.1,
        }
    }

    /// What did not go as asked, by event and reason: what happens most now comes first, then what has happened most.
    pub(super) fn reasons(&self) -> Vec<ReasonFigures> {
        let mut rows = Vec::new();
        for event in ["response", "cut", "retry", "ejection", "check"] {
            for (word, total) in self.now.status["reasons"][event].as_object().into_iter().flatten()
            {
                // One that has not happened is left out.
                let of =
                    |it: &Readout| Some(it.status["reasons"][event][word].as_f64().unwrap_or(0.0));
                let (rate, total) = (self.rate(of), total.as_f64());
                rows.push(ReasonFigures { event, reason: quiet(word), rate, total });
            }
        }
        let order =
            |it: &ReasonFigures| (it.rate.unwrap_or_default(), it.total.unwrap_or_default());
        rows.sort_by(|a, b| order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal));
        rows
    }
}

fn name(target: String, endpoint: &Value) -> EndpointName {
    (target, text(&endpoint["address"]))
}

/// What is shown of an endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointFigures {
    pub(super) target: String,
    pub(super) address: String,
    pub(super) state: String,
    /// It gets requests.
    pub(super) is_in_rotation: bool,
    /// For how long it has been in its state.
    pub(super) seconds: Option<f64>,
    /// Responses per second.
    pub(super) rate: Option<f64>,
    /// Of those, the ones with a status of 500 or more.
    pub(super) server_errors: Option<f64>,
    /// Requests per second that it did not take, broke, or did not answer in time.
    pub(super) failures: Option<f64>,
    pub(super) in_flight: Option<f64>,
    /// In seconds.
    pub(super) p99: Option<f64>,
    /// Whether its last check passed, and how long that took, in milliseconds.
    pub(super) check: Option<(bool, Option<f64>)>,
    pub(super) why: String,
}

/// How often something did not go as asked, for one reason.
#[derive(Debug)]
pub(super) struct ReasonFigures {
    pub(super) event: &'static str,
    pub(super) reason: String,
    /// Per second.
    pub(super) rate: Option<f64>,
    pub(super) total: Option<f64>,
}

/// The time within which `part` of what was added to a histogram took place, as Prometheus' `histogram_quantile` has it: linear within a
/// bucket, and the last bound for what took longer than all. `None` if nothing was added, or it is another histogram.
fn quantile(part: f64, now: &Buckets, before: &Buckets) -> Option<f64> {
    if now.len() != before.len() {
        return None;
    }
    let added: Buckets =
        now.iter().zip(before).map(|(now, before)| (now.0, now.1 - before.1)).collect();
    let all = added.last().filter(|(_, all)| *all > 0.0)?.1;
    let rank = part * all;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in added {
        if count >= rank {
            let is_within = bound.is_finite() && count > below;
            return Some(if is_within {
                low + (bound - low) * (rank - below) / (count - below)
            } else {
                low
            });
        }
        (low, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: [f64; 4]) -> Buckets {
        [0.1, 0.2, 0.5, f64::INFINITY].into_iter().zip(counts).collect()
    }

    #[test]
    fn percentiles_are_those_of_prometheus() {
        // What promtool says of histogram_quantile over these increases.
        let before = buckets([5.0, 5.0, 7.0, 7.0]);
        let now = buckets([15.0, 45.0, 57.0, 107.0]);
        let of = |part| quantile(part, &now, &before).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
        near(of(0.05), 0.05);
        near(of(0.1), 0.1);
        near(of(0.25), 0.15);
        near(of(0.45), 0.35);
        // Longer than the last bound.
        near(of(0.99), 0.5);
    }

    #[test]
    fn without_requests_or_of_another_histogram_there_is_no_percentile() {
        let some = buckets([1.0, 1.0, 1.0, 1.0]);
        assert_eq!(quantile(0.5, &some, &some), None);
        assert_eq!(quantile(0.5, &some, &buckets([2.0, 2.0, 2.0, 2.0])), None);
        assert_eq!(quantile(0.5, &some, &Vec::new()), None);
        assert_eq!(quantile(0.5, &Vec::new(), &Vec::new()), None);
    }
}
