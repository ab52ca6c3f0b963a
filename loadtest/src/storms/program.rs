//! evenly as an operator has it: a file, a control socket, an admin listener, and commands.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, command};
use crate::servers::{Bench, Kind, free_address};
use crate::{Failure, proc};

/// Where it listens: not where connections come from, so that no client can take a port of it that is closed for a while.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// How long it may take to start.
const START: Duration = Duration::from_secs(15);
/// How long an answer over the control socket may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running evenly. What it has started ends with it.
pub(super) struct Program {
    pub(super) process: Process,
    pub(super) binary: PathBuf,
    pub(super) file: PathBuf,
    pub(super) socket: PathBuf,
    /// Where it may listen.
    pub(super) first: SocketAddr,
    pub(super) second: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// How it is asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `evenly reload`
    Command,
    /// `POST /reload` on the control socket
    Post,
    /// SIGHUP, which has no answer
    Signal,
}

/// What it said to a reload.
#[derive(Debug)]
pub(super) struct Answer {
    /// Applied, refused; `None` if that was not said.
    pub(super) applied: Option<bool>,
    pub(super) text: String,
}

impl Program {
    /// Starts it with the file that `text` makes of its addresses.
    pub(super) fn start(
        bench: &Bench,
        text: impl Fn(&Places) -> String,
    ) -> Result<Program, Failure> {
        let binary = bench.program(Kind::Evenly)?;
        let places = Places {
            first: free_address(ADDRESS)?,
            second: free_address(ADDRESS)?,
            admin: free_address(ADDRESS)?,
            socket: bench.path("control.sock"),
        };
        let file = bench.file("storm.toml", &text(&places))?;
        let mut run = command(&binary, bench.cores.subject);
        run.arg("run").arg(&file);
        let began = Instant::now();
        let mut process = Process::start("evenly", &mut run)?;
        let serves = |line: &str| line.contains("listening on http://").then_some(());
        if process.line(began, START, serves).is_none() {
            return Err(process.complaint("does not serve"));
        }
        let Places { first, second, admin, socket } = places;
        Ok(Program { process, binary, file, socket, first, second, admin })
    }

    /// Puts another text in the place of its file, as an editor does that writes a new one and renames it.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        let new = self.file.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// Has it read its file.
    pub(super) fn reload(&self, way: Way) -> Result<Answer, Failure> {
        match way {
            Way::Command => {
                let mut command = Command::new(&self.binary);
                command.arg("reload").arg("--socket").arg(&self.socket).stdin(Stdio::null());
                let output = command.output()?;
                let said = [output.stdout, output.stderr].concat();
                let applied = match output.status.code() {
                    Some(0) => Some(true),
                    Some(2) => Some(false),
                    _ => None,
                };
                Ok(Answer { applied, text: String::from_utf8_lossy(&said).into_owned() })
            }
            Way::Post => {
                let said = self.ask("POST", "/reload")?;
                let applied = match said.split(' ').nth(1) {
                    Some("200") => Some(true),
                    Some("409") => Some(false),
                    _ => None,
                };
                Ok(Answer { applied, text: said })
            }
            Way::Signal => {
                self.process.signal(Signal::HUP)?;
                Ok(Answer { applied: None, text: String::new() })
            }
        }
    }

    /// Has its successor started, of another program if there is one: its exit code, and what was said.
    pub(super) fn upgrade(&self, program: Option<&Path>) -> Result<(Option<i32>, String), Failure> {
        let mut command = Command::new(&self.binary);
        command.arg("upgrade").arg("--socket").arg(&self.socket).stdin(Stdio::null());
        if let Some(program) = program {
            command.arg("--binary").arg(program);
        }
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// The whole response to a request over the control socket.
    pub(super) fn ask(&self, method: &str, path: &str) -> Result<String, Failure> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// What it holds now.
    pub(super) fn holdings(&self) -> Result<Holdings, Failure> {
        let pid = self.process.pid();
        Ok(Holdings {
            memory: proc::rss(pid)? / 1024,
            descriptors: proc::descriptors(pid)?,
            threads: proc::threads(pid)?,
        })
    }
}

/// Its addresses.
pub(super) struct Places {
    pub(super) first: SocketAddr,
    pub(super) second: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) socket: PathBuf,
}

impl Places {
    /// What every file says of the admin listener and the control socket.
    pub(super) fn admin(&self) -> String {
        format!("[admin]\nlisten = \"{}\"\nsocket = {:?}\n", self.admin, self.socket)
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holdings {
    /// Resident, in KiB.
    pub(super) memory: u64,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}
