//! The file as it is written: one struct for each table, one [`Item`] for each key that is present.
//!
//! Owns which keys exist, and refuses every other one with the nearest that does. What a value means
//! is not decided here. The structs are filled from toml's spanned document (`DeTable`) and not by
//! serde's derive, because serde's errors carry neither the full path of a key nor the keys that
//! would have been right.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Page, quoted};
use super::hints;

/// One value of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// The full path of its key: `targets[2].address`.
    pub(super) key: String,
    /// What stands there; of a table its header.
    pub(super) value: &'a Spanned<DeValue<'a>>,
    /// Where its faults are kept.
    pub(super) page: &'a Page<'a>,
}

/// A table of the file that a struct mirrors.
pub(super) trait Mirror<'a>: Sized {
    /// How the table begins in a file: `[health]`, `[[targets]]`, or nothing for the top level.
    const HEADER: &'static str;
    /// Every key the table may hold.
    const KEYS: &'static [&'static str];

    /// Takes `table` apart, and reports the keys that are not known. `path` comes before its keys: empty, or `health.`.
    fn read(table: &'a DeTable<'a>, path: &str, page: &'a Page<'a>) -> Self;
}

/// Declares the struct for one table of the file: an optional [`Item`] for each key.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident = $header:literal { $($key:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $key: Option<Item<'a>>,)*
            /// Whether there were others, which were reported.
            pub(super) has_unknown_keys: bool,
        }

        impl<'a> Mirror<'a> for $name<'a> {
            const HEADER: &'static str = $header;
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn read(table: &'a DeTable<'a>, path: &str, page: &'a Page<'a>) -> Self {
                let mut raw = Self::default();
                for (name, value) in table {
                    let slot = match name.get_ref().as_ref() {
                        $(stringify!($key) => &mut raw.$key,)*
                        _ => {
                            page.report(unknown_key::<Self>(name, path));
                            raw.has_unknown_keys = true;
                            continue;
                        }
                    };
                    *slot = Some(Item { key: format!("{path}{}", name.get_ref()), value, page });
                }
                raw
            }
        }
    };
}

mirror! {
    /// The top level.
    File = "" {
        listen, workers, spin, trusted_proxies, via, targets, health, timeouts, limits, retry,
        ejection, tcp, dns, admin, log,
    }
}
mirror! {
    /// `[health]`.
    Health = "[health]" { interval, timeout, rise, fall, expect, host }
}
mirror! {
    /// One `[[targets]]` block. The keys of `[health]` may be repeated in it.
    Target = "[[targets]]" {
        address, health_check_endpoint, interval, timeout, rise, fall, expect, host,
    }
}
mirror! {
    /// `[timeouts]`.
    Timeouts = "[timeouts]" {
        client_header, client_idle, client_body, client_gone, connect, response_header, response_body,
        tunnel_idle, upstream_idle, drain,
    }
}
mirror! {
    /// `[limits]`.
    Limits = "[limits]" {
        head, headers, connections, requests_per_target, idle_per_target, memory,
    }
}
mirror! {
    /// `[retry]`.
    Retry = "[retry]" { connect_attempts, replay, budget, budget_floor }
}
mirror! {
    /// `[ejection]`.
    Ejection = "[ejection]" { connect_failures, resets, timeouts, errors, time, max_time, share }
}
mirror! {
    /// `[tcp]`.
    Tcp = "[tcp]" { congestion, defer_accept }
}
mirror! {
    /// `[dns]`.
    Dns = "[dns]" { servers }
}
mirror! {
    /// `[admin]`.
    Admin = "[admin]" { listen }
}
mirror! {
    /// `[log]`.
    Log = "[log]" { access, format }
}

/// Every table and the keys it may hold.
pub(super) const TABLES: [(&str, &[&str]); 11] = [
    (File::HEADER, File::KEYS),
    // Before the targets, which repeat its keys.
    (Health::HEADER, Health::KEYS),
    (Target::HEADER, Target::KEYS),
    (Timeouts::HEADER, Timeouts::KEYS),
    (Limits::HEADER, Limits::KEYS),
    (Retry::HEADER, Retry::KEYS),
    (Ejection::HEADER, Ejection::KEYS),
    (Tcp::HEADER, Tcp::KEYS),
    (Dns::HEADER, Dns::KEYS),
    (Admin::HEADER, Admin::KEYS),
    (Log::HEADER, Log::KEYS),
];

