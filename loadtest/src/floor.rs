//! The floor: moves bytes between each client and a connection of its own to a target, and parses
//! nothing. No proxy on this event loop can be cheaper, so it is the yardstick of the others.
//!
//! Invariant: a side is read only while the other has nothing unsent, so at most one scratch buffer's
//! worth of bytes waits in each direction.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use clap::Args;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{Domain, Socket, Type};

use crate::Failure;

const SCRATCH: usize = 256 << 10;
const BACKLOG: i32 = 4096;
const LISTENER: Token = Token(0);
/// Reads of one connection before the others have their turn.
const READS: usize = 8;
const ACCEPTED: usize = 16;

/// Where it listens and where it connects to.
#[derive(Args, Debug, Clone)]
pub(crate) struct Floor {
    /// Where clients connect; port 0 for any
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Servers, taken in turn
    #[arg(long = "target", required = true)]
    pub(crate) targets: Vec<SocketAddr>,
}

/// Serves until it is killed.
pub(crate) fn serve(floor: &Floor) -> Result<(), Failure> {
    let mut shuttle = Shuttle::new(floor)?;
    eprintln!("listening on http://{}", shuttle.listener.local_addr()?);
    let mut events = Events::with_capacity(512);
    loop {
        shuttle.turn(&mut events)?;
    }
}

struct Shuttle {
    poll: Poll,
    listener: TcpListener,
    targets: Vec<SocketAddr>,
    next: usize,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Sides, by token, that have more to read than one turn allows.
    unread: Vec<usize>,
    scratch: Vec<u8>,
}

/// A client (0) and its target (1).
struct Pair([Side; 2]);

struct Side {
    stream: TcpStream,
    /// Bytes that this side's socket did not take yet.
    unsent: Vec<u8>,
    /// Whether it was readable when the other side could not take more.
    readable: bool,
    /// Whether its end was read.
    ended: bool,
}

impl Side {
    fn new(stream: TcpStream) -> Side {
        Side { stream, unsent: Vec::new(), readable: false, ended: false }
    }
}

/// How the moving of bytes stopped.
enum Moved {
    /// There is nothing to do before the next event.
    Rest,
    /// There is more to read.
    More,
    /// Both directions are over, or one failed.
    Over,
}

