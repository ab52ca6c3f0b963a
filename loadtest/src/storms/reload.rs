//! Reloads under load: what clients notice, how soon each is effective, and what a thousand of them leave behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::{Client, read_head};
use crate::report::{Report, count, median};
use crate::servers::Bench;
use crate::told::metric;

use super::crowd::{Crowd, Habit};
use super::program::{Holdings, Places, Program, Way};
use super::streams::Streams;
use super::target::Target;
use super::{CLIENTS, size, until};

/// Tunnels beside the clients.
const TUNNELS: u64 = 50;
/// Clients that connect for each request.
const FRESH: usize = 4;
/// The pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(10);
/// Before the first reload.
const CALM: Duration = Duration::from_millis(500);
/// From one reload to the next: 200 in 20 s.
const EVERY: Duration = Duration::from_millis(100);
/// Of so many reloads one cycle is made, after which all is as it was.
const CYCLE: usize = STEPS.len();
/// Of the whole time, which part has reloads that are looked at: 20 s of 60. Five times as many are made in all.
const SHARE: usize = 3;
const TIMES: usize = 5;
/// How soon a reload must be effective, in milliseconds.
const EFFECTIVE: f64 = 100.0;
/// How long one is looked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A target that had no request for so long has none any more: each has a thousand per second.
const SILENCE: Duration = Duration::from_millis(30);
/// More of the head than the tight limit allows.
const LONG_HEAD: usize = 2_000;
/// Clients that come by the second listener while it is there, and stay when it goes.
const GUESTS: usize = 8;
/// How much more memory may be resident after all reloads than after the first tenth, in KiB: 900 reloads that leave 2.5 KiB each,
/// a plan with its targets, would be more. Below it is what malloc does not give back.
const GROWTH_KIB: f64 = 2048.0;
/// How many more descriptors: idle connections to targets, of which there are as many as there were requests at the same time. One
/// that each reload leaves would be 900.
const GROWTH_DESCRIPTORS: f64 = 40.0;

/// What a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Whether each target is in it.
    targets: [bool; 5],
    second_listener: bool,
    /// Short timeouts, a head of 1 KiB at most, and another access log.
    is_tight: bool,
}

/// With which everything begins.
const BASE: Plan =
    Plan { targets: [true, true, false, false, false], second_listener: false, is_tight: false };

/// What the next file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Add(usize),
    Remove(usize),
    /// One is removed, another added.
    Swap(usize, usize),
    Limits(bool),
    Listener(bool),
    /// The file is not valid.
    Broken(&'static str),
}

const STEPS: [(Step, Way); 10] = [
    (Step::Add(2), Way::Command),
    (Step::Limits(true), Way::Command),
    (Step::Listener(true), Way::Post),
    (Step::Broken("[timeouts]\nconnect = \"soon\"\n"), Way::Command),
    (Step::Swap(2, 3), Way::Command),
    (Step::Limits(false), Way::Signal),
    (Step::Swap(1, 4), Way::Signal),
    (Step::Listener(false), Way::Command),
    (Step::Broken("[[targets]]\n"), Way::Post),
    // Also removes the one that was added, and brings the one back that was swapped.
    (Step::Remove(3), Way::Command),
];

impl Plan {
    fn text(&self, places: &Places, targets: &[Target]) -> String {
        let second = format!(", \"{}\"", places.second);
        let second = if self.second_listener { &*second } else { "" };
        let mut text =
            format!("listen = [\"{}\"{second}]\nworkers = 2\n{}", places.first, places.admin());
        for (target, _) in targets.iter().zip(self.targets).filter(|(_, is_in)| *is_in) {
            let address = target.address;
            text += &format!(
                "[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n"
            );
        }
        let (head, connect) = if self.is_tight { ("1KiB", "2s") } else { ("16KiB", "4s") };
        text += &format!("[limits]\nhead = \"{head}\"\n[timeouts]\nconnect = \"{connect}\"\n");
        text += &format!("response_header = \"{}\"\n", if self.is_tight { "20s" } else { "60s" });
        text + &format!("[log]\naccess = {:?}\n", logs(&places.socket)[usize::from(self.is_tight)])
    }

    fn after(mut self, step: Step) -> Plan {
        match step {
            Step::Add(one) => self.targets[one] = true,
            Step::Remove(one) => {
                self.targets = BASE.targets;
                debug_assert!(!self.targets[one], "the cycle ends as it began");
            }
            Step::Swap(one, other) => {
                (self.targets[one], self.targets[other]) = (false, true);
            }
            Step::Limits(is_tight) => self.is_tight = is_tight,
            Step::Listener(is_there) => self.second_listener = is_there,
            Step::Broken(_) => {}
        }
        self
    }
}

