//! Local ports that run out, in a network namespace of its own with few of them, as root.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::client::Client;
use crate::process::{self, command};
use crate::report::Report;
use crate::servers::{Bench, Subject};
use crate::{Failure, tools};

use super::crowd::size;
use super::floods::first_answer;
use super::origin::Manner;
use super::{BUSY, config, judge_blame, judge_reasons};

pub(super) const NAME: &str = "local ports";
/// Says that this process is the one in the namespace.
const INSIDE: &str = "EVENLY_LOADTEST_IN_NAMESPACE";
/// The ports that connections may come from there.
const PORTS: std::ops::RangeInclusive<u16> = 40_000..=40_399;
/// Clients that ask for something slow and leave, and what they wait.
const LEAVING: usize = 1_400;
const STAY: Duration = Duration::from_millis(3);
/// Requests of honest clients, and the pause between them.
const HONEST: usize = 60;
const PAUSE: Duration = Duration::from_millis(50);
/// Where clients are, so that their connections take none of the ports that evenly has.
const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const LIMIT: Duration = Duration::from_secs(90);

/// Runs this scenario in a namespace of its own, where that is possible.
pub(super) fn ports(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    if is_inside() {
        return inside(bench, report);
    }
    let tools = ["unshare", "ip"].map(tools::find);
    let ([Some(unshare), Some(_)], true) = (tools, rustix::process::geteuid().is_root()) else {
        report.section(format!("{NAME}: skipped, since it needs root, unshare(1) and ip(8)"));
        return Ok(());
    };
    let json = bench.path("ports.json");
    let mut command = command(unshare, bench.cores.subject);
    command.env(INSIDE, "1").arg("-n").arg("--").arg(std::env::current_exe()?);
    command.arg("chaos").args(["--only", NAME]).arg("--json").arg(&json);
    command.arg("--evenly").arg(bench.program(crate::servers::Kind::Evenly)?);
    let (_, said) = process::run("the scenario in its namespace", &mut command, LIMIT)?;
    let written =
        fs::read_to_string(&json).map_err(|_| Failure::new(format!("no report:\n{said}")))?;
    report.adopt(&serde_json::from_str(&written)?)
}

/// Whether this process is the one in the namespace; the other one judges.
pub(super) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The kernel's settings of the namespace: few ports, and none is used again before its time, as it is between two hosts.
fn prepare() -> Result<(), Failure> {
    let mut up = command("ip", None);
    up.args(["link", "set", "lo", "up"]);
    let (status, _) = process::run("ip", &mut up, Duration::from_secs(5))?;
    if !status.success() {
        return Err(Failure::new("ip could not set the loopback device up"));
    }
    let settings = Path::new("/proc/sys/net/ipv4");
    fs::write(settings.join("ip_local_port_range"), format!("{} {}", PORTS.start(), PORTS.end()))?;
    Ok(fs::write(settings.join("tcp_tw_reuse"), "0")?)
}

fn inside(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    prepare()?;
    let origins = bench.scripted([Manner::working(1); 2])?;
    let targets = origins.each_ref().map(|origin| origin.address);
    let subject = bench.evenly_with(&config(&targets, BUSY), None)?;
    report.section(format!(
        "{} local ports; {LEAVING} clients leave while their requests wait, then another program takes all ports",
        PORTS.len()
    ));
    leave(subject.address)?;
    report.figure("ports that wait for their time to be over (TIME_WAIT)", size(waiting()?), "");
    let mut failures = honest(&subject);
    report.exactly("honest failures after they left", size(failures), "", 0.0);
    // Idle connections would serve these clients for ever; a new one is needed for each that is closed.
    let taken = take_all(&targets)?;
    let failed = honest(&subject);
    failures += failed;
    report.figure("ports that another program has taken", size(taken.len()), "");
    report.figure(
        "honest failures meanwhile (of those without an open connection)",
        size(failed),
        "",
    );
    drop(taken);
    let asked = Instant::now();
    first_answer(subject.address)?;
    report.at_most(
        "first answer with ports again",
        asked.elapsed().as_secs_f64() * 1000.0,
        "ms",
        1000.0,
    );
    let failed = honest(&subject);
    report.exactly("honest failures with ports again", size(failed), "", 0.0);
    judge_blame(&subject, report);
    judge_reasons(bench, &subject, failures + failed, report)
}

/// Clients that ask for what never comes and go at once, each with a reset.
fn leave(address: SocketAddr) -> Result<(), Failure> {
    for _ in 0..LEAVING {
        let mut stream = from(CLIENTS, address)?;
        stream.write_all(b"GET /never HTTP/1.1\r\nHost: chaos\r\n\r\n")?;
        thread::sleep(STAY);
    }
    Ok(())
}

/// A connection from an address of this machine that ends with a reset.
fn from(host: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((host, 0)).into())?;
    socket.connect(&to.into())?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    Ok(socket.into())
}

/// How many connections are in TIME_WAIT (`06` in `/proc/net/tcp`).
fn waiting() -> Result<usize, Failure> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().filter(|line| line.split_whitespace().nth(3) == Some("06")).count())
}

/// Honest clients, one after another, each on a connection of its own; how many had no answer.
fn honest(subject: &Subject) -> usize {
    let ask = |_: &usize| {
        thread::sleep(PAUSE);
        let answer = Client::connect_for(subject.address, Duration::from_secs(2))
            .and_then(|mut client| client.get("/id"));
        !answer.is_ok_and(|answer| answer.status == 200)
    };
    (0..HONEST).filter(ask).count()
}

/// Connects from the address that evenly connects from until the kernel has no port left for either target.
fn take_all(targets: &[SocketAddr]) -> Result<Vec<TcpStream>, Failure> {
    let mut taken = Vec::new();
    for target in targets {
        for _ in PORTS {
            match TcpStream::connect(target) {
                Ok(stream) => {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    taken.push(stream);
                }
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(taken)
}
