//! One child: its lines go to the journal, its end is asked for and waited for.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Journal, Piece};

/// How often a child that is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// Longest part of a line that is taken at once.
const MAX_LINE: u64 = 8 * 1024;

/// A child that runs, or has ended and was not waited for. Dropping it kills it.
pub(super) struct Running {
    child: Child,
    pumps: Vec<JoinHandle<()>>,
}

impl Running {
    /// Reads what `child` prints, on threads that end with it.
    pub(super) fn new(piece: Piece, mut child: Child, journal: &Arc<Journal>) -> Running {
        let mut pumps = Vec::new();
        if let Some(out) = child.stdout.take() {
            let journal = Arc::clone(journal);
            pumps.push(thread::spawn(move || pump(out, |line| journal.add(piece, line))));
        }
        if let Some(err) = child.stderr.take() {
            let journal = Arc::clone(journal);
            pumps.push(thread::spawn(move || pump(err, |line| journal.add(piece, line))));
        }
        Running { child, pumps }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has; all its lines are in the journal then.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            for pump in self.pumps.drain(..) {
                // A pump does not panic; if it did, lines are missing and nothing else.
                let _ = pump.join();
            }
        }
        Ok(ended)
    }

    /// As `try_wait`, after a moment.
    pub(super) fn wait_briefly(&mut self) -> io::Result<Option<ExitStatus>> {
        thread::sleep(GLANCE);
        self.try_wait()
    }

    /// Sends SIGTERM, unless it has ended: its number may be another's by then.
    pub(super) fn ask_to_end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// Asks it to end, waits for `patience`, then kills it.
    pub(super) fn end(mut self, patience: Duration) -> io::Result<()> {
        self.ask_to_end();
        let deadline = Instant::now() + patience;
        while self.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                self.child.kill()?;
                self.child.wait()?;
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing to one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pump(from: impl Read, mut take: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut from).take(MAX_LINE).read_until(b'\n', &mut line) {
        take(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_long_ones_come_in_parts() {
        let mut lines = Vec::new();
        let long = "x".repeat(usize::try_from(MAX_LINE).unwrap() + 3);
        pump(format!("one\n\ntwo \r\n{long}\nlast").as_bytes(), |line| lines.push(line.to_owned()));
        assert_eq!(lines[..3], ["one", "", "two"]);
        assert_eq!((lines[3].len() as u64, &*lines[4], &*lines[5]), (MAX_LINE, "xxx", "last"));
    }
}
