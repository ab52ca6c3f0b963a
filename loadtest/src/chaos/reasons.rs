//! Whether each failure of a scenario has a reason, which is the same wherever evenly says it.

use std::fs;
use std::net::SocketAddr;

use crate::Failure;
use crate::client::Client;
use crate::report::{Report, count};
use crate::servers::{Bench, Subject};
use crate::told::{Failed, Told, differences, metric, unrest};

use super::crowd::size;
use super::floods::until;

/// Reports what evenly said of its failures when all is quiet, and whether it said the same everywhere. So many requests have
/// `failed` at clients.
pub(super) fn judge_reasons(
    bench: &Bench,
    subject: &Subject,
    failed: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let admin = |line: &str| line.contains("admin listening on http://");
    let lines = subject.process.lines(admin);
    let address = lines.first().and_then(|line| line.rsplit_once("http://")?.1.parse().ok());
    let admin = address.ok_or_else(|| subject.process.complaint("has no admin listener"))?;
    // What keeps it from being quiet is one of the differences.
    let _ = until("", || Ok(unrest(&ask(admin, "/metrics")?).is_none()));
    let (metrics, status) = (ask(admin, "/metrics")?, ask(admin, "/status")?);
    let access = fs::read_to_string(bench.path(Bench::ACCESS))?;
    let log = subject.process.lines(|_| true);
    let told = Told { access: &access, metrics: &metrics, status: &status, log: &log };
    let found = differences(&told);
    let said = Failed::of(&access).unwrap_or_default();
    report.figure("exchanges in the access log", count(said.exchanges), "");
    let lost = metric(&metrics, "evenly_access_entries_lost_total").unwrap_or(f64::NAN);
    report.exactly("entries that it has lost", lost, "", 0.0);
    for (what, reasons) in [("answered by evenly", &said.answered), ("cut", &said.cut)] {
        for (reason, times) in reasons {
            report.figure(format!("  {what}: {reason}"), count(*times), "");
        }
    }
    report.exactly("failures without a reason", size(said.unexplained.len()), "", 0.0);
    let most = count(said.explained());
    report.at_most("failed at clients, at most those with a reason", size(failed), "", most);
    report.exactly("differences of log, metrics and status", size(found.len()), "", 0.0);
    for difference in found {
        report.figure(format!("  {difference}"), 1.0, "");
    }
    Ok(())
}

/// What the admin listener answers.
fn ask(admin: SocketAddr, path: &str) -> Result<String, Failure> {
    let mut body = Vec::new();
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    Client::connect(admin)?.ask(request.as_bytes(), &mut body)?;
    Ok(String::from_utf8(body)?)
}
