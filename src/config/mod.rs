//! From a TOML file and the command line to [`Settings`]: `source` reads the file, `syntax` says what is not TOML. [`keys`]
//! has a row for each key with all that is known of it, and `hints` what others call them. `raw` takes a file apart by
//! these rows; `value`, `units`, `kinds`, `address` and `listen` know what one value means, `validate` how values relate,
//! `places` where values stand that a start may find wrong.
//!
//! Touches no socket and resolves no name, so that checking a file changes nothing. What it does outside itself is to
//! read the file, and this machine's addresses where a target may be one of them. Every failure is one [`ConfigError`]
//! with all that is wrong, each with the file, the line and column, the key and the remedy.
//!
//! ```
//! use std::time::Duration;
//!
//! let text = "[[targets]]\naddress = \"10.0.0.1:8001\"\n\n[timeouts]\nconnect = \"2s\"\n";
//! let settings = evenly::config::parse(text, "evenly.toml").expect("a valid file");
//! assert_eq!(settings.plan.timeouts.connect, Duration::from_secs(2));
//!
//! let error = evenly::config::parse(&text.replace("2s", "2"), "evenly.toml").unwrap_err();
//! assert!(error.to_string().starts_with("evenly.toml:5:11: timeouts.connect: \"2\" has no unit; write"), "{error}");
//! ```

mod address;
mod changes;
mod error;
mod hints;
pub mod keys;
mod kinds;
mod listen;
mod places;
mod raw;
mod show;
mod source;
mod syntax;
mod units;
mod validate;
mod value;

use std::path::Path;

use toml::de::DeTable;

pub use changes::{Change, ChangeKind, changes};
pub use error::ConfigError;
use error::{Mistake, Page};
pub use places::Places;
pub use show::show;
pub(crate) use source::MAX_FILE;

use crate::settings::Settings;

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

/// The settings in the file at `path`; `-` is standard input.
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
    load_placed(path, overrides).map(|(settings, _)| settings)
}

/// As [`load_with`], and where values were written.
///
/// # Errors
/// As [`load_with`].
pub fn load_placed(path: &Path, overrides: &Overrides) -> Result<(Settings, Places), ConfigError> {
    let name = source::name(path);
    parse_with(&source::read(path, &name)?, &name, overrides)
}

/// Whether `text` is written like the address of a target. A word without a port is not.
pub fn is_target(text: &str) -> bool {
    text.contains(':') && address::target(text).is_ok()
}

/// The settings in `text`, the contents of a file that errors call `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Settings, ConfigError> {
    parse_with(text, name, &Overrides::default()).map(|(settings, _)| settings)
}

/// The defaults with `overrides` winning over them, for a command line without a file.
///
/// # Errors
/// A value that is not valid, a duplicate address, or no target.
pub fn from_overrides(overrides: &Overrides) -> Result<Settings, ConfigError> {
    options_placed(overrides).map(|(settings, _)| settings)
}

/// As [`from_overrides`], and where values were written.
///
/// # Errors
/// As [`from_overrides`].
pub fn options_placed(overrides: &Overrides) -> Result<(Settings, Places), ConfigError> {
    let page = Page::new("");
    if overrides.targets.is_empty() {
        let problem = "needs something to balance; add --config FILE or --target HOST:PORT";
        page.report(Mistake::of_option("evenly run", problem));
        return page.finish(<_>::default(), None);
    }
    let settings = validate::settings(None, overrides, &page);
    page.finish((settings, Places::of_options(overrides)), None)
}

fn parse_with(
    text: &str,
    name: &str,
    overrides: &Overrides,
) -> Result<(Settings, Places), ConfigError> {
    // A byte order mark is no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let page = Page::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        syntax::report(&errors, text, &page);
        return page.finish(<_>::default(), Some(name));
    }
    let settings = validate::settings(Some(document.get_ref()), overrides, &page);
    let places = Places::of(document.get_ref(), name, overrides, &page);
    page.finish((settings, places), Some(name))
}
