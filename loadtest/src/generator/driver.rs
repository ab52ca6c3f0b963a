//! The clients: open connections, keep requests going on them, and judge each answer.
//!
//! Closed loop: a connection asks again as soon as its answer is whole. Open loop: requests have their
//! times, evenly spread, and whichever connection is idle takes the next; a request that finds none
//! waits, and its latency counts from its time, not from when it was sent. To be on time the thread never
//! sleeps in the open loop: poll(2) and epoll_wait(2) sleep whole milliseconds, in which dozens of requests
//! fall due, and any timer wakes it later than a look at the clock does. That costs its own core, nobody else's.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::histogram::Histogram;
use super::http::{Fault, Reader, Shape, held_request};
use super::{Opening, Outcome, Pace, Reply, Slice, Until};
use crate::Failure;
use crate::proc::{self, Cpu};

/// How long answers may take that are outstanding when a slice ends, and any phase without a time of its own.
const PATIENCE: Duration = Duration::from_secs(10);
/// The thread looks at the clock at least so often while anything is under way.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// What the names of evenly's worker threads begin with.
const WORKERS: &str = "worker-";
/// Faults after which a phase is given up: the subject is not there.
const HOPELESS: u64 = 20_000;

pub(super) struct Driver {
    registry: Registry,
    token: fn(usize) -> Token,
    target: SocketAddr,
    shape: Shape,
    request: Vec<u8>,
    held_request: Vec<u8>,
    clients: Vec<Client>,
    /// Clients with a request or a connection under way.
    active: usize,
    /// Open loop: clients without a request, longest idle first.
    idle: VecDeque<usize>,
    /// Clients that met a fault and go on in the next turn.
    upset: Vec<usize>,
    phase: Phase,
    /// Whether requests ask the origin to withhold the answer.
    holding: bool,
    reply: Option<Sender<Reply>>,
    /// Clients that have not begun yet, for a phase that does not begin with all of them.
    unstarted: std::ops::Range<usize>,
    window: Window,
    /// Processes whose CPU time is taken when the window opens and when it closes.
    watched: Vec<u32>,
    watched_before: Cpu,
    workers_before: Cpu,
    /// Open loop: requests that are due within are measured.
    scheduled: std::ops::Range<Instant>,
    /// When the phase began, when counting did, and when it is given up.
    began: Instant,
    counted_from: Instant,
    given_up: Instant,
    cpu_before: Cpu,
    outcome: Outcome,
}

struct Client {
    stream: Option<TcpStream>,
    state: State,
    /// Bytes of the request that were sent.
    sent: usize,
    /// When the request was to be sent.
    began: Instant,
    reader: Reader,
    /// Requests it still makes in this phase, where the phase counts them.
    left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Asking,
    /// The answer is whole; the other side closes.
    Closing,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Nothing,
    /// Each client makes the requests it has left.
    Counted,
    /// All together make requests until then.
    Closed {
        until: Until,
    },
    /// `total` at least; and as long as the window is not over.
    Open {
        interval: Duration,
        next: u64,
        total: u64,
    },
    /// All wait until the origin holds this many answers.
    Holding {
        wanted: usize,
    },
}

/// Answers count while it is open. It opens and closes under load, so that neither the start nor the
/// end of a slice is in the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// Opens this long after the beginning, for as long as the second says.
    Ahead(Duration, Duration),
    Open(Duration),
    /// Counts every answer of the phase.
    Always,
    Over,
}

impl Driver {
    pub(super) fn new(registry: Registry, token: fn(usize) -> Token) -> Driver {
        let now = Instant::now();
        Driver {
            registry,
            token,
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
            shape: Shape::Bare,
            request: Vec::new(),
            held_request: held_request(),
            clients: Vec::new(),
            active: 0,
            idle: VecDeque::new(),
            upset: Vec::new(),
            phase: Phase::Nothing,
            holding: false,
            reply: None,
            unstarted: 0..0,
            window: Window::Over,
            watched: Vec::new(),
            watched_before: Cpu::default(),
            workers_before: Cpu::default(),
            scheduled: now..now,
            began: now,
            counted_from: now,
            given_up: now,
            cpu_before: Cpu::default(),
            outcome: Outcome::default(),
        }
    }

    /// Opens connections and makes `warm` requests on each, `width` connections at a time.
    pub(super) fn open(&mut self, opening: &Opening, reply: Sender<Reply>) {
        let Opening { target, shape, connections, warm, width } = *opening;
        self.close();
        self.target = target;
        self.shape = shape;
        self.request = shape.request();
        let now = Instant::now();
        self.clients.resize_with(connections, || Client {
            stream: None,
            state: State::Idle,
            sent: 0,
            began: now,
            reader: Reader::default(),
            left: warm,
        });
        self.begin(Phase::Counted, Window::Always, reply);
        self.unstarted = 0..connections;
        for _ in 0..width {
            self.start_another();
        }
    }

