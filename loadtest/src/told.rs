//! Whether evenly says the same of what went wrong wherever it does: access log, metrics, status, its own log.
//!
//! Owns the comparison of texts, and nothing else: who starts evenly asks it. The end-to-end tests compare with it too.

use std::collections::BTreeMap;

use serde_json::Value;

/// What evenly has said since its start, at a moment when nothing is under way.
pub(crate) struct Told<'a> {
    /// The access log, in JSON.
    pub(crate) access: &'a str,
    /// `GET /metrics`.
    pub(crate) metrics: &'a str,
    /// `GET /status`.
    pub(crate) status: &'a str,
    /// The lines of its own log.
    pub(crate) log: &'a [String],
}

/// Each incident, and the family of metrics that counts it by reason.
const FAMILIES: [(&str, &str); 5] = [
    ("response", "evenly_own_responses_total"),
    ("cut", "evenly_exchanges_cut_total"),
    ("retry", "evenly_retries_total"),
    ("ejection", "evenly_ejections_total"),
    ("check", "evenly_health_check_failures_total"),
];

/// What a line of its log has that is of an ejection.
const EJECTED: &str = " is ejected ";

/// How often each word was said; those that were not are left out.
type Counts = BTreeMap<String, u64>;

/// What failed, as the access log has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Exchanges.
    pub(crate) exchanges: u64,
    /// Of these, answers of evenly itself, by reason.
    pub(crate) answered: Counts,
    /// Exchanges that ended before their response was whole, by reason.
    pub(crate) cut: Counts,
    /// Whole responses of targets that say that they failed: with a status from 500 on.
    pub(crate) passed_on: u64,
    /// What has no reason and should have one: the entries.
    pub(crate) unexplained: Vec<String>,
}

impl Failed {
    /// Reads an access log.
    pub(crate) fn of(access: &str) -> Result<Failed, serde_json::Error> {
        let mut failed = Failed::default();
        for line in access.lines() {
            failed.add(line, &serde_json::from_str(line)?);
        }
        Ok(failed)
    }

    fn add(&mut self, line: &str, entry: &Value) {
        self.exchanges += 1;
        let fails = entry["status"].as_u64().is_some_and(|status| status >= 500);
        let (end, reason) = (&entry["end"], entry["reason"].as_str());
        let counts = match end.as_str() {
            Some("answered") => &mut self.answered,
            Some("cut" | "client-closed" | "tunnel-idle") => &mut self.cut,
            _ if reason.is_some() => return self.unexplained.push(line.to_owned()),
            _ => return self.passed_on += u64::from(fails),
        };
        match reason {
            Some(reason) => *counts.entry(reason.to_owned()).or_default() += 1,
            // An answer to OPTIONS with Max-Forwards: 0 is evenly's own too.
            None if end == "answered" && !fails => {}
            None => self.unexplained.push(line.to_owned()),
        }
    }

    /// How many requests can have failed at clients: those that have a reason, or a target's word.
    pub(crate) fn explained(&self) -> u64 {
        self.answered.values().chain(self.cut.values()).sum::<u64>() + self.passed_on
    }
}

/// The value of a metric without labels, in Prometheus' text.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// What keeps `metrics` from being those of a quiet moment: exchanges under way, or entries of which nobody knows yet what
/// becomes of them. `None` if nothing does.
pub(crate) fn unrest(metrics: &str) -> Option<String> {
    let value = |name| metric(metrics, name).unwrap_or(f64::NAN);
    let under_way = value("evenly_requests_in_flight");
    let ended = value("evenly_requests_total") - under_way;
    let entries = ["evenly_access_entries_written_total", "evenly_access_entries_lost_total"];
    let noted: f64 = entries.into_iter().map(value).sum();
    let is_quiet = under_way == 0.0 && ended == noted;
    (!is_quiet).then(|| format!("under way {under_way}, ended {ended}, in the access log {noted}"))
}

/// What is not said alike, a sentence for each; empty if all is.
pub(crate) fn differences(told: &Told<'_>) -> Vec<String> {
    let failed = match Failed::of(told.access) {
        Ok(failed) => failed,
        Err(error) => return vec![format!("a line of the access log is no JSON: {error}")],
    };
    let status: Value = match serde_json::from_str(told.status) {
        Ok(status) => status,
        Err(error) => return vec![format!("the status is no JSON: {error}")],
    };
    let mut found: Vec<String> = unrest(told.metrics).into_iter().collect();
    let lost = metric(told.metrics, "evenly_access_entries_lost_total");
    if lost != Some(0.0) {
        found.push(format!("entries of the access log were lost: {lost:?}"));
    }
    if metric(told.metrics, "evenly_requests_total") != Some(failed.exchanges as f64) {
        found.push(format!("not every request has an entry: there are {}", failed.exchanges));
    }
    for (incident, family) in FAMILIES {
        let counted = by_reason(told.metrics, family);
        let in_status = counts_of(&status["reasons"][incident]);
        let mut same = |what: &str, other: &Counts| {
            if *other != counted {
                found.push(format!("{incident}: metrics {counted:?}, {what} {other:?}"));
            }
        };
        same("status", &in_status);
        match incident {
            "response" => same("access log", &failed.answered),
            "cut" => same("access log", &failed.cut),
            "ejection" => same("log", &logged(told.log, |line| line.contains(EJECTED))),
            _ => {}
        }
        // Of failed checks those are logged that change something.
        let lines = logged(told.log, |line| !line.contains(EJECTED));
        let less =
            |(reason, lines): (&String, &u64)| counted.get(reason).is_none_or(|it| it < lines);
        if incident == "check" && lines.iter().any(less) {
            found.push(format!("check: metrics {counted:?}, log {lines:?}"));
        }
    }
    let entries = failed.unexplained.iter();
    found.extend(entries.map(|entry| format!("no reason, or one too many: {entry}")));
    found
}

