//! The small requests that are measured, asked in both ways: by clients that wait for the answer before they ask
//! again, and at times that do not depend on any answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::{ASKED, ASKING, Outcome, Window};
use crate::generator::http::{Fault, Reader, Shape};

/// Connections of the requests that have their times; one that finds none free waits.
const POOL: usize = 64;
/// From an answer to the next request of the same client, at least and at most.
const PAUSE: [u64; 2] = [1_000_000, 3_000_000];

pub(super) struct Probes {
    target: SocketAddr,
    token: fn(usize) -> Token,
    request: Vec<u8>,
    clients: Vec<Client>,
    /// Free connections of the open loop.
    free: VecDeque<usize>,
    began: Instant,
    /// Requests of the open loop that were sent.
    next: u32,
    chance: u64,
}

struct Client {
    stream: Option<TcpStream>,
    state: State,
    reader: Reader,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// Asked for warmth; not counted.
    Warming,
    /// Asks again then; of the open loop, never by itself.
    Idle(Instant),
    Asking(Instant),
    Gone,
}

impl Probes {
    pub(super) fn new(target: SocketAddr, token: fn(usize) -> Token) -> Probes {
        Probes {
            target,
            token,
            request: Shape::Bare.request(),
            clients: Vec::new(),
            free: VecDeque::new(),
            began: Instant::now(),
            next: 0,
            chance: 0x9e37_79b9_7f4a_7c15,
        }
    }

    pub(super) fn begin(&mut self, registry: &Registry, outcome: &mut Outcome) {
        self.began = Instant::now();
        for at in 0..ASKING + POOL {
            self.clients.push(Client {
                stream: None,
                state: State::Gone,
                reader: Reader::default(),
            });
            self.connect(at, registry, outcome);
        }
    }

    fn connect(&mut self, at: usize, registry: &Registry, outcome: &mut Outcome) {
        let connect = || {
            let mut stream = TcpStream::connect(self.target)?;
            let options = SockRef::from(&stream);
            options.set_tcp_nodelay(true)?;
            options.set_linger(Some(Duration::ZERO))?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, (self.token)(at), interest)?;
            std::io::Result::Ok(stream)
        };
        match connect() {
            Ok(stream) => {
                let (state, reader) = (State::Connecting, Reader::default());
                self.clients[at] = Client { stream: Some(stream), state, reader };
            }
            Err(_) => outcome.faults.add(Fault::Connect, 1),
        }
    }

    pub(super) fn ready(
        &mut self,
        at: usize,
        event: &mio::event::Event,
        (window, outcome): (Window, &mut Outcome),
        scratch: &mut [u8],
    ) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.state == State::Connecting && event.is_writable() && !event.is_error() {
            client.state = State::Warming;
            self.send(at, outcome);
        }
        if event.is_readable() || event.is_error() {
            self.receive(at, (window, outcome), scratch);
        }
    }

    fn send(&mut self, at: usize, outcome: &mut Outcome) {
        let Some(stream) = &mut self.clients[at].stream else { return };
        // The request is smaller than the room of any socket that has nothing to send.
        if !matches!(stream.write(&self.request), Ok(sent) if sent == self.request.len()) {
            self.fault(at, Fault::Cut, outcome);
        }
    }

    fn fault(&mut self, at: usize, fault: Fault, outcome: &mut Outcome) {
        outcome.faults.add(fault, 1);
        self.clients[at].stream = None;
        self.clients[at].state = State::Gone;
        self.free.retain(|free| *free != at);
    }

    fn receive(
        &mut self,
        at: usize,
        (window, outcome): (Window, &mut Outcome),
        scratch: &mut [u8],
    ) {
        loop {
            let client = &mut self.clients[at];
            let Some(stream) = &mut client.stream else { return };
            let took = match stream.read(scratch) {
                Ok(0) => Err(Fault::Cut),
                Ok(count) if matches!(client.state, State::Warming | State::Asking(_)) => {
                    client.reader.take(&scratch[..count], Shape::Bare.answer())
                }
                Ok(_) => Err(Fault::Surplus),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => Err(Fault::Cut),
            };
            match took {
                Ok(false) => {}
                Ok(true) => self.answered(at, window, outcome),
                Err(fault) => return self.fault(at, fault, outcome),
            }
        }
    }

    fn answered(&mut self, at: usize, window: Window, outcome: &mut Outcome) {
        let now = Instant::now();
        let client = &mut self.clients[at];
        if let State::Asking(since) = client.state
            && window.contains(since)
        {
            let latencies = if at < ASKING { &mut outcome.closed } else { &mut outcome.open };
            latencies.record(now.saturating_duration_since(since));
        }
        if at < ASKING {
            self.clients[at].state = State::Idle(now + self.pause());
        } else {
            client.state = State::Idle(now);
            self.free.push_back(at);
        }
    }

    /// A pause of its own each time, so that no client falls into step with the load (splitmix64).
    fn pause(&mut self) -> Duration {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let [least, most] = PAUSE;
        Duration::from_nanos(least + mixed % (most - least))
    }

    /// Sends what is due by `now`, and connects again who has lost its connection.
    pub(super) fn due(&mut self, now: Instant, registry: &Registry, outcome: &mut Outcome) {
        for at in 0..ASKING {
            match self.clients[at].state {
                State::Idle(due) if due <= now => {
                    self.clients[at].state = State::Asking(now);
                    self.send(at, outcome);
                }
                State::Gone => self.connect(at, registry, outcome),
                _ => {}
            }
        }
        let interval = Duration::from_secs(1) / ASKED;
        while self.began + interval * self.next <= now
            && let Some(at) = self.free.pop_front()
        {
            self.clients[at].state = State::Asking(self.began + interval * self.next);
            self.next += 1;
            self.send(at, outcome);
        }
    }

    /// Whether every connection has had its first answer.
    pub(super) fn are_warm(&self) -> bool {
        let is_cold = |client: &Client| matches!(client.state, State::Connecting | State::Warming);
        !self.clients.iter().any(is_cold)
    }

    /// Requests that are to be measured and have no answer.
    pub(super) fn outstanding(&self, window: Window) -> usize {
        let waits = |client: &&Client| matches!(client.state, State::Asking(since) if window.contains(since));
        let unsent = {
            let interval = Duration::from_secs(1) / ASKED;
            usize::from(self.began + interval * self.next < window.to)
        };
        self.clients.iter().filter(waits).count() + unsent
    }

    /// Counts as long as they have lasted those that have no answer, and as failed.
    pub(super) fn give_up(&mut self, now: Instant, window: Window, outcome: &mut Outcome) {
        for (at, client) in self.clients.iter().enumerate() {
            if let State::Asking(since) = client.state
                && window.contains(since)
            {
                let latencies = if at < ASKING { &mut outcome.closed } else { &mut outcome.open };
                latencies.record(now.saturating_duration_since(since));
                outcome.faults.add(Fault::Timeout, 1);
            }
        }
    }
}
