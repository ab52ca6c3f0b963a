//! Settings as a file that says all of them. Pure. Nothing that is secret is in a file: the token is in one of its own.

use std::fmt::Write as _;

use super::keys::{self, Draft, Table};
use crate::settings::{Settings, Target};

/// A file with every key that has a value: what is in force by `settings`, whatever was written. Reading it gives the same.
pub fn show(settings: &Settings) -> String {
    let mut text = String::new();
    let mut draft =
        Draft { boot: settings.boot.clone(), plan: settings.plan.clone(), ..Draft::default() };
    for table in keys::TABLES {
        match table.name {
            "targets" => {}
            // It is with each target.
            "health" => {}
            _ => part(&mut text, table, table.header, &mut draft),
        }
    }
    for target in &settings.plan.targets {
        one(&mut text, target);
    }
    text
}

fn one(text: &mut String, target: &Target) {
    let mut draft = Draft {
        check: target.health.clone(),
        address: Some(target.address.clone()),
        state: target.state,
        ..Draft::default()
    };
    part(text, &keys::TARGETS, keys::TARGETS.header, &mut draft);
    part(text, &keys::HEALTH, "", &mut draft);
}

/// The keys of a table that have a value.
fn part(text: &mut String, table: &Table, header: &str, draft: &mut Draft) {
    if !header.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{header}");
    }
    for key in table.keys {
        if let Some(value) = key.shown(draft) {
            let _ = writeln!(text, "{} = {value}", key.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_means_the_same_when_it_is_read() {
        for text in [
            "[[targets]]\naddress = \"a:1\"\n",
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nvia = \"off\"\n[timeouts]\nconnect = \"2s\"\n[admin]\nhosts = \"a.b\"\n\
             [limits]\nconnections = 7\n[health]\nrise = 3\n[[targets]]\naddress = \"a:1\"\n\
             health_check_endpoint = \"/x\"\nexpect = [\"200-299\", \"404\"]\n[[targets]]\naddress = \"unix:/run/x\"\nfall = 9\n",
        ] {
            let settings = super::super::parse(text, "f").unwrap();
            let shown = show(&settings);
            let again =
                super::super::parse(&shown, "shown").map_err(|error| format!("{error} {shown}"));
            assert_eq!(again.unwrap(), settings, "{shown}");
        }
    }
}