/// The samples of a family, by their label `reason`.
fn by_reason(metrics: &str, family: &str) -> Counts {
    let sample = |line: &str| {
        let (labels, value) = line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once(' ')?;
        let reason = labels.strip_prefix("reason=\"")?.split('"').next()?;
        let count = value.parse().ok().filter(|count| *count > 0)?;
        Some((reason.to_owned(), count))
    };
    metrics.lines().filter_map(sample).collect()
}

fn counts_of(counts: &Value) -> Counts {
    let pairs = counts.as_object().into_iter().flatten();
    pairs.filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect()
}

/// The reasons in the lines of a log that are of this kind.
fn logged(log: &[String], of_kind: impl Fn(&str) -> bool) -> Counts {
    let mut counts = Counts::new();
    let lines = log.iter().filter(|line| of_kind(line));
    for (_, reason) in lines.filter_map(|line| line.rsplit_once("; reason: ")) {
        *counts.entry(reason.to_owned()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: &str = r#"{"status":200,"end":"finished","reason":null}
{"status":500,"end":"finished","reason":null}
{"status":502,"end":"answered","reason":"connection_terminated"}
{"status":0,"end":"client-closed","reason":"client_closed"}
{"status":101,"end":"tunnel-idle","reason":"tunnel_idle_timeout"}
"#;
    const METRICS: &str = "# TYPE evenly_requests_total counter
evenly_requests_total 5
evenly_requests_in_flight 0
evenly_access_entries_written_total 5
evenly_access_entries_lost_total 0
evenly_own_responses_total{reason=\"connection_terminated\",party=\"target\"} 1
evenly_own_responses_total{reason=\"request_timeout\",party=\"client\"} 0
evenly_exchanges_cut_total{reason=\"client_closed\",party=\"client\"} 1
evenly_exchanges_cut_total{reason=\"tunnel_idle_timeout\",party=\"evenly\"} 1
evenly_ejections_total{reason=\"consecutive_resets\",party=\"target\"} 1
";
    const STATUS: &str = r#"{"reasons":{"response":{"connection_terminated":1},
        "cut":{"client_closed":1,"tunnel_idle_timeout":1},"retry":{},"ejection":{"consecutive_resets":1},"check":{}}}"#;
    const LINE: &str = "target a (b) is ejected for 10s: 5 resets; healthy endpoints: 1; reason: consecutive_resets";

    fn compared(access: &str, metrics: &str, status: &str, log: &[&str]) -> Vec<String> {
        let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        differences(&Told { access, metrics, status, log: &log })
    }

    #[test]
    fn what_is_the_same_everywhere_has_no_difference() {
        assert_eq!(compared(ACCESS, METRICS, STATUS, &[LINE]), [""; 0]);
        let failed = Failed::of(ACCESS).unwrap();
        assert_eq!((failed.exchanges, failed.passed_on, failed.explained()), (5, 1, 4));
    }

    #[test]
    fn one_less_anywhere_is_a_difference() {
        let shorter = ACCESS.split_once('\n').unwrap().1;
        let cases = [
            compared(shorter, METRICS, STATUS, &[LINE]),
            compared(
                &ACCESS.replace("finished\",\"reason\":null", "cut\",\"reason\":null"),
                METRICS,
                STATUS,
                &[LINE],
            ),
            compared(
                ACCESS,
                &METRICS.replace("cut_total{reason=\"client_closed\",party=\"client\"} 1", ""),
                STATUS,
                &[LINE],
            ),
            compared(ACCESS, &METRICS.replace("lost_total 0", "lost_total 1"), STATUS, &[LINE]),
            compared(ACCESS, &METRICS.replace("in_flight 0", "in_flight 1"), STATUS, &[LINE]),
            compared(
                ACCESS,
                METRICS,
                &STATUS.replace("\"client_closed\":1", "\"client_closed\":2"),
                &[LINE],
            ),
            compared(ACCESS, METRICS, STATUS, &[]),
            compared(ACCESS, METRICS, STATUS, &[LINE, LINE]),
        ];
        for (at, found) in cases.iter().enumerate() {
            assert!(!found.is_empty(), "{at}");
        }
    }

    #[test]
    fn a_failure_without_a_reason_is_named() {
        for entry in [
            r#"{"status":502,"end":"answered","reason":null}"#,
            r#"{"status":200,"end":"cut","reason":null}"#,
            r#"{"status":200,"end":"finished","reason":"client_closed"}"#,
        ] {
            assert_eq!(Failed::of(entry).unwrap().unexplained, [entry]);
        }
        let own = r#"{"status":200,"end":"answered","reason":null}"#;
        assert_eq!(Failed::of(own).unwrap().unexplained, [""; 0]);
    }
}