impl Shuttle {
    fn new(floor: &Floor) -> Result<Shuttle, Failure> {
        let poll = Poll::new()?;
        let socket = Socket::new(Domain::for_address(floor.listen), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Inherited by what is accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&floor.listen.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(socket.into());
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Shuttle {
            poll,
            listener,
            targets: floor.targets.clone(),
            next: 0,
            pairs: Vec::new(),
            free: Vec::new(),
            unread: Vec::new(),
            scratch: vec![0; SCRATCH],
        })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let patience = (!self.unread.is_empty()).then_some(std::time::Duration::ZERO);
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for place in std::mem::take(&mut self.unread) {
            self.shuttle(place, true);
        }
        for event in &*events {
            if event.token() == LISTENER {
                self.accept()?;
            } else {
                self.ready(event);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTED {
            match self.listener.accept() {
                Ok((stream, _)) => self.pair(stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => break,
            }
        }
        // More may wait: a new registration raises a new event.
        self.poll.registry().reregister(&mut self.listener, LISTENER, Interest::READABLE)
    }

    fn pair(&mut self, client: TcpStream) -> io::Result<()> {
        let target = TcpStream::connect(self.targets[self.next % self.targets.len()])?;
        self.next += 1;
        target.set_nodelay(true)?;
        let at = self.free.pop().unwrap_or(self.pairs.len());
        let mut pair = Pair([Side::new(client), Side::new(target)]);
        for (side, end) in pair.0.iter_mut().enumerate() {
            register(self.poll.registry(), &mut end.stream, Token(1 + 2 * at + side))?;
        }
        if at == self.pairs.len() {
            self.pairs.push(Some(pair));
        } else {
            self.pairs[at] = Some(pair);
        }
        Ok(())
    }

    fn ready(&mut self, event: &Event) {
        let Token(token) = event.token();
        let place = token - 1;
        let Some(Some(pair)) = self.pairs.get_mut(place / 2) else { return };
        if event.is_writable() && !pair.0[place % 2].unsent.is_empty() {
            match pair.flush(place % 2) {
                Ok(true) if pair.0[1 - place % 2].readable => self.shuttle(place ^ 1, true),
                Ok(_) => {}
                Err(_) => return self.close(place / 2),
            }
        }
        if event.is_readable() {
            self.shuttle(place, event.is_read_closed());
        }
    }

    fn shuttle(&mut self, place: usize, to_the_end: bool) {
        let Some(Some(pair)) = self.pairs.get_mut(place / 2) else { return };
        match pair.shuttle(place % 2, &mut self.scratch, to_the_end) {
            Moved::Rest => {}
            Moved::More => self.unread.push(place),
            Moved::Over => self.close(place / 2),
        }
    }

    fn close(&mut self, at: usize) {
        if self.pairs[at].take().is_some() {
            self.free.push(at);
        }
    }
}

fn register(registry: &Registry, stream: &mut TcpStream, token: Token) -> io::Result<()> {
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

impl Pair {
    /// Moves bytes from one side to the other. `to_the_end`: a short read is not the last one, since
    /// the end has come as well or the edge may be an old one.
    fn shuttle(&mut self, from: usize, scratch: &mut [u8], to_the_end: bool) -> Moved {
        let [client, target] = &mut self.0;
        let (from, to) = if from == 0 { (client, target) } else { (target, client) };
        from.readable = false;
        if from.ended {
            return Moved::Rest;
        }
        for _ in 0..READS {
            if !to.unsent.is_empty() {
                from.readable = true;
                return Moved::Rest;
            }
            let count = match from.stream.read(scratch) {
                Ok(0) => {
                    from.ended = true;
                    return if to.ended || to.stream.shutdown(Shutdown::Write).is_err() {
                        Moved::Over
                    } else {
                        Moved::Rest
                    };
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Moved::Rest,
                Err(_) => return Moved::Over,
            };
            let bytes = &scratch[..count];
            match send(&mut to.stream, bytes) {
                Ok(sent) if sent == count => {}
                Ok(sent) => to.unsent.extend_from_slice(&bytes[sent..]),
                Err(_) => return Moved::Over,
            }
            if count < scratch.len() && !to_the_end {
                return Moved::Rest;
            }
        }
        Moved::More
    }

    /// Sends what a side has not taken yet; whether all of it went.
    fn flush(&mut self, side: usize) -> io::Result<bool> {
        let side = &mut self.0[side];
        let sent = send(&mut side.stream, &side.unsent)?;
        side.unsent.drain(..sent);
        if side.unsent.is_empty() {
            // Memory of a burst is not kept.
            side.unsent = Vec::new();
        }
        Ok(side.unsent.is_empty())
    }
}

/// One write; 0 when the socket takes nothing now.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        // Not connected yet: it becomes writable when it is.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            Ok(0)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;
    use crate::generator::http::Shape;

    #[test]
    fn every_shape_passes_unchanged() {
        let generator = Generator::start().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let floor = Floor { listen, targets: generator.targets.to_vec() };
        let mut shuttle = Shuttle::new(&floor).unwrap();
        let address = shuttle.listener.local_addr().unwrap();
        // Ends with the test's process.
        std::thread::spawn(move || {
            let mut events = Events::with_capacity(64);
            while shuttle.turn(&mut events).is_ok() {}
        });
        for shape in [Shape::Bare, Shape::Size1m, Shape::Upload, Shape::Close] {
            generator.open(address, shape, 4, 1).unwrap();
            let outcome = generator.make(20).unwrap();
            assert_eq!((outcome.requests, outcome.failed()), (20, 0), "{shape:?} {outcome:?}");
            generator.close().unwrap();
        }
    }
}
