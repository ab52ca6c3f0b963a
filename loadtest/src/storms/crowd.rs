//! Clients that judge every answer, and every end of a connection.
//!
//! A request that fails is never repeated. One on a kept connection that is closed before a byte of its response has failed: the
//! close was not announced by `Connection: close` in the response before.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::chaos::origin::padded;
use crate::client::Client;
use crate::report::{Report, count};

/// Pause after a failure, so that a process that has ended is not drowned in connects.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// Of so many requests one is a POST, which is never sent twice.
const POSTS: u64 = 4;
/// How often its own id a POST's body is.
const REPEATS: usize = 32;
/// Failures whose time is reported.
const TIMES: usize = 8;

/// How a client uses its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// One request after another on a connection, as long as it lasts.
    Kept,
    /// A connection for each request; every other one says in its request that it is the last.
    Fresh,
    /// As [`Habit::Kept`], with requests that take [`SLOW`](super::target::SLOW).
    Slow,
}

/// What all clients of one habit have seen.
#[derive(Default)]
pub(super) struct Tally {
    answered: AtomicU64,
    connects: AtomicU64,
    /// Connections whose end was announced.
    announced: AtomicU64,
    /// Connections that were closed while no request was under way.
    closed_idle: AtomicU64,
    slowest: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
    times: Mutex<Vec<Duration>>,
}

impl Tally {
    fn fail(&self, why: &str, at: Duration) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed.entry(why.to_owned()).or_default() += 1;
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < TIMES {
            times.push(at);
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Connections that the server ended while their client wanted them.
    pub(super) fn closed(&self) -> u64 {
        self.announced.load(Ordering::Relaxed) + self.closed_idle.load(Ordering::Relaxed)
    }

    /// Reports requests, failures by kind, and which connections were ended.
    pub(super) fn tell(&self, who: &str, report: &mut Report) {
        report.figure(format!("{who}: requests answered"), count(self.answered()), "");
        report.exactly(format!("{who}: requests failed"), count(self.failed()), "", 0.0);
        for (why, times) in &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            report.figure(format!("  failed: {why}"), count(*times), "");
        }
        for at in &*self.times.lock().unwrap_or_else(PoisonError::into_inner) {
            report.figure("  a failure, after the beginning", at.as_secs_f64(), "s");
        }
        let slowest = count(self.slowest.load(Ordering::Relaxed)) / 1000.0;
        report.figure(format!("{who}: slowest answer"), slowest, "ms");
    }

    /// Reports in which way connections were ended.
    pub(super) fn tell_ends(&self, who: &str, report: &mut Report) {
        let get = |of: &AtomicU64| count(of.load(Ordering::Relaxed));
        report.figure(format!("{who}: connections"), count(self.connects()), "");
        report.figure(format!("{who}: closes that were announced"), get(&self.announced), "");
        report.figure(format!("{who}: idle connections closed"), get(&self.closed_idle), "");
    }
}

/// What clients need, shared by all.
pub(super) struct Crowd {
    pub(super) address: SocketAddr,
    pub(super) began: Instant,
    pub(super) over: AtomicBool,
    /// Of each [`Habit`].
    pub(super) kept: Tally,
    pub(super) fresh: Tally,
    pub(super) slow: Tally,
}

impl Crowd {
    pub(super) fn new(address: SocketAddr) -> Crowd {
        Crowd {
            address,
            began: Instant::now(),
            over: AtomicBool::new(false),
            kept: Tally::default(),
            fresh: Tally::default(),
            slow: Tally::default(),
        }
    }

    /// Ends all clients after the request that they are at.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// One client: a request, a pause, and so on until it is over.
    pub(super) fn ask(&self, who: &str, habit: Habit, pause: Duration) {
        self.ask_at(self.address, who, habit, pause);
    }

    /// The same elsewhere.
    pub(super) fn ask_at(&self, address: SocketAddr, who: &str, habit: Habit, pause: Duration) {
        let tally = match habit {
            Habit::Kept => &self.kept,
            Habit::Fresh => &self.fresh,
            Habit::Slow => &self.slow,
        };
        let mut open: Option<Client> = None;
        for number in 0.. {
            if self.is_over() {
                break;
            }
            if open.as_ref().is_some_and(Client::has_ended) {
                tally.closed_idle.fetch_add(1, Ordering::Relaxed);
                open = None;
            }
            let asked = Instant::now();
            let id = format!("{who}-{number}");
            let rest = match self.once(&mut open, address, (&id, number), (habit, tally)) {
                Ok(()) => {
                    tally.answered.fetch_add(1, Ordering::Relaxed);
                    pause
                }
                Err(why) => {
                    open = None;
                    tally.fail(&why, self.began.elapsed());
                    pause.max(AFTER_FAILURE)
                }
            };
            let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            tally.slowest.fetch_max(took, Ordering::Relaxed);
            thread::sleep(rest);
        }
        if open.as_ref().is_some_and(Client::has_ended) {
            tally.closed_idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request, on the open connection or a new one.
    fn once(
        &self,
        open: &mut Option<Client>,
        address: SocketAddr,
        (id, number): (&str, u64),
        (habit, tally): (Habit, &Tally),
    ) -> Result<(), String> {
        let is_reused = open.is_some();
        let mut client = match open.take() {
            Some(client) => client,
            None => {
                tally.connects.fetch_add(1, Ordering::Relaxed);
                Client::connect(address).map_err(|error| format!("connect: {}", plainly(&error)))?
            }
        };
        let last = habit == Habit::Fresh && number % 2 == 0;
        let path = if habit == Habit::Slow { "/slow" } else { "/id" };
        let (request, wanted) = message(path, id, number % POSTS == 0, last);
        let mut body = Vec::new();
        let head = client.ask(&request, &mut body).map_err(|error| {
            let on = if is_reused { "a kept connection" } else { "a new connection" };
            format!("on {on}: {}", plainly(&error))
        })?;
        match head.status {
            200 if head.request.as_deref() != Some(id) => {
                return Err("the answer to another request".into());
            }
            200 if body != wanted => return Err("a wrong body".into()),
            200 => {}
            status => return Err(format!("status {status}")),
        }
        match head.last {
            _ if habit == Habit::Fresh => {}
            true => drop(tally.announced.fetch_add(1, Ordering::Relaxed)),
            false => *open = Some(client),
        }
        Ok(())
    }
}

/// The bytes of a request, and the body that its answer must have.
fn message(path: &str, id: &str, post: bool, last: bool) -> (Vec<u8>, Vec<u8>) {
    let close = if last { "Connection: close\r\n" } else { "" };
    if !post {
        let head = format!("GET {path} HTTP/1.1\r\nHost: storm\r\nX-Request: {id}\r\n{close}\r\n");
        return (head.into_bytes(), padded(id));
    }
    let body = id.repeat(REPEATS);
    let length = body.len();
    let message = format!(
        "POST {path} HTTP/1.1\r\nHost: storm\r\nX-Request: {id}\r\n{close}Content-Length: {length}\r\n\r\n{body}"
    );
    (message.into_bytes(), body.into_bytes())
}

/// What an error is, in the same words each time.
pub(super) fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed before the response was whole".to_owned(),
        io::ErrorKind::InvalidData => error.to_string(),
        kind => kind.to_string(),
    }
}
