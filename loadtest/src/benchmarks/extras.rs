//! What is no contest of all subjects under load: system calls, memory, two workers, many targets,
//! and what evenly's own options cost.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Run;
use super::contest::{self, Load, Record, Subject, WARM, contest, ratios};
use super::results::{Figure, Finding, Ratios, Target};
use super::statistics::{Ratio, middle, ratio};
use crate::Failure;
use crate::generator::http::Shape;
use crate::generator::origin::{FLAP_SECONDS, address};
use crate::generator::{Generator, Pace};
use crate::load::{SOCKET_CALLS, strace_counts};
use crate::proc;
use crate::process::{Cores, Process, command};
use crate::report::{count, median};
use crate::servers::Kind;

/// Requests while system calls are counted: enough that probes do not show.
const TRACED: u64 = 6_400;
/// Connections whose memory is counted.
const WEIGHED: usize = 1_800;
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_millis(700);
/// Likewise after the burst: whoever returns its buffers now and then shall have done so. Evenly does once a second.
pub(super) const AFTER_BURST: Duration = Duration::from_millis(3500);

/// Evenly's own pause between two probes of a target.
const PROBES: Duration = Duration::from_secs(5);
const WORKER_THREADS: &str = "Targets: evenly's worker threads alone, without the one that probes";

/// The CPUs this program may use before any were divided.
pub(super) fn all_cpus() -> Result<CpuSet, Failure> {
    Ok(sched_getaffinity(None)?)
}

type Part = fn(&mut Run, &CpuSet) -> Result<(), Failure>;

/// Runs every part that is wanted. One that fails leaves a note, not the others undone.
pub(super) fn extras(run: &mut Run, cpus: &CpuSet) -> Result<(), Failure> {
    let parts: [(&str, Part); 5] = [
        ("calls", system_calls),
        ("memory", memory),
        ("targets", many_targets),
        ("log", options),
        ("workers", two_workers),
    ];
    for (name, part) in parts {
        if run.wants(name) {
            run.say(name);
            if let Err(failure) = part(run, cpus) {
                run.results.notes.push(format!("{name}: {failure}"));
            }
        }
    }
    Ok(())
}

impl Run {
    pub(super) fn figure(
        &mut self,
        group: &str,
        subject: &str,
        what: &str,
        value: f64,
        unit: &str,
    ) {
        let [group, subject, what, unit] = [group, subject, what, unit].map(str::to_owned);
        self.results.figures.push(Figure { group, subject, what, value, unit });
    }

    /// What `value` of the figures, as [`Run::figure`] put it there.
    fn found(&self, group: &str, subject: &str, what: &str) -> Option<f64> {
        let figures = &mut self.results.figures.iter();
        figures
            .find(|one| one.group == group && one.subject == subject && one.what == what)
            .map(|one| one.value)
    }

    /// A saturated load of small requests.
    fn small(&self, connections: usize) -> Load {
        Load {
            shape: Shape::Bare,
            connections,
            pace: Pace::Closed,
            warm: WARM,
            slice: self.slice,
            rounds: self.rounds,
        }
    }
}

// System calls

