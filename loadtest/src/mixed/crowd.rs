//! The load beside the small requests: downloads, uploads, new connections, slow readers.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::origin::discard;
use super::{
    Beside, CONNECTIONS, DOWNLOADS, LARGE, Outcome, PIECE, READ, READ_EVERY, READERS, UPLOADS,
    Window,
};
use crate::Failure;
use crate::generator::http::{self, Body, Fault, Reader};

/// A chunk of one byte.
const CHUNK: &[u8] = b"1\r\na\r\n";
/// What a slow reader's socket holds, in bytes: little, so that the wait is the subject's.
const READERS_ROOM: usize = 32 << 10;
/// What an upload's socket takes ahead, in bytes: little, so that what is sent is what the subject has taken.
const UPLOADS_ROOM: usize = 128 << 10;
/// Bytes of a visit's answer.
const VISIT: u64 = 128;

pub(super) struct Crowd {
    beside: Beside,
    target: SocketAddr,
    token: fn(usize) -> Token,
    request: Vec<u8>,
    chunks: Vec<u8>,
    clients: Vec<Client>,
    /// Places of visitors that have left.
    free: Vec<usize>,
    began: Instant,
    /// Visits, or reads of slow readers, that were due so far.
    due: u32,
}

struct Client {
    stream: Option<TcpStream>,
    /// Bytes of the request that were sent; of an upload, how far its chunks are.
    sent: usize,
    asked: bool,
    incoming: Incoming,
    /// Whether a whole response has been checked.
    checked: bool,
    began: Instant,
    queued: bool,
}

enum Incoming {
    Head(Vec<u8>),
    /// The body of the first response, which is checked.
    Checked(Body),
    /// Bytes to discard.
    Rest(u64),
    /// A small answer.
    Small(Reader),
}

