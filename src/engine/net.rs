//! The seam between the engine and whatever moves its bytes: sockets in production, a script in the simulation.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::keys::{ClientKey, UpstreamKey};
use crate::base::address::Address;
use crate::base::slab::{Key, SlabKey};
use crate::base::tick::Tick;

/// Names one connection of a worker in both directions: what the engine registers is what an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Token {
    /// A client connection.
    Client(ClientKey),
    /// An upstream connection.
    Upstream(UpstreamKey),
}

const UPSTREAM_BIT: u64 = 1 << 31;

impl Token {
    /// As one number, for an event queue.
    pub fn to_bits(self) -> u64 {
        let (key, bit) = match self {
            Token::Client(key) => (key.key(), 0),
            Token::Upstream(key) => (key.key(), UPSTREAM_BIT),
        };
        u64::from(key.generation) << 32 | bit | u64::from(key.index)
    }

    /// Back from the number.
    pub fn from_bits(bits: u64) -> Token {
        let key =
            Key { index: (bits & (UPSTREAM_BIT - 1)) as u32, generation: (bits >> 32) as u32 };
        match bits & UPSTREAM_BIT {
            0 => Token::Client(ClientKey::of(key)),
            _ => Token::Upstream(UpstreamKey::of(key)),
        }
    }
}

/// Between whom a client's connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Who is at the other end.
    pub client: SocketAddr,
    /// The address that it was accepted at, as it is listened on; `None` if that is not known.
    pub listener: Option<SocketAddr>,
}

impl From<SocketAddr> for Ends {
    fn from(client: SocketAddr) -> Ends {
        Ends { client, listener: None }
    }
}

/// What an event says of a connection. Bits are only ever added to what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// A read may find something.
    pub readable: bool,
    /// A write may be taken.
    pub writable: bool,
    /// The peer ended its side: read on until the end, however short a read is.
    pub read_closed: bool,
    /// The connection was reset, or is closed both ways.
    pub broken: bool,
}

/// The network as one worker's engine sees it. Nothing blocks. Dropping a connection closes it.
pub trait Net {
    /// One connection.
    type Conn;

    /// What the clock says now, on the scale of the ticks that [`Engine::turn`](super::Engine::turn) is given. A
    /// network without a clock of its own says tick 0: time then stands still during a turn.
    fn now(&mut self) -> Tick;

    /// Opens a connection to `address` and registers it as `token` for both directions. The connect
    /// is under way when this returns.
    ///
    /// # Errors
    /// When it failed at once: refused, unreachable, out of descriptors or ports.
    fn connect(&mut self, address: &Address, token: Token) -> io::Result<Self::Conn>;

    /// Registers an accepted connection as `token` for both directions, for its whole life.
    ///
    /// # Errors
    /// When the event queue is out of room.
    fn register(&mut self, conn: &mut Self::Conn, token: Token) -> io::Result<()>;

    /// How a connect ended, once the connection has shown any readiness.
    ///
    /// # Errors
    /// Why it failed; `NotConnected` while it is still under way.
    fn connected(&mut self, conn: &mut Self::Conn) -> io::Result<()>;

    /// Reads what is there. 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; else the connection is broken.
    fn read(&mut self, conn: &mut Self::Conn, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what is taken of one piece.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken; else the connection is broken.
    fn write(&mut self, conn: &mut Self::Conn, bytes: &[u8]) -> io::Result<usize>;

    /// Writes what is taken of several pieces, one behind the other.
    ///
    /// # Errors
    /// As [`Net::write`].
    fn write_vectored(
        &mut self,
        conn: &mut Self::Conn,
        pieces: &[IoSlice<'_>],
    ) -> io::Result<usize>;

    /// Ends our side of the connection after what was written.
    fn shutdown(&mut self, conn: &mut Self::Conn);

    /// Whether all that was written has left this machine, so that a reset takes nothing of it back.
    fn has_sent_all(&mut self, _conn: &mut Self::Conn) -> bool {
        true
    }

    /// A measure of what was written and has not left this machine, because the peer does not take more: 0 if all has, and
    /// `u32::MAX` if it is more than can be measured. It changes when the peer takes some of it.
    fn unsent(&mut self, _conn: &mut Self::Conn) -> u32 {
        0
    }

    /// Closes the connection by a reset, so that the peer cannot take it for a proper end.
    fn reset(&mut self, conn: Self::Conn);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_a_number() {
        for generation in [0, 1, u32::MAX] {
            for index in [0, 77, (1 << 31) - 1] {
                let key = Key { index, generation };
                let tokens =
                    [Token::Client(ClientKey::of(key)), Token::Upstream(UpstreamKey::of(key))];
                for token in tokens {
                    assert_eq!(Token::from_bits(token.to_bits()), token);
                }
            }
        }
    }
}