fn system_calls(run: &mut Run, _: &CpuSet) -> Result<(), Failure> {
    const GROUP: &str = "System calls per GET";
    if !contest::has("strace") {
        return Err(Failure::new("strace is not installed"));
    }
    let generator = Generator::start()?;
    for subject in run.subjects(&generator)? {
        generator.open(subject.address, Shape::Bare, 32, WARM)?;
        let summary = run.bench.path("strace.txt");
        let mut strace = attach(&subject, &summary)?;
        let measured = generator.make(TRACED);
        strace.interrupt(Duration::from_secs(10))?;
        generator.close()?;
        let requests = count(measured?.requests.max(1));
        let calls = strace_counts(&fs::read_to_string(&summary)?);
        let each = |names: &[&str]| -> f64 {
            count(names.iter().filter_map(|name| calls.get(*name)).sum()) / requests
        };
        let all: f64 = calls.values().map(|calls| count(*calls)).sum::<f64>() / requests;
        let (sockets, epoll, futex) = (each(&SOCKET_CALLS), each(&["epoll_ctl"]), each(&["futex"]));
        let name = &subject.name;
        run.figure(GROUP, name, "all", all, "");
        run.figure(GROUP, name, "reads and writes", sockets, "");
        run.figure(GROUP, name, "epoll_ctl", epoll, "");
        run.figure(GROUP, name, "futex", futex, "");
        if name == "evenly" {
            let what = |call: &str| format!("system calls per GET: {call}");
            let targets = &mut run.results.targets;
            targets.push(
                Target::at_most(what("reads and writes of sockets"), sockets, 4.01, "").by("calls"),
            );
            targets.push(Target::at_most(what("epoll_ctl"), epoll, 0.01, "").by("calls"));
            targets.push(Target::at_most(what("futex"), futex, 0.01, "").by("calls"));
        }
    }
    Ok(())
}

