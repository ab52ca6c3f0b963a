//! The production engine on a network that is a list of wires in memory.
//!
//! ```sh
//! cargo run --example engine_on_a_fake_network
//! ```
//!
//! The engine is generic over [`Net`], and is given the time: no socket is opened and no clock is read, so the same
//! run has the same result every time. `tests/simulation` is this idea with delays, resets and hostile peers.
//! `tests/examples.rs` compares what this prints with what it must.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenly::balance::{Endpoint, EndpointId, EndpointState, Preference, Served, Shared, Snapshot};
use evenly::base::address::Address;
use evenly::base::tick::Tick;
use evenly::engine::{Engine, Net, Readiness, Token};
use evenly::metrics::WorkerCounters;

/// One connection, seen from its far end.
struct Wire {
    name: String,
    /// Known once the engine has registered it.
    token: Option<Token>,
    /// On its way to the engine.
    inward: Vec<u8>,
    /// What the engine wrote.
    outward: Vec<u8>,
    /// The far end has gone.
    reset: bool,
}

/// All wires, what is listened on, and the events that the engine has not seen yet.
#[derive(Default)]
struct World {
    wires: Vec<Wire>,
    listening: Vec<Address>,
    events: Vec<(Token, Readiness)>,
}

impl World {
    /// The far end of wire `at` writes.
    fn say(&mut self, at: usize, bytes: &[u8]) {
        let wire = &mut self.wires[at];
        wire.inward.extend_from_slice(bytes);
        let event = Readiness { readable: true, ..Readiness::default() };
        self.events.extend(wire.token.map(|token| (token, event)));
    }

    fn open(&mut self, name: String) -> usize {
        self.wires.push(Wire { name, token: None, inward: vec![], outward: vec![], reset: false });
        self.wires.len() - 1
    }

    /// The target that listened at `position` is gone, and so are its connections.
    fn lose(&mut self, position: usize) {
        let name = self.listening.remove(position).to_string();
        let event = Readiness { readable: true, writable: true, read_closed: true, broken: true };
        for wire in self.wires.iter_mut().filter(|wire| wire.name == name) {
            wire.reset = true;
            self.events.extend(wire.token.map(|token| (token, event)));
        }
    }

    fn register(&mut self, at: usize, token: Token) {
        self.wires[at].token = Some(token);
        let event = Readiness { readable: true, writable: true, ..Readiness::default() };
        self.events.push((token, event));
    }
}

/// The engine's view of the world. Cheap to clone, so that this file keeps the other end.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<World>>);

impl Net for Fake {
    /// A connection is the number of its wire.
    type Conn = usize;

    fn now(&mut self) -> Tick {
        // Time stands still during a turn.
        Tick::default()
    }

    fn connect(&mut self, address: &Address, token: Token) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        if !world.listening.contains(address) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let at = world.open(format!("{address}"));
        world.register(at, token);
        Ok(at)
    }

    fn register(&mut self, conn: &mut usize, token: Token) -> io::Result<()> {
        self.0.borrow_mut().register(*conn, token);
        Ok(())
    }

    fn connected(&mut self, _: &mut usize) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, conn: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let wire = &mut self.0.borrow_mut().wires[*conn];
        if wire.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let inward = &mut wire.inward;
        let count = inward.len().min(into.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&inward[..count]);
        inward.drain(..count);
        Ok(count)
    }

    fn write(&mut self, conn: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().wires[*conn].outward.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, conn: &mut usize, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write(conn, &all)
    }

    fn shutdown(&mut self, _: &mut usize) {}

    fn reset(&mut self, _: usize) {}
}

/// An engine, its world, and the snapshot that a health thread would publish.
struct Bench {
    net: Fake,
    engine: Engine<Fake>,
    snapshot: Arc<Snapshot>,
    now: Tick,
    said: String,
}

impl Bench {
    fn new(addresses: &[&str]) -> Bench {
        let addresses: Vec<Address> = addresses
            .iter()
            .map(|text| text.parse::<SocketAddr>().expect("an address").into())
            .collect();
        let endpoints = (0u32..).zip(&addresses).map(|(id, address)| Endpoint {
            id: EndpointId(id),
            address: address.clone(),
            target: "example".into(),
            state: EndpointState::Up,
            preference: Preference::default(),
            absent: false,
            served: Served::default(),
        });
        let snapshot = Arc::new(Snapshot::new(1, endpoints.collect()));
        let shared = Arc::new(Shared::default());
        shared.snapshot.store(Arc::clone(&snapshot));
        let net = Fake::default();
        net.0.borrow_mut().listening = addresses;
        let counters = WorkerCounters::default();
        let engine = Engine::new(net.clone(), 1, shared, counters);
        Bench { net, engine, snapshot, now: Tick::default(), said: String::new() }
    }

    fn accept(&mut self) -> usize {
        let at = self.net.0.borrow_mut().open("client".to_owned());
        let peer = SocketAddr::from(([192, 0, 2, 1], 50_000));
        assert!(self.engine.accept(at, peer.into(), self.now));
        at
    }

    /// What a worker does after its poll: events, then turns until nothing is left to do.
    fn settle(&mut self) {
        self.now = self.now.after(Duration::from_millis(1));
        loop {
            let events: Vec<_> = self.net.0.borrow_mut().events.drain(..).collect();
            for (token, readiness) in events {
                self.engine.ready(token, readiness);
            }
            self.engine.turn(self.now, &self.snapshot);
            self.engine.check_invariants();
            if !self.engine.has_work() && self.net.0.borrow().events.is_empty() {
                // A worker asks this before it sleeps, so that a late turn can be told from a long sleep.
                self.engine.next_deadline();
                break;
            }
        }
    }

    /// The first line that each far end has got since this was last asked.
    fn report(&mut self) {
        for wire in &mut self.net.0.borrow_mut().wires {
            let bytes = std::mem::take(&mut wire.outward);
            if let Some(line) = String::from_utf8_lossy(&bytes).lines().next() {
                writeln!(self.said, "{:>13} got: {line}", wire.name).expect("a string takes all");
            }
        }
    }

    /// Every target answers what it was asked.
    fn targets_answer(&mut self) {
        let mut world = self.net.0.borrow_mut();
        for at in 0..world.wires.len() {
            if world.wires[at].outward.starts_with(b"GET ") {
                world.say(at, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    }
}

/// Three requests of one client to two targets, of which the second goes away before the third; a line per message.
pub(crate) fn story() -> String {
    let mut bench = Bench::new(&["10.0.0.1:80", "10.0.0.2:80"]);
    let client = bench.accept();
    for path in ["/one", "/two", "/three"] {
        if path == "/three" {
            // Nobody listens at the first target any more, and its connection has gone: the request moves on to the other.
            bench.net.0.borrow_mut().lose(0);
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n");
        bench.net.0.borrow_mut().say(client, request.as_bytes());
        bench.settle();
        bench.targets_answer();
        bench.report();
        bench.settle();
        bench.report();
    }
    // What the health thread would be told.
    for (endpoint, why) in bench.engine.take_reports() {
        let address = &bench.snapshot.endpoint(endpoint).expect("an endpoint").address;
        writeln!(bench.said, "reported: {address} {why:?}").expect("a string takes all");
    }
    bench.said
}

fn main() {
    print!("{}", story());
}
