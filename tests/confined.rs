//! What the process gives up: new privileges, root, writing elsewhere, system calls. The real program serves, reloads and rotates its log
//! without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);
/// The user `nobody` of every distribution.
const NOBODY: u32 = 65534;

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An origin that answers each connection once. Its port.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            // A check connects and leaves.
            if stream.read(&mut head).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            }
        }
    });
    port
}

/// The status line of a response to a GET.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A folder that everybody may enter, and whose `logs` and `run` are of this user.
struct Place(tempfile::TempDir);

impl Place {
    fn of(uid: u32) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Place(folder);
        for name in ["logs", "run"] {
            fs::create_dir(place.at(name)).unwrap();
            if geteuid().is_root() {
                chown(place.at(name), Some(uid), Some(uid)).unwrap();
            }
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file with these lines, and a target of that port.
    fn write(&self, lines: &str, port: u16) -> PathBuf {
        let (top, tables) = lines.split_at(lines.find("\n[").unwrap_or(lines.len()));
        let text =
            format!("workers = 2\n{top}\n[[targets]]\naddress = \"localhost:{port}\"\n{tables}");
        let path = self.at("evenly.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        command
            .env("RUNTIME_DIRECTORY", self.at("run"))
            .env_remove("RUST_LOG")
            .env_remove("EVENLY_LOG")
            .env_remove("EVENLY_LANDLOCK")
            .args(["run", "--config"])
            .arg(self.at("evenly.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Program {
        Program::of(&mut self.command())
    }

    /// A start that fails.
    fn fail(&self) -> Output {
        self.command().output().unwrap()
    }
}

/// A running `evenly`. Dropping it kills it.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn of(command: &mut Command) -> Program {
        let mut child = command.spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            let stderr = BufReader::new(stderr).lines().map_while(Result::ok);
            stderr.for_each(|line| lines.lock().unwrap().push(line));
        });
        Program { child, log }
    }