fn unknown_key<'a, T: Mirror<'a>>(name: &Spanned<std::borrow::Cow<'_, str>>, path: &str) -> Fault {
    let key = name.get_ref().as_ref();
    Fault {
        place: name.span().into(),
        key: format!("{path}{}", shown_key(key)),
        problem: format!("unknown key; {}", remedy(key, T::HEADER, T::KEYS)),
    }
}

/// A key as TOML would write it: bare where that is possible.
fn shown_key(key: &str) -> String {
    let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare && !key.is_empty() && key.len() <= 80 { key.to_owned() } else { quoted(key) }
}

/// What to write instead of the unknown `key`: what it means in another proxy, the nearest key of this table, the
/// table in which it is known, or else the list.
fn remedy(key: &str, header: &str, known: &[&str]) -> String {
    if let Some(hint) = hints::of(key, header) {
        return hint.to_owned();
    }
    let nearest = known.iter().map(|&other| (distance(key, other), other)).min();
    if let Some((_, nearest)) = nearest.filter(|&(far, other)| far <= 1 + other.len() / 4) {
        return format!("did you mean \"{nearest}\"?");
    }
    let elsewhere = |&&(other, keys): &&(&str, &[&str])| other != header && keys.contains(&key);
    match TABLES.iter().find(elsewhere) {
        Some(("", _)) => format!("\"{key}\" belongs at the top level, before the first [table]"),
        Some((other, _)) => format!("\"{key}\" belongs in {other}"),
        None => format!("known keys here: {}", known.join(", ")),
    }
}

