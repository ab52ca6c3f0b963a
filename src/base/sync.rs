//! The atomics of the protocols that are our own: the standard library's, or loom's when their models are run
//! (`make loom`), which tries every order in which threads may meet.
//!
//! Only what a model runs takes its atomics from here. Built with `--cfg loom` the program itself does not work: loom's
//! atomics live within a model alone.

#[cfg(loom)]
pub use loom::sync::atomic;
#[cfg(not(loom))]
pub use std::sync::atomic;

/// What a thread sleeps on in a model, for an eventfd: rung once or often, it wakes its sleeper once.
#[cfg(all(test, loom))]
#[derive(Debug, Default)]
pub struct Sleeper {
    rung: loom::sync::Mutex<bool>,
    changed: loom::sync::Condvar,
}

#[cfg(all(test, loom))]
impl Sleeper {
    /// Adds to the eventfd.
    pub fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Reads the eventfd back to 0.
    pub fn silence(&self) {
        *self.rung.lock().unwrap() = false;
    }

    /// Sleeps until it is rung: poll(2). loom fails a model in which a thread sleeps forever.
    pub fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
    }
}
