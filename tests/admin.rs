//! The admin listener of the real program: what it counts, what it says, and whom it does not wait for.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails the test when it does not come to.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A server that answers every request with `ok`; one for `/hold` only when it is released.
struct Origin {
    address: SocketAddr,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl Origin {
    fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin { address: listener.local_addr().unwrap(), released: Arc::default() };
        let released = Arc::clone(&origin.released);
        // Lasts as long as the test's process: it blocks in its accept.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let released = Arc::clone(&released);
                thread::spawn(move || converse(&stream, &released));
            }
        });
        origin
    }

    fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }
}

fn converse(stream: &TcpStream, released: &(Mutex<bool>, Condvar)) {
    let mut reader = BufReader::new(stream);
    while let Some(first) = read_head(&mut reader) {
        if first.contains("/hold") {
            let held = released.0.lock().unwrap();
            drop(released.1.wait_while(held, |released| !*released).unwrap());
        }
        let mut stream = stream;
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// The first line of a head that is read to its end; `None` when there is no more.
fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) if line == "\r\n" => return Some(first),
            Ok(_) if first.is_empty() => first.clone_from(&line),
            Ok(_) => {}
        }
    }
}

/// An address that refuses connects for as long as the socket lives, because it is bound and nobody listens.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A running `evenly`. Dropping it kills it.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Program {
    fn launch(admin: &str, targets: &[SocketAddr]) -> Program {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("evenly.toml");
        let mut text = format!("listen = \"127.0.0.1:0\"\nworkers = 2\n{admin}\n");
        for target in targets {
            text += &format!("[[targets]]\naddress = \"{target}\"\n");
        }
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(["run", "--config"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .env_remove("EVENLY_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|l| kept.lock().unwrap().push(l));
        });
        Program { child, log, _directory: directory }
    }

    /// One that has an admin listener and serves.
    fn serving(targets: &[SocketAddr]) -> Program {
        let program = Program::launch("[admin]\nlisten = \"127.0.0.1:0\"", targets);
        program.front();
        program
    }

    /// The first line of the log with `part` in it, as soon as there is one.
    fn logged(&self, part: &str) -> String {
        let mut found = None;
        until(part, || {
            found = self.log.lock().unwrap().iter().find(|line| line.contains(part)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    fn address(&self, what: &str) -> SocketAddr {
        let line = self.logged(what);
        line.split_once(what).unwrap().1.parse().unwrap()
    }

    fn front(&self) -> SocketAddr {
        self.address("  listening on http://")
    }

    fn admin(&self) -> SocketAddr {
        self.address("admin listening on http://")
    }

    /// Asks the admin listener.
    fn get(&self, path: &str) -> Answer {
        exchange(self.admin(), format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes())
    }

    /// The value of one sample of `/metrics`.
    fn metric(&self, sample: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    /// The sum of the samples of this family.
    fn sum(&self, family: &str) -> f64 {
        let text = self.get("/metrics").body;
        let samples = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
        let values: Vec<f64> =
            samples.map(|sample| sample.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "no {family} in {text}");
        values.iter().sum()
    }

    /// Sends `count` requests to the balancer, one after another on one connection.
    fn send(&self, count: usize) -> TcpStream {
        let stream = TcpStream::connect(self.front()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(&stream);
        for _ in 0..count {
            (&stream).write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(read_head(&mut reader).unwrap(), "HTTP/1.1 200 OK\r\n");
            reader.read_exact(&mut [0; 2]).unwrap();
        }
        stream
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends `bytes` and reads to the end of the connection, which must not be a reset.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn labels(address: SocketAddr) -> String {
    format!("evenly_endpoint_up{{target=\"{address}\",address=\"{address}\"}}")
}

#[test]
fn metrics_count_what_was_served() {
    let (one, two) = (Origin::start(), Origin::start());
    let program = Program::serving(&[one.address, two.address]);
    assert_eq!(program.metric("evenly_requests_total"), 0.0);
    let first = program.send(7);
    let second = program.send(4);
    // Every answer has come, so every request was counted.
    assert_eq!(program.metric("evenly_requests_total"), 11.0);
    assert_eq!(program.metric("evenly_client_connections_accepted_total"), 2.0);
    until("the end of every exchange is counted", || {
        program.metric("evenly_exchanges_finished_total") == 11.0
    });
    let connections = || {
        ["0", "1"]
            .map(|at| program.metric(&format!("evenly_client_connections{{worker=\"{at}\"}}")))
    };
    assert_eq!(connections(), [1.0, 1.0], "the least loaded worker gets the next connection");
    drop((first, second));
    until("the connections are gone", || connections() == [0.0, 0.0]);
    assert_eq!(program.metric("evenly_client_connections_closed_total"), 2.0);
    assert_eq!(program.sum("evenly_own_responses_total"), 0.0);
    assert_eq!(program.metric("evenly_worker_panics_total"), 0.0);
}

#[test]
fn metrics_tell_which_endpoints_are_up() {
    let origin = Origin::start();
    let (_held, down) = refusing();
    let program = Program::serving(&[origin.address, down]);
    assert_eq!(program.metric("evenly_endpoints"), 2.0);
    assert_eq!(program.metric("evenly_endpoints_healthy"), 1.0);
    assert_eq!(program.metric(&labels(origin.address)), 1.0);
    assert_eq!(program.metric(&labels(down)), 0.0);
    assert!(program.metric("evenly_snapshot_generation") >= 1.0);
    assert!(program.metric("evenly_client_connections_limit") >= 16.0);
    let uptime = program.metric("evenly_uptime_seconds");
    until("time goes by", || program.metric("evenly_uptime_seconds") > uptime);
}

#[test]
fn what_evenly_answers_itself_is_counted() {
    let (_held, down) = refusing();
    let program = Program::serving(&[down]);
    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(program.front(), asked);
    assert_eq!((answer.status, answer.body.as_str()), (503, "Service Unavailable"));
    assert_eq!(program.sum("evenly_own_responses_total"), 1.0);
    for metric in ["requests", "unavailable_answers"] {
        assert_eq!(program.metric(&format!("evenly_{metric}_total")), 1.0, "{metric}");
    }
}

/// Whether this is a name of a metric or a label.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Takes one label, `name="value"`, off the front, and returns what follows it.
fn skip_label(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once("=\"")?;
    let mut escaped = false;
    let end = rest.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    is_name(name).then(|| &rest[end + 1..])
}

/// The name of a sample's family, if the line is a sample.
fn sample(line: &str) -> Option<&str> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    if let Some(labels) = rest.strip_prefix('{') {
        rest = skip_label(labels)?;
        while let Some(more) = rest.strip_prefix(',') {
            rest = skip_label(more)?;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value: f64 = rest.strip_prefix(' ')?.parse().ok()?;
    (is_name(name) && value.is_finite() && value >= 0.0).then_some(name)
}

/// Checks the whole text as promtool would, and returns its families.
fn families(text: &str) -> BTreeSet<&str> {
    assert!(text.ends_with('\n'));
    let (mut families, mut samples, mut current) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            assert!(is_name(name) && help.ends_with('.') && families.insert(name), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            assert_eq!(kind == Some("counter"), name.ends_with("_total"), "{line}");
            let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}"));
            current = match kind {
                Some("histogram" | "summary") => parts.into(),
                _ => vec![name.to_owned()],
            };
        } else {
            assert!(current.iter().any(|it| sample(line) == Some(it)), "{line}");
            assert!(samples.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
        }
    }
    families
}

#[test]
fn every_line_of_the_metrics_is_well_formed() {
    let origin = Origin::start();
    let (_held, down) = refusing();
    let program = Program::serving(&[origin.address, down]);
    program.send(3);
    let answer = program.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(families(&answer.body).len() > 15, "{}", answer.body);
}

/// Every key of an object, those within objects and lists included, as `a.b` and `a[].b`.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    if !at.is_empty() {
        found.insert(at.to_owned());
    }
    match value {
        Value::Object(map) => {
            let dot = if at.is_empty() { "" } else { "." };
            map.iter().for_each(|(key, value)| keys(value, &format!("{at}{dot}{key}"), found));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, &format!("{at}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_reference_names_every_metric_and_every_field_and_no_other() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let mut metrics = BTreeSet::new();
    let mut fields = BTreeSet::new();
    for line in document.lines() {
        let Some(first) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) else {
            continue;
        };
        match first.0 {
            name if name.starts_with("evenly_") || name.starts_with("process_") => {
                metrics.insert(name.split('{').next().unwrap())
            }
            name if name.starts_with('/') => continue,
            name => fields.insert(name.to_owned()),
        };
    }
    assert_eq!(metrics, families(&program.get("/metrics").body));
    let mut found = BTreeSet::new();
    keys(&serde_json::from_str(&program.get("/status").body).unwrap(), "", &mut found);
    // A worker's counters are those of all, and lists are named without their elements.
    found.retain(|key| !key.starts_with("workers[].counters.") && !key.ends_with("[]"));
    assert_eq!(fields, found);
}

#[test]
fn status_tells_workers_and_endpoints() {
    let origin = Origin::start();
    let (_held, down) = refusing();
    let program = Program::serving(&[origin.address, down]);
    let _open = program.send(5);
    let answer = program.get("/status");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\nContent-Type: application/json\r\n"), "{}", answer.head);
    let status: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["stage"], "running");
    assert!(status["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((&status["connections"], &status["counters"]["requests"]), (&1.into(), &5.into()));
    let workers = status["workers"].as_array().unwrap();
    let sum = |field: &dyn Fn(&Value) -> u64| workers.iter().map(field).sum::<u64>();
    assert_eq!(workers.len(), 2);
    assert_eq!(sum(&|worker| worker["connections"].as_u64().unwrap()), 1);
    assert_eq!(sum(&|worker| worker["counters"]["requests"].as_u64().unwrap()), 5);
    assert!(status["generation"].as_u64().unwrap() >= 1);
    let address = |address: SocketAddr| address.to_string();
    let expected = serde_json::json!([
        { "target": address(origin.address), "address": address(origin.address), "healthy": true, "state": "up", "priority": 0, "weight": 1 },
        { "target": address(down), "address": address(down), "healthy": false, "state": "down", "priority": 0, "weight": 1 },
    ]);
    assert_eq!(status["endpoints"], expected);
}

#[test]
fn healthz_says_ok_and_while_draining_503() {
    let origin = Origin::start();
    let mut program = Program::serving(&[origin.address]);
    let answer = program.get("/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));

    let mut held = TcpStream::connect(program.front()).unwrap();
    held.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until("the request is counted", || program.metric("evenly_requests_total") == 1.0);
    program.signal(Signal::TERM);
    let mut last = answer;
    until("it says that it drains", || {
        last = program.get("/healthz");
        last.status == 503
    });
    assert_eq!(last.body, "draining\n");
    let status: Value = serde_json::from_str(&program.get("/status").body).unwrap();
    assert_eq!((&status["stage"], &status["connections"]), (&"draining".into(), &1.into()));

    origin.release();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(program.ended().code(), Some(0));
}

#[test]
fn the_page_lists_what_there_is() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    let page = program.get("/");
    assert_eq!(page.status, 200);
    for path in ["/metrics", "/status", "/healthz"] {
        assert!(page.body.contains(&format!("href=\"{path}\"")), "{}", page.body);
        assert_eq!(program.get(path).status, 200);
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    for path in ["/", "/metrics", "/status", "/healthz"] {
        let asked = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = exchange(program.admin(), asked.as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert!(!answer.head.contains("Content-Length: 0"), "{}", answer.head);
    }
}

#[test]
fn what_is_not_served_is_refused_and_the_thread_lives_on() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(80));
    // A body of a megabyte arrives while the answer is on its way; the answer is not lost over it.
    let body = [&b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &vec![b'x'; 1 << 20]].concat();
    let cases: [(&[u8], u16); 13] = [
        (b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /metrics/../x HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET http://a/healthz?x=y HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /none HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (&body, 405),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03", 400),
        (b"\0\0\0\0", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (long.as_bytes(), 414),
        (fields.as_bytes(), 431),
    ];
    for (bytes, status) in cases {
        let answer = exchange(program.admin(), bytes);
        let shown = bytes[..bytes.len().min(60)].escape_ascii();
        assert_eq!(answer.status, status, "{shown}");
        assert!(answer.head.ends_with("\r\nConnection: close"), "{}", answer.head);
        assert_eq!(answer.head.contains("\r\nAllow: GET, HEAD\r\n"), status == 405, "{shown}");
    }
    assert_eq!(program.get("/healthz").status, 200);
}

#[test]
fn a_visitor_that_ends_its_side_first_is_answered_too() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    let mut stream = TcpStream::connect(program.admin()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\r\n\r\nok\n"), "{text}");
}

#[test]
fn stuck_visitors_delay_nobody_and_are_ended() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    // More than there is room for: silent ones, some in the middle of a head.
    let stuck: Vec<TcpStream> = (0..40)
        .map(|at| {
            let mut stream = TcpStream::connect(program.admin()).unwrap();
            if at % 2 == 0 {
                stream.write_all(b"GET /metrics HT").unwrap();
            }
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        let begin = Instant::now();
        assert_eq!(program.get("/healthz").status, 200);
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    }
    for mut stream in stuck {
        // An end or a reset: either way the visit is over, and nothing was said.
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}

#[test]
fn a_stuck_visitor_does_not_delay_the_end() {
    let origin = Origin::start();
    let mut program = Program::serving(&[origin.address]);
    let mut stuck = TcpStream::connect(program.admin()).unwrap();
    stuck.write_all(b"GET /").unwrap();
    assert_eq!(program.get("/healthz").status, 200);
    let begin = Instant::now();
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn the_admin_thread_gives_way_to_the_workers() {
    let origin = Origin::start();
    let program = Program::serving(&[origin.address]);
    assert_eq!(program.get("/healthz").status, 200);
    let mut nice = BTreeMap::new();
    until("every thread has its name", || {
        nice = niceness(&program.child);
        ["admin", "worker-0", "worker-1"].iter().all(|name| nice.contains_key(*name))
    });
    for worker in ["worker-0", "worker-1"] {
        // Whatever the process was started with.
        assert_eq!(nice["admin"], (nice[worker] + 10).min(19), "{nice:?}");
    }
}

/// How nice each thread of a process is to others, by name.
fn niceness(child: &Child) -> BTreeMap<String, i32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let read = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        // Field 19 of proc_pid_stat(5); the first one behind the name is field 3.
        Some((name.to_owned(), rest.split(' ').nth(16)?.parse().ok()?))
    };
    tasks.flatten().filter_map(read).collect()
}

#[test]
fn an_admin_address_that_is_taken_is_an_error_at_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let origin = Origin::start();
    let mut program =
        Program::launch(&format!("[admin]\nlisten = \"{address}\""), &[origin.address]);
    assert_eq!(program.ended().code(), Some(1));
    let line = program.logged("cannot listen");
    let expected = format!(
        "evenly.toml:4:10: admin.listen: cannot listen on {address}: another process has it \
         (ss -ltnp 'sport = :{}' shows which); end that, or choose another address",
        address.port()
    );
    assert!(line.contains(&expected), "{line}");
}

#[test]
fn without_an_admin_address_there_is_no_admin_listener() {
    let origin = Origin::start();
    let mut program = Program::launch("", &[origin.address]);
    program.front();
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code(), Some(0));
    program.logged("stopped");
    assert!(!program.log.lock().unwrap().iter().any(|line| line.contains("admin")));
}
