//! What can be asked of a running evenly, and what it says. Whoever asks, all of it is done by the main thread, one after another;
//! an upgrade goes on while it does other things.

use std::path::PathBuf;
use std::sync::Arc;

use crate::settings::TargetState;

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
    /// To decide whether a target gets requests, whatever its checks say.
    Steer {
        /// A target as it is configured, or an address of one.
        name: String,
        /// Whether it does; `None`: as before.
        state: Option<TargetState>,
        /// The weight of the address among those of its target, `Some(None)` that of DNS; `None`: as before.
        weight: Option<Option<u16>>,
    },
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
    /// Nothing has changed, since what is to change is not there: what may have been meant, in a line.
    Missing(String),
    /// It was begun, and did not end as it should: how it ended, in a line.
    Failed(String),
}

/// Where a reply goes.
pub type Answer = Box<dyn FnOnce(Reply) + Send>;

/// Takes commands. Never blocks.
pub type Commands = Arc<dyn Fn(Command, Answer) + Send + Sync>;
