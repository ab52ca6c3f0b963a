//! What a running evenly has said at one moment: `/status` and `/targets` as JSON, and of `/metrics` what a screen has room for.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

/// How many requests took no longer than each bound, in seconds, by rising bounds.
pub(super) type Buckets = Vec<(f64, f64)>;

/// The target and the address of an endpoint.
pub(super) type EndpointName = (String, String);

/// What a running evenly has said at one moment.
#[derive(Debug, Clone, Default)]
pub struct Readout {
    /// When, on the clock of whoever asks.
    pub(super) at: Duration,
    pub(super) status: Value,
    pub(super) targets: Value,
    /// Samples without a label, by their names.
    pub(super) single: HashMap<String, f64>,
    /// Responses by the class of their status codes: `2xx`, and `none` without a response.
    pub(super) classes: HashMap<String, f64>,
    /// Histograms without a label of their own, by their names.
    pub(super) times: HashMap<String, Buckets>,
    /// How long requests took at each endpoint.
    pub(super) endpoint_times: HashMap<EndpointName, Buckets>,
    /// How many responses of each endpoint were server errors.
    pub(super) endpoint_errors: HashMap<EndpointName, f64>,
}

impl Readout {
    /// Of `/status`, `/targets` and `/metrics` (Prometheus text, format 0.0.4), asked for at this time of any clock.
    ///
    /// # Errors
    /// Which of them is not what it should be.
    pub fn new(
        at: Duration,
        (status, targets, metrics): (&str, &str, &str),
    ) -> Result<Readout, String> {
        let json = |path: &str, text: &str| {
            serde_json::from_str(text).map_err(|error| format!("{path} is not JSON: {error}"))
        };
        let mut readout = Readout {
            at,
            status: json("/status", status)?,
            targets: json("/targets", targets)?,
            ..Readout::default()
        };
        metrics.lines().filter_map(MetricLine::of).for_each(|line| readout.take(&line));
        Ok(readout)
    }

    fn take(&mut self, line: &MetricLine<'_>) {
        let endpoint = || {
            let label = |name| line.label(name).unwrap_or_default().to_owned();
            (label("target"), label("address"))
        };
        let bucket = line.name.strip_suffix("_bucket");
        let bound = line.label("le").and_then(|bound| bound.parse().ok());
        match (line.name, line.labels.as_slice()) {
            (_, []) => drop(self.single.insert(line.name.to_owned(), line.value)),
            ("evenly_responses_total", _) => {
                let class = match line.label("code").unwrap_or_default() {
                    "none" => "none".to_owned(),
                    code => code.chars().take(1).chain("xx".chars()).collect(),
                };
                *self.classes.entry(class).or_default() += line.value;
            }
            ("evenly_endpoint_request_duration_seconds_bucket", _) => {
                let buckets = self.endpoint_times.entry(endpoint()).or_default();
                buckets.extend(bound.map(|bound| (bound, line.value)));
            }
            ("evenly_endpoint_responses_total", _) if line.label("class") == Some("5xx") => {
                self.endpoint_errors.insert(endpoint(), line.value);
            }
            (_, [_]) if let (Some(name), Some(bound)) = (bucket, bound) => {
                self.times.entry(name.to_owned()).or_default().push((bound, line.value));
            }
            _ => {}
        }
    }

    /// The process that has said it.
    pub(super) fn pid(&self) -> Option<u64> {
        self.status["pid"].as_u64()
    }

    /// Time since its start, in seconds.
    pub(super) fn uptime(&self) -> f64 {
        self.status["uptime_seconds"].as_f64().unwrap_or_default()
    }
}

/// A line of metrics that is a sample.
#[derive(Debug, PartialEq)]
struct MetricLine<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl MetricLine<'_> {
    /// `None` for what is no sample: comments, empty lines, and what this does not understand.
    fn of(line: &str) -> Option<MetricLine<'_>> {
        let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                rest = rest.trim_start_matches(',');
                if let Some(behind) = rest.strip_prefix('}') {
                    rest = behind;
                    break;
                }
                let (label, behind) = rest.split_once("=\"")?;
                let (value, behind) = unquoted(behind)?;
                labels.push((label, value));
                rest = behind;
            }
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(MetricLine { name, labels, value })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// The value of a label whose quote has been opened, and what follows the one that ends it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_a_name_labels_and_a_value() {
        let of = |line| {
            let line = MetricLine::of(line)?;
            let labels = line.labels.iter().map(|(label, value)| format!("{label}:{value}"));
            Some((line.name, labels.collect::<Vec<_>>().join(" "), line.value))
        };
        assert_eq!(of("a_total 12"), Some(("a_total", String::new(), 12.0)));
        assert_eq!(of("a 1.5e3 1700000000"), Some(("a", String::new(), 1500.0)));
        assert_eq!(of("a{} 1"), Some(("a", String::new(), 1.0)));
        assert_eq!(of(r#"a{b="c",le="+Inf"} 7"#), Some(("a", "b:c le:+Inf".to_owned(), 7.0)));
        assert_eq!(of(r#"a{b="\"}\\\n x=\"",} 1"#), Some(("a", "b:\"}\\\n x=\"".to_owned(), 1.0)));
        for other in
            ["", "a", "# TYPE a counter", "# EOF", "a x", "a{b=\"c 1", "a{b 1", "a{b=\"c\""]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn responses_are_added_up_by_class_whatever_their_method_and_code() {
        let metrics = "evenly_responses_total{method=\"GET\",code=\"200\"} 5\n\
                       evenly_responses_total{method=\"PUT\",code=\"204\"} 2\n\
                       evenly_responses_total{method=\"GET\",code=\"5xx\"} 1\n\
                       evenly_responses_total{method=\"GET\",code=\"none\"} 3\n";
        let readout = Readout::new(Duration::ZERO, ("{}", "{}", metrics)).unwrap();
        let count = |class: &str| readout.classes.get(class).copied();
        let counts = ["2xx", "5xx", "none", "4xx"].map(count);
        assert_eq!(counts, [Some(7.0), Some(1.0), Some(3.0), None]);
    }

    #[test]
    fn what_is_not_json_is_named() {
        let of = |status, targets| Readout::new(Duration::ZERO, (status, targets, "")).map(drop);
        assert!(of("<html>", "{}").unwrap_err().starts_with("/status is not JSON: "));
        assert!(of("{}", "").unwrap_err().starts_with("/targets is not JSON: "));
    }
}
