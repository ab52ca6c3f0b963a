//! The server behind the subjects: answers what a path asks for, as cheaply as it can, and checks what
//! it is sent. It allocates nothing for a request whose head comes whole.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::http::{self, Asked, Body};
use crate::Failure;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8192;
/// How long probes of a flapping address succeed, and how long they fail: as long as from one of evenly's probes
/// to the next, so that each finds it changed.
pub(crate) const FLAP_SECONDS: u64 = 5;
/// Accepted connections in one turn at most.
const ACCEPTED: usize = 64;

pub(super) struct Origin {
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Answers,
    /// Connections whose answer is withheld.
    held: Vec<usize>,
    /// When it began: flapping addresses change with each [`FLAP_SECONDS`] since.
    began: Instant,
    /// Requests that were not what their path said.
    pub(super) refused: u64,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of a request head that is not whole.
    partial: Vec<u8>,
    /// The request body that is coming, its agreed length, and the answer it will get.
    body: Option<(Body, u64, usize)>,
    /// The answer that is being sent, and how much of it was.
    sending: Option<(usize, usize)>,
    /// The answer that is withheld.
    held: Option<usize>,
    /// Whether it is closed after the answer.
    last: bool,
    /// Whether it came to an address whose probes fail half of the time.
    flaps: bool,
}

