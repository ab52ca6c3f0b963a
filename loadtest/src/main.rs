//! Real load on `evenly` and its peers: wrk and oha before it, nginx origins behind it, all on this
//! machine and on loopback. See `loadtest --help`; the Makefile holds the usual calls.
//!
//! Exit codes: 0 every promise kept, 1 one broken or a run that failed, 2 a tool that is missing.

#![forbid(unsafe_code)]

mod benchmarks;
mod big;
mod chaos;
mod client;
mod compare;
mod floor;
mod generator;
mod load;
mod mixed;
mod peers;
mod posts;
mod proc;
mod process;
mod report;
mod servers;
mod steady;
mod storms;
mod told;
mod tools;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use big::Transfer;
use load::Shape;
use process::Cores;
use report::Report;
use servers::{Bench, Kind};

/// How long the slow reader of a large body waits before its first byte.
const HESITATION: Duration = Duration::from_secs(1);

/// Seconds of a load, unless the command line or the run says otherwise.
const SECONDS: u64 = 10;

/// Why a run could not be finished.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// Drives evenly with real load, on loopback, and prints what it did and what it cost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    run: Run,
    /// What is measured
    #[arg(long, global = true, value_enum, default_value_t = Kind::Evenly)]
    subject: Kind,
    /// The evenly binary [default: the one beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    evenly: Option<PathBuf>,
    /// Also writes the results as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Client connections under load
    #[arg(long, global = true, default_value_t = 64, value_parser = number(1, 10_000))]
    connections: u64,
    /// Seconds of each load [default: 10, or what the run says]
    #[arg(long, global = true, value_parser = number(1, 600))]
    seconds: Option<u64>,
    /// Seconds between two probes of a target [default: the subject's own 5]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = interval)]
    interval: Option<f64>,
    /// Seconds after which a run that has not ended is given up
    #[arg(long, global = true, default_value_t = 1_800, value_parser = number(1, 86_400))]
    limit: u64,
}

#[derive(Subcommand, Clone)]
enum Run {
    /// wrk and oha: requests/s, latency, errors, CPU and system calls per request
    Load,
    /// Every peer before two origins: which are here, and does each do what the others do?
    Peers,
    /// The same work through several proxies in alternating slices
    Compare {
        /// Who takes part: names with commas between them, the first against each other, or "all" that are here
        /// [default: the subject, haproxy and nginx]
        #[arg(long, value_name = "LIST", value_parser = Peers::parse)]
        peers: Option<Peers>,
        /// Rounds, each with two slices of every proxy
        #[arg(long, default_value_t = 9, value_parser = number(1, 200))]
        rounds: u64,
        /// Seconds of a slice
        #[arg(long, default_value_t = 1, value_parser = number(1, 60))]
        slice: u64,
    },
    /// What access logs, scrapes, request IDs and traces cost, and this build over another: CPU per request
    Costs(benchmarks::costs::Costs),
    /// Origins are killed and return under load
    Failover,
    /// POSTs on kept connections beside targets that close idle ones: how many are lost
    Posts {
        /// Seconds after which targets close an idle connection: 2 as gunicorn, 5 as hypercorn
        #[arg(long, default_value_t = 2.0, value_parser = interval)]
        idle: f64,
        /// Rounds, each with a POST of each of 20 clients
        #[arg(long, default_value_t = 14, value_parser = number(1, 1000))]
        rounds: u64,
    },
    /// Targets killed, hung and flapping, descriptors and ports gone, pauses, slow and leaving clients: what is noticed
    Chaos {
        /// Only scenarios with this in their name
        #[arg(long, default_value = "")]
        only: String,
    },
    /// 200 reloads in 20 s, then 800 more, under keep-alive clients, tunnels and a download [default: 60 seconds]
    ReloadStorm,
    /// 50 upgrades under keep-alive clients and clients that connect for each request, five of them with what must be refused
    UpgradeStorm,
    /// SIGTERM with requests under way, and with clients that learn of it 10 s later
    DrainStorm,
    /// A server behind evenly that records which requests it saw; `chaos` starts it
    #[command(hide = true)]
    Origin(chaos::origin::Script),
    /// Everything that was promised, beside the floor and every peer that is here, and the document of it
    Benchmarks(benchmarks::Benchmarks),
    /// Small requests beside downloads, uploads, new connections: how long they wait, and how fast the others are
    Mixed(benchmarks::mixed::Mixed),
    /// The load generator by itself: closed loop or a fixed rate, every answer checked
    Drive(generator::drive::Drive),
    /// A byte shuttle that parses nothing: the least a proxy on this machine can cost
    Floor(floor::Floor),
    /// Memory of idle keep-alive connections
    Idle {
        /// How many
        #[arg(long, default_value_t = 5_000, value_parser = number(1, 1_000_000))]
        idle: u64,
    },
    /// Sequential requests alternate between the origins
    Shares {
        /// How many
        #[arg(long, default_value_t = 1_001, value_parser = number(2, 1_000_000))]
        requests: u64,
    },
    /// A large body up and one down, read slowly
    Big {
        /// Size of each body, in MiB
        #[arg(long, default_value_t = 1024, value_parser = number(1, 1 << 20))]
        mebibytes: u64,
        /// How fast it is read at most, in MiB/s
        #[arg(long, default_value_t = 256, value_parser = number(1, 1 << 20))]
        rate: u64,
    },
}

