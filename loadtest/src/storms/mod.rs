//! Reloads, upgrades and stops of evenly under load: what clients notice, which should be nothing.
//!
//! Clients, targets and whoever commands are threads of this process, most of which sleep most of the time: it needs a fraction of
//! a core, and no figure here is one of speed.

mod crowd;
pub(crate) mod drain;
mod program;
pub(crate) mod reload;
mod streams;
mod target;
pub(crate) mod upgrade;

use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

pub(crate) use crate::chaos::size;

/// Keep-alive clients.
const CLIENTS: usize = 64;
/// How long anything may take to be so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` is so.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("waited in vain: {what}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
