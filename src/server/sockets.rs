//! Where listening sockets come from: a predecessor, a service manager (sd_listen_fds(3)), or they are bound.
//!
//! Owns which of the inherited ones is which. Invariants: nobody listens on a new socket before [`PreparedAddress::listen`], so that what
//! goes wrong before that costs no client; a socket that was inherited is never closed with connections in its queue unless
//! whoever it came from still has it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use socket2::Socket;

use crate::settings::{Settings, Tcp};
use crate::worker::listener::{self, Claim, ListenerId, Scope};

use super::ServerError;
use super::handover::{Handed, Role};

/// The name of a descriptor that is the admin listener.
const ADMIN: &str = "admin";

/// A listener of before, with all its sockets.
#[derive(Debug)]
struct Found {
    /// Its number there.
    number: u32,
    /// As it was configured there, if that is known.
    written: Option<SocketAddr>,
    address: SocketAddr,
    /// By worker.
    sockets: Vec<TcpListener>,
}

/// What was there when this process was started.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    listeners: Vec<Found>,
    admin: Option<(SocketAddr, Socket)>,
    control: Option<(PathBuf, Socket)>,
    log: Option<(PathBuf, OwnedFd)>,
    /// The admin listener was taken.
    gave_admin: bool,
    /// The control socket was.
    gave_control: bool,
    /// Whether a worker without a socket of its own gets a new one beside those. Where a service manager holds the sockets, only
    /// theirs outlive this process.
    grows: bool,
    /// The listeners that were taken, by their numbers.
    taken: Vec<u32>,
}

/// Why a descriptor of a service manager cannot be used, and the remedy.
#[derive(Debug)]
pub struct ActivationError {
    descriptor: usize,
    name: String,
    problem: String,
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ActivationError { descriptor, name, problem } = self;
        write!(f, "descriptor {descriptor} ({name:?}) of LISTEN_FDS {problem}")
    }
}

impl std::error::Error for ActivationError {}

/// One descriptor of a service manager.
#[derive(Debug)]
struct Passed {
    descriptor: usize,
    name: String,
    socket: io::Result<Option<TcpListener>>,
}

/// What a service manager has passed to this process.
#[derive(Debug, Default)]
pub struct Activation(Vec<Passed>);

impl Activation {
    /// As the environment of this process says: to be called before any thread is started. Variables that are for another process
    /// do not count.
    pub fn take() -> Activation {
        let variable = |name| std::env::var(name).unwrap_or_default();
        if variable("LISTEN_PID").parse() != Ok(std::process::id()) {
            return Activation::default();
        }
        let names = variable("LISTEN_FDNAMES");
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let all = (0..passed.len()).map(|at| Passed {
            // SD_LISTEN_FDS_START
            descriptor: 3 + at,
            name: names.next().unwrap_or_default().to_owned(),
            socket: passed.take_tcp_listener(at),
        });
        Activation(all.collect())
    }

    /// Which of them is which listener of these settings.
    pub(super) fn sort(self, settings: &Settings) -> Result<Inherited, ActivationError> {
        let mut inherited = Inherited::default();
        for Passed { descriptor, name, socket } in self.0 {
            let wrong =
                |problem: String| ActivationError { descriptor, name: name.clone(), problem };
            let (socket, address) = match socket {
                Ok(Some(socket)) if socket_acceptconn(&socket).unwrap_or(false) => {
                    let address = socket.local_addr();
                    (socket, address.map_err(|error| wrong(format!("has no address: {error}")))?)
                }
                _ => {
                    let why = "is not a listening TCP socket; write ListenStream= with an IP address and port, and \
                               Accept=no, in the socket unit";
                    return Err(wrong(why.to_owned()));
                }
            };
            let is_admin = settings.boot.admin == Some(address);
            if name == ADMIN && !is_admin {
                let wanted =
                    settings.boot.admin.map_or("is not set".to_owned(), |it| format!("is {it}"));
                return Err(wrong(format!(
                    "listens on {address}, but admin.listen {wanted}; write admin.listen = \"{address}\", or give the \
                     descriptor another name"
                )));
            }
            if is_admin {
                if inherited.admin.is_some() {
                    return Err(wrong(format!(
                        "is a second one for admin.listen, {address}; leave one out"
                    )));
                }
                inherited.admin = Some((address, socket.into()));
            } else if !settings.plan.listen.contains(&address) {
                return Err(wrong(format!(
                    "listens on {address}, which is not in listen; add \"{address}\" there, or take it out of the \
                     socket unit"
                )));
            } else {
                inherited.add(None, address, socket);
            }
        }
        Ok(inherited)
    }
}

