//! Any list of operations on one worker's engine over a network in memory: its links agree after every turn, it comes to
//! rest, no client sees another's response, and in the end nothing is left.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use evenly::balance::{Endpoint, EndpointId, EndpointState, Preference, Served, Shared, Snapshot};
use evenly::base::address::Address;
use evenly::base::tick::Tick;
use evenly::engine::{Engine, Net, Readiness, Token};
use evenly::metrics::WorkerCounters;
use evenly::settings::{AccessLog, AccessSink, Plan};

use crate::pieces::{Answered, Said};

/// What happens next. Numbers choose among what there is, modulo how many there are.
#[derive(Arbitrary, Debug)]
pub enum Operation {
    Accept,
    Client(u8, Said),
    ClientEnds(u8),
    ClientResets(u8),
    /// The client reads so many bytes.
    ClientReads(u8, u16),
    Target(u8, Answered),
    /// The target answers the last request it got with the request's own target.
    TargetEchoes(u8),
    TargetEnds(u8),
    TargetResets(u8),
    /// The target reads so many bytes.
    TargetReads(u8, u16),
    /// How connects end from now on.
    Connects(Door),
    /// The oldest connect under way ends.
    ConnectEnds(bool),
    Healthy([bool; ENDPOINTS]),
    Wait(u16),
    WaitLong,
    Evict,
    Drain,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Door {
    Open,
    Refused,
    Silent,
    NoDescriptor,
}

const ENDPOINTS: usize = 3;
const MOST_OPERATIONS: usize = 96;
const MOST_CLIENTS: usize = 8;
/// What a peer takes before it reads.
const ROOM: usize = 20_000;

/// One connection, as its peer sees it.
#[derive(Default)]
struct Wire {
    token: Option<Token>,
    is_client: bool,
    /// On its way to the engine.
    inward: VecDeque<u8>,
    inward_ended: bool,
    /// What the engine wrote.
    outward: Vec<u8>,
    outward_ended: bool,
    /// Bytes the peer still takes.
    room: usize,
    reset: bool,
    connecting: bool,
    refused: bool,
    /// The engine has closed it.
    dropped: bool,
}

struct World {
    wires: Vec<Wire>,
    events: Vec<(Token, Readiness)>,
    door: Door,
}

impl World {
    fn tell(&mut self, at: usize, readiness: Readiness) {
        if let Some(token) = self.wires[at].token.filter(|_| !self.wires[at].dropped) {
            self.events.push((token, readiness));
        }
    }

    fn pick(&self, number: u8, fits: impl Fn(&Wire) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.wires.len())
            .filter(|&at| !self.wires[at].dropped && fits(&self.wires[at]))
            .collect();
        fitting.get(usize::from(number) % fitting.len().max(1)).copied()
    }

    fn say(&mut self, at: usize, bytes: &[u8]) {
        if !self.wires[at].inward_ended && !self.wires[at].reset {
            self.wires[at].inward.extend(bytes);
            self.tell(at, Readiness { readable: true, ..Readiness::default() });
        }
    }

    fn end(&mut self, at: usize) {
        self.wires[at].inward_ended = true;
        self.tell(at, Readiness { readable: true, read_closed: true, ..Readiness::default() });
    }

    fn reset(&mut self, at: usize) {
        let wire = &mut self.wires[at];
        wire.reset = true;
        wire.connecting = false;
        wire.inward.clear();
        self.tell(
            at,
            Readiness { readable: true, writable: true, read_closed: true, broken: true },
        );
    }

    fn take(&mut self, at: usize, count: u16) {
        let was_full = self.wires[at].room == 0;
        self.wires[at].room += usize::from(count);
        if was_full && count > 0 && !self.wires[at].connecting {
            self.tell(at, Readiness { writable: true, ..Readiness::default() });
        }
    }

    fn end_connect(&mut self, at: usize, well: bool) {
        self.wires[at].connecting = false;
        self.wires[at].refused = !well;
        let broken = !well;
        self.tell(at, Readiness { readable: broken, writable: true, read_closed: broken, broken });
    }
}

struct Conn {
    at: usize,
    world: Rc<RefCell<World>>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.world.borrow_mut().wires[self.at].dropped = true;
    }
}

struct Fake(Rc<RefCell<World>>);

impl Net for Fake {
    type Conn = Conn;

    fn now(&mut self) -> Tick {
        Tick::default()
    }

