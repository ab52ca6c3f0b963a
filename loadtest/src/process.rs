//! Child processes that cannot outlive this program.
//!
//! Invariant: whatever is started here is killed by its own pid, and what it has started by theirs, when its
//! [`Process`] is dropped, and it by the kernel (`setpriv --pdeathsig`) should this program be killed before it can do so. The
//! kernel ties that signal to the *thread* that started the child: start from the main thread only.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Failure, proc};

/// Lines of standard error that are kept: all that a run without faults has.
const LINES_KEPT: usize = 20_000;

/// Which CPU the subject runs on, and which everything else, this program included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// The subject's CPU; `None` on a machine with a single one, where nothing is pinned.
    pub(crate) subject: Option<usize>,
}

impl Cores {
    /// Pins this program, and so every child that is not pinned elsewhere, to the second CPU it may
    /// use, and keeps the first for the subject.
    pub(crate) fn divide() -> Result<Cores, Failure> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        let (Some(first), Some(second)) = (cpus.next(), cpus.next()) else {
            return Ok(Cores { subject: None });
        };
        let mut mine = CpuSet::new();
        mine.set(second);
        sched_setaffinity(None, &mine)?;
        Ok(Cores { subject: Some(first) })
    }

    /// Leaves every CPU to everyone: where faults matter, not figures, workers shall run side by side.
    pub(crate) fn shared() -> Cores {
        Cores { subject: None }
    }

    /// What the measured machine looked like, for the report.
    pub(crate) fn describe(self) -> String {
        match self.subject {
            Some(cpu) => format!("subject pinned to CPU {cpu}, origins and load to another one"),
            None => "one CPU: nothing pinned, figures are not comparable".to_owned(),
        }
    }
}

/// A command that dies with this program and runs on `cpu`, or on this program's CPU.
pub(crate) fn command(program: impl AsRef<OsStr>, cpu: Option<usize>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    if let Some(cpu) = cpu {
        command.args(["taskset", "-c", &cpu.to_string()]);
    }
    command.arg(program).stdin(Stdio::null());
    command
}

/// A running child; dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Lines>,
}

/// The latest lines of a child's standard error, each with when it was read.
#[derive(Default)]
struct Lines {
    seen: Mutex<VecDeque<(Instant, String)>>,
    arrived: Condvar,
}

impl Lines {
    fn seen(&self) -> MutexGuard<'_, VecDeque<(Instant, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts a server whose standard error is read as long as it lives.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Process, Failure> {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start {name}: {error}")))?;
        let lines = Arc::new(Lines::default());
        if let Some(stderr) = child.stderr.take() {
            let lines = Arc::clone(&lines);
            thread::spawn(move || collect(stderr, &lines));
        }
        Ok(Process { name: name.to_owned(), child, lines })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a crash would, and reaps it; with it whatever it has started.
    pub(crate) fn kill(&mut self) {
        // A child that has ended is reaped by this, and its number may already be another's.
        let heirs = match self.child.try_wait() {
            Ok(None) => proc::tree(self.pid()).unwrap_or_default(),
            _ => return,
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        let others = heirs.into_iter().filter(|pid| *pid != self.child.id());
        for pid in others.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Stops it where it is (`SIGSTOP`): alive, deaf and mute.
    pub(crate) fn suspend(&self) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Lets it go on after [`Process::suspend`].
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits until it has ended by itself: how, or `None` if it takes longer than `patience`.
    pub(crate) fn ended(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                outcome => return Ok(outcome),
            }
        }
    }

