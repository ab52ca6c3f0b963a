//! Two short proofs: that sequential requests alternate exactly, and what an idle connection weighs.

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::report::{Report, count};
use crate::servers::{Bench, Kind};
use crate::{Failure, proc};

/// Descriptors this program needs beside its connections.
pub(crate) const SPARE_DESCRIPTORS: usize = 64;

/// Sends `requests` requests one after another, on one connection and then on fresh ones, and counts
/// how often an origin answered twice in a row.
pub(crate) fn shares(
    bench: &Bench,
    kind: Kind,
    requests: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let origins = bench.origins()?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.subject(kind, &targets)?;
    let mut kept = Client::connect(subject.address)?;
    let on_one: Vec<_> = (0..requests).map(|_| who(&mut kept)).collect::<Result<_, _>>()?;
    let on_fresh: Vec<_> = (0..requests)
        .map(|_| who(&mut Client::connect(subject.address)?))
        .collect::<Result<_, _>>()?;
    for (how, order) in [("one connection", &on_one), ("a fresh connection each", &on_fresh)] {
        report.section(format!("{}: {requests} requests in sequence on {how}", kind.name()));
        let [a, b] = origins.each_ref().map(|origin| tally(order, origin.name));
        report.figure("answered by a", count(a), "");
        report.figure("answered by b", count(b), "");
        report.at_most("difference of the shares", count(a.abs_diff(b)), "", 1.0);
        report.exactly("twice in a row", count(repeats(order)), "", 0.0);
    }
    Ok(())
}

/// Which origin answers the next request.
fn who(client: &mut Client) -> Result<String, Failure> {
    let answer = client.get("/")?;
    match answer.origin {
        Some(origin) if answer.status == 200 => Ok(origin),
        _ => Err(Failure::new(format!("an answer with status {}", answer.status))),
    }
}

fn tally(order: &[String], name: &str) -> u64 {
    order.iter().map(|who| u64::from(who == name)).sum()
}

fn repeats(order: &[String]) -> u64 {
    order.windows(2).map(|pair| u64::from(pair[0] == pair[1])).sum()
}

/// Opens `connections` keep-alive connections with one request each and reports the memory of the
/// subject for one of them while all idle, then asks once more on every one.
pub(crate) fn idle(
    bench: &Bench,
    kind: Kind,
    connections: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    allow_descriptors(connections + SPARE_DESCRIPTORS)?;
    let origins = bench.origins()?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.subject(kind, &targets)?;
    let pid = subject.process.pid();
    drop(ask_once(subject.address)?);
    let before = proc::pss(pid)?;
    let mut clients =
        (0..connections).map(|_| ask_once(subject.address)).collect::<Result<Vec<_>, _>>()?;
    let after = proc::pss(pid)?;
    let alive = clients.iter_mut().filter_map(|client| client.get("/").ok()).count();
    let each = count(after.saturating_sub(before)) / count(u64::try_from(connections)?);
    report.section(format!("{}: {connections} idle keep-alive connections", kind.name()));
    report.figure("Pss before", count(before / 1024), "KiB");
    report.figure("Pss with them", count(after / 1024), "KiB");
    report.at_most("memory for each", each, "B", 1024.0);
    let lost = u64::try_from(connections - alive)?;
    report.exactly("that did not answer again", count(lost), "", 0.0);
    Ok(())
}

fn ask_once(address: SocketAddr) -> Result<Client, Failure> {
    let mut client = Client::connect(address)?;
    client.get("/")?;
    Ok(client)
}

/// Raises this program's own limit of open files as far as it may.
pub(crate) fn allow_descriptors(wanted: usize) -> Result<(), Failure> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let wanted = u64::try_from(wanted)?;
    match maximum {
        Some(most) if most < wanted => Err(Failure::new(format!(
            "only {most} descriptors are allowed (ulimit -Hn), {wanted} are needed: use --idle"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_an_origin_that_answers_twice_in_a_row() {
        let order = ["a", "b", "b", "a"].map(str::to_owned);
        assert_eq!(repeats(&order), 1);
        assert_eq!((tally(&order, "a"), tally(&order, "b")), (2, 2));
    }
}
