//! The fake network: connections as two bounded byte pipes, with events as an edge-triggered epoll gives them.
//!
//! It promises no less and no more than Linux does. A read takes all that has arrived, up to its limit, so
//! that a short read has drained the socket. An edge is raised when bytes, an end or a reset arrive, when a
//! pipe that was full has a third of its room again, when a connect ends and when our side is shut down; the
//! event then tells the whole state at the time it is polled. An edge may be told late, never twice. What is
//! written takes time, flies in pieces, and may be taken only in part. Bytes for somebody who has closed
//! come back as a reset; closing with unread bytes is a reset.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use evenly::base::address::Address;
use evenly::base::tick::Tick;
use evenly::engine::{Net, Readiness, Token};

use crate::message::{Event, Framing, Queue, Reader};
use crate::random::{Rng, Trace};

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EPIPE: i32 = 32;
const EADDRNOTAVAIL: i32 = 99;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ECONNREFUSED: i32 = 111;

/// The two ends of a connection: the engine's, and the script's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Near = 0,
    Far = 1,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }
}

/// What this network does to bytes and events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// The longest flight, in microseconds.
    pub(crate) latency: u64,
    /// Bytes a pipe holds.
    pub(crate) capacity: usize,
    /// Percent of writes that are taken in part although there is room.
    pub(crate) short_writes: u64,
    /// Percent of writes that fly in several pieces.
    pub(crate) pieces: u64,
    /// Percent of polls in which a raised edge is not told yet.
    pub(crate) late_events: u64,
    /// Percent of reads and writes during which something arrives.
    pub(crate) meanwhile: u64,
    /// Percent of resets that destroy what a script has not read.
    pub(crate) lossy_resets: u64,
    /// Percent of the engine's calls that fail for a reason of its own host, or are interrupted.
    pub(crate) local_errors: u64,
    /// Percent of the engine's reads and writes that take time.
    pub(crate) slow_calls: u64,
    /// Percent of edges that are told very late.
    pub(crate) late_wake_ups: u64,
}

/// What is short on the engine's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// No more connections than so many.
    Descriptors(usize),
    Memory,
    /// The poll takes no more connections.
    Watches,
    /// Local ports towards one host.
    Ports(usize),
    /// A local rule lets nothing out to one host.
    Barred(usize),
}

/// Calls that take seconds, in one world.
const STALLS: u32 = 4;

/// What a connect to a host comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Refused, at once or after a while.
    Shut,
    /// Nothing ever comes back.
    Silent,
}

enum Flight {
    Bytes(Vec<u8>),
    End,
    Reset,
    Connected,
    Refused,
}

/// One direction, named by who reads it.
#[derive(Default)]
struct Pipe {
    arrived: Queue,
    flying: VecDeque<(u64, Flight)>,
    flying_bytes: usize,
    last_arrival: u64,
}

#[derive(Default)]
struct End {
    /// Its owner has not closed it.
    open: bool,
    connected: bool,
    /// Its owner has ended its writes.
    shut: bool,
    /// The other side's end has arrived.
    ended: bool,
    reset: bool,
    error: Option<i32>,
    /// A write found no room: room is an edge.
    full: bool,
    edge: bool,
    /// The owner knows that unread bytes are there.
    told: bool,
}

/// The first bytes of a request were taken by an upstream connection.
pub(crate) struct Taken {
    pub(crate) wire: usize,
    pub(crate) id: u64,
    /// The engine knew that there were bytes it had not read.
    pub(crate) told: bool,
    /// Bytes or an end were there before, known or not.
    pub(crate) stale: bool,
    /// All that the target has written was read.
    pub(crate) quiet: bool,
}

pub(crate) struct Wire {
    ends: [End; 2],
    pipes: [Pipe; 2],
    token: Option<Token>,
    latency: u64,
    capacity: usize,
    /// Where it leads; `None` for a client's.
    pub(crate) host: Option<usize>,
    /// Follows the requests that are written to a target.
    tap: Option<Reader>,
    /// A request was begun whose answer the target has not written to its end.
    under_way: bool,
}

