//! The network as the engine calls it: a call that a signal interrupted is made again, and that something was short on
//! this side is remembered until the engine looks.
//!
//! Owns the network. Does not know what is done about a shortage: see [`shortage`](super::shortage).

use std::io::{self, ErrorKind, IoSlice};

use super::net::{Net, Token};
use crate::base::address::Address;
use crate::base::shortage::Shortage;
use crate::base::tick::Tick;

pub(super) struct Patient<N> {
    pub(super) net: N,
    /// A call of a connection failed for lack of memory since this was last looked at.
    short: bool,
}

impl<N> Patient<N> {
    pub(super) fn new(net: N) -> Self {
        Patient { net, short: false }
    }

    /// Whether a call of a connection failed for lack of memory since the last call of this.
    pub(super) fn take_short(&mut self) -> bool {
        std::mem::take(&mut self.short)
    }

    #[inline]
    fn call<T>(&mut self, mut call: impl FnMut(&mut N) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(&mut self.net) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.short |= is_short(&error);
                    return Err(error);
                }
                done => return done,
            }
        }
    }
}

/// Whether a connection's own call failed for lack of memory: nothing has moved, and no event says when it can.
pub(super) fn is_short(error: &io::Error) -> bool {
    Shortage::of(error) == Some(Shortage::Memory)
}

impl<N: Net> Net for Patient<N> {
    type Conn = N::Conn;

    fn now(&mut self) -> Tick {
        self.net.now()
    }

    fn connect(&mut self, address: &Address, token: Token) -> io::Result<N::Conn> {
        self.net.connect(address, token)
    }

    fn register(&mut self, conn: &mut N::Conn, token: Token) -> io::Result<()> {
        self.net.register(conn, token)
    }

    fn connected(&mut self, conn: &mut N::Conn) -> io::Result<()> {
        self.call(|net| net.connected(conn))
    }

    #[inline]
    fn read(&mut self, conn: &mut N::Conn, into: &mut [u8]) -> io::Result<usize> {
        self.call(|net| net.read(conn, into))
    }

    #[inline]
    fn write(&mut self, conn: &mut N::Conn, bytes: &[u8]) -> io::Result<usize> {
        self.call(|net| net.write(conn, bytes))
    }

    #[inline]
    fn write_vectored(&mut self, conn: &mut N::Conn, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.call(|net| net.write_vectored(conn, pieces))
    }

    fn shutdown(&mut self, conn: &mut N::Conn) {
        self.net.shutdown(conn);
    }

    fn has_sent_all(&mut self, conn: &mut N::Conn) -> bool {
        self.net.has_sent_all(conn)
    }

    fn unsent(&mut self, conn: &mut N::Conn) -> u32 {
        self.net.unsent(conn)
    }

    fn reset(&mut self, conn: N::Conn) {
        self.net.reset(conn);
    }
}
