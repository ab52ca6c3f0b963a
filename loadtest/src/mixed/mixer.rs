//! The thread that is both ends, and the order in which it serves them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::crowd::Crowd;
use super::origin::Origin;
use super::probe::Probes;
use super::{Outcome, Slice, Window};
use crate::Failure;
use crate::generator::http::Fault;
use crate::proc::{self, Cpu};

const SCRATCH: usize = 256 << 10;
const EVENTS: usize = 64;
/// Where the origin listens: not where connections come from.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const WAKER: Token = Token(0);
/// The first token of a connection; below it are the waker's and the listeners'.
const FIRST: usize = 16;
/// How long answers may take that are outstanding when a slice ends.
const PATIENCE: Duration = Duration::from_secs(5);

type Reply = Result<Outcome, Failure>;

/// The thread; it inherits the CPU of the one that starts it.
pub(crate) struct Mixer {
    /// Where the origin listens.
    pub(crate) targets: [SocketAddr; 2],
    commands: Sender<(Slice, Sender<Reply>)>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Mixer {
    pub(crate) fn start() -> Result<Mixer, Failure> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut origin = Origin::new();
        let mut listen = |at: usize| origin.listen(poll.registry(), ADDRESS, Token(1 + at));
        let targets = [listen(0)?, listen(1)?];
        let (commands, receiver) = channel();
        let engine = Engine {
            poll,
            origin,
            queue: VecDeque::new(),
            commands: receiver,
            scratch: vec![0; SCRATCH],
        };
        let thread = thread::Builder::new().name("mixer".to_owned()).spawn(|| engine.run())?;
        Ok(Mixer { targets, commands, waker, thread: Some(thread) })
    }

    /// Runs one slice.
    pub(crate) fn run(&self, slice: Slice) -> Reply {
        let (reply, answer) = channel();
        let gone = |_| Failure::new("the mixer has ended");
        self.commands.send((slice, reply)).map_err(gone)?;
        self.waker.wake()?;
        answer.recv()?
    }
}

