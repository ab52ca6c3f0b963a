//! Listening sockets: per worker one `SO_REUSEPORT` listener for each address, a budget of accepts per turn, and back-off
//! when descriptors or connections run out.
//!
//! Invariants: while connections wait that could not be taken, the listener stays marked as pending, so that none is
//! forgotten; nothing is retried before a pause is over or a connection has ended.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Interest, Registry};
use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::base::shortage::Shortage;
use crate::base::tick::Tick;
use crate::engine::Ends;
use crate::metrics::Counter;
use crate::metrics::accepts::AcceptCounters;
use crate::settings::Tcp;

/// Connections that may wait in the kernel for each listener, as far as `net.core.somaxconn` allows.
pub const BACKLOG: i32 = 4096;
/// The most connections that are accepted from one listener in a turn.
const ACCEPTS_A_TURN: usize = 16;
/// Consecutive failures after which a listener is left alone for the rest of the turn.
const FAILURES_A_TURN: usize = 16;
/// How long accepting pauses after descriptors or connections ran out, unless a connection ends before.
const PAUSE: Duration = Duration::from_millis(50);

sockopt_impl!(
    /// `TCP_DEFER_ACCEPT`, in seconds: a connection without data is not accepted for so long. No crate has a ready-made setter
    /// for it, and the standard library's is unstable.
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

/// An address that this process has bound and does not listen on yet.
///
/// Taking it and listening are two steps, so that an address in use is reported before anything else is begun, and clients
/// are refused until there is somebody to serve them. Both steps find another process that listens there; a connection
/// of an earlier one in TIME_WAIT is no hindrance.
#[derive(Debug)]
pub struct Claim {
    first: Socket,
    /// Those of further workers, where they were bound already.
    others: Vec<Socket>,
    address: SocketAddr,
    tcp: Tcp,
    scope: Scope,
}

/// What a listener gets beside connections to its very address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// `[::]` accepts IPv4 connections too.
    pub ipv4_too: bool,
    /// Another listener of this process has the port on an address that this one overlaps.
    pub overlaps: bool,
}

/// The scope of each of these addresses, if all of them are listened on.
pub fn scopes(addresses: &[SocketAddr]) -> Vec<Scope> {
    let wildcard =
        |ip: IpAddr, port| addresses.iter().any(|other| other.port() == port && other.ip() == ip);
    let ipv4_too = |address: &SocketAddr| {
        address.ip() == Ipv6Addr::UNSPECIFIED
            && !wildcard(Ipv4Addr::UNSPECIFIED.into(), address.port())
    };
    let overlap = |one: &SocketAddr, other: &SocketAddr| {
        let is_over =
            one.ip().is_unspecified() && (one.is_ipv6() == other.is_ipv6() || ipv4_too(one));
        one.port() == other.port() && (one.ip() == other.ip() || is_over)
    };
    let scope = |(at, one): (usize, &SocketAddr)| Scope {
        ipv4_too: ipv4_too(one),
        overlaps: addresses[..at].iter().any(|other| overlap(one, other) || overlap(other, one)),
    };
    addresses.iter().enumerate().map(scope).collect()
}

/// Takes `address`. Port 0 becomes one that is free.
///
/// # Errors
/// When another process listens on it, unless both are to share it (`tcp.reuse_port`), it cannot be bound for another reason, or
/// the kernel refuses an option of `tcp`.
pub fn claim(address: SocketAddr, scope: Scope, tcp: &Tcp) -> io::Result<Claim> {
    // With SO_REUSEPORT the kernel lets all processes of a user have one address.
    claim_as(address, scope, tcp, tcp.reuse_port)
}

/// Like [`claim`], for an address that overlaps one on which this process listens: whether another process does too is not seen.
///
/// # Errors
/// As [`claim`].
pub fn claim_beside(address: SocketAddr, scope: Scope, tcp: &Tcp) -> io::Result<Claim> {
    claim_as(address, scope, tcp, true)
}

fn claim_as(address: SocketAddr, scope: Scope, tcp: &Tcp, shared: bool) -> io::Result<Claim> {
    let first = bound(address, scope, tcp, shared)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    Ok(Claim { first, others: Vec::new(), address, tcp: tcp.clone(), scope })
}

