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
    /// It is another process that the service manager listens to.
    is_silent: bool,
}

impl Supervisor {
    /// As the environment of this process says. Nothing is said before [`Supervisor::lead`] if it `follows` a predecessor.
    pub(super) fn new(follows: bool) -> Self {
        let beat = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Supervisor { beat, next_beat: beat.map(|beat| Instant::now() + beat), is_silent: follows }
    }

    /// The service manager is to listen to this process, which has taken the place of the one before.
    pub(super) fn lead(&mut self, generation: u64) {
        if std::mem::take(&mut self.is_silent) {
            self.ready(generation);
        }
    }

    /// The service manager is to listen to that process from now on. Whatever this one says after that would be of the unit.
    pub(super) fn hand_over(&mut self, process: u32) {
        self.say(&[NotifyState::MainPid(process)]);
        self.is_silent = true;
    }

    fn say(&self, state: &[NotifyState<'_>]) {
        if !self.is_silent {
            notify(state);
        }
    }

    /// It serves, by this generation of its configuration.
    pub(super) fn ready(&self, generation: u64) {
        let status = format!("serving; configuration generation {generation}");
        self.say(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It reads its file again; [`Supervisor::ready`] follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(_) => self.say(&[NotifyState::Reloading]),
        }
    }

    /// What it does, for people.
    pub(super) fn status(&self, status: &str) {
        self.say(&[NotifyState::Status(status)]);
    }

    /// It stops.
    pub(super) fn stopping(&self, status: &str) {
        self.say(&[NotifyState::Stopping, NotifyState::Status(status)]);
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
            true => self.say(&[NotifyState::Watchdog]),
            false => log::warn!("a worker has not run for {beat:?}: the watchdog is not fed"),
        }
        (0..workers.peers.len()).for_each(|at| workers.send(at, Errand::Beat));
        workers.wake();
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("the service manager does not listen: {error}");
    }
}
