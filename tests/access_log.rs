//! The access log of the real program: one line for each exchange, none lost at a clean stop, and nobody who waits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pipe::{fcntl_setpipe_size, pipe};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// An admin listener, for the file.
const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Answers every connection once, then ends it; what asks for `/hang` is never answered, for `/half` half of the time, and
/// `/tunnel` opens one, which ends when the client says so or says nothing.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or_default();
            if request[..count].starts_with(b"GET /hang ") {
                std::thread::spawn(move || stream.read(&mut [0]));
                continue;
            }
            if request[..count].starts_with(b"GET /half ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
                continue;
            }
            if request[..count].starts_with(b"GET /tunnel ") {
                let head = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
                let _ = stream.write_all(head);
                std::thread::spawn(move || stream.read(&mut [0]));
                continue;
            }
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            );
        }
    });
    port
}

/// A running `evenly`. Dropping it kills it.
struct Program {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads its log to the end.
    logger: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Program {
    /// With this access log, and `more` in its file.
    fn logging_to(access: &str, more: &str, stdout: Stdio) -> Program {
        Program::logging("", access, more, stdout)
    }

    /// Likewise, with `first` before all tables of the file.
    fn logging(first: &str, access: &str, more: &str, stdout: Stdio) -> Program {
        let program = Command::new(env!("CARGO_BIN_EXE_evenly"));
        Program::start(program, first, access, more, stdout, Stdio::piped())
    }

    /// Run by this shell script, which must end with `exec "$0" "$@"`.
    fn run_by(script: &str, access: &str, stderr: Stdio) -> Program {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_evenly")]);
        Program::start(shell, "", access, "", Stdio::null(), stderr)
    }

    fn start(
        mut command: Command,
        first: &str,
        access: &str,
        more: &str,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("evenly.toml");
        let target = format!("[[targets]]\naddress = \"127.0.0.1:{}\"", origin());
        let log = format!("[log]\naccess = \"{access}\"\n{more}");
        let text = format!("listen = \"127.0.0.1:0\"\n{first}\n{target}\n{log}\n");
        std::fs::write(&config, text).unwrap();
        let mut child = command
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .env_remove("EVENLY_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let (stderr, log) = (child.stderr.take(), Arc::<Mutex<Vec<String>>>::default());
        let mut program = Program {
            child,
            address: String::new(),
            log: Arc::clone(&log),
            logger: None,
            _folder: folder,
        };
        let Some(stderr) = stderr else {
            until("it listens", || {
                program.address = listening(program.child.id()).unwrap_or_default();
                !program.address.is_empty()
            });
            return program;
        };
        program.logger = Some(std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.for_each(|line| log.lock().unwrap().push(line));
        }));
        program.address = program.logged("  listening on http://");
        program
    }

    /// What its admin listener counts; it must have one.
    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.logged("admin listening on http://")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// How many entries it says that it has lost.
    fn lost(&self) -> u64 {
        let count = |line: &String| line.rsplit_once("lost: ")?.1.parse::<u64>().ok();
        self.log.lock().unwrap().iter().filter_map(count).sum()
    }

    fn to_file(path: &Path) -> Program {
        Program::logging_to(path.to_str().unwrap(), "", Stdio::null())
    }

