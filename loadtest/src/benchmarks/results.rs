//! What was found, as it is written to JSON and read back to be rendered.

use serde::{Deserialize, Serialize};

use super::mixed::Section;
use super::statistics::{DELAY, PACED_DELAY, Ratio};
use super::works::{ALLOCATIONS, Against, Metric, PROMISES};

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Results {
    /// Date and time of the start, UTC.
    pub(super) date: String,
    pub(super) command: String,
    /// Name and value of what may matter of the machine.
    pub(super) machine: Vec<(String, String)>,
    pub(super) rounds: usize,
    pub(super) slice_millis: u64,
    /// How long all of it took.
    pub(super) seconds: f64,
    pub(super) subjects: Vec<Participant>,
    pub(super) works: Vec<Finding>,
    pub(super) figures: Vec<Figure>,
    pub(super) targets: Vec<Target>,
    /// Small requests beside other load.
    #[serde(default)]
    pub(super) mixed: Option<Section>,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
}

/// Someone who takes part, or would if it were here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Participant {
    pub(super) name: String,
    pub(super) version: String,
    /// Why it did not take part.
    pub(super) absent: Option<String>,
}

/// One work on every subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) title: String,
    /// Requests a second, where they were fixed.
    pub(super) rate: Option<f64>,
    pub(super) rows: Vec<Row>,
    /// Evenly's figures over another's, round by round.
    pub(super) ratios: Vec<Ratios>,
    /// The floor's figures over each peer's: what nobody could do better here.
    #[serde(default)]
    pub(super) floors: Vec<Ratios>,
}

/// Medians over the rounds that count; latencies are those of all requests of undisturbed ones together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) subject: String,
    pub(super) cpu_micros: f64,
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// The 99th percentile of how late requests were sent, where the rate was fixed.
    #[serde(default)]
    pub(super) late: f64,
    /// Requests over all rounds, and those that failed.
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// The failures by kind, in words.
    pub(super) faults: String,
    /// Shares of a core that the subject and the generator used.
    pub(super) busy: f64,
    pub(super) generator_busy: f64,
    /// Share of the time in which the subject or the generator waited for its core.
    pub(super) delay: f64,
    /// Why there are no figures, or fewer.
    pub(super) trouble: Option<String>,
}

/// Evenly over one other subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ratios {
    pub(super) subject: String,
    pub(super) is_peer: bool,
    pub(super) cpu: Ratio,
    pub(super) per_second: Ratio,
    pub(super) p50: Ratio,
    pub(super) p99: Ratio,
    pub(super) p999: Ratio,
}

impl Ratios {
    pub(super) fn of(&self, metric: Metric) -> &Ratio {
        match metric {
            Metric::Cpu => &self.cpu,
            Metric::PerSecond => &self.per_second,
            Metric::P50 => &self.p50,
            Metric::P99 => &self.p99,
            Metric::P999 => &self.p999,
        }
    }
}

/// A figure that is no work's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) group: String,
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: String,
}

/// What was promised, and what was reached.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) what: String,
    pub(super) bound: String,
    /// What was reached, in words; empty when it was not measured.
    pub(super) reached: String,
    pub(super) kept: Option<bool>,
    /// What the floor reaches by the same measure; empty where that says nothing.
    #[serde(default)]
    pub(super) floor: String,
    /// How to measure this alone: arguments of `loadtest benchmarks`, or a whole command.
    #[serde(default)]
    pub(super) command: String,
}

impl Target {
    /// A value that may be at most `bound`.
    pub(super) fn at_most(what: impl Into<String>, value: f64, bound: f64, unit: &str) -> Target {
        Target {
            what: what.into(),
            bound: format!("<= {bound}{unit}"),
            reached: format!("{value:.2}{unit}"),
            kept: Some(value <= bound),
            ..Target::default()
        }
    }

    /// With the least and the most of the rounds.
    pub(super) fn spread(self, ratio: &Ratio) -> Target {
        Target { reached: ratio.to_string(), ..self }
    }

    /// With the name by which it can be measured alone.
    pub(super) fn by(self, only: &str) -> Target {
        Target { command: format!("--only {only}"), ..self }
    }

    /// A value that must be at least `bound`.
    pub(super) fn at_least(what: impl Into<String>, value: f64, bound: f64, unit: &str) -> Target {
        Target {
            bound: format!(">= {bound}{unit}"),
            kept: Some(value >= bound),
            ..Target::at_most(what, value, bound, unit)
        }
    }
}

impl Results {
    /// Judges the promises about works: one target for each work of each promise.
    pub(super) fn judge_works(&mut self) {
        for promise in &PROMISES {
            for work in promise.works {
                let found: Vec<&Finding> = self
                    .works
                    .iter()
                    .filter(|finding| {
                        finding
                            .name
                            .strip_prefix(work)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
                    })
                    .collect();
                let judged = |finding| {
                    judge(finding, promise.metric, promise.against, promise.bound).by(work)
                };
                let targets: Vec<Target> = found.into_iter().map(judged).collect();
                self.targets.extend(targets);
            }
        }
        self.judge_flatness();
    }

    /// Evenly's own cost from 32 to 1,800 connections.
    fn judge_flatness(&mut self) {
        let cost = |name: &str| {
            let finding = self.works.iter().find(|finding| finding.name == name)?;
            let row = finding.rows.iter().find(|row| row.subject == "evenly")?;
            (row.cpu_micros > 0.0).then_some(row.cpu_micros)
        };
        let costs = ["bare-32", "bare-64", "bare-256", "bare-1800"].map(cost);
        let [Some(least), _, _, Some(_)] = costs else { return };
        let most = costs.iter().flatten().copied().fold(least, f64::max);
        let what = "evenly, 32 to 1,800 connections: CPU per request, most over 32's";
        self.targets.push(Target::at_most(what, most / least, 1.10, "x").by("bare"));
    }

