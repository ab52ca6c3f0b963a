//! Bar charts as SVG that reads on a light and on a dark page.

use std::fmt::Write as _;

/// Bars under one title, to a scale of their own.
pub(super) struct Group {
    pub(super) title: String,
    /// Names and values.
    pub(super) bars: Vec<(String, f64)>,
}

const WIDTH: f64 = 720.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 130.0;
const LONGEST: f64 = 500.0;
const LINE: f64 = 20.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-weight:600}\
    .b{fill:#9aa4af}.e{fill:#2f7fd6}.f{fill:#c9b458}\
    @media(prefers-color-scheme:dark){text{fill:#a9b4c0}.b{fill:#6b7682}.e{fill:#4a9bf0}}";

/// Draws `groups` one below the other.
pub(super) fn bars(title: &str, unit: &str, groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 24.0;
    let _ = writeln!(body, "<text class=\"t\" x=\"8\" y=\"{y}\">{}</text>", escaped(title));
    for group in groups {
        y += LINE * 1.5;
        let _ =
            writeln!(body, "<text class=\"t\" x=\"8\" y=\"{y}\">{}</text>", escaped(&group.title));
        let most = group.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value) in &group.bars {
            y += LINE;
            let length = (value / most * LONGEST).max(1.0);
            let class = match name.as_str() {
                "evenly" => "e",
                "floor" => "f",
                _ => "b",
            };
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{y}\">{} {unit}</text>",
                LEFT - 8.0,
                escaped(name),
                y - 11.0,
                LEFT + length + 6.0,
                figure(*value),
            );
        }
    }
    let height = y + LINE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n{body}</svg>\n",
        escaped(title)
    )
}

/// A value with as many digits as it needs.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        least if least < 10.0 => format!("{value:.2}"),
        some if some < 100.0 => format!("{value:.1}"),
        some if some < 10_000.0 => format!("{value:.0}"),
        _ => thousands(&format!("{value:.0}")),
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_one_bar_for_each_value_to_the_groups_scale() {
        let bar = |name: &str, value| (name.to_owned(), value);
        let group =
            Group { title: "a < b".to_owned(), bars: vec![bar("evenly", 10.0), bar("x", 20.0)] };
        let text = bars("CPU", "us", &[group]);
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(text.contains("a &lt; b") && text.contains("width=\"250.0\""), "{text}");
        assert!(text.contains("class=\"e\"") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn prints_figures_as_people_read_them() {
        assert_eq!(
            [0.123, 12.34, 1234.5, 85_231.0, 1_234_567.0].map(figure),
            ["0.12", "12.3", "1234", "85,231", "1,234,567"]
        );
    }
}
