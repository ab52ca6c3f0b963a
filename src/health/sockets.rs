//! The sockets of lookups: hickory's own, with a note of what this process lacked for them.
//!
//! hickory passes no error of a socket on: whatever it was, there was "no connection". So it is noted here when a socket could
//! not be made or written to for a reason of this side ([`Shortage`]): such a lookup says nothing of a name or a name server.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};

use crate::base::shortage::Shortage;

/// What was lacking so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Lacks(Arc<Mutex<(u64, String)>>);

impl Lacks {
    /// How many times something was lacking.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What it was the last time, for people.
    pub(super) fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && is_ours(error)
        {
            let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *lacks = (lacks.0 + 1, error.to_string());
        }
        result
    }
}

/// Whether it is of this side for every server. Of an address family that this host does not have, it is of one.
pub(super) fn is_ours(error: &io::Error) -> bool {
    Shortage::of(error).is_some_and(|it| it != Shortage::Ports)
}

/// Makes sockets as hickory does.
#[derive(Clone, Default)]
pub(super) struct LookupSockets {
    inner: TokioRuntimeProvider,
    lacks: Lacks,
}

impl LookupSockets {
    /// With notes of its own.
    pub(super) fn noting(lacks: Lacks) -> Self {
        LookupSockets { lacks, ..LookupSockets::default() }
    }
}

type Made<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for LookupSockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.inner.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        from: Option<SocketAddr>,
        patience: Option<Duration>,
    ) -> Made<Self::Tcp> {
        let (made, lacks) = (self.inner.connect_tcp(server, from, patience), self.lacks.clone());
        Box::pin(async move { lacks.noted(made.await) })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Made<Udp> {
        let (made, lacks) = (self.inner.bind_udp(local, server), self.lacks.clone());
        Box::pin(async move {
            let socket = lacks.noted(made.await)?;
            Ok(Udp { socket, lacks })
        })
    }
}

type TokioUdp = <TokioRuntimeProvider as RuntimeProvider>::Udp;

/// A socket of a question.
pub(super) struct Udp {
    socket: TokioUdp,
    lacks: Lacks,
}

impl DnsUdpSocket for Udp {
    type Time = <TokioUdp as DnsUdpSocket>::Time;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.socket, cx, room)
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.socket, cx, bytes, to).map(|sent| self.lacks.noted(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_server_would_suffer_from_is_noted() {
        let lacks = Lacks::default();
        let fails = |errno| drop(lacks.noted::<()>(Err(io::Error::from_raw_os_error(errno))));
        for (errno, count) in [
            (nix::libc::ECONNREFUSED, 0),
            (nix::libc::ENETUNREACH, 0),
            (nix::libc::EADDRNOTAVAIL, 0),
            (nix::libc::EMFILE, 1),
            (nix::libc::EPERM, 2),
            (nix::libc::ENOBUFS, 3),
        ] {
            fails(errno);
            assert_eq!(lacks.count(), count, "{errno}");
        }
        assert!(lacks.last().contains("buffer space"), "{}", lacks.last());
    }
}
