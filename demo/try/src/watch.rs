//! What evenly tells of itself, read by threads that each send what they read: its log, its access log, its status.
//!
//! Owns the form of these three (docs/configuration.md and docs/metrics.md describe them). Decides nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStderr, ChildStdout};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A key was pressed.
    Key(u8),
    /// A signal came.
    Signal(i32),
    /// Evenly has logged this.
    Log(LogLine),
    /// An exchange is over.
    Entry(Entry),
    /// Evenly's status.
    Status(Status),
    /// A request of our own got no response at all.
    Lost,
    /// Evenly has closed its log, because it has ended.
    Ended,
}

/// A line of evenly's log.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) level: String,
    pub(crate) message: String,
}

/// A line of the access log.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    /// As received: anything may be in it.
    pub(crate) method: Option<String>,
    /// Likewise.
    pub(crate) uri: Option<String>,
    /// The beginning of a request that was not valid.
    pub(crate) line: Option<String>,
    pub(crate) status: u16,
    pub(crate) duration_ms: f64,
    pub(crate) endpoint: Option<String>,
    pub(crate) user_agent: String,
    pub(crate) end: String,
}

/// What is shown of `/status`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Status {
    pub(crate) counters: Counters,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Counters since the start.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Counters {
    /// Connections to an endpoint that were refused or timed out.
    pub(crate) connect_failed: u64,
    /// Requests that were retried.
    pub(crate) replayed: u64,
}

/// An endpoint as evenly sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) state: String,
}

/// Sends each line of evenly's log, and in the end that it has ended. A line that is no JSON is one of somebody else's,
/// such as the program that could not become evenly.
pub(crate) fn log(log: ChildStderr, to: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line)
                .unwrap_or_else(|_| LogLine { level: "error".into(), message: line });
            if to.send(Event::Log(line)).is_err() {
                return;
            }
        }
        let _ = to.send(Event::Ended);
    });
}

/// Sends each entry of evenly's access log.
pub(crate) fn access_log(log: ChildStdout, to: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Ok(entry) = serde_json::from_str(&line)
                && to.send(Event::Entry(entry)).is_err()
            {
                return;
            }
        }
    });
}

/// Between two looks at the status.
const GLANCE: Duration = Duration::from_millis(100);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends evenly's status whenever it has changed, until nobody is interested.
pub(crate) fn status(admin: SocketAddr, to: Sender<Event>) {
    thread::spawn(move || {
        let mut last = None;
        loop {
            let status = ask(admin);
            if status.is_some() && status != last {
                last.clone_from(&status);
                if status.is_some_and(|status| to.send(Event::Status(status)).is_err()) {
                    return;
                }
            }
            thread::sleep(GLANCE);
        }
    });
}

/// The status, unless there is none because evenly is about to end.
fn ask(admin: SocketAddr) -> Option<Status> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: evenly\r\n\r\n").ok()?;
    let mut response = String::new();
    // The admin listener closes each connection after its response.
    stream.read_to_string(&mut response).ok()?;
    serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
}
