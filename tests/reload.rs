//! Reload: the real program reads its file again, answers in its log, and no connection notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Answers every request with its name, on kept connections.
struct Origin {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl Origin {
    fn start(name: &'static str) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(stream.unwrap(), name, &count));
            }
        });
        Origin { address, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, name: &str, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut first) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
        }
        if first.starts_with("GET /slow") {
            thread::sleep(Duration::from_millis(300));
        }
        count.fetch_add(1, Ordering::Relaxed);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// A client on one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Status line and body.
    #[track_caller]
    fn get(&mut self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection was closed");
            if status.is_empty() {
                line.trim_end().clone_into(&mut status);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

/// A running `evenly` with its file. Dropping it kills it.
struct Program {
    child: Child,
    file: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(text: &str) -> Program {
        Program::start_with(text, &[])
    }

    /// With more variables in its environment.
    fn start_with(text: &str, variables: &[(&str, &str)]) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evenly.toml");
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .env("RUNTIME_DIRECTORY", folder.path())
            .envs(variables.iter().copied())
            .args(["run", "--log-level", "info", "--config"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .env_remove("EVENLY_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            let stderr = BufReader::new(stderr).lines().map_while(Result::ok);
            stderr.for_each(|line| lines.lock().unwrap().push(line));
        });
        let program = Program { child, file, log, _folder: folder };
        program.listening(0);
        program
    }

    /// What `evenly` with these arguments prints, on either output, and its exit code.
    fn ask(&self, command: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(command)
            .args(["--socket", &self.socket()])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.code())
    }

    /// Its control socket.
    #[track_caller]
    fn socket(&self) -> String {
        let mut found = None;
        until("its control socket", || {
            let log = self.log.lock().unwrap();
            found =
                log.iter().find_map(|line| Some(line.split_once("control socket: ")?.1.to_owned()));
            found.is_some()
        });
        found.unwrap()
    }

    /// Of the addresses that it said it listens on, the one of this number.
    #[track_caller]
    fn listening(&self, number: usize) -> String {
        let mut found = None;
        until("it listens", || {
            let log = self.log.lock().unwrap();
            let mut addresses =
                log.iter().filter_map(|line| line.split_once("listening on http://"));
            found = addresses.nth(number).map(|(_, address)| address.to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reloads with this text in its file. What it says of that.
    #[track_caller]
    fn reload(&self, text: &str) -> String {
        std::fs::write(&self.file, text).unwrap();
        let before = self.log.lock().unwrap().len();
        self.signal(Signal::HUP);
        let mut said = None;
        until("a word of the reload", || {
            let log = self.log.lock().unwrap();
            said =
                log[before..].iter().find_map(|line| Some(line[line.find("reload")?..].to_owned()));
            said.is_some()
        });
        said.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(listen: &[&str], origins: &[&Origin], more: &str) -> String {
    let targets: String = origins
        .iter()
        .map(|origin| format!("[[targets]]\naddress = \"{}\"\n", origin.address))
        .collect();
    format!("listen = {listen:?}\nworkers = 2\n{targets}{more}")
}

const ANY: &[&str] = &["127.0.0.1:0"];

#[test]
fn targets_and_limits_change_while_a_connection_stays() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let program = Program::start(&file(ANY, &[&a], ""));
    let mut client = Client::connect(&program.listening(0));
    assert_eq!(client.get("/").1, "a");
    let said = program.reload(&file(ANY, &[&a, &b], "[timeouts]\nclient_idle = \"70s\"\n"));
    assert!(said.starts_with("reload: applied generation "), "{said}");
    assert!(said.contains("timeouts.client_idle \"75s\" -> \"70s\""), "{said}");
    assert!(said.contains(&format!("+ target {}", b.address)), "{said}");
    until("b gets requests", || client.get("/").1 == "b");
    let said = program.reload(&file(ANY, &[&b], "[timeouts]\nclient_idle = \"70s\"\n"));
    assert!(said.contains(&format!("- target {}", a.address)), "{said}");
    until("a is gone", || client.get("/").1 == "b" && client.get("/").1 == "b");
    let before = a.served();
    for _ in 0..10 {
        assert_eq!(client.get("/"), ("HTTP/1.1 200 OK".to_owned(), "b".to_owned()));
    }
    assert_eq!(a.served(), before);
}

#[test]
fn a_name_takes_the_place_of_all_targets_when_it_was_looked_up_and_checked() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let program = Program::start(&file(ANY, &[&a], ""));
    let mut client = Client::connect(&program.listening(0));
    assert_eq!(client.get("/").1, "a");
    let name = format!("[[targets]]\naddress = \"localhost:{}\"\n", b.address.port());
    let said = program.reload(&file(ANY, &[], &name));
    assert!(said.contains(&format!("+ target localhost:{}", b.address.port())), "{said}");
    until("the name's address serves", || {
        let (status, name) = client.get("/");
        assert_eq!(status, "HTTP/1.1 200 OK", "somebody serves all the time");
        name == "b"
    });
}

#[test]
fn a_file_that_is_not_valid_changes_nothing_and_says_where() {
    let a = Origin::start("a");
    let program = Program::start(&file(ANY, &[&a], ""));
    let mut client = Client::connect(&program.listening(0));
    let bad = [
        ("", "add a [[targets]] block"),
        ("nonsense", "evenly.toml:1"),
        ("[timeouts]\nconnect = \"soon\"\n", "timeouts.connect"),
    ];
    for (text, part) in bad {
        let said = program.reload(text);
        assert!(said.starts_with("reload refused: ") && said.contains(part), "{said}");
        assert_eq!(client.get("/").1, "a");
    }
    let said = program.reload(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    assert!(said.contains("limits.headers 100 -> 50"), "a good one works: {said}");
}

#[test]
fn what_only_a_start_reads_is_refused_by_name() {
    let a = Origin::start("a");
    let whole = file(ANY, &[&a], "");
    let program = Program::start(&whole);
    let said = program.reload(&whole.replace("workers = 2", "workers = 3"));
    assert!(said.contains("refused: workers 2 -> 3: read at startup only; restart"), "{said}");
    assert!(program.reload(&whole).contains("nothing has changed"));
}

#[test]
fn an_address_comes_and_goes_and_its_connections_stay() {
    let a = Origin::start("a");
    let program = Program::start(&file(ANY, &[&a], ""));
    let mut old = Client::connect(&program.listening(0));
    assert_eq!(old.get("/").1, "a");
    // A port that is free, as far as that can be known.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let new = free();
    let said = program.reload(&file(&["127.0.0.1:0", &new], &[&a], ""));
    assert!(said.contains("listen "), "{said}");
    for _ in 0..8 {
        assert_eq!(Client::connect(&new).get("/").1, "a");
    }
    let first = program.listening(0);
    let mut kept = Client::connect(&new);
    assert_eq!(kept.get("/").1, "a");
    program.reload(&file(ANY, &[&a], ""));
    assert!(TcpStream::connect(&new).is_err(), "nobody listens there any more");
    assert_eq!((kept.get("/").1, old.get("/").1), ("a".to_owned(), "a".to_owned()));
    assert_eq!(Client::connect(&first).get("/").1, "a");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let said = program.reload(&file(&["127.0.0.1:0", &taken], &[&a], ""));
    assert!(said.contains("refused: ") && said.contains("another process has it"), "{said}");
    assert_eq!(old.get("/").1, "a");
}

#[test]
fn the_access_log_goes_where_the_new_file_says() {
    let a = Origin::start("a");
    let folder = tempfile::tempdir().unwrap();
    let logs = ["one", "two"].map(|name| folder.path().join(name));
    let log = |at: usize| format!("[log]\naccess = {:?}\n", logs[at]);
    let lines = |at: usize| std::fs::read_to_string(&logs[at]).unwrap_or_default().lines().count();
    let program = Program::start(&file(ANY, &[&a], ""));
    let mut client = Client::connect(&program.listening(0));
    client.get("/");
    program.reload(&file(ANY, &[&a], &log(0)));
    (0..3).for_each(|_| drop(client.get("/")));
    program.reload(&file(ANY, &[&a], &log(1)));
    (0..4).for_each(|_| drop(client.get("/")));
    program.reload(&file(ANY, &[&a], ""));
    client.get("/");
    until("all are written", || lines(0) == 3 && lines(1) == 4);
    let said = program.reload(&file(ANY, &[&a], "[log]\naccess = \"/nowhere/at/all\"\n"));
    assert!(said.contains("refused: ") && said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn no_request_fails_while_targets_come_and_go() {
    let (a, b, c) = (Origin::start("a"), Origin::start("b"), Origin::start("c"));
    let program = Program::start(&file(ANY, &[&a, &b], ""));
    let address = program.listening(0);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, count, address) = (Arc::clone(&stop), Arc::clone(&count), address.clone());
            thread::spawn(move || {
                let mut client = Client::connect(&address);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").0, "HTTP/1.1 200 OK");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let slow = thread::spawn({
        let address = address.clone();
        move || {
            let mut client = Client::connect(&address);
            (0..5).for_each(|_| assert_eq!(client.get("/slow").0, "HTTP/1.1 200 OK"));
        }
    });
    for turn in 0..20 {
        let some = [vec![&a, &b], vec![&b, &c], vec![&c], vec![&a, &c]];
        let more = format!("[timeouts]\nupstream_idle = \"{}s\"\n", 30 + turn);
        let said = program.reload(&file(ANY, &some[turn % 4], &more));
        assert!(said.contains("applied generation"), "{said}");
    }
    slow.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(count.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_watched_file_is_applied_by_itself_and_a_bad_one_is_not() {
    let a = Origin::start("a");
    let text = |more: &str| format!("watch = true\n{}", file(ANY, &[&a], more));
    let program = Program::start(&text(""));
    let says = |part: &str| {
        until(part, || program.log.lock().unwrap().iter().any(|line| line.contains(part)));
    };
    std::fs::write(&program.file, "nonsense").unwrap();
    says("reload refused: ");
    let new = program.file.with_file_name("new");
    std::fs::write(&new, text("[limits]\nheaders = 50\n")).unwrap();
    std::fs::rename(&new, &program.file).unwrap();
    says("limits.headers 100 -> 50");
    assert_eq!(Client::connect(&program.listening(0)).get("/").1, "a");
}

#[test]
fn a_command_says_what_was_applied_and_its_exit_code_does_too() {
    let a = Origin::start("a");
    let whole = file(ANY, &[&a], "");
    let program = Program::start(&whole);
    let mut client = Client::connect(&program.listening(0));
    let write = |text: &str| std::fs::write(&program.file, text).unwrap();
    assert_eq!(program.ask(&["rollback"]).1, Some(2), "there was nothing before");
    write(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    let (said, code) = program.ask(&["reload", "--dry-run"]);
    assert_eq!((said.as_str(), code), ("limits.headers 100 -> 50\n", Some(0)));
    let (said, code) = program.ask(&["reload"]);
    assert!(said.starts_with("applied generation ") && code == Some(0), "{said}");
    assert!(said.ends_with(" ms: limits.headers 100 -> 50\n"), "{said}");
    let (said, code) = program.ask(&["rollback"]);
    assert!(said.ends_with("limits.headers 50 -> 100\n") && code == Some(0), "{said}");
    write("nonsense");
    let (said, code) = program.ask(&["reload"]);
    assert!(said.contains("refused: ") && said.contains("evenly.toml:1"), "{said}");
    assert_eq!((code, client.get("/").1.as_str()), (Some(2), "a"));
}

#[test]
fn the_file_says_which_evenly_is_meant() {
    let a = Origin::start("a");
    let program = Program::start(&file(ANY, &[&a], ""));
    let reload = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        let folder = program.file.parent().unwrap();
        command.env("RUNTIME_DIRECTORY", folder).args(["reload", file]).output().unwrap()
    };
    let other = program.file.with_file_name("other.toml");
    let text = file(&[&program.listening(0)], &[&a], "");
    std::fs::write(&other, text).unwrap();
    let output = reload(other.to_str().unwrap());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("nothing has changed"), "{said} {:?}", output.stderr);
    std::fs::write(&other, "nonsense").unwrap();
    assert_eq!(reload(other.to_str().unwrap()).status.code(), Some(2));
}

#[test]
fn a_command_to_nobody_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["reload", "--socket", "/nowhere/evenly.sock"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot connect to /nowhere/evenly.sock"), "{said}");
}

#[test]
fn a_second_process_at_the_same_socket_does_not_start_and_a_stop_removes_it() {
    let a = Origin::start("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evenly.sock");
    let text = file(ANY, &[&a], &format!("[admin]\nsocket = {path:?}\n"));
    let mut program = Program::start(&text);
    assert!(path.exists());
    let second = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["run", program.file.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another evenly has it"), "{said}");
    assert_eq!(second.status.code(), Some(1));
    program.signal(Signal::TERM);
    until("its end", || program.child.try_wait().unwrap().is_some());
    assert!(!path.exists());
}

#[test]
fn commands_are_not_taken_by_the_admin_listener() {
    let a = Origin::start("a");
    let program = Program::start(&file(ANY, &[&a], "[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let mut address = None;
    until("its admin listener", || {
        let log = program.log.lock().unwrap();
        address = log
            .iter()
            .find_map(|line| Some(line.split_once("admin listening on http://")?.1.to_owned()));
        address.is_some()
    });
    let address = address.unwrap();
    for (request, status) in [
        ("POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "403"),
        ("GET /reload HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"),
        ("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"),
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {text}");
    }
}

/// What a service manager is told at a socket of the test's own.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path, _folder: folder }
    }

    /// The next message that has this part.
    #[track_caller]
    fn hears(&self, part: &str) -> String {
        let mut room = [0; 4096];
        loop {
            let count = self.socket.recv(&mut room).unwrap();
            let text = String::from_utf8_lossy(&room[..count]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_what_evenly_does_and_that_it_is_alive() {
    let a = Origin::start("a");
    let manager = Manager::new();
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let program = Program::start_with(&file(ANY, &[&a], ""), &variables);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=serving; configuration generation "), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    program.reload(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    let again = manager.hears("READY=1");
    assert_ne!(again, ready, "another generation");
    program.signal(Signal::TERM);
    assert!(manager.hears("STOPPING=1").contains("STATUS=draining"));
}

#[test]
fn the_unit_file_is_one_that_systemd_takes() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/config/evenly.service");
    let run = |args: &[&str]| Command::new("systemd-analyze").args(args).output();
    let Ok(verified) = run(&["verify", unit]) else {
        return eprintln!("skipped: systemd-analyze is not here (Debian: apt-get install systemd)");
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // The program need not be installed here; other units of the machine are not ours.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("evenly") && !line.contains("is not executable"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    let judged = run(&["security", "--offline=true", "--no-pager", unit]).unwrap();
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    let level = said
        .lines()
        .find_map(|line| line.split_once("exposure level for evenly.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f32>().ok());
    let Some(level) = level else {
        return eprintln!("skipped: this systemd-analyze does not judge offline: {said}");
    };
    assert!(level < 2.0, "exposure level {level}");
}