    /// What follows `part` in the first line of its log that has it.
    #[track_caller]
    fn logged(&self, part: &str) -> String {
        let mut found = None;
        until(part, || {
            let log = self.log.lock().unwrap();
            found = log.iter().find_map(|line| Some(line.split_once(part)?.1.to_owned()));
            found.is_some()
        });
        found.unwrap()
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[track_caller]
    fn get(&self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(self.ask(&request).ends_with("hello"));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it. How long that took.
    #[track_caller]
    fn stop(&mut self) -> Duration {
        let started = Instant::now();
        self.signal(Signal::TERM);
        self.ended();
        started.elapsed()
    }

    #[track_caller]
    fn ended(&mut self) {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // Its last lines count what was lost.
        if let Some(logger) = self.logger.take() {
            logger.join().unwrap();
        }
        assert_eq!(status.unwrap().code(), Some(0), "{:#?}", self.log.lock().unwrap());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address on which a process listens, as the kernel knows it.
fn listening(process: u32) -> Option<String> {
    let sockets = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let sockets: Vec<_> = sockets.flatten().filter_map(|it| it.path().read_link().ok()).collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_its = sockets.contains(&format!("socket:[{}]", fields.get(9)?).into());
        let port = u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok()?;
        // 0A is TCP_LISTEN.
        (fields[3] == "0A" && is_its).then(|| format!("127.0.0.1:{port}"))
    })
}

fn entries(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The request lines in a file, which may not be there.
fn requests(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    entries(&text).iter().map(request_line).collect()
}

/// The request line that an entry tells of.
fn request_line(entry: &Value) -> String {
    let words = ["method", "uri", "protocol"].map(|name| entry[name].as_str().unwrap_or_default());
    words.join(" ")
}

#[test]
fn each_exchange_is_one_line_and_none_is_lost_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut evenly = Program::to_file(&log);
    for number in 0..3 {
        evenly.get(&format!("/{number}"));
    }
    assert!(evenly.ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
    evenly.stop();
    let entries = entries(&std::fs::read_to_string(&log).unwrap());
    let mut requests: Vec<String> = entries
        .iter()
        .map(|e| format!("{} {} {} {}", request_line(e), e["status"], e["bytes_out"], e["end"]))
        .collect();
    requests.sort();
    assert_eq!(requests[1..], [0, 1, 2].map(|n| format!("GET /{n} HTTP/1.1 200 5 \"finished\"")));
    assert!(requests[0].starts_with("   400 ") && requests[0].ends_with("\"answered\""));
    let refused = entries.iter().find(|entry| entry["status"] == 400).unwrap();
    assert_eq!(refused["line"], "GET / HTTP/1.1");
}

#[test]
fn a_reader_that_stops_holds_up_neither_requests_nor_the_end() {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut evenly = Program::logging_to("stdout", "", Stdio::from(writer));
    for number in 0..100 {
        evenly.get(&format!("/{number}?{}", "x".repeat(200)));
    }
    evenly.logged("the access log (standard output) accepts no more");
    evenly.get("/last");
    let took = evenly.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    let entries = entries(&text);
    assert!(!entries.is_empty() && entries.len() < 100 && text.ends_with('\n'), "{}", text.len());
}

#[test]
fn a_reader_that_comes_back_gets_what_waited() {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut evenly = Program::logging_to("stdout", "", Stdio::from(writer));
    for number in 0..100 {
        evenly.get(&format!("/{number}?{}", "x".repeat(200)));
    }
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).map(|_| text)
    });
    evenly.stop();
    assert_eq!(entries(&reader.join().unwrap().unwrap()).len(), 100);
}

#[test]
fn a_second_signal_gives_the_log_up() {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut evenly = Program::logging_to("stdout", "", Stdio::from(writer));
    for number in 0..100 {
        evenly.get(&format!("/{number}?{}", "x".repeat(200)));
    }
    evenly.signal(Signal::TERM);
    evenly.signal(Signal::QUIT);
    evenly.ended();
    drop(reader);
}

#[test]
fn a_file_that_was_renamed_is_opened_anew_at_sigusr1() {
    let folder = tempfile::tempdir().unwrap();
    let (log, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let mut evenly = Program::to_file(&log);
    evenly.get("/before");
    until("it is written", || requests(&log).len() == 1);
    std::fs::rename(&log, &old).unwrap();
    evenly.signal(Signal::USR1);
    evenly.logged("was reopened");
    evenly.get("/after");
    until("it is in the new file", || requests(&log) == ["GET /after HTTP/1.1"]);
    // Where the path cannot be opened the file that was open goes on.
    std::fs::rename(&log, &old).unwrap();
    std::fs::create_dir(&log).unwrap();
    evenly.signal(Signal::USR1);
    evenly.logged("cannot be reopened: Is a directory");
    evenly.get("/still");
    evenly.stop();
    assert_eq!(requests(&old), ["GET /after HTTP/1.1", "GET /still HTTP/1.1"]);
}

#[test]
fn a_fifo_needs_no_reader_and_its_readers_may_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut evenly = Program::to_file(&fifo);
    evenly.get("/one");
    for target in ["/one", "/two"] {
        let mut line = String::new();
        BufReader::new(File::open(&fifo).unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"uri\":\"{target}\"")), "{line}");
        evenly.get("/two");
    }
    evenly.stop();
}

