//! The servers of a run: nginx origins, and the subject (evenly, HAProxy or nginx) before them. All
//! of them on loopback, with configurations of their own in a temporary folder.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::Failure;
use crate::client::Client;
use crate::process::{Cores, Process, command};
use crate::tools;

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(15);
/// Length of an origin's response body, in bytes.
pub(crate) const BODY_BYTES: usize = 128;

/// Where origins listen: not where connections come from, so that none can take the port of an origin
/// that is down.
const ORIGINS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Evenly,
    Haproxy,
    Nginx,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Evenly => "evenly",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
        }
    }
}

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
        Ok(Bench { cores, folder, evenly, interval })
    }

    /// Writes a configuration and returns its path.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
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
    pub(crate) fn scripted(&self) -> Result<[Origin; 2], Failure> {
        Ok([Origin::scripted(self, "a")?, Origin::scripted(self, "b")?])
    }

    /// Starts evenly with two workers and a configuration of its own, under at most `descriptors`.
    pub(crate) fn evenly_with(
        &self,
        config: &str,
        descriptors: Option<u64>,
    ) -> Result<Subject, Failure> {
        let config = self.file("evenly.toml", config)?;
        let mut command = match descriptors {
            Some(most) => {
                let mut command = command("prlimit", self.cores.subject);
                command.arg(format!("--nofile={most}:{most}")).arg("--").arg(&self.evenly);
                command
            }
            None => command(&self.evenly, self.cores.subject),
        };
        command.arg("run").arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--workers", "2"]);
        let (address, process) = self.launch_evenly(&mut command)?;
        Ok(Subject { kind: Kind::Evenly, address, process })
    }

    /// Starts a subject before `targets` and waits until it serves.
    pub(crate) fn subject(&self, kind: Kind, targets: &[SocketAddr]) -> Result<Subject, Failure> {
        let (address, process) = match kind {
            Kind::Evenly => self.evenly(targets)?,
            Kind::Haproxy => self.haproxy(targets)?,
            Kind::Nginx => self.nginx(targets)?,
        };
        Ok(Subject { kind, address, process })
    }

    fn evenly(&self, targets: &[SocketAddr]) -> Result<(SocketAddr, Process), Failure> {
        let config = self.file("evenly.toml", &evenly_config(targets, self.interval))?;
        let mut command = command(&self.evenly, self.cores.subject);
        command.arg("run").arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
        self.launch_evenly(&mut command)
    }

    fn launch_evenly(&self, command: &mut Command) -> Result<(SocketAddr, Process), Failure> {
        if !self.evenly.is_file() {
            let place = self.evenly.display();
            return Err(Failure::new(format!("no evenly at {place}: run `cargo build --release`")));
        }
        let began = Instant::now();
        let mut process = Process::start("evenly", command)?;
        let Some((_, address)) = process.line(began, START, listening) else {
            return Err(process.complaint("did not say where it listens"));
        };
        Ok((address, process))
    }

    fn haproxy(&self, targets: &[SocketAddr]) -> Result<(SocketAddr, Process), Failure> {
        let address = free_address(Ipv4Addr::LOCALHOST)?;
        let config = self.file("haproxy.cfg", &haproxy_config(address, targets, self.interval))?;
        let mut command = command(program("haproxy")?, self.cores.subject);
        let mut process = Process::start("haproxy", command.arg("-db").arg("-f").arg(config))?;
        wait_until_it_serves(&mut process, address)?;
        Ok((address, process))
    }

    fn nginx(&self, targets: &[SocketAddr]) -> Result<(SocketAddr, Process), Failure> {
        let address = free_address(Ipv4Addr::LOCALHOST)?;
        let folder = self.scratch("proxy")?;
        let config = self.file("proxy.conf", &nginx_proxy_config(&folder, address, targets))?;
        let mut command = nginx(&config, self.cores.subject)?;
        let mut process = Process::start("nginx (proxy)", &mut command)?;
        wait_until_it_serves(&mut process, address)?;
        Ok((address, process))
    }
}

/// The server that is measured.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// A server behind the subject: an nginx that answers every path with [`BODY_BYTES`] bytes, its name
/// in `X-Origin` and the request's id in `X-Request`; or a scripted origin.
///
/// An nginx runs without a master, so that its one process id is the whole server: killing it is killing
/// all of it, also when this program dies.
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where a scripted origin records what it sees.
    pub(crate) record: Option<PathBuf>,
    program: PathBuf,
    arguments: Vec<OsString>,
    pub(crate) process: Process,
}

impl Origin {
    fn start(bench: &Bench, name: &'static str) -> Result<Origin, Failure> {
        let address = free_address(ORIGINS)?;
        let folder = bench.scratch(name)?;
        let config = bench.file(&format!("{name}.conf"), &origin_config(&folder, address, name))?;
        let arguments = ["-e", "stderr", "-c"].into_iter().map(OsString::from);
        let arguments = arguments.chain([config.into_os_string()]).collect();
        Origin::begin(name, address, None, program("nginx")?, arguments)
    }

    fn scripted(bench: &Bench, name: &'static str) -> Result<Origin, Failure> {
        let address = free_address(ORIGINS)?;
        let record = bench.file(&format!("{name}.ids"), "")?;
        let arguments = ["origin", "--name", name, "--listen", &address.to_string(), "--record"];
        let arguments = arguments.into_iter().map(OsString::from);
        let arguments = arguments.chain([record.clone().into_os_string()]).collect();
        Origin::begin(name, address, Some(record), std::env::current_exe()?, arguments)
    }

