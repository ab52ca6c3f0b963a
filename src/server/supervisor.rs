//! What a service manager hears (sd_notify(3)): that evenly is ready, reloads, stops, and is alive. Without `$NOTIFY_SOCKET`
//! nothing is said.
//!
//! Owns the watchdog: it is fed only while every worker runs the errands it is sent, so that a worker that hangs shows.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::worker::{Crew, Errand, Stage};

/// Speaks to the service manager.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// How often it is to hear that evenly is alive: twice as often as it asks for.
    beat: Option<Duration>,
    next_beat: Option<Instant>,
}

impl Supervisor {
    /// As the environment of this process says.
    pub(super) fn new() -> Self {
        let beat = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Supervisor { beat, next_beat: beat.map(|beat| Instant::now() + beat) }
    }

    /// It serves, by this generation of its configuration.
    pub(super) fn ready(&self, generation: u64) {
        let status = format!("serving; configuration generation {generation}");
        say(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It reads its file again; [`Supervisor::ready`] follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say(&[NotifyState::Reloading, now]),
            Err(_) => say(&[NotifyState::Reloading]),
        }
    }

    /// What it does, for people.
    pub(super) fn status(&self, status: &str) {
        say(&[NotifyState::Status(status)]);
    }

    /// It stops.
    pub(super) fn stopping(&self, status: &str) {
        say(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// When [`Supervisor::beat`] is due.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        self.next_beat
    }

    /// Says that it is alive if every worker has run what it was sent, and sends them something to run before the next time.
    pub(super) fn beat(&mut self, workers: &Crew) {
        let (Some(beat), Some(due)) = (self.beat, self.next_beat) else { return };
        if Instant::now() < due {
            return;
        }
        self.next_beat = Some(Instant::now() + beat);
        match workers.stage() == Stage::Stopping || workers.follow(0) {
            true => say(&[NotifyState::Watchdog]),
            false => log::warn!("a worker has not run for {beat:?}: the watchdog is not fed"),
        }
        (0..workers.peers.len()).for_each(|at| workers.send(at, Errand::Beat));
        workers.wake();
    }
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("the service manager does not listen: {error}");
    }
}
