//! The configuration keys as data: for each its path, what it may be, its default, whether a reload may change it, and
//! what it does.
//!
//! Owns which keys there are. Parsing, the remedies of unknown keys, `evenly keys`, `config/reference.toml` and the tables
//! of `docs/configuration.md` and of the README come from here. Defaults do not: they are those of
//! [`crate::settings::Settings`], read through the same place that a value is written to.

mod table;

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) use table::{HEALTH, MAX_CONGESTION, MAX_SERVERS, STATUS, TARGETS, WORKERS};

use super::error::{ConfigError, Mistake, Page, quoted};
use super::raw::{self, Item};
use super::units::Unit;
use crate::settings::{
    Boot, HealthCheck, Lockdown, Plan, ProxyStatus, TargetAddress, TargetState, Via, Workers,
};

/// What a file is read into, key by key.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) boot: Boot,
    /// All of it but the targets.
    pub(super) plan: Plan,
    /// How the target that is being read is checked, or any target whose own keys do not say otherwise.
    pub(super) check: HealthCheck,
    /// Where the target that is being read is.
    pub(super) address: Option<TargetAddress>,
    /// Whether it gets requests.
    pub(super) state: TargetState,
}

/// A place for an amount: a number, milliseconds, bytes. `None` is the word that may stand instead (`"auto"`, `"off"`),
/// or that the key is absent.
pub(super) trait Slot {
    /// Takes what was read, which is within the range of its key.
    fn set(&mut self, amount: Option<u64>);
    /// What is there.
    fn get(&self) -> Option<u64>;
}

impl Slot for u32 {
    fn set(&mut self, amount: Option<u64>) {
        *self = amount.and_then(|amount| u32::try_from(amount).ok()).unwrap_or(u32::MAX);
    }