/// Where the access log goes, by turns.
fn logs(socket: &Path) -> [PathBuf; 2] {
    ["one.log", "two.log"].map(|name| socket.with_file_name(name))
}

/// What came of the reloads.
#[derive(Default)]
struct Record {
    reloads: usize,
    refused: usize,
    wrong: Vec<String>,
    /// How long each took to be effective, in milliseconds, by what it was.
    took: Vec<(&'static str, f64)>,
    answers: Vec<f64>,
}

/// Plays the storm for so long.
pub(crate) fn reload_storm(
    bench: &Bench,
    time: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let looked_at = looked_at(time)?;
    let began = Instant::now();
    let targets = ["a", "b", "c", "d", "e"];
    let targets: Vec<Target> =
        targets.into_iter().map(|name| Target::start(name, began)).collect::<Result<_, _>>()?;
    let program = Program::start(bench, |places| BASE.text(places, &targets))?;
    let crowd = Crowd::new(program.first);
    let streams = Streams::default();
    let mut storm =
        Storm { program: &program, targets: &targets, plan: BASE, record: Record::default() };
    let held = thread::scope(|scope| {
        let (crowd, streams) = (&crowd, &streams);
        for which in 0..CLIENTS {
            scope.spawn(move || crowd.ask(&format!("kept-{which}"), Habit::Kept, PAUSE));
        }
        let first = program.first;
        for which in 0..FRESH {
            scope.spawn(move || crowd.ask(&format!("fresh-{which}"), Habit::Fresh, PAUSE));
        }
        for which in 0..TUNNELS {
            scope.spawn(move || streams.tunnel(first, which));
        }
        let download = scope.spawn(move || streams.download(first, time));
        let outcome = storm.play(
            looked_at,
            |guest| {
                let second = program.second;
                let name = format!("guest-{guest}");
                scope.spawn(move || crowd.ask_at(second, &name, Habit::Kept, PAUSE));
            },
            streams,
        );
        if outcome.is_ok() {
            let _ = download.join();
        }
        crowd.end();
        streams.end();
        outcome
    })?;
    let entries = entries(&program)?;
    let seen = program.ask("GET", "/metrics")?;
    report.section(format!(
        "{} reloads under {CLIENTS} keep-alive clients, {FRESH} that connect for each request, {TUNNELS} tunnels and a download of {time:?}",
        storm.record.reloads
    ));
    tell(&storm.record, report);
    tell_clients(&crowd, &streams, report);
    tell_holdings(held, report);
    tell_program(&program, &seen, report);
    let requests = metric(&seen, "evenly_requests_total").unwrap_or(f64::NAN);
    report.exactly("entries of the access logs", size(entries), "", requests);
    report.verdict();
    Ok(())
}

/// How many lines both access logs have, when no more come.
fn entries(program: &Program) -> Result<usize, Failure> {
    let count = || -> Result<usize, Failure> {
        let lines =
            |path: &PathBuf| Ok::<_, Failure>(BufReader::new(File::open(path)?).lines().count());
        Ok(logs(&program.socket).iter().map(lines).collect::<Result<Vec<_>, _>>()?.iter().sum())
    };
    let (mut before, mut same) = (0, 0);
    until("the access logs are written", || {
        thread::sleep(Duration::from_millis(100));
        let now = count()?;
        same = if now == before { same + 1 } else { 0 };
        before = now;
        Ok(same == 3)
    })?;
    Ok(before)
}

/// How many reloads are looked at in so much time: whole cycles, so that all is as it was when a tenth of all is done.
fn looked_at(time: Duration) -> Result<usize, Failure> {
    let most = usize::try_from(time.as_millis() / EVERY.as_millis())? / SHARE;
    match most / (2 * CYCLE) * (2 * CYCLE) {
        0 => Err(Failure::new("too short for a cycle of reloads: --seconds 6 is the least")),
        some => Ok(some),
    }
}

struct Storm<'a> {
    program: &'a Program,
    targets: &'a [Target],
    plan: Plan,
    record: Record,
}

