//! `make run` as somebody meets it: the program in front of a real evenly, on a terminal and without one.
//!
//! It belongs to another package, evenly does: `cargo test --workspace` builds both, `cargo test -p try-evenly` this one
//! alone.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

const PROGRAM: &str = env!("CARGO_BIN_EXE_try-evenly");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn program(listen: &str) -> Command {
    let evenly = Path::new(PROGRAM).with_file_name("evenly");
    assert!(evenly.is_file(), "{} is not there: cargo build -p evenly", evenly.display());
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", listen]).env_remove("NO_COLOR");
    command
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The program, running; killed when the test ends otherwise.
struct Running {
    child: Child,
    /// All that it has written to its output.
    output: Arc<Mutex<String>>,
    terminal: Option<Terminal>,
}

/// The other end of its terminal.
struct Terminal {
    keys: File,
    /// The program's own end, kept open so that its modes can be looked at.
    slave: OwnedFd,
    before: Termios,
}

impl Running {
    /// Without a terminal, as CI runs it.
    fn piped(listen: &str) -> Running {
        let mut command = program(listen);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = collect(child.stdout.take().unwrap());
        Running { child, output, terminal: None }
    }

    /// On a terminal of 100 columns and 30 rows.
    fn on_a_terminal(listen: &str) -> Running {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let before = tcgetattr(&slave).unwrap();
        let child = program(listen).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(master);
        let output = collect(master.try_clone().unwrap());
        let terminal = Terminal { keys: master, slave: slave.into(), before };
        Running { child, output, terminal: Some(terminal) }
    }

    fn press(&mut self, key: &str) {
        self.terminal.as_mut().unwrap().keys.write_all(key.as_bytes()).unwrap();
    }

    /// What it has written; of a screen the last frame that is whole.
    fn shown(&self) -> String {
        let output = self.output.lock().unwrap().clone();
        match self.terminal {
            None => output,
            Some(_) => plain(output.rsplit("\x1b[H").nth(1).unwrap_or_default()),
        }
    }

    fn wait_to_show(&self, text: &str) -> String {
        let shows = || Some(self.shown()).filter(|shown| shown.contains(text));
        let shown =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(text, shows)));
        shown.unwrap_or_else(|_| panic!("{text:?} is not shown in:\n{}", self.shown()))
    }

    /// Where evenly listens, once it says so.
    fn address(&self) -> SocketAddr {
        let shown = self.wait_to_show("in a browser");
        let url = shown.split("curl http://").nth(1).unwrap();
        url.split('/').next().unwrap().parse().unwrap()
    }

    /// The modes and the screen from before are back, and then come the last words.
    fn wait_for_the_terminal(&self, last_words: &str) {
        let terminal = self.terminal.as_ref().unwrap();
        let modes = |it: &Termios| (it.local_modes, it.input_modes, it.output_modes);
        assert_eq!(modes(&tcgetattr(&terminal.slave).unwrap()), modes(&terminal.before));
        wait_for(last_words, || {
            let output = self.output.lock().unwrap();
            let (_, after) = output.rsplit_once("\x1b[?25h\x1b[?1049l")?;
            after.contains(last_words).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Reads all that comes, on a thread of its own.
fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let output = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&output);
    thread::spawn(move || {
        let mut bytes = [0; 4 << 10];
        let mut held = Vec::new();
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
        {
            held.extend_from_slice(&bytes[..count]);
            *into.lock().unwrap() = String::from_utf8_lossy(&held).into_owned();
        }
    });
    output
}

/// Without control sequences.
fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest =
        parts.map(|part| part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |it| it.1));
    rest.fold(first, |all, part| all + part).replace('\r', "")
}

/// What curl shows of one request.
fn curl(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: curl\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// How many of `count` requests blue answers; all of them are answered, each by blue or green.
fn blues(address: SocketAddr, count: usize) -> usize {
    let answers: Vec<String> = (0..count).map(|_| curl(address, "/hello")).collect();
    let of =
        |name| answers.iter().filter(|it| **it == format!("{name} answers GET /hello\n")).count();
    assert_eq!(of("blue") + of("green"), count, "{answers:?}");
    of("blue")
}

/// The processes below `parent`, with their names, without those that have ended and are not waited for yet.
fn children(parent: u32) -> HashMap<u32, String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let child = |entry: fs::DirEntry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, above) = (fields.next()?, fields.next()?);
        (above == parent.to_string() && state != "Z").then(|| (number, name.to_owned()))
    };
    processes.filter_map(child).collect()
}

