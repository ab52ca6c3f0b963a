//! Load from wrk and oha, and what it cost the subject in CPU and system calls.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::process::{Process, command, run};
use crate::report::{Report, count};
use crate::servers::{Bench, Kind, Subject};
use crate::{Failure, proc, tools};

/// Makes wrk print one line of JSON; it defines no per-request function, so it slows nothing down.
const WRK_SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"broken":%d,"bad_status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
"#;

/// Requests while system calls are counted, over all connections; enough that probes do not show.
const TRACED_REQUESTS: usize = 6_400;
/// The system calls that move bytes through sockets.
pub(crate) const SOCKET_CALLS: [&str; 10] = [
    "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto", "sendmsg",
    "sendmmsg",
];

/// What a load generator saw.
#[derive(Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Requests without an answer: failed connects, reads, writes, timeouts.
    pub(crate) broken: u64,
    /// Answers that were not 2xx.
    pub(crate) bad_status: u64,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.requests) / self.seconds
    }
}

/// The load of one measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// Loads the subject with wrk and, where it is installed, oha, and counts its system calls.
pub(crate) fn load(
    bench: &Bench,
    kind: Kind,
    shape: Shape,
    report: &mut Report,
) -> Result<(), Failure> {
    let origins = bench.origins()?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.subject(kind, &targets)?;
    let generators = [("wrk", wrk as Generator), ("oha", oha as Generator)];
    for (name, generator) in generators.into_iter().filter(|(name, _)| tools::find(name).is_some())
    {
        let before = proc::cpu(subject.process.pid())?;
        let load = generator(bench, subject.address, shape)?;
        let cost = proc::cpu(subject.process.pid())? - before;
        report.section(format!(
            "{} under {name}: {} connections, {:?}, 2 nginx origins, {} byte responses",
            kind.name(),
            shape.connections,
            shape.duration,
            crate::servers::BODY_BYTES,
        ));
        add_load(report, &load);
        report.figure("CPU per request", micros(cost.ran, load.requests), "us");
    }
    system_calls(bench, &subject, shape.connections, report)
}

fn add_load(report: &mut Report, load: &Load) {
    report.figure("requests", count(load.requests), "");
    report.figure("requests/s", load.per_second(), "1/s");
    report.figure("latency p50", load.p50, "us");
    report.figure("latency p99", load.p99, "us");
    report.exactly("requests without an answer", count(load.broken), "", 0.0);
    report.exactly("answers that are not 2xx", count(load.bad_status), "", 0.0);
}

/// Nanoseconds over requests, in microseconds.
pub(crate) fn micros(nanos: u64, requests: u64) -> f64 {
    count(nanos) / 1000.0 / count(requests.max(1))
}

type Generator = fn(&Bench, SocketAddr, Shape) -> Result<Load, Failure>;

/// Runs wrk with one thread.
pub(crate) fn wrk(bench: &Bench, address: SocketAddr, shape: Shape) -> Result<Load, Failure> {
    let script = bench.path("wrk.lua");
    fs::write(&script, WRK_SCRIPT)?;
    let mut command = command("wrk", None);
    command.args(["-t1", "--timeout", "10s", "--latency"]);
    command.arg(format!("-c{}", shape.connections));
    command.arg(format!("-d{}s", shape.duration.as_secs().max(1)));
    command.arg("-s").arg(script).arg(format!("http://{address}/"));
    generate("wrk", &mut command, shape, wrk_load)
}

/// Runs oha.
fn oha(_: &Bench, address: SocketAddr, shape: Shape) -> Result<Load, Failure> {
    let program = tools::find("oha").ok_or_else(|| Failure::new("oha is not installed"))?;
    let mut command = command(program, None);
    command.args(["--no-tui", "--output-format", "json", "-z"]);
    command.arg(format!("{}s", shape.duration.as_secs().max(1)));
    command.args(["-c", &shape.connections.to_string()]).arg(format!("http://{address}/"));
    generate("oha", &mut command, shape, oha_load)
}

fn generate(
    name: &str,
    command: &mut Command,
    shape: Shape,
    read: fn(&str) -> Option<Load>,
) -> Result<Load, Failure> {
    let patience = shape.duration + Duration::from_secs(30);
    let (status, text) = run(name, command, patience)?;
    if !status.success() {
        return Err(Failure::new(format!("{name} failed ({status}):\n{text}")));
    }
    read(&text).ok_or_else(|| Failure::new(format!("{name} printed no report:\n{text}")))
}

/// Reads the line that [`WRK_SCRIPT`] prints among wrk's own.
fn wrk_load(text: &str) -> Option<Load> {
    let line = text.lines().find(|line| line.starts_with('{'))?;
    let report: Value = serde_json::from_str(line).ok()?;
    Some(Load {
        requests: report["requests"].as_u64()?,
        seconds: report["micros"].as_f64()? / 1e6,
        p50: report["p50"].as_f64()?,
        p99: report["p99"].as_f64()?,
        broken: report["broken"].as_u64()?,
        bad_status: report["bad_status"].as_u64()?,
    })
}

