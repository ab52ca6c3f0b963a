//! Clients and the server behind the subject, both on one thread, so that one core can drive a fast
//! proxy to its end. The origin serves all the time; the clients do what they are told.
//!
//! Owns: both ends' sockets. Invariant: no answer is counted before it was checked, and none that was
//! wrong is counted as answered.

pub(crate) mod drive;
mod driver;
pub(crate) mod histogram;
pub(crate) mod http;
pub(crate) mod origin;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use crate::Failure;
use crate::proc::Cpu;
use crate::report::count;
use driver::Driver;
use histogram::Histogram;
use http::{Faults, Shape};
use origin::{Origin, listener_token};

/// Bytes received at once.
const SCRATCH: usize = 256 << 10;
/// Few at a time: answers to a thousand clients in one lump would be this generator's doing, not theirs.
const EVENTS: usize = 64;
/// Where the origin listens: not where connections come from.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const WAKER: Token = Token(0);
/// The first token of a connection; below it are the waker's and the listeners'.
const CONNECTIONS: usize = 16;

/// How requests follow one another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection asks again when it has its answer.
    Closed,
    /// So many requests per second, evenly spread, whatever becomes of them.
    PerSecond(f64),
}

/// When a slice ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Time(Duration),
    /// After so many requests.
    Count(u64),
}

/// Load on the connections that are open.
pub(crate) struct Slice {
    pub(crate) pace: Pace,
    pub(crate) until: Until,
    /// How long the load runs before it counts, where it ends by time.
    pub(crate) run_in: Duration,
    /// Processes whose CPU time is wanted.
    pub(crate) watched: Vec<u32>,
}

/// Connections to open.
struct Opening {
    target: SocketAddr,
    shape: Shape,
    connections: usize,
    /// Requests on each.
    warm: u64,
    /// How many make theirs at the same time.
    width: usize,
}

/// What became of a slice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Requests whose right answer came while it counted.
    pub(crate) requests: u64,
    /// How long it counted, in seconds.
    pub(crate) span: f64,
    pub(crate) faults: Faults,
    /// Connections that were closed between two requests.
    pub(crate) reconnects: u64,
    /// Requests that came to the origin broken.
    pub(crate) refused: u64,
    pub(crate) latencies: Histogram,
    /// Open loop: from when measured requests were due to when they were sent. It shows whether the generator
    /// kept to its schedule, and whether there were connections to send them on.
    pub(crate) lateness: Histogram,
    /// What the generator's own thread used.
    pub(crate) own: Cpu,
    /// What the watched processes used.
    pub(crate) subject: Cpu,
    /// What those of their threads used that are evenly's workers.
    pub(crate) workers: Cpu,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.requests) / self.span.max(1e-9)
    }

    /// The share of its core that the generator used.
    pub(crate) fn busy(&self) -> f64 {
        count(self.own.ran) / 1e9 / self.span.max(1e-9)
    }

    /// Everything that went wrong.
    pub(crate) fn failed(&self) -> u64 {
        self.faults.total() + self.refused
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "requests   {} in {:.3} s: {:.0}/s\nlatency    {}\nsent late  {}\nfaults     {}\nreconnects {}\n\
             own CPU    {:.2} us per request, {:.0} % of a core\n",
            self.requests,
            self.span,
            self.per_second(),
            driver::describe(&self.latencies),
            driver::describe(&self.lateness),
            self.faults.describe(),
            self.reconnects,
            count(self.own.ran) / 1000.0 / count(self.requests.max(1)),
            self.busy() * 100.0
        )
    }
}

type Reply = Result<Outcome, Failure>;

enum Command {
    Open { opening: Opening, reply: Sender<Reply> },
    Measure { slice: Slice, reply: Sender<Reply> },
    Hold { reply: Sender<Reply> },
    Release { reply: Sender<Reply> },
    Close { reply: Sender<Reply> },
    Stop,
}

/// A thread with both ends; it inherits the CPU of the thread that starts it.
pub(crate) struct Generator {
    /// Where the origin listens.
    pub(crate) targets: [SocketAddr; 2],
    /// The port that it serves on every address of 127.0.0.0/8.
    pub(crate) port: u16,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Generator {
    pub(crate) fn start() -> Result<Generator, Failure> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut origin = Origin::new();
        let mut listen = |at: usize, host: Ipv4Addr| {
            origin.listen(poll.registry(), SocketAddr::from((host, 0)), listener_token(at))
        };
        let targets = [listen(0, ADDRESS)?, listen(1, ADDRESS)?];
        let port = listen(2, Ipv4Addr::UNSPECIFIED)?.port();
        let driver = Driver::new(poll.registry().try_clone()?, client_token);
        let (commands, receiver) = channel();
        let engine = Engine { poll, origin, driver, commands: receiver, scratch: vec![0; SCRATCH] };
        let thread = thread::Builder::new().name("generator".to_owned()).spawn(|| engine.run())?;
        Ok(Generator { targets, port, commands, waker, thread: Some(thread) })
    }

