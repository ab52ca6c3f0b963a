//! What a tour has told, as Markdown that is the same each time, and its place in a file.
//!
//! Owns what is left out because it differs from one tour to the next: ports that are not the story's, process numbers,
//! dates, durations, how a check met a dead API, and the temporary folder. Everything else is as it was printed.

use std::fs;
use std::path::{Path, PathBuf};

use regex::{Captures, Regex};

use super::teller::{fold_line, fold_words};
use crate::stage::{Piece, Problem, Stage};

/// The line before a record in a file.
const BEGIN: &str = "<!-- The tour begins: written by `make demo-tour-record` -->";
/// The line after it.
const END: &str = "<!-- The tour ends -->";

/// One part of what is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Title(String),
    Words(String),
    /// Something to type, perhaps on several lines.
    Command(String),
    /// One line that a program printed.
    Line(String),
}

/// What takes out of a text what differs from one tour to the next.
pub(super) struct Steadier {
    /// Ports as they are, and as they are in the story.
    ports: Vec<(String, &'static str)>,
    folder: String,
    address: Regex,
    rules: Vec<(Regex, &'static str)>,
}

impl Steadier {
    pub(super) fn new(stage: &Stage) -> Result<Steadier, Problem> {
        let pieces = [
            (Piece::Api(1), "8001"),
            (Piece::Authority, "5301"),
            (Piece::Resolver, "5302"),
            (Piece::Evenly, "8080"),
        ];
        let real = |piece| Some(stage.address(piece)?.port().to_string());
        let ports = pieces.into_iter().filter_map(|(piece, story)| Some((real(piece)?, story)));
        Steadier::with(ports.collect(), stage.folder())
    }

    fn with(ports: Vec<(String, &'static str)>, folder: &Path) -> Result<Steadier, Problem> {
        let rules = [
            (" --resolver 127\\.0\\.0\\.1:5302 \\\\\n   ", ""),
            ("^date: .*", "date: (now)"),
            ("in [0-9]+ ms", "in N ms"),
            ("is down: .*; healthy", "is down: (why); healthy"),
            ("reason: [a-z_]+", "reason: (word)"),
            ("^kill (-[A-Z]+) [0-9 ]*[0-9]", "kill $1 PID"),
        ];
        let rules = rules.into_iter().map(|(rule, instead)| Ok((pattern(rule)?, instead)));
        Ok(Steadier {
            ports,
            folder: folder.display().to_string(),
            address: pattern("(127\\.0\\.0\\.[0-9]+|spells\\.test|http-api-[0-9]+):([0-9]+)")?,
            rules: rules.collect::<Result<_, Problem>>()?,
        })
    }

    fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.folder, "/tmp/demo");
        let address = |found: &Captures<'_>| {
            let (host, port) = (&found[1], &found[2]);
            let known = self.ports.iter().find(|(real, _)| real == port);
            format!("{host}:{}", known.map_or("PORT", |&(_, story)| story))
        };
        let text = self.address.replace_all(&text, address).into_owned();
        self.rules
            .iter()
            .fold(text, |text, (rule, instead)| rule.replace_all(&text, *instead).into_owned())
    }
}

fn pattern(text: &str) -> Result<Regex, Problem> {
    Regex::new(text).map_err(|error| Problem(format!("the pattern `{text}`: {error}")))
}

/// The Markdown of a tour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(String);

impl Record {
    pub(super) fn of(parts: &[Part], steadier: &Steadier) -> Record {
        let mut text = String::new();
        let mut open = false;
        for part in parts {
            let fenced = matches!(part, Part::Command(_) | Part::Line(_));
            match (open, fenced) {
                (false, true) => text += "\n```console\n",
                (true, false) => text += "```\n\n",
                (false, false) => text += "\n",
                (true, true) => {}
            }
            open = fenced;
            text += &match part {
                Part::Title(title) => format!("### {title}\n"),
                Part::Words(words) => fold_words(&steadier.steady(words)) + "\n",
                Part::Command(command) => format!("$ {}\n", steadier.steady(command)),
                Part::Line(line) => fold_line(&steadier.steady(line)) + "\n",
            };
        }
        if open {
            text += "```\n";
        }
        Record(text)
    }
}

/// A file that has a place for a record.
#[derive(Debug)]
pub struct Page {
    file: PathBuf,
    before: String,
    after: String,
}