#[test]
fn entries_that_a_full_disk_does_not_take_are_counted() {
    let mut evenly = Program::logging_to("/dev/full", ADMIN, Stdio::null());
    for number in 0..7 {
        evenly.get(&format!("/{number}"));
    }
    until("all are counted", || {
        evenly.metrics().contains("\nevenly_access_entries_lost_total 7\n")
    });
    evenly.logged("cannot be written: No space left on device");
    evenly.stop();
}

#[test]
fn a_file_that_was_removed_or_renamed_without_a_word_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (log, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let mut evenly = Program::to_file(&log);
    evenly.get("/before");
    until("it is written", || requests(&log).len() == 1);
    std::fs::remove_file(&log).unwrap();
    evenly.get("/removed");
    until("it is in a file of its name", || requests(&log) == ["GET /removed HTTP/1.1"]);
    evenly.logged("access.log) was removed and was reopened; entries lost: 0");
    std::fs::rename(&log, &old).unwrap();
    let mut sent = 1;
    until("a file of its name is there", || {
        evenly.get("/renamed");
        sent += 1;
        log.exists()
    });
    evenly.logged("access.log) was renamed or replaced and was reopened; entries lost: 0");
    evenly.stop();
    assert_eq!(requests(&old).len() + requests(&log).len(), sent);
}

#[test]
fn entries_for_a_folder_that_is_gone_are_lost_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("log");
    std::fs::create_dir(&inner).unwrap();
    let log = inner.join("access.log");
    let mut evenly = Program::logging_to(log.to_str().unwrap(), ADMIN, Stdio::null());
    std::fs::remove_dir_all(&inner).unwrap();
    (0..4).for_each(|_| evenly.get("/lost"));
    evenly.logged("access.log) was removed, and cannot be reopened: No such file");
    until("all are counted", || {
        evenly.metrics().contains("\nevenly_access_entries_lost_total 4\n")
    });
    std::fs::create_dir(&inner).unwrap();
    evenly.get("/back");
    until("it is back", || requests(&log) == ["GET /back HTTP/1.1"]);
    evenly.stop();
    assert_eq!(evenly.lost(), 4);
}

/// A folder on a small disk of the program's own, which is there while it runs: as its own root, since nobody else may
/// mount anything. `None` where this machine does not let it.
fn on_a_small_disk(options: &str) -> Option<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let mount = format!("mount -t tmpfs -o {options} none {path}");
    let namespace = ["--user", "--map-root-user", "--mount"];
    let tried = Command::new("unshare").args(namespace).args(["sh", "-c", &mount]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no disk can be made here");
        return None;
    }
    let script = format!(
        "exec unshare --user --map-root-user --mount sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\""
    );
    Some((folder, script))
}

#[test]
fn on_a_disk_that_is_full_for_a_while_each_entry_is_whole_or_counted() {
    let Some((folder, script)) = on_a_small_disk("size=32k") else { return };
    let mut evenly = Program::run_by(
        &script,
        &format!("{}/access.log", folder.path().display()),
        Stdio::piped(),
    );
    // Where its disk is for others.
    let disk = format!("/proc/{}/root{}", evenly.child.id(), folder.path().display());
    let (log, rest) = (format!("{disk}/access.log"), format!("{disk}/rest"));
    std::fs::write(&rest, vec![b'x'; 16 * 1024]).unwrap();
    let mut sent = 0;
    let mut send = |evenly: &Program, count| {
        (0..count).for_each(|number| evenly.get(&format!("/{number}?{}", "x".repeat(200))));
        sent += count;
        sent
    };
    // More than half of the disk, and with those below less than all of it.
    send(&evenly, 30);
    evenly.logged("cannot be written: No space left on device");
    std::fs::remove_file(&rest).unwrap();
    let sent = send(&evenly, 5);
    evenly.logged("accepts entries again; lost: ");
    // The disk is gone with the program, but for what is open.
    let mut file = File::open(&log).unwrap();
    evenly.stop();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(entries(&text).len() as u64 + evenly.lost(), sent);
}

