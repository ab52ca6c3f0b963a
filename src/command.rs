//! What can be asked of a running evenly, and what it says. Whoever asks, all of it is done by the main thread, one after another;
//! an upgrade goes on while it does other things.

use std::path::PathBuf;
use std::sync::Arc;

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To read the file again and apply it.
    Reload,
    /// To say what a reload would change.
    Compare,
    /// To apply again what was in force before the last reload.
    Rollback,
    /// To finish what was begun, accept nothing new, and end.
    Drain {
        /// The reply is to come when it has ended, not when it has begun.
        wait: bool,
    },
    /// To serve on after all.
    Undrain,
    /// To have another process take the place of this one: of the program at this path, or of the same.
    Upgrade(Option<PathBuf>),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done: what was done, in a line.
    Done(String),
    /// Nothing has changed: why, a line for each thing that is wrong.
    Refused(Vec<String>),
    /// It was begun, and did not end as it should: how it ended, in a line.
    Failed(String),
}

/// Where a reply goes.
pub type Answer = Box<dyn FnOnce(Reply) + Send>;

/// Takes commands. Never blocks.
pub type Commands = Arc<dyn Fn(Command, Answer) + Send + Sync>;