impl Crowd {
    pub(super) fn new(beside: Beside, target: SocketAddr, token: fn(usize) -> Token) -> Crowd {
        let request = match beside {
            Beside::Downloads | Beside::Readers => {
                format!("GET /{LARGE} HTTP/1.1\r\nHost: benchmark.example\r\n\r\n")
            }
            Beside::Uploads => "POST /sink HTTP/1.1\r\nHost: benchmark.example\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Beside::Connections | Beside::Nothing => {
                format!("GET /{VISIT} HTTP/1.1\r\nHost: benchmark.example\r\n\r\n")
            }
        };
        Crowd {
            beside,
            target,
            token,
            request: request.into_bytes(),
            chunks: CHUNK.repeat(PIECE / CHUNK.len()),
            clients: Vec::new(),
            free: Vec::new(),
            began: Instant::now(),
            due: 0,
        }
    }

    /// Opens the connections that stay.
    pub(super) fn begin(&mut self, registry: &Registry) -> Result<(), Failure> {
        self.began = Instant::now();
        let clients = match self.beside {
            Beside::Downloads => DOWNLOADS,
            Beside::Uploads => UPLOADS,
            Beside::Readers => READERS,
            Beside::Nothing | Beside::Connections => 0,
        };
        for _ in 0..clients {
            self.enter(registry, self.began)?;
        }
        Ok(())
    }

    /// A client comes; its latency counts from `began`.
    fn enter(&mut self, registry: &Registry, began: Instant) -> Result<(), Failure> {
        let at = self.free.pop().unwrap_or(self.clients.len());
        let mut stream = self.connect()?;
        registry.register(
            &mut stream,
            (self.token)(at),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let incoming = match self.beside {
            Beside::Connections => Incoming::Small(Reader::default()),
            _ => Incoming::Head(Vec::new()),
        };
        let client = Client {
            stream: Some(stream),
            sent: 0,
            asked: false,
            incoming,
            checked: false,
            began,
            queued: false,
        };
        if at == self.clients.len() {
            self.clients.push(client);
        } else {
            self.clients[at] = client;
        }
        Ok(())
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match self.beside {
            Beside::Readers => socket.set_recv_buffer_size(READERS_ROOM)?,
            Beside::Uploads => socket.set_send_buffer_size(UPLOADS_ROOM)?,
            // A visitor leaves as visitors do.
            Beside::Connections => return self.begin_connect(socket),
            _ => {}
        }
        socket.set_linger(Some(Duration::ZERO))?;
        self.begin_connect(socket)
    }

    fn begin_connect(&self, socket: Socket) -> Result<TcpStream, Failure> {
        match socket.connect(&self.target.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                Err(error.into())
            }
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// Notes that a client is ready. True when it wants a place in the queue; a visit is served at once.
    pub(super) fn ready(
        &mut self,
        at: usize,
        event: &mio::event::Event,
        (window, outcome): (Window, &mut Outcome),
        scratch: &mut [u8],
    ) -> bool {
        let Some(client) = self.clients.get_mut(at) else { return false };
        if client.stream.is_none() {
            return false;
        }
        if !client.asked && (event.is_writable() || event.is_error()) {
            self.ask(at, outcome);
        }
        match self.beside {
            Beside::Connections => {
                if event.is_readable() {
                    self.receive_visit(at, (window, outcome), scratch);
                }
                false
            }
            // Reads when it is due, and not before.
            Beside::Readers => false,
            _ => match self.clients.get_mut(at) {
                Some(client) if client.stream.is_some() => {
                    !std::mem::replace(&mut client.queued, true)
                }
                _ => false,
            },
        }
    }

    fn ask(&mut self, at: usize, outcome: &mut Outcome) {
        let client = &mut self.clients[at];
        let Some(stream) = &mut client.stream else { return };
        match stream.write(&self.request) {
            Ok(sent) if sent == self.request.len() => client.asked = true,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.fault(at, Fault::Connect, outcome);
            }
            _ => self.fault(at, Fault::Cut, outcome),
        }
    }

    fn fault(&mut self, at: usize, fault: Fault, outcome: &mut Outcome) {
        outcome.faults.add(fault, 1);
        self.leave(at);
    }

    /// A client goes; a visitor's place becomes free.
    fn leave(&mut self, at: usize) {
        self.clients[at].stream = None;
        if self.beside == Beside::Connections {
            self.free.push(at);
        }
    }

    fn receive_visit(
        &mut self,
        at: usize,
        (window, outcome): (Window, &mut Outcome),
        scratch: &mut [u8],
    ) {
        loop {
            let client = &mut self.clients[at];
            let (Some(stream), Incoming::Small(reader)) =
                (&mut client.stream, &mut client.incoming)
            else {
                return;
            };
            let took = match stream.read(scratch) {
                Ok(0) => Err(Fault::Cut),
                Ok(count) => reader.take(&scratch[..count], VISIT),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => Err(Fault::Cut),
            };
            match took {
                Ok(false) => {}
                Ok(true) => {
                    let now = Instant::now();
                    if window.contains(client.began) {
                        outcome.visits.record(now.saturating_duration_since(client.began));
                    }
                    if window.contains(now) {
                        outcome.visited += 1;
                    }
                    return self.leave(at);
                }
                Err(fault) => return self.fault(at, fault, outcome),
            }
        }
    }

    /// Moves one piece of a client's bulk; true when there is more to move now.
    pub(super) fn piece(&mut self, at: usize, outcome: &mut Outcome, scratch: &mut [u8]) -> bool {
        let Some(client) = self.clients.get_mut(at) else { return false };
        client.queued = false;
        if client.stream.is_none() || !client.asked {
            return false;
        }
        let more = match self.beside {
            Beside::Uploads => self.send_chunks(at, outcome),
            _ => self.receive(at, outcome, &mut scratch[..PIECE]),
        };
        match more {
            Ok(more) => {
                self.clients[at].queued = more;
                more
            }
            Err(fault) => {
                self.fault(at, fault, outcome);
                false
            }
        }
    }

    fn send_chunks(&mut self, at: usize, outcome: &mut Outcome) -> Result<bool, Fault> {
        let client = &mut self.clients[at];
        let Some(stream) = &mut client.stream else { return Ok(false) };
        match stream.write(&self.chunks[client.sent..]) {
            Ok(sent) => {
                client.sent = (client.sent + sent) % self.chunks.len();
                outcome.bytes += sent as u64;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Nobody answers an upload that does not end; whoever does has refused it.
                let mut bytes = [0; 64];
                match stream.read(&mut bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                    Ok(count) if count > 0 => Err(Fault::Status),
                    _ => Err(Fault::Cut),
                }
            }
            Err(_) => Err(Fault::Cut),
        }
    }

    fn receive(
        &mut self,
        at: usize,
        outcome: &mut Outcome,
        scratch: &mut [u8],
    ) -> Result<bool, Fault> {
        let client = &mut self.clients[at];
        let Some(stream) = &mut client.stream else { return Ok(false) };
        let count = match &client.incoming {
            Incoming::Rest(left) => {
                let most =
                    usize::try_from(*left).map_or(scratch.len(), |left| left.min(scratch.len()));
                discard(stream, &mut scratch[..most])
            }
            _ => stream.read(scratch),
        };
        let count = match count {
            Ok(0) => return Err(Fault::Cut),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(Fault::Cut),
        };
        let (body, whole) = client.take(&scratch[..count])?;
        outcome.bytes += body;
        if whole {
            client.checked = true;
            client.incoming = Incoming::Head(Vec::new());
            self.ask(at, outcome);
        }
        Ok(true)
    }

    /// The visits and slow reads that are due by `now`.
    pub(super) fn due(
        &mut self,
        now: Instant,
        registry: &Registry,
        outcome: &mut Outcome,
        scratch: &mut [u8],
    ) -> bool {
        let interval = match self.beside {
            Beside::Connections => Duration::from_secs(1) / CONNECTIONS,
            Beside::Readers => READ_EVERY / u32::try_from(READERS).unwrap_or(1),
            _ => return false,
        };
        let due = self.began + interval * self.due;
        if due > now {
            return false;
        }
        let which = self.due as usize % READERS;
        self.due += 1;
        if self.beside == Beside::Connections {
            if self.enter(registry, due).is_err() {
                outcome.faults.add(Fault::Connect, 1);
            }
        } else if self.clients[which].asked
            && let Err(fault) = self.receive(which, outcome, &mut scratch[..READ])
        {
            self.fault(which, fault, outcome);
        }
        true
    }

    /// Requests that are to be measured and have no answer.
    pub(super) fn outstanding(&self, window: Window) -> usize {
        let waits = |client: &&Client| client.stream.is_some() && window.contains(client.began);
        match self.beside {
            Beside::Connections => self.clients.iter().filter(waits).count(),
            _ => 0,
        }
    }
}

