//! A terminal with a program on it: what it shows, its keys, and whether it is as it was before.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::until;

/// The program and the other end of its terminal.
pub(crate) struct Screen {
    child: Child,
    master: Arc<File>,
    /// Kept open, so that its modes can be looked at.
    slave: OwnedFd,
    before: Termios,
    output: Arc<Mutex<Vec<u8>>>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Starts it on a terminal of so many columns and rows, in a process group of its own.
    #[track_caller]
    pub(crate) fn start(mut command: Command, size: (u16, u16)) -> Screen {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).process_group(0);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let before = tcgetattr(&slave).unwrap();
        let (master, output) = (Arc::new(File::from(master)), Arc::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = (Arc::clone(&master), Arc::clone(&output), Arc::clone(&is_over));
        let reader = Some(thread::spawn(move || collect(&ends.0, &ends.1, &ends.2)));
        resize(&master, size);
        let child = command.spawn().unwrap();
        Screen { child, master, slave: slave.into(), before, output, is_over, reader }
    }

    pub(crate) fn press(&self, keys: &str) {
        (&*self.master).write_all(keys.as_bytes()).unwrap();
    }

    /// Its terminal has another size.
    pub(crate) fn resize(&self, size: (u16, u16)) {
        resize(&self.master, size);
        // The kernel tells only who is controlled by the terminal.
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What is on it, or was when the program gave it back.
    pub(crate) fn shown(&self) -> String {
        let output = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
        painted(&output)
    }

    #[track_caller]
    pub(crate) fn until_shown(&self, text: &str) -> String {
        let mut shown = String::new();
        let shows = || {
            shown = self.shown();
            shown.contains(text)
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(text, shows)));
        assert!(waited.is_ok(), "{text:?} is not shown in:\n{}", self.shown());
        self.shown()
    }

    /// Whether its modes, its screen and its cursor are those from before.
    pub(crate) fn is_given_back(&self) -> bool {
        let output = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
        let last = |set: &str, reset: &str| output.rfind(set) > output.rfind(reset);
        let modes = |it: &Termios| (it.local_modes, it.input_modes, it.output_modes);
        let now = tcgetattr(&self.slave).unwrap();
        modes(&now) == modes(&self.before)
            && last("\x1b[?1049l", "\x1b[?1049h")
            && last("\x1b[?25h", "\x1b[?25l")
    }

    /// Whether it is stopped, as by Ctrl-Z.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Closes the other end, as an emulator does that is closed.
    pub(crate) fn hang_up(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        let other = Arc::new(File::open("/dev/null").unwrap());
        let master = Arc::into_inner(std::mem::replace(&mut self.master, other));
        drop(master.expect("the last one"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn resize(master: &File, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

fn collect(master: &File, output: &Mutex<Vec<u8>>, is_over: &AtomicBool) {
    let (mut bytes, soon) = ([0; 4096], Timespec { tv_sec: 0, tv_nsec: 10_000_000 });
    while !is_over.load(Ordering::SeqCst) {
        let is_there = poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&soon)) == Ok(1);
        match (&*master).read(if is_there { &mut bytes } else { &mut [] }) {
            Ok(count) => output.lock().unwrap().extend_from_slice(&bytes[..count]),
            // Nobody has the other end.
            Err(_) => return,
        }
    }
}

/// What a terminal shows after this output, as far as programs here drive it: the cursor is moved, all is cleared.
fn painted(output: &str) -> String {
    let mut lines: Vec<Vec<char>> = Vec::new();
    let (mut row, mut column, mut chars) = (0, 0, output.chars());
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                let mut arguments = String::new();
                let mut inner = chars.by_ref().skip(1);
                let end = inner.find(|&c| {
                    let is_end = c.is_ascii_alphabetic();
                    if !is_end {
                        arguments.push(c);
                    }
                    is_end
                });
                let number = |text: &str| text.parse::<usize>().unwrap_or(1).max(1) - 1;
                match end {
                    Some('H') => {
                        let (y, x) = arguments.split_once(';').unwrap_or(("1", "1"));
                        (row, column) = (number(y), number(x));
                    }
                    Some('J') => lines.clear(),
                    Some('h') if arguments == "?1049" => lines.clear(),
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            c => {
                if lines.len() <= row {
                    lines.resize(row + 1, Vec::new());
                }
                if lines[row].len() <= column {
                    lines[row].resize(column + 1, ' ');
                }
                lines[row][column] = c;
                column += 1;
            }
        }
    }
    let lines = lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}
