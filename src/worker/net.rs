//! The engine's network in production: mio sockets, registered once for both directions for their whole life.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use socket2::SockRef;

use crate::engine::{Net, Readiness, Token};

/// The sockets of one worker.
#[derive(Debug)]
pub struct Sockets {
    registry: Registry,
}

impl Sockets {
    /// Sockets whose events go to the poll of `registry`.
    pub fn new(registry: Registry) -> Self {
        Sockets { registry }
    }
}

/// The poll's name for an engine's connection. A `usize` has 64 bits wherever this program runs.
#[expect(clippy::cast_possible_truncation, reason = "asserted at compile time")]
fn name(token: Token) -> mio::Token {
    const { assert!(usize::BITS == 64, "a token needs 64 bits") };
    mio::Token(token.to_bits() as usize)
}

/// What an event says, in the engine's words.
pub fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        read_closed: event.is_read_closed(),
        // A hang-up alone is no break: both sides have ended properly, and bytes may still be there.
        broken: event.is_error(),
    }
}

impl Net for Sockets {
    type Conn = TcpStream;

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        self.register(&mut stream, token)?;
        Ok(stream)
    }

    fn register(&mut self, conn: &mut TcpStream, token: Token) -> io::Result<()> {
        self.registry.register(conn, name(token), Interest::READABLE | Interest::WRITABLE)
    }

    fn connected(&mut self, conn: &mut TcpStream) -> io::Result<()> {
        if let Some(error) = conn.take_error()? {
            return Err(error);
        }
        // A connect to a port of this machine that nobody listens on may meet its own socket.
        if conn.peer_addr()? == conn.local_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(())
    }

    #[inline]
    fn read(&mut self, conn: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        conn.read(into)
    }

    #[inline]
    fn write(&mut self, conn: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        conn.write(bytes)
    }

    #[inline]
    fn write_vectored(
        &mut self,
        conn: &mut TcpStream,
        pieces: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        conn.write_vectored(pieces)
    }

    fn shutdown(&mut self, conn: &mut TcpStream) {
        // A connection that is gone already needs no end.
        let _ = conn.shutdown(std::net::Shutdown::Write);
    }

    fn reset(&mut self, conn: TcpStream) {
        // Without the option the close is a plain one, which is the best that is left then.
        let _ = SockRef::from(&conn).set_linger(Some(Duration::ZERO));
    }
}