impl Page {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or has not one line that begins a record and one after it that ends it.
    pub fn open(file: &Path) -> Result<Page, Problem> {
        let name = file.display();
        let text = fs::read_to_string(file)
            .map_err(|error| Problem(format!("cannot read {name}: {error}")))?;
        let (before, after) = around(&text).ok_or_else(|| {
            Problem(format!(
                "{name} has no place for the tour: it needs these two lines, each once\n{BEGIN}\n{END}"
            ))
        })?;
        Ok(Page { file: file.to_owned(), before: before.to_owned(), after: after.to_owned() })
    }

    /// Writes the file with this record in its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, Record(record): &Record) -> Result<(), Problem> {
        let Page { file, before, after } = self;
        fs::write(file, format!("{before}{BEGIN}\n{record}\n{END}{after}"))
            .map_err(|error| Problem(format!("cannot write {}: {error}", file.display())))
    }
}

/// What stands before the record's first line and after its last one.
fn around(text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (record, after) = rest.split_once(END)?;
    let once = ![record, after].iter().any(|part| part.contains(BEGIN) || part.contains(END));
    once.then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(text: &str) -> String {
        let ports = vec![("41001".to_owned(), "8001"), ("41002".to_owned(), "5302")];
        Steadier::with(ports, Path::new("/tmp/.tmpX")).unwrap().steady(text)
    }

    #[test]
    fn what_differs_from_one_tour_to_the_next_is_left_out() {
        for (real, wanted) in [
            ("query udp 127.0.0.1:50001 spells.test. A", "query udp 127.0.0.1:PORT spells.test. A"),
            ("http://spells.test:41001/spells", "http://spells.test:8001/spells"),
            ("http-api-1:41001 (127.0.0.11:41001)", "http-api-1:8001 (127.0.0.11:8001)"),
            ("ingress-client --resolver 127.0.0.1:41002 \\\n    -i", "ingress-client -i"),
            ("date: Sun, 22 Nov 2026 20:09:06 GMT", "date: (now)"),
            ("is up: 200 in 17 ms; healthy", "is up: 200 in N ms; healthy"),
            ("is down: no response within 2s; healthy", "is down: (why); healthy"),
            ("1; reason: connection_refused", "1; reason: (word)"),
            ("kill -TERM 12 345  # both", "kill -TERM PID  # both"),
            ("sqlite:/tmp/.tmpX/spells.db", "sqlite:/tmp/demo/spells.db"),
            ("{\"id\":1,\"name\":\"Lumos\"}", "{\"id\":1,\"name\":\"Lumos\"}"),
        ] {
            assert_eq!(steady(real), wanted);
        }
    }

    #[test]
    fn commands_and_their_output_stand_in_one_block() {
        let parts = [
            Part::Title("1. Begin".to_owned()),
            Part::Words("So it goes.".to_owned()),
            Part::Command("echo a".to_owned()),
            Part::Line("a".to_owned()),
            Part::Words("On.".to_owned()),
            Part::Line("b".to_owned()),
        ];
        let steadier = Steadier::with(Vec::new(), Path::new("/nowhere")).unwrap();
        assert_eq!(
            Record::of(&parts, &steadier).0,
            "\n### 1. Begin\n\nSo it goes.\n\n```console\n$ echo a\na\n```\n\nOn.\n\n```console\nb\n```\n"
        );
    }

    #[test]
    fn a_record_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.md");
        fs::write(&file, format!("one\n{BEGIN}\nold\n{END}\ntwo\n")).unwrap();
        for text in ["first", "second\n"] {
            Page::open(&file).unwrap().write(&Record(text.to_owned())).unwrap();
            let written = fs::read_to_string(&file).unwrap();
            assert_eq!(written, format!("one\n{BEGIN}\n{text}\n{END}\ntwo\n"));
        }
    }

    #[test]
    fn a_file_without_one_place_is_refused_and_told_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.md");
        for text in [
            String::new(),
            BEGIN.to_owned(),
            format!("{END}\n{BEGIN}\n"),
            format!("{BEGIN}\n{END}\n{BEGIN}\n{END}\n"),
        ] {
            fs::write(&file, &text).unwrap();
            let why = Page::open(&file).unwrap_err().0;
            assert!(why.contains(BEGIN) && why.contains("page.md"), "{why}");
        }
        assert!(Page::open(&folder.path().join("none")).unwrap_err().0.contains("cannot read"));
    }
}