    fn connect(&mut self, _: &Address, token: Token) -> io::Result<Conn> {
        let mut world = self.0.borrow_mut();
        match world.door {
            Door::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
            Door::NoDescriptor => return Err(io::Error::from_raw_os_error(24)),
            Door::Open | Door::Silent => {}
        }
        let at = world.wires.len();
        let wire = Wire { token: Some(token), room: ROOM, connecting: true, ..Wire::default() };
        world.wires.push(wire);
        if matches!(world.door, Door::Open) {
            world.end_connect(at, true);
        }
        Ok(Conn { at, world: Rc::clone(&self.0) })
    }

    fn register(&mut self, conn: &mut Conn, token: Token) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.wires[conn.at].token = Some(token);
        world.tell(conn.at, Readiness { readable: true, writable: true, ..Readiness::default() });
        Ok(())
    }

    fn connected(&mut self, conn: &mut Conn) -> io::Result<()> {
        let world = self.0.borrow();
        let wire = &world.wires[conn.at];
        if wire.refused || wire.reset {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else if wire.connecting {
            Err(io::ErrorKind::NotConnected.into())
        } else {
            Ok(())
        }
    }

    fn read(&mut self, conn: &mut Conn, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let wire = &mut world.wires[conn.at];
        if wire.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.inward.is_empty() && !wire.inward_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = wire.inward.len().min(into.len());
        for (to, from) in into.iter_mut().zip(wire.inward.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, conn: &mut Conn, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let wire = &mut world.wires[conn.at];
        assert!(!wire.outward_ended, "a write behind our own end");
        assert!(!bytes.is_empty(), "a write of nothing");
        if wire.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(!wire.connecting, "a write before the connection is there");
        let count = wire.room.min(bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.outward.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, conn: &mut Conn, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write(conn, &all)
    }

    fn shutdown(&mut self, conn: &mut Conn) {
        self.0.borrow_mut().wires[conn.at].outward_ended = true;
    }

    fn reset(&mut self, conn: Conn) {
        drop(conn);
    }
}

struct Play {
    world: Rc<RefCell<World>>,
    engine: Engine<Fake>,
    snapshot: Arc<Snapshot>,
    now: Tick,
    clients: usize,
}

fn snapshot(generation: u64, healthy: &[bool]) -> Arc<Snapshot> {
    let endpoints = (0u8..).zip(healthy).map(|(at, &healthy)| Endpoint {
        id: EndpointId(u32::from(at)),
        address: SocketAddr::from(([10, 0, 0, at], 80)).into(),
        target: "t".into(),
        state: if healthy { EndpointState::Up } else { EndpointState::Down },
        preference: Preference::default(),
        absent: !healthy,
        served: Served::default(),
    });
    let log = AccessLog { access: AccessSink::Stdout, ..AccessLog::default() };
    let plan = Plan { log, ..Plan::default() };
    Arc::new(Snapshot::new(generation, endpoints.collect()).under(Arc::new(plan)))
}

pub fn check(operations: &[Operation]) {
    let mut play = Play::new();
    for operation in operations.iter().take(MOST_OPERATIONS) {
        play.operate(operation);
        play.turn();
    }
    play.check_answers();
    play.end();
}

impl Play {
    fn new() -> Self {
        let world = World { wires: vec![], events: vec![], door: Door::Open };
        let world = Rc::new(RefCell::new(world));
        let snapshot = snapshot(1, &[true; ENDPOINTS]);
        let shared = Arc::new(Shared::default());
        shared.snapshot.store(Arc::clone(&snapshot));
        let net = Fake(Rc::clone(&world));
        let counters = WorkerCounters::default();
        let engine = Engine::new(net, 1, shared, counters);
        Play { world, engine, snapshot, now: Tick(0), clients: 0 }
    }

    fn operate(&mut self, operation: &Operation) {
        let world = Rc::clone(&self.world);
        let mut world = world.borrow_mut();
        let is_client = |wire: &Wire| wire.is_client;
        let is_target = |wire: &Wire| !wire.is_client && !wire.connecting;
        match operation {
            Operation::Accept => {
                drop(world);
                self.accept();
            }
            Operation::Client(client, said) => {
                if let Some(at) = world.pick(*client, is_client) {
                    world.say(at, &said.bytes(&format!("<{at}>").replace(['<', '>'], "!")));
                }
            }
            Operation::ClientEnds(client) => {
                world.pick(*client, is_client).into_iter().for_each(|at| world.end(at));
            }
            Operation::ClientResets(client) => {
                world.pick(*client, is_client).into_iter().for_each(|at| world.reset(at));
            }
            Operation::ClientReads(client, count) => {
                world.pick(*client, is_client).into_iter().for_each(|at| world.take(at, *count));
            }
            Operation::Target(target, answered) => {
                if let Some(at) = world.pick(*target, is_target) {
                    world.say(at, &answered.bytes());
                }
            }
            Operation::TargetEchoes(target) => {
                if let Some(at) = world.pick(*target, is_target)
                    && let Some(asked) = last_target(&world.wires[at].outward)
                {
                    let len = asked.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{asked}");
                    world.say(at, answer.as_bytes());
                }
            }
            Operation::TargetEnds(target) => {
                world.pick(*target, is_target).into_iter().for_each(|at| world.end(at));
            }
            Operation::TargetResets(target) => {
                world.pick(*target, is_target).into_iter().for_each(|at| world.reset(at));
            }
            Operation::TargetReads(target, count) => {
                world.pick(*target, is_target).into_iter().for_each(|at| world.take(at, *count));
            }
            Operation::Connects(door) => world.door = *door,
            Operation::ConnectEnds(well) => {
                let at = world.pick(0, |wire| wire.connecting);
                at.into_iter().for_each(|at| world.end_connect(at, *well));
            }
            Operation::Healthy(healthy) => {
                self.snapshot = snapshot(self.snapshot.generation + 1, healthy);
            }
            Operation::Wait(millis) => {
                drop(world);
                self.pass(Duration::from_millis(u64::from(*millis)));
            }
            Operation::WaitLong => {
                drop(world);
                self.pass(Duration::from_secs(61));
            }
            Operation::Evict => {
                drop(world);
                self.engine.evict_idle();
            }
            Operation::Drain => {
                drop(world);
                self.engine.drain(self.now);
            }
        }
    }

    fn accept(&mut self) {
        if self.clients == MOST_CLIENTS {
            return;
        }
        self.clients += 1;
        let at = self.world.borrow().wires.len();
        let wire = Wire { is_client: true, room: ROOM, ..Wire::default() };
        self.world.borrow_mut().wires.push(wire);
        let conn = Conn { at, world: Rc::clone(&self.world) };
        self.engine.accept(conn, SocketAddr::from(([192, 0, 2, 1], 9)).into(), self.now);
    }

    /// As the worker does it: events, then turns until the engine rests.
    fn turn(&mut self) {
        for _ in 0..1000 {
            let events: Vec<_> = self.world.borrow_mut().events.drain(..).collect();
            for (token, readiness) in events {
                self.engine.ready(token, readiness);
            }
            self.engine.turn(self.now, &self.snapshot);
            self.engine.check_invariants();
            self.engine.take_reports().for_each(drop);
            if !self.engine.has_work() && self.world.borrow().events.is_empty() {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Time passes, with each deadline at its time.
    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(at) = self.engine.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.turn();
        }
        self.now = until;
    }

    /// No client got a body that was made for another.
    fn check_answers(&self) {
        let world = self.world.borrow();
        for (at, wire) in world.wires.iter().enumerate().filter(|(_, wire)| wire.is_client) {
            let seen = String::from_utf8_lossy(&wire.outward);
            for mark in seen.split("/!").skip(1).filter_map(|rest| rest.split_once('!')) {
                assert!(mark.0.parse() == Ok(at), "client {at} got the answer for {}", mark.0);
            }
        }
    }

    /// Everybody leaves, and a day passes.
    fn end(&mut self) {
        let count = self.world.borrow().wires.len();
        for at in 0..count {
            self.world.borrow_mut().reset(at);
        }
        self.world.borrow_mut().door = Door::Refused;
        self.turn();
        self.pass(Duration::from_secs(24 * 3600));
        let engine = &self.engine;
        assert_eq!((engine.client_count(), engine.upstream_count()), (0, 0), "connections stay");
        assert_eq!(engine.lent_buffers(), 0, "buffers stay");
        assert!(self.world.borrow().wires.iter().all(|wire| wire.dropped), "sockets stay open");
    }
}

/// The target of the last request line of ours in `bytes`.
fn last_target(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let end = text.rfind("! HTTP/1.1\r\n")?;
    let start = text[..end].rfind(" /!")?;
    Some(text[start + 1..=end].to_owned())
}