/// Attaches strace to all processes of a subject; returns when it counts.
fn attach(subject: &Subject, summary: &std::path::Path) -> Result<Process, Failure> {
    let began = Instant::now();
    let mut command = command("strace", None);
    command.args(["-c", "-f", "-o"]).arg(summary);
    let pids = subject.processes();
    for pid in &pids {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = Process::start("strace", &mut command)?;
    for pid in pids {
        let wanted = format!("Process {pid} attached");
        let attached = |line: &str| line.contains(&wanted).then_some(());
        if strace.line(began, Duration::from_secs(10), attached).is_none() {
            return Err(strace.complaint("did not attach"));
        }
    }
    Ok(strace)
}

// Memory

fn memory(run: &mut Run, _: &CpuSet) -> Result<(), Failure> {
    const GROUP: &str = "Memory (Pss)";
    // Each subject is alone and fresh: what one run left in another's pools is not weighed.
    let generator = Generator::start()?;
    let subjects = run.subjects(&generator)?;
    for subject in subjects.iter().filter(|subject| subject.name != "floor") {
        match weigh(&generator, subject) {
            Ok([base, idle, in_flight, after]) => {
                let each = |bytes: f64| (bytes - base) / count(WEIGHED as u64) / 1024.0;
                let name = &subject.name;
                run.figure(GROUP, name, "base", base / 1024.0 / 1024.0, "MiB");
                run.figure(GROUP, name, "an idle connection", each(idle), "KiB");
                run.figure(GROUP, name, "a connection in flight", each(in_flight), "KiB");
                run.figure(GROUP, name, "a connection after the burst", each(after), "KiB");
            }
            Err(failure) => {
                run.results.notes.push(format!("memory of {}: {failure}", subject.name));
            }
        }
        generator.close()?;
    }
    let bounds = [
        ("base", 4.0, " MiB"),
        ("an idle connection", 0.25, " KiB"),
        ("a connection in flight", 0.40, " KiB"),
        ("a connection after the burst", 0.30, " KiB"),
    ];
    for (what, bound, unit) in bounds {
        if let Some(value) = run.found(GROUP, "evenly", what) {
            let target = Target::at_most(format!("memory: {what}"), value, bound, unit);
            run.results.targets.push(target.by("memory"));
        }
    }
    Ok(())
}

/// Bytes: after its first requests, with idle connections, with all of them in flight, and after all were answered.
fn weigh(generator: &Generator, subject: &Subject) -> Result<[f64; 4], Failure> {
    let after = |time| {
        thread::sleep(time);
        subject.memory().map(count)
    };
    // Scratch buffers and code that the first requests bring in are the base's, not a connection's.
    generator.open(subject.address, Shape::Bare, 8, 20)?;
    generator.close()?;
    let base = after(SETTLE)?;
    // A few at a time, so that idle clients do not need as many connections behind the subject.
    generator.open_gently(subject.address, WEIGHED)?;
    let idle = after(SETTLE)?;
    generator.hold()?;
    let in_flight = after(SETTLE)?;
    let answers = generator.release()?;
    if answers.failed() > 0 {
        return Err(Failure::new(format!("withheld answers: {}", answers.faults.describe())));
    }
    Ok([base, idle, in_flight, after(AFTER_BURST)?])
}

// Targets

fn many_targets(run: &mut Run, _: &CpuSet) -> Result<(), Failure> {
    let generator = Generator::start()?;
    let mut subjects = Vec::new();
    let cores = run.bench.cores;
    for (name, targets, flapping) in [
        ("2 targets", 2, false),
        ("10 targets", 10, false),
        ("1,000 targets", 1000, false),
        ("1,000 targets, half flapping", 1000, true),
    ] {
        let config = contest::targets(&many(&generator, targets, flapping));
        subjects.push(contest::evenly(&run.bench, &run.program, cores, name, &config, 1)?);
    }
    let ours = subjects.len();
    subjects.extend(explaining(run, &generator)?);
    // Every target is probed and connected to before it counts.
    thread::sleep(PROBES + Duration::from_secs(1));
    let load = Load { warm: 60, ..over_phases(run, subjects.len()) };
    let subjects: Vec<&Subject> = subjects.iter().collect();
    let records = contest(&generator, &subjects, &load);
    // Evenly is judged by evenly with 2 targets, HAProxy by HAProxy with as many.
    let (our_subjects, their_subjects) = subjects.split_at(ours);
    let (our_records, their_records) = records.split_at(ours);
    let mut found = over_first(our_subjects, our_records);
    for ratios in &found {
        let what = format!("evenly with {} over 2: CPU per request", ratios.subject);
        let target = Target::at_most(what, ratios.cpu.median, 1.10, "x");
        run.results.targets.push(target.spread(&ratios.cpu).by("targets"));
    }
    for (subject, record) in our_subjects.iter().zip(our_records) {
        let workers = middle(&record.rounds, |round| round.worker_micros);
        run.figure(WORKER_THREADS, &subject.name, "CPU per request", workers, "us");
        let over = our_records
            .first()
            .and_then(|first| ratio(&record.rounds, &first.rounds, |round| round.worker_micros));
        if let Some(over) = over {
            run.figure(WORKER_THREADS, &subject.name, "over 2 targets", over.median, "x");
        }
    }
    for subject in our_subjects {
        let probes = idle_share(subject)?;
        run.figure("Probes alone, every 5 s", &subject.name, "of a core", probes * 100.0, "%");
    }
    found.extend(over_first(their_subjects, their_records));
    let rows = subjects.iter().zip(&records).map(|(subject, record)| record.row(subject)).collect();
    let title = "Growing lists of targets, each program over itself with 2 of them".to_owned();
    run.results.works.push(Finding {
        name: "targets".to_owned(),
        title,
        rate: None,
        rows,
        ratios: found,
        floors: Vec::new(),
    });
    Ok(())
}

/// Many targets, all of them the generator's origin, each at an address of its own.
fn many(generator: &Generator, targets: usize, flapping: bool) -> Vec<SocketAddr> {
    let each = |at| SocketAddr::from((address(at, flapping), generator.port));
    (0..targets).map(each).collect()
}

/// HAProxy with few targets and with many, where it takes part: what connections cost anybody that were used long
/// ago and are not in any cache of the CPU.
fn explaining(run: &mut Run, generator: &Generator) -> Result<Vec<Subject>, Failure> {
    let mut found = Vec::new();
    if run.peers.0.contains(&Kind::Haproxy) {
        for (name, targets) in [("haproxy, 2 targets", 2), ("haproxy, 1,000 targets", 1000)] {
            match contest::peer(&run.bench, Kind::Haproxy, &many(generator, targets, false)) {
                Ok(subject) => found.push(Subject { name: name.to_owned(), ..subject }),
                Err(failure) => run.results.notes.push(format!("{name}: {failure}")),
            }
        }
    }
    Ok(found)
}

/// A load that meets the flapping targets in both of their phases, more than once.
fn over_phases(run: &Run, subjects: usize) -> Load {
    let small = run.small(64);
    if run.quick {
        return small;
    }
    let slice = small.slice.max(Duration::from_millis(500));
    let phases = Duration::from_secs(8 * FLAP_SECONDS);
    let round = slice * u32::try_from(2 * subjects).unwrap_or(u32::MAX);
    let enough = usize::try_from(phases.as_millis().div_ceil(round.as_millis())).unwrap_or(0);
    Load { slice, rounds: small.rounds.max(enough), ..small }
}

/// Each record over the first.
fn over_first(subjects: &[&Subject], records: &[Record]) -> Vec<Ratios> {
    let others = subjects.iter().zip(records).skip(1);
    others.filter_map(|(subject, record)| ratios(subject, record, records.first()?)).collect()
}

/// The share of a core that a subject uses without any load.
fn idle_share(subject: &Subject) -> Result<f64, Failure> {
    let pids = subject.processes();
    let (began, before) = (Instant::now(), proc::cpu_of_all(&pids)?);
    // Two rounds of probes.
    thread::sleep(2 * PROBES);
    let used = proc::cpu_of_all(&pids)? - before;
    Ok(count(used.ran) / 1e9 / began.elapsed().as_secs_f64())
}

/// A contest in which the others are judged by the first, not the first by them.
fn over_the_first(
    run: &mut Run,
    generator: &Generator,
    subjects: &[&Subject],
    load: &Load,
    title: (String, String),
) -> Vec<Ratios> {
    let records = contest(generator, subjects, load);
    let found = over_first(subjects, &records);
    let rows = subjects.iter().zip(&records).map(|(subject, record)| record.row(subject)).collect();
    let (name, title) = title;
    let ratios = found.clone();
    run.results.works.push(Finding { name, title, rate: None, rows, ratios, floors: Vec::new() });
    found
}

// The access log and the metrics

fn options(run: &mut Run, _: &CpuSet) -> Result<(), Failure> {
    let generator = Generator::start()?;
    let admin = free_address()?;
    let log = run.bench.path("access.log");
    let targets = contest::targets(&generator.targets);
    let configs = [
        ("as it comes", targets.clone()),
        (
            "access log (json)",
            format!("{targets}[log]\naccess = \"{}\"\nformat = \"json\"\n", log.display()),
        ),
        ("scraped every second", format!("{targets}[admin]\nlisten = \"{admin}\"\n")),
    ];
    let mut subjects = Vec::new();
    for (name, config) in &configs {
        let cores = run.bench.cores;
        subjects.push(contest::evenly(&run.bench, &run.program, cores, name, config, 1)?);
    }
    // Long enough for a scrape in every slice.
    let load = Load { slice: run.slice.max(Duration::from_secs(1)), ..run.small(64) };
    let title = ("log".to_owned(), "The access log and a scrape each second".to_owned());
    let found = while_scraped(admin, || {
        let subjects: Vec<&Subject> = subjects.iter().collect();
        over_the_first(run, &generator, &subjects, &load, title)
    });
    for (ratios, bound) in found.iter().zip([1.05, 1.01]) {
        let what = format!("evenly, {}, over without: CPU per request", ratios.subject);
        let target = Target::at_most(what, ratios.cpu.median, bound, "x");
        run.results.targets.push(target.spread(&ratios.cpu).by("log"));
    }
    Ok(())
}

/// Does `work` while the metrics are scraped every second.
pub(super) fn while_scraped<T>(admin: SocketAddr, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = scrape(admin);
                thread::sleep(Duration::from_secs(1));
            }
        });
        let found = work();
        over.store(true, Ordering::Relaxed);
        found
    })
}

