//! The server behind the subjects: small answers at once, large ones piece by piece, and a sink for uploads.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::net::RecvFlags;
use socket2::{Domain, SockRef, Socket, Type};

use super::PIECE;
use crate::Failure;
use crate::generator::http::{self, Asked, Pattern};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Answers up to this length are sent at once.
const SMALL: u64 = 16 << 10;

pub(super) struct Origin {
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    pattern: Pattern,
    /// Requests that were not what they should be.
    pub(super) refused: u64,
}

struct Connection {
    stream: TcpStream,
    state: State,
    /// It waits in the queue for a piece of bulk.
    queued: bool,
}

enum State {
    /// Bytes of a request head that is not whole.
    Head(Vec<u8>),
    /// The rest of a head, and the body from an offset to its length.
    Sending { head: Vec<u8>, offset: u64, length: u64 },
    /// Whatever comes is discarded.
    Sink,
}

/// What follows a step on a connection.
#[derive(Clone, Copy)]
enum Next {
    Wait,
    /// There is a piece of bulk to move.
    Bulk,
    Close,
}

impl Origin {
    pub(super) fn new() -> Origin {
        Origin {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            pattern: Pattern::new(PIECE),
            refused: 0,
        }
    }

    /// Listens on `host`; events come with `token`.
    pub(super) fn listen(
        &mut self,
        registry: &Registry,
        host: Ipv4Addr,
        token: Token,
    ) -> Result<SocketAddr, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Inherited by what is accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((host, 0)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(socket.into());
        registry.register(&mut listener, token, Interest::READABLE)?;
        let bound = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Accepts all that waits; `token` names a connection by its place.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        listener: usize,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let place = self.free.pop().unwrap_or(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, token(place), interest)?;
            let connection = Connection { stream, state: State::Head(Vec::new()), queued: false };
            if place == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[place] = Some(connection);
            }
        }
    }

    /// Serves a connection that is ready; true when it wants a place in the queue.
    pub(super) fn ready(
        &mut self,
        place: usize,
        event: &mio::event::Event,
        scratch: &mut [u8],
    ) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return false };
        if event.is_error() {
            self.close(place);
            return false;
        }
        let next = match connection.state {
            State::Head(_) if event.is_readable() => self.read(place, scratch),
            State::Head(_) => Next::Wait,
            State::Sending { .. } | State::Sink => Next::Bulk,
        };
        self.follow(place, next)
    }

    fn follow(&mut self, place: usize, next: Next) -> bool {
        match next {
            Next::Wait => false,
            Next::Close => {
                self.close(place);
                false
            }
            Next::Bulk => match self.connections.get_mut(place) {
                Some(Some(connection)) => !std::mem::replace(&mut connection.queued, true),
                _ => false,
            },
        }
    }

    fn close(&mut self, place: usize) {
        if self.connections[place].take().is_some() {
            self.free.push(place);
        }
    }

    /// Reads heads until there is nothing more, or bulk follows.
    fn read(&mut self, place: usize, scratch: &mut [u8]) -> Next {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(place) else { return Next::Wait };
            let State::Head(partial) = &mut connection.state else { return Next::Bulk };
            let count = match connection.stream.read(scratch) {
                Ok(0) => return Next::Close,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Next::Close,
            };
            partial.extend_from_slice(&scratch[..count]);
            let bytes = std::mem::take(partial);
            if !self.take_head(place, bytes) {
                self.refused += 1;
                return Next::Close;
            }
        }
    }

    /// Answers a head if it is whole; false when it is none that is understood here.
    fn take_head(&mut self, place: usize, bytes: Vec<u8>) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
        let head = match http::head(&bytes) {
            Ok(Some(head)) => head,
            Ok(None) => {
                connection.state = State::Head(bytes);
                return true;
            }
            Err(_) => return false,
        };
        if bytes.starts_with(b"POST ") {
            connection.state = State::Sink;
            return head.chunked;
        }
        let length = match http::request_line(&bytes) {
            Some((Asked::Health, _)) => 2,
            Some((Asked::Answer { size, .. }, _)) => size,
            None => return false,
        };
        if head.end < bytes.len() || head.length.is_some_and(|length| length > 0) {
            return false;
        }
        let mut head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        if length <= SMALL {
            // A whole answer is smaller than any socket's room.
            head.extend_from_slice(self.pattern.at(0, length));
            if !matches!(connection.stream.write(&head), Ok(sent) if sent == head.len()) {
                return false;
            }
            connection.state = State::Head(Vec::new());
            return true;
        }
        if let Ok(sent) = connection.stream.write(&head) {
            head.drain(..sent);
        }
        connection.state = State::Sending { head, offset: 0, length };
        true
    }

    /// Moves one piece of a connection's bulk; true when there is more to move now.
    pub(super) fn piece(&mut self, place: usize, scratch: &mut [u8]) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return false };
        connection.queued = false;
        let next = match &mut connection.state {
            State::Head(_) => Next::Wait,
            State::Sink => match discard(&connection.stream, &mut scratch[..PIECE]) {
                Ok(0) => Next::Close,
                Ok(_) => Next::Bulk,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
                Err(_) => Next::Close,
            },
            State::Sending { head, offset, length } => {
                let body = self.pattern.at(*offset, *length - *offset);
                match connection.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                    Ok(sent) => {
                        let of_head = sent.min(head.len());
                        head.drain(..of_head);
                        *offset += (sent - of_head) as u64;
                        if offset == length {
                            connection.state = State::Head(Vec::new());
                            // What came meanwhile raised its event while nobody read it.
                            self.read(place, scratch)
                        } else {
                            Next::Bulk
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
                    Err(_) => Next::Close,
                }
            }
        };
        self.follow(place, next)
    }

    /// Makes every connection close without leaving a port behind.
    pub(super) fn abort(&mut self) {
        for connection in self.connections.drain(..).flatten() {
            let _ = SockRef::from(&connection.stream).set_linger(Some(std::time::Duration::ZERO));
        }
        self.free.clear();
    }
}

/// Takes bytes off a socket without copying them.
pub(super) fn discard(stream: &TcpStream, scratch: &mut [u8]) -> io::Result<usize> {
    let (_, count) = rustix::net::recv(stream, scratch, RecvFlags::TRUNC)?;
    Ok(count)
}