/// Who takes part in a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Peers {
    All,
    These(Vec<Kind>),
}

impl Arguments {
    /// How long the load runs, unless the command line says so.
    fn time(&self, otherwise: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(otherwise))
    }

    /// Whether it is one of those that end with a word.
    fn is_storm(&self) -> bool {
        matches!(self.run, Run::ReloadStorm | Run::UpgradeStorm | Run::DrainStorm)
    }
}

impl Peers {
    fn parse(list: &str) -> Result<Peers, String> {
        if list == "all" {
            return Ok(Peers::All);
        }
        list.split(',')
            .map(|name| Kind::from_str(name, false))
            .collect::<Result<_, _>>()
            .map_or_else(
                |_| Err(format!("all, or some of {}", Kind::ALL.map(Kind::name).join(","))),
                |kinds| Ok(Peers::These(kinds)),
            )
    }
}

fn number(least: u64, most: u64) -> clap::builder::RangedU64ValueParser {
    clap::builder::RangedU64ValueParser::new().range(least..=most)
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds from 0.01 to 3600 are meant".to_owned()),
    }
}

/// Ends the program when its time is up; the kernel then ends its children.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("loadtest: given up after {limit:?}");
        exit(1);
    });
}

/// How long the whole run may take.
fn limit(arguments: &Arguments) -> Duration {
    let limit = Duration::from_secs(arguments.limit);
    match arguments.run {
        Run::Chaos { .. } => limit.min(chaos::LIMIT),
        _ => limit,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Run::Origin(script) = &arguments.run {
        return chaos::origin::serve(script);
    }
    if let Run::Floor(floor) = &arguments.run {
        return ended(floor::serve(floor));
    }
    if let Run::Benchmarks(options) = &arguments.run {
        let (evenly, json) = (arguments.evenly.as_ref(), arguments.json.as_deref());
        return ended(benchmarks::benchmarks(options, evenly, json));
    }
    if let Run::Mixed(options) = &arguments.run {
        let times = [arguments.time(SECONDS), limit(&arguments)];
        return ended(benchmarks::mixed::alone(options, arguments.evenly.as_ref(), times));
    }
    give_up_after(limit(&arguments));
    if let Run::Drive(drive) = &arguments.run {
        return ended(drive_alone(drive, &arguments));
    }
    if let Some(line) = tools::missing(&needed(&arguments)) {
        eprintln!("loadtest: programs are missing; install them with\n\n    {line}\n");
        return ExitCode::from(2);
    }
    let mut report = Report::default();
    let outcome = measure(&arguments, &mut report);
    print!("{}", report.text());
    if arguments.is_storm() {
        let passed = outcome.is_ok() && report.broken() == 0;
        println!("\n{}", if passed { "PASSED" } else { "FAILED" });
    }
    let written = arguments.json.as_deref().map_or(Ok(()), |file| report.write_json(file));
    if let Err(failure) = outcome.and(written) {
        eprintln!("loadtest: {failure}");
        return ExitCode::FAILURE;
    }
    match report.broken() {
        0 => ExitCode::SUCCESS,
        broken => {
            eprintln!("\nloadtest: promises broken: {broken}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a run without a report.
fn ended(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    eprintln!("loadtest: {failure}");
    ExitCode::FAILURE
}

/// Drives on one CPU, as the benchmarks do, and leaves the others to the server.
fn drive_alone(drive: &generator::drive::Drive, arguments: &Arguments) -> Result<(), Failure> {
    Cores::divide()?;
    let connections = usize::try_from(arguments.connections)?;
    generator::drive::drive(drive, connections, arguments.time(SECONDS))
}

/// The programs without which the run cannot be made.
fn needed(arguments: &Arguments) -> Vec<tools::Tool> {
    let mut tools = vec![tools::SETPRIV, tools::TASKSET, tools::NGINX];
    match arguments.run {
        Run::ReloadStorm | Run::UpgradeStorm | Run::DrainStorm => return vec![tools::SETPRIV],
        Run::Costs(_) => return vec![tools::SETPRIV, tools::TASKSET],
        Run::Load => tools.extend([tools::WRK, tools::STRACE]),
        Run::Compare { peers: None, .. } => tools.extend([tools::WRK, tools::HAPROXY]),
        Run::Compare { .. } => tools.push(tools::WRK),
        _ => {}
    }
    if arguments.subject == Kind::Haproxy {
        tools.push(tools::HAPROXY);
    }
    tools
}

fn measure(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    if let Run::Chaos { only } = &arguments.run {
        let bench = Bench::on(Cores::shared(), arguments.evenly.clone(), None)?;
        return chaos::chaos(&bench, only, report);
    }
    if arguments.is_storm() {
        let bench = Bench::on(Cores::shared(), arguments.evenly.clone(), None)?;
        return match arguments.run {
            Run::ReloadStorm => storms::reload::reload_storm(&bench, arguments.time(60), report),
            Run::UpgradeStorm => storms::upgrade::upgrade_storm(&bench, report),
            _ => storms::drain::drain_storm(&bench, report),
        };
    }
    let bench = Bench::new(arguments.evenly.clone(), arguments.interval)?;
    eprintln!("loadtest: {}", bench.cores.describe());
    let connections = usize::try_from(arguments.connections)?;
    let shape = Shape { connections, duration: arguments.time(SECONDS) };
    let kind = arguments.subject;
    match &arguments.run {
        Run::Chaos { .. }
        | Run::ReloadStorm
        | Run::UpgradeStorm
        | Run::DrainStorm
        | Run::Origin(_)
        | Run::Benchmarks(_)
        | Run::Drive(_)
        | Run::Floor(_)
        | Run::Mixed(_) => Ok(()),
        Run::Costs(options) => benchmarks::costs::costs(options, &bench, report),
        Run::Peers => peers::peers(&bench, report),
        Run::Load => load::load(&bench, kind, shape, report),
        Run::Compare { peers, rounds, slice } => {
            let shape = Shape { duration: Duration::from_secs(*slice), ..shape };
            let kinds = compared(kind, peers.as_ref(), |kind| bench.program(kind).is_ok());
            compare::compare(&bench, &kinds, shape, usize::try_from(*rounds)?, report)
        }
        Run::Failover => {
            chaos::failover::failover(&bench, kind, connections, arguments.interval, report)
        }
        Run::Posts { idle, rounds } => {
            let length = (Duration::from_secs_f64(*idle), usize::try_from(*rounds)?);
            posts::posts(&bench, kind, length, report)
        }
        Run::Idle { idle } => steady::idle(&bench, kind, usize::try_from(*idle)?, report),
        Run::Shares { requests } => {
            steady::shares(&bench, kind, usize::try_from(*requests)?, report)
        }
        Run::Big { mebibytes, rate } => {
            let transfer = Transfer {
                mebibytes: *mebibytes,
                mebibytes_per_second: *rate,
                hesitation: HESITATION,
            };
            big::big(&bench, kind, transfer, report)
        }
    }
}

/// The subject first, then its rivals, each once.
fn compared(subject: Kind, peers: Option<&Peers>, is_here: impl Fn(Kind) -> bool) -> Vec<Kind> {
    let rivals: Vec<Kind> = match peers {
        Some(Peers::These(kinds)) => return kinds.clone(),
        Some(Peers::All) => Kind::ALL.into_iter().filter(|kind| is_here(*kind)).collect(),
        None => vec![Kind::Haproxy, Kind::Nginx],
    };
    let rivals = rivals.into_iter().filter(|kind| *kind != subject);
    std::iter::once(subject).chain(rivals).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn compares_the_subject_with_the_others_only() {
        let none = |_| false;
        assert_eq!(compared(Kind::Evenly, None, none), [Kind::Evenly, Kind::Haproxy, Kind::Nginx]);
        assert_eq!(compared(Kind::Haproxy, None, none), [Kind::Haproxy, Kind::Nginx]);
    }

    #[test]
    fn compares_those_named_or_all_that_are_here() {
        let these = Peers::parse("caddy,haproxy-3.0").unwrap();
        assert_eq!(compared(Kind::Evenly, Some(&these), |_| true), [Kind::Caddy, Kind::Haproxy3]);
        let here = |kind| kind == Kind::Sozu || kind == Kind::Evenly;
        assert_eq!(compared(Kind::Evenly, Some(&Peers::All), here), [Kind::Evenly, Kind::Sozu]);
        assert!(Peers::parse("caddy,varnish").unwrap_err().contains("nginx-1.26"));
    }
}
