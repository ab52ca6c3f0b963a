//! Stops under load: requests that are under way, and clients that come for a while after the signal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::client::Client;
use crate::report::Report;
use crate::servers::Bench;

use super::crowd::{Crowd, Habit, plainly};
use super::program::{Places, Program};
use super::target::{SLOW, Target};
use super::{CLIENTS, size, until};

/// Requests under way when it is to stop.
const UNDER_WAY: usize = 50;
/// How long a stop may take that waits for them.
const STOP: Duration = Duration::from_secs(10);
/// How long it accepts after the signal, and when clients learn that it leaves: as in Kubernetes, where the signal comes and the
/// endpoint is removed afterwards, each node in its time.
const DELAY: Duration = Duration::from_secs(15);
const REMOVED: Duration = Duration::from_secs(10);
/// Before the signal.
const CALM: Duration = Duration::from_millis(500);
/// Clients that connect for each request, and the pause of every client.
const FRESH: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// Both stops.
pub(crate) fn drain_storm(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    in_flight(bench, report)?;
    late_removal(bench, report)
}

fn text(places: &Places, targets: &[Target; 2], delay: Duration) -> String {
    let mut text = format!("listen = \"{}\"\nworkers = 2\n{}", places.first, places.admin());
    for Target { address, .. } in targets {
        text += &format!(
            "[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n"
        );
    }
    text + &format!("[timeouts]\ndrain_delay = \"{}ms\"\n", delay.as_millis())
}

/// SIGTERM while requests are with the targets.
fn in_flight(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let began = Instant::now();
    let targets = [Target::start("a", began)?, Target::start("b", began)?];
    let mut program = Program::start(bench, |places| text(places, &targets, Duration::ZERO))?;
    let answered = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let address = program.first;
    let status = thread::scope(|scope| {
        for which in 0..UNDER_WAY {
            let (answered, failed) = (&answered, &failed);
            scope.spawn(move || {
                let answer = Client::connect(address).and_then(|mut it| it.get("/slow"));
                match answer {
                    Ok(answer) if answer.status == 200 => {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    other => {
                        let why = other.map_or_else(
                            |error| plainly(&error),
                            |answer| format!("status {}", answer.status),
                        );
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push((which, why));
                    }
                }
            });
        }
        let there = || targets.iter().map(Target::served).sum::<u64>();
        until("all requests are with the targets", || Ok(there() == UNDER_WAY as u64))?;
        let asked = Instant::now();
        program.process.signal(Signal::TERM)?;
        let status = program.process.ended(STOP)?;
        Ok::<_, Failure>(status.map(|status| (status, asked.elapsed())))
    })?;
    report.section(format!("SIGTERM with {UNDER_WAY} requests of {SLOW:?} under way"));
    report.exactly("answered", size(answered.into_inner()), "", size(UNDER_WAY));
    for (which, why) in failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        report.figure(format!("  failed: request {which}: {why}"), 1.0, "");
    }
    tell_end(status, STOP, report);
    report.verdict();
    Ok(())
}

fn tell_end(
    status: Option<(std::process::ExitStatus, Duration)>,
    most: Duration,
    report: &mut Report,
) {
    let code = status.and_then(|(status, _)| status.code());
    report.exactly("exit code", code.map_or(f64::NAN, f64::from), "", 0.0);
    let took = status.map_or(f64::NAN, |(_, took)| took.as_secs_f64());
    report.at_most("from the signal to the end", took, "s", most.as_secs_f64());
}

/// SIGTERM, and clients that learn of it late.
fn late_removal(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let began = Instant::now();
    let targets = [Target::start("a", began)?, Target::start("b", began)?];
    let mut program = Program::start(bench, |places| text(places, &targets, DELAY))?;
    let crowd = Crowd::new(program.first);
    let (asked, ready) = thread::scope(|scope| {
        let crowd = &crowd;
        for which in 0..CLIENTS {
            scope.spawn(move || crowd.ask(&format!("kept-{which}"), Habit::Kept, PAUSE));
        }
        for which in 0..FRESH {
            scope.spawn(move || crowd.ask(&format!("fresh-{which}"), Habit::Fresh, PAUSE));
        }
        let play = || {
            thread::sleep(CALM);
            let asked = Instant::now();
            program.process.signal(Signal::TERM)?;
            let unready = || Ok(program.ask("GET", "/readyz")?.starts_with("HTTP/1.1 503"));
            until("it says that it is not ready", unready)?;
            let ready = asked.elapsed();
            thread::sleep(REMOVED.saturating_sub(ready));
            Ok::<_, Failure>((asked, ready))
        };
        let outcome = play();
        crowd.end();
        outcome
    })?;
    let most = DELAY + STOP;
    let status = program.process.ended(most)?.map(|status| (status, asked.elapsed()));
    report.section(format!(
        "SIGTERM with drain_delay = {DELAY:?}, under {CLIENTS} keep-alive clients and {FRESH} that connect for each \
         request, which stay for {REMOVED:?}"
    ));
    report.figure("/readyz is 503 after", ready.as_secs_f64() * 1000.0, "ms");
    crowd.kept.tell("keep-alive", report);
    crowd.kept.tell_ends("keep-alive", report);
    crowd.fresh.tell("fresh", report);
    tell_end(status, most, report);
    report.verdict();
    Ok(())
}