    /// Opens connections and makes `warm` requests on each, all at once, which are not counted.
    pub(crate) fn open(
        &self,
        target: SocketAddr,
        shape: Shape,
        connections: usize,
        warm: u64,
    ) -> Result<(), Failure> {
        self.establish(Opening { target, shape, connections, warm, width: connections })
    }

    /// Opens connections and makes one request on each, a few at a time.
    pub(crate) fn open_gently(
        &self,
        target: SocketAddr,
        connections: usize,
    ) -> Result<(), Failure> {
        self.establish(Opening { target, shape: Shape::Bare, connections, warm: 1, width: 8 })
    }

    fn establish(&self, opening: Opening) -> Result<(), Failure> {
        let target = opening.target;
        let opened = self.ask(|reply| Command::Open { opening, reply })?;
        match opened.failed() {
            0 => Ok(()),
            _ => Err(Failure::new(format!(
                "{target} could not be warmed up: {}",
                opened.faults.describe()
            ))),
        }
    }

    /// Loads the connections that are open.
    pub(crate) fn measure(&self, slice: Slice) -> Reply {
        self.ask(|reply| Command::Measure { slice, reply })
    }

    /// Makes so many requests, each connection the next when it has its answer.
    pub(crate) fn make(&self, requests: u64) -> Reply {
        let (pace, until) = (Pace::Closed, Until::Count(requests));
        self.measure(Slice { pace, until, run_in: Duration::ZERO, watched: Vec::new() })
    }

    /// Makes a request on every connection whose answer the origin withholds.
    pub(crate) fn hold(&self) -> Reply {
        self.ask(|reply| Command::Hold { reply })
    }

    /// Lets the origin answer what it withheld, and waits for the answers.
    pub(crate) fn release(&self) -> Reply {
        self.ask(|reply| Command::Release { reply })
    }

    /// Closes the clients' connections and says how many requests came broken to the origin.
    pub(crate) fn close(&self) -> Result<u64, Failure> {
        self.ask(|reply| Command::Close { reply }).map(|outcome| outcome.refused)
    }

    fn ask(&self, command: impl FnOnce(Sender<Reply>) -> Command) -> Reply {
        let (reply, answer) = channel();
        self.tell(command(reply))?;
        answer.recv()?
    }

