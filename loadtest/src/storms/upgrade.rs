//! Upgrades under load: what clients notice, what scrapes see, and what is left of the processes before.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::report::{Report, count, median};
use crate::servers::Bench;
use crate::told::metric;

use super::crowd::{Crowd, Habit};
use super::program::{Places, Program};
use super::target::Target;
use super::{CLIENTS, size, until};

/// Upgrades, of which each of [`BAD`] is to be refused.
const UPGRADES: usize = 50;
/// Those by SIGUSR2: of so many one.
const SIGNALS: usize = 6;
const BAD: [(usize, Bad); 5] =
    [(8, Bad::Exits), (16, Bad::Hangs), (24, Bad::File), (32, Bad::Exits), (41, Bad::File)];
/// Workers, by turns.
const WORKERS: [usize; 5] = [2, 2, 3, 1, 4];
/// Clients that connect for each request, clients with slow requests, and the pauses of all.
const FRESH: usize = 12;
const SLOW: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// Keep-alive clients that are idle most of the time: a connection that is closed meanwhile is none that they wait for, but a request
/// that they send must be answered.
const IDLE: usize = 8;
const IDLE_PAUSE: Duration = Duration::from_secs(3);
/// Before the first upgrade, after the last one, and from one to the next.
const CALM: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_millis(400);
/// From one scrape to the next.
const SCRAPES: Duration = Duration::from_millis(25);
/// How long a successor may take, in the file.
const TIME: Duration = Duration::from_secs(3);
/// How long the old processes may take to end after the last upgrade: their drain, and some.
const DRAIN: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(20);
/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wrong with an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    /// The program ends at its start.
    Exits,
    /// The program does nothing.
    Hangs,
    /// The file is not valid.
    File,
}

/// All processes of a run, known by the folder of its files, which each has on its command line. Dropping it ends them.
struct Processes(PathBuf);