fn is_running(number: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

#[test]
fn a_key_kills_an_origin_without_a_failed_request_and_brings_it_back() {
    let mut running = Running::on_a_terminal("127.0.0.1:0");
    let address = running.address();
    assert_eq!(blues(address, 10), 5, "they alternate");
    running.wait_to_show("requests 10   failed 0");
    running.wait_to_show("GET /hello -> green 200");

    running.press("b");
    running.wait_to_show("blue is killed");
    assert_eq!(blues(address, 10), 0, "blue is dead, and nobody notices");
    running.wait_to_show("killed, down");
    running.wait_to_show("requests 20   failed 0");

    running.press("b");
    let screen = running.wait_to_show("evenly: target blue is up");
    assert!(!screen.contains("killed, "), "{screen}");
    assert_eq!(blues(address, 10), 5, "they alternate again");
    running.wait_to_show("requests 30   failed 0");

    running.press("q");
    assert!(running.ended().success());
    running.wait_for_the_terminal("requests 30, failed 0");
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    type Way = fn(&mut Running);
    let ways: [(Way, &str, i32); 4] = [
        (|it| it.press("\x03"), "requests 0, failed 0", 0),
        (|it| it.signal(Signal::TERM), "requests 0, failed 0", 0),
        (|it| it.signal(Signal::HUP), "requests 0, failed 0", 0),
        (
            |it| {
                let all = children(it.child.id());
                let evenly = all.iter().find(|(_, name)| *name == "evenly").unwrap();
                kill_process(pid(*evenly.0), Signal::KILL).unwrap();
            },
            "evenly has ended",
            1,
        ),
    ];
    for (go, last_words, code) in ways {
        let mut running = Running::on_a_terminal("127.0.0.1:0");
        running.address();
        go(&mut running);
        assert_eq!(running.ended().code(), Some(code), "{last_words}");
        running.wait_for_the_terminal(last_words);
    }
}

#[test]
fn traffic_of_our_own_survives_the_death_of_an_origin() {
    let mut running = Running::on_a_terminal("127.0.0.1:0");
    running.address();
    let answered = |shown: &str, name: &str| -> u64 {
        let row = shown.lines().find(|line| line.starts_with(&format!("  {name} ")));
        let count = row.and_then(|row| row.split(" requests").next()?.split(' ').next_back());
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    running.press("t");
    wait_for("traffic", || (answered(&running.shown(), "blue") > 20).then_some(()));
    running.press("b");
    let at = answered(&running.wait_to_show("killed, down"), "green");
    wait_for("green alone", || (answered(&running.shown(), "green") > at + 50).then_some(()));
    assert!(running.shown().contains("failed 0"), "{}", running.shown());
    running.press("t");
    running.wait_to_show("t sends requests");
    running.press("\x03");
    assert!(running.ended().success());
}

#[test]
fn without_a_terminal_it_says_it_in_plain_lines_and_obeys_signals() {
    let mut running = Running::piped("127.0.0.1:0");
    let address = running.address();
    assert_eq!(blues(address, 4), 2);
    running.signal(Signal::USR1);
    running.wait_to_show("\nblue is killed\n");
    assert_eq!(blues(address, 10), 0);
    running.signal(Signal::USR1);
    running.wait_to_show("\nblue is started again\n");
    wait_for("blue to answer", || (blues(address, 2) == 1).then_some(()));
    running.wait_to_show("GET /hello -> blue 200 in ");
    let all = children(running.child.id());
    assert_eq!(all.len(), 3, "{all:?}");
    running.signal(Signal::TERM);
    assert!(running.ended().success());
    assert!(all.keys().all(|&number| !is_running(number)), "{all:?}");
    let shown = running.wait_to_show(", failed 0, ");
    assert!(!shown.contains('\x1b'), "{shown}");
}

#[test]
fn nothing_outlives_it_when_it_is_killed() {
    let mut running = Running::piped("127.0.0.1:0");
    running.address();
    let all = children(running.child.id());
    assert!(all.len() == 3 && all.values().any(|name| name == "evenly"), "{all:?}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wait_for("their end", || all.keys().all(|&number| !is_running(number)).then_some(()));
}

#[test]
fn an_origin_that_somebody_kills_is_noticed() {
    let running = Running::piped("127.0.0.1:0");
    running.address();
    let all = children(running.child.id());
    let origin = all.iter().find(|(_, name)| *name != "evenly").unwrap();
    kill_process(pid(*origin.0), Signal::KILL).unwrap();
    running.wait_to_show(" has died\n");
}

#[test]
fn an_address_in_use_is_an_error_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&address).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    assert!(said.contains("make run LISTEN=127.0.0.1:8081"), "{said}");
    let output = program("8080").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("127.0.0.1:8080") && said.contains("make run LISTEN="), "{said}");
}

#[test]
fn browsers_get_a_page_and_no_turn_is_lost_to_an_icon() {
    let running = Running::piped("127.0.0.1:0");
    let mut stream = BufReader::new(TcpStream::connect(running.address()).unwrap());
    let mut names = Vec::new();
    for _ in 0..2 {
        stream
            .get_mut()
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
            .unwrap();
        let head: Vec<String> = stream
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut page = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("<link rel=\"icon\" href=\"data:,\">"), "{page}");
        names.push(page.split("<h1>").nth(1).unwrap().split('<').next().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["blue", "green"]);
}