impl Inherited {
    /// What a predecessor has handed over.
    pub(super) fn from_predecessor(sockets: &[Handed], descriptors: Vec<OwnedFd>) -> Inherited {
        let mut inherited = Inherited { grows: true, ..Inherited::default() };
        let mut ordered: Vec<(&Handed, OwnedFd)> = sockets.iter().zip(descriptors).collect();
        ordered.sort_by_key(|(handed, _)| handed.worker);
        for (handed, descriptor) in ordered {
            let address = |socket: &Socket| socket.local_addr().ok()?.as_socket();
            let written = handed.name.parse().ok();
            match handed.role {
                Role::Listener => {
                    let socket = TcpListener::from(descriptor);
                    let Ok(address) = socket.local_addr() else { continue };
                    let known = written.map(|written| (handed.listener, written));
                    inherited.add(known, address, socket);
                }
                Role::Admin => {
                    let socket = Socket::from(descriptor);
                    inherited.admin = written.or(address(&socket)).zip(Some(socket));
                }
                Role::Control => {
                    inherited.control = Some((handed.name.clone().into(), descriptor.into()));
                }
                Role::Log => inherited.log = Some((handed.name.clone().into(), descriptor)),
                Role::Unknown => {}
            }
        }
        inherited
    }

    fn add(&mut self, known: Option<(u32, SocketAddr)>, address: SocketAddr, socket: TcpListener) {
        let same = |it: &Found| match known {
            Some((number, _)) => it.number == number,
            None => it.address == address,
        };
        match self.listeners.iter_mut().find(|it| same(it)) {
            Some(found) => found.sockets.push(socket),
            None => self.listeners.push(Found {
                number: known.map_or(0, |(number, _)| number),
                written: known.map(|(_, written)| written),
                address,
                sockets: vec![socket],
            }),
        }
    }

    /// The listeners that were taken, by their numbers there.
    pub(super) fn taken(&self) -> &[u32] {
        &self.taken
    }

    /// The admin listener, if it has this address.
    pub(super) fn admin(&mut self, wanted: SocketAddr) -> Option<Socket> {
        let admin = self.admin.take_if(|(address, _)| *address == wanted);
        self.gave_admin |= admin.is_some();
        admin.map(|(_, socket)| socket)
    }

    /// Whether the admin listener was taken.
    pub(super) fn has_given_admin(&self) -> bool {
        self.gave_admin
    }

