//! What is wrong with a configuration: where, which key, what is wrong and what to write instead; and all of it at once.
//!
//! Invariant: no line that is displayed holds a control character, whatever the file held.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// How many mistakes are shown; the rest is counted.
const SHOWN: usize = 20;
/// The longest part of a line that is shown, in characters.
const EXCERPT: usize = 100;

/// Why a configuration cannot be used: one mistake or several, in the order of the file, those of the command line first.
///
/// Displays a line for each, with the line of the file below it and a mark under the place:
///
/// ```text
/// evenly.toml:12:12: health.interval: "5" has no unit; write "5s", "250ms" or "1m"
///   12 | interval = "5"
///      |            ^^^
/// ```
///
/// The parts that do not apply are left out: a file that cannot be read has no line, and a value from the command line
/// is named by its option alone. At most 20 mistakes are shown; the rest is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    diagnostics: Vec<Diagnostic>,
    /// How many more there are.
    more: usize,
}

/// One mistake, with all that is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnostic {
    file: Option<String>,
    /// Counted from 1.
    line: Option<usize>,
    /// In characters, counted from 1.
    column: Option<usize>,
    key: Option<String>,
    problem: String,
    excerpt: Option<Excerpt>,
}

impl Diagnostic {
    /// Another mistake of the same place.
    pub(super) fn about(self, problem: &str) -> Diagnostic {
        Diagnostic { problem: problem.to_owned(), ..self }
    }
}

/// The line of a mistake, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters before the mark.
    indent: usize,
    /// Characters of the mark; at least 1.
    length: usize,
}

impl ConfigError {
    /// The file as a whole is wrong, or the line of it that is given.
    pub(super) fn in_file(file: &str, line: Option<usize>, problem: impl Into<String>) -> Self {
        let file = Some(file.to_owned());
        let problem = problem.into();
        ConfigError::of(Diagnostic { file, line, column: None, key: None, problem, excerpt: None })
    }

    /// One mistake.
    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        ConfigError { diagnostics: vec![diagnostic], more: 0 }
    }

    /// The line the first mistake is on, counted from 1, where it is on one.
    pub fn line(&self) -> Option<usize> {
        self.diagnostics.first()?.line
    }

    /// The full path of the key the first error is about (`targets[2].address`), or the option (`--target`).
    pub fn key(&self) -> Option<&str> {
        self.diagnostics.first()?.key.as_deref()
    }

    /// Every mistake as one line, without the excerpt of the file; then how many there are, if there are several.
    pub fn lines(&self) -> Vec<String> {
        self.diagnostics.iter().map(ToString::to_string).chain(self.sum()).collect()
    }

    fn sum(&self) -> Option<String> {
        let file = self.diagnostics.iter().find_map(|one| one.file.as_deref());
        let place = file.map(|file| format!("{}: ", printable(file))).unwrap_or_default();
        match (self.diagnostics.len() + self.more, self.more) {
            (1, _) => None,
            (all, 0) => Some(format!("{place}{all} errors")),
            (all, _) => Some(format!("{place}{all} errors, of which the first {SHOWN} are shown")),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.diagnostics.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
            if let (Some(excerpt), Some(line)) = (&diagnostic.excerpt, diagnostic.line) {
                let width = line.to_string().len();
                write!(f, "\n  {line} | {}", excerpt.text)?;
                let mark = "^".repeat(excerpt.length);
                write!(f, "\n  {:width$} | {:indent$}{mark}", "", "", indent = excerpt.indent)?;
            }
        }
        self.sum().map_or(Ok(()), |sum| write!(f, "\n{sum}"))
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(&printable(file))?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, ":{number}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{}: ", printable(key))?;
        }
        f.write_str(&printable(&self.problem))
    }
}