impl Claim {
    /// The address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Binds all that `count` workers need: for a process that may not do so later. `prepare` gets each of the sockets.
    ///
    /// # Errors
    /// As [`claim`], or what `prepare` returns.
    pub fn bind_for(
        &mut self,
        count: usize,
        prepare: impl Fn(&Socket) -> io::Result<()>,
    ) -> io::Result<()> {
        prepare(&self.first)?;
        for _ in 1..count {
            // As long as none of them listens, SO_REUSEADDR is enough for several to be bound.
            let other = bound(self.address, self.scope, &self.tcp, true)?;
            prepare(&other)?;
            self.others.push(other);
        }
        Ok(())
    }

    /// Listens, with so many sockets that share the address.
    ///
    /// # Errors
    /// When another process has begun to listen there, or there is no room for a socket.
    pub fn listen(self, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
        let Claim { first, others, address, tcp, scope } = self;
        if scope.overlaps {
            first.set_reuse_port(true)?;
        }
        // listen(2) checks again whether another process listens there: of two processes that have both bound it, which
        // SO_REUSEADDR allows, one fails here.
        first.listen(BACKLOG)?;
        first.set_reuse_port(true)?;
        let mut list = vec![first.into()];
        let mut others = others.into_iter();
        for _ in 1..count {
            let other = others.next().map_or_else(|| bound(address, scope, &tcp, true), Ok)?;
            other.listen(BACKLOG)?;
            list.push(other.into());
        }
        Ok(list)
    }
}

/// A socket for a listener.
fn bound(address: SocketAddr, scope: Scope, tcp: &Tcp, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(!scope.ipv4_too)?;
    }
    // Accepted connections inherit what follows: one call less for each.
    socket.set_tcp_nodelay(true)?;
    options(&socket, tcp)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes an inherited socket as one of ours is, as far as the kernel lets: it listens already.
pub fn adopt(socket: &std::net::TcpListener, tcp: &Tcp) {
    let set = || {
        socket.set_nonblocking(true)?;
        if tcp.defer_accept.is_none() {
            setsockopt(socket, DeferAccept, &0)?;
        }
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        options(&socket, tcp)
    };
    if let Err(error) = set() {
        log::warn!("an inherited listening socket does not take an option of [tcp]: {error}");
    }
}

/// Those of `tcp`, which accepted connections inherit.
fn options(socket: &Socket, tcp: &Tcp) -> io::Result<()> {
    if let Some(congestion) = &tcp.congestion {
        socket.set_tcp_congestion(congestion.as_bytes())?;
    }
    if let Some(time) = tcp.defer_accept {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        setsockopt(socket, DeferAccept, &seconds)?;
    }
    Ok(())
}

/// Names a listening address for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerId(pub u32);

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    token: mio::Token,
    /// There may be connections to accept.
    pending: bool,
    /// How many are taken before the poll is asked whether there are more.
    batch: usize,
    /// The turn in which it was asked last.
    asked: u64,
    /// Where it is, and how many connections were accepted there.
    address: Option<SocketAddr>,
    accepted: Arc<Counter>,
}

/// The listeners of one worker.
pub struct Listeners {
    list: Vec<Listener>,
    /// The lowest token that one may have.
    first: usize,
    /// Counts the worker's turns.
    turn: u64,
    paused_until: Option<Tick>,
    /// How many connections each has accepted.
    accepts: Arc<AcceptCounters>,
}

/// Result of one accept.
pub enum Accepted {
    /// A connection.
    One(Socket, Ends),
    /// None waits, or enough were taken in this turn.
    NoMore,
    /// It waits still: something is short here, or the listener fails again and again.
    Failed(io::Error),
}

impl Listeners {
    /// None yet. Those that are added get tokens from `first` on.
    pub fn new(first: usize) -> Listeners {
        let accepts = Arc::default();
        Listeners { list: Vec::new(), first, turn: 0, paused_until: None, accepts }
    }

    /// Registers one more.
    ///
    /// # Errors
    /// When the poll is out of room, or there are too many.
    pub fn add(
        &mut self,
        id: ListenerId,
        socket: std::net::TcpListener,
        registry: &Registry,
    ) -> io::Result<()> {
        // The last one is the waker's.
        let mut tokens = (self.first..usize::MAX).map(mio::Token);
        let token = tokens
            .find(|token| self.list.iter().all(|listener| listener.token != *token))
            .ok_or(io::ErrorKind::StorageFull)?;
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        let address = socket.local_addr().ok();
        let accepted = address.map_or_else(Arc::default, |address| self.accepts.of(address));
        self.list.push(Listener {
            id,
            socket,
            token,
            pending: true,
            batch: 1,
            asked: 0,
            address,
            accepted,
        });
        Ok(())
    }

