//! A network in memory for the real engine: clients that send one request over and over, and targets that give one
//! answer over and over. It costs two copies and no allocation in steady state, so that what is counted or timed is the engine's.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenly::balance::{Endpoint, EndpointId, EndpointState, Preference, Served, Shared, Snapshot};
use evenly::base::address::Address;
use evenly::base::tick::Tick;
use evenly::engine::{Engine, Net, Readiness, Token};
use evenly::metrics::WorkerCounters;
use evenly::settings::Plan;

/// Both directions at once, as an edge-triggered event says it.
const READY: Readiness =
    Readiness { readable: true, writable: true, read_closed: false, broken: false };
/// More turns than any exchange needs.
const MANY_TURNS: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Target,
}

/// One connection as its far end sees it.
struct Pipe {
    end: End,
    token: Option<Token>,
    /// Bytes of the far end's message that the engine has not read yet.
    unread: usize,
}

/// All connections.
pub(crate) struct Wire {
    pipes: Vec<Pipe>,
    events: Vec<(Token, Readiness)>,
    request: Vec<u8>,
    response: Vec<u8>,
    /// Responses that reached their client whole.
    answered: usize,
}

impl Wire {
    fn message(&self, end: End) -> &[u8] {
        match end {
            End::Client => &self.request,
            End::Target => &self.response,
        }
    }

    fn say(&mut self, pipe: usize) {
        let len = self.message(self.pipes[pipe].end).len();
        let pipe = &mut self.pipes[pipe];
        assert_eq!(pipe.unread, 0, "a far end speaks before its last word was heard");
        pipe.unread = len;
        self.events.extend(pipe.token.map(|token| (token, READY)));
    }

    /// Takes what was written. A message is whole when the write ends as the message ends: all these writes
    /// are taken at once.
    fn hear(&mut self, pipe: usize, end_of_write: &[u8]) {
        let end = self.pipes[pipe].end;
        let expected = self.message(if end == End::Client { End::Target } else { End::Client });
        let tail = &expected[expected.len() - 4..];
        if !end_of_write.ends_with(tail) {
            return;
        }
        match end {
            End::Client => self.answered += 1,
            End::Target => self.say(pipe),
        }
    }
}

impl Net for Wire {
    type Conn = usize;

    fn now(&mut self) -> Tick {
        Tick::default()
    }

    fn connect(&mut self, _: &Address, token: Token) -> io::Result<usize> {
        self.pipes.push(Pipe { end: End::Target, token: Some(token), unread: 0 });
        self.events.push((token, Readiness { writable: true, ..Readiness::default() }));
        Ok(self.pipes.len() - 1)
    }

    fn register(&mut self, conn: &mut usize, token: Token) -> io::Result<()> {
        self.pipes[*conn].token = Some(token);
        Ok(())
    }

    fn connected(&mut self, _: &mut usize) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, conn: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let Pipe { end, unread, .. } = self.pipes[*conn];
        if unread == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = unread.min(into.len());
        let message = self.message(end);
        let rest = &message[message.len() - unread..];
        into[..count].copy_from_slice(&rest[..count]);
        self.pipes[*conn].unread -= count;
        Ok(count)
    }

    fn write(&mut self, conn: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        self.hear(*conn, bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, conn: &mut usize, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(last) = pieces.iter().rfind(|piece| !piece.is_empty()) {
            self.hear(*conn, last);
        }
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn shutdown(&mut self, _: &mut usize) {}

    fn reset(&mut self, _: usize) {}
}

/// A snapshot of `count` healthy endpoints.
pub(crate) fn snapshot(count: u16) -> Snapshot {
    let endpoint = |at: u16| Endpoint {
        id: EndpointId(at.into()),
        address: SocketAddr::from(([127, 0, 0, 1], 8_000 + at)).into(),
        target: "target".into(),
        state: EndpointState::Up,
        preference: Preference::default(),
        absent: false,
        served: Served::default(),
    };
    Snapshot::new(1, (0..count).map(endpoint).collect())
}

/// Shorter times pass without a look at deadlines, as between two polls of a busy worker.
const SHORT: Duration = Duration::from_millis(1);

/// An engine between its clients and two targets.
pub(crate) struct Rig {
    engine: Engine<Wire>,
    snapshot: Arc<Snapshot>,
    counters: WorkerCounters,
    clients: Vec<usize>,
    now: Tick,
}

impl Rig {
    /// With so many client connections, each of which sends `request` and gets `response`.
    pub(crate) fn new(clients: usize, request: &[u8], response: &[u8]) -> Rig {
        Rig::by(Plan::default(), clients, request, response)
    }

    /// Likewise, by this plan.
    pub(crate) fn by(plan: Plan, clients: usize, request: &[u8], response: &[u8]) -> Rig {
        let wire = Wire {
            pipes: Vec::new(),
            events: Vec::new(),
            request: request.to_vec(),
            response: response.to_vec(),
            answered: 0,
        };
        let (shared, counters) = (Arc::new(Shared::default()), WorkerCounters::default());
        let snapshot = Arc::new(snapshot(2).under(Arc::new(plan)));
        shared.snapshot.store(Arc::clone(&snapshot));
        let mut engine = Engine::new(wire, 1, shared, Arc::clone(&counters));
        let accept = |client: usize| {
            let wire = engine.net_mut();
            wire.pipes.push(Pipe { end: End::Client, token: None, unread: 0 });
            engine.accept(client, SocketAddr::from(([127, 0, 0, 1], 9_000)).into(), Tick(0));
            client
        };
        let clients = (0..clients).map(accept).collect();
        Rig { engine, snapshot, counters, clients, now: Tick(0) }
    }

    /// One request on each connection, all at once, until each has its answer; `wait` later than the last.
    pub(crate) fn round(&mut self, wait: Duration) {
        match wait < SHORT {
            true => self.now = self.now.after(wait),
            false => self.pass(wait),
        }
        self.engine.net_mut().answered = 0;
        for &client in &self.clients {
            self.engine.net_mut().say(client);
        }
        for _ in 0..MANY_TURNS {
            while let Some((token, readiness)) = self.engine.net_mut().events.pop() {
                self.engine.ready(token, readiness);
            }
            self.engine.turn(self.now, &self.snapshot);
            if self.engine.net_mut().answered == self.clients.len() {
                return;
            }
        }
        panic!("no answer after {MANY_TURNS} turns");
    }

    /// Time passes, with each deadline at its time: one that is passed over would be a pause of the worker.
    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(at) = self.engine.next_deadline().filter(|&at| at < until) {
            self.now = at;
            self.engine.turn(self.now, &self.snapshot);
        }
        self.now = until;
    }

    /// Exchanges that ended with a whole response.
    pub(crate) fn finished(&self) -> u64 {
        self.counters.finished.get()
    }
}