    fn start_another(&mut self) {
        if let Some(at) = self.unstarted.next()
            && self.may_ask(at)
        {
            self.ask(at, Instant::now());
        }
    }

    /// Drops all connections; they end with a reset, so that no port is left waiting.
    pub(super) fn close(&mut self) {
        self.clients.clear();
        self.idle.clear();
        self.upset.clear();
        self.unstarted = 0..0;
        self.active = 0;
        self.holding = false;
        self.phase = Phase::Nothing;
    }

    pub(super) fn measure(&mut self, slice: Slice, reply: Sender<Reply>) {
        let Slice { pace, until, run_in, watched } = slice;
        self.watched = watched;
        let window = match until {
            Until::Time(time) => Window::Ahead(run_in, time),
            Until::Count(_) => Window::Always,
        };
        match pace {
            Pace::Closed => {
                self.begin(Phase::Closed { until }, window, reply);
                for at in 0..self.clients.len() {
                    if self.may_ask(at) {
                        self.ask(at, Instant::now());
                    }
                }
            }
            Pace::PerSecond(rate) => {
                let interval = Duration::from_secs_f64(1.0 / rate.max(0.001));
                let total = match until {
                    Until::Count(count) => count,
                    Until::Time(time) => {
                        let all = (run_in + time).as_nanos() / interval.as_nanos().max(1);
                        u64::try_from(all).unwrap_or(u64::MAX)
                    }
                };
                self.begin(Phase::Open { interval, next: 0, total }, window, reply);
                self.idle = (0..self.clients.len()).collect();
            }
        }
    }

    /// Sends a request on every connection whose answer the origin withholds; replies when it holds them all.
    pub(super) fn hold(&mut self, reply: Sender<Reply>) {
        self.begin(Phase::Holding { wanted: self.clients.len() }, Window::Always, reply);
        self.holding = true;
        for at in 0..self.clients.len() {
            self.clients[at].left = 0;
            self.ask(at, self.began);
        }
    }

    /// Waits until everything that was withheld has been answered.
    pub(super) fn await_answers(&mut self, reply: Sender<Reply>) {
        self.begin(Phase::Counted, Window::Always, reply);
    }

