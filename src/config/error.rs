//! The one error of configuration: where, which key, what is wrong and what to write instead.
//!
//! Invariant: it displays as a single line without control characters, whatever the file held.

use std::fmt;

/// Why a configuration cannot be used.
///
/// Displays as one line: `config/minimal.toml:12: health.interval: "5" has no unit; write "5s", "250ms" or "1m"`.
/// The parts that do not apply are left out: a file that cannot be read has no line, and a value
/// from the command line is named by its option alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<String>,
    line: Option<usize>,
    key: Option<String>,
    problem: String,
}

impl ConfigError {
    /// The file as a whole is at fault, or the line of it that is given.
    pub(super) fn in_file(file: &str, line: Option<usize>, problem: impl Into<String>) -> Self {
        ConfigError { file: Some(file.to_owned()), line, key: None, problem: problem.into() }
    }

    /// The line the error is about, counted from 1, where it is about one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The full path of the key the error is about (`targets[2].address`), or the option (`--target`).
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write_printable(f, file)?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write_printable(f, key)?;
            f.write_str(": ")?;
        }
        write_printable(f, &self.problem)
    }
}

impl std::error::Error for ConfigError {}

fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
    }
    Ok(())
}

/// A fault found while reading values, before the name of the file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted from 1; `None` for a value from the command line.
    pub(super) line: Option<usize>,
    /// The full path of the key, or the option.
    pub(super) key: String,
    /// What is wrong, and after a semicolon what to write instead.
    pub(super) problem: String,
}

impl Fault {
    /// A fault of the option `name` of the command line.
    pub(super) fn of_option(name: &str, problem: impl Into<String>) -> Self {
        Fault { line: None, key: name.to_owned(), problem: problem.into() }
    }

    /// The error to report for a value of `file`. An option is no part of a file and names none.
    pub(super) fn within(self, file: Option<&str>) -> ConfigError {
        let file = self.line.and(file).map(str::to_owned);
        ConfigError { file, line: self.line, key: Some(self.key), problem: self.problem }
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
