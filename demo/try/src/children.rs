//! Evenly and the origins as child processes. The kernel ends them with this process, whatever it dies of.
//!
//! Owns the processes and the origins' ports. Does not own what they say: that is `watch`'s.
//!
//! Invariant: all children are made by the main thread, because `PR_SET_PDEATHSIG` fires when the *thread* that made a
//! child ends.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use socket2::{Domain, Socket, Type};

use crate::board::Colour;

/// How long evenly may take to finish requests in flight and to end: its `timeouts.drain` and some more.
const END_TIME: Duration = Duration::from_secs(3);
/// Between two looks at a process that is to end.
const GLANCE: Duration = Duration::from_millis(5);

/// From here on the kernel kills this process when the process `parent` ends.
pub(crate) fn leash(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the signal was asked for.
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    if alive { Ok(()) } else { Err(io::Error::other("the parent process has ended")) }
}

/// Becomes `program`, on the leash of the process `parent`. Returns only if that fails.
pub(crate) fn exec_leashed(parent: u32, program: &Path, arguments: &[String]) -> io::Error {
    match leash(parent) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// A socket of an origin's address that does not listen yet. As long as one is held, nobody else gets the port: not
/// even evenly's own connections, which could otherwise meet themselves at a port where nobody listens.
pub(crate) fn claim(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// This program in another role, in a process group of its own: a terminal's Ctrl-C reaches the parent alone.
fn own_program() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// An origin: its port, and its process while it is alive.
pub(crate) struct Origin {
    pub(crate) colour: Colour,
    pub(crate) address: SocketAddr,
    /// Keeps the port while the process is dead.
    _claim: Socket,
    child: Option<Child>,
}

impl Origin {
    /// Starts one at a port of loopback that the kernel chooses.
    ///
    /// # Errors
    /// There is no port or no process, or the process says why it cannot listen.
    pub(crate) fn start(colour: Colour) -> io::Result<Origin> {
        let claim = claim((Ipv4Addr::LOCALHOST, 0).into())?;
        let address =
            claim.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP address"))?;
        let mut origin = Origin { colour, address, _claim: claim, child: None };
        origin.revive()?;
        Ok(origin)
    }

    /// Whether its process is alive; one that somebody else killed is noticed here.
    pub(crate) fn is_alive(&mut self) -> bool {
        let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended {
            self.child = None;
        }
        !ended
    }

    /// Kills its process (SIGKILL), as a crash would: the kernel closes its connections.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts its process anew, at the same port; returns when it listens.
    ///
    /// # Errors
    /// As [`Origin::start`].
    pub(crate) fn revive(&mut self) -> io::Result<()> {
        let parent = std::process::id().to_string();
        let mut command = own_program()?;
        command.args(["origin", self.colour.name(), &self.address.to_string(), &parent]);
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        self.child = Some(child);
        if said.trim_end() == crate::origin::LISTENING {
            return Ok(());
        }
        self.kill();
        Err(io::Error::other(if said.is_empty() { "it ended".into() } else { said }))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The balancer's process.
pub(crate) struct Evenly(Child);

impl Evenly {
    /// Starts `program` with this configuration, listening on `listen`; with its access log and its log.
    ///
    /// # Errors
    /// No process could be started.
    pub(crate) fn start(
        program: &Path,
        config: &str,
        listen: &str,
    ) -> io::Result<(Evenly, ChildStdout, ChildStderr)> {
        let mut command = own_program()?;
        command.arg("leash").arg(std::process::id().to_string()).arg(program);
        command.args(["--", "run", "-", "--listen", listen]);
        // Whatever level the environment asks for: what is shown is read from these lines.
        command.args(["--log-format", "json", "--log-level", "info"]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended already says why on standard error.
            let _ = stdin.write_all(config.as_bytes());
        }
        let outputs = child.stdout.take().zip(child.stderr.take());
        let (access_log, log) = outputs.ok_or_else(|| io::Error::other("no pipes"))?;
        Ok((Evenly(child), access_log, log))
    }

    /// Waits for a process that is known to end, as long as it may take, and kills it then.
    pub(crate) fn ended(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + END_TIME;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(GLANCE);
        }
        self.0.kill()?;
        self.0.wait()
    }

    /// Asks it to drain and to end, and waits.
    pub(crate) fn end(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        let _ = self.ended();
    }
}

/// The program `evenly`: the one named, or the one beside this program.
///
/// # Errors
/// There is none, with what builds it.
pub(crate) fn find_evenly(named: Option<PathBuf>) -> io::Result<PathBuf> {
    let program = match named {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("evenly"),
    };
    if program.is_file() {
        return Ok(program);
    }
    let problem = format!("{} is not there; `make run` builds it", program.display());
    Err(io::Error::new(io::ErrorKind::NotFound, problem))
}