impl Drop for Mixer {
    fn drop(&mut self) {
        // Without a sender it ends.
        self.commands = channel().0;
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bulk that waits for its turn.
#[derive(Clone, Copy)]
enum Bulk {
    Origin(usize),
    Crowd(usize),
}

struct Engine {
    poll: Poll,
    origin: Origin,
    queue: VecDeque<Bulk>,
    commands: Receiver<(Slice, Sender<Reply>)>,
    scratch: Vec<u8>,
}

/// Whose a token is.
enum Owner {
    Waker,
    Listener(usize),
    Origin(usize),
    Crowd(usize),
    Probe(usize),
}

fn owner(Token(token): Token) -> Owner {
    match token.checked_sub(FIRST) {
        None if token == WAKER.0 => Owner::Waker,
        None => Owner::Listener(token - 1),
        Some(token) => match token % 3 {
            0 => Owner::Origin(token / 3),
            1 => Owner::Crowd(token / 3),
            _ => Owner::Probe(token / 3),
        },
    }
}

fn origin_token(at: usize) -> Token {
    Token(FIRST + 3 * at)
}

fn crowd_token(at: usize) -> Token {
    Token(FIRST + 3 * at + 1)
}

fn probe_token(at: usize) -> Token {
    Token(FIRST + 3 * at + 2)
}

/// What a slice has in the air.
struct Play {
    crowd: Crowd,
    probes: Probes,
    window: Window,
    outcome: Outcome,
}

impl Engine {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            eprintln!("loadtest: the mixer failed: {error}");
        }
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.turn(&mut events, None, None)?;
            loop {
                match self.commands.try_recv() {
                    Ok((slice, reply)) => {
                        // Nobody waits any more when the runner has given up.
                        let _ = reply.send(self.play(&slice, &mut events));
                    }
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                        self.origin.abort();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One look at what is ready, and one piece of bulk. Returns whether there was anything to do.
    fn turn(
        &mut self,
        events: &mut Events,
        mut play: Option<&mut Play>,
        patience: Option<Duration>,
    ) -> Result<bool, Failure> {
        let patience = if self.queue.is_empty() { patience } else { Some(Duration::ZERO) };
        if let Err(error) = self.poll.poll(events, patience)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        // The answers to the small requests first: their time is taken here.
        if let Some(play) = play.as_deref_mut() {
            for event in events.iter() {
                if let Owner::Probe(at) = owner(event.token()) {
                    let measured = (play.window, &mut play.outcome);
                    play.probes.ready(at, event, measured, &mut self.scratch);
                }
            }
        }
        for event in events.iter() {
            match (owner(event.token()), play.as_deref_mut()) {
                (Owner::Listener(at), _) => {
                    self.origin.accept(self.poll.registry(), at, origin_token)?;
                }
                (Owner::Origin(at), _) => {
                    let wants_turn = self.origin.ready(at, event, &mut self.scratch);
                    self.queue.extend(wants_turn.then_some(Bulk::Origin(at)));
                }
                (Owner::Crowd(at), Some(play)) => {
                    let measured = (play.window, &mut play.outcome);
                    let wants_turn = play.crowd.ready(at, event, measured, &mut self.scratch);
                    self.queue.extend(wants_turn.then_some(Bulk::Crowd(at)));
                }
                _ => {}
            }
        }
        let mut worked = !events.is_empty();
        match self.queue.pop_front() {
            Some(Bulk::Origin(at)) => {
                worked = true;
                if self.origin.piece(at, &mut self.scratch) {
                    self.queue.push_back(Bulk::Origin(at));
                }
            }
            Some(Bulk::Crowd(at)) => {
                worked = true;
                if let Some(play) = play
                    && play.crowd.piece(at, &mut play.outcome, &mut self.scratch)
                {
                    self.queue.push_back(Bulk::Crowd(at));
                }
            }
            None => {}
        }
        Ok(worked)
    }

    /// Runs a slice from its first connection to its last answer.
    fn play(&mut self, slice: &Slice, events: &mut Events) -> Reply {
        let registry = self.poll.registry().try_clone()?;
        let from = Instant::now() + slice.run_in;
        let mut play = Play {
            crowd: Crowd::new(slice.beside, slice.target, crowd_token),
            probes: Probes::new(slice.target, probe_token),
            window: Window { from, to: from },
            outcome: Outcome::default(),
        };
        play.crowd.begin(&registry)?;
        play.probes.begin(&registry, &mut play.outcome);
        let began = Instant::now();
        let mut warm = None;
        while Instant::now() < from || warm.is_none() && began.elapsed() < PATIENCE {
            self.step(&registry, &mut play, events)?;
            if warm.is_none() && play.probes.are_warm() {
                warm = Some(began.elapsed());
            }
        }
        play.outcome.warm = warm.unwrap_or(PATIENCE).as_secs_f64();
        let before = Reading::take(&slice.watched);
        let window = Window { from: before.at, to: before.at + slice.time };
        play.window = window;
        play.outcome.bytes = 0;
        let (bytes, idle) = loop {
            let now = Instant::now();
            if now >= window.to {
                break (play.outcome.bytes, play.outcome.idle);
            }
            let worked = self.step(&registry, &mut play, events)?;
            if !worked {
                play.outcome.idle += now.elapsed().as_secs_f64();
            }
        };
        let after = Reading::take(&slice.watched);
        self.finish(&registry, &mut play, events)?;
        play.outcome.bytes = bytes;
        play.outcome.idle = idle;
        after.since(&before, &mut play.outcome);
        Ok(std::mem::take(&mut play.outcome))
    }

    /// Waits under the same load until everything that is measured has been answered: who waits longest counts too.
    fn finish(
        &mut self,
        registry: &mio::Registry,
        play: &mut Play,
        events: &mut Events,
    ) -> Result<(), Failure> {
        let give_up = Instant::now() + PATIENCE;
        let outstanding = |play: &Play| {
            play.probes.outstanding(play.window) + play.crowd.outstanding(play.window)
        };
        while outstanding(play) > 0 {
            if Instant::now() > give_up {
                play.probes.give_up(Instant::now(), play.window, &mut play.outcome);
                let visits = play.crowd.outstanding(play.window) as u64;
                play.outcome.faults.add(Fault::Timeout, visits);
                break;
            }
            self.step(registry, play, events)?;
        }
        self.queue.retain(|bulk| matches!(bulk, Bulk::Origin(_)));
        Ok(())
    }

    fn step(
        &mut self,
        registry: &mio::Registry,
        play: &mut Play,
        events: &mut Events,
    ) -> Result<bool, Failure> {
        let worked = self.turn(events, Some(play), Some(Duration::ZERO))?;
        let now = Instant::now();
        play.probes.due(now, registry, &mut play.outcome);
        let due = play.crowd.due(now, registry, &mut play.outcome, &mut self.scratch);
        Ok(worked || due)
    }
}

/// What had been used at one moment.
struct Reading {
    at: Instant,
    own: Cpu,
    subject: Cpu,
    stolen: f64,
}

impl Reading {
    fn take(watched: &[u32]) -> Reading {
        Reading {
            at: Instant::now(),
            own: proc::own_thread().unwrap_or_default(),
            subject: proc::cpu_of_all(watched).unwrap_or_default(),
            stolen: proc::stolen().unwrap_or_default(),
        }
    }

    fn since(&self, before: &Reading, outcome: &mut Outcome) {
        outcome.span = (self.at - before.at).as_secs_f64();
        outcome.own = self.own - before.own;
        outcome.subject = self.subject - before.subject;
        outcome.stolen = self.stolen - before.stolen;
    }
}
