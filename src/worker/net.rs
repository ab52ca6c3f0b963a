//! The engine's network in production: TCP and Unix stream sockets, registered once for both directions for their whole life.
//!
//! A connection is a plain `socket2::Socket`, four bytes whatever its family, and not one of mio's types: the poll
//! knows it by its descriptor alone.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::base::address::Address;
use crate::base::tick::Tick;
use crate::engine::{Net, Readiness, Token};

/// The sockets of one worker.
#[derive(Debug)]
pub struct Sockets {
    registry: Registry,
    congestion: Option<String>,
    started: Instant,
}

impl Sockets {
    /// Sockets whose events go to the poll of `registry`. Those it opens get this congestion control, if any. Tick 0
    /// of their clock is now.
    pub fn new(registry: Registry, congestion: Option<String>) -> Self {
        Sockets { registry, congestion, started: Instant::now() }
    }

    /// A socket that may be connected to `address`.
    fn tcp(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), KIND, Some(Protocol::TCP))?;
        if let Some(congestion) = &self.congestion {
            socket.set_tcp_congestion(congestion.as_bytes())?;
        }
        socket.set_tcp_nodelay(true)?;
        Ok(socket)
    }
}

/// As an upstream socket is made: it never blocks, and no child process gets it.
const KIND: Type = Type::STREAM.nonblocking().cloexec();

/// More than any send buffer holds: above two thirds of a buffer the kernel's answer no longer depends on this.
const MOST_UNSENT: u32 = 1 << 28;
/// The precision of the search, in bytes.
const UNSENT_STEP: u32 = 4096;

