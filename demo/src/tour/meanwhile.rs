//! Clients that ask without a pause while something else happens.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use crate::stage::Problem;

/// Askers at once.
const ASKERS: usize = 2;

/// Clients at work. Dropping it ends them.
pub(super) struct Meanwhile {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    askers: Vec<JoinHandle<Result<(), Problem>>>,
}

impl Meanwhile {
    /// Runs what `client` makes, again and again.
    pub(super) fn begin(client: impl Fn() -> Command + Clone + Send + 'static) -> Meanwhile {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let askers = (0..ASKERS).map(|_| {
            let (over, answered, client) = (over.clone(), answered.clone(), client.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    ask(client())?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        Meanwhile { askers: askers.collect(), over, answered }
    }

    /// How many requests were answered without an error so far.
    pub(super) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether a client has given up: [`Meanwhile::end`] says why.
    pub(super) fn has_failed(&self) -> bool {
        self.askers.iter().any(JoinHandle::is_finished)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The first request that failed.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        self.over.store(true, Ordering::Relaxed);
        for asker in self.askers.drain(..) {
            asker.join().map_err(|_| Problem("a client's thread has panicked".to_owned()))??;
        }
        Ok(())
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for asker in self.askers.drain(..) {
            let _ = asker.join();
        }
    }
}

fn ask(mut client: Command) -> Result<(), Problem> {
    let ended = client
        .output()
        .map_err(|error| Problem(format!("cannot start ingress-client: {error}")))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = [ended.stdout, ended.stderr].concat();
    Err(Problem(format!(
        "a request failed meanwhile, {}:\n{}",
        ended.status,
        String::from_utf8_lossy(&said).trim_end()
    )))
}
