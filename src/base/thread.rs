//! Joining a thread within a bounded time.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread may take to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Joins `thread`, which was asked to end, if it ends within two seconds; else it is abandoned. Logs an error if it
/// panicked or is abandoned.
pub fn end(thread: JoinHandle<()>, name: &str) {
    end_within(thread, name, PATIENCE);
}

fn end_within(thread: JoinHandle<()>, name: &str, patience: Duration) {
    let begun = Instant::now();
    while !thread.is_finished() {
        if begun.elapsed() > patience {
            log::error!("the {name} thread does not stop, and is abandoned");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.join().is_err() {
        log::error!("the {name} thread panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_end_is_left_behind() {
        let (_held, gate) = std::sync::mpsc::channel::<()>();
        let stuck = std::thread::spawn(move || gate.recv().unwrap_or_default());
        let begun = Instant::now();
        end_within(stuck, "stuck", Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        end(std::thread::spawn(|| {}), "quick");
    }
}