    fn begin(&mut self, phase: Phase, window: Window, reply: Sender<Reply>) {
        self.phase = phase;
        self.reply = Some(reply);
        self.began = Instant::now();
        let (run_in, time) = match window {
            Window::Ahead(run_in, time) => (run_in, time),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        self.given_up = self.began + run_in + time + PATIENCE;
        self.scheduled = match window {
            Window::Ahead(..) => self.began + run_in..self.began + run_in + time,
            _ => self.began..self.given_up,
        };
        self.outcome = Outcome::default();
        self.start_counting();
        self.window = window;
    }

    fn start_counting(&mut self) {
        // What goes wrong is never forgotten, nor what became of requests that are measured by their schedule: the
        // first of them may be answered before the window is seen to be open.
        let Outcome { faults, latencies, lateness, .. } = std::mem::take(&mut self.outcome);
        self.outcome = Outcome { faults, latencies, lateness, ..Outcome::default() };
        self.workers_before = proc::cpu_of_threads(&self.watched, WORKERS).unwrap_or_default();
        self.watched_before = proc::cpu_of_all(&self.watched).unwrap_or_default();
        self.cpu_before = proc::own_thread().unwrap_or_default();
        self.counted_from = Instant::now();
    }

    fn stop_counting(&mut self) {
        self.outcome.span = self.counted_from.elapsed().as_secs_f64();
        let watched = proc::cpu_of_all(&self.watched).unwrap_or_default();
        self.outcome.subject = watched - self.watched_before;
        let workers = proc::cpu_of_threads(&self.watched, WORKERS).unwrap_or_default();
        self.outcome.workers = workers - self.workers_before;
        self.outcome.own = proc::own_thread().unwrap_or_default() - self.cpu_before;
        self.window = Window::Over;
    }

    /// Opens and closes the window when it is time.
    fn mind_the_window(&mut self, now: Instant) {
        match self.window {
            Window::Ahead(run_in, time) if now >= self.began + run_in => {
                self.start_counting();
                self.window = Window::Open(time);
            }
            Window::Open(time) if now >= self.counted_from + time => self.stop_counting(),
            _ => {}
        }
    }

    /// Whether a client that is free asks once more; counts it.
    fn may_ask(&mut self, at: usize) -> bool {
        match self.phase {
            Phase::Counted => {
                let more = self.clients[at].left > 0;
                self.clients[at].left = self.clients[at].left.saturating_sub(1);
                more
            }
            Phase::Closed { until: Until::Time(_) } => self.window != Window::Over,
            Phase::Closed { until: Until::Count(left) } => {
                self.phase = Phase::Closed { until: Until::Count(left.saturating_sub(1)) };
                left > 0
            }
            _ => false,
        }
    }

    /// Makes a request on a client that is free; latency counts from `since`.
    fn ask(&mut self, at: usize, since: Instant) {
        let client = &mut self.clients[at];
        client.began = since;
        client.sent = 0;
        self.active += 1;
        if client.stream.is_some() {
            client.state = State::Asking;
            self.send(at);
        } else if self.connect(at).is_err() {
            self.fault(at, Fault::Connect);
        }
    }

    fn connect(&mut self, at: usize) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.target)?;
        let options = SockRef::from(&stream);
        options.set_tcp_nodelay(true)?;
        // Closing sends a reset: neither side keeps the port in TIME_WAIT.
        options.set_linger(Some(Duration::ZERO))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, (self.token)(at), interest)?;
        let client = &mut self.clients[at];
        client.stream = Some(stream);
        client.reader = Reader::default();
        client.state = State::Connecting;
        Ok(())
    }

    fn send(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let bytes = if self.holding { &self.held_request } else { &self.request };
        let Some(stream) = &mut client.stream else { return };
        match stream.write(&bytes[client.sent..]) {
            Ok(count) => client.sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.fault(at, Fault::Cut),
        }
    }

    /// Serves a client whose socket is ready.
    pub(super) fn ready(&mut self, at: usize, event: &mio::event::Event, scratch: &mut [u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if event.is_writable()
            && !event.is_error()
            && matches!(client.state, State::Connecting | State::Asking)
        {
            client.state = State::Asking;
            let whole = if self.holding { self.held_request.len() } else { self.request.len() };
            if client.sent < whole {
                self.send(at);
            }
        }
        if event.is_readable() || event.is_error() {
            self.receive(at, event.is_read_closed(), scratch);
        }
    }

    fn receive(&mut self, at: usize, closed: bool, scratch: &mut [u8]) {
        let size = self.shape.answer();
        loop {
            let client = &mut self.clients[at];
            let Some(stream) = &mut client.stream else { return };
            let count = match stream.read(scratch) {
                Ok(0) => return self.ended(at),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if client.state == State::Idle => return self.drop_idle(at),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return self.fault(at, Fault::Connect);
                }
                Err(_) => return self.fault(at, Fault::Cut),
            };
            if client.state != State::Asking {
                return self.fault(at, Fault::Surplus);
            }
            match client.reader.take(&scratch[..count], size) {
                Ok(true) => self.answered(at),
                Ok(false) => {}
                Err(fault) => return self.fault(at, fault),
            }
            // A short read means that there is no more, unless the end has come as well.
            if count < scratch.len() && !closed {
                return;
            }
        }
    }

    /// The other side has closed.
    fn ended(&mut self, at: usize) {
        let client = &mut self.clients[at];
        match client.state {
            State::Idle => self.drop_idle(at),
            State::Closing => {
                client.stream = None;
                self.free(at);
            }
            _ => match client.reader.end(self.shape.answer()) {
                Ok(()) => {
                    client.stream = None;
                    self.count(at);
                    self.free(at);
                }
                Err(fault) => self.fault(at, fault),
            },
        }
    }

    /// A connection was closed between two requests: allowed, and counted.
    fn drop_idle(&mut self, at: usize) {
        self.clients[at].stream = None;
        self.outcome.reconnects += 1;
    }

    fn answered(&mut self, at: usize) {
        self.count(at);
        let client = &mut self.clients[at];
        if client.reader.last || self.shape.closes() {
            client.state = State::Closing;
        } else {
            self.free(at);
        }
    }

    fn count(&mut self, at: usize) {
        let now = Instant::now();
        let began = self.clients[at].began;
        let is_open = matches!(self.window, Window::Open(_) | Window::Always);
        // A request of the open loop belongs to the time when it was due, however late its answer.
        let is_measured = match self.phase {
            Phase::Open { .. } => self.scheduled.contains(&began),
            _ => is_open,
        };
        if is_measured {
            self.outcome.latencies.record(now.saturating_duration_since(began));
        }
        if is_open {
            self.outcome.requests += 1;
        }
    }

    /// A client has finished a request and takes the next, if there is one.
    fn free(&mut self, at: usize) {
        self.active -= 1;
        self.clients[at].state = State::Idle;
        self.go_on(at);
    }

    /// A client that is idle waits for the next request that is due, or asks at once.
    fn go_on(&mut self, at: usize) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.idle.push_back(at);
        } else if self.may_ask(at) {
            self.ask(at, Instant::now());
        } else {
            self.start_another();
        }
    }

    fn fault(&mut self, at: usize, fault: Fault) {
        self.outcome.faults.add(fault, 1);
        let client = &mut self.clients[at];
        client.stream = None;
        if client.state == State::Idle {
            return;
        }
        client.state = State::Idle;
        self.active -= 1;
        // Not at once: a target that refuses would keep this thread in here.
        self.upset.push(at);
    }

    /// What is due by time: upset clients, requests of the open loop, the end of the phase.
    pub(super) fn turn(&mut self, held: usize) {
        for at in std::mem::take(&mut self.upset) {
            self.go_on(at);
        }
        if self.reply.is_none() {
            return;
        }
        self.send_what_is_due();
        let now = Instant::now();
        self.mind_the_window(now);
        let hopeless = self.outcome.faults.total() > HOPELESS;
        if self.is_over(held) && self.upset.is_empty() || now > self.given_up || hopeless {
            self.finish();
        }
    }

    /// Open loop: sends the requests whose time has come. Called between any two events, so that none waits
    /// for a whole batch of them.
    pub(super) fn send_what_is_due(&mut self) {
        if !matches!(self.phase, Phase::Open { .. }) {
            return;
        }
        let now = Instant::now();
        while let Some(due) = self.next_due()
            && due <= now
            && let Some(at) = self.idle.pop_front()
        {
            if let Phase::Open { next, .. } = &mut self.phase {
                *next += 1;
            }
            if self.scheduled.contains(&due) {
                self.outcome.lateness.record(now - due);
            }
            self.ask(at, due);
        }
    }

    /// Open loop: when the next request is due, if there is one. The load goes on until the window has closed,
    /// which may be later than planned: what is counted is all under load.
    fn next_due(&self) -> Option<Instant> {
        let Phase::Open { interval, next, total } = self.phase else { return None };
        let goes_on = matches!(self.window, Window::Ahead(..) | Window::Open(_));
        let due = || self.began + interval.mul_f64(crate::report::count(next));
        (next < total || goes_on).then(due)
    }

    fn is_over(&self, held: usize) -> bool {
        match self.phase {
            Phase::Nothing => true,
            Phase::Counted => self.active == 0 && self.unstarted.is_empty(),
            Phase::Closed { until: Until::Time(_) } => {
                self.active == 0 && self.window == Window::Over
            }
            Phase::Closed { until: Until::Count(left) } => self.active == 0 && left == 0,
            Phase::Open { next, total, .. } => {
                let over = matches!(self.window, Window::Over | Window::Always);
                self.active == 0 && next >= total && over
            }
            Phase::Holding { wanted } => held == wanted,
        }
    }

    fn finish(&mut self) {
        let holding = matches!(self.phase, Phase::Holding { .. });
        let unsent = match self.phase {
            Phase::Open { next, total, .. } => total.saturating_sub(next),
            _ => 0,
        };
        if self.window != Window::Over {
            self.stop_counting();
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        if !holding {
            outcome.faults.add(Fault::Timeout, self.active as u64 + unsent);
            self.holding = false;
        }
        let given_up = Instant::now() > self.given_up || outcome.faults.total() > HOPELESS;
        let reply = if given_up {
            let faults = outcome.faults.describe();
            Err(Failure::new(format!("given up on {}; faults: {faults}", self.target)))
        } else {
            Ok(outcome)
        };
        if given_up || (!holding && self.active > 0) {
            self.close();
        }
        self.phase = Phase::Nothing;
        if let Some(to) = self.reply.take() {
            // Nobody waits any more when the runner has given up.
            let _ = to.send(reply);
        }
    }

    /// How long the thread may sleep: not at all in the open loop, and never past the window's next change.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.reply.as_ref()?;
        if !self.upset.is_empty() || matches!(self.phase, Phase::Open { .. }) {
            return Some(Duration::ZERO);
        }
        let change = match self.window {
            Window::Ahead(run_in, _) => self.began + run_in,
            Window::Open(time) => self.counted_from + time,
            Window::Always | Window::Over => self.given_up,
        };
        Some(change.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP))
    }
}

impl Outcome {
    /// Adds another slice of the same work.
    pub(crate) fn merge(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.span += other.span;
        self.reconnects += other.reconnects;
        self.refused += other.refused;
        self.faults.merge(&other.faults);
        self.latencies.merge(&other.latencies);
        self.lateness.merge(&other.lateness);
        self.own = self.own + other.own;
        self.subject = self.subject + other.subject;
        self.workers = self.workers + other.workers;
    }
}

/// The percentiles in words.
pub(super) fn describe(latencies: &Histogram) -> String {
    format!(
        "p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us",
        latencies.percentile(50.0),
        latencies.percentile(99.0),
        latencies.percentile(99.9),
        latencies.most()
    )
}