impl Client {
    /// Takes bytes of a large response; how many were its body's, and whether it is whole.
    fn take(&mut self, bytes: &[u8]) -> Result<(u64, bool), Fault> {
        match &mut self.incoming {
            Incoming::Rest(left) => {
                *left -= bytes.len() as u64;
                Ok((bytes.len() as u64, *left == 0))
            }
            Incoming::Checked(body) => {
                let used = body.take(bytes)?;
                if used < bytes.len() {
                    Err(Fault::Surplus)
                } else {
                    Ok((used as u64, body.is_whole()))
                }
            }
            Incoming::Head(held) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                let Some(head) = http::head(&held)? else {
                    self.incoming = Incoming::Head(held);
                    return Ok((0, false));
                };
                if !held.starts_with(b"HTTP/1.1 200 ") {
                    return Err(Fault::Status);
                }
                if head.length != Some(LARGE) {
                    return Err(Fault::Length);
                }
                let rest = &held[head.end..];
                let mut body = Body::of_answer(&head);
                let used = body.take(rest)? as u64;
                self.incoming = match self.checked {
                    true => Incoming::Rest(LARGE - used),
                    false => Incoming::Checked(body),
                };
                Ok((used, used == LARGE))
            }
            Incoming::Small(_) => Err(Fault::Surplus),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Those who have not left yet leave no port behind.
        for stream in self.clients.iter().filter_map(|client| client.stream.as_ref()) {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}
