//! Clients that are too many, too slow, or gone, and a process without descriptors.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, read_head};
use crate::process::command;
use crate::report::{Report, count};
use crate::servers::{Bench, Origin, Subject};
use crate::steady::allow_descriptors;
use crate::{Failure, proc, process};

use super::crowd::{Crowd, Method, size, under_load};
use super::origin::{BIG_BYTES, Manner};
use super::{BUSY, CLIENT_HEADER, config, judge_reasons};

/// How long an honest load runs by itself.
const CALM: Duration = Duration::from_secs(1);
/// How long CPU is measured.
const WATCH: Duration = Duration::from_secs(2);
/// Descriptors that evenly may have in the first place.
const DESCRIPTORS: u64 = 256;
/// And later: fewer than are open, so that no call gets one.
const STARVED: u64 = 16;
/// Clients that want one.
const MANY: usize = 400;
/// CPU that a process without descriptors may take, in percent of one.
const IDLE_PERCENT: f64 = 10.0;
/// How long anything may take to be over.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that send a header byte per second.
const SLOW: usize = 1_500;
/// A second is cut into so many ticks, and each slow client has its own.
const TICKS: usize = 10;
/// What a timeout may take longer than it should, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);
/// Honest clients beside the others.
const HONEST: usize = 8;
/// Clients of one round that leave in the middle of a response.
const LEAVING: usize = 100;
/// Buffers that so many clients need are kept; after so many rounds there are as many as they will need.
const SETTLED: usize = 5;
const ROUNDS: usize = 12;
/// What such a client reads before it leaves, in bytes.
const TASTE: u64 = 32 << 10;
/// How much more memory may be resident after all rounds than when it has settled, in KiB.
/// The smallest buffer lost with each client that leaves would be more.
const GROWTH_KIB: f64 = 8192.0;

/// More clients than descriptors, then a limit below what is open already, then peace again.
pub(crate) fn descriptors(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let origins = bench.origins()?;
    let mut subject = started(bench, &origins, Some(DESCRIPTORS))?;
    let crowd = honest(&subject);
    under_load(crowd, calm)?;
    let stuck = flood(subject.address, MANY)?;
    let full = cpu_percent(&subject)?;
    drop(stuck);
    let short = starve(bench, &subject)?;
    let asked = Instant::now();
    first_answer(subject.address)?;
    let again = asked.elapsed().as_secs_f64() * 1000.0;
    let ((), account) = under_load(crowd, calm)?;
    report.section(format!(
        "{MANY} unfinished requests and {DESCRIPTORS} descriptors; then fewer descriptors than are open"
    ));
    account.tell(report);
    report.at_most("CPU of one while clients wait", full, "%", IDLE_PERCENT);
    report.at_most("CPU of one while no accept succeeds", short, "%", IDLE_PERCENT);
    report.at_most("first answer with descriptors again", again, "ms", 1000.0);
    report.exactly("failed afterwards", size(account.missed.len()), "", 0.0);
    report.exactly("died", f64::from(u8::from(subject.process.has_ended())), "", 0.0);
    judge_reasons(bench, &subject, account.failed(), report)
}

fn calm() -> Result<(), Failure> {
    thread::sleep(CALM);
    Ok(())
}

fn started(
    bench: &Bench,
    origins: &[Origin; 2],
    descriptors: Option<u64>,
) -> Result<Subject, Failure> {
    let targets = origins.each_ref().map(|origin| origin.address);
    bench.evenly_with(&config(&targets, BUSY), descriptors)
}

pub(super) fn honest(subject: &Subject) -> Crowd {
    Crowd { address: subject.address, method: Method::Get, clients: HONEST }
}

/// Connections that have begun a request and do not go on.
fn flood(address: SocketAddr, clients: usize) -> Result<Vec<TcpStream>, Failure> {
    let begin = |_| -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.write_all(b"GET /id HTTP/1.1\r\nHost: c")?;
        Ok(stream)
    };
    Ok((0..clients).map(begin).collect::<io::Result<_>>()?)
}

/// CPU of the subject for a while, in percent of one.
fn cpu_percent(subject: &Subject) -> Result<f64, Failure> {
    let (before, began) = (proc::cpu(subject.process.pid())?, Instant::now());
    thread::sleep(WATCH);
    let ran = (proc::cpu(subject.process.pid())? - before).ran;
    Ok(count(ran) / 1e7 / began.elapsed().as_secs_f64())
}

/// Takes the subject every descriptor that is not in use, lets clients come, and measures its CPU.
fn starve(bench: &Bench, subject: &Subject) -> Result<f64, Failure> {
    let pid = subject.process.pid();
    limit(bench, pid, STARVED)?;
    let waiting = flood(subject.address, MANY)?;
    let percent = cpu_percent(subject)?;
    drop(waiting);
    limit(bench, pid, DESCRIPTORS)?;
    Ok(percent)
}

/// Sets the soft limit of open files of a running process.
fn limit(bench: &Bench, pid: u32, most: u64) -> Result<(), Failure> {
    let mut command = command("prlimit", bench.cores.subject);
    command.args(["--pid", &pid.to_string(), &format!("--nofile={most}:")]);
    let (status, _) = process::run("prlimit", &mut command, PATIENCE)?;
    if !status.success() {
        return Err(Failure::new("prlimit could not set the limit"));
    }
    Ok(())
}

/// Waits for a whole answer, asking again when a connection fails.
pub(super) fn first_answer(address: SocketAddr) -> Result<(), Failure> {
    until("no answer with descriptors again", || {
        let answer = Client::connect(address).and_then(|mut client| client.get("/"));
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    })
}