    /// What follows `part` on the line of that number that has it.
    #[track_caller]
    fn said(&self, part: &str, number: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap().clone();
            let mut lines = log.iter().filter_map(|line| line.split_once(part));
            if let Some((_, rest)) = lines.nth(number) {
                return rest.to_owned();
            }
            drop(lines);
            let proc = |file| fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
            assert!(
                Instant::now() < deadline,
                "waited for: {part}\nit is in {:?}, and said:\n{}",
                proc("wchan"),
                log.join("\n")
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn has_said(&self, part: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(part))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it by its control socket.
    #[track_caller]
    fn ask(&self, command: &str) -> (String, Option<i32>) {
        let socket = self.said("control socket: ", 0);
        let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args([command, "--socket", &socket])
            .output()
            .unwrap();
        (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
    }

    /// This line of the status of each of its threads, without repetitions.
    fn of_threads(&self, line: &str) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut found = Vec::new();
        let mut threads = 0;
        for task in fs::read_dir(tasks).unwrap() {
            // One of the runtime's may end meanwhile.
            let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else {
                continue;
            };
            let of = status.lines().find_map(|it| it.strip_prefix(line)).unwrap_or_default();
            found.push(of.split_whitespace().collect::<Vec<_>>().join(" "));
            threads += 1;
        }
        assert!(threads >= 6, "main, signals, log, health, admin, workers");
        found.sort();
        found.dedup();
        found
    }

    /// Stops it. Its exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root(test: &str) -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("skipped: {test} needs root");
    }
    is_root
}

/// Rotates the log as logrotate does, and sees that what follows is in the new file.
#[track_caller]
fn rotates(program: &Program, listen: &str, log: &Path) {
    get(listen, "/before");
    until("an entry", || fs::read_to_string(log).is_ok_and(|text| text.contains("/before")));
    fs::rename(log, log.with_extension("1")).unwrap();
    program.signal(Signal::USR1);
    program.said("was reopened", 0);
    get(listen, "/after");
    until("an entry", || fs::read_to_string(log).is_ok_and(|text| text.contains("/after")));
}

#[test]
fn no_thread_can_gain_privileges() {
    let place = Place::of(geteuid().as_raw());
    place.write("listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n", origin());
    let program = place.start();
    program.said("listening on http://", 1);
    assert_eq!(program.of_threads("NoNewPrivs:"), ["1"]);
    let confined = format!("uid {}, no_new_privs", geteuid().as_raw());
    assert_eq!(program.said("confined: ", 0), confined);
    let status = get(&program.said("admin listening on http://", 0), "/status");
    assert!(status.contains(&format!("\"confinement\": \"{confined}\"")), "{status}");
    let warned = program.has_said("WARN  running as root");
    assert_eq!(warned, geteuid().is_root());
}

#[test]
fn root_becomes_the_user_in_every_thread_and_serves() {
    if !is_root("becoming another user") {
        return;
    }
    let place = Place::of(NOBODY);
    let log = place.at("logs/access.log");
    // A port that only root may bind, on an address that nobody else has.
    let id = std::process::id();
    let low = format!("127.{}.{}.1:443", 1 + (id >> 8) % 250, id % 256);
    let port = origin();
    let text = |more: &str| {
        let log = log.display();
        format!("listen = [\"{low}\"{more}]\nuser = \"nobody\"\n[log]\naccess = \"{log}\"\n")
    };
    place.write(&text(""), port);
    let program = place.start();
    program.said("listening on http://", 0);
    let id = NOBODY.to_string();
    let four = [id.as_str(); 4].join(" ");
    for (line, expected) in [("Uid:", &four), ("Gid:", &four), ("Groups:", &id)] {
        assert_eq!(&program.of_threads(line), std::slice::from_ref(expected), "{line}");
    }
    assert_eq!(program.of_threads("CapEff:"), ["0000000000000000"]);
    assert!(!program.has_said("running as root"));
    assert_eq!(program.said("confined: ", 0), "user nobody, no_new_privs");
    let socket = fs::symlink_metadata(program.said("control socket: ", 0)).unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (NOBODY, 0o600));
    for _ in 0..16 {
        assert!(get(&low, "/").starts_with("HTTP/1.1 200"));
    }
    rotates(&program, &low, &log);
    assert_eq!(fs::metadata(&log).unwrap().uid(), NOBODY);
    // Two ports of its own: on one of them both workers listen.
    place.write(&text(", \"127.0.0.1:0\""), port);
    assert_eq!(program.ask("reload").1, Some(0));
    assert!(get(&program.said("INFO  listening on http://", 1), "/").starts_with("HTTP/1.1 200"));
    place.write(&text(&format!(", \"{}\"", low.replace(":443", ":80"))), port);
    let (said, code) = program.ask("reload");
    assert_eq!(code, Some(2));
    assert!(said.contains("evenly has become user nobody") && said.contains("restart"), "{said}");
    assert!(get(&low, "/").starts_with("HTTP/1.1 200"));
    assert_eq!(program.stop(), Some(0));
    assert_eq!(fs::read_dir(place.at("run")).unwrap().count(), 0, "the socket is gone");
}

#[test]
fn in_folders_of_root_the_socket_and_the_log_are_the_users() {
    if !is_root("making files in folders of root") {
        return;
    }
    let place = Place::of(0);
    let run = PathBuf::from(format!("/run/evenly-test-{}", std::process::id()));
    let log = run.with_extension("log");
    let _gone = Gone([run.clone(), log.clone()]);
    let log_key = format!("[log]\naccess = \"{}\"\n", log.display());
    place.write(&format!("listen = \"127.0.0.1:0\"\nuser = \"nobody\"\n{log_key}"), origin());
    let file = place.at("evenly.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let program = Program::of(place.command().env("RUNTIME_DIRECTORY", &run));
    let listen = program.said("listening on http://", 0);
    assert_eq!(fs::metadata(&run).unwrap().uid(), NOBODY);
    assert_eq!(fs::metadata(&log).unwrap().uid(), NOBODY);
    assert!(get(&listen, "/").starts_with("HTTP/1.1 200"));
    program.said("cannot read the configuration file", 0);
    let (said, code) = program.ask("reload");
    assert!(code == Some(2) && said.contains("evenly.toml"), "{said}");
    // Nobody may make a file in /run.
    fs::remove_file(&log).unwrap();
    program.signal(Signal::USR1);
    let said = program.said("cannot be reopened: ", 0);
    assert!(said.contains("may not write in /run"), "{said}");
    assert_eq!(program.stop(), Some(0));
}

/// Removes what it names when the test ends.
struct Gone([PathBuf; 2]);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0[0]);
        let _ = fs::remove_file(&self.0[1]);
    }
}

