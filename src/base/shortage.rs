//! The list of local errors: those caused by this process or its host. A call that fails with one of them says nothing
//! about the peer: it is not reported, counts in no streak and fails no check, and it is retried only after something
//! has been freed or some time has passed.
//!
//! Owns the list alone; what to free is for the caller that met the error. Every other error comes from the peer or from
//! the network between: `ECONNREFUSED`, `ECONNRESET`, `ETIMEDOUT`, `EHOSTUNREACH`, `ENETUNREACH` (routers say the last
//! two as well), a Unix socket's `EAGAIN` (its backlog is full), `EACCES` and `ENOENT` (its file is not as it should be).

use std::io;

use nix::errno::Errno;

use super::address::Address;

/// What is short, or in the way, on this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Descriptors, or what the kernel keeps for each: closing any connection of this process helps.
    Descriptors,
    /// Memory of the kernel: closing connections helps, but it need not be enough.
    Memory,
    /// Local ports towards one address: a connection that is there already helps, and so does another address.
    Ports,
    /// A rule of this host, or an interface that is down: only another address helps.
    Barred,
}

/// The list: the error, what it is of, and who returns it for what reason.
#[rustfmt::skip]
const SHORTAGES: &[(Errno, Shortage)] = &[
    // socket(2), accept(2), open(2): the process is at its limit of descriptors.
    (Errno::EMFILE, Shortage::Descriptors),
    // The same calls: the whole system is at its limit of open files.
    (Errno::ENFILE, Shortage::Descriptors),
    // epoll_ctl(2): the user is at the limit of watches (`fs.epoll.max_user_watches`).
    (Errno::ENOSPC, Shortage::Descriptors),
    // socket(2), accept(2), recv(2), send(2), getsockopt(2): a socket's memory limit, nearly never the machine's.
    (Errno::ENOBUFS, Shortage::Memory),
    // The same calls and epoll_ctl(2).
    (Errno::ENOMEM, Shortage::Memory),
    // connect(2): every local port towards that address is in use, in TIME_WAIT for example; or no address of this host
    // can be one end of a connection to it, as for IPv6 where that is switched off.
    (Errno::EADDRNOTAVAIL, Shortage::Ports),
    // connect(2): the local port that was chosen is in use after all.
    (Errno::EADDRINUSE, Shortage::Ports),
    // connect(2), accept(2), send(2): a packet filter, a cgroup's program or seccomp. No packet makes this error.
    (Errno::EPERM, Shortage::Barred),
];

/// What else means something of ours when connect(2) to an IP address returns it at once. As the later end of a connect
/// these would come from the network: ICMPv6 has an `EACCES`.
#[rustfmt::skip]
const AT_CONNECT: &[(Errno, Shortage)] = &[
    // The socket has no local port yet and gets none. (A connect that goes on says EINPROGRESS, never this.)
    (Errno::EAGAIN, Shortage::Ports),
    // A packet filter, a `prohibit` route or a security module.
    (Errno::EACCES, Shortage::Barred),
    // The interface is down.
    (Errno::ENETDOWN, Shortage::Barred),
];

impl Shortage {
    /// What `error` says is short here; `None` if it is not of this side. For every call but connect(2).
    pub fn of(error: &io::Error) -> Option<Shortage> {
        let errno = Errno::from_raw(error.raw_os_error()?);
        find(SHORTAGES, errno)
    }

    /// Likewise for a connect to `address` that failed at once.
    pub fn of_connect(error: &io::Error, address: &Address) -> Option<Shortage> {
        let errno = Errno::from_raw(error.raw_os_error()?);
        let found = find(SHORTAGES, errno);
        match address {
            Address::Ip(_) => found.or_else(|| find(AT_CONNECT, errno)),
            // A socket in the file system has no port, and who may use it is for its owner to say.
            Address::Unix(_) => found.filter(|&it| it <= Shortage::Memory),
        }
    }

    /// Whether closing a connection of ours may end it.
    pub fn gives_way(self) -> bool {
        self <= Shortage::Memory
    }
}

fn find(list: &[(Errno, Shortage)], errno: Errno) -> Option<Shortage> {
    list.iter().find(|(known, _)| *known == errno).map(|&(_, shortage)| shortage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    #[test]
    fn what_is_short_here_differs_from_what_the_other_side_did() {
        let ip = Address::Ip(([192, 0, 2, 1], 80).into());
        let unix = Address::Unix("/run/api".into());
        let table = [
            (Errno::EMFILE, Some(Shortage::Descriptors), Some(Shortage::Descriptors)),
            (Errno::ENFILE, Some(Shortage::Descriptors), Some(Shortage::Descriptors)),
            (Errno::ENOSPC, Some(Shortage::Descriptors), Some(Shortage::Descriptors)),
            (Errno::ENOBUFS, Some(Shortage::Memory), Some(Shortage::Memory)),
            (Errno::ENOMEM, Some(Shortage::Memory), Some(Shortage::Memory)),
            (Errno::EADDRNOTAVAIL, Some(Shortage::Ports), None),
            (Errno::EADDRINUSE, Some(Shortage::Ports), None),
            (Errno::EAGAIN, Some(Shortage::Ports), None),
            (Errno::EPERM, Some(Shortage::Barred), None),
            (Errno::EACCES, Some(Shortage::Barred), None),
            (Errno::ENETDOWN, Some(Shortage::Barred), None),
            (Errno::ECONNREFUSED, None, None),
            (Errno::ECONNRESET, None, None),
            (Errno::ETIMEDOUT, None, None),
            (Errno::EHOSTUNREACH, None, None),
            (Errno::ENETUNREACH, None, None),
            (Errno::ENOENT, None, None),
        ];
        for (errno, of_ip, of_unix) in table {
            let error = error(errno);
            assert_eq!(Shortage::of_connect(&error, &ip), of_ip, "{errno}");
            assert_eq!(Shortage::of_connect(&error, &unix), of_unix, "{errno}");
        }
    }

    #[test]
    fn what_a_packet_may_have_said_is_ours_only_if_a_connect_said_it_at_once() {
        for errno in [Errno::EACCES, Errno::ENETDOWN, Errno::EAGAIN] {
            assert_eq!(Shortage::of(&error(errno)), None, "{errno}");
        }
        assert_eq!(Shortage::of(&error(Errno::EMFILE)), Some(Shortage::Descriptors));
        assert_eq!(Shortage::of(&io::ErrorKind::NotFound.into()), None, "not of the system");
    }
}