    fn tell(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).map_err(|_| Failure::new("the generator has ended"))?;
        Ok(self.waker.wake()?)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Engine {
    poll: Poll,
    origin: Origin,
    driver: Driver,
    commands: Receiver<Command>,
    scratch: Vec<u8>,
}

fn client_token(at: usize) -> Token {
    Token(CONNECTIONS + 2 * at)
}

fn origin_token(at: usize) -> Token {
    Token(CONNECTIONS + 2 * at + 1)
}

impl Engine {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            eprintln!("loadtest: the generator failed: {error}");
        }
    }

    fn serve(&mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.driver.patience())
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                let Token(token) = event.token();
                match token.checked_sub(CONNECTIONS) {
                    Some(at) if at % 2 == 0 => self.driver.ready(at / 2, event, &mut self.scratch),
                    Some(at) => self.origin.ready(at / 2, event, &mut self.scratch),
                    None if event.token() == WAKER => {
                        if !self.obey() {
                            self.driver.close();
                            self.origin.abort();
                            return Ok(());
                        }
                    }
                    None => self.origin.accept(self.poll.registry(), token - 1, origin_token)?,
                }
                self.driver.send_what_is_due();
            }
            self.driver.turn(self.origin.held());
        }
    }

    /// Carries out the commands that have come; false at the last one.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open { opening, reply } => {
                    self.origin.refused = 0;
                    self.driver.open(&opening, reply);
                }
                Command::Measure { slice, reply } => self.driver.measure(slice, reply),
                Command::Hold { reply } => self.driver.hold(reply),
                Command::Release { reply } => {
                    self.origin.release();
                    self.driver.await_answers(reply);
                }
                Command::Close { reply } => {
                    self.driver.close();
                    let refused = std::mem::take(&mut self.origin.refused);
                    let _ = reply.send(Ok(Outcome { refused, ..Outcome::default() }));
                }
                Command::Stop => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shape_is_answered_rightly_by_the_generators_own_origin() {
        let generator = Generator::start().unwrap();
        for shape in Shape::value_variants() {
            generator.open(generator.targets[0], *shape, 4, 2).unwrap();
            let outcome = generator.make(40).unwrap();
            assert_eq!((outcome.requests, outcome.failed()), (40, 0), "{shape:?} {outcome:?}");
            assert_eq!(outcome.latencies.seen(), 40);
            generator.close().unwrap();
        }
    }

    #[test]
    fn a_fixed_rate_keeps_its_schedule_and_counts_the_wait() {
        let generator = Generator::start().unwrap();
        generator.open(generator.targets[1], Shape::Bare, 1, 1).unwrap();
        let at_rate = |rate, requests| {
            let (pace, until) = (Pace::PerSecond(rate), Until::Count(requests));
            let slice = Slice { pace, until, run_in: Duration::ZERO, watched: Vec::new() };
            generator.measure(slice).unwrap()
        };
        let outcome = at_rate(1000.0, 50);
        assert_eq!((outcome.requests, outcome.failed()), (50, 0));
        assert!(outcome.span >= 0.04, "{outcome:?}");
        // A hundred thousand a second on one connection cannot be kept up: the last ones waited long.
        let outcome = at_rate(10e6, 300);
        let mean = outcome.span * 1e6 / 300.0;
        assert!(outcome.latencies.percentile(99.0) > 100.0 * mean, "{outcome:?}");
    }

    #[test]
    fn a_slice_counts_what_was_answered_in_its_time_alone() {
        let generator = Generator::start().unwrap();
        generator.open(generator.targets[0], Shape::Bare, 4, 1).unwrap();
        for pace in [Pace::Closed, Pace::PerSecond(2000.0)] {
            let (until, run_in) =
                (Until::Time(Duration::from_millis(40)), Duration::from_millis(20));
            let watched = vec![std::process::id()];
            let outcome = generator.measure(Slice { pace, until, run_in, watched }).unwrap();
            assert!(outcome.requests > 0 && outcome.failed() == 0, "{outcome:?}");
            assert!(outcome.span >= 0.04 && outcome.subject.ran > 0, "{outcome:?}");
            if matches!(pace, Pace::PerSecond(_)) {
                // Counted by when they were due, so that a machine with other work does not matter.
                assert!((79..=81).contains(&outcome.latencies.seen()), "{outcome:?}");
                assert_eq!(outcome.lateness.seen(), outcome.latencies.seen());
            }
        }
    }

    #[test]
    fn a_fixed_rate_goes_on_until_the_window_has_closed() {
        let generator = Generator::start().unwrap();
        generator.open(generator.targets[0], Shape::Bare, 8, 1).unwrap();
        let at_rate = |rate, millis| {
            let (until, run_in) =
                (Until::Time(Duration::from_millis(millis)), Duration::from_millis(21));
            let pace = Pace::PerSecond(rate);
            generator.measure(Slice { pace, until, run_in, watched: Vec::new() }).unwrap()
        };
        for (rate, millis, wanted) in [(100.0, 200, 20_u64), (15_000.0, 100, 1500), (30.0, 110, 3)]
        {
            let outcome = at_rate(rate, millis);
            assert!(outcome.latencies.seen().abs_diff(wanted) <= 1, "{rate}: {outcome:?}");
        }
        // The last one is long answered when the window is to close. Should it close late, what came until then is
        // counted: requests over the span are the rate all the same.
        let outcome = at_rate(100.0, 200);
        let missing = 100.0 * outcome.span - count(outcome.requests);
        assert!(missing.abs() <= 5.0, "{outcome:?}");
    }

    #[test]
    fn answers_are_withheld_until_they_are_released() {
        let generator = Generator::start().unwrap();
        let everywhere = SocketAddr::from((origin::address(7, false), generator.port));
        generator.open(everywhere, Shape::Bare, 20, 1).unwrap();
        assert_eq!(generator.hold().unwrap().requests, 0);
        assert_eq!(generator.release().unwrap().requests, 20);
    }

    #[test]
    fn a_target_that_is_not_there_is_a_failure() {
        let generator = Generator::start().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = generator.open(gone, Shape::Bare, 2, 1).unwrap_err();
        assert!(error.to_string().contains("could not connect: 2"), "{error}");
    }
}