/// Whether less than so much was written and not sent yet. Where that cannot be known nobody waits for it.
fn has_less_unsent(conn: &Socket, bytes: u32) -> bool {
    // With this option a socket is writable when less than so much was not sent yet.
    if conn.set_tcp_notsent_lowat(bytes).is_err() {
        return true;
    }
    let mut socket = [PollFd::new(conn, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut socket, Some(&at_once)) != Ok(0)
}

/// Twice what was written and not sent yet, as the option counts it.
fn measure_unsent(conn: &Socket) -> u32 {
    // SIOCOUTQ would say it, but nobody wraps it safely. So the option is asked until it tells: some 18 times, and only
    // where something waits.
    if has_less_unsent(conn, 1) {
        return 0;
    }
    if !has_less_unsent(conn, MOST_UNSENT) {
        return u32::MAX;
    }
    let (mut less, mut more) = (0, MOST_UNSENT);
    while more - less > UNSENT_STEP {
        let middle = less.midpoint(more);
        match has_less_unsent(conn, middle) {
            true => more = middle,
            false => less = middle,
        }
    }
    more
}

/// Finds out whether this kernel lets this process have the congestion control `name`.
///
/// # Errors
/// There is none of that name, or this user may not use it.
pub fn try_congestion(name: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(name.as_bytes())
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
    type Conn = Socket;

    fn now(&mut self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn connect(&mut self, address: &Address, token: Token) -> io::Result<Socket> {
        let (mut socket, address) = match address {
            Address::Ip(address) => (self.tcp(*address)?, SockAddr::from(*address)),
            Address::Unix(path) => {
                (Socket::new(Domain::UNIX, KIND, None)?, SockAddr::unix(&**path)?)
            }
        };
        match socket.connect(&address) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
            _ => {
                self.register(&mut socket, token)?;
                Ok(socket)
            }
        }
    }

    fn register(&mut self, conn: &mut Socket, token: Token) -> io::Result<()> {
        let mut source = SourceFd(&conn.as_raw_fd());
        self.registry.register(&mut source, name(token), Interest::READABLE | Interest::WRITABLE)
    }

    fn connected(&mut self, conn: &mut Socket) -> io::Result<()> {
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
    fn read(&mut self, conn: &mut Socket, into: &mut [u8]) -> io::Result<usize> {
        conn.read(into)
    }

    #[inline]
    fn write(&mut self, conn: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        conn.write(bytes)
    }

    #[inline]
    fn write_vectored(&mut self, conn: &mut Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not the socket's own method: that is sendmsg, which has a header to copy.
        Ok(rustix::io::writev(conn, pieces)?)
    }

    fn shutdown(&mut self, conn: &mut Socket) {
        // A connection that is gone already needs no end.
        let _ = conn.shutdown(Shutdown::Write);
    }

    fn has_sent_all(&mut self, conn: &mut Socket) -> bool {
        has_less_unsent(conn, 1)
    }

    fn unsent(&mut self, conn: &mut Socket) -> u32 {
        let unsent = measure_unsent(conn);
        // The system's own value again: with a small one writes are small, too.
        let _ = conn.set_tcp_notsent_lowat(0);
        unsent
    }

    fn reset(&mut self, conn: Socket) {
        // Without the option the close is a plain one, which is the best that is left then.
        let _ = conn.set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slab::{Key, SlabKey};
    use crate::engine::UpstreamKey;
    use crate::settings::Tcp;
    use crate::worker::listener;

    fn token() -> Token {
        Token::Upstream(UpstreamKey::of(Key { index: 0, generation: 0 }))
    }

    /// The congestion control of a socket, without the zeros behind its name.
    fn congestion_of(socket: &Socket) -> String {
        let name = socket.tcp_congestion().unwrap();
        String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn both_sides_have_the_congestion_control_that_was_asked_for_or_the_systems() {
        let systems = congestion_of(&Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        // Every kernel has it, and lets everybody have it.
        for wanted in [Some("reno".to_owned()), None] {
            let tcp = Tcp { congestion: wanted.clone(), ..Tcp::default() };
            let listener = listener::claim(([127, 0, 0, 1], 0).into(), Default::default(), &tcp)
                .and_then(|claim| claim.listen(1))
                .unwrap()
                .remove(0);
            let poll = mio::Poll::new().unwrap();
            let registry = poll.registry().try_clone().unwrap();
            let mut sockets = Sockets::new(registry, wanted.clone());
            let dialed = sockets.connect(&listener.local_addr().unwrap().into(), token()).unwrap();
            let accepted = Socket::from(listener.accept().unwrap().0);
            let expected = wanted.as_ref().unwrap_or(&systems);
            assert_eq!([&congestion_of(&dialed), &congestion_of(&accepted)], [expected; 2]);
        }
    }

    #[test]
    fn what_a_peer_takes_of_what_the_kernel_holds_can_be_seen() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // What it does not read stays with us.
        listener.set_recv_buffer_size(16 * 1024).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let poll = mio::Poll::new().unwrap();
        let mut sockets = Sockets::new(poll.registry().try_clone().unwrap(), None);
        let mut dialed = sockets.connect(&address.into(), token()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(sockets.unsent(&mut dialed), 0);
        dialed.set_send_buffer_size(512 * 1024).unwrap();
        let bytes = vec![0; 1024 * 1024];
        let mut held = sockets.write(&mut dialed, &bytes).unwrap();
        assert!(sockets.unsent(&mut dialed) > 0);
        let mut seen = Vec::new();
        while held > 0 {
            let count = accepted.read(&mut vec![0; 64 * 1024]).unwrap();
            held -= count;
            seen.push(sockets.unsent(&mut dialed));
        }
        assert!(seen.is_sorted_by(|before, after| before >= after), "{seen:?}");
        seen.dedup();
        assert!(seen.len() > 3 && seen.last() == Some(&0), "{seen:?}");
    }

    #[test]
    fn a_unix_socket_is_connected_at_once_or_turns_us_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let mut sockets = Sockets::new(poll.registry().try_clone().unwrap(), None);
        let address = Address::Unix(path.to_str().unwrap().into());
        let mut dialed = sockets.connect(&address, token()).unwrap();
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(events.iter().next().is_some_and(|event| readiness(event).writable));
        sockets.connected(&mut dialed).unwrap();
        // Of a backlog of none one connection waits.
        let error = sockets.connect(&address, token()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        let error = sockets.connect(&address, token()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_congestion_control_that_no_kernel_has_is_refused() {
        assert!(try_congestion("reno").is_ok());
        let error = try_congestion("nosuchthing").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