impl Storm<'_> {
    /// All reloads; what the process held after the first tenth, and after all.
    fn play(
        &mut self,
        looked_at: usize,
        mut welcome: impl FnMut(usize),
        streams: &Streams,
    ) -> Result<[Holdings; 2], Failure> {
        until("all tunnels are agreed", || Ok(streams.agreed() == TUNNELS))?;
        thread::sleep(CALM);
        let all = looked_at * TIMES;
        let (mut after_some, mut guests) = (None, 0);
        let mut due = Instant::now();
        for number in 0..all {
            let (step, way) = STEPS[number % CYCLE];
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = (due + EVERY).max(Instant::now());
            if number < looked_at {
                self.one(step, way)?;
            } else {
                // As fast as they come: the command's own process would take the time.
                self.quickly(step)?;
                due = Instant::now();
            }
            if step == Step::Listener(true) && guests < GUESTS {
                welcome(guests);
                guests += 1;
            }
            if number + 1 == all / 10 {
                after_some = Some(self.settled()?);
            }
        }
        let after_some = after_some.ok_or_else(|| Failure::new("there was no reload"))?;
        Ok([after_some, self.settled()?])
    }

    /// What it holds when nothing is being applied: the least of some looks.
    fn settled(&self) -> Result<Holdings, Failure> {
        let mut least = self.program.holdings()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(10));
            let now = self.program.holdings()?;
            least.memory = least.memory.min(now.memory);
            least.descriptors = least.descriptors.min(now.descriptors);
            least.threads = least.threads.min(now.threads);
        }
        Ok(least)
    }

    fn text(&self, step: Step) -> String {
        let Program { first, second, admin, socket, .. } = self.program;
        let places =
            Places { first: *first, second: *second, admin: *admin, socket: socket.clone() };
        let text = self.plan.after(step).text(&places, self.targets);
        match step {
            Step::Broken(more) => text + more,
            _ => text,
        }
    }

    /// One reload, and when it was effective.
    fn one(&mut self, step: Step, way: Way) -> Result<(), Failure> {
        self.program.write(&self.text(step))?;
        let before = self.plan;
        self.plan = before.after(step);
        let changed: Vec<usize> = (0..self.targets.len())
            .filter(|at| before.targets[*at] != self.plan.targets[*at])
            .collect();
        changed.iter().for_each(|at| self.targets[*at].watch());
        let begun = Instant::now();
        let answer = self.program.reload(way)?;
        let answered = begun.elapsed().as_secs_f64() * 1000.0;
        let wanted = (way != Way::Signal).then_some(!matches!(step, Step::Broken(_)));
        self.record.reloads += 1;
        self.record.refused += usize::from(answer.applied == Some(false));
        if answer.applied != wanted {
            self.record.wrong.push(format!("{step:?}: {}", answer.text.trim()));
        }
        if way != Way::Signal {
            self.record.answers.push(answered);
        }
        let took = match step {
            Step::Add(_) | Step::Remove(_) | Step::Swap(..) => self.moved(&changed, begun),
            Step::Limits(is_tight) => looked(begun, || self.head_status(is_tight)),
            Step::Listener(is_there) => looked(begun, || self.listens(is_there)),
            Step::Broken(_) => return Ok(()),
        };
        let kind = match step {
            Step::Add(_) | Step::Remove(_) | Step::Swap(..) => "targets",
            Step::Limits(_) => "timeouts and limits",
            _ => "listener",
        };
        self.record.took.push((kind, took.as_secs_f64() * 1000.0));
        Ok(())
    }

    /// One reload by the control socket alone.
    fn quickly(&mut self, step: Step) -> Result<(), Failure> {
        self.program.write(&self.text(step))?;
        self.plan = self.plan.after(step);
        let answer = self.program.reload(Way::Post)?;
        self.record.reloads += 1;
        self.record.refused += usize::from(answer.applied == Some(false));
        if answer.applied != Some(!matches!(step, Step::Broken(_))) {
            self.record.wrong.push(format!("{step:?}: {}", answer.text.trim()));
        }
        Ok(())
    }

    /// When the targets that came had their first request, and those that went their last.
    fn moved(&self, changed: &[usize], begun: Instant) -> Duration {
        let deadline = begun + PATIENCE;
        let mut latest = Duration::ZERO;
        for target in changed.iter().map(|at| (&self.targets[*at], self.plan.targets[*at])) {
            let took = loop {
                let late = Instant::now() > deadline;
                match target {
                    (target, true) => match target.first_after(begun) {
                        Some(took) => break took,
                        None if late => break PATIENCE,
                        None => {}
                    },
                    (target, false) => {
                        let last = target.last_after(begun);
                        if late || begun.elapsed() > last + SILENCE {
                            break last;
                        }
                    }
                }
                thread::sleep(Duration::from_millis(1));
            };
            latest = latest.max(took);
        }
        latest
    }

    /// Whether a long head is refused, as it should be or not be.
    fn head_status(&self, is_tight: bool) -> bool {
        let ask = || -> std::io::Result<u16> {
            let mut client = Client::connect(self.program.first)?;
            let long = "x".repeat(LONG_HEAD);
            let request = format!(
                "GET /id HTTP/1.1\r\nHost: storm\r\nX-Long: {long}\r\nConnection: close\r\n\r\n"
            );
            Ok(client.ask(request.as_bytes(), &mut Vec::new())?.status)
        };
        ask().is_ok_and(|status| status == if is_tight { 431 } else { 200 })
    }

    /// Whether the second listener takes requests, or connections not even.
    fn listens(&self, is_there: bool) -> bool {
        match TcpStream::connect(self.program.second) {
            Ok(stream) => is_there && answers(stream),
            Err(_) => !is_there,
        }
    }
}