    /// How many connections each has accepted.
    pub fn accepts(&self) -> Arc<AcceptCounters> {
        Arc::clone(&self.accepts)
    }

    /// Takes every connection that waits at this one and closes it.
    pub fn remove(&mut self, id: ListenerId, registry: &Registry, take: impl FnMut(Socket, Ends)) {
        let gone: Vec<Listener> = self.list.extract_if(.., |listener| listener.id == id).collect();
        gone.iter().filter_map(|it| it.address).for_each(|address| self.accepts.forget(address));
        empty(gone, registry, take);
    }

    /// Closes this one and leaves what waits there to another process, which has the same sockets.
    pub fn release(&mut self, id: ListenerId, registry: &Registry) {
        let gone = self.list.extract_if(.., |listener| listener.id == id);
        gone.for_each(|listener| listener.close(registry));
    }

    /// A descriptor of each socket, for another process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn lend(&self) -> io::Result<Vec<(ListenerId, OwnedFd)>> {
        let lent = |it: &Listener| Ok((it.id, it.socket.as_fd().try_clone_to_owned()?));
        self.list.iter().map(lent).collect()
    }

    /// How many there are. One may have several sockets.
    pub fn count(&self) -> usize {
        let earlier = |at: usize, id| self.list[..at].iter().any(|it| it.id == id);
        self.list.iter().enumerate().filter(|(at, it)| !earlier(*at, it.id)).count()
    }

    /// Connections wait on the listener with this token.
    pub fn ready(&mut self, token: mio::Token) {
        if let Some(listener) = self.list.iter_mut().find(|listener| listener.token == token) {
            listener.pending = true;
            if listener.asked + 1 < self.turn {
                // There was nothing to accept when the poll was asked.
                listener.batch = 1;
            }
        }
    }

    /// A turn of the worker begins.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Pauses accepting.
    pub fn pause(&mut self, now: Tick) {
        self.paused_until = Some(now.after(PAUSE));
    }

    /// A connection ended: ends the pause.
    pub fn resume(&mut self) {
        self.paused_until = None;
    }

    /// When accepting goes on: `Some` if connections may wait.
    pub fn next(&self, now: Tick) -> Option<Tick> {
        let pending = self.list.iter().any(|listener| listener.pending);
        pending.then(|| self.paused_until.unwrap_or(now))
    }

    /// Takes connections as far as the budgets allow, handing each to `take`, which says whether to go on.
    pub fn accept(
        &mut self,
        registry: &Registry,
        now: Tick,
        mut take: impl FnMut(Accepted) -> bool,
    ) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        for listener in &mut self.list {
            if listener.pending && !listener.accept_batch(registry, self.turn, &mut take) {
                return;
            }
        }
    }

    /// Takes every connection that waits and closes the listeners.
    pub fn close(&mut self, registry: &Registry, take: impl FnMut(Socket, Ends)) {
        empty(std::mem::take(&mut self.list), registry, take);
    }
}

/// Takes every connection that waits at these and closes them.
fn empty(listeners: Vec<Listener>, registry: &Registry, mut take: impl FnMut(Socket, Ends)) {
    for listener in listeners {
        while let Accepted::One(stream, ends) = listener.accept_one() {
            take(stream, ends);
        }
        listener.close(registry);
    }
}

impl Listener {
    /// Another process may have the socket too: then closing it does not end its registration (epoll(7)).
    fn close(mut self, registry: &Registry) {
        // It ends by closing, if nobody else has it.
        let _ = registry.deregister(&mut self.socket);
    }

    /// An accept that finds nothing costs six times what it costs to ask the poll to raise the event again, so a
    /// batch ends before that; it grows while more connections wait than it takes.
    fn accept_batch(
        &mut self,
        registry: &Registry,
        turn: u64,
        take: &mut impl FnMut(Accepted) -> bool,
    ) -> bool {
        for taken in 0..self.batch {
            match self.accept_one() {
                Accepted::NoMore => {
                    self.pending = false;
                    self.batch = taken.max(1);
                    return true;
                }
                other => {
                    if !take(other) {
                        return false;
                    }
                }
            }
        }
        self.batch = (self.batch * 2).min(ACCEPTS_A_TURN);
        let again = registry.reregister(&mut self.socket, self.token, Interest::READABLE);
        self.pending = again.is_err();
        self.asked = turn;
        true
    }

