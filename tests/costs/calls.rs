//! System calls per request: two reads, two writes, a share of one wait, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::outside::{Clients, Origins, PATIENCE, Program};

const CLIENTS: usize = 64;
/// Rounds of the shorter of two runs; the other has twice as many.
const ROUNDS: usize = 10;
/// Reads and writes a request: the budget's four, and a little for what a busy machine tears apart.
const MAX_DATA_CALLS: f64 = 4.02;
const DATA: [&str; 9] =
    ["read", "readv", "recv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg"];
const WAITS: [&str; 2] = ["epoll_wait", "epoll_pwait"];

/// How often one thread called what.
type Calls = BTreeMap<String, usize>;

/// Runs N and then 2 N requests under strace; the difference is what N requests cost, and what a run costs by
/// itself (the marks that part them) falls out.
#[test]
fn a_keep_alive_get_takes_four_socket_calls_and_nothing_else() {
    if let Err(why) = may_trace() {
        // Past the capture of the test runner, which would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: system calls are not counted: {why}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let origins = Origins::start(CLIENTS);
    let file = trace.to_str().expect("a UTF-8 path");
    // -D: the tracer is the grandchild, so the program is our child and dies with us.
    let program = Program::start(&origins, &["strace", "-D", "-f", "-qq", "-s", "64", "-o", file]);
    let mut clients = Clients::connect(program.address, CLIENTS);
    clients.warm_up();
    for (mark, rounds) in [("/mark/1", ROUNDS), ("/mark/2", 2 * ROUNDS), ("/mark/3", 0)] {
        clients.get(mark);
        (0..rounds).for_each(|_| clients.round());
    }
    drop(program);
    let text = finished(&trace);
    let (short, long) =
        (between(&text, "/mark/1", "/mark/2"), between(&text, "/mark/2", "/mark/3"));
    judge(&growth(&short, &long), ROUNDS * CLIENTS);
}

/// Whether there is an strace that this user may trace with.
fn may_trace() -> Result<(), String> {
    let output = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    let output = output.map_err(|error| {
        format!("strace does not run: {error} (Debian: apt-get install strace)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("strace may not trace here (ptrace_scope, a container): {}", said.trim()))
}

/// The trace, when the tracer has seen the program end.
fn finished(trace: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&fs::read(trace).expect("a trace")).into_owned();
        if text.lines().last().is_some_and(|line| line.contains("+++")) {
            return text;
        }
        assert!(Instant::now() < deadline, "strace did not finish; may it trace? (ptrace_scope)");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the thread that served the two marks called between them.
fn between(trace: &str, from: &str, to: &str) -> Calls {
    let marked = |line: &&str| line.contains(from);
    let worker = trace.lines().find(marked).and_then(thread_of).expect("the first mark");
    let lines = trace.lines().filter(|line| thread_of(line) == Some(worker));
    let lines = lines.skip_while(|line| !line.contains(from)).take_while(|line| !line.contains(to));
    let mut calls = Calls::new();
    for name in lines.filter_map(call) {
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    calls
}

/// A line of strace -f begins with the thread.
fn thread_of(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// The call that a line begins; `None` for the second half of one, and for signals.
fn call(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, _) = rest.split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// How much more of each call there is in the longer run.
fn growth(short: &Calls, long: &Calls) -> Calls {
    let less = |name: &str| short.get(name).copied().unwrap_or_default();
    long.iter().map(|(name, count)| (name.clone(), count.saturating_sub(less(name)))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "thousands at most")]
fn judge(grown: &Calls, requests: usize) {
    let sum = |names: &[&str]| names.iter().filter_map(|&name| grown.get(name)).sum::<usize>();
    let is_other = |name: &str| !DATA.contains(&name) && !WAITS.contains(&name);
    let mut others = grown.clone();
    others.retain(|name, count| *count > 0 && is_other(name));
    let (data, waits) = (sum(&DATA) as f64 / requests as f64, sum(&WAITS) as f64 / requests as f64);
    println!(
        "a request: {data:.4} reads and writes, {waits:.4} waits; {requests} requests: {grown:?}"
    );
    assert!(data <= MAX_DATA_CALLS, "{data} reads and writes a request: {grown:?}");
    assert!(data >= 4.0, "the trace is not whole: {grown:?}");
    assert!(waits <= 1.0, "{waits} waits a request: {grown:?}");
    assert!(others.is_empty(), "calls that a request must not need: {others:?}");
}

#[test]
fn reads_the_calls_of_one_thread_between_two_marks_from_a_trace() {
    let trace = "\
7 recvfrom(5, \"GET /mark/1 HTTP\", 99, 0, NULL, NULL) = 40
9 futex(0x5, FUTEX_WAIT, 1, NULL <unfinished ...>
7 sendto(5, \"x\", 1, 0, NULL, 0) = 1
7 epoll_wait(3,  <unfinished ...>
9 <... futex resumed>) = 0
7 <... epoll_wait resumed>[{EPOLLIN, 5}], 1, -1) = 1
7 --- SIGCHLD {si_signo=SIGCHLD} ---
7 recvfrom(5, \"GET /mark/2 HTTP\", 99, 0, NULL, NULL) = 40
7 close(5) = 0
";
    let expected = [("epoll_wait", 1), ("recvfrom", 1), ("sendto", 1)];
    let expected: Calls = expected.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(between(trace, "/mark/1", "/mark/2"), expected);
    assert_eq!(growth(&Calls::new(), &expected), expected);
    assert!(growth(&expected, &expected).values().all(|&count| count == 0));
}
