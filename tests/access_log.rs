//! The access log of the real program: one line for each exchange, none lost at a clean stop, and nobody who waits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pipe::{fcntl_setpipe_size, pipe};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Answers every connection once, then ends it; what asks for `/hang` is never answered.
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
    _folder: tempfile::TempDir,
}

impl Program {
    /// With this access log, and `more` in its file.
    fn logging_to(access: &str, more: &str, stdout: Stdio) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("evenly.toml");
        let target = format!("[[targets]]\naddress = \"127.0.0.1:{}\"", origin());
        let log = format!("[log]\naccess = \"{access}\"\n{more}");
        std::fs::write(&config, format!("listen = \"127.0.0.1:0\"\n{target}\n{log}\n")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .env_remove("EVENLY_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        let mut program = Program { child, address: String::new(), log, _folder: folder };
        program.address = program.logged("  listening on http://");
        program
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

fn entries(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The request lines in a file, which may not be there.
fn requests(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    entries(&text).iter().map(|entry| entry["request"].as_str().unwrap().to_owned()).collect()
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
        .map(|e| format!("{} {} {} {}", e["request"], e["status"], e["bytes"], e["end"]))
        .collect();
    requests.sort();
    assert_eq!(
        requests[1..],
        [0, 1, 2].map(|n| format!("\"GET /{n} HTTP/1.1\" 200 5 \"finished\""))
    );
    assert!(requests[0].starts_with("\"\" 400 ") && requests[0].ends_with("\"answered\""));
}

#[test]
fn a_reader_that_stops_holds_up_neither_requests_nor_the_end() {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"";
    let mut evenly = Program::logging_to("stdout", admin, Stdio::from(writer));
    for number in 0..100 {
        evenly.get(&format!("/{number}?{}", "x".repeat(200)));
    }
    evenly.logged("the access log (standard output) takes no more");
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
    evenly.logged("is opened anew");
    evenly.get("/after");
    until("it is in the new file", || requests(&log) == ["GET /after HTTP/1.1"]);
    // Where the path cannot be opened the file that was open goes on.
    std::fs::rename(&log, &old).unwrap();
    std::fs::create_dir(&log).unwrap();
    evenly.signal(Signal::USR1);
    evenly.logged("cannot be opened anew: Is a directory");
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
        assert!(line.contains(&format!("GET {target} HTTP")), "{line}");
        evenly.get("/two");
    }
    evenly.stop();
}

#[test]
fn entries_that_a_full_disk_does_not_take_are_counted() {
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"";
    let mut evenly = Program::logging_to("/dev/full", admin, Stdio::null());
    let admin = evenly.logged("admin listening on http://");
    for number in 0..7 {
        evenly.get(&format!("/{number}"));
    }
    until("all are counted", || {
        let mut stream = TcpStream::connect(&admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.contains("\nevenly_access_entries_lost_total 7\n")
    });
    evenly.logged("cannot be written: No space left on device");
    evenly.stop();
}

#[test]
fn an_access_log_that_cannot_be_opened_is_told_with_its_path_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let folder = folder.path().display();
    for (path, remedy) in [
        (format!("{folder}/none/access.log"), format!("make the folder {folder}/none first")),
        (format!("{folder}"), "write the path of a file in this folder".to_owned()),
        (format!("{folder}/file/a.log"), format!("{folder}/file is no folder")),
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
        assert!(message.starts_with(&format!("log.access: cannot open {path}: ")), "{message}");
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
fn what_is_cut_at_the_end_of_a_drain_has_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n[timeouts]\ndrain = \"300ms\"";
    let mut evenly = Program::logging_to(log.to_str().unwrap(), admin, Stdio::null());
    let admin = evenly.logged("admin listening on http://");
    let mut client = TcpStream::connect(&evenly.address).unwrap();
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until("the request is at the target", || {
        let mut stream = TcpStream::connect(&admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.contains("\nevenly_requests_total 1\n")
    });
    evenly.stop();
    let entries = entries(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["end"], &entries[0]["status"]), (&"cut".into(), &0.into()));
    assert!(entries[0]["upstream"].is_string(), "{}", entries[0]);
}