pub(crate) struct Network {
    pub(crate) now: u64,
    pub(crate) trace: Trace,
    pub(crate) hosts: Vec<(SocketAddr, Door)>,
    /// What is short, and until when.
    pub(crate) shortages: Vec<(u64, Short)>,
    /// Calls that failed for want of something here since that was last looked at.
    pub(crate) failed_calls: u32,
    /// Client connections that the poll did not take.
    pub(crate) turned_away: Vec<usize>,
    /// Client connections that the engine closed while something was short.
    pub(crate) gave_way: Vec<usize>,
    /// Client connections that the engine closed with something unread, which is a reset that it did not mean.
    pub(crate) torn: Vec<usize>,
    /// An idle client is closed to make room for another.
    pub(crate) evicting: bool,
    /// Upstream connections that the engine closed by an end in the middle of an exchange: their ports are in TIME_WAIT.
    pub(crate) parked: Vec<usize>,
    /// The longest time that passed in one call since that was last looked at.
    pub(crate) stalled: u64,
    pub(crate) stalls: u32,
    /// How many microseconds the next call of the engine takes.
    pub(crate) next_call: Option<u64>,
    /// Edges that are told late, and when.
    late: BinaryHeap<Reverse<(u64, usize)>>,
    /// Connections that came to a host.
    pub(crate) arrivals: Vec<(usize, usize)>,
    /// Connections whose far side has something to look at.
    pub(crate) stirred: Vec<usize>,
    pub(crate) taken: Vec<Taken>,
    /// Calls that moved something, by which a spinning engine is told from a busy one.
    pub(crate) moves: u64,
    weather: Weather,
    rng: Rng,
    wires: Vec<Wire>,
    flights: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sequence: u64,
    edges: Vec<usize>,
}

impl Network {
    pub(crate) fn new(rng: Rng, weather: Weather, hosts: Vec<SocketAddr>) -> Network {
        Network {
            now: 0,
            trace: Trace::new(),
            hosts: hosts.into_iter().map(|address| (address, Door::Open)).collect(),
            shortages: Vec::new(),
            failed_calls: 0,
            turned_away: Vec::new(),
            gave_way: Vec::new(),
            torn: Vec::new(),
            evicting: false,
            parked: Vec::new(),
            stalled: 0,
            stalls: STALLS,
            next_call: None,
            late: BinaryHeap::new(),
            arrivals: Vec::new(),
            stirred: Vec::new(),
            taken: Vec::new(),
            moves: 0,
            weather,
            rng,
            wires: Vec::new(),
            flights: BinaryHeap::new(),
            sequence: 0,
            edges: Vec::new(),
        }
    }

    /// From now on it does other things to bytes and events.
    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    fn wire(&mut self, host: Option<usize>) -> usize {
        let latency = self.rng.within(0..=self.weather.latency);
        let end = || End { open: true, ..End::default() };
        self.wires.push(Wire {
            ends: [end(), end()],
            pipes: Default::default(),
            token: None,
            latency,
            capacity: self.weather.capacity,
            host,
            tap: host.map(|_| Reader::new()),
            under_way: false,
        });
        self.wires.len() - 1
    }

    /// A client's connection, whole at once.
    pub(crate) fn client_wire(&mut self) -> usize {
        let at = self.wire(None);
        self.wires[at].ends.iter_mut().for_each(|end| end.connected = true);
        at
    }

    pub(crate) fn host_of(&self, wire: usize) -> Option<usize> {
        self.wires[wire].host
    }

    /// The requests on this connection are over: it is a tunnel now, or not HTTP.
    pub(crate) fn stop_tap(&mut self, wire: usize) {
        self.wires[wire].tap = None;
    }

    pub(crate) fn is_open(&self, wire: usize, side: Side) -> bool {
        self.wires[wire].ends[side as usize].open
    }

    /// Connections that the engine has not closed.
    pub(crate) fn near_open(&self) -> usize {
        self.wires.iter().filter(|wire| wire.ends[0].open).count()
    }

