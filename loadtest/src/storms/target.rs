//! Servers behind evenly that know when they were asked last, all in this process: a thread for each connection.
//!
//! Owns the clock of a run: all times are microseconds since its targets began.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::chaos::origin::{Request, answer, padded};
use crate::generator::http::Pattern;

/// Where they listen: not where connections come from, so that none can take a port of theirs.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long `/slow` takes.
pub(super) const SLOW: Duration = Duration::from_millis(1500);
/// What a download is sent in one piece, in bytes, and how often.
pub(super) const PIECE: usize = 32 << 10;
pub(super) const PIECE_EVERY: Duration = Duration::from_millis(20);
/// Nothing has happened yet.
const NEVER: u64 = u64::MAX;

/// One server.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    name: String,
    began: Instant,
    /// Whether health checks succeed. It serves requests all the same.
    is_healthy: bool,
    /// Requests that were no health checks.
    served: AtomicU64,
    /// When the last one came, and when the first one since [`Target::watch`].
    last: AtomicU64,
    first: AtomicU64,
}

impl Seen {
    fn note(&self) {
        let now = micros(self.began, Instant::now());
        self.served.fetch_add(1, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
        self.first.fetch_min(now, Ordering::Relaxed);
    }
}

fn micros(began: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_micros()).unwrap_or(NEVER)
}

impl Target {
    /// Starts serving. Every target of a run has the same beginning of time.
    pub(super) fn start(name: &str, began: Instant) -> Result<Target, Failure> {
        Target::begin(name, began, true)
    }

    /// The same with one whose health checks fail.
    pub(super) fn start_failing(name: &str, began: Instant) -> Result<Target, Failure> {
        Target::begin(name, began, false)
    }

    fn begin(name: &str, began: Instant, is_healthy: bool) -> Result<Target, Failure> {
        let listener = TcpListener::bind((ADDRESS, 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen {
            name: name.to_owned(),
            began,
            is_healthy,
            served: AtomicU64::new(0),
            last: AtomicU64::new(0),
            first: AtomicU64::new(NEVER),
        });
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&all);
                // An error is a client that left: evenly, or a health check.
                thread::spawn(move || drop(converse(stream, &seen)));
            }
        });
        Ok(Target { address, seen })
    }

    /// Requests that came here, health checks aside.
    pub(super) fn served(&self) -> u64 {
        self.seen.served.load(Ordering::Relaxed)
    }

    /// From now on [`Target::first_after`] looks.
    pub(super) fn watch(&self) {
        self.seen.first.store(NEVER, Ordering::Relaxed);
    }

    /// How long after `since` the first request came that did so after [`Target::watch`].
    pub(super) fn first_after(&self, since: Instant) -> Option<Duration> {
        let first = self.seen.first.load(Ordering::Relaxed);
        let since = micros(self.seen.began, since);
        (first != NEVER).then(|| Duration::from_micros(first.saturating_sub(since)))
    }

    /// How long after `since` the last request came, which may yet not have been the last one; zero if none did.
    pub(super) fn last_after(&self, since: Instant) -> Duration {
        let last = self.seen.last.load(Ordering::Relaxed);
        Duration::from_micros(last.saturating_sub(micros(self.seen.began, since)))
    }
}

/// Answers one request after another on a connection.
fn converse(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream)? {
        let mut body = Vec::new();
        (&mut stream).take(request.length).read_to_end(&mut body)?;
        if request.path == "/healthz" {
            let status = if seen.is_healthy { "200 OK" } else { "503 Service Unavailable" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.get_mut().write_all(head.as_bytes())?;
            continue;
        }
        seen.note();
        match request.path.as_str() {
            "/tunnel" => return echo(stream),
            "/slow" => thread::sleep(SLOW),
            path => {
                if let Some(length) = path.strip_prefix("/download/") {
                    send(stream.get_mut(), length.parse().unwrap_or(0))?;
                    continue;
                }
            }
        }
        let body = if request.length == 0 { padded(&request.id) } else { body };
        answer(stream.get_mut(), &seen.name, false, &request.id, &body)?;
    }
    Ok(())
}

/// Becomes a tunnel, and sends back what comes.
fn echo(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    let agreed =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    stream.get_mut().write_all(agreed.as_bytes())?;
    let mut back = stream.get_ref().try_clone()?;
    io::copy(&mut stream, &mut back).map(drop)
}

/// Sends so many bytes of the pattern, at the rate of a download.
fn send(to: &mut TcpStream, length: u64) -> io::Result<()> {
    to.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    let pattern = Pattern::new(PIECE);
    let mut due = Instant::now();
    let mut sent = 0;
    while sent < length {
        let piece = pattern.at(sent, (length - sent).min(PIECE as u64));
        to.write_all(piece)?;
        sent += piece.len() as u64;
        due += PIECE_EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
