//! The program `demo` as it is typed: what it prints, and that nothing of it stays.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{collect, wait_for};
use crate::play::{DEMO, evenly, kill};

/// All that it starts, by the names before their lines.
const PIECES: [&str; 5] = ["http-api-1", "http-api-2", "dns-authority", "dns-resolver", "evenly"];

type Lines = Arc<Mutex<Vec<String>>>;

/// The runner, which has started everything; killed at the end of its scope, and its children with it.
struct Runner {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Runner {
    fn start() -> Runner {
        let mut child = Command::new(DEMO)
            .arg("--free-ports")
            .arg("--evenly")
            .arg(evenly())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) =
            (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        let runner = Runner { child, out, err };
        runner.wait_for_line(&runner.out, "Ctrl-C ends all of it.");
        runner
    }

    #[track_caller]
    fn wait_for_line(&self, lines: &Lines, part: &str) -> String {
        wait_for(&format!("`{part}`"), || {
            lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned()
        })
    }

    fn said_by(&self, piece: &str) -> Vec<String> {
        let prefix = format!("{piece:>13} | ");
        let lines = self.out.lock().unwrap();
        lines.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The processes it has started.
    fn children(&self) -> Vec<Process> {
        let of_it = |process: &Process| process.parent == self.child.id();
        let all = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Process::read(entry.unwrap().file_name().to_str()?.parse().ok()?));
        all.filter(of_it).collect()
    }

    /// How it ended, once nothing it started is there any longer.
    #[track_caller]
    fn wait_for_end(&mut self, children: &[Process]) -> ExitStatus {
        let status = wait_for("the runner's end", || self.child.try_wait().unwrap());
        for process in children {
            wait_for(&format!("the end of {process:?}"), || (!process.is_there()).then_some(()));
        }
        status
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process by its number and its start: numbers are given again.
#[derive(Debug)]
struct Process {
    pid: u32,
    parent: u32,
    started: u64,
    arguments: String,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The fields after the name, which may have spaces in it: state, parent, and on to the start, the 22nd of all.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let arguments = fs::read_to_string(folder.join("cmdline")).ok()?.replace('\0', " ");
        let (parent, started) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        Some(Process { pid, parent, started, arguments })
    }

    fn is_there(&self) -> bool {
        Process::read(self.pid).is_some_and(|now| now.started == self.started)
    }
}

#[test]
fn it_starts_everything_says_who_says_what_and_leaves_no_process_after_ctrl_c() {
    let mut runner = Runner::start();
    for piece in PIECES {
        let said = runner.said_by(piece);
        assert!(said.iter().any(|line| line.contains("listening on ")), "{piece}: {said:?}");
    }
    let children = runner.children();
    assert_eq!(children.len(), PIECES.len(), "{children:?}");

    // What it says to type does what it says.
    let typed = runner.wait_for_line(&runner.out, "ingress-client --resolver");
    let ended = Command::new("sh").args(["-c", &typed]).output().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(out.starts_with("HTTP/1.1 200 OK\n") && out.contains("Lumos"), "{out}");
    let served = format!("{:>13} | GET /spells -> 200", served_by(&out));
    assert_eq!(runner.wait_for_line(&runner.out, "GET /spells"), served);

    kill_process(Pid::from_child(&runner.child), Signal::INT).unwrap();
    assert_eq!(runner.wait_for_end(&children).code(), Some(0));
    runner.wait_for_line(&runner.out, "ending all of it");
}

fn served_by(out: &str) -> &str {
    out.lines().find_map(|line| line.strip_prefix("x-served-by: ")).unwrap()
}

#[test]
fn it_ends_with_an_error_and_leaves_no_process_when_a_piece_dies() {
    for (piece, sign) in [("evenly", " run --config "), ("http-api-2", " --name http-api-2 ")] {
        let mut runner = Runner::start();
        let children = runner.children();
        assert_eq!(children.len(), PIECES.len(), "{children:?}");
        let doomed = children.iter().find(|child| child.arguments.contains(sign)).unwrap();
        kill(doomed.pid);
        assert_eq!(runner.wait_for_end(&children).code(), Some(1));
        let why = format!("demo: {piece} has died, {}", ExitStatus::from_raw(9));
        assert_eq!(runner.wait_for_line(&runner.err, "demo: "), why);
    }
}
