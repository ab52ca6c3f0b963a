//! Where the values stand that only a start can find wrong: an address that is in use, a log that cannot be opened.
//!
//! Owns one mistake without its problem for each of them, so that nothing of the file is kept but the lines that are shown.

use toml::de::{DeTable, DeValue};

use super::Overrides;
use super::error::{ConfigError, Diagnostic, Location, Mistake, Page};

/// The keys a start may fail by. Of a list each element has its place.
const KEYS: [&str; 11] = [
    "listen",
    "user",
    "security.landlock",
    "security.seccomp",
    "admin.listen",
    "admin.socket",
    "admin.token_file",
    "log.access",
    "tcp.congestion",
    "tcp.defer_accept",
    "limits.connections",
];

/// Where values were written.
#[derive(Debug, Clone, Default)]
pub struct Places(Vec<(String, Diagnostic)>);

impl Places {
    /// Those of a file of that name, and of the command line, which wins over it.
    pub(super) fn of(
        document: &DeTable<'_>,
        name: &str,
        overrides: &Overrides,
        page: &Page<'_>,
    ) -> Places {
        let mut places = Places::default();
        let mut add = |key: String, span: std::ops::Range<usize>| {
            let mistake =
                Mistake { location: span.into(), key: key.clone(), problem: String::new() };
            places.0.push((key, page.explain(mistake, Some(name))));
        };
        for key in KEYS {
            let (table, last) =
                key.split_once('.').map_or((None, key), |(table, last)| (Some(table), last));
            let table = match table {
                None => Some(document),
                Some(table) => match document.get(table).map(toml::Spanned::get_ref) {
                    Some(DeValue::Table(table)) => Some(table),
                    _ => None,
                },
            };
            let Some(value) = table.and_then(|table| table.get(last)) else { continue };
            match value.get_ref() {
                DeValue::Array(list) => {
                    for (at, element) in list.iter().enumerate() {
                        add(format!("{key}[{at}]"), element.span());
                    }
                }
                _ => add(key.to_owned(), value.span()),
            }
        }
        places.override_with(overrides, page);
        places
    }

    /// Those of a command line without a file.
    pub(super) fn of_options(overrides: &Overrides) -> Places {
        let mut places = Places::default();
        places.override_with(overrides, &Page::new(""));
        places
    }

    fn override_with(&mut self, overrides: &Overrides, page: &Page<'_>) {
        if overrides.listen.is_empty() {
            return;
        }
        self.0.retain(|(key, _)| !key.starts_with("listen"));
        for at in 0..overrides.listen.len() {
            let mistake = Mistake {
                location: Location::Option,
                key: "--listen".to_owned(),
                problem: String::new(),
            };
            self.0.push((format!("listen[{at}]"), page.explain(mistake, None)));
        }
    }

    /// What is wrong with the value of `key`, with its place; `None` if it was not written, so that its default is what is
    /// wrong. Elements of lists are counted from 0: `listen[1]`.
    pub fn error(&self, key: &str, problem: &str) -> Option<ConfigError> {
        let find = |key: &str| self.0.iter().find(|(known, _)| known == key);
        // A list of one may be written without its brackets.
        let (_, diagnostic) = find(key).or_else(|| find(key.split('[').next()?))?;
        Some(ConfigError::of(diagnostic.clone().about(problem)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::KEYS;

    #[test]
    fn every_key_a_start_may_fail_by_is_a_key() {
        let entries = keys::entries();
        assert!(KEYS.iter().all(|key| entries.iter().any(|entry| entry.path == *key)));
    }
}