#[test]
fn a_disk_on_which_no_log_can_be_made_is_told_with_a_remedy() {
    for (options, remedy) in [
        (
            "ro",
            "Read-only file system (os error 30); write a path on a file system that can be written",
        ),
        (
            "nr_inodes=1",
            "No space left on device (os error 28); free some room there, or write a path elsewhere",
        ),
    ] {
        let Some((folder, script)) = on_a_small_disk(options) else { return };
        let config = tempfile::NamedTempFile::new().unwrap();
        let path = format!("{}/access.log", folder.path().display());
        let toml = format!("[[targets]]\naddress = \"127.0.0.1:1\"\n[log]\naccess = \"{path}\"\n");
        std::fs::write(config.path(), toml).unwrap();
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_evenly"), "run", "--listen", "127.0.0.1:0"])
            .arg(config.path())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let place = format!("{}:4:10: log.access: cannot open {path}: ", config.path().display());
        assert!(log.contains(&format!("{place}{remedy}")), "{log}");
    }
}

#[test]
fn a_socket_as_standard_output_gets_every_entry_or_it_is_counted() {
    for reads in [true, false] {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut evenly = Program::logging_to("stdout", "", Stdio::from(OwnedFd::from(writer)));
        let read = move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        };
        let reader = if reads { Ok(std::thread::spawn(read)) } else { Err(read) };
        let mut sent = 0;
        until("it is full", || {
            (0..50).for_each(|_| evenly.get(&format!("/{}", "x".repeat(3_000))));
            sent += 50;
            reads || evenly.log.lock().unwrap().iter().any(|line| line.contains("accepts no more"))
        });
        let took = evenly.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
        let text = match reader {
            Ok(reading) => reading.join().unwrap(),
            Err(mut read) => read(),
        };
        let whole = entries(&text.unwrap()).len() as u64;
        assert_eq!(whole + evenly.lost(), sent, "read: {reads}");
        assert_eq!(evenly.lost() > 0, !reads);
    }
}

#[test]
fn a_fifo_without_a_reader_delays_nothing_and_its_losses_count() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut evenly = Program::to_file(&fifo);
    let mut sent = 0;
    until("it is full", || {
        (0..20).for_each(|_| evenly.get(&format!("/{}", "x".repeat(3_000))));
        sent += 20;
        evenly.log.lock().unwrap().iter().any(|line| line.contains("accepts no more"))
    });
    // Open before the program ends, so that what is in there stays.
    let mut reader =
        File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).unwrap();
    let took = evenly.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(entries(&text).len() as u64 + evenly.lost(), sent);
}

#[test]
fn whatever_standard_error_is_requests_are_served_and_the_end_comes_in_time() {
    let (gone, without_reader) = pipe().unwrap();
    drop(gone);
    let (_unread, full) = pipe().unwrap();
    fcntl_setpipe_size(&full, 4096).unwrap();
    let (_silent, socket) = UnixStream::pair().unwrap();
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let as_it_is = "exec \"$0\" \"$@\"";
    let cases = [
        ("closed", "exec \"$0\" \"$@\" 2>&-", Stdio::null()),
        ("a pipe without a reader", as_it_is, Stdio::from(without_reader)),
        ("a pipe that nobody reads", as_it_is, Stdio::from(full)),
        ("a socket that nobody reads", as_it_is, Stdio::from(OwnedFd::from(socket))),
        ("a full disk", as_it_is, Stdio::from(full_disk)),
    ];
    for (what, script, stderr) in cases {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let mut evenly = Program::run_by(script, log.to_str().unwrap(), stderr);
        for _ in 0..100 {
            // A line of the log: it is reopened.
            evenly.signal(Signal::USR1);
            evenly.get("/");
        }
        let took = evenly.stop();
        assert!(took < Duration::from_secs(8), "{what}: {took:?}");
        assert_eq!(requests(&log).len(), 100, "{what}");
    }
}

#[test]
fn an_access_log_that_cannot_be_opened_is_told_with_its_path_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let folder = folder.path().display();
    for (path, remedy) in [
        (format!("{folder}/none/access.log"), format!("make the folder {folder}/none first")),
        ("/proc/a.log".to_owned(), "no file can be made in /proc".to_owned()),
        (format!("{folder}"), "write the path of a file in this folder".to_owned()),
        (format!("{folder}/file/a.log"), format!("{folder}/file is not a folder")),
    ] {
        let config = format!("{folder}/evenly.toml");
        let text = format!("[[targets]]\naddress = \"127.0.0.1:1\"\n[log]\naccess = \"{path}\"\n");
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--config", &config])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        let message = last["message"].as_str().unwrap();
        let place = format!("{config}:4:10: log.access: cannot open {path}: ");
        assert!(message.starts_with(&place), "{message}");
        assert!(message.contains(&remedy), "{message}");
        assert_eq!(last["level"], "error");
    }
}

