//! Targets that die, hang and flap under load.
//!
//! A GET goes to an nginx; a POST to a scripted origin, which can tell whether it saw one twice.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::report::Report;
use crate::servers::{Bench, Origin, Subject};

use super::crowd::{Account, Crowd, Method, size, under_load};
use super::origin::{Manner, seen};
use super::{CLIENTS, INTERVAL, PROBE, RESPONSE_HEADER, config, judge_reasons};

/// How long the load runs before, between and after faults.
const CALM: Duration = Duration::from_secs(1);
/// How long a killed or hung target stays away.
const AWAY: Duration = Duration::from_secs(2);
/// From a death to a birth and the other way round, when a target flaps.
const FLAP: Duration = Duration::from_millis(300);
/// How often it dies then.
const FLAPS: usize = 8;
/// What a timeout or a probe may take longer than it should, on a busy machine.
const SLACK: Duration = Duration::from_millis(500);
/// How long evenly may take to say that all targets are healthy again.
const RECOVERY: Duration = Duration::from_secs(5);

/// What happens to the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Each is killed once and started again.
    Kill,
    /// One dies and returns again and again.
    Flap,
    /// One is stopped, and goes on later.
    Hang,
}

/// What was done, for the verdict.
struct Deed {
    /// How many processes were killed.
    kills: usize,
    /// When a target was stopped.
    hung: Option<Instant>,
}

/// Plays one act before a crowd and reports what it noticed.
pub(crate) fn scene(
    bench: &Bench,
    act: Act,
    method: Method,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut origins = match method {
        Method::Get => bench.origins()?,
        Method::Post => bench.scripted([Manner::working(1); 2])?,
    };
    let targets = origins.each_ref().map(|origin| origin.address);
    let mut subject = bench.evenly_with(&config(&targets, RESPONSE_HEADER), None)?;
    let crowd = Crowd { address: subject.address, method, clients: CLIENTS };
    let (deed, account) = under_load(crowd, || {
        thread::sleep(CALM);
        let deed = play(act, &mut origins)?;
        recover(&mut subject)?;
        thread::sleep(CALM);
        Ok(deed)
    })?;
    report.section(title(act, method));
    account.tell(report);
    match method {
        Method::Get => judge_gets(&account, &deed, report),
        Method::Post => judge_posts(&account, &deed, &origins, report)?,
    }
    judge_reasons(bench, &subject, account.failed(), report)
}

fn title(act: Act, method: Method) -> String {
    let what = match act {
        Act::Kill => "each of 2 targets killed once (SIGKILL) and started again".to_owned(),
        Act::Flap => format!("1 of 2 targets killed {FLAPS} times, every {FLAP:?} away or back"),
        Act::Hang => format!("1 of 2 targets hung (SIGSTOP) for {AWAY:?}, then let go on"),
    };
    let behind = match method {
        Method::Get => "GET, nginx",
        Method::Post => "POST, scripted targets",
    };
    format!("{what}; {CLIENTS} clients, {behind}")
}

fn play(act: Act, origins: &mut [Origin; 2]) -> Result<Deed, Failure> {
    let (times, away) = match act {
        Act::Kill => (2, AWAY),
        Act::Flap => (FLAPS, FLAP),
        Act::Hang => return hang(&origins[0]),
    };
    for time in 0..times {
        let which = if act == Act::Kill { time } else { 0 };
        origins[which].kill();
        thread::sleep(away);
        origins[which].restart()?;
        // The next one must not be the last one that is healthy.
        thread::sleep(if act == Act::Kill { INTERVAL + PROBE + SLACK } else { FLAP });
    }
    Ok(Deed { kills: times, hung: None })
}

fn hang(origin: &Origin) -> Result<Deed, Failure> {
    let hung = Instant::now();
    origin.process.suspend()?;
    thread::sleep(AWAY);
    origin.process.resume()?;
    Ok(Deed { kills: 0, hung: Some(hung) })
}

/// Waits until evenly says that both targets are healthy, whether it just did or will.
fn recover(subject: &mut Subject) -> Result<(), Failure> {
    let since = Instant::now() - (INTERVAL + PROBE + SLACK);
    let healthy = |line: &str| line.contains("healthy endpoints: 2").then_some(());
    match subject.process.line(since, RECOVERY, healthy) {
        Some(_) => Ok(()),
        None => Err(subject.process.complaint("did not find its targets healthy again")),
    }
}

/// No GET may fail, but for those that went to a hung target before a probe could find it so.
fn judge_gets(account: &Account, deed: &Deed, report: &mut Report) {
    match deed.hung {
        None => report.exactly("GETs failed", size(account.missed.len()), "", 0.0),
        Some(hung) => judge_hang(account, hung, report),
    }
}

fn judge_hang(account: &Account, hung: Instant, report: &mut Report) {
    let out = hung + INTERVAL + PROBE + SLACK;
    let late = account.inexcusable(|miss| miss.asked <= out);
    let other = account.inexcusable(|miss| miss.why == "status 504");
    let most = (RESPONSE_HEADER + SLACK).as_secs_f64() * 1000.0;
    report.exactly("failed after a probe must have found it", size(late), "", 0.0);
    report.exactly("failed otherwise than by a 504", size(other), "", 0.0);
    report.at_most("worst latency", account.percentile(100), "ms", most);
}

/// A POST may fail when its target dies with it in its hands: with a 502, at most one for each client
/// and kill. None may be seen twice.
fn judge_posts(
    account: &Account,
    deed: &Deed,
    origins: &[Origin],
    report: &mut Report,
) -> Result<(), Failure> {
    match deed.hung {
        Some(hung) => judge_hang(account, hung, report),
        None => {
            let other = account.inexcusable(|miss| miss.why == "status 502");
            let most = size(CLIENTS * deed.kills);
            report.exactly("failed otherwise than by a 502", size(other), "", 0.0);
            report.at_most("failed, one a client and kill", size(account.missed.len()), "", most);
        }
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for record in origins.iter().filter_map(|origin| origin.record.as_ref()) {
        seen(record)?.into_iter().for_each(|id| *times.entry(id).or_default() += 1);
    }
    let twice = times.values().filter(|times| **times > 1).count();
    let answered: HashSet<_> = account.answered.iter().collect();
    let unseen = answered.iter().filter(|id| !times.contains_key(**id)).count();
    report.figure("POSTs seen by the targets", size(times.len()), "");
    report.exactly("POSTs seen twice", size(twice), "", 0.0);
    report.exactly("POSTs answered but never seen", size(unseen), "", 0.0);
    Ok(())
}