/// Waits until `done`, at most [`PATIENCE`].
pub(super) fn until(
    otherwise: &str,
    done: impl Fn() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            return Err(Failure::new(otherwise));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Clients that never finish a head, beside honest ones.
pub(crate) fn slow_heads(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    allow_descriptors(SLOW + 1_000)?;
    let origins = bench.origins()?;
    let subject = started(bench, &origins, None)?;
    let ((), alone) = under_load(honest(&subject), calm)?;
    let (slow, account) = under_load(honest(&subject), || drip(subject.address))?;
    report.section(format!(
        "{SLOW} clients that send a header byte per second beside {HONEST} honest"
    ));
    account.tell(report);
    report.figure("latency p99 without them", alone.percentile(99), "ms");
    report.figure("slow clients at once", size(slow.most), "");
    report.figure("refused with a 408", size(slow.refused), "");
    report.exactly("honest failures", size(account.missed.len()), "", 0.0);
    report.exactly("slow clients still there after client_header", size(slow.left), "", 0.0);
    judge_reasons(bench, &subject, account.failed() + slow.refused, report)
}

/// What became of slow clients.
struct Slow {
    most: usize,
    refused: usize,
    left: usize,
}

/// Sends a byte per second on each of many connections until all must have been refused.
fn drip(address: SocketAddr) -> Result<Slow, Failure> {
    let begin = |_| begin_slowly(address);
    let slow = (0..SLOW).map(begin).collect::<io::Result<Vec<_>>>()?;
    let mut slow: Vec<_> = slow.into_iter().enumerate().collect();
    let deadline = Instant::now() + CLIENT_HEADER + SLACK;
    let (most, mut refused) = (slow.len(), 0);
    for tick in (0..TICKS).cycle() {
        let is_over = Instant::now() > deadline;
        slow.retain_mut(|(which, stream)| {
            !is_over && *which % TICKS != tick || goes_on(stream, &mut refused)
        });
        if is_over || slow.is_empty() {
            break;
        }
        thread::sleep(Duration::from_secs(1) / 10);
    }
    Ok(Slow { most, refused, left: slow.len() })
}

fn begin_slowly(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nonblocking(true)?;
    stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ")?;
    Ok(stream)
}

/// Sends one more byte; `false` when the other side has answered or closed.
fn goes_on(stream: &mut TcpStream, refused: &mut usize) -> bool {
    let mut answer = [0; 64];
    match stream.read(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.write(b"a").is_ok(),
        Ok(got) => {
            *refused += usize::from(answer[..got].starts_with(b"HTTP/1.1 408 "));
            false
        }
        Err(_) => false,
    }
}

/// Clients that leave in the middle of a response, by the hundred.
pub(crate) fn aborts(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let origins = bench.scripted([Manner::working(1); 2])?;
    let subject = started(bench, &origins, None)?;
    let pid = subject.process.pid();
    let before = proc::rss(pid)?;
    let ((most, settled), account) = under_load(honest(&subject), || {
        let rounds = |count| (0..count).map(|_| leave(subject.address, &origins)).try_fold(0, most);
        let first = rounds(SETTLED)?;
        let settled = proc::rss(pid)?;
        Ok((first.max(rounds(ROUNDS - SETTLED)?), settled))
    })?;
    // Each honest client has at most one pooled connection to each target; a probe may come on top.
    let pool = HONEST * 2 + 2;
    let _ = until("", || Ok(upstreams(&origins)? <= pool));
    let growth = count(proc::rss(pid)?.saturating_sub(settled) / 1024);
    let rounds = format!("{ROUNDS} times {LEAVING}");
    report.section(format!(
        "{rounds} clients leave in the middle of a response of {BIG_BYTES} bytes"
    ));
    account.tell(report);
    report.figure("upstream connections while they read", size(most), "");
    report.at_most("upstream connections left", size(upstreams(&origins)?), "", size(pool));
    report.figure("resident before", count(before / 1024), "KiB");
    report.figure(format!("resident after {SETTLED} rounds"), count(settled / 1024), "KiB");
    report.at_most("more after the last", growth, "KiB", GROWTH_KIB);
    report.exactly("honest failures", size(account.missed.len()), "", 0.0);
    judge_reasons(bench, &subject, account.failed(), report)
}

fn most(one: usize, other: Result<usize, Failure>) -> Result<usize, Failure> {
    Ok(one.max(other?))
}

/// Connections to the targets, all of them evenly's.
pub(super) fn upstreams(origins: &[Origin]) -> Result<usize, Failure> {
    origins.iter().map(|origin| proc::connections_to(origin.address)).sum()
}

/// One round: everyone reads a little and is gone. Returns the upstream connections just before that.
fn leave(address: SocketAddr, origins: &[Origin]) -> Result<usize, Failure> {
    let mut clients = (0..LEAVING)
        .map(|_| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /big HTTP/1.1\r\nHost: chaos\r\n\r\n")?;
            Ok(stream)
        })
        .collect::<io::Result<Vec<_>>>()?;
    for stream in &mut clients {
        let mut stream = BufReader::new(stream);
        let status = read_head(&mut stream)?.status;
        if status != 200 {
            return Err(Failure::new(format!("a large response with status {status}")));
        }
        io::copy(&mut stream.take(TASTE), &mut io::sink())?;
    }
    let most = upstreams(origins)?;
    for (at, stream) in clients.iter().enumerate() {
        if at % 2 == 0 {
            stream.shutdown(Shutdown::Both)?;
        }
    }
    drop(clients);
    Ok(most)
}
