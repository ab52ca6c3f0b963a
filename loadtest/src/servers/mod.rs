//! The servers of a run: nginx origins, and the subject (evenly or a peer) before them. All of them on
//! loopback, with configurations of their own in a temporary folder.
//!
//! Every subject is set up as its documentation would have it in production, and as equal to the others as it can
//! be: one thread or worker, both targets in turn, health checks every 5 s where it has them, the
//! `X-Forwarded-For`, `-Proto` and `-Host` fields, kept-alive HTTP/1.1 to both sides without a limit of requests,
//! [`IDLE`] idle connections to each target, no access log, bodies streamed and never written to disk. Where one
//! cannot, its module says so.

mod caddy;
mod envoy;
mod evenly;
mod haproxy;
mod kind;
mod nginx;
mod origin;
mod pingora;
mod sozu;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::chaos::origin::Manner;
use crate::client::Client;
use crate::process::{Cores, Process, command};
use crate::steady::allow_descriptors;

pub(crate) use evenly::listening;
pub(crate) use kind::{Absent, Kind};
pub(crate) use origin::{BODY_BYTES, Origin};

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(15);
/// How many idle connections to each target a subject keeps: more than any run opens.
const IDLE: usize = 4_096;
/// How many client connections a subject takes at least.
const CONNECTIONS: usize = 8_000;
/// Seconds between two probes of a target, unless the run says otherwise: evenly's default.
const INTERVAL: f64 = 5.0;

/// Where a run keeps its files, and what it starts its servers from.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    folder: tempfile::TempDir,
    evenly: PathBuf,
    /// Seconds between two probes of a target; `None` leaves each subject's default of 5 s.
    interval: Option<f64>,
}

impl Bench {
    pub(crate) fn new(evenly: Option<PathBuf>, interval: Option<f64>) -> Result<Bench, Failure> {
        Bench::on(Cores::divide()?, evenly, interval)
    }

    /// With `cores` divided already, or not at all.
    pub(crate) fn on(
        cores: Cores,
        evenly: Option<PathBuf>,
        interval: Option<f64>,
    ) -> Result<Bench, Failure> {
        let evenly = match evenly {
            Some(file) => file,
            None => std::env::current_exe()?.with_file_name("evenly"),
        };
        let folder = tempfile::Builder::new().prefix("evenly-loadtest-").tempdir()?;
        // Children inherit it: not every peer raises its own.
        allow_descriptors(0)?;
        Ok(Bench { cores, folder, evenly, interval })
    }

    /// The program of a kind; evenly's may have been named on the command line.
    pub(crate) fn program(&self, kind: Kind) -> Result<PathBuf, Absent> {
        match kind {
            Kind::Evenly if self.evenly.is_file() => Ok(self.evenly.clone()),
            Kind::Evenly => Err(Absent(kind)),
            _ => kind.find(),
        }
    }

    /// Seconds between two probes of a target.
    fn probes(&self) -> f64 {
        self.interval.unwrap_or(INTERVAL)
    }

    /// Writes a configuration and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A fresh folder of that name, for what a server wants to write.
    fn scratch(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Where the load generators may put their scripts and reports.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The two origins of every run.
    pub(crate) fn origins(&self) -> Result<[Origin; 2], Failure> {
        Ok([Origin::start(self, "a")?, Origin::start(self, "b")?])
    }

    /// Two origins that are this very program (`loadtest origin`) and record the ids they see.
    pub(crate) fn scripted(&self, manners: [Manner; 2]) -> Result<[Origin; 2], Failure> {
        let [first, second] = manners;
        Ok([Origin::scripted(self, "a", first)?, Origin::scripted(self, "b", second)?])
    }

    /// Starts a subject before `targets` and waits until it serves.
    pub(crate) fn subject(&self, kind: Kind, targets: &[SocketAddr]) -> Result<Subject, Failure> {
        let program = self.program(kind)?;
        if kind == Kind::Evenly {
            return evenly::start(self, targets);
        }
        let address = free_address(Ipv4Addr::LOCALHOST)?;
        let place = Place { name: kind.name(), program: &program, address, targets };
        let mut command = match kind {
            Kind::Evenly | Kind::Haproxy | Kind::Haproxy3 => haproxy::command(self, &place)?,
            Kind::Nginx | Kind::Nginx126 => nginx::command(self, &place)?,
            Kind::Envoy => envoy::command(self, &place)?,
            Kind::Caddy => caddy::command(self, &place)?,
            Kind::Pingora => pingora::command(self, &place),
            Kind::Sozu => sozu::command(self, &place)?,
        };
        let mut process = Process::start(place.name, &mut command)?;
        wait_until_it_serves(&mut process, address)?;
        Ok(Subject { kind, address, process })
    }

    /// `program` on the subject's CPU.
    fn command(&self, program: &Path) -> Command {
        command(program, self.cores.subject)
    }
}

/// Where a peer stands.
struct Place<'a> {
    /// Also of its files and folders.
    name: &'static str,
    program: &'a Path,
    address: SocketAddr,
    targets: &'a [SocketAddr],
}

impl Place<'_> {
    /// A line of configuration for each target, with its index.
    fn each_target(&self, line: impl Fn(usize, SocketAddr) -> String) -> String {
        self.targets.iter().enumerate().map(|(at, target)| line(at, *target)).collect()
    }
}

/// The server that is measured.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// A loopback address that was free a moment ago, for servers that cannot take port 0.
pub(crate) fn free_address(host: Ipv4Addr) -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?)
}

fn wait_until_it_serves(process: &mut Process, address: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + START;
    let serves = || {
        let answer = Client::connect(address).and_then(|mut client| client.get("/healthz"));
        answer.is_ok_and(|answer| answer.status == 200)
    };
    while !serves() {
        if process.has_ended() || Instant::now() > deadline {
            return Err(process.complaint("does not serve"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_names_the_address_targets_and_interval() {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let targets = [local(9001), local(9002)];
        let program = Path::new("/bin/false");
        let place = Place { name: "peer", program, address: local(8080), targets: &targets };
        let configs = [
            ("inter 2500ms", haproxy::config(&place, 2.5)),
            // It has none.
            ("", nginx::proxy_config(Path::new("/tmp"), &place)),
            ("\"interval\":\"2.500s\"", envoy::config(&place, 2.5).to_string()),
            ("health_interval 2500ms", caddy::config(&place, 2.5)),
            ("interval = 3\n", sozu::config(&place, "/tmp/socket", 2.5)),
        ];
        for (probes, config) in configs {
            for part in ["127.0.0.1", "8080", "9001", "9002", probes] {
                assert!(config.contains(part), "{part} in {config}");
            }
        }
    }
}
