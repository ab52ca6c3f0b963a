//! Characters that do more on a terminal than show themselves, and how they are written instead.

use std::fmt::Write as _;

/// Whether `c` is a control character (C0, DEL, C1), a line or paragraph separator, or sets the direction of text: what
/// could forge a line, drive a terminal, or show text in another order than it has.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON text with every active character but the line feeds between its lines escaped. A serializer escapes what JSON
/// wants escaped, which is C0 alone; what is left can stand only in strings.
pub fn quiet_json(json: String) -> String {
    let is_left = |c: char| c != '\n' && is_active(c);
    if !json.contains(is_left) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_left(c) { escape_for_json(&mut text, c) } else { text.push(c) }
    }
    text
}

/// Appends `c` as `\uXXXX` (RFC 8259 section 7).
pub fn escape_for_json(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_turns_text_round_is_active() {
        let active = "\0\u{7}\t\n\r\u{1b}\u{1f}\u{7f}\u{80}\u{85}\u{9b}\u{9d}\u{9f}\u{61c}\u{200e}\u{200f}\
                      \u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
        assert!(active.chars().all(is_active));
        let quiet = " ~\"\\\u{a0}\u{e4}\u{44f}\u{4e16}\u{200d}\u{2030}\u{206a}\u{1f600}";
        assert!(!quiet.chars().any(is_active));
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let value = serde_json::json!({ "a": "x\u{1b}\u{7f}\u{9b}31m\u{202e}\n\u{2028} \u{e4}", "b": [1, 2] });
        let text = quiet_json(serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && is_active(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert_eq!(quiet_json("{\n}".to_owned()), "{\n}");
    }
}
