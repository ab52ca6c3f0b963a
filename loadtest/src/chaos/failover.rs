//! What clients notice when targets die and return: closed-loop connections that judge every single
//! answer while origins are killed and started again under them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::report::{Report, count};
use crate::servers::{Bench, Kind, Origin, Subject};

use super::crowd::{Crowd, Method, ask_until};

/// How long the load runs in a phase beside what the phase waits for.
const HOLD: Duration = Duration::from_secs(2);
/// How long a health change may take before the run goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The subject's interval between probes when none is given, in seconds.
const INTERVAL: f64 = 5.0;
/// What a probe may take beyond its interval, in milliseconds.
const PROBE_MILLIS: f64 = 250.0;

/// What happens to the origins, in order.
#[derive(Clone, Copy)]
enum Phase {
    Calm,
    OneDown,
    OneBack,
    BothDown,
    BothBack,
}

const PHASES: usize = 5;

/// What the clients saw in one phase. Times are microseconds since the beginning of the run.
struct Tally {
    answered: AtomicU64,
    unavailable: AtomicU64,
    first_unavailable: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
    slowest: AtomicU64,
    /// First and last answer of each origin.
    first: [AtomicU64; 2],
    last: [AtomicU64; 2],
}

impl Default for Tally {
    fn default() -> Tally {
        let never = || AtomicU64::new(u64::MAX);
        Tally {
            answered: AtomicU64::default(),
            unavailable: AtomicU64::default(),
            first_unavailable: never(),
            failed: Mutex::default(),
            slowest: AtomicU64::default(),
            first: [never(), never()],
            last: [AtomicU64::default(), AtomicU64::default()],
        }
    }
}

impl Tally {
    fn failures(&self) -> BTreeMap<String, u64> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the clients and the one who kills share.
struct Watch {
    began: Instant,
    phase: AtomicUsize,
    stopping: AtomicBool,
    tallies: [Tally; PHASES],
}

impl Watch {
    fn micros(&self, when: Instant) -> u64 {
        let since = when.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: Phase) -> Instant {
        self.phase.store(phase as usize, Ordering::SeqCst);
        Instant::now()
    }

    fn tally(&self, phase: Phase) -> &Tally {
        &self.tallies[phase as usize]
    }