/// A loopback address that was free a moment ago, for what cannot take port 0.
pub(super) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Reads the metrics.
fn scrape(admin: SocketAddr) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: scrape\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

// Two workers

fn two_workers(run: &mut Run, cpus: &CpuSet) -> Result<(), Failure> {
    const GROUP: &str = "Two workers, nothing pinned";
    let mine = sched_getaffinity(None)?;
    // Children and the generator's thread take this on; the main thread has it back at the end.
    sched_setaffinity(None, cpus)?;
    let done = on_all_cpus(run, GROUP);
    sched_setaffinity(None, &mine)?;
    done
}

fn on_all_cpus(run: &mut Run, group: &str) -> Result<(), Failure> {
    let generator = Generator::start()?;
    let admin = free_address()?;
    let targets = contest::targets(&generator.targets);
    let watched = format!("{targets}[admin]\nlisten = \"{admin}\"\n");
    let cores = Cores::shared();
    let start = |name, config: &str, workers| {
        contest::evenly(&run.bench, &run.program, cores, name, config, workers)
    };
    let subjects = [start("one worker", &targets, 1)?, start("two workers", &watched, 2)?];
    let mut busiest = 0.0;
    for connections in [32, 64] {
        let mut shares = Vec::new();
        for _ in 0..run.rounds.max(5) {
            generator.open(subjects[1].address, Shape::Bare, connections, 1)?;
            shares.extend(busiest_share(&scrape(admin)?));
            generator.close()?;
        }
        let share = median(&shares).ok_or_else(|| Failure::new("no worker in the metrics"))?;
        let most = shares.iter().copied().fold(0.0, f64::max);
        let name = format!("{connections} connections");
        run.figure(group, &name, "busiest worker's share, median", share * 100.0, "%");
        run.figure(group, &name, "busiest worker's share, most", most * 100.0, "%");
        let what = format!("two workers, {name}: share of the busiest");
        let target = Target::at_most(what, most * 100.0, 52.0, " %");
        run.results.targets.push(target.by("workers"));
        busiest = most;
    }
    let subjects = subjects.each_ref();
    let load = run.small(64);
    let title = ("workers".to_owned(), "One worker and two, nothing pinned".to_owned());
    let found = over_the_first(run, &generator, &subjects, &load, title);
    // Both cores are the generator's as well: what two workers could do is what a request costs them,
    // and that the busiest is the first to have no more.
    if let Some(ratios) = found.first() {
        let what = "two workers over one: throughput by CPU accounting";
        let by_cpu = |cost: f64| 1.0 / (cost * busiest);
        let target = Target::at_least(what, by_cpu(ratios.cpu.median), 1.8, "x");
        let spread = Ratio {
            median: by_cpu(ratios.cpu.median),
            least: by_cpu(ratios.cpu.most),
            most: by_cpu(ratios.cpu.least),
            ..ratios.cpu.clone()
        };
        run.results.targets.push(target.spread(&spread).by("workers"));
    }
    Ok(())
}

/// The share of the connections of the worker that has most.
fn busiest_share(metrics: &str) -> Option<f64> {
    let line = |line: &str| {
        line.strip_prefix("evenly_client_connections{worker=")?.rsplit_once(' ')?.1.parse().ok()
    };
    let each: Vec<f64> = metrics.lines().filter_map(line).collect();
    let sum: f64 = each.iter().sum();
    (sum > 0.0).then(|| each.iter().copied().fold(0.0, f64::max) / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_busiest_worker_in_the_metrics() {
        let text = "evenly_client_connections{worker=\"0\"} 12\n\
                    evenly_client_connections{worker=\"1\"} 20\nevenly_client_connections_limit 9\n";
        assert_eq!(busiest_share(text), Some(0.625));
        assert_eq!(busiest_share(""), None);
    }
}