    /// What tests hold, exactly and in every run of them, is not measured again.
    pub(super) fn refer_to_tests(&mut self) {
        let target = |(what, test): &(&str, &str)| Target {
            what: format!("allocations: {what}"),
            bound: "0".to_owned(),
            reached: format!("`{test}`"),
            command: "cargo nextest run --test costs".to_owned(),
            ..Target::default()
        };
        self.targets.extend(ALLOCATIONS.iter().map(target));
    }
}

fn judge(finding: &Finding, metric: Metric, against: Against, bound: f64) -> Target {
    // The best peer is the one beside which evenly looks worst.
    let worst_first = |left: &&Ratios, right: &&Ratios| {
        let (left, right) = (left.of(metric).median, right.of(metric).median);
        if metric.more_is_better() { right.total_cmp(&left) } else { left.total_cmp(&right) }
    };
    let ratios = finding.ratios.iter();
    let (whom, found) = match against {
        Against::Floor => ("the floor", ratios.into_iter().find(|ratio| ratio.subject == "floor")),
        Against::Peer(name) => (name, ratios.into_iter().find(|ratio| ratio.subject == name)),
        Against::BestPeer => {
            ("the best peer", ratios.filter(|ratio| ratio.is_peer).max_by(worst_first))
        }
    };
    let more = metric.more_is_better();
    let kept = |median: f64| if more { median >= bound } else { median <= bound };
    let limited =
        finding.rows.iter().any(|row| row.subject == "evenly" && row.is_limited_by_generator());
    let waited = |name: &str| {
        let row = finding.rows.iter().find(|row| row.subject == name);
        let allowed = if finding.rate.is_some() { PACED_DELAY } else { DELAY };
        row.is_some_and(|row| row.delay > allowed)
    };
    let floor = found.and_then(|ratios| {
        let floor = finding.floors.iter().find(|floor| floor.subject == ratios.subject)?.of(metric);
        Some(match kept(floor.median) {
            true => floor.to_string(),
            false => format!("{floor}, misses too"),
        })
    });
    Target {
        what: format!("{}: {} over {whom}", finding.name, metric.name()),
        bound: format!("{} {bound}x", if more { ">=" } else { "<=" }),
        reached: found.map_or_else(String::new, |ratios| {
            let named = if against == Against::BestPeer { &*ratios.subject } else { "" };
            let reached = format!("{} {named}", ratios.of(metric)).trim_end().to_owned();
            // What a full core would have done, had the generator had more to give.
            let by_cpu = 1.0 / ratios.cpu.median;
            let reached = match metric {
                Metric::PerSecond if limited => {
                    format!("{reached}, generator full; by CPU {by_cpu:.2}")
                }
                Metric::PerSecond => format!("{reached}; by CPU {by_cpu:.2}"),
                _ => reached,
            };
            match waited("evenly") || waited(&ratios.subject) {
                true => format!("{reached}; disturbed"),
                false => reached,
            }
        }),
        floor: floor.unwrap_or_default(),
        command: String::new(),
        kept: found.map(|ratios| kept(ratios.of(metric).median)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(subject: &str, is_peer: bool, value: f64) -> Ratios {
        let ratio = Ratio { median: value, least: value, most: value, rounds: 9 };
        let [cpu, per_second, p50, p99] = [0; 4].map(|_| ratio.clone());
        Ratios { subject: subject.to_owned(), is_peer, cpu, per_second, p50, p99, p999: ratio }
    }

    #[test]
    fn the_best_peer_is_the_one_that_is_hardest_to_beat() {
        let all = vec![ratios("floor", false, 1.1), ratios("a", true, 0.6), ratios("b", true, 0.8)];
        let finding = Finding {
            name: "close-32".to_owned(),
            title: String::new(),
            rate: None,
            rows: Vec::new(),
            ratios: all,
            floors: vec![ratios("b", true, 0.75)],
        };
        let cpu = judge(&finding, Metric::Cpu, Against::BestPeer, 0.7);
        assert_eq!((cpu.kept, cpu.reached.ends_with(" b")), (Some(false), true), "{cpu:?}");
        assert_eq!(cpu.floor, "0.75 (0.75-0.75), misses too");
        let rate = judge(&finding, Metric::PerSecond, Against::BestPeer, 0.5);
        assert_eq!((rate.kept, rate.reached.contains(" a;")), (Some(true), true), "{rate:?}");
        let floor = judge(&finding, Metric::Cpu, Against::Floor, 1.12);
        assert_eq!((floor.kept, &*floor.floor), (Some(true), ""));
        let gone = judge(&finding, Metric::Cpu, Against::Peer("c"), 1.0);
        assert_eq!((gone.kept, &*gone.reached), (None, ""));
    }

    #[test]
    fn the_tests_that_are_referred_to_exist() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/costs/allocations.rs");
        let text = std::fs::read_to_string(file).unwrap();
        for (_, test) in ALLOCATIONS {
            assert!(text.contains(&format!("fn {test}()")), "{test}");
        }
    }

    #[test]
    fn results_of_before_there_were_floors_and_commands_can_be_read() {
        let old = "{\"what\":\"a\",\"bound\":\"b\",\"reached\":\"c\",\"kept\":true}";
        let target: Target = serde_json::from_str(old).unwrap();
        assert_eq!((&*target.floor, &*target.command), ("", ""));
    }

    #[test]
    fn results_survive_their_json() {
        let results = Results { rounds: 9, date: "today".to_owned(), ..Results::default() };
        let text = serde_json::to_string(&results).unwrap();
        let back: Results = serde_json::from_str(&text).unwrap();
        assert_eq!((back.rounds, &*back.date), (9, "today"));
    }
}