    /// When the next thing arrives, or a late edge is told.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        let flight = self.flights.peek().map(|Reverse((at, _, _))| *at);
        let late = self.late.peek().map(|Reverse((at, _))| *at);
        flight.into_iter().chain(late).min()
    }

    pub(crate) fn has_edges(&self) -> bool {
        !self.edges.is_empty()
    }

    /// Moves on to `now`: what has flown long enough arrives.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = now;
        while let Some(&Reverse((at, _, wire))) = self.flights.peek()
            && at <= now
        {
            self.flights.pop();
            self.arrive(wire, now);
        }
        while let Some(&Reverse((at, wire))) = self.late.peek()
            && at <= now
        {
            self.late.pop();
            self.edges.push(wire);
        }
    }

    fn arrive(&mut self, wire: usize, until: u64) {
        for side in [Side::Near, Side::Far] {
            let pipe = side as usize;
            while let Some((at, _)) = self.wires[wire].pipes[pipe].flying.front()
                && *at <= until
                && let Some((_, flight)) = self.wires[wire].pipes[pipe].flying.pop_front()
            {
                self.land(wire, side, flight);
            }
        }
    }

    fn land(&mut self, at: usize, side: Side, flight: Flight) {
        let wire = &mut self.wires[at];
        let (end, pipe) = (&mut wire.ends[side as usize], &mut wire.pipes[side as usize]);
        match flight {
            Flight::Bytes(bytes) => {
                pipe.flying_bytes -= bytes.len();
                if end.reset {
                    return;
                }
                if !end.open {
                    return self.fly(at, side.other(), Flight::Reset);
                }
                pipe.arrived.push(&bytes);
                self.trace.note(self.now, "arrives", at, bytes.len());
            }
            Flight::End => end.ended = true,
            Flight::Reset if end.reset => return,
            Flight::Reset => {
                end.reset = true;
                end.error = Some(ECONNRESET);
                // Linux, on which the engine runs, keeps what has arrived; clients may run on others.
                if side == Side::Far && self.rng.chance(self.weather.lossy_resets) {
                    // An end behind what is lost is lost with it.
                    end.ended &= pipe.arrived.is_empty();
                    pipe.arrived.clear();
                }
                let back = &mut wire.pipes[side.other() as usize];
                back.flying.clear();
                back.flying_bytes = 0;
                self.trace.note(self.now, "reset arrives", at, side as usize);
            }
            Flight::Refused => {
                end.reset = true;
                end.error = Some(ECONNREFUSED);
            }
            Flight::Connected => {
                if end.open {
                    wire.ends.iter_mut().for_each(|end| end.connected = true);
                    let host = wire.host.expect("only targets are connected to");
                    self.arrivals.push((host, at));
                }
            }
        }
        self.stir(at, side);
    }

    /// Something changed for `side`.
    fn stir(&mut self, wire: usize, side: Side) {
        match side {
            Side::Far => self.stirred.push(wire),
            Side::Near => {
                let end = &mut self.wires[wire].ends[0];
                if end.open && !std::mem::replace(&mut end.edge, true) {
                    if self.rng.chance(self.weather.late_wake_ups) {
                        let at = self.now + self.rng.within(1_000_000..=50_000_000);
                        self.late.push(Reverse((at, wire)));
                    } else {
                        self.edges.push(wire);
                    }
                }
            }
        }
    }

    fn fly(&mut self, wire: usize, to: Side, flight: Flight) {
        let jitter = self.rng.within(0..=self.wires[wire].latency);
        let pipe = &mut self.wires[wire].pipes[to as usize];
        if let Flight::Bytes(bytes) = &flight {
            pipe.flying_bytes += bytes.len();
        }
        let at = pipe.last_arrival.max(self.now + 1 + jitter);
        pipe.last_arrival = at;
        pipe.flying.push_back((at, flight));
        self.sequence += 1;
        self.flights.push(Reverse((at, self.sequence, wire)));
    }

    /// The events of one poll.
    pub(crate) fn poll(&mut self) -> Vec<(Token, Readiness)> {
        let mut told = Vec::new();
        for at in std::mem::take(&mut self.edges) {
            if !self.wires[at].ends[0].open {
                continue;
            }
            if self.rng.chance(self.weather.late_events) {
                self.edges.push(at);
                continue;
            }
            let readiness = self.wires[at].readiness();
            let token = self.wires[at].token;
            let end = &mut self.wires[at].ends[0];
            end.edge = false;
            if let Some(token) = token
                && readiness != Readiness::default()
            {
                let bits = [
                    readiness.readable,
                    readiness.writable,
                    readiness.read_closed,
                    readiness.broken,
                ];
                let bits = bits.iter().fold(0, |bits, &bit| bits << 1 | usize::from(bit));
                self.trace.note(self.now, "event", at, bits);
                told.push((token, readiness));
            }
        }
        told
    }

    /// Something may arrive while the engine is at work.
    fn meanwhile(&mut self, wire: usize) {
        if self.rng.chance(self.weather.meanwhile) {
            self.arrive(wire, self.now + 200);
        }
    }

    /// What befalls a call of the engine itself: it takes time, or fails for a reason of its own host.
    fn befall(&mut self) -> io::Result<()> {
        if let Some(time) = self.next_call.take() {
            self.advance(self.now + time);
        }
        if self.rng.chance(self.weather.slow_calls) {
            let most = match self.stalls {
                0 => 2_000,
                _ => self.rng.weighted(&[(80, 2_000), (10, 4_000_000), (10, 100_000_000)]),
            };
            self.stalls -= u32::from(most > 2_000);
            let time = self.rng.within(1..=most);
            self.trace.tell(self.now, || format!("a call takes {time} microseconds"));
            self.stalled = self.stalled.max(time);
            self.advance(self.now + time);
        }
        if self.rng.chance(self.weather.local_errors) {
            let error = self.rng.one_of(&[EINTR, ENOBUFS, ENOMEM]);
            self.trace.tell(self.now, || format!("a call fails with {error}"));
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(())
    }

    fn is_short(&self) -> bool {
        self.shortages.iter().any(|(until, _)| *until >= self.now)
    }

    /// The error of a connect to `host` or, without one, of a registration, if something is short.
    fn short_of(&mut self, host: Option<usize>) -> io::Result<()> {
        let (now, open) = (self.now, self.near_open());
        let error = |short| match short {
            Short::Descriptors(most) if host.is_some() && open >= most => Some(EMFILE),
            Short::Memory if host.is_some() => Some(ENOBUFS),
            Short::Watches => Some(ENOSPC),
            Short::Ports(at) if host == Some(at) => Some(EADDRNOTAVAIL),
            Short::Barred(at) if host == Some(at) => Some(EPERM),
            _ => None,
        };
        self.shortages.retain(|(until, _)| *until > now);
        match self.shortages.iter().find_map(|&(_, short)| error(short)) {
            Some(error) => {
                self.failed_calls += 1;
                Err(io::Error::from_raw_os_error(error))
            }
            None => Ok(()),
        }
    }

    fn read(&mut self, at: usize, side: Side, into: &mut [u8]) -> io::Result<usize> {
        if side == Side::Near {
            self.befall()?;
            self.meanwhile(at);
        }
        let wire = &mut self.wires[at];
        let (end, pipe) = (&mut wire.ends[side as usize], &mut wire.pipes[side as usize]);
        let count = into.len().min(pipe.arrived.len());
        if count == 0 {
            assert!(!into.is_empty(), "a read into nothing looks like an end");
            return match end.error {
                _ if end.ended => Ok(0),
                Some(error) => {
                    end.error = None;
                    Err(io::Error::from_raw_os_error(error))
                }
                None if end.reset => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        into[..count].copy_from_slice(&pipe.arrived.as_slice()[..count]);
        pipe.arrived.consume(count);
        end.told = !pipe.arrived.is_empty();
        self.moves += 1;
        self.trace.note(
            self.now,
            if side == Side::Near { "reads" } else { "far reads" },
            at,
            count,
        );
        self.make_room(at, side.other());
        Ok(count)
    }

    /// A third of the room is an edge for a writer that found none.
    fn make_room(&mut self, at: usize, writer: Side) {
        if self.wires[at].ends[writer as usize].full && self.wires[at].has_room(writer) {
            self.wires[at].ends[writer as usize].full = false;
            self.stir(at, writer);
        }
    }

    fn write(&mut self, at: usize, side: Side, bytes: &[u8]) -> io::Result<usize> {
        let stale = self.wires[at].is_stale();
        if side == Side::Near {
            self.befall()?;
            self.meanwhile(at);
        }
        let wire = &mut self.wires[at];
        let end = &mut wire.ends[side as usize];
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(!end.shut, "a write behind the end");
        if let Some(error) = end.error.take() {
            return Err(io::Error::from_raw_os_error(error));
        }
        if end.reset {
            return Err(io::Error::from_raw_os_error(EPIPE));
        }
        let room = wire.room(side);
        let mut count = room.min(bytes.len());
        if count > 1 && self.rng.chance(self.weather.short_writes) {
            count = self.rng.below(count) + 1;
        }
        let wire = &mut self.wires[at];
        if count < bytes.len() || !wire.ends[side as usize].connected {
            wire.ends[side as usize].full = true;
        }
        if count == 0 || !wire.ends[side as usize].connected {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if side == Side::Near {
            self.follow(at, bytes, count, stale);
        }
        self.moves += 1;
        self.trace.note(
            self.now,
            if side == Side::Near { "writes" } else { "far writes" },
            at,
            count,
        );
        self.launch(at, side.other(), &bytes[..count]);
        Ok(count)
    }

    fn launch(&mut self, at: usize, to: Side, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let split = bytes.len() > 1 && self.rng.chance(self.weather.pieces);
            let count = if split { self.rng.below(bytes.len()) + 1 } else { bytes.len() };
            self.fly(at, to, Flight::Bytes(bytes[..count].to_vec()));
            bytes = &bytes[count..];
        }
        if self.wires[at].ends[to.other() as usize].full {
            // Taken in part although there may be room: that room is an edge later on.
            self.make_room(at, to.other());
        }
    }

    /// Notes which request a connection to a target begins to carry.
    fn follow(&mut self, at: usize, offered: &[u8], count: usize, stale: bool) {
        let wire = &mut self.wires[at];
        let told = wire.ends[0].told;
        let Some(tap) = &mut wire.tap else { return };
        if tap.at_boundary() {
            wire.under_way = true;
            let id = request_id(offered);
            let quiet = wire.pipes[0].arrived.is_empty() && wire.pipes[0].flying_bytes == 0;
            self.taken.push(Taken { wire: at, id, told, stale, quiet });
        }
        tap.push(&offered[..count]);
        while let Some(event) = tap.next(|head| Framing::declared(head).unwrap_or(Framing::Nothing))
        {
            if let Event::End(_) = event
                && !tap.at_boundary()
            {
                panic!("a request right behind another on wire {at}");
            }
        }
    }

    fn shutdown(&mut self, at: usize, side: Side) {
        let end = &mut self.wires[at].ends[side as usize];
        if end.reset || !end.open || std::mem::replace(&mut end.shut, true) {
            return;
        }
        self.trace.note(self.now, "shuts", at, side as usize);
        self.fly(at, side.other(), Flight::End);
        self.stir(at, side);
    }

    fn close(&mut self, at: usize, side: Side) {
        let short = self.is_short();
        let wire = &mut self.wires[at];
        let end = &mut wire.ends[side as usize];
        if !std::mem::replace(&mut end.open, false) {
            return;
        }
        let in_order = wire.pipes[side as usize].arrived.is_empty();
        let waits = side == Side::Near && in_order && !end.ended && !end.reset;
        if waits && wire.under_way && wire.tap.is_some() {
            self.parked.push(at);
        }
        if side == Side::Near && wire.host.is_none() && (short || self.evicting) {
            self.gave_way.push(at);
        }
        let meant = in_order || end.shut || end.ended || end.reset || wire.token.is_none();
        if side == Side::Near && wire.host.is_none() && !meant {
            self.torn.push(at);
        }
        let (unread, shut, dead) =
            (!wire.pipes[side as usize].arrived.is_empty(), end.shut, end.reset);
        wire.pipes[side as usize].arrived.clear();
        self.trace.note(self.now, "closes", at, side as usize);
        if dead {
            return;
        }
        if unread {
            self.send_reset(at, side);
        } else if !shut {
            self.fly(at, side.other(), Flight::End);
        }
    }

    fn reset(&mut self, at: usize, side: Side) {
        let end = &mut self.wires[at].ends[side as usize];
        if std::mem::replace(&mut end.open, false) && !end.reset {
            self.trace.note(self.now, "resets", at, side as usize);
            self.send_reset(at, side);
        }
    }

    fn send_reset(&mut self, at: usize, side: Side) {
        if self.rng.chance(50) {
            // What was not on the wire yet never will be.
            let pipe = &mut self.wires[at].pipes[side.other() as usize];
            pipe.flying.clear();
            pipe.flying_bytes = 0;
        }
        self.fly(at, side.other(), Flight::Reset);
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<usize> {
        let host =
            self.hosts.iter().position(|(known, _)| *known == address).expect("a known host");
        self.short_of(Some(host))?;
        let door = self.hosts[host].1;
        if door == Door::Shut && self.rng.chance(50) {
            return Err(io::Error::from_raw_os_error(ECONNREFUSED));
        }
        let at = self.wire(Some(host));
        self.wires[at].token = Some(token);
        self.trace.note(self.now, "connects", at, host);
        match door {
            Door::Open => self.fly(at, Side::Near, Flight::Connected),
            Door::Shut => self.fly(at, Side::Near, Flight::Refused),
            Door::Silent => {}
        }
        Ok(at)
    }
}

impl Wire {
    fn room(&self, writer: Side) -> usize {
        let pipe = &self.pipes[writer.other() as usize];
        self.capacity.saturating_sub(pipe.arrived.len() + pipe.flying_bytes)
    }

    /// Whether something is there that the engine has not read.
    fn is_stale(&self) -> bool {
        !self.pipes[0].arrived.is_empty() || self.ends[0].ended || self.ends[0].reset
    }

    fn has_room(&self, writer: Side) -> bool {
        self.room(writer) * 3 >= self.capacity
    }

    /// What epoll would say now (`tcp_poll`, through mio's eyes).
    fn readiness(&mut self) -> Readiness {
        let room = self.has_room(Side::Near);
        let unread = !self.pipes[0].arrived.is_empty();
        let end = &mut self.ends[0];
        let hung_up = end.reset || end.ended && end.shut;
        if end.connected && !room {
            end.full = true;
        }
        end.told |= unread;
        Readiness {
            readable: unread || end.ended || end.reset,
            writable: end.connected && (room || end.shut) || end.reset,
            read_closed: end.ended || hung_up,
            // EPOLLERR: an error that nothing has taken yet.
            broken: end.error.is_some(),
        }
    }
}

/// The number in the target of the request that begins here.
fn request_id(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
    let target = text.split(' ').nth(1).and_then(|target| target.strip_prefix("/r/"));
    target.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no request: {text:?}"))
}

/// The engine's handle of one connection.
pub(crate) struct SimConn {
    wire: usize,
    network: Rc<RefCell<Network>>,
}

impl Drop for SimConn {
    fn drop(&mut self) {
        // While a failed test unwinds, the network may be in use.
        if let Ok(mut network) = self.network.try_borrow_mut() {
            network.close(self.wire, Side::Near);
        }
    }
}

/// The engine's network.
pub(crate) struct SimNet(pub(crate) Rc<RefCell<Network>>);

impl SimNet {
    /// The engine's end of a client's connection.
    pub(crate) fn near(&self, wire: usize) -> SimConn {
        SimConn { wire, network: Rc::clone(&self.0) }
    }
}

impl Net for SimNet {
    type Conn = SimConn;

    fn connect(&mut self, address: &Address, token: Token) -> io::Result<SimConn> {
        let Address::Ip(address) = *address else { panic!("{address} is not in this world") };
        let wire = self.0.borrow_mut().connect(address, token)?;
        Ok(self.near(wire))
    }

    fn register(&mut self, conn: &mut SimConn, token: Token) -> io::Result<()> {
        let mut network = self.0.borrow_mut();
        if let Err(error) = network.short_of(None) {
            network.turned_away.push(conn.wire);
            return Err(error);
        }
        network.wires[conn.wire].token = Some(token);
        network.stir(conn.wire, Side::Near);
        Ok(())
    }

    fn now(&mut self) -> Tick {
        Tick(self.0.borrow().now)
    }

    fn connected(&mut self, conn: &mut SimConn) -> io::Result<()> {
        let mut network = self.0.borrow_mut();
        let end = &mut network.wires[conn.wire].ends[0];
        match end.error.take() {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None if end.connected => Ok(()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn read(&mut self, conn: &mut SimConn, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(conn.wire, Side::Near, into)
    }

    fn write(&mut self, conn: &mut SimConn, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(conn.wire, Side::Near, bytes)
    }

    fn write_vectored(&mut self, conn: &mut SimConn, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.0.borrow_mut().write(conn.wire, Side::Near, &joined)
    }

    fn shutdown(&mut self, conn: &mut SimConn) {
        self.0.borrow_mut().shutdown(conn.wire, Side::Near);
    }

    fn has_sent_all(&mut self, conn: &mut SimConn) -> bool {
        let network = self.0.borrow();
        network.wires[conn.wire].pipes[Side::Far as usize].flying_bytes == 0
    }

    fn unsent(&mut self, conn: &mut SimConn) -> u32 {
        let network = self.0.borrow();
        let pipe = &network.wires[conn.wire].pipes[Side::Far as usize];
        u32::try_from(pipe.flying_bytes + pipe.arrived.len()).unwrap()
    }

    fn reset(&mut self, conn: SimConn) {
        self.0.borrow_mut().reset(conn.wire, Side::Near);
    }
}

/// What a script's read came to.
pub(crate) enum Got {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
}

/// The script's end of a connection.
pub(crate) struct Far<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) wire: usize,
}

impl Far<'_> {
    pub(crate) fn now(&self) -> u64 {
        self.network.now
    }

    /// A part of what the pipe holds: as much as a slow peer takes at once.
    pub(crate) fn part(&self, parts: usize) -> usize {
        self.network.weather.capacity / parts
    }

    pub(crate) fn read(&mut self, most: usize) -> Got {
        let mut bytes = vec![0; most.clamp(1, 64 * 1024)];
        match self.network.read(self.wire, Side::Far, &mut bytes) {
            Ok(0) => Got::End,
            Ok(count) => {
                bytes.truncate(count);
                Got::Bytes(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Got::Nothing,
            Err(_) => Got::Reset,
        }
    }

    /// How many bytes were taken; `None` when the connection is broken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.network.write(self.wire, Side::Far, bytes) {
            Ok(count) => Some(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    pub(crate) fn shutdown(&mut self) {
        self.network.shutdown(self.wire, Side::Far);
    }

    pub(crate) fn close(&mut self) {
        self.network.close(self.wire, Side::Far);
    }

    pub(crate) fn reset(&mut self) {
        self.network.reset(self.wire, Side::Far);
    }

    /// How many bytes would be taken.
    pub(crate) fn room(&self) -> usize {
        self.network.wires[self.wire].room(Side::Far)
    }

    /// Whether all that was written has been read.
    pub(crate) fn is_quiet(&self) -> bool {
        let pipe = &self.network.wires[self.wire].pipes[Side::Near as usize];
        pipe.arrived.is_empty() && pipe.flying_bytes == 0
    }

    pub(crate) fn stop_tap(&mut self) {
        self.network.stop_tap(self.wire);
    }

    /// The answer to the last request was written to its end.
    pub(crate) fn answered(&mut self) {
        self.network.wires[self.wire].under_way = false;
    }
}