impl Processes {
    /// Those that there are.
    fn all(&self) -> Result<Vec<u32>, Failure> {
        let folder = self.0.to_string_lossy().into_owned();
        let own = std::process::id();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|it| it.parse().ok()) else { continue };
            // One that has ended since, or that nobody has waited for yet, has none.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if pid != own && String::from_utf8_lossy(&line).contains(&folder) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let all = self.all().unwrap_or_default().into_iter();
        for pid in all.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// What whoever commanded has seen.
#[derive(Default)]
struct Record {
    applied: usize,
    refused: usize,
    wrong: Vec<String>,
    took: Vec<f64>,
    most_processes: usize,
    left: usize,
}

/// What scrapes have seen.
#[derive(Default)]
struct Scrapes {
    made: u64,
    failed: BTreeMap<String, u64>,
    /// Values that were lower than before.
    lower: Vec<String>,
    last: HashMap<String, f64>,
}

fn text(places: &Places, targets: &[Target]) -> String {
    let mut text = format!("listen = \"{}\"\n{}\n{}", places.first, workers(0), places.admin());
    for Target { address, .. } in targets {
        text += &format!(
            "[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n"
        );
    }
    let (time, drain) = (TIME.as_millis(), DRAIN.as_millis());
    text + &format!("[timeouts]\nupgrade = \"{time}ms\"\ndrain = \"{drain}ms\"\n")
}

/// How many workers the file has for the successor of this number: as many as before, more, or fewer.
fn workers(number: usize) -> String {
    format!("workers = {}", WORKERS[number % WORKERS.len()])
}

/// Plays the storm.
pub(crate) fn upgrade_storm(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let began = Instant::now();
    let targets = [
        Target::start("a", began)?,
        Target::start("b", began)?,
        Target::start_failing("down", began)?,
    ];
    let processes = Processes(bench.path(""));
    let program = Program::start(bench, |places| text(places, &targets))?;
    let good = fs::read_to_string(&program.file)?;
    let crowd = Crowd::new(program.first);
    let over = AtomicBool::new(false);
    let (record, scrapes) = thread::scope(|scope| {
        let (crowd, over) = (&crowd, &over);
        let groups = [
            (CLIENTS, Habit::Kept, PAUSE),
            (IDLE, Habit::Kept, IDLE_PAUSE),
            (FRESH, Habit::Fresh, PAUSE),
            (SLOW, Habit::Slow, PAUSE),
        ];
        for (clients, habit, pause) in groups {
            for which in 0..clients {
                let name = format!("{habit:?}-{}-{which}", pause.as_millis());
                scope.spawn(move || crowd.ask(&name, habit, pause));
            }
        }
        let admin = program.admin;
        let scrapes = scope.spawn(move || scrape(admin, over));
        let mut record = Record::default();
        let outcome = play(&program, &processes, &good, &mut record);
        crowd.end();
        over.store(true, Ordering::Relaxed);
        let scrapes = scrapes.join().map_err(|_| Failure::new("the scrapes panicked"))?;
        outcome.map(|()| (record, scrapes))
    })?;
    let seen = program.ask("GET", "/metrics")?;
    report.section(format!(
        "{UPGRADES} upgrades under {CLIENTS} keep-alive clients, {IDLE} that are idle, {FRESH} that connect for each request and {SLOW} with slow \
         requests; 1 to 4 workers"
    ));
    tell(&record, report);
    for (who, tally) in
        [("keep-alive", &crowd.kept), ("fresh", &crowd.fresh), ("slow", &crowd.slow)]
    {
        tally.tell(who, report);
        tally.tell_ends(who, report);
    }
    report.exactly("requests at a target that is down", count(targets[2].served()), "", 0.0);
    tell_scrapes(&scrapes, report);
    for name in ["evenly_worker_panics_total", "evenly_impossible_states_total"] {
        report.exactly(name, metric(&seen, name).unwrap_or(f64::NAN), "", 0.0);
    }
    let asked = [&crowd.kept, &crowd.fresh, &crowd.slow].map(|it| it.answered() + it.failed());
    let counted = metric(&seen, "evenly_requests_total").unwrap_or(f64::NAN);
    report.exactly("evenly_requests_total", counted, "", count(asked.iter().sum()));
    let replayed = metric(&seen, "evenly_requests_replayed_total").unwrap_or(f64::NAN);
    report.figure("evenly_requests_replayed_total", replayed, "");
    report.verdict();
    Ok(())
}

/// All upgrades, and the end of all processes but the last one.
fn play(
    program: &Program,
    processes: &Processes,
    good: &str,
    record: &mut Record,
) -> Result<(), Failure> {
    let scripts = scripts(&processes.0)?;
    thread::sleep(CALM);
    for number in 0..UPGRADES {
        let due = Instant::now() + EVERY;
        let good = &good.replace(&workers(0), &workers(number));
        program.write(good)?;
        match BAD.iter().find(|(at, _)| *at == number) {
            Some((_, bad)) => refused(program, good, *bad, &scripts, record)?,
            None if number % SIGNALS == SIGNALS - 1 => signalled(program, record)?,
            None => {
                let begun = Instant::now();
                let (code, said) = program.upgrade(None)?;
                record.took.push(begun.elapsed().as_secs_f64() * 1000.0);
                match code {
                    Some(0) => record.applied += 1,
                    _ => {
                        record.wrong.push(format!("{number}: exit code {code:?}: {}", said.trim()));
                    }
                }
            }
        }
        record.most_processes = record.most_processes.max(processes.all()?.len());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    thread::sleep(CALM);
    // Under load still: an old one must not need its clients to be gone.
    let deadline = Instant::now() + END;
    let left = || Ok::<_, Failure>(processes.all()?.len().saturating_sub(1));
    while left()? > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    record.left = left()?;
    Ok(())
}

/// A program that ends, and one that does nothing.
fn scripts(folder: &Path) -> Result<[PathBuf; 2], Failure> {
    let write = |name: &str, line: &str| -> Result<PathBuf, Failure> {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    };
    // Its command line has the folder, by which it is found if nobody ends it.
    let log = folder.join("nothing");
    fs::write(&log, "")?;
    Ok([
        write("exits", "echo 'this program cannot start' >&2; exit 3")?,
        write("hangs", &format!("exec tail -f '{}'", log.display()))?,
    ])
}

/// An upgrade that must change nothing.
fn refused(
    program: &Program,
    good: &str,
    bad: Bad,
    [exits, hangs]: &[PathBuf; 2],
    record: &mut Record,
) -> Result<(), Failure> {
    let before = pid(program)?;
    if bad == Bad::File {
        program.write(&format!("{good}connect = \"soon\"\n"))?;
    }
    let other = match bad {
        Bad::Exits => Some(exits.as_path()),
        Bad::Hangs => Some(hangs.as_path()),
        Bad::File => None,
    };
    let (code, said) = program.upgrade(other)?;
    program.write(good)?;
    match code {
        Some(2) if pid(program)? == before => record.refused += 1,
        _ => record.wrong.push(format!("{bad:?}: exit code {code:?}: {}", said.trim())),
    }
    Ok(())
}

/// An upgrade without an answer.
fn signalled(program: &Program, record: &mut Record) -> Result<(), Failure> {
    let before = pid(program)?;
    let target = i32::try_from(before).ok().and_then(Pid::from_raw);
    kill_process(target.ok_or_else(|| Failure::new("it has no process"))?, Signal::USR2)?;
    match until("another process serves", || Ok(pid(program)? != before)) {
        Ok(()) => record.applied += 1,
        Err(why) => record.wrong.push(format!("SIGUSR2: {why}")),
    }
    Ok(())
}

/// The process that serves, as it says itself.
fn pid(program: &Program) -> Result<u64, Failure> {
    let said = program.ask("GET", "/status")?;
    let (_, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(body)?;
    status["pid"].as_u64().ok_or_else(|| Failure::new("its status has no process"))
}

/// Asks for the metrics until it is over, each time on a connection of its own.
fn scrape(admin: SocketAddr, over: &AtomicBool) -> Scrapes {
    let mut scrapes = Scrapes::default();
    while !over.load(Ordering::Relaxed) {
        match metrics(admin) {
            Ok(text) => scrapes.take(&text),
            Err(why) => *scrapes.failed.entry(why).or_default() += 1,
        }
        thread::sleep(SCRAPES);
    }
    scrapes
}

fn metrics(admin: SocketAddr) -> Result<String, String> {
    let plainly = |error: std::io::Error| super::crowd::plainly(&error);
    let mut stream = TcpStream::connect(admin).map_err(plainly)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(plainly)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: storm\r\n\r\n").map_err(plainly)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(plainly)?;
    match text.starts_with("HTTP/1.1 200 ") {
        true => Ok(text),
        false => Err(text.lines().next().unwrap_or("closed without a response").to_owned()),
    }
}

impl Scrapes {
    /// Compares every counter with what it was before.
    fn take(&mut self, text: &str) {
        self.made += 1;
        for (name, value) in text.lines().filter_map(counter) {
            let last = self.last.insert(name.to_owned(), value).unwrap_or(0.0);
            if value < last {
                self.lower.push(format!("{name}: {last} -> {value}"));
            }
        }
    }
}

/// A counter's series and value, if the line is one.
fn counter(line: &str) -> Option<(&str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let name = series.split('{').next()?;
    (name.ends_with("_total") && !line.starts_with('#')).then_some(())?;
    Some((series, value.parse().ok()?))
}

fn tell(record: &Record, report: &mut Report) {
    report.exactly("upgrades", size(record.applied), "", size(UPGRADES - BAD.len()));
    report.exactly(
        "upgrades refused, as they should be",
        size(record.refused),
        "",
        size(BAD.len()),
    );
    report.exactly("answers that were wrong", size(record.wrong.len()), "", 0.0);
    for wrong in &record.wrong {
        report.figure(format!("  {wrong}"), 1.0, "");
    }
    report.figure("until the answer, median", median(&record.took).unwrap_or(0.0), "ms");
    let most = record.took.iter().copied().fold(0.0, f64::max);
    report.figure("until the answer, most", most, "ms");
    report.figure("processes at the same time, most", size(record.most_processes), "");
    report.exactly("old processes left at the end", size(record.left), "", 0.0);
}

fn tell_scrapes(scrapes: &Scrapes, report: &mut Report) {
    report.figure("scrapes", count(scrapes.made), "");
    report.exactly("scrapes that failed", count(scrapes.failed.values().sum()), "", 0.0);
    for (why, times) in &scrapes.failed {
        report.figure(format!("  {why}"), count(*times), "");
    }
    report.figure("counters", size(scrapes.last.len()), "");
    report.exactly("counters that went back", size(scrapes.lower.len()), "", 0.0);
    for lower in scrapes.lower.iter().take(8) {
        report.figure(format!("  {lower}"), 1.0, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_go_back_are_seen_and_gauges_may() {
        let mut scrapes = Scrapes::default();
        scrapes.take("# TYPE a_total counter\na_total 3\nb_total{worker=\"0\"} 2\ngauge 9\n");
        scrapes.take("a_total 2\nb_total{worker=\"0\"} 2\ngauge 1\n");
        assert_eq!(scrapes.lower, ["a_total: 3 -> 2"]);
        assert_eq!((scrapes.made, scrapes.last.len()), (2, 2));
    }
}
