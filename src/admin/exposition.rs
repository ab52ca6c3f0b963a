//! The two formats in which metrics are written: Prometheus text 0.0.4, and OpenMetrics 1.0. Pure.
//!
//! Invariant: both have the same series with the same labels, so that whoever scrapes may go from one to the other.

use std::fmt::{Display, Write as _};

use crate::base::text::is_active;
use crate::metrics::histogram::{LIMITS, Times};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Exposition {
    /// What every scraper reads.
    #[default]
    Plain,
    /// What one reads that says so.
    OpenMetrics,
}

impl Exposition {
    /// The media type of the text.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Exposition::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an Accept field asks for (RFC 9110 section 12.5.1): OpenMetrics 1.0 only if it is named and wanted no less than plain
    /// text is, which whoever names neither gets.
    pub(super) fn wanted(accept: &str) -> Exposition {
        let (mut plain, mut open) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0, None);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            match (name.as_str(), version.as_deref()) {
                ("application/openmetrics-text", Some("1.0.0") | None) => open = weight,
                ("text/plain" | "text/*", Some("0.0.4") | None) => plain = weight,
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Exposition::OpenMetrics } else { Exposition::Plain }
    }
}

/// How a family's values behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a dyn Display);

/// Text under way. Writing to a string cannot fail.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    form: Exposition,
}

impl Text {
    /// None yet.
    pub(super) fn new(form: Exposition) -> Text {
        Text { text: String::new(), form }
    }

    /// Begins a family: its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        // In OpenMetrics the family of a counter is named without what its sample ends in.
        let name = match (self.form, kind) {
            (Exposition::OpenMetrics, MetricKind::Counter) => {
                name.strip_suffix("_total").unwrap_or(name)
            }
            _ => name,
        };
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
        };
        let _ = match self.form {
            Exposition::Plain => {
                writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            }
            Exposition::OpenMetrics => {
                writeln!(self.text, "# TYPE {name} {kind}\n# HELP {name} {help}")
            }
        };
    }

    /// One sample of the family that was begun.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(&text.to_string()));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of one histogram of the family that was begun.
    pub(super) fn times(&mut self, name: &str, labels: &[Label<'_>], times: &Times) {
        let (bucket, mut count) = (format!("{name}_bucket"), 0);
        for (limit, of_it) in LIMITS.iter().zip(times.buckets) {
            count += of_it;
            self.sample(&bucket, &[labels, &[("le", limit)]].concat(), count);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(times.sum));
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.form == Exposition::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Microseconds as seconds, exactly.
pub(super) fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A label's value as the formats want it: `\`, `"` and line feeds escaped. What would drive the terminal of somebody who
/// looks at the text is replaced by its name, since they have no escape for it.
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

    #[test]
    fn who_asks_for_openmetrics_gets_it_and_nobody_else() {
        // The first is what Prometheus 2.42 sends.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "Application/OpenMetrics-Text",
            "text/plain, application/openmetrics-text; version=\"1.0.0\"",
        ] {
            assert_eq!(Exposition::wanted(accept), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text; version=2.0.0",
            "application/openmetrics-text; version=1.0.0; q=0",
            "application/openmetrics-text; q=0.3, text/plain; q=0.5",
            "application/openmetrics-text; q=nonsense",
        ] {
            assert_eq!(Exposition::wanted(accept), Exposition::Plain, "{accept}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        for (value, expected) in
            [("a:1", "a:1"), ("a\"b", "a\\\"b"), ("a\\b", "a\\\\b"), ("a\nb", "a\\nb")]
        {
            assert_eq!(escaped(value), expected);
        }
    }

    #[test]
    fn both_forms_have_the_same_samples() {
        let write = |form| {
            let mut text = Text::new(form);
            text.single("a_total", MetricKind::Counter, "Help.", 3);
            text.family("b_seconds", MetricKind::Histogram, "Help.");
            let times = Times { buckets: [1; 15], sum: 1_500_000 };
            text.times("b_seconds", &[("x", &"y")], &times);
            text.finish()
        };
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        let (plain, open) = (write(Exposition::Plain), write(Exposition::OpenMetrics));
        assert_eq!(samples(&plain), samples(&open));
        assert!(plain.starts_with("# HELP a_total Help.\n# TYPE a_total counter\na_total 3\n"));
        assert!(open.starts_with("# TYPE a counter\n# HELP a Help.\na_total 3\n"));
        assert!(open.ends_with("b_seconds_count{x=\"y\"} 15\n# EOF\n"), "{open}");
        assert!(plain.contains("\nb_seconds_bucket{x=\"y\",le=\"0.01\"} 2\n"), "{plain}");
        assert!(plain.contains("\nb_seconds_sum{x=\"y\"} 1.500000\n"), "{plain}");
    }
}
