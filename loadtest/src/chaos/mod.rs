//! Faults on purpose, with real processes: evenly with two workers before origins that die, hang and
//! flap, without descriptors or local ports, stopped and let go on, and beside clients that are slow or leave.
//!
//! Each scenario begins with servers of its own and ends with what honest clients noticed. Everything
//! that is killed or stopped was started here and is known by its process id.

mod crowd;
mod deaths;
pub(crate) mod failover;
mod floods;
pub(crate) mod origin;
mod ports;
mod reasons;
mod stalls;

use std::net::SocketAddr;
use std::time::Duration;

use crate::Failure;
use crate::report::Report;
use crate::servers::{Bench, Subject};

pub(crate) use crowd::size;

use crowd::Method;
use deaths::Act;
use reasons::judge_reasons;
use stalls::Waits;

/// How long all scenarios together may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// Honest clients of the scenarios about targets.
const CLIENTS: usize = 32;

/// From one probe of a target to the next.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a probe may take.
const PROBE: Duration = Duration::from_millis(250);
/// How long a target may take to begin its answer before it counts as hung.
const RESPONSE_HEADER: Duration = Duration::from_secs(1);
/// The same where targets are busy, not hung.
const BUSY: Duration = Duration::from_secs(10);
/// How long a client may take for its head.
const CLIENT_HEADER: Duration = Duration::from_secs(4);

type Scenario = fn(&Bench, &mut Report) -> Result<(), Failure>;

/// What GETs notice of a killed target is `failover`'s, which takes other proxies too.
const SCENARIOS: [(&str, Scenario); 12] = [
    ("kill, POST", |bench, report| deaths::scene(bench, Act::Kill, Method::Post, report)),
    ("flap, GET", |bench, report| deaths::scene(bench, Act::Flap, Method::Get, report)),
    ("flap, POST", |bench, report| deaths::scene(bench, Act::Flap, Method::Post, report)),
    ("hang, GET", |bench, report| deaths::scene(bench, Act::Hang, Method::Get, report)),
    ("hang, POST", |bench, report| deaths::scene(bench, Act::Hang, Method::Post, report)),
    ("descriptors", floods::descriptors),
    ("slow heads", floods::slow_heads),
    ("aborts", floods::aborts),
    ("pause, answers", |bench, report| stalls::pause(bench, Waits::ForAnswers, report)),
    ("pause, connects", |bench, report| stalls::pause(bench, Waits::ForConnects, report)),
    ("hung target", stalls::hung_target),
    (ports::NAME, ports::ports),
];

/// Plays every scenario whose name contains `only`.
pub(crate) fn chaos(bench: &Bench, only: &str, report: &mut Report) -> Result<(), Failure> {
    for (name, scenario) in SCENARIOS.into_iter().filter(|(name, _)| name.contains(only)) {
        eprintln!("chaos: {name}");
        scenario(bench, report).map_err(|why| Failure::new(format!("{name}: {why}")))?;
        if !ports::is_inside() {
            report.verdict();
        }
    }
    Ok(())
}

/// Reports how often evenly took a target out, by checks or by ejection, and its words. Where every target is sound,
/// each is a mistake.
fn judge_blame(subject: &Subject, report: &mut Report) {
    let blame = |line: &str| line.contains(" is down") || line.contains(" ejected ");
    let lines = subject.process.lines(blame);
    report.exactly("sound targets taken out", size(lines.len()), "", 0.0);
    for line in lines {
        report.figure(format!("  {line}"), 1.0, "");
    }
}

/// The configuration of every scenario.
fn config(targets: &[SocketAddr], response_header: Duration) -> String {
    let targets: String = targets
        .iter()
        .map(|address| {
            format!("[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n")
        })
        .collect();
    format!(
        "{targets}[health]\ninterval = \"{}ms\"\ntimeout = \"{}ms\"\n\
         [timeouts]\nresponse_header = \"{}ms\"\nclient_header = \"{}ms\"\n",
        INTERVAL.as_millis(),
        PROBE.as_millis(),
        response_header.as_millis(),
        CLIENT_HEADER.as_millis()
    )
}