    /// Books one request in the phase in which it ended.
    fn book(&self, asked: Instant, outcome: Result<Option<String>, String>) {
        let tally = &self.tallies[self.phase.load(Ordering::SeqCst)];
        let now = self.micros(Instant::now());
        tally.slowest.fetch_max(now - self.micros(asked), Ordering::Relaxed);
        let why = match outcome {
            Ok(Some(name)) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                let which = usize::from(name != "a");
                tally.first[which].fetch_min(now, Ordering::Relaxed);
                tally.last[which].fetch_max(now, Ordering::Relaxed);
                return;
            }
            Ok(None) => "a response without X-Origin".to_owned(),
            Err(why) if why == "status 503" => {
                tally.unavailable.fetch_add(1, Ordering::Relaxed);
                tally.first_unavailable.fetch_min(now, Ordering::Relaxed);
                return;
            }
            Err(why) => why,
        };
        *tally.failed.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    /// Milliseconds from `since` to a booked time, or NaN when it never came.
    fn millis_after(&self, since: Instant, booked: u64) -> f64 {
        if booked == u64::MAX {
            return f64::NAN;
        }
        count(booked.saturating_sub(self.micros(since))) / 1000.0
    }
}

/// Kills and restarts origins under `connections` clients and reports what these noticed.
pub(crate) fn failover(
    bench: &Bench,
    kind: Kind,
    connections: usize,
    interval: Option<f64>,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut origins = bench.origins()?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let mut subject = bench.subject(kind, &targets)?;
    let watch = Watch {
        began: Instant::now(),
        phase: AtomicUsize::new(Phase::Calm as usize),
        stopping: AtomicBool::new(false),
        tallies: Default::default(),
    };
    report.section(format!("{}: origins killed under {connections} connections", kind.name()));
    let crowd = Crowd { address: subject.address, method: Method::Get, clients: connections };
    let watch = &watch;
    thread::scope(|scope| {
        for which in 0..crowd.clients {
            scope.spawn(move || {
                ask_until(&watch.stopping, crowd, which, |_, asked, outcome| {
                    watch.book(asked, outcome);
                });
            });
        }
        let outcome = play(watch, &mut origins, &mut subject, interval, report);
        watch.stopping.store(true, Ordering::Relaxed);
        outcome
    })
}

/// The play itself, phase after phase.
fn play(
    watch: &Watch,
    origins: &mut [Origin; 2],
    subject: &mut Subject,
    interval: Option<f64>,
    report: &mut Report,
) -> Result<(), Failure> {
    let notice = interval.unwrap_or(INTERVAL) * 1000.0 + PROBE_MILLIS;
    thread::sleep(HOLD);
    add_requests(report, watch, Phase::Calm, "both alive");
    one_down(watch, &mut origins[0], subject, report);
    one_back(watch, &mut origins[0], notice, report)?;
    both_down(watch, origins, report);
    both_back(watch, origins, notice, report)
}

fn one_down(watch: &Watch, origin: &mut Origin, subject: &mut Subject, report: &mut Report) {
    let killed = watch.enter(Phase::OneDown);
    origin.kill();
    thread::sleep(HOLD);
    let last = watch.tally(Phase::OneDown).last[0].load(Ordering::SeqCst);
    add_requests(report, watch, Phase::OneDown, "one killed");
    report.at_most("last answer of the killed origin", watch.millis_after(killed, last), "ms", 1e3);
    add_judged(report, subject, killed, 1);
}

fn one_back(
    watch: &Watch,
    origin: &mut Origin,
    notice: f64,
    report: &mut Report,
) -> Result<(), Failure> {
    origin.restart()?;
    let back = watch.enter(Phase::OneBack);
    let first = || watch.tally(Phase::OneBack).first[0].load(Ordering::SeqCst);
    wait(|| first() < u64::MAX);
    thread::sleep(HOLD);
    add_requests(report, watch, Phase::OneBack, "it returned");
    let millis = watch.millis_after(back, first());
    report.at_most("first answer of the returned origin", millis, "ms", notice);
    Ok(())
}

/// With nothing behind it, every answer must be a 503 and come at once. Requests that were with an
/// origin when it was killed may end otherwise; they are counted apart.
fn both_down(watch: &Watch, origins: &mut [Origin; 2], report: &mut Report) {
    let killed = watch.enter(Phase::BothDown);
    origins.iter_mut().for_each(Origin::kill);
    thread::sleep(HOLD);
    let tally = watch.tally(Phase::BothDown);
    let first = tally.first_unavailable.load(Ordering::SeqCst);
    let slowest = count(tally.slowest.load(Ordering::SeqCst)) / 1000.0;
    report.figure("both killed: answers 503", count(tally.unavailable.load(Ordering::SeqCst)), "");
    report.at_most("both killed: first 503", watch.millis_after(killed, first), "ms", 250.0);
    report.at_most("both killed: slowest answer", slowest, "ms", 1e3);
    add_failures(report, watch, Phase::BothDown);
}

fn both_back(
    watch: &Watch,
    origins: &mut [Origin; 2],
    notice: f64,
    report: &mut Report,
) -> Result<(), Failure> {
    origins.iter_mut().try_for_each(Origin::restart)?;
    let back = watch.enter(Phase::BothBack);
    let firsts =
        || watch.tally(Phase::BothBack).first.each_ref().map(|first| first.load(Ordering::SeqCst));
    wait(|| firsts().into_iter().all(|first| first < u64::MAX));
    for (name, first) in ["a", "b"].into_iter().zip(firsts()) {
        let what = format!("both back: first answer of {name}");
        report.at_most(what, watch.millis_after(back, first), "ms", notice);
    }
    add_failures(report, watch, Phase::BothBack);
    Ok(())
}

/// Waits until `done`, at most [`PATIENCE`].
fn wait(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Requests of a phase in which none may fail, and each kind of failure in it.
fn add_requests(report: &mut Report, watch: &Watch, phase: Phase, name: &str) {
    let tally = watch.tally(phase);
    let answered = tally.answered.load(Ordering::SeqCst);
    let unavailable = tally.unavailable.load(Ordering::SeqCst);
    let failed = tally.failures().values().sum::<u64>() + unavailable;
    let slowest = count(tally.slowest.load(Ordering::SeqCst)) / 1000.0;
    report.figure(format!("{name}: requests answered"), count(answered), "");
    report.exactly(format!("{name}: requests failed"), count(failed), "", 0.0);
    report.figure(format!("{name}: slowest request"), slowest, "ms");
    if unavailable > 0 {
        report.figure("  failed: status 503", count(unavailable), "");
    }
    add_failures(report, watch, phase);
}

fn add_failures(report: &mut Report, watch: &Watch, phase: Phase) {
    for (why, times) in watch.tally(phase).failures() {
        report.figure(format!("  failed: {why}"), count(times), "");
    }
}

/// When evenly itself said that only `healthy` targets are left.
fn add_judged(report: &mut Report, subject: &mut Subject, killed: Instant, healthy: usize) {
    if subject.kind != Kind::Evenly {
        return;
    }
    let wanted = format!("healthy endpoints: {healthy}");
    let said = subject
        .process
        .line(killed, Duration::from_secs(1), |line| line.contains(&wanted).then_some(()));
    let millis = said.map_or(f64::NAN, |(when, ())| (when - killed).as_secs_f64() * 1000.0);
    report.at_most(format!("until it logs `{wanted}`"), millis, "ms", 1e3);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch {
            began: Instant::now(),
            phase: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            tallies: Default::default(),
        }
    }

    #[test]
    fn books_each_request_in_the_phase_in_which_it_ended() {
        let watch = watch();
        let asked = watch.enter(Phase::OneDown);
        watch.book(asked, Ok(Some("b".to_owned())));
        watch.book(asked, Err("status 503".to_owned()));
        watch.book(asked, Err("status 502".to_owned()));
        watch.book(asked, Err("connection reset".to_owned()));
        let tally = watch.tally(Phase::OneDown);
        assert_eq!(tally.answered.load(Ordering::SeqCst), 1);
        assert_eq!(tally.unavailable.load(Ordering::SeqCst), 1);
        assert_eq!(tally.first[0].load(Ordering::SeqCst), u64::MAX, "a never answered");
        assert!(tally.first[1].load(Ordering::SeqCst) < u64::MAX);
        assert_eq!(tally.failures().values().sum::<u64>(), 2);
        assert_eq!(watch.tally(Phase::Calm).answered.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_never_came_keeps_no_promise() {
        let watch = watch();
        let never = watch.millis_after(Instant::now(), u64::MAX);
        let mut report = Report::default();
        report.at_most("first answer", never, "ms", 1000.0);
        assert_eq!(report.broken(), 1);
    }
}