#[test]
fn a_user_that_cannot_be_is_an_error_with_its_line() {
    let place = Place::of(geteuid().as_raw());
    let cases = [
        ("nobody-of-this-name", "this machine has no such user; make it (useradd"),
        ("0:no-such-group", "this machine has no group \"no-such-group\""),
        ("4123456789", "write \"4123456789:GROUP\""),
    ];
    for (user, part) in cases {
        place.write(&format!("listen = \"127.0.0.1:0\"\nuser = \"{user}\"\n"), 1);
        let output = place.fail();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("evenly.toml:3:8: user: cannot become") && said.contains(part),
            "{said}"
        );
    }
}

#[test]
fn only_root_becomes_another_user() {
    let place = Place::of(NOBODY);
    place.write("listen = \"127.0.0.1:0\"\nuser = \"0\"\n", 1);
    let mut command = place.command();
    if geteuid().is_root() {
        // The program may lie where nobody else may go.
        let program = place.at("evenly");
        fs::copy(env!("CARGO_BIN_EXE_evenly"), &program).unwrap();
        command = Command::new(&program);
        command.args(["run", "--config"]).arg(place.at("evenly.toml")).uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only root can become another user"), "{said}");
}

/// A container has a namespace of processes, and its first process a session that began outside: there getsid(2) and getpgrp(2) return 0.
#[test]
fn as_the_first_process_of_a_container_it_starts_and_filters_its_calls() {
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let tried = Command::new("unshare").args(namespace).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("skipped: unshare(1) can make no namespace of processes here");
        return;
    }
    let place = Place::of(geteuid().as_raw());
    place.write("listen = \"127.0.0.1:0\"\n[security]\nseccomp = \"auto\"\n", origin());
    let inner = place.command();
    let mut outer = Command::new("unshare");
    let environment = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
    outer.envs(environment).args(namespace).arg(inner.get_program()).args(inner.get_args());
    outer.env_remove("RUST_LOG").env_remove("EVENLY_LOG").stderr(Stdio::piped());
    let program = Program::of(&mut outer);
    let listen = program.said("INFO  listening on http://", 0);
    assert!(get(&listen, "/").starts_with("HTTP/1.1 200"));
    assert_eq!(program.ask("reload").1, Some(0));
}

#[test]
fn confined_as_far_as_this_kernel_can_it_does_all_that_it_does() {
    let uid = geteuid().as_raw();
    let place = Place::of(uid);
    let port = origin();
    let text = |log: &str, more: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\n{more}[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"{}\"\n\
             [security]\nlandlock = \"auto\"\nseccomp = \"auto\"\n",
            place.at(log).display()
        )
    };
    place.write(&text("logs/access.log", ""), port);
    let program = place.start();
    let listen = program.said("INFO  listening on http://", 0);
    let confined = program.said("confined: ", 0);
    assert!(get(&listen, "/").starts_with("HTTP/1.1 200"));
    assert!(get(&program.said("admin listening on http://", 0), "/status").contains(&confined));
    rotates(&program, &listen, &place.at("logs/access.log"));
    place.write(&text("logs/access.log", "via = \"off\"\n"), port);
    let (said, code) = program.ask("reload");
    assert_eq!(code, Some(0), "{said}");
    place.write(&text("logs/another.log", ""), port);
    assert_eq!(program.ask("reload").1, Some(0), "another file in the same folder");
    if confined.contains("seccomp") {
        assert_eq!(program.of_threads("Seccomp:"), ["2"]);
    } else {
        println!("not tested: this kernel takes no seccomp filter");
        program.said("security.seccomp is off: ", 0);
    }
    if confined.contains("landlock ABI ") {
        place.write(&text("elsewhere.log", ""), port);
        let (said, code) = program.ask("reload");
        assert_eq!(code, Some(2));
        assert!(said.contains("security.landlock") && said.contains("restart evenly"), "{said}");
        assert!(!place.at("elsewhere.log").exists());
    } else {
        println!("not tested: this kernel has no Landlock");
        program.said("security.landlock is off: ", 0);
    }
    assert!(get(&listen, "/").starts_with("HTTP/1.1 200"));
    assert_eq!(program.stop(), Some(0));
    assert_eq!(fs::read_dir(place.at("run")).unwrap().count(), 0, "the socket is gone");
}