fn answers(mut stream: TcpStream) -> bool {
    let request = b"GET /id HTTP/1.1\r\nHost: storm\r\nX-Request: 1\r\nConnection: close\r\n\r\n";
    stream.set_read_timeout(Some(PATIENCE)).is_ok()
        && stream.write_all(request).is_ok()
        && read_head(&mut BufReader::new(stream)).is_ok_and(|head| head.status == 200)
}

/// How long it takes until `seen`.
fn looked(begun: Instant, seen: impl Fn() -> bool) -> Duration {
    loop {
        if seen() || begun.elapsed() > PATIENCE {
            return begun.elapsed();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn tell(record: &Record, report: &mut Report) {
    report.figure("reloads", size(record.reloads), "");
    report.figure("  of them refused, as they should be", size(record.refused), "");
    report.exactly("answers that were wrong", size(record.wrong.len()), "", 0.0);
    for wrong in &record.wrong {
        report.figure(format!("  {wrong}"), 1.0, "");
    }
    let most = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    let middle = |all: &[f64]| median(all).unwrap_or(0.0);
    report.figure("until the answer, median", middle(&record.answers), "ms");
    report.figure("until the answer, most", most(&record.answers), "ms");
    for kind in ["targets", "timeouts and limits", "listener"] {
        let of_kind = record.took.iter().filter(|(what, _)| *what == kind);
        let took: Vec<f64> = of_kind.map(|(_, took)| *took).collect();
        report.figure(format!("until requests see it: {kind}, median"), middle(&took), "ms");
        report.at_most(
            format!("until requests see it: {kind}, most"),
            most(&took),
            "ms",
            EFFECTIVE,
        );
    }
}

fn tell_clients(crowd: &Crowd, streams: &Streams, report: &mut Report) {
    crowd.kept.tell("keep-alive", report);
    report.figure("connections of keep-alive clients", count(crowd.kept.connects()), "");
    report.exactly("of them closed", count(crowd.kept.closed()), "", 0.0);
    crowd.fresh.tell("fresh", report);
    streams.tell(report);
}

fn tell_holdings([some, all]: [Holdings; 2], report: &mut Report) {
    report.figure("memory after a tenth of the reloads", count(some.memory), "KiB");
    let more = count(all.memory) - count(some.memory);
    report.at_most("  more after all of them", more, "KiB", GROWTH_KIB);
    report.figure("descriptors after a tenth", size(some.descriptors), "");
    let more = size(all.descriptors) - size(some.descriptors);
    report.at_most("  more after all of them", more, "", GROWTH_DESCRIPTORS);
    report.figure("threads after a tenth", size(some.threads), "");
    report.at_most("  more after all of them", size(all.threads) - size(some.threads), "", 0.0);
}

/// What evenly says of itself.
fn tell_program(program: &Program, metrics: &str, report: &mut Report) {
    for name in [
        "evenly_worker_panics_total",
        "evenly_impossible_states_total",
        "evenly_unavailable_answers_total",
        "evenly_upstream_connect_failures_total",
        "evenly_access_entries_lost_total",
    ] {
        report.exactly(name, metric(metrics, name).unwrap_or(f64::NAN), "", 0.0);
    }
    let replayed = metric(metrics, "evenly_requests_replayed_total").unwrap_or(f64::NAN);
    report.exactly("evenly_requests_replayed_total", replayed, "", 0.0);
    let is_error = |line: &str| line.contains(" ERROR ") && !line.contains("reload refused");
    let errors = program.process.lines(is_error);
    report.exactly("errors in its log", size(errors.len()), "", 0.0);
    for line in errors.iter().take(5) {
        report.figure(format!("  {line}"), 1.0, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_ends_as_it_began() {
        let mut plan = BASE;
        for (step, _) in STEPS {
            plan = plan.after(step);
        }
        assert_eq!(plan, BASE);
    }

    #[test]
    fn a_minute_has_two_hundred_reloads_that_are_looked_at() {
        let of = |seconds| looked_at(Duration::from_secs(seconds)).ok();
        assert_eq!([of(60), of(12), of(6), of(5)], [Some(200), Some(40), Some(20), None]);
    }

    #[test]
    fn a_fifth_of_the_files_is_refused() {
        let broken = STEPS.iter().filter(|(step, _)| matches!(step, Step::Broken(_)));
        assert_eq!(broken.count() * 5, CYCLE);
    }
}
