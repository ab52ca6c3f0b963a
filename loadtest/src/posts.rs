//! POSTs beside targets that close idle connections: a proxy that sends one on a connection which its target is about to
//! close loses it, since it may not be sent twice. gunicorn closes after 2 s, hypercorn and node after 5 s.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::chaos::origin::Manner;
use crate::client::Client;
use crate::report::{Report, count};
use crate::servers::{Bench, Kind};

/// Clients that all send at the same moment, so that each finds a connection that was idle for as long as theirs.
const CLIENTS: usize = 20;
/// How far from the targets' own time the gaps between two POSTs go, in milliseconds.
const AROUND: i64 = 7;
/// How long it waits in the first place, so that a proxy may see what its targets do.
const LOOK: Duration = Duration::from_millis(500);

/// What one POST came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Status(u16),
    Failed,
}

/// Sends `rounds` times [`CLIENTS`] POSTs on kept connections, with gaps around `idle`.
pub(crate) fn posts(
    bench: &Bench,
    kind: Kind,
    (idle, rounds): (Duration, usize),
    report: &mut Report,
) -> Result<(), Failure> {
    let millis = u64::try_from(idle.as_millis())?;
    let origins = bench.scripted([Manner::leaving(millis); 2])?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.subject(kind, &targets)?;
    let first = send(subject.address, &[Duration::ZERO, idle + LOOK])?;
    let gaps: Vec<Duration> = (0..rounds).map(|round| gap(idle, round, rounds)).collect();
    let fates = send(subject.address, &gaps)?;
    report.section(format!(
        "{}: POSTs of {CLIENTS} clients on kept connections, {rounds} times, with gaps of {idle:?} and up to {AROUND} ms \
         less or more; targets close idle connections after {idle:?}",
        kind.name()
    ));
    report.figure("POSTs before, while it may look", count(first.len() as u64), "");
    report.figure("  without an answer", lost(&first, |fate| fate != Fate::Answered), "");
    report.figure("POSTs", count(fates.len() as u64), "");
    report.exactly("answered 502", lost(&fates, |fate| fate == Fate::Status(502)), "", 0.0);
    let other = |fate| !matches!(fate, Fate::Answered | Fate::Status(502));
    report.exactly("failed otherwise", lost(&fates, other), "", 0.0);
    Ok(())
}

/// The gaps go evenly from a little less than the targets' time to a little more.
fn gap(idle: Duration, round: usize, rounds: usize) -> Duration {
    let of = i64::try_from(rounds).unwrap_or(1).max(2) - 1;
    let micros = 2000 * AROUND * i64::try_from(round).unwrap_or(0) / of - 1000 * AROUND;
    let idle = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
    Duration::from_micros(u64::try_from(idle + micros).unwrap_or(0))
}

fn lost(fates: &[Fate], is: impl Fn(Fate) -> bool) -> f64 {
    count(fates.iter().filter(|fate| is(**fate)).count() as u64)
}

/// All clients send at once, after each gap, counted from the last answer of all.
fn send(address: SocketAddr, gaps: &[Duration]) -> Result<Vec<Fate>, Failure> {
    let mut clients: Vec<Option<Client>> = (0..CLIENTS).map(|_| None).collect();
    let mut fates = Vec::new();
    // Connections behind the subject are used and idle from now on.
    at_once(&mut clients, address, Instant::now())?;
    for gap in gaps {
        fates.extend(at_once(&mut clients, address, Instant::now() + *gap)?);
    }
    Ok(fates)
}

fn at_once(
    clients: &mut [Option<Client>],
    address: SocketAddr,
    when: Instant,
) -> Result<Vec<Fate>, Failure> {
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    thread::sleep(when.saturating_duration_since(Instant::now()));
                    one(client, address)
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Failure::new("a client panicked")));
        joined.collect()
    })
}

/// One POST, on the open connection or a new one.
fn one(open: &mut Option<Client>, address: SocketAddr) -> Fate {
    let client = open.take().map_or_else(|| Client::connect(address), Ok);
    let Ok(mut client) = client else { return Fate::Failed };
    let request =
        b"POST /order HTTP/1.1\r\nHost: posts\r\nX-Request: 1\r\nContent-Length: 5\r\n\r\nspell";
    let mut body = Vec::new();
    match client.ask(request, &mut body) {
        Ok(head) => {
            if !head.last {
                *open = Some(client);
            }
            match head.status {
                200 if body == b"spell" => Fate::Answered,
                200 => Fate::Failed,
                status => Fate::Status(status),
            }
        }
        Err(_) => Fate::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lie_evenly_around_the_targets_time() {
        let idle = Duration::from_secs(2);
        let millis = |round| gap(idle, round, 15).as_secs_f64() * 1000.0;
        assert!((millis(0) - 1993.0).abs() < 1e-9);
        assert!((millis(7) - 2000.0).abs() < 1e-9);
        assert!((millis(14) - 2007.0).abs() < 1e-9);
        assert!(gap(idle, 0, 1) <= idle);
    }
}
