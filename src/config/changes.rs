//! What one file says otherwise than another: key by key, and target by target.
//!
//! Owns what is a change and how it is written; whether it can be applied is in each key ([`ConfigKey::reload`](keys::ConfigKey::reload)). Pure.

use std::collections::HashMap;
use std::fmt;

use super::keys::{self, ConfigKey, Draft};
use crate::settings::{Settings, Target};

/// One thing in which two files differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where: `timeouts.connect`, `targets[10.0.0.1:80].interval`; of a target that comes or goes its address.
    pub path: String,
    /// Whether a reload may make it.
    pub reload: bool,
    /// What.
    pub kind: ChangeKind,
}

/// What became of what is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A target that was not there.
    Added,
    /// A target that is gone.
    Removed,
    /// A value, from this text to that one.
    Value(String, String),
}

impl fmt::Display for Change {
    /// `timeouts.connect 4s -> 2s`, `+ target api:80`, `- target api:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ChangeKind::Added => write!(f, "+ target {}", self.path),
            ChangeKind::Removed => write!(f, "- target {}", self.path),
            ChangeKind::Value(old, new) => write!(f, "{} {old} -> {new}", self.path),
        }
    }
}

/// In what `new` differs from `old`, in the order of the reference file; targets come last.
pub fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let draft = |settings: &Settings| Draft {
        boot: settings.boot.clone(),
        plan: settings.plan.clone(),
        ..Draft::default()
    };
    let mut drafts = [draft(old), draft(new)];
    let of_targets = [&keys::TARGETS, &keys::HEALTH];
    let tables =
        keys::TABLES.iter().filter(|table| !of_targets.iter().any(|one| one.name == table.name));
    let mut found: Vec<Change> =
        tables.flat_map(|table| differences(table.keys, &table.prefix(), &mut drafts)).collect();
    found.extend(of_targets_of(&old.plan.targets, &new.plan.targets));
    found
}

fn differences(keys: &[ConfigKey], prefix: &str, drafts: &mut [Draft; 2]) -> Vec<Change> {
    keys.iter().filter_map(|key| difference(key, prefix, drafts)).collect()
}

fn difference(key: &ConfigKey, prefix: &str, [old, new]: &mut [Draft; 2]) -> Option<Change> {
    let unset = || "unset".to_owned();
    let (was, is) = (key.shown(old), key.shown(new));
    let differs = was != is;
    let kind = ChangeKind::Value(was.unwrap_or_else(unset), is.unwrap_or_else(unset));
    let path = format!("{prefix}{}", key.name);
    differs.then_some(Change { path, reload: key.reload, kind })
}

fn of_targets_of(old: &[Target], new: &[Target]) -> Vec<Change> {
    let address = |target: &Target| target.address.to_string();
    let draft = |target: &Target| Draft {
        check: target.health.clone(),
        state: target.state,
        address: Some(target.address.clone()),
        ..Draft::default()
    };
    let mut before: HashMap<String, &Target> = old.iter().map(|it| (address(it), it)).collect();
    let mut found = Vec::new();
    for target in new {
        let path = address(target);
        match before.remove(&path) {
            None => found.push(Change { path, reload: true, kind: ChangeKind::Added }),
            Some(known) => {
                let (prefix, mut drafts) =
                    (format!("targets[{path}]."), [draft(known), draft(target)]);
                // How the address is written is no difference.
                let keys = keys::TARGETS.keys.iter().filter(|key| key.name != "address");
                let keys = keys.chain(keys::HEALTH.keys);
                found.extend(keys.filter_map(|key| difference(key, &prefix, &mut drafts)));
            }
        }
    }
    let gone = old.iter().map(address).filter(|path| before.contains_key(path));
    found.extend(gone.map(|path| Change { path, reload: true, kind: ChangeKind::Removed }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(old: &str, new: &str) -> Vec<String> {
        let read = |text: &str| super::super::parse(text, "f").unwrap();
        changes(&read(old), &read(new)).iter().map(ToString::to_string).collect()
    }

    const ONE: &str = "[[targets]]\naddress = \"a:1\"\n";

    #[test]
    fn every_change_is_one_line() {
        let cases: [(&str, &str, &[&str]); 6] = [
            ("", "", &[]),
            ("", "[timeouts]\nconnect = \"2s\"\n", &["timeouts.connect \"4s\" -> \"2s\""]),
            ("workers = 2\n", "workers = 3\n", &["workers 2 -> 3"]),
            ("", "[admin]\nlisten = \"127.0.0.1:9\"\n", &["admin.listen unset -> \"127.0.0.1:9\""]),
            ("", "[health]\nrise = 2\n", &["targets[a:1].rise 1 -> 2"]),
            (
                "[limits]\nconnections = 9\n",
                "[log]\naccess = \"stdout\"\n",
                &["limits.connections 9 -> \"auto\"", "log.access \"off\" -> \"stdout\""],
            ),
        ];
        for (old, new, expected) in cases {
            let whole = |text: &str| match text.starts_with('[') {
                true => format!("{ONE}{text}"),
                false => format!("{text}{ONE}"),
            };
            assert_eq!(between(&whole(old), &whole(new)), expected);
        }
    }

    #[test]
    fn a_target_is_the_same_as_long_as_its_address_is() {
        let two = format!("{ONE}[[targets]]\naddress = \"b:1\"\n");
        assert_eq!(between(ONE, &two), ["+ target b:1"]);
        assert_eq!(between(&two, ONE), ["- target b:1"]);
        let other = "[[targets]]\naddress = \"b:1\"\n";
        assert_eq!(between(ONE, other), ["+ target b:1", "- target a:1"]);
        let out = format!("{ONE}state = \"drain\"\nhealth_check_endpoint = \"/x\"\nfall = 9\n");
        let changes = [
            "targets[a:1].state \"auto\" -> \"drain\"",
            "targets[a:1].health_check_endpoint unset -> \"/x\"",
            "targets[a:1].fall 3 -> 9",
        ];
        assert_eq!(between(ONE, &out), changes);
    }

    #[test]
    fn what_only_a_start_reads_says_so() {
        let read = |text: &str| super::super::parse(&format!("{text}{ONE}"), "f").unwrap();
        let found = changes(&read("spin = 1\nvia = \"off\"\n"), &read("spin = 2\n"));
        let reload: Vec<(&str, bool)> =
            found.iter().map(|it| (it.path.as_str(), it.reload)).collect();
        assert_eq!(reload, [("spin", false), ("via", true)]);
    }
}
