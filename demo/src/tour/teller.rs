//! What a tour tells: at once to the terminal, and kept for the record.

use textwrap::{Options, WordSplitter};

use super::record::{Part, Record, Steadier};
use crate::paint::Paint;
use crate::process::say;
use crate::stage::Piece;

/// Longest line, in columns.
const WIDTH: usize = 100;
/// Before what is typed and printed, on the terminal.
const INDENT: &str = "    ";

/// Tells, and keeps what was told.
pub(super) struct Teller {
    paint: Paint,
    steps: u32,
    told: Vec<Part>,
}

impl Teller {
    pub(super) fn new(paint: Paint) -> Teller {
        Teller { paint, steps: 0, told: Vec::new() }
    }

    /// Begins the next step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        let title = format!("{}. {title}", self.steps);
        say(format_args!("\n{}\n", self.paint.title(&title)));
        self.told.push(Part::Title(title));
    }

    /// The number of the step that has begun last.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// What happens and why.
    pub(super) fn words(&mut self, words: &str) {
        if matches!(self.told.last(), Some(Part::Command(_) | Part::Line(_))) {
            say("");
        }
        say(format_args!("{}\n", fold_words(words)));
        self.told.push(Part::Words(words.to_owned()));
    }

    /// What a reader would type.
    pub(super) fn command(&mut self, command: &str) {
        let shown = command.replace('\n', &format!("\n{INDENT}"));
        say(format_args!("{INDENT}{}", self.paint.command(format_args!("$ {shown}"))));
        self.told.push(Part::Command(command.to_owned()));
    }

    /// What came of it.
    pub(super) fn lines<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        for line in lines {
            self.line(line, line);
        }
    }

    /// A line of a piece's log.
    pub(super) fn log(&mut self, piece: Piece, line: &str) {
        self.line(&self.paint.log(piece, 0, line), &Paint::none().log(piece, 0, line));
    }

    fn line(&mut self, painted: &str, plain: &str) {
        let shown = fold_line(painted).replace('\n', &format!("\n{INDENT}"));
        say(format_args!("{INDENT}{shown}"));
        self.told.push(Part::Line(plain.to_owned()));
    }

    pub(super) fn record(&self, steadier: &Steadier) -> Record {
        Record::of(&self.told, steadier)
    }
}

/// Words in lines that are not too long.
pub(super) fn fold_words(text: &str) -> String {
    textwrap::fill(text, options(WIDTH))
}

/// A line of a program in lines that are not too long, also behind [`INDENT`]; the later ones are indented, and what has no
/// space is not broken.
pub(super) fn fold_line(text: &str) -> String {
    textwrap::fill(text, options(WIDTH - INDENT.len()).subsequent_indent(INDENT))
}

fn options<'a>(width: usize) -> Options<'a> {
    Options::new(width).break_words(false).word_splitter(WordSplitter::NoHyphenation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_between_words_and_short_ones_stay() {
        let word = "http-api-1".repeat(6);
        assert_eq!(fold_line("  a  b"), "  a  b");
        assert_eq!(fold_line(&format!("{word} {word}")), format!("{word}\n    {word}"));
        assert_eq!(fold_words(&format!("{word} {word}")), format!("{word}\n{word}"));
        let long = "x".repeat(WIDTH + 1);
        assert_eq!(fold_words(&long), long);
    }
}