#[test]
fn a_client_cannot_drive_the_terminal_of_who_reads_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut evenly = Program::to_file(&log);
    let agent = "\u{9b}31mRED \u{9d}0;title\u{9c} \u{202e}gnp.exe\u{2028}\u{2066}";
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    assert!(evenly.ask(&request).ends_with("hello"));
    evenly.stop();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.trim_end().is_ascii(), "{text:?}");
    assert_eq!(entries(&text)[0]["user_agent"], agent);
}

#[test]
fn every_way_in_which_an_exchange_ends_has_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let more = "[timeouts]\nclient_gone = \"0s\"\ntunnel_idle = \"300ms\"";
    let mut evenly = Program::logging_to(log.to_str().unwrap(), more, Stdio::null());
    let address = evenly.address.clone();
    let open = |request: &str| {
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    };
    let tunnel = || {
        let mut client =
            open("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        client
    };
    // The word of the newest entry, once there are so many.
    let word = |count: usize| {
        let mut words = Vec::new();
        until("the entry", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ends = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            words = ends
                .map(|entry| {
                    ["end", "ended_by", "phase"]
                        .map(|name| entry[name].as_str().unwrap_or("-"))
                        .join(" ")
                })
                .collect();
            words.len() == count
        });
        words.pop().unwrap()
    };
    evenly.get("/");
    assert_eq!(word(1), "finished - -");
    assert!(evenly.ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(word(2), "answered client request");
    let half = open("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(word(3), "cut target response");
    drop(half);
    drop(open("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"));
    let gone = word(4);
    assert!(
        ["client-closed client connect", "client-closed client wait"].contains(&gone.as_str()),
        "{gone}"
    );
    drop(tunnel());
    assert_eq!(word(5), "tunnel-closed - -");
    let silent = tunnel();
    assert_eq!(word(6), "tunnel-idle evenly tunnel");
    drop(silent);
    evenly.stop();
}

#[test]
fn what_is_cut_at_the_end_of_a_drain_has_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let more = format!("{ADMIN}\n[timeouts]\ndrain = \"300ms\"");
    let mut evenly = Program::logging_to(log.to_str().unwrap(), &more, Stdio::null());
    let mut client = TcpStream::connect(&evenly.address).unwrap();
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until("the request is at the target", || {
        evenly.metrics().contains("\nevenly_requests_total 1\n")
    });
    evenly.stop();
    let entries = entries(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["end"], &entries[0]["status"]), (&"cut".into(), &0.into()));
    assert!(entries[0]["endpoint"].is_string(), "{}", entries[0]);
    assert_eq!((&entries[0]["ended_by"], &entries[0]["phase"]), (&"evenly".into(), &"wait".into()));
}