/// Reads oha's JSON. Requests that its own deadline cut off are neither answered nor failed.
fn oha_load(text: &str) -> Option<Load> {
    let report: Value = serde_json::from_str(text).ok()?;
    let tally = |key: &str, counts: fn(&str) -> bool| -> Option<u64> {
        let table = report[key].as_object()?;
        Some(table.iter().filter(|(key, _)| counts(key)).filter_map(|(_, n)| n.as_u64()).sum())
    };
    Some(Load {
        requests: tally("statusCodeDistribution", |_| true)?,
        seconds: report["summary"]["total"].as_f64()?,
        p50: report["latencyPercentiles"]["p50"].as_f64()? * 1e6,
        p99: report["latencyPercentiles"]["p99"].as_f64()? * 1e6,
        broken: tally("errorDistribution", |why| why != "aborted due to deadline")?,
        bad_status: tally("statusCodeDistribution", |status| !status.starts_with('2'))?,
    })
}

/// Counts the subject's system calls over a fixed number of requests on connections that are open
/// already. The figures hold every thread, so a health probe now and then is in them.
fn system_calls(
    bench: &Bench,
    subject: &Subject,
    connections: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut clients = (0..connections)
        .map(|_| Client::connect(subject.address))
        .collect::<Result<Vec<_>, _>>()?;
    rounds(&mut clients, 3)?;
    let summary = bench.path("strace.txt");
    let mut strace = attach(subject, &summary)?;
    let each_client = TRACED_REQUESTS.div_ceil(connections);
    rounds(&mut clients, each_client)?;
    strace.interrupt(Duration::from_secs(10))?;
    let calls = strace_counts(&fs::read_to_string(&summary)?);
    let requests = count(u64::try_from(connections * each_client)?);
    let each =
        |names: &[&str]| count(names.iter().filter_map(|name| calls.get(*name)).sum()) / requests;
    report.section(format!(
        "{}: system calls per request, {requests} requests on {connections} open connections (strace)",
        subject.kind.name()
    ));
    report.at_most("reads and writes of sockets", each(&SOCKET_CALLS), "", 4.01);
    report.at_most("epoll_ctl", each(&["epoll_ctl"]), "", 0.01);
    report.at_most("futex", each(&["futex"]), "", 0.01);
    for name in calls.keys() {
        report.figure(format!("  {name}"), each(&[name]), "");
    }
    Ok(())
}

/// Attaches strace to every thread of the subject; returns when it counts.
fn attach(subject: &Subject, summary: &std::path::Path) -> Result<Process, Failure> {
    let pid = subject.process.pid();
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    let began = Instant::now();
    let mut command = command("strace", None);
    command.args(["-c", "-f", "-p", &pid.to_string(), "-o"]).arg(summary);
    let mut strace = Process::start("strace", &mut command)?;
    let last = format!("with {threads} threads");
    let attached = |line: &str| {
        (line.contains(" attached") && (threads == 1 || line.contains(&last))).then_some(())
    };
    if strace.line(began, Duration::from_secs(10), attached).is_none() {
        return Err(strace.complaint("did not attach"));
    }
    Ok(strace)
}

/// Sends `requests` requests on every connection, all connections at once.
fn rounds(clients: &mut [Client], requests: usize) -> Result<(), Failure> {
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || (0..requests).try_for_each(|_| client.get("/").map(drop)))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome.map_err(Failure::from),
            Err(_) => Err(Failure::new("a client panicked")),
        })
    })
}

/// Reads the table of `strace -c`: calls by name.
pub(crate) fn strace_counts(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let calls = columns.get(3)?.parse().ok()?;
            let name = columns.last().filter(|name| **name != "total")?;
            Some(((*name).to_owned(), calls))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_json_among_wrks_own() {
        let text = "Running 1s test\n  1 threads\n{\"requests\":20,\"micros\":2000000,\"p50\":7,\
                    \"p99\":9,\"broken\":1,\"bad_status\":2}\n";
        let load = wrk_load(text).unwrap();
        assert_eq!((load.requests, load.broken, load.bad_status), (20, 1, 2));
        assert!((load.per_second() - 10.0).abs() < 1e-9);
        assert_eq!(wrk_load("unable to connect"), None);
    }

    #[test]
    fn does_not_count_ohas_own_deadline_as_a_failure() {
        let text = r#"{"summary":{"total":2.0},"latencyPercentiles":{"p50":0.001,"p99":0.002},
            "statusCodeDistribution":{"200":10,"503":1},
            "errorDistribution":{"aborted due to deadline":64,"connection reset":3}}"#;
        let load = oha_load(text).unwrap();
        assert_eq!((load.requests, load.broken, load.bad_status), (11, 3, 1));
        assert!((load.p99 - 2000.0).abs() < 1e-6);
    }

    #[test]
    fn reads_calls_with_and_without_errors() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    50,00    0,000100           1       200           sendto\n\
                    50.00    0.000100           1       210         7 recvfrom\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.000200           1       410         7 total\n";
        let calls = strace_counts(text);
        assert_eq!(calls.get("sendto"), Some(&200));
        assert_eq!(calls.get("recvfrom"), Some(&210));
        assert_eq!(calls.len(), 2);
    }
}