    fn begin(
        name: &'static str,
        address: SocketAddr,
        record: Option<PathBuf>,
        program: PathBuf,
        arguments: Vec<OsString>,
    ) -> Result<Origin, Failure> {
        let process = Origin::launch(&program, &arguments, address)?;
        Ok(Origin { name, address, record, program, arguments, process })
    }

    fn launch(
        program: &Path,
        arguments: &[OsString],
        address: SocketAddr,
    ) -> Result<Process, Failure> {
        let mut process = Process::start("an origin", command(program, None).args(arguments))?;
        wait_until_it_serves(&mut process, address)?;
        Ok(process)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the address it had.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = Origin::launch(&self.program, &self.arguments, self.address)?;
        Ok(())
    }
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    tools::find(name).ok_or_else(|| Failure::new(format!("{name} is not installed")))
}

fn nginx(config: &Path, cpu: Option<usize>) -> Result<Command, Failure> {
    let mut command = command(program("nginx")?, cpu);
    command.args(["-e", "stderr", "-c"]).arg(config);
    Ok(command)
}

/// A loopback address that was free a moment ago, for servers that cannot take port 0.
fn free_address(host: Ipv4Addr) -> Result<SocketAddr, Failure> {
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

/// The address in `listening on http://127.0.0.1:38211`.
fn listening(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '/'));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

fn evenly_config(targets: &[SocketAddr], interval: Option<f64>) -> String {
    let mut text = String::new();
    for target in targets {
        text += &format!(
            "[[targets]]\naddress = \"{target}\"\nhealth_check_endpoint = \"/healthz\"\n\n"
        );
    }
    if let Some(seconds) = interval {
        text += &format!("[health]\ninterval = \"{:.0}ms\"\n", seconds * 1000.0);
    }
    text
}

fn haproxy_config(address: SocketAddr, targets: &[SocketAddr], interval: Option<f64>) -> String {
    let interval = interval.unwrap_or(5.0) * 1000.0;
    let servers: String = targets
        .iter()
        .enumerate()
        .map(|(at, target)| format!("  server s{at} {target} check\n"))
        .collect();
    format!(
        "global\n  nbthread 1\n  maxconn 8000\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n\
         \x20 timeout http-keep-alive 60s\n  option http-keep-alive\n  option forwardfor\n\
         \x20 option redispatch\n  http-reuse always\n  maxconn 8000\n\
         \x20 default-server inter {interval:.0}ms rise 1 fall 1\n\
         frontend in\n  bind {address} backlog 4096\n  default_backend out\n\
         backend out\n  balance roundrobin\n  option httpchk GET /healthz\n{servers}"
    )
}

/// What both nginx roles share; `folder` takes the temporary files a packaged nginx would put in
/// `/var/lib`, where only root may write.
fn nginx_config(folder: &Path, servers: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         pid {folder}/pid;\nerror_log stderr error;\nevents {{ worker_connections 16000; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 3600s;\n  keepalive_requests 1000000000;\n\
         \x20 client_max_body_size 0;\n{temporary}{servers}}}\n"
    )
}

fn origin_config(folder: &Path, address: SocketAddr, name: &str) -> String {
    let body = "x".repeat(BODY_BYTES);
    nginx_config(
        folder,
        &format!(
            "  server {{\n    listen {address} backlog=4096;\n    add_header X-Origin {name};\n\
             \x20   add_header X-Request $http_x_request;\n\
             \x20   location = /healthz {{ return 200 \"ok\"; }}\n\
             \x20   location = /id {{ return 200 \"${{http_x_request}}{body}\"; }}\n\
             \x20   location / {{ return 200 \"{body}\"; }}\n  }}\n"
        ),
    )
}

fn nginx_proxy_config(folder: &Path, address: SocketAddr, targets: &[SocketAddr]) -> String {
    let servers: String = targets.iter().map(|target| format!("    server {target};\n")).collect();
    nginx_config(
        folder,
        &format!(
            "  upstream out {{\n{servers}    keepalive 256;\n    keepalive_requests 1000000000;\n  }}\n\
             \x20 server {{\n    listen {address} backlog=4096;\n    location / {{\n\
             \x20     proxy_pass http://out;\n      proxy_http_version 1.1;\n\
             \x20     proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n\
             \x20     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_the_line_that_names_it() {
        let wanted = Some(SocketAddr::from(([127, 0, 0, 1], 38211)));
        assert_eq!(listening("[INFO] listening on http://127.0.0.1:38211"), wanted);
        assert_eq!(listening("{\"m\":\"listening on http://127.0.0.1:38211\"}"), wanted);
        assert_eq!(listening("listening on http://127.0.0.1:38211 (1 worker)"), wanted);
        assert_eq!(listening("healthy targets: 2"), None);
    }

    #[test]
    fn writes_evenly_the_smallest_configuration() {
        let targets = [SocketAddr::from(([127, 0, 0, 1], 1))];
        assert_eq!(
            evenly_config(&targets, Some(0.5)),
            "[[targets]]\naddress = \"127.0.0.1:1\"\nhealth_check_endpoint = \"/healthz\"\n\n\
             [health]\ninterval = \"500ms\"\n"
        );
    }
}