    /// The control socket and its path, if that is wanted.
    pub(super) fn control(
        &mut self,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Option<(PathBuf, Socket)> {
        let control = self.control.take_if(|(path, _)| is_wanted(path));
        self.gave_control |= control.is_some();
        control
    }

    /// Whether the control socket was taken.
    pub(super) fn has_given_control(&self) -> bool {
        self.gave_control
    }

    /// How many descriptors there are.
    pub(super) fn descriptors(&self) -> u64 {
        let listeners: usize = self.listeners.iter().map(|it| it.sockets.len()).sum();
        let others = [self.admin.is_some(), self.control.is_some(), self.log.is_some()];
        // The way to a predecessor is one, which ends with it.
        (listeners + others.into_iter().filter(|&it| it).count() + usize::from(self.grows)) as u64
    }

    /// The access log at this path.
    pub(super) fn log(&mut self, wanted: &PathBuf) -> Option<OwnedFd> {
        self.log.take_if(|(path, _)| path == wanted).map(|(_, log)| log)
    }

    /// The listener that has this address in the configuration: as it was written there, or as it is.
    fn take(&mut self, wanted: SocketAddr) -> Option<Found> {
        let at = |is: &dyn Fn(&Found) -> bool| self.listeners.iter().position(is);
        let found = at(&|it| it.written == Some(wanted)).or_else(|| at(&|it| it.address == wanted));
        let found = self.listeners.remove(found?);
        self.taken.push(found.number);
        Some(found)
    }
}

/// An address that this process is to listen on, and can.
#[derive(Debug)]
pub(super) enum PreparedAddress {
    /// It is bound, and nobody listens there yet.
    Claimed(Claim),
    /// Sockets of it were inherited.
    Adopted {
        address: SocketAddr,
        sockets: Vec<TcpListener>,
        /// For workers beyond those.
        more: Vec<Claim>,
        tcp: Tcp,
    },
}

impl PreparedAddress {
    /// The address, with its port.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            PreparedAddress::Claimed(claim) => claim.address(),
            PreparedAddress::Adopted { address, .. } => *address,
        }
    }

    /// Binds all that `count` workers need: for a process that may not do so later. `prepare` gets each of the sockets.
    pub(super) fn bind_for(
        &mut self,
        count: usize,
        prepare: impl Fn(&Socket) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            PreparedAddress::Claimed(claim) => claim.bind_for(count, prepare),
            // They are bound.
            PreparedAddress::Adopted { .. } => Ok(()),
        }
    }

    /// Listens: the sockets of each worker.
    fn listen(self, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut lists: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        let mut all = match self {
            PreparedAddress::Claimed(claim) => claim.listen(workers)?,
            PreparedAddress::Adopted { mut sockets, more, tcp, .. } => {
                sockets.iter().for_each(|socket| listener::adopt(socket, &tcp));
                for claim in more {
                    sockets.extend(claim.listen(1)?);
                }
                sockets
            }
        };
        // Several workers may have one socket: of those who are woken the first one takes the connection.
        for at in 0..workers.saturating_sub(all.len()) {
            all.push(all[at].try_clone()?);
        }
        all.into_iter().enumerate().for_each(|(at, socket)| lists[at % workers].push(socket));
        Ok(lists)
    }
}

/// Takes all addresses to listen on, as far as they were not inherited by binding them.
pub(super) fn claim_all(
    settings: &Settings,
    scopes: &[Scope],
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<PreparedAddress>, ServerError> {
    let tcp = &settings.boot.tcp;
    let mut prepared = Vec::new();
    for (at, (&address, &scope)) in settings.plan.listen.iter().zip(scopes).enumerate() {
        let one = match inherited.take(address) {
            Some(Found { address, sockets, .. }) => {
                let missing =
                    if inherited.grows { workers.saturating_sub(sockets.len()) } else { 0 };
                // Another user's sockets cannot be joined: then workers share those that there are.
                let more =
                    (0..missing).map_while(|_| listener::claim_beside(address, scope, tcp).ok());
                PreparedAddress::Adopted {
                    address,
                    sockets,
                    more: more.collect(),
                    tcp: tcp.clone(),
                }
            }
            None => listener::claim(address, scope, tcp)
                .map(PreparedAddress::Claimed)
                .map_err(|error| ServerError::Bind(at, address, error))?,
        };
        prepared.push(one);
    }
    Ok(prepared)
}

/// Listens: the sockets of each worker.
pub(super) fn listen_all(
    prepared: Vec<(ListenerId, PreparedAddress)>,
    workers: usize,
) -> Result<Vec<Vec<(ListenerId, TcpListener)>>, ServerError> {
    let mut listeners: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, (id, one)) in prepared.into_iter().enumerate() {
        let address = one.address();
        let lists = one.listen(workers).map_err(|error| ServerError::Bind(at, address, error))?;
        for (list, sockets) in listeners.iter_mut().zip(lists) {
            list.extend(sockets.into_iter().map(|socket| (id, socket)));
        }
    }
    Ok(listeners)
}

/// A descriptor of each of these, for as long as it is sent.
pub(super) fn borrowed(all: &[OwnedFd]) -> Vec<std::os::fd::BorrowedFd<'_>> {
    all.iter().map(AsFd::as_fd).collect()
}