/// `text` on one line: what would move the cursor, or make other text look moved, is escaped.
fn printable(text: &str) -> String {
    let shown = |c: char| match is_hidden(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Control characters, and those that change the direction of text or are not seen.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Where a mistake is. In the order in which mistakes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Location {
    /// On the command line.
    Option,
    /// From one byte of the file to another.
    Span(usize, usize),
    /// The file as a whole: something is missing.
    Whole,
}

impl From<std::ops::Range<usize>> for Location {
    fn from(span: std::ops::Range<usize>) -> Self {
        Location::Span(span.start, span.end)
    }
}

/// A mistake found while reading values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mistake {
    pub(super) location: Location,
    /// The full path of the key, or the option; empty when the text is not TOML.
    pub(super) key: String,
    /// What is wrong, and after a semicolon what to write instead.
    pub(super) problem: String,
}

impl Mistake {
    /// A mistake of the option `name` of the command line.
    pub(super) fn of_option(name: &str, problem: impl Into<String>) -> Self {
        Mistake { location: Location::Option, key: name.to_owned(), problem: problem.into() }
    }
}

/// The text that is read, and the mistakes found so far. Values are read on after a mistake, so that all mistakes are shown
/// at once; the same mistake is kept once, however often it is met.
#[derive(Debug)]
pub(super) struct Page<'t> {
    text: &'t str,
    /// Offset of each line end, ascending.
    ends: Vec<usize>,
    mistakes: RefCell<BTreeSet<Mistake>>,
}

impl<'t> Page<'t> {
    /// `text` before it is read.
    pub(super) fn new(text: &'t str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        Page { text, ends, mistakes: RefCell::default() }
    }

    /// Keeps a mistake.
    pub(super) fn report(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().insert(mistake);
    }

    /// The value, or `None` after its mistake was kept.
    pub(super) fn take<T>(&self, value: Result<T, Mistake>) -> Option<T> {
        value.map_err(|mistake| self.report(mistake)).ok()
    }

    /// The line of the byte at `offset`, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.ends.partition_point(|&end| end < offset) + 1
    }

    /// Where the line of that number begins and ends, in bytes, without the line end.
    pub(super) fn bounds(&self, line: usize) -> (usize, usize) {
        let start = line.checked_sub(2).map_or(0, |before| self.ends[before] + 1);
        let end = self.ends.get(line - 1).copied().unwrap_or(self.text.len());
        let text = &self.text[start..end];
        (start, start + text.strip_suffix('\r').unwrap_or(text).len())
    }

    /// `value` if nothing was wrong; otherwise all that was, in a file of that name.
    ///
    /// # Errors
    /// The mistakes that were kept.
    pub(super) fn finish<T>(self, value: T, file: Option<&str>) -> Result<T, ConfigError> {
        let mistakes = self.mistakes.take();
        if mistakes.is_empty() {
            return Ok(value);
        }
        let more = mistakes.len().saturating_sub(SHOWN);
        let diagnostics =
            mistakes.into_iter().take(SHOWN).map(|mistake| self.explain(mistake, file)).collect();
        Err(ConfigError { diagnostics, more })
    }

    /// All that is shown of a mistake.
    pub(super) fn explain(&self, mistake: Mistake, file: Option<&str>) -> Diagnostic {
        let Mistake { location, key, problem } = mistake;
        let key = Some(key).filter(|key| !key.is_empty());
        let file = file.filter(|_| location != Location::Option).map(str::to_owned);
        let (line, column, excerpt) = match location {
            Location::Option => (None, None, None),
            Location::Whole => (Some(1).filter(|_| file.is_some()), None, None),
            Location::Span(start, end) => {
                let line = self.line(start);
                let (column, excerpt) = self.excerpt(line, start, end);
                (Some(line), Some(column), Some(excerpt))
            }
        };
        Diagnostic { file, line, column, key, problem, excerpt }
    }

    /// The column of `start`, and the part of its line that is shown.
    fn excerpt(&self, line: usize, start: usize, end: usize) -> (usize, Excerpt) {
        let (from, to) = self.bounds(line);
        let count = |range: std::ops::Range<usize>| {
            self.text.get(range).map_or(0, |text| text.chars().count())
        };
        let before = count(from..start.min(to));
        let marked = count(start.min(to)..end.clamp(start, to.max(start)).min(to)).max(1);
        let text: Vec<char> = self.text[from..to].chars().collect();
        // Of a very long line, what stands around the place.
        let skipped = if text.len() > EXCERPT { before.saturating_sub(EXCERPT / 2) } else { 0 };
        let plain = |c: &char| if *c == '\t' || !is_hidden(*c) { *c } else { '\u{fffd}' };
        let shown: String = text.iter().skip(skipped).take(EXCERPT).map(plain).collect();
        let indent = before - skipped;
        let length = marked.min(EXCERPT.saturating_sub(indent)).max(1);
        (before + 1, Excerpt { text: shown.replace('\t', " "), indent, length })
    }
}

