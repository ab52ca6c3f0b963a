//! Placeholder of the server, so that the command line compiles; the server itself replaces it.

use crate::settings::Settings;

/// Why the server ended other than by being asked to.
#[derive(Debug)]
pub struct ServerError;

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server is not part of this build")
    }
}

impl std::error::Error for ServerError {}

/// Serves until it is asked to stop.
///
/// # Errors
/// It could not start.
pub fn run(_settings: Settings) -> Result<(), ServerError> {
    Err(ServerError)
}

/// Serves two embedded demo origins; the targets of `settings` are theirs.
///
/// # Errors
/// It could not start.
pub fn demo(_settings: Settings) -> Result<(), ServerError> {
    Err(ServerError)
}
