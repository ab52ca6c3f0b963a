//! From a TOML file and the command line to [`Settings`]: `raw` knows which keys exist, `value`,
//! `units` and `address` what one value means, `validate` the ranges and how values relate.
//!
//! Touches no socket and resolves no name, so that checking a file changes nothing. The one thing it
//! does outside itself is to read the file. Every failure is one [`ConfigError`], which displays as
//! one line with the file, the line, the key and the remedy.

mod address;
mod error;
mod raw;
mod units;
mod validate;
mod value;

use std::io::{self, Read};
use std::path::Path;

use toml::de::DeTable;

pub use error::ConfigError;
use raw::{Lines, Mirror};

use crate::settings::Settings;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// What the command line says, as it was typed. It wins over a file, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Listen addresses, in place of all those of the file; empty: the file's.
    pub listen: Vec<String>,
    /// `auto` or a number from 1 to 1,024.
    pub workers: Option<String>,
    /// Target addresses, in place of all those of the file; empty: the file's.
    pub targets: Vec<String>,
    /// The path of the HTTP probe of `targets`; `None`: a TCP connect is the probe.
    pub health_check_endpoint: Option<String>,
}

/// The settings in the file at `path`.
///
/// # Errors
/// The file cannot be read, is not UTF-8 or TOML, or holds a key or value that is not valid.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    load_with(path, &Overrides::default())
}

/// The settings in the file at `path` with `overrides` winning over it.
///
/// # Errors
/// As [`load`], and values of `overrides` that are not valid. The whole file must be valid, what is
/// overridden included; but it needs no targets when `overrides` has some.
pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Settings, ConfigError> {
    let name = path.to_string_lossy();
    parse_with(&read(path, &name)?, &name, overrides)
}

/// The settings in `text`, the contents of a file that errors call `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Settings, ConfigError> {
    parse_with(text, name, &Overrides::default())
}

/// The defaults, with these target addresses and a TCP connect as their probe.
///
/// # Errors
/// An address that is not valid or is there twice, or no address at all.
pub fn from_targets(targets: &[String]) -> Result<Settings, ConfigError> {
    from_overrides(&Overrides { targets: targets.to_vec(), ..Overrides::default() })
}

/// The defaults with `overrides` winning over them, for a command line without a file.
///
/// # Errors
/// A value that is not valid, an address that is there twice, or no target.
pub fn from_overrides(overrides: &Overrides) -> Result<Settings, ConfigError> {
    if overrides.targets.is_empty() {
        let problem = "needs something to balance; add --config FILE or --target HOST:PORT";
        return Err(error::Fault::of_option("evenly run", problem).within(None));
    }
    validate::settings(&raw::File::default(), overrides, &Lines::new(""))
        .map_err(|fault| fault.within(None))
}

/// The defaults with the listen addresses and workers of `overrides`, and no target at all: for
/// `evenly demo`, which brings its own.
///
/// # Errors
/// A value that is not valid, or a listen address that is there twice.
pub fn without_targets(overrides: &Overrides) -> Result<Settings, ConfigError> {
    validate::without_targets(overrides).map_err(|fault| fault.within(None))
}

fn parse_with(text: &str, name: &str, overrides: &Overrides) -> Result<Settings, ConfigError> {
    let lines = Lines::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    // Not the first that toml reports: that may stand further down, as a consequence.
    if let Some(error) = errors.iter().min_by_key(|error| error.span().map(|span| span.start)) {
        return Err(not_toml(error, text, name, &lines));
    }
    raw::File::read(document.get_ref(), "", &lines)
        .and_then(|file| validate::settings(&file, overrides, &lines))
        .map_err(|fault| fault.within(Some(name)))
}

/// toml's own message, on one line, and what stands where it stumbled.
fn not_toml(error: &toml::de::Error, text: &str, name: &str, lines: &Lines) -> ConfigError {
    let span = error.span();
    let line = span.as_ref().map(|span| lines.of(span.start));
    let found =
        span.and_then(|span| text.get(span)).map(str::trim).filter(|found| !found.is_empty());
    let found = found.map(|found| format!(" at {}", error::quoted(found))).unwrap_or_default();
    let message = error.message().trim().replace('\n', ", ");
    let remedy = if line.is_some() { "correct this line" } else { "write simpler keys and values" };
    ConfigError::in_file(name, line, format!("not valid TOML: {message}{found}; {remedy}"))
}

fn read(path: &Path, name: &str) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::in_file(name, None, unreadable(&error)))?;
    if bytes.len() as u64 > MAX_FILE {
        let problem = format!("is larger than {} MiB; pass a TOML file", MAX_FILE >> 20);
        return Err(ConfigError::in_file(name, None, problem));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..valid]).count();
        ConfigError::in_file(name, Some(line), "is not UTF-8 text; save the file as UTF-8")
    })
}

fn unreadable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path given to --config",
        io::ErrorKind::PermissionDenied => "let this user read it",
        io::ErrorKind::IsADirectory => "pass the TOML file itself",
        _ => "pass a readable TOML file",
    };
    format!("cannot be read: {error}; {remedy}")
}