/// Runs it before its origin with this access log, `first` at the top of its file and `format`, has `work` done, stops it, and returns the
/// lines.
#[track_caller]
fn lines_of(first: &str, format: &str, work: impl FnOnce(&Program)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let access = log.to_str().unwrap();
    let mut evenly =
        Program::logging(first, access, &format!("format = '{format}'"), Stdio::null());
    work(&evenly);
    evenly.stop();
    std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_entry_has_the_names_the_times_and_the_ways_of_its_request() {
    let first = "request_id = true\ntrace = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut told = String::new();
    let lines = lines_of(first, "json", |evenly| {
        told = evenly.ask(&format!(
            "POST /a?b=c HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\nUser-Agent: x\r\n\
             X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n\
             traceparent: 00-{trace}-00f067aa0ba902b7-01\r\nConnection: close\r\n\r\nabc"
        ));
    });
    let entry: Value = serde_json::from_str(&lines[0]).unwrap();
    for (name, wanted) in [
        ("trace_id", Value::from(trace)),
        ("client", "203.0.113.9".into()),
        ("method", "POST".into()),
        ("uri", "/a?b=c".into()),
        ("protocol", "HTTP/1.1".into()),
        ("host", "shop.example".into()),
        ("user_agent", "x".into()),
        ("status", 200.into()),
        ("bytes_in", 3.into()),
        ("bytes_out", 5.into()),
        ("attempts", 1.into()),
        ("end", "finished".into()),
    ] {
        assert_eq!(entry[name], wanted, "{name}: {entry}");
    }
    assert!(told.contains(&format!("X-Request-ID: {}\r\n", entry["request_id"].as_str().unwrap())));
    assert_eq!(entry["target"], entry["endpoint"]);
    let time = |name: &str| entry[name].as_f64().unwrap_or_else(|| panic!("{name}: {entry}"));
    assert!(time("connect_ms") <= time("first_byte_ms"), "{entry}");
    assert!(time("first_byte_ms") <= time("duration_ms"), "{entry}");
}

#[test]
fn requests_that_are_refused_show_what_came_of_them() {
    let lines = lines_of("", "json", |evenly| {
        for request in [
            "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01\x02\0\x01\x00\x01\u{1b}[31m\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)),
        ] {
            assert!(evenly.ask(request).starts_with("HTTP/1.1 "));
        }
    });
    let entries = entries(&lines.join("\n"));
    let mut shown: Vec<&str> = entries.iter().map(|it| it["line"].as_str().unwrap()).collect();
    shown.sort_by_key(|line| (line.len(), *line));
    assert!(shown.contains(&"GET /x  HTTP/1.1") && shown.contains(&"GET / HTTP/9.9"), "{shown:?}");
    assert!(shown.iter().any(|line| line.starts_with("\u{16}\u{3}")), "{shown:?}");
    assert_eq!(shown.last().unwrap().len(), 256);
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
    assert!(entries.iter().all(|it| it["method"].is_null() && it["status"].as_u64() >= Some(400)));
}

#[test]
fn the_head_of_a_request_that_was_too_slow_is_shown_as_far_as_it_came() {
    let lines = lines_of("", "json'\n[timeouts]\nclient_header = '100ms", |evenly| {
        assert!(evenly.ask("GET /slow HTTP/1.1\r\nHost: a\r\n").starts_with("HTTP/1.1 408"));
    });
    let entry: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&entry["line"], &entry["status"]), (&"GET /slow HTTP/1.1".into(), &408.into()));
}

#[test]
fn a_template_has_its_fields_and_nothing_of_a_client_leaves_them() {
    let format = "{client}|{uri}|{status}|{user_agent}|\"{referer}\"|{endpoint}";
    let lines = lines_of("", format, |evenly| {
        let fields = "User-Agent: a|b c\r\nReferer: x\"y\r\nConnection: close\r\n";
        assert!(
            evenly.ask(&format!("GET /|? HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).ends_with("hello")
        );
    });
    let (start, end) = lines[0].rsplit_once('|').unwrap();
    assert_eq!(start, "127.0.0.1|/\\x7c?|200|a\\x7cb\\x20c|\"x\\\"y\"");
    assert!(end.starts_with("127.0.0.1:"), "{end}");
}

#[test]
fn goaccess_reads_the_combined_formats() {
    if Command::new("goaccess").arg("--version").output().is_err() {
        println!("skipped: goaccess is missing (Debian: apt-get install goaccess)");
        return;
    }
    for (format, theirs) in [("combined", "COMBINED"), ("vhost-combined", "VCOMBINED")] {
        let lines = lines_of("", format, |evenly| {
            for number in 0..5 {
                let fields = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) \"quoted\"\r\nReferer: http://example.org/?a=\"b\"\r\n";
                let request = format!(
                    "GET /{number}?q=a%20b HTTP/1.1\r\nHost: shop.example\r\n{fields}Connection: close\r\n\r\n"
                );
                assert!(evenly.ask(&request).ends_with("hello"));
            }
        });
        assert_eq!(lines.len(), 5);
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        std::fs::write(&log, lines.join("\n") + "\n").unwrap();
        let output = Command::new("goaccess")
            .arg(&log)
            .args(["--no-global-config", "--log-format", theirs, "-o", "json"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let report = std::fs::read_to_string(folder.path().join("json"));
        let text = report.unwrap_or_else(|_| String::from_utf8_lossy(&output.stdout).into_owned());
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr))
        });
        let general = &report["general"];
        assert_eq!(
            (&general["valid_requests"], &general["failed_requests"]),
            (&5.into(), &0.into()),
            "{general}"
        );
        if format == "vhost-combined" {
            assert_eq!(report["vhosts"]["data"][0]["data"], "shop.example", "{}", report["vhosts"]);
        }
    }
}
