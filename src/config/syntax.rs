//! What is not TOML: the slip on each line and how to mend it, or the language that the file is really in.
//!
//! The parser goes on after a slip, and what it then says of the same line is a consequence: the first of each line counts.

use toml::de::Error;

use super::error::{Location, Mistake, Page, quoted};

/// What people write instead of straight quotes.
const CURLY: &[char] = &['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '″', '′', '`'];

/// Reports what the parser found in `text`.
pub(super) fn report(errors: &[Error], text: &str, page: &Page<'_>) {
    let report = |location: Location, problem: String| {
        page.report(Mistake { location, key: String::new(), problem });
    };
    if let Some((language, line)) = other_language(text) {
        let (start, end) = page.bounds(line);
        let shape = "a [[targets]] block with address = \"host:port\" for each server";
        return report(
            Location::Span(start, end),
            format!("this looks like {language}, and evenly reads TOML; write {shape}"),
        );
    }
    let mut found: Vec<(usize, usize, &Error)> = errors
        .iter()
        .map(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            (page.line(start), start, error)
        })
        .collect();
    found.sort_by_key(|&(line, start, _)| (line, start));
    found.dedup_by_key(|&mut (line, _, _)| line);
    for (number, start, error) in found {
        let (from, to) = page.bounds(number);
        let line = BadLine { text, number, from, to, page };
        let (place, problem) = line.slip(start, error);
        report(place, format!("not valid TOML: {problem}"));
        if line.is_in_open_list(start, error) {
            // What follows was read as elements.
            break;
        }
    }
}

/// A line that is not TOML.
struct BadLine<'p> {
    text: &'p str,
    number: usize,
    from: usize,
    to: usize,
    page: &'p Page<'p>,
}

impl BadLine<'_> {
    fn text(&self) -> &str {
        &self.text[self.from..self.to]
    }

    /// What the parser stumbled over at `start`, and the remedy.
    fn slip(&self, start: usize, error: &Error) -> (Location, String) {
        let here = error.span().map_or(Location::Span(start, start), Location::from);
        let message = error.message().trim().replace('\n', ", ");
        if let Some(at) = self.text().find(CURLY).filter(|_| !message.starts_with("duplicate")) {
            let straight = self.text().trim().replace(CURLY, "\"");
            let place = Location::Span(self.from + at, self.from + at + 1);
            return (place, format!("these quotes are not straight; write {straight}"));
        }
        if message.starts_with("duplicate key") {
            return (here, self.duplicate(error.span().map_or("", |span| &self.text[span])));
        }
        if self.text().trim_start().starts_with([';', '/', '!', '\'']) {
            return (here, "comments begin with #".to_owned());
        }
        if let Some((place, problem)) = self.unquoted(&message) {
            return (place, problem);
        }
        let remedy = match message.as_str() {
            _ if message.starts_with("key with no value") => self.no_value(),
            _ if message.contains("string, expected") => self.open_string(),
            _ if message.starts_with("unclosed table") => {
                "the name of the table has no end; put ] after it".to_owned()
            }
            _ if message.starts_with("unclosed array") => {
                "the list has no end; put ] after it".to_owned()
            }
            _ if self.is_in_open_list(start, error) => {
                "the list above it has not ended; put ] at its end, or a comma between its elements"
                    .to_owned()
            }
            _ if message.starts_with("missing comma") => {
                "two elements stand side by side; put a comma between them".to_owned()
            }
            _ if message.starts_with("unexpected key or value") => {
                "there is more on the line; put the rest on a line of its own, or behind a #"
                    .to_owned()
            }
            _ if message.starts_with("unexpected leading zero") => {
                "a number has a zero in front; write it without".to_owned()
            }
            _ => {
                let found = error.span().and_then(|span| self.text.get(span)).map(str::trim);
                let found = found.filter(|found| !found.is_empty());
                let found = found.map(|found| format!(" at {}", quoted(found))).unwrap_or_default();
                format!("{message}{found}; write key = \"value\", key = 1 or [table]")
            }
        };
        (here, remedy)
    }

    /// Whether the line begins amid a list that should have ended before.
    fn is_in_open_list(&self, start: usize, error: &Error) -> bool {
        error.message().starts_with("missing comma")
            && self.text[self.from..start].trim().is_empty()
    }

    /// A value that lacks its quotes.
    fn unquoted(&self, message: &str) -> Option<(Location, String)> {
        let about_a_value = ["string values must be quoted", "invalid", "unexpected key or value"]
            .iter()
            .any(|start| message.starts_with(start));
        let (key, value) = self.text().split_once('=').filter(|_| about_a_value)?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        let key = key.trim();
        if key.is_empty() || value.starts_with(['"', '\'', '[', '{']) {
            return None;
        }
        let at = self.from + self.text().find('=')? + 1;
        let at = at + self.text[at..self.to].find(value)?;
        let place = Location::Span(at, at + value.len());
        let problem = match value.to_ascii_lowercase().as_str() {
            "" => format!("{key} has no value; write {key} = \"...\", or leave the line out"),
            word @ ("true" | "false") => {
                format!("{} is not a boolean; write {key} = {word}", quoted(value))
            }
            _ if value.contains(['"', '\'']) => {
                format!("a quote is missing; write {key} = \"{}\"", value.replace(['"', '\''], ""))
            }
            _ if value.contains(' ') && value.contains('=') => return None,
            _ => format!("a value that is no number needs quotes; write {key} = \"{value}\""),
        };
        Some((place, problem))
    }

    fn open_string(&self) -> String {
        let line = self.text().trim();
        match line.chars().find(|c| ['"', '\''].contains(c)) {
            Some(quote) if line.matches(quote).count() == 1 => {
                format!("the string has no end; write {line}{quote}")
            }
            _ => "the string has no end; put the same quotes after it".to_owned(),
        }
    }

    fn no_value(&self) -> String {
        let line = self.text().trim();
        let colon = line.split_once(':').map(|(key, value)| (key.trim(), value.trim()));
        let blank = line.split_once(char::is_whitespace).map(|(key, value)| (key, value.trim()));
        match colon.filter(|(key, _)| !key.contains(char::is_whitespace)).or(blank) {
            Some((key, value))
                if !key.is_empty() && !value.is_empty() && !value.starts_with('=') =>
            {
                let quotes =
                    if value.starts_with(['"', '\'', '[', '{']) || value.parse::<i64>().is_ok() {
                        ""
                    } else {
                        "\""
                    };
                format!(
                    "there is no \"=\" between key and value; write {key} = {quotes}{value}{quotes}"
                )
            }
            _ => format!(
                "{} has no value; write {line} = ..., or [{line}] for a table",
                quoted(line)
            ),
        }
    }

    /// A duplicate key or table.
    fn duplicate(&self, key: &str) -> String {
        let mut first = None;
        let wanted = self.text().trim().starts_with('[');
        for number in (1..self.number).rev() {
            let (from, to) = self.page.bounds(number);
            let line = self.text[from..to].trim();
            let is_header = line.starts_with('[');
            let name =
                line.trim_matches(['[', ']', ' ']).split('=').next().unwrap_or_default().trim();
            if name == key && is_header == wanted {
                first = Some(number);
            }
            // Keys of different tables may have one name.
            if first.is_some() || is_header && !wanted {
                break;
            }
        }
        let place = first.map(|line| format!(" on line {line}")).unwrap_or_default();
        format!("{} is already there{place}; remove one of the two", quoted(key))
    }
}

/// The language that `text` is in, if it is not TOML, and the line that shows it.
fn other_language(text: &str) -> Option<(&'static str, usize)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']));
    let (first, opening) = lines.clone().next()?;
    let is_json = opening.starts_with('{') && !opening.starts_with("{$")
        || opening == "["
        || opening.starts_with("[{");
    if is_json {
        // A Caddyfile may begin with a block of options, which has no quotes.
        let quoted = lines
            .clone()
            .any(|(_, line)| line.trim_start_matches(['{', '[', ' ']).starts_with('"'));
        return Some((if quoted { "JSON" } else { "a Caddyfile" }, first));
    }
    if opening.starts_with('<') {
        return Some(("XML or HTML", first));
    }
    lines.find_map(|(at, line)| Some((language_of(line)?, at)))
}

/// The language in which that line alone makes sense.
fn language_of(line: &str) -> Option<&'static str> {
    let mut words = line.split_whitespace();
    let (word, rest) = (words.next()?, words.collect::<Vec<_>>());
    let nginx = ["http", "server", "upstream", "events", "location", "stream"];
    let haproxy = ["global", "defaults", "frontend", "backend", "listen"];
    let is_name = |name: &&str| !name.contains(['=', '"', ':']);
    if nginx.contains(&word) && line.ends_with('{') || line.ends_with(';') && !line.contains('=') {
        return Some("an nginx configuration");
    }
    if haproxy.contains(&word) && rest.len() <= 1 && rest.iter().all(is_name) {
        return Some("a HAProxy configuration");
    }
    if line.ends_with(" {") && !line.contains('=')
        || ["reverse_proxy", "to"].contains(&word) && !rest.contains(&"=")
    {
        return Some("a Caddyfile");
    }
    let key = word.strip_suffix(':').unwrap_or_default();
    let is_key = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if word == "---"
        || word == "-" && !rest.is_empty()
        || !key.is_empty() && key.bytes().all(is_key)
    {
        return Some("YAML");
    }
    None
}
