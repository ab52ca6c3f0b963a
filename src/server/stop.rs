//! How it stops: what the main thread does from the first word of it to the end of the workers, and how that is taken back.
//!
//! Owns the stages and their times: it still accepts (`timeouts.drain_delay`), it finishes what was begun (`timeouts.drain`), it ends.
//! The second has a way back as the first has, since workers stay until the third: their listeners are opened again, all or none.
//! The third has none.

use std::time::{Duration, Instant};

use crate::command::{Answer, Reply};
use crate::settings::Timeouts;
use crate::worker::listener;
use crate::worker::{Crew, Stage};

use super::ServerError;
use super::reload::{FOLLOW_TIME, LOOK, Running};
use super::sockets::{PreparedAddress, listen_all};
use super::supervisor::Supervisor;

/// How long workers may take to end at once.
pub(super) const STOP_TIME: Duration = Duration::from_secs(5);

/// Where another process serves, idle connections of clients are closed when so much of the drain is over, in percent.
const PATIENT_SHARE: u32 = 90;

/// A stop under way.
pub(super) struct Stop {
    /// Until when its stage lasts.
    until: Instant,
    begun: Instant,
    /// A signal asked for it: the next one ends it immediately.
    by_signal: bool,
    /// Connections that were closed because the time was over, or by a second signal; and which of the two it was.
    cut: Option<(usize, String)>,
    /// Who waits for its end.
    waiting: Vec<Answer>,
}

impl Stop {
    /// Until when its stage lasts.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    fn end_stage(&mut self, connections: usize, why: String) {
        if connections > 0 {
            self.cut = Some((connections, why));
        }
        self.until = Instant::now() + STOP_TIME;
    }

    /// Tells those who wait how it ended.
    pub(super) fn conclude(self) {
        let took = rounded(self.begun.elapsed());
        let reply = match &self.cut {
            None => Reply::Done(format!("drained in {took:?}: all connections were finished")),
            Some((count, why)) => {
                let were = if *count == 1 { "was" } else { "were" };
                Reply::Failed(format!("{} {were} cut: {why}", counted(*count)))
            }
        };
        self.waiting.into_iter().for_each(|answer| answer(reply.clone()));
    }
}

/// So many connections, in words.
fn counted(connections: usize) -> String {
    format!("{connections} connection{}", if connections == 1 { "" } else { "s" })
}

/// To tenths of a second, never less than it is.
fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis().div_ceil(100)).unwrap_or(0) * 100)
}

/// A signal asks for a stop: the first one for a drain, the second one for an end at once.
pub(super) fn by_signal(running: &mut Running, supervisor: &Supervisor) {
    let workers = &running.crew;
    match &mut running.stop {
        None => {
            let mut stop = begin(workers, running.shared.snapshot.load().plan.timeouts);
            stop.by_signal = true;
            running.stop = Some(stop);
        }
        // It was begun by a command: whoever stops the process now wants no less than that.
        Some(stop) if !stop.by_signal => {
            stop.by_signal = true;
            log::info!("already stopping; a second signal stops immediately");
        }
        Some(_) if workers.stage() == Stage::Stopping => return,
        Some(stop) => {
            let connections = workers.connections();
            log::warn!("second signal: stopping immediately, closing {}", counted(connections));
            workers.set_stage(Stage::Stopping);
            stop.end_stage(connections, "a signal ended the drain".to_owned());
        }
    }
    supervisor.stopping(match workers.stage() {
        Stage::Leaving => "stopping; still accepting connections",
        _ => "draining",
    });
}

/// A command asks for a drain: one that is under way goes on. Who waits is answered at its end.
pub(super) fn by_command(
    running: &mut Running,
    supervisor: &Supervisor,
    waits: bool,
    answer: Answer,
) {
    log::info!("a drain was asked for (evenly drain)");
    let timeouts = running.timeouts();
    let before = if running.stop.is_some() { "already " } else { "" };
    let stop = running.stop.get_or_insert_with(|| begin(&running.crew, timeouts));
    // Not that it stops: systemd lets no service return from that, and kills it when TimeoutStopSec= is over.
    supervisor.status("draining");
    if waits {
        return stop.waiting.push(answer);
    }
    let (left, connections) =
        (rounded(stop.until.saturating_duration_since(Instant::now())), running.crew.connections());
    let what = match running.crew.stage() {
        Stage::Leaving => format!(
            "still accepting connections for {left:?}, then finishing those there are within {:?}",
            timeouts.drain
        ),
        Stage::Stopping => "ending".to_owned(),
        Stage::Running | Stage::Draining => {
            format!("finishing {} within {left:?}", counted(connections))
        }
    };
    answer(Reply::Done(format!("{before}draining: {what}")));
}

/// Another process serves: this one accepts nobody any more. Idle connections of clients are closed late, so that a request that
/// comes by one is served.
pub(super) fn for_successor(running: &mut Running) {
    let (workers, timeouts) = (&running.crew, running.timeouts());
    let until = match &running.stop {
        // It was asked to stop while the other one took over.
        Some(stop) if workers.stage() >= Stage::Draining => stop.until,
        _ => {
            workers.set_patience(timeouts.drain / 100 * PATIENT_SHARE);
            drain(workers, timeouts)
        }
    };
    let begun = Instant::now();
    let new = || Stop { until, begun, by_signal: false, cut: None, waiting: Vec::new() };
    running.stop.get_or_insert_with(new).until = until;
}