/// The edits (insert, delete, replace, swap of neighbours) from `from` to `to`, letter case and `-`
/// against `_` not counted. What is far longer than any key is never compared: it is infinitely far.
fn distance(from: &str, to: &str) -> usize {
    const LONGEST: usize = 64;
    if from.len() > LONGEST {
        return usize::MAX;
    }
    let from = from.to_ascii_lowercase().replace('-', "_").into_bytes();
    let to = to.as_bytes();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, &a) in from.iter().enumerate() {
        let mut this = vec![row + 1];
        for (at, &b) in to.iter().enumerate() {
            let mut least =
                (last[at] + usize::from(a != b)).min(last[at + 1] + 1).min(this[at] + 1);
            if row > 0 && at > 0 && a == to[at - 1] && from[row - 1] == b {
                least = least.min(before[at - 1] + 1);
            }
            this.push(least);
        }
        before = std::mem::replace(&mut last, this);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_how_far_keys_are_apart() {
        let cases = [
            ("interval", "interval", 0),
            ("Interval", "interval", 0),
            ("client-idle", "client_idle", 0),
            ("intervall", "interval", 1),
            ("inetrval", "interval", 1),
            ("target", "targets", 1),
            ("", "log", 3),
        ];
        for (from, to, far) in cases {
            assert_eq!(distance(from, to), far, "{from} {to}");
        }
        assert_eq!(distance(&"x".repeat(10_000), "log"), usize::MAX);
    }

    #[test]
    fn an_unknown_key_is_answered_with_what_would_have_been_right() {
        let cases = [
            ("target", "", File::KEYS, "did you mean \"targets\"?"),
            ("interval", "", File::KEYS, "\"interval\" belongs in [health]"),
            ("rise", "", File::KEYS, "belongs in"),
            ("workers", "[log]", Log::KEYS, "belongs at the top level"),
            ("drain", "", File::KEYS, "\"drain\" belongs in [timeouts]"),
            ("zzzzzz", "[log]", Log::KEYS, "known keys here: access, format"),
        ];
        for (key, header, known, expected) in cases {
            let remedy = remedy(key, header, known);
            assert!(remedy.contains(expected), "{remedy}");
        }
    }

    const REFERENCE: &str = include_str!("../../config/reference.toml");
    const DOCUMENT: &str = include_str!("../../docs/configuration.md");
    const README: &str = include_str!("../../README.md");

    fn paths() -> impl Iterator<Item = String> {
        TABLES.iter().flat_map(|(header, keys)| {
            let prefix = match header.trim_matches(['[', ']']) {
                "" => String::new(),
                "targets" => "targets[].".to_owned(),
                table => format!("{table}."),
            };
            keys.iter().map(move |key| format!("{prefix}{key}"))
        })
    }

    /// Each key of reference.toml, commented out or not, and its value.
    fn reference() -> std::collections::HashMap<String, String> {
        let mut table = String::new();
        let mut found = std::collections::HashMap::new();
        for line in REFERENCE.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)) {
            if let Some(header) = line.strip_prefix('[') {
                let header = header.trim_matches(['[', ']']);
                table = format!("{header}{}.", if header == "targets" { "[]" } else { "" });
                found.insert(header.to_owned(), String::new());
            } else if let Some((key, value)) = line.split_once(" = ")
                && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            {
                found.insert(format!("{table}{key}"), value.to_owned());
            }
        }
        found
    }

    #[test]
    fn the_reference_file_holds_every_key_and_no_other() {
        let reference = reference();
        let mut found: Vec<&String> = reference.keys().collect();
        let known: Vec<String> = paths().collect();
        let mut known: Vec<&String> = known.iter().collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
    }

    #[test]
    fn the_comment_above_each_key_of_the_reference_file_states_its_default() {
        let (mut stated, mut seen) = (None, 0);
        for line in REFERENCE.lines() {
            let comment = line.strip_prefix("# ");
            if let Some((_, after)) = comment.and_then(|text| text.split_once("Default: ")) {
                stated = Some(after);
            }
            if let Some((key, value)) = line.split_once(" = ")
                && comment.is_none()
                && !["targets", "address"].contains(&key)
            {
                let value = if value == "[]" { "none" } else { value };
                // A comma or a full stop follows: there is a reason, or nothing more.
                let rest = stated.and_then(|stated| stated.strip_prefix(value));
                assert!(rest.is_some_and(|rest| rest.starts_with([',', '.'])), "{key}: {stated:?}");
                seen += 1;
            } else if comment.is_some_and(|text| text.contains(" = ")) {
                let absent = |it: &str| it.starts_with("absent") || it.starts_with("as in");
                assert!(stated.is_some_and(absent), "{line}");
                seen += 1;
            }
            if line.is_empty() {
                stated = None;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn the_table_of_the_readme_has_every_key_and_no_other() {
        for (header, keys) in TABLES {
            let begin =
                if header.is_empty() { "| top level |".into() } else { format!("| `{header}` |") };
            let row = README.lines().find(|line| line.starts_with(&begin)).unwrap_or_default();
            // What follows a semicolon or a colon is said of the keys.
            let listed = row.get(begin.len()..).unwrap_or_default().split([';', ':']).next();
            let listed = listed.unwrap_or_default().split('`').skip(1).step_by(2);
            let is_table = |key: &str| {
                let mut others = TABLES.iter().map(|(other, _)| other.trim_matches(['[', ']']));
                header == File::HEADER && others.any(|other| other == key)
            };
            let of_health = |key| header == Target::HEADER && Health::KEYS.contains(key);
            let own = keys.iter().filter(|key| !is_table(key) && !of_health(key));
            assert_eq!(listed.collect::<Vec<_>>(), own.copied().collect::<Vec<_>>(), "{header}");
        }
    }

    #[test]
    fn the_document_gives_every_key_with_the_value_of_the_reference_file() {
        let reference = reference();
        for path in paths() {
            let value = reference.get(&path).map(String::as_str).unwrap_or_default();
            let row = match value {
                "" => format!("`{path}`"),
                value => format!("| `{path}` | `{value}` |"),
            };
            assert!(DOCUMENT.contains(&row), "docs/configuration.md has no {row}");
        }
    }
}
