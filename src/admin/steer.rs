//! The request to decide about a target, `PUT /targets/{name}`, to a command. Pure.

use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::command::Command;
use crate::settings::TargetState;

/// What there is to be decided, and how it is written.
const FORM: &str = r#"send a JSON object with state ("auto", "up", "drain" or "down"), weight (0 to 65535, or null for that of DNS) or both"#;

/// Of what is left out nothing is decided.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Decided {
    state: Option<String>,
    #[serde(deserialize_with = "present")]
    weight: Option<Option<Number>>,
}

/// A member that is there, if only as `null`.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Number>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What this content asks to be decided about the target of this name.
///
/// # Errors
/// It is not of that form: what to write instead.
pub(super) fn command(name: String, content: &[u8]) -> Result<Command, String> {
    let wanted: Decided =
        serde_json::from_slice(content).map_err(|error| format!("{error}; {FORM}"))?;
    let state = wanted.state.map(|word| {
        TargetState::of(&word).ok_or_else(|| format!("state {word:?} is unknown; {FORM}"))
    });
    let state = state.transpose()?;
    let weight = wanted.weight.map(|weight| weight.map(|number| whole(&number)).transpose());
    let weight = weight.transpose()?;
    if state.is_none() && weight.is_none() {
        return Err(format!("nothing is asked for; {FORM}"));
    }
    Ok(Command::Steer { name, state, weight })
}

/// A whole number, which JSON may write with a fraction of nothing too.
fn whole(number: &Number) -> Result<u16, String> {
    let text = number.to_string();
    let digits = text.strip_suffix(".0").unwrap_or(&text);
    digits.parse().map_err(|_| format!("weight {text} is not a whole number up to 65535; {FORM}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_is_read_from_json() {
        let steer = |state, weight| Command::Steer { name: "a:1".to_owned(), state, weight };
        let of = |text: &str| command("a:1".to_owned(), text.as_bytes());
        for (text, expected) in [
            (r#"{"state": "drain"}"#, steer(Some(TargetState::Drain), None)),
            (r#"{"weight": 0}"#, steer(None, Some(Some(0)))),
            (r#"{"weight": 7.0}"#, steer(None, Some(Some(7)))),
            (r#"{"weight": null, "state": "auto"}"#, steer(Some(TargetState::Auto), Some(None))),
        ] {
            assert_eq!(of(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"state": "off"}"#,
            r#"{"state": 1}"#,
            r#"{"weight": -1}"#,
            r#"{"weight": 65536}"#,
            r#"{"weight": 0.5}"#,
            r#"{"weight": "1"}"#,
            r#"{"states": "up"}"#,
            r#"{"state": "up"} x"#,
        ] {
            let said = of(text).unwrap_err();
            assert!(said.ends_with(FORM), "{text}: {said}");
        }
    }
}