/// `text` as people should see it in an error: quoted, escaped, and cut when it is very long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, spans: &[(usize, usize)]) -> String {
        let page = Page::new(text);
        for &(start, end) in spans {
            page.report(Mistake {
                location: Location::Span(start, end),
                key: "k".into(),
                problem: "p".into(),
            });
        }
        page.finish((), Some("f")).expect_err("a mistake").to_string()
    }

    #[test]
    fn counts_lines_from_one() {
        let page = Page::new("a\nb\n\nc");
        assert_eq!([0, 1, 2, 4, 5, 9].map(|at| page.line(at)), [1, 1, 2, 3, 4, 4]);
        assert_eq!([1, 2, 3, 4].map(|line| page.bounds(line)), [(0, 1), (2, 3), (4, 4), (5, 6)]);
    }

    #[test]
    fn the_place_is_marked_below_its_line() {
        assert_eq!(
            shown("a = 1\nbc = \"5\"\n", &[(11, 14)]),
            "f:2:6: k: p\n  2 | bc = \"5\"\n    |      ^^^"
        );
        assert_eq!(shown("a = 1", &[(5, 5)]), "f:1:6: k: p\n  1 | a = 1\n    |      ^");
        assert_eq!(shown("\tü = 1\r\n", &[(6, 7)]), "f:1:6: k: p\n  1 |  ü = 1\n    |      ^");
        assert_eq!(shown("a = [\n1]", &[(4, 8)]), "f:1:5: k: p\n  1 | a = [\n    |     ^");
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_each_once() {
        let text = shown("a = 1\nb = 2\n", &[(6, 7), (0, 1), (6, 7)]);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('f')).collect();
        assert_eq!(lines, ["f:1:1: k: p", "f:2:1: k: p", "f: 2 errors"]);
    }

    #[test]
    fn of_many_faults_the_first_are_shown_and_all_are_counted() {
        let text = "x = 1\n".repeat(1_000);
        let spans: Vec<(usize, usize)> = (0..1_000).map(|line| (line * 6, line * 6 + 1)).collect();
        let text = shown(&text, &spans);
        assert_eq!(text.lines().count(), 3 * SHOWN + 1);
        assert!(text.ends_with("f: 1000 errors, of which the first 20 are shown"), "{text}");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_place_is_shown() {
        let text = format!("a = \"{}!{}\"", "x".repeat(500), "y".repeat(500));
        let shown = shown(&text, &[(505, 506)]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].chars().count(), "  1 | ".len() + EXCERPT);
        let mark = lines[2].find('^').expect("a mark");
        assert_eq!(lines[1].as_bytes()[mark], b'!');
    }

    #[test]
    fn nothing_that_moves_text_is_shown() {
        let text = "a = \u{202e}\u{1b}[31m\u{9b}x";
        let shown = shown(text, &[(4, 5)]);
        assert!(!shown.replace('\n', "").chars().any(is_hidden), "{shown:?}");
        assert_eq!(printable("a\n\u{202e}"), "a\\n\\u{202e}");
    }
}