fn begin(workers: &Crew, timeouts: Timeouts) -> Stop {
    let (begun, delay) = (Instant::now(), timeouts.drain_delay);
    let until = if delay.is_zero() {
        drain(workers, timeouts)
    } else {
        workers.set_stage(Stage::Leaving);
        log::info!(
            "stopping: still accepting connections for {delay:?}; each response ends its connection"
        );
        begun + delay
    };
    Stop { until, begun, by_signal: false, cut: None, waiting: Vec::new() }
}

fn drain(workers: &Crew, timeouts: Timeouts) -> Instant {
    let (connections, drain) = (workers.connections(), timeouts.drain);
    workers.set_stage(Stage::Draining);
    log::info!(
        "draining: finishing {} within {drain:?}; a second signal stops immediately",
        counted(connections)
    );
    Instant::now() + drain
}

/// The time of a stage may be over, or a worker have nothing left to finish: then the next stage follows.
///
/// # Errors
/// So many workers (`left`) do not end.
pub(super) fn go_on(running: &mut Running, left: usize) -> Result<(), ServerError> {
    let (workers, timeouts) = (running.crew.as_ref(), running.timeouts());
    let Some(stop) = &mut running.stop else { return Ok(()) };
    let is_over = stop.until <= Instant::now();
    match workers.stage() {
        Stage::Leaving if is_over => stop.until = drain(workers, timeouts),
        Stage::Draining if workers.is_finished() => {
            workers.set_stage(Stage::Stopping);
            stop.end_stage(0, String::new());
        }
        Stage::Draining if is_over => {
            let (connections, drain) = (workers.connections(), timeouts.drain);
            workers.set_stage(Stage::Stopping);
            log::warn!("drain timeout ({drain:?}) expired: closing {}", counted(connections));
            stop.end_stage(connections, format!("timeouts.drain ({drain:?}) was over"));
        }
        Stage::Stopping if is_over => return Err(ServerError::Stuck(left)),
        Stage::Running | Stage::Leaving | Stage::Draining | Stage::Stopping => {}
    }
    Ok(())
}

/// Takes a stop back, as far as it can be.
pub(super) fn take_back(running: &mut Running, supervisor: &Supervisor) -> Reply {
    if let Err(why) = return_to_service(running) {
        log::warn!("the drain is not taken back: {why}");
        return Reply::Refused(vec![why]);
    }
    let Some(stop) = running.stop.take() else {
        return Reply::Refused(vec!["evenly is not draining".to_owned()]);
    };
    let over = "the drain was taken back (evenly undrain); evenly serves on";
    stop.waiting.into_iter().for_each(|answer| answer(Reply::Failed(over.to_owned())));
    supervisor.ready(running.generation());
    log::info!("the drain is taken back: serving on");
    let warning = match stop.by_signal {
        true => {
            "; if a service manager sent the signal, it kills the process when its time for that is over (TimeoutStopSec=)"
        }
        false => "",
    };
    Reply::Done(format!("serving on{warning}"))
}

fn return_to_service(running: &mut Running) -> Result<(), String> {
    match running.crew.stage() {
        Stage::Running => Err("evenly is not draining".to_owned()),
        Stage::Leaving => {
            running.crew.go_back();
            Ok(())
        }
        Stage::Draining => listen_again(running),
        Stage::Stopping => Err("the drain is over, and evenly is ending".to_owned()),
    }
}

/// Opens the listeners again that were closed for the drain: all or none.
fn listen_again(running: &Running) -> Result<(), String> {
    let until = Instant::now() + FOLLOW_TIME;
    while !running.crew.all_left() {
        if Instant::now() >= until {
            return Err("not every worker has closed its listeners yet; try again".to_owned());
        }
        std::thread::sleep(LOOK);
    }
    let (boot, plan) = (&running.settings.boot, &running.settings.plan);
    let claim = |(at, (listening, scope)): (usize, (&super::reload::Listening, _))| {
        let claim = listener::claim(listening.bound, scope, &boot.tcp);
        claim
            .map(|claim| (listening.id, PreparedAddress::Claimed(claim)))
            .map_err(|error| ServerError::Bind(at, listening.bound, error))
    };
    let scopes = listener::scopes(&plan.listen);
    let claims = running.listeners.iter().zip(scopes).enumerate().map(claim);
    let sockets = claims
        .collect::<Result<Vec<(_, PreparedAddress)>, _>>()
        .and_then(|claims| listen_all(claims, running.crew.peers.len()))
        .map_err(|error| format!("{error}; the drain goes on"))?;
    running.crew.reopen(sockets);
    running.await_workers(running.generation());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_words() {
        let counts = [0, 1, 2].map(counted);
        assert_eq!(counts, ["0 connections", "1 connection", "2 connections"]);
    }

    #[test]
    fn times_are_shown_to_tenths_of_a_second() {
        for (millis, shown) in [(0, "0ns"), (1, "100ms"), (29_950, "30s"), (30_000, "30s")] {
            assert_eq!(format!("{:?}", rounded(Duration::from_millis(millis))), shown);
        }
    }
}