    fn get(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl Slot for usize {
    fn set(&mut self, amount: Option<u64>) {
        *self = amount.and_then(|amount| usize::try_from(amount).ok()).unwrap_or(usize::MAX);
    }

    fn get(&self) -> Option<u64> {
        Some(*self as u64)
    }
}

impl Slot for Duration {
    fn set(&mut self, amount: Option<u64>) {
        *self = amount.map_or(Duration::MAX, Duration::from_millis);
    }

    fn get(&self) -> Option<u64> {
        u64::try_from(self.as_millis()).ok()
    }
}

impl<T: Slot + Default> Slot for Option<T> {
    fn set(&mut self, amount: Option<u64>) {
        *self = amount.map(|amount| {
            let mut value = T::default();
            value.set(Some(amount));
            value
        });
    }

    fn get(&self) -> Option<u64> {
        self.as_ref().and_then(Slot::get)
    }
}

impl Slot for Workers {
    fn set(&mut self, amount: Option<u64>) {
        let count = amount.and_then(|amount| usize::try_from(amount).ok());
        *self = count.map_or(Workers::Auto, Workers::Count);
    }

    fn get(&self) -> Option<u64> {
        match self {
            Workers::Auto => None,
            Workers::Count(count) => count.get(),
        }
    }
}

/// A place for one of a few words. The first is number 0.
pub(super) trait Choice {
    /// Takes the word of that number.
    fn choose(&mut self, number: usize);
    /// The number of the word that is there.
    fn chosen(&self) -> usize;
}

/// Makes `$type` a choice of these variants, in the order of their words.
macro_rules! choice {
    ($type:ty { $($variant:ident),* }) => {
        impl Choice for $type {
            fn choose(&mut self, number: usize) {
                *self = [$(<$type>::$variant),*][number];
            }

            fn chosen(&self) -> usize {
                [$(<$type>::$variant),*].iter().position(|one| one == self).unwrap_or_default()
            }
        }
    };
}

choice! { Via { Off, Requests, All } }
choice! { TargetState { Auto, Up, Drain, Down } }
choice! { ProxyStatus { Off, Errors, All } }
choice! { Lockdown { Off, Auto, On } }

/// How an amount is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// A bare number.
    Number,
    /// A number with its unit.
    With(Unit),
    /// A duration of whole seconds.
    WholeSeconds,
}

/// What the value of a key may be, and where it goes.
pub(super) enum Value {
    /// A number, a duration or a size within a range, or a word in place of it.
    Amount {
        measure: Measure,
        /// In milliseconds, bytes, or as it is.
        range: RangeInclusive<u64>,
        /// `auto` or `off`; empty: there is none.
        word: &'static str,
        /// Follows the range where it is shown: what an end of it means, or what else limits it.
        besides: &'static str,
        at: fn(&mut Draft) -> &mut dyn Slot,
    },
    /// `true` or `false`.
    Flag(fn(&mut Draft) -> &mut bool),
    /// One of a few words; `wrong` is what any other is.
    Words {
        words: &'static [&'static str],
        wrong: &'static str,
        at: fn(&mut Draft) -> &mut dyn Choice,
    },
    /// Text, or a list of texts, with rules of its own.
    Text {
        kind: &'static str,
        range: &'static str,
        read: fn(&mut Draft, &Item<'_>) -> Result<(), Mistake>,
        /// As it would be written; `None` if it is unset.
        show: fn(&Draft) -> Option<String>,
    },
}

/// One configuration key.
pub struct ConfigKey {
    /// Without its table: `interval`.
    pub name: &'static str,
    /// Whether a reload may change it. What may not is read at startup only.
    pub reload: bool,
    /// What to write, for a key that is unset by default or has rules of its own; else empty.
    pub example: &'static str,
    /// What it is, in a line; as in Markdown, without a full stop.
    pub short: &'static str,
    /// What else there is to know, in Markdown; may be empty.
    pub long: &'static str,
    value: Value,
}

impl ConfigKey {
    /// Which type of value it takes: `number`, `duration`, `address or list`.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Amount { measure, .. } => match measure {
                Measure::Number => "number",
                Measure::With(Unit::Size) => "size",
                Measure::With(Unit::Time) | Measure::WholeSeconds => "duration",
            },
            Value::Flag(_) => "boolean",
            Value::Words { .. } => "word",
            Value::Text { kind, .. } => kind,
        }
    }

    /// What it takes of that type: `"1ms" to "24h"`.
    pub fn range(&self) -> String {
        match &self.value {
            Value::Amount { measure, range, word, besides, .. } => {
                let word = if word.is_empty() { String::new() } else { format!("\"{word}\" or ") };
                let whole = if *measure == Measure::WholeSeconds { "whole seconds, " } else { "" };
                let [least, most] = [range.start(), range.end()].map(|end| measure.show(*end));
                format!("{word}{whole}{least} to {most}{besides}")
            }
            Value::Flag(_) => "true or false".to_owned(),
            Value::Words { words, .. } => either(words),
            Value::Text { range, .. } => (*range).to_owned(),
        }
    }

    /// Its default as it would be written in a file; `None` if it is unset by default.
    pub fn default(&self) -> Option<String> {
        self.shown(&mut Draft::default())
    }

    /// What `draft` has as it would be written in a file; `None` if it is unset.
    pub(super) fn shown(&self, draft: &mut Draft) -> Option<String> {
        match &self.value {
            Value::Amount { measure, word, at, .. } => {
                let word = Some(*word).filter(|word| !word.is_empty()).map(quoted);
                at(draft).get().map(|amount| measure.show(amount)).or(word)
            }
            Value::Flag(at) => Some(at(draft).to_string()),
            Value::Words { words, at, .. } => Some(quoted(words[at(draft).chosen()])),
            Value::Text { show, .. } => show(draft),
        }
    }

    /// Lays what is written over the default in `draft`.
    pub(super) fn read(&self, item: &Item<'_>, draft: &mut Draft) -> Result<(), Mistake> {
        match &self.value {
            Value::Amount { measure, range, word, at, .. } => {
                let word = Some(*word).filter(|word| !word.is_empty());
                at(draft).set(item.amount(*measure, range, word)?);
            }
            Value::Flag(at) => *at(draft) = item.boolean()?,
            Value::Words { words, wrong, at } => at(draft).choose(item.word(words, wrong)?),
            Value::Text { read, .. } => read(draft, item)?,
        }
        Ok(())
    }
}