/// Whole answers, built when first asked for. An answer is known by its place.
#[derive(Default)]
struct Answers(Vec<(&'static str, u64, bool, Vec<u8>)>);

impl Answers {
    fn find(&mut self, status: &'static str, size: u64, last: bool) -> usize {
        let known = self.0.iter().position(|(of, length, end, _)| {
            *length == size && *end == last && std::ptr::eq(*of, status)
        });
        known.unwrap_or_else(|| {
            self.0.push((status, size, last, http::answer(status, size, last)));
            self.0.len() - 1
        })
    }
}

static OK: &str = "200 OK";
static WRONG: &str = "400 Bad Request";
static SICK: &str = "500 Internal Server Error";

/// Whether a connection goes on.
type Kept = bool;

impl Origin {
    pub(super) fn new() -> Origin {
        Origin {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            answers: Answers::default(),
            held: Vec::new(),
            began: Instant::now(),
            refused: 0,
        }
    }

    /// Listens on `address`, port 0 for any; events come with `token`.
    pub(super) fn listen(
        &mut self,
        registry: &Registry,
        address: SocketAddr,
        token: Token,
    ) -> Result<SocketAddr, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.ip().is_unspecified() {
            // Serves all of 127.0.0.0/8, and nothing beyond this machine where the kernel lets us say so.
            let _ = socket.bind_device(Some(b"lo"));
        }
        // Inherited by what is accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(socket.into());
        registry.register(&mut listener, token, Interest::READABLE)?;
        let bound = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Accepts what waits at a listener; `token` names a connection by its place.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        listener: usize,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<()> {
        for _ in 0..ACCEPTED {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let place = self.free.pop().unwrap_or(self.connections.len());
            registry.register(
                &mut stream,
                token(place),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let flaps = stream.local_addr().is_ok_and(|address| flaps(address.ip()));
            let connection = Connection {
                stream,
                partial: Vec::new(),
                body: None,
                sending: None,
                held: None,
                last: false,
                flaps,
            };
            if place == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[place] = Some(connection);
            }
        }
        // More may wait: a new registration raises a new event.
        registry.reregister(
            &mut self.listeners[listener],
            listener_token(listener),
            Interest::READABLE,
        )
    }

    /// Serves a connection that is ready.
    pub(super) fn ready(&mut self, place: usize, event: &mio::event::Event, scratch: &mut [u8]) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        let kept = !event.is_error()
            && (!event.is_writable() || connection.send(&self.answers))
            && (!event.is_readable() || self.receive(place, event.is_read_closed(), scratch));
        if !kept {
            self.close(place);
        }
    }

    fn close(&mut self, place: usize) {
        if self.connections[place].take().is_some() {
            self.free.push(place);
        }
    }

    fn receive(&mut self, place: usize, closed: bool, scratch: &mut [u8]) -> Kept {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
            match connection.stream.read(scratch) {
                Ok(0) => return false,
                Ok(count) => {
                    if !self.take(place, &scratch[..count]) {
                        return false;
                    }
                    // A short read means that there is no more, unless the end has come as well.
                    if count < scratch.len() && !closed {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Takes bytes of a connection.
    fn take(&mut self, place: usize, bytes: &[u8]) -> Kept {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
        if connection.body.is_some() {
            return self.take_body(place, bytes);
        }
        if connection.partial.is_empty() {
            return self.take_head(place, bytes);
        }
        connection.partial.extend_from_slice(bytes);
        let held = std::mem::take(&mut connection.partial);
        self.take_head(place, &held)
    }

    fn take_head(&mut self, place: usize, bytes: &[u8]) -> Kept {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
        let head = match http::head(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => {
                connection.partial = bytes.to_vec();
                return true;
            }
            Err(_) => return self.refuse(place),
        };
        // One request at a time: nothing here, nor a proxy, sends a second one before the first's answer.
        let (Some((asked, kept)), true) =
            (http::request_line(bytes), connection.sending.is_none() && connection.held.is_none())
        else {
            return self.refuse(place);
        };
        connection.last = head.close || !kept;
        let last = connection.last;
        let (answer, upload) = match asked {
            Asked::Health
                if connection.flaps && self.began.elapsed().as_secs() / FLAP_SECONDS % 2 == 1 =>
            {
                (self.answers.find(SICK, 2, last), 0)
            }
            Asked::Health => (self.answers.find(OK, 2, last), 0),
            Asked::Answer { size, upload, hold } => {
                let answer = self.answers.find(OK, size, last);
                if hold {
                    connection.held = Some(answer);
                    self.held.push(place);
                    return true;
                }
                (answer, upload)
            }
        };
        connection.body = Some((Body::of_request(&head), upload, answer));
        self.take_body(place, &bytes[head.end..])
    }

    fn take_body(&mut self, place: usize, bytes: &[u8]) -> Kept {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
        let Some((body, upload, answer)) = &mut connection.body else { return true };
        let (upload, answer) = (*upload, *answer);
        match body.take(bytes) {
            Ok(used) if used < bytes.len() => return self.refuse(place),
            Ok(_) if !body.is_whole() => return true,
            Ok(_) if body.bytes() == upload => {}
            _ => return self.refuse(place),
        }
        connection.body = None;
        connection.sending = Some((answer, 0));
        connection.send(&self.answers)
    }

    /// Says that a request was not what it should be, and ends its connection.
    fn refuse(&mut self, place: usize) -> Kept {
        self.refused += 1;
        let answer = self.answers.find(WRONG, 0, true);
        let Some(Some(connection)) = self.connections.get_mut(place) else { return true };
        connection.body = None;
        connection.last = true;
        connection.sending = Some((answer, 0));
        connection.send(&self.answers)
    }

    /// How many answers are withheld.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Sends all answers that were withheld.
    pub(super) fn release(&mut self) {
        for place in std::mem::take(&mut self.held) {
            let Some(Some(connection)) = self.connections.get_mut(place) else { continue };
            let Some(answer) = connection.held.take() else { continue };
            connection.sending = Some((answer, 0));
            if !connection.send(&self.answers) {
                self.close(place);
            }
        }
    }

    /// Makes every connection close without leaving a port behind; for the end of a run.
    pub(super) fn abort(&mut self) {
        for connection in self.connections.drain(..).flatten() {
            let _ = SockRef::from(&connection.stream).set_linger(Some(std::time::Duration::ZERO));
        }
        self.free.clear();
        self.held.clear();
    }
}

impl Connection {
    /// Sends as much of the answer as the socket takes.
    fn send(&mut self, answers: &Answers) -> Kept {
        let Some((answer, sent)) = &mut self.sending else { return true };
        let rest = &answers.0[*answer].3[*sent..];
        match self.stream.write(rest) {
            Ok(count) if count == rest.len() => {
                self.sending = None;
                !self.last
            }
            Ok(count) => {
                *sent += count;
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
        }
    }
}

/// The token of a listener.
pub(super) fn listener_token(listener: usize) -> Token {
    Token(1 + listener)
}

/// Whether the probes of an address fail half of the time: the odd ones of 127.2.0.0/16.
fn flaps(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if matches!(address.octets(), [127, 2, _, last] if last % 2 == 1))
}

/// Address number `at` of many, all of them this machine; of the flapping ones, the odd flap.
pub(crate) fn address(at: usize, flapping: bool) -> Ipv4Addr {
    let [.., high, low] = at.to_be_bytes();
    Ipv4Addr::new(127, if flapping { 2 } else { 1 }, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_flapping_addresses_flap_and_none_of_the_others() {
        let flapping = |among| (0..1000).filter(|at| flaps(address(*at, among).into())).count();
        assert_eq!((flapping(true), flapping(false)), (500, 0));
        assert_eq!(address(999, false), Ipv4Addr::new(127, 1, 3, 231));
    }
}