    fn accept_one(&self) -> Accepted {
        let result = first_accepted(self.address, || self.socket.accept());
        if matches!(result, Accepted::One(..)) {
            self.accepted.bump();
        }
        result
    }
}

/// The first connection that `accept` yields. An error other than a shortage of ours is of one connection that waited:
/// its client has left, the network between is broken, or a filter forbids it (accept(2)). The next one may be sound, but
/// a listener that only fails must not hold up the turn.
fn first_accepted(
    listener: Option<SocketAddr>,
    mut accept: impl FnMut() -> io::Result<(mio::net::TcpStream, SocketAddr)>,
) -> Accepted {
    let mut failures = 0;
    loop {
        let error = match accept() {
            Ok((stream, client)) => {
                return Accepted::One(OwnedFd::from(stream).into(), Ends { client, listener });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::NoMore,
            Err(error) => error,
        };
        failures += 1;
        let short = Shortage::of(&error).is_some_and(Shortage::gives_way);
        if short || failures == FAILURES_A_TURN {
            return Accepted::Failed(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;

    fn listening(address: SocketAddr, tcp: &Tcp) -> Vec<std::net::TcpListener> {
        claim(address, scopes(&[address])[0], tcp).unwrap().listen(2).unwrap()
    }

    #[test]
    fn the_sockets_of_a_claim_share_its_connections() {
        let list = listening(([127, 0, 0, 1], 0).into(), &Tcp::default());
        let address = list[0].local_addr().unwrap();
        let _clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        let counts: Vec<usize> =
            list.iter().map(|one| std::iter::from_fn(|| one.accept().ok()).count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 200);
        assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
    }

    #[test]
    fn an_address_on_which_anybody_listens_is_refused_whatever_its_shape() {
        let tcp = Tcp::default();
        let alone = Scope::default();
        let list = listening(([127, 0, 0, 1], 0).into(), &tcp);
        let address = list[0].local_addr().unwrap();
        let port = address.port();
        for taken in [address, ([0, 0, 0, 0], port).into()] {
            let error = claim(taken, alone, &tcp).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{taken}");
        }
        let wildcard = listening(([0, 0, 0, 0], 0).into(), &tcp);
        let port = wildcard[0].local_addr().unwrap().port();
        assert!(claim(([127, 0, 0, 1], port).into(), alone, &tcp).is_err());
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(claim(plain.local_addr().unwrap(), alone, &tcp).is_err());
    }

    #[test]
    fn an_address_is_shared_by_those_who_ask_for_it() {
        let (alone, sharing) = (Tcp::default(), Tcp { reuse_port: true, ..Tcp::default() });
        let list = listening(([127, 0, 0, 1], 0).into(), &sharing);
        let address = list[0].local_addr().unwrap();
        let error = claim(address, Scope::default(), &alone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let others = listening(address, &sharing);
        let _clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        for list in [&list, &others] {
            let count =
                |one: &std::net::TcpListener| std::iter::from_fn(|| one.accept().ok()).count();
            assert!(list.iter().map(count).sum::<usize>() > 20);
        }
    }

    #[test]
    fn of_two_that_start_at_once_one_listens() {
        let (tcp, scope) = (Tcp::default(), Scope::default());
        let one = claim(([127, 0, 0, 1], 0).into(), scope, &tcp).unwrap();
        let other = claim(one.address(), scope, &tcp).unwrap();
        assert!(TcpStream::connect(one.address()).is_err(), "nobody listens yet");
        let list = one.listen(2).unwrap();
        let error = other.listen(2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(TcpStream::connect(list[0].local_addr().unwrap()).is_ok());
    }

    #[test]
    fn connections_of_an_earlier_process_are_no_hindrance() {
        let tcp = Tcp::default();
        let list = listening(([127, 0, 0, 1], 0).into(), &tcp);
        let address = list[0].local_addr().unwrap();
        let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        let taken: Vec<_> =
            list.iter().flat_map(|one| std::iter::from_fn(|| one.accept().ok())).collect();
        assert_eq!(taken.len(), 8);
        // The side that closes first has them in TIME_WAIT.
        drop((taken, list, clients));
        claim(address, Scope::default(), &tcp).unwrap().listen(2).unwrap();
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_too_unless_that_has_its_own() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let scope = |ipv4_too, overlaps| Scope { ipv4_too, overlaps };
        for (addresses, expected) in [
            (vec![at("[::]:1")], vec![scope(true, false)]),
            (vec![at("[::]:1"), at("0.0.0.0:2")], vec![scope(true, false), scope(false, false)]),
            (vec![at("[::]:1"), at("0.0.0.0:1")], vec![scope(false, false); 2]),
            (vec![at("[::]:1"), at("127.0.0.1:1")], vec![scope(true, false), scope(false, true)]),
            (vec![at("[::1]:1"), at("[::]:1")], vec![scope(false, false), scope(true, true)]),
            (
                vec![at("127.0.0.1:1"), at("0.0.0.0:1")],
                vec![scope(false, false), scope(false, true)],
            ),
        ] {
            assert_eq!(scopes(&addresses), expected, "{addresses:?}");
        }
        let tcp = Tcp::default();
        let list = listening(at("[::]:0"), &tcp);
        let port = list[0].local_addr().unwrap().port();
        for address in [at("127.0.0.1:0"), at("[::1]:0")] {
            assert!(TcpStream::connect(SocketAddr::new(address.ip(), port)).is_ok());
        }
        assert!(
            claim(SocketAddr::new(at("0.0.0.0:0").ip(), port), Scope::default(), &tcp).is_err()
        );
    }

    #[test]
    fn listeners_of_one_process_may_overlap() {
        let tcp = Tcp::default();
        // A port that is free for one of them may be taken by somebody else before it is claimed for both.
        let claims = |_| {
            let free = claim(([127, 0, 0, 1], 0).into(), Scope::default(), &tcp).ok()?.address();
            let addresses = [free, SocketAddr::from(([0, 0, 0, 0], free.port()))];
            let each = addresses.iter().zip(scopes(&addresses));
            let claims: io::Result<Vec<Claim>> =
                each.map(|(&address, scope)| claim(address, scope, &tcp)).collect();
            Some((free, claims.ok()?))
        };
        let (free, claims) = (0..50).find_map(claims).unwrap();
        let lists: Vec<_> = claims.into_iter().map(|claim| claim.listen(2).unwrap()).collect();
        let _client = TcpStream::connect(free).unwrap();
        assert!(lists[0].iter().any(accepts), "the nearer one takes it");
    }

    fn accepts(listener: &std::net::TcpListener) -> bool {
        match listener.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_listener_that_only_fails_is_left_for_a_while() {
        let eperm = || io::Error::from_raw_os_error(libc::EPERM);
        let mut calls = 0;
        let accepted = first_accepted(None, || {
            calls += 1;
            Err(eperm())
        });
        assert!(matches!(accepted, Accepted::Failed(_)), "nothing else was there");
        assert_eq!(calls, FAILURES_A_TURN);
        let mut errors = vec![io::ErrorKind::WouldBlock.into(), eperm(), eperm()];
        let accepted = first_accepted(None, || Err(errors.pop().expect("it stops at WouldBlock")));
        assert!(matches!(accepted, Accepted::NoMore), "some failed, and no more wait");
    }

    #[test]
    fn what_is_short_here_is_not_tried_again_at_once() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let mut calls = 0;
            let accepted = first_accepted(None, || {
                calls += 1;
                Err(io::Error::from_raw_os_error(errno))
            });
            assert!(matches!(accepted, Accepted::Failed(_)) && calls == 1, "{errno}");
        }
    }

    #[test]
    fn a_silent_connection_is_accepted_unless_that_is_deferred() {
        for defer_accept in [None, Some(Duration::from_secs(60))] {
            let tcp = Tcp { defer_accept, ..Tcp::default() };
            let listener = listening(([127, 0, 0, 1], 0).into(), &tcp).remove(0);
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(accepts(&listener), defer_accept.is_none());
            client.write_all(b"GET ").unwrap();
            // On loopback the bytes have arrived when the write returns.
            assert_eq!(accepts(&listener), defer_accept.is_some());
        }
    }
}
