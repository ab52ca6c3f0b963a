//! Command lines, run as they are shown: by `sh`, with the demo's programs in its path.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process_group};

/// Where command lines are run.
pub(super) struct Shell {
    path: OsString,
}

impl Shell {
    /// A shell that finds the programs of `folder` first.
    pub(super) fn new(folder: &Path) -> Shell {
        let mut path = folder.as_os_str().to_owned();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        Shell { path }
    }

    /// Begins a command line; its output and its errors are read as they come.
    pub(super) fn begin(&self, line: &str) -> io::Result<Job> {
        let (mut from, to) = io::pipe()?;
        let child = Command::new("sh")
            .args(["-c", line])
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .process_group(0)
            .spawn()?;
        let reader = thread::spawn(move || {
            let mut output = Vec::new();
            // What was read before an error is what there is.
            let _ = from.read_to_end(&mut output);
            String::from_utf8_lossy(&output).into_owned()
        });
        Ok(Job { child, reader: Some(reader), ended: false })
    }
}

/// A command line that runs, or has ended. Dropping it ends it with all that it has started.
pub(super) struct Job {
    child: Child,
    reader: Option<JoinHandle<String>>,
    ended: bool,
}

impl Job {
    /// What it printed, once it has ended.
    pub(super) fn output(&mut self) -> io::Result<Option<String>> {
        if !self.has_ended()? {
            return Ok(None);
        }
        // A reader does not panic; if it did, the output is missing.
        let output = self.reader.take().map(|reader| reader.join().unwrap_or_default());
        Ok(Some(output.unwrap_or_default()))
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        self.ended = self.ended || self.child.try_wait()?.is_some();
        Ok(self.ended)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.ended {
            // The group is there as long as its leader has not been waited for.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