impl Measure {
    /// `amount` as it is written.
    fn show(self, amount: u64) -> String {
        match self {
            Measure::Number => amount.to_string(),
            Measure::With(unit) => unit.show(amount),
            Measure::WholeSeconds => Unit::Time.show(amount),
        }
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
pub(super) fn either(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A table of the file, and the keys that may stand in it.
pub struct Table {
    /// `health`; empty for the top level.
    pub name: &'static str,
    /// How it begins in a file: `[health]`, `[[targets]]`, or nothing for the top level.
    pub header: &'static str,
    /// What it is about, in a line.
    pub about: &'static str,
    /// Its own keys.
    pub keys: &'static [ConfigKey],
    /// A table whose keys may be repeated in this one, to override it.
    pub overrides: Option<&'static Table>,
}

impl Table {
    /// What comes before the names of its keys: `health.`, `targets[].`, or nothing.
    pub fn prefix(&self) -> String {
        match (self.name, self.header.starts_with("[[")) {
            ("", _) => String::new(),
            (name, true) => format!("{name}[]."),
            (name, false) => format!("{name}."),
        }
    }

    /// The key of that name, its own or one that it overrides.
    pub(super) fn key(&self, name: &str) -> Option<&'static ConfigKey> {
        let overridden = self.overrides.map(|table| table.keys).unwrap_or_default();
        self.keys.iter().chain(overridden).find(|key| key.name == name)
    }

    /// Whatever may stand in it, tables included.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let overridden = self.overrides.map(|table| table.keys).unwrap_or_default();
        let keys = self.keys.iter().chain(overridden).map(|key| key.name);
        let tables = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
        keys.chain(tables.filter(|_| self.name.is_empty())).collect()
    }
}

/// Every table, in the order of the reference file; the first is the top level.
pub static TABLES: &[&Table] = &[
    &table::FILE,
    &TARGETS,
    &HEALTH,
    &table::TIMEOUTS,
    &table::LIMITS,
    &table::RETRY,
    &table::EJECTION,
    &table::TCP,
    &table::DNS,
    &table::ADMIN,
    &table::SECURITY,
    &table::LOG,
];

/// The table of that name; the top level if there is none.
pub(super) fn table(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap_or(&TABLES[0])
}

/// A key with its place in the file.
pub struct Entry {
    /// `health.interval`, `targets[].address`.
    pub path: String,
    /// The table it stands in.
    pub table: &'static Table,
    /// What is known of it.
    pub key: &'static ConfigKey,
    /// The path of the key that it overrides, if it does.
    pub overrides: Option<String>,
}

impl Entry {
    /// Its default as it would be written; in place of one for which there is none, what that means.
    pub fn default(&self) -> String {
        match &self.overrides {
            Some(path) => format!("as {path}"),
            None if self.key.name == "address" => "required".to_owned(),
            None => self.key.default().unwrap_or_else(|| "unset".to_owned()),
        }
    }

    /// What it is, in a line.
    pub fn short(&self) -> String {
        match &self.overrides {
            Some(path) => format!("Overrides `{path}` for this target"),
            None => self.key.short.to_owned(),
        }
    }
}

/// Every key in its place, in the order of the reference file.
pub fn entries() -> Vec<Entry> {
    let of_table = |table: &&'static Table| {
        let table = *table;
        let entry = move |key: &'static ConfigKey, other: Option<&'static Table>| Entry {
            path: format!("{}{}", table.prefix(), key.name),
            table,
            key,
            overrides: other.map(|other| format!("{}{}", other.prefix(), key.name)),
        };
        let own = table.keys.iter().map(move |key| entry(key, None));
        let overridden = table
            .overrides
            .into_iter()
            .flat_map(move |other| other.keys.iter().map(move |key| entry(key, Some(other))));
        own.chain(overridden)
    };
    TABLES.iter().flat_map(of_table).collect()
}

/// The key at `path`, or those of the table of that name. An element may have its number: `targets[0].address`.
///
/// # Errors
/// There is neither; says which was meant, as far as that can be guessed.
pub fn find(path: &str) -> Result<Vec<Entry>, ConfigError> {
    let plain = simple(path);
    let mut found = entries();
    found.retain(|entry| simple(&entry.path) == plain || entry.table.name == plain);
    if !found.is_empty() {
        return Ok(found);
    }
    let page = Page::new("");
    let problem = format!("{} is not a key; {}", quoted(path), raw::meant_by_path(&plain));
    page.report(Mistake::of_option("evenly keys", problem));
    page.finish(found, None)
}

/// A path without brackets and what is in them, unless all of it is.
fn simple(path: &str) -> String {
    let path = path.trim();
    if path.starts_with('[') {
        return path.trim_matches(['[', ']']).to_owned();
    }
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once(']').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::super::address::{MAX_ENDPOINT, MAX_UNIX_PATH};
    use super::*;

    #[test]
    fn the_numbers_in_a_text_are_those_of_the_source() {
        let of = |path: &str| {
            let found = entries().into_iter().find(|entry| entry.path == path).expect("a key");
            format!("{}. {}", found.key.range(), found.key.long)
        };
        let (least, most) = STATUS.into_inner();
        let cases = [
            ("targets[].health_check_endpoint", format!("at most {MAX_ENDPOINT} bytes")),
            ("health.expect", format!("{least} to {most}")),
            ("tcp.congestion", format!("at most {MAX_CONGESTION} letters")),
            ("dns.servers", format!("a list of 1 to {MAX_SERVERS}")),
            ("targets[].address", format!("at most {MAX_UNIX_PATH} bytes")),
        ];
        for (path, part) in cases {
            assert!(of(path).contains(&part), "{path}: {part}");
        }
    }

    #[test]
    fn a_path_may_be_written_in_several_ways() {
        for path in
            ["targets[].address", "targets[3].address", "targets.address", " targets.address "]
        {
            assert_eq!(find(path).expect("a key")[0].path, "targets[].address");
        }
        for path in ["health", "[health]"] {
            assert_eq!(find(path).expect("a table").len(), 6);
        }
        assert_eq!(find("[[targets]]").expect("a table").len(), 9);
        assert!(find("health.").is_err() && find("health]").is_err());
    }
}
