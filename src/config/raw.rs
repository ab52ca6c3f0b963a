//! The file as it is written: which keys of a table are present, as one [`Item`] each.
//!
//! Refuses every key that [`keys`] does not know, with the nearest that it does. What a value means is not decided here.
//! Tables are taken from toml's spanned document (`DeTable`) and not by serde's derive, because serde's errors carry
//! neither the full path of a key nor the keys that would have been right.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Mistake, Page, quoted};
use super::hints;
use super::keys::{self, Draft, Table};

/// One value of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// The full path of its key: `targets[2].address`.
    pub(super) key: String,
    /// What stands there; of a table its header.
    pub(super) value: &'a Spanned<DeValue<'a>>,
    /// Where its mistakes are kept.
    pub(super) page: &'a Page<'a>,
}

/// What is written of one table.
pub(super) struct Written<'a> {
    table: &'static Table,
    items: Vec<(&'static str, Item<'a>)>,
    /// Whether there were others, which were reported.
    pub(super) has_unknown_keys: bool,
}

impl<'a> Written<'a> {
    /// Nothing at all.
    pub(super) fn nothing(table: &'static Table) -> Self {
        Written { table, items: Vec::new(), has_unknown_keys: false }
    }

    /// Takes `content` apart, and reports the keys that are not known. `path` comes before its keys: empty, or `health.`.
    pub(super) fn read(
        table: &'static Table,
        content: &'a DeTable<'a>,
        path: &str,
        page: &'a Page<'a>,
    ) -> Self {
        let mut written = Written::nothing(table);
        let known = table.names();
        for (name, value) in content {
            let text = name.get_ref().as_ref();
            match known.iter().find(|known| **known == text) {
                Some(known) => {
                    let item = Item { key: format!("{path}{text}"), value, page };
                    written.items.push((known, item));
                }
                None => {
                    page.report(unknown_key(table, name, path));
                    written.has_unknown_keys = true;
                }
            }
        }
        written
    }

    /// What is written of the key or table of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Item<'a>> {
        debug_assert!(self.table.names().contains(&name), "{name} is not a key here");
        self.items.iter().find(|(known, _)| *known == name).map(|(_, item)| item)
    }

    /// The table of that name within this one, or nothing of it.
    pub(super) fn table(&self, name: &str) -> Written<'a> {
        let table = keys::table(name);
        let written = self.get(name).and_then(|item| item.page.take(item.table(table)));
        written.unwrap_or_else(|| Written::nothing(table))
    }

    /// Lays what is written over the defaults in `draft`. What is wrong is reported and leaves its default standing; the
    /// names of these keys.
    pub(super) fn lay_over(&self, draft: &mut Draft) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        for (name, item) in &self.items {
            // A table within this one is none of its keys.
            let Some(key) = self.table.key(name) else { continue };
            if item.page.take(key.read(item, draft)).is_none() {
                wrong.push(key.name);
            }
        }
        wrong
    }
}

fn unknown_key(table: &Table, name: &Spanned<std::borrow::Cow<'_, str>>, path: &str) -> Mistake {
    let key = name.get_ref().as_ref();
    Mistake {
        location: name.span().into(),
        key: format!("{path}{}", shown_key(key)),
        problem: format!("unknown key; {}", remedy(key, table)),
    }
}

/// A key as TOML would write it: bare where that is possible.
fn shown_key(key: &str) -> String {
    let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare && !key.is_empty() && key.len() <= 80 { key.to_owned() } else { quoted(key) }
}

/// What to write instead of the unknown `key`: what it means in another proxy, the nearest key of this table, the
/// table in which it is known, or else the list.
fn remedy(key: &str, table: &Table) -> String {
    if let Some(hint) = hints::of(key, table.header) {
        return hint.to_owned();
    }
    let known = table.names();
    if let Some(nearest) = nearest(key, &known) {
        return format!("did you mean \"{nearest}\"?");
    }
    let belongs = keys::TABLES.iter().find(|other| {
        other.name == key
            || other.name != table.name && other.keys.iter().any(|own| own.name == key)
    });
    match belongs {
        Some(other) if other.name != key && !other.name.is_empty() => {
            format!("\"{key}\" belongs in {}", other.header)
        }
        Some(_) => format!("\"{key}\" belongs at the top level, before the first [table]"),
        None => format!("known keys here: {}", known.join(", ")),
    }
}

/// What to name instead of the unknown path `path` of a key.
pub(super) fn meant_by_path(path: &str) -> String {
    let entries = keys::entries();
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let last = path.rsplit('.').next().unwrap_or(path);
    let same = entries.iter().find(|entry| entry.overrides.is_none() && entry.key.name == last);
    if let Some(entry) = same {
        return format!("did you mean \"{}\"?", entry.path);
    }
    let tables: Vec<&str> = keys::TABLES.iter().map(|table| table.name).collect();
    if let Some(nearest) = nearest(path, &paths).or_else(|| nearest(path, &tables)) {
        return format!("did you mean \"{nearest}\"?");
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.key.name).collect();
    let near_name = nearest(last, &names).and_then(|name| {
        entries.iter().find(|entry| entry.key.name == name && entry.overrides.is_none())
    });
    match (near_name, hints::of(last, "")) {
        (_, Some(hint)) => hint.to_owned(),
        (Some(entry), None) => format!("did you mean \"{}\"?", entry.path),
        (None, None) => "evenly keys lists them all".to_owned(),
    }
}

/// The one of `known` that is so near to `word` that it was probably meant.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // What is far longer than any key is not compared.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let nearest = known.iter().map(|&other| (strsim::osa_distance(&word, other), other)).min();
    nearest.filter(|&(edits, other)| edits <= 1 + other.len() / 4).map(|(_, nearest)| nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_edits_away_is_near() {
        let known = ["interval", "timeout", "log", "client_idle"];
        let cases = [
            ("interval", Some("interval")),
            ("Interval", Some("interval")),
            ("client-idle", Some("client_idle")),
            ("intervall", Some("interval")),
            ("inetrval", Some("interval")),
            ("lgo", Some("log")),
            ("colour", None),
            ("", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), &["x"]), None);
    }

    #[test]
    fn an_unknown_key_is_answered_with_what_would_have_been_right() {
        let cases = [
            ("target", "", "did you mean \"targets\"?"),
            ("interval", "", "\"interval\" belongs in [health]"),
            ("rise", "", "belongs in [health]"),
            ("workers", "log", "belongs at the top level"),
            ("timeouts", "log", "belongs at the top level"),
            ("drain", "", "\"drain\" belongs in [timeouts]"),
            ("zzzzzz", "log", "known keys here: access, format"),
        ];
        for (key, table, expected) in cases {
            let remedy = remedy(key, keys::table(table));
            assert!(remedy.contains(expected), "{remedy}");
        }
    }

    #[test]
    fn an_unknown_path_is_answered_with_the_one_that_was_meant() {
        let cases = [
            ("health.intervall", "did you mean \"health.interval\"?"),
            ("interval", "did you mean \"health.interval\"?"),
            ("limits.drain", "did you mean \"timeouts.drain\"?"),
            ("timeout.drian", "did you mean \"timeouts.drain\"?"),
            ("timeout", "did you mean \"health.timeout\"?"),
            ("maxconn", "did you mean \"connections\" in [limits]?"),
            ("zzzzzzzzzz", "evenly keys lists them all"),
        ];
        for (path, meant) in cases {
            assert_eq!(meant_by_path(path), meant, "{path}");
        }
    }
}
