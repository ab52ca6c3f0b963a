//! What was measured: rows for people and for programs, and which promises were kept.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Failure;

/// The measurements of one run, in the order in which they were taken.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<(String, Vec<Row>)>,
}

struct Row {
    what: String,
    value: f64,
    unit: Cow<'static, str>,
    /// The bound that was promised, in words, and whether the value keeps it.
    promise: Option<(String, bool)>,
}

impl Row {
    fn is_broken(&self) -> bool {
        matches!(self.promise, Some((_, false)))
    }
}

impl Report {
    /// Begins a table.
    pub(crate) fn section(&mut self, title: impl Into<String>) {
        self.sections.push((title.into(), Vec::new()));
    }

    /// A figure to know.
    pub(crate) fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Row { what: what.into(), value, unit: unit.into(), promise: None });
    }

    /// A figure that must not exceed `most`.
    pub(crate) fn at_most(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        most: f64,
    ) {
        let promise = Some((format!("<= {}", number(most)), value <= most));
        self.push(Row { what: what.into(), value, unit: unit.into(), promise });
    }

    /// A figure that must be at least `least`.
    pub(crate) fn at_least(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        least: f64,
    ) {
        let promise = Some((format!(">= {}", number(least)), value >= least));
        self.push(Row { what: what.into(), value, unit: unit.into(), promise });
    }

    /// A figure that must be exactly `wanted`.
    pub(crate) fn exactly(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        wanted: f64,
    ) {
        let kept = (value - wanted).abs() < f64::EPSILON;
        let promise = Some((format!("= {}", number(wanted)), kept));
        self.push(Row { what: what.into(), value, unit: unit.into(), promise });
    }

    /// Closes a table with how many of its promises were broken.
    pub(crate) fn verdict(&mut self) {
        let rows = self.sections.last().map_or(&[][..], |(_, rows)| rows);
        let broken = rows.iter().filter(|row| row.is_broken()).count();
        self.figure("verdict: promises broken", count(broken as u64), "");
    }

    fn push(&mut self, row: Row) {
        if self.sections.is_empty() {
            self.section("");
        }
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push(row);
        }
    }

    /// How many promises were broken.
    pub(crate) fn broken(&self) -> usize {
        let rows = self.sections.iter().flat_map(|(_, rows)| rows);
        rows.filter(|row| row.is_broken()).count()
    }

    /// The tables, aligned.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let rows = || self.sections.iter().flat_map(|(_, rows)| rows);
        let width = rows().map(|row| row.what.chars().count()).max().unwrap_or(0);
        for (title, rows) in &self.sections {
            let _ = writeln!(text, "\n{title}");
            for row in rows {
                let value = number(row.value);
                let _ = write!(text, "  {:width$}  {value:>12} {:6}", row.what, row.unit);
                if let Some((wanted, kept)) = &row.promise {
                    let _ = write!(text, "  {} {wanted}", if *kept { "ok    " } else { "BROKEN" });
                }
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            let mut object = json!({ "what": row.what, "value": row.value, "unit": row.unit });
            if let Some((wanted, kept)) = &row.promise {
                object["wanted"] = json!(wanted);
                object["kept"] = json!(kept);
            }
            object
        };
        let sections: Vec<_> = self
            .sections
            .iter()
            .map(|(title, rows)| {
                json!({ "title": title, "rows": rows.iter().map(row).collect::<Vec<_>>() })
            })
            .collect();
        json!({ "broken": self.broken(), "sections": sections })
    }

    /// Takes on the tables of [`Report::json`] of another process.
    pub(crate) fn adopt(&mut self, json: &Value) -> Result<(), Failure> {
        let unreadable = || Failure::new("not a report of this program");
        for section in json["sections"].as_array().ok_or_else(unreadable)? {
            self.section(section["title"].as_str().ok_or_else(unreadable)?);
            for row in section["rows"].as_array().ok_or_else(unreadable)? {
                let promise = row["wanted"].as_str().map(str::to_owned).zip(row["kept"].as_bool());
                self.push(Row {
                    what: row["what"].as_str().ok_or_else(unreadable)?.to_owned(),
                    // What never came is no number in JSON.
                    value: row["value"].as_f64().unwrap_or(f64::NAN),
                    unit: row["unit"].as_str().ok_or_else(unreadable)?.to_owned().into(),
                    promise,
                });
            }
        }
        Ok(())
    }

    /// Writes [`Report::json`] to a file.
    pub(crate) fn write_json(&self, file: &Path) -> Result<(), Failure> {
        fs::write(file, format!("{:#}\n", self.json()))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
    }
}

/// Whole numbers whole, small ones with as many digits as they need.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// The middle value (the mean of the two middle ones); `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(sorted.len() / 2 - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// A count as a figure; exact below 2^53.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_marks_broken_promises() {
        let mut report = Report::default();
        report.section("load");
        report.figure("requests/s", 1234.5, "1/s");
        report.at_most("failed", 0.0, "", 0.0);
        report.exactly("unequal", 2.0, "", 0.0);
        assert_eq!(report.broken(), 1);
        let text = report.text();
        assert!(text.contains("BROKEN = 0"), "{text}");
        assert!(text.contains("ok     <= 0"), "{text}");
        assert_eq!(report.json()["sections"][0]["rows"][2]["kept"], false);
    }

    #[test]
    fn what_another_process_has_measured_is_the_same_here() {
        let mut theirs = Report::default();
        theirs.section("chaos");
        theirs.at_least("answered", 40.0, "%", 45.0);
        theirs.figure("never", f64::NAN, "ms");
        theirs.verdict();
        let mut ours = Report::default();
        ours.adopt(&theirs.json()).unwrap();
        assert_eq!((ours.text(), ours.broken()), (theirs.text(), 1));
        assert!(ours.adopt(&json!({ "sections": [{}] })).is_err());
    }

    #[test]
    fn finds_the_middle_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn prints_numbers_as_people_write_them() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(12345.678), "12346");
        assert_eq!(number(128.25), "128.2");
        assert_eq!(number(4.0321), "4.032");
    }
}