    /// Asks it to end (`SIGINT`) and waits; kills it when it takes longer than `patience`.
    pub(crate) fn interrupt(&mut self, patience: Duration) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.kill();
                return Err(Failure::new(format!("{} did not end when asked", self.name)));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for a line of standard error, at or after `since`, of which `pick` makes something.
    pub(crate) fn line<T>(
        &mut self,
        since: Instant,
        patience: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Option<(Instant, T)> {
        let deadline = Instant::now() + patience;
        let mut seen = self.lines.seen();
        loop {
            let found = seen
                .iter()
                .filter(|(when, _)| *when >= since)
                .find_map(|(when, line)| pick(line).map(|found| (*when, found)));
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() || !matches!(self.child.try_wait(), Ok(None)) {
                return found;
            }
            let pause = left.min(Duration::from_millis(100));
            let waited = self.lines.arrived.wait_timeout(seen, pause);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines of standard error, of those that are kept, that are of this kind.
    pub(crate) fn lines(&self, of_kind: impl Fn(&str) -> bool) -> Vec<String> {
        let seen = self.lines.seen();
        let lines = seen.iter().map(|(_, line)| line).filter(|line| of_kind(line));
        lines.cloned().collect()
    }

    /// An error that quotes the last lines it wrote.
    pub(crate) fn complaint(&self, what: &str) -> Failure {
        let seen = self.lines.seen();
        let last: Vec<_> = seen.iter().rev().take(8).map(|(_, line)| line.as_str()).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        Failure::new(format!("{} {what}; its last words:\n{}", self.name, last.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(stderr: impl Read, lines: &Lines) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut seen = lines.seen();
        if seen.len() == LINES_KEPT {
            seen.pop_front();
        }
        seen.push_back((Instant::now(), line));
        lines.arrived.notify_all();
    }
}

/// Runs a child to its end, at most `patience` long, and returns its status and standard output.
pub(crate) fn run(
    name: &str,
    command: &mut Command,
    patience: Duration,
) -> Result<(ExitStatus, String), Failure> {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start {name}: {error}")))?;
    let mut process = Process { name: name.to_owned(), child, lines: Arc::new(Lines::default()) };
    let stdout = process.child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.map(|mut stdout| stdout.read_to_string(&mut text));
        text
    });
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = process.child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{name} took longer than {patience:?}")));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = reader.join().unwrap_or_default();
    Ok((status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_dropped_child_is_dead_and_reaped() {
        let process = Process::start("sleeper", &mut shell("exec sleep 60")).unwrap();
        let folder = format!("/proc/{}", process.pid());
        assert!(std::path::Path::new(&folder).exists());
        drop(process);
        assert!(!std::path::Path::new(&folder).exists());
    }

    #[test]
    fn what_a_dropped_child_has_started_ends_too() {
        let script = "sleep 60 & echo $! >&2; wait";
        let began = Instant::now();
        let mut process = Process::start("parent", &mut shell(script)).unwrap();
        let pid = process.line(began, Duration::from_secs(10), |line| line.parse::<u32>().ok());
        let (_, pid) = pid.unwrap();
        assert!(proc::tree(process.pid()).unwrap().contains(&pid));
        drop(process);
        // Init reaps it, when it comes to it.
        let deadline = Instant::now() + Duration::from_secs(10);
        let lives = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while lives() {
            assert!(Instant::now() < deadline, "{pid} is still there");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn finds_the_line_it_waits_for_and_when_it_came() {
        let began = Instant::now();
        let mut process =
            Process::start("talker", &mut shell("echo one >&2; echo two >&2; exec sleep 60"))
                .unwrap();
        let patience = Duration::from_secs(10);
        let (when, rest) = process
            .line(began, patience, |line| line.strip_prefix("tw").map(str::to_owned))
            .unwrap();
        assert_eq!(rest, "o");
        assert!(when >= began);
        assert_eq!(process.lines(|line| line.contains('o')), ["one", "two"]);
    }

    #[test]
    fn stops_waiting_for_a_line_when_the_child_has_ended() {
        let mut process = Process::start("mute", &mut shell("exit 0")).unwrap();
        let found = process.line(Instant::now(), Duration::from_secs(600), |_| Some(()));
        assert!(found.is_none());
    }

    #[test]
    fn returns_what_a_finished_child_printed() {
        let (status, text) =
            run("echo", &mut shell("echo hello"), Duration::from_secs(10)).unwrap();
        assert!(status.success());
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn kills_a_child_that_takes_too_long() {
        let error = run("slow", &mut shell("exec sleep 60"), Duration::from_millis(50));
        assert!(error.unwrap_err().to_string().contains("slow took longer"));
    }
}
