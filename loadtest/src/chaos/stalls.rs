//! A process that stands still, and a target that is silent.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::proc;
use crate::report::Report;
use crate::servers::Bench;
use crate::{Failure, steady};

use super::crowd::{Crowd, Method, size, under_load};
use super::floods::until;
use super::origin::Manner;
use super::{CLIENTS, RESPONSE_HEADER, config, judge_blame, judge_reasons};

/// How long the process stands still: longer than anything that is awaited then may take ([`RESPONSE_HEADER`], and
/// the second that a connection may take).
const PAUSE: Duration = Duration::from_millis(1300);
/// How often, and how long it runs between.
const PAUSES: usize = 4;
const BETWEEN: Duration = Duration::from_millis(600);
/// How long targets take for an answer, in milliseconds: it comes while the process stands still.
const WORK: u64 = 300;

/// What is under way when the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    ForAnswers,
    /// Targets close each connection after one answer.
    ForConnects,
}

/// Stops evenly again and again under load (SIGSTOP), each time for longer than its limits, and lets it go on: a host that is
/// busy, suspended or moved does the same. What had come in time counts, and nobody is blamed.
pub(crate) fn pause(bench: &Bench, waits: Waits, report: &mut Report) -> Result<(), Failure> {
    let (manner, what) = match waits {
        Waits::ForAnswers => (Manner::working(WORK), "answers that came meanwhile"),
        Waits::ForConnects => (Manner::closing(), "connections that were made meanwhile"),
    };
    let origins = bench.scripted([manner; 2])?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.evenly_with(&config(&targets, RESPONSE_HEADER), None)?;
    let crowd = Crowd { address: subject.address, method: Method::Get, clients: CLIENTS };
    let ((), account) = under_load(crowd, || {
        for _ in 0..PAUSES {
            thread::sleep(BETWEEN);
            subject.process.suspend()?;
            thread::sleep(PAUSE);
            subject.process.resume()?;
        }
        thread::sleep(BETWEEN);
        Ok(())
    })?;
    report.section(format!(
        "evenly stopped (SIGSTOP) {PAUSES} times for {PAUSE:?} under {CLIENTS} clients; {what}"
    ));
    account.tell(report);
    report.exactly("GETs failed", size(account.missed.len()), "", 0.0);
    judge_blame(&subject, report);
    judge_reasons(bench, &subject, account.failed(), report)
}

/// New clients per second, how long they wait, and how long they come.
const RATE: u32 = 60;
const LEAVE_AFTER: Duration = Duration::from_secs(2);
const COME_FOR: Duration = Duration::from_secs(12);
/// Client connections that evenly takes at the same time.
const SLOTS: usize = 200;
/// The share of clients that a sound target can serve in the last third of the time, in percent: half go there.
const SERVED: f64 = 45.0;
/// Connections to the hung target when everybody has left.
const LEFT: usize = 2;

/// One of two targets answers probes and nothing else. Clients come at a fixed rate and leave when they have no answer
/// after a while: the hung target may have its half of them and no more.
pub(crate) fn hung_target(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let origins = bench.scripted([Manner::hung(), Manner::working(1)])?;
    let targets = origins.each_ref().map(|origin| origin.address);
    // As it comes, but for the number of slots: how long an answer may take is the default's.
    let blocks: String = targets
        .map(|address| {
            format!("[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n")
        })
        .concat();
    let config = format!("{blocks}[limits]\nconnections = {SLOTS}\n[health]\ninterval = \"1s\"\n");
    let subject = bench.evenly_with(&config, None)?;
    steady::allow_descriptors(SLOTS + 1000)?;
    let served = come_and_leave(subject.address)?;
    let gone = until("", || Ok(proc::connections_to(targets[0])? <= LEFT));
    let share = |from: usize, to: usize| {
        let part = &served[served.len() * from / 3..served.len() * to / 3];
        size(part.iter().filter(|ok| **ok).count()) * 100.0 / size(part.len().max(1))
    };
    report.section(format!(
        "1 of 2 targets hung but for its probes; {RATE} new clients per second for {COME_FOR:?}, each leaves after {LEAVE_AFTER:?}"
    ));
    report.figure("clients", size(served.len()), "");
    report.figure("answered in the first third", share(0, 1), "%");
    report.figure("answered in the second", share(1, 2), "%");
    report.at_least("answered in the last", share(2, 3), "%", SERVED);
    report.exactly(
        format!("more than {LEFT} connections to the hung target afterwards"),
        f64::from(u8::from(gone.is_err())),
        "",
        0.0,
    );
    let failed = served.iter().filter(|ok| !**ok).count();
    judge_reasons(bench, &subject, failed, report)
}

/// Clients at a fixed rate, each with one request; whether each was answered, in the order in which they came.
fn come_and_leave(address: SocketAddr) -> Result<Vec<bool>, Failure> {
    let interval = Duration::from_secs(1) / RATE;
    let clients = u32::try_from(COME_FOR.as_nanos() / interval.as_nanos())?;
    let served = Mutex::new(vec![false; clients as usize]);
    let began = Instant::now();
    thread::scope(|scope| {
        for client in 0..clients {
            let due = began + interval * client;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let served = &served;
            scope.spawn(move || {
                let answer = Client::connect_for(address, LEAVE_AFTER)
                    .and_then(|mut client| client.get("/id"));
                if answer.is_ok_and(|answer| answer.status == 200) {
                    served.lock().unwrap_or_else(PoisonError::into_inner)[client as usize] = true;
                }
            });
        }
    });
    Ok(served.into_inner().unwrap_or_else(PoisonError::into_inner))
}
