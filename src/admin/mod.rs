//! The admin thread: `/metrics` for Prometheus, `/status` for programs, `/healthz` for whoever routes to
//! this process, and a page that lists them for people.
//!
//! Owns its listener, its visitors and all formatting. It only reads: the workers' counters and loads and
//! the published snapshot; no worker ever waits for it or formats text for it. Invariants: one thread,
//! which yields to the workers; whoever asks costs a bounded head for a bounded time, and never makes
//! another wait; every connection ends after one answer.
//!
//! | file | what |
//! | --- | --- |
//! | `visit` | one visitor's connection: ask, answer, leave |
//! | `serve` | the thread: wait, admit, step, expire |
//! | `request` | the bytes of a head to what is asked for (pure) |
//! | `answer` | what is asked for to the bytes of an answer (pure) |
//! | `view` | what is shown, read at one moment |
//! | `prometheus`, `status` | a view as text, a view as JSON (pure) |

mod answer;
mod prometheus;
mod request;
mod serve;
mod status;
mod view;
mod visit;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Protocol, Socket, Type};

use crate::balance::Shared;
use crate::command::Commands;
use crate::metrics::Counters;
use crate::worker::Crew;

/// Descriptors that it may need: two listeners, two eventfds, its visitors, and one that comes. Fewer come if there is only
/// the control socket.
pub fn most_descriptors(has_listener: bool) -> u64 {
    serve::most_visits(has_listener) as u64 + 5
}

/// Visitors that may wait in the kernel.
const BACKLOG: i32 = 128;

/// Where the admin thread reads what it shows.
#[derive(Clone)]
pub struct Sources {
    /// Loads, counters, panics, cap and stage.
    pub workers: Arc<Crew>,
    /// The published snapshot.
    pub shared: Arc<Shared>,
    /// What no worker counts: what the access log's writer lost.
    pub others: Arc<Counters>,
    /// When the process began to serve; uptime counts from here.
    pub started: Instant,
    /// Who takes commands.
    pub commands: Commands,
    /// What the process may not do any more: `user evenly, no_new_privs, seccomp`.
    pub confinement: Arc<str>,
}

/// A listening socket that visitors come by; it must not block.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub socket: Socket,
    /// Commands that come by it are taken.
    pub is_trusted: bool,
}

/// The running admin thread. Dropping it stops the thread.
#[derive(Debug)]
pub struct Admin {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// The admin address, taken but not listened on yet. Unlike the workers' listeners it shares it with nobody.
#[derive(Debug)]
pub struct AdminClaim {
    socket: Socket,
    /// The address, with its port.
    pub address: SocketAddr,
}

/// Takes `address` for the admin listener.
///
/// # Errors
/// When `address` cannot be bound, or somebody listens on it.
pub fn claim(address: SocketAddr) -> io::Result<AdminClaim> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(AdminClaim { socket, address })
}

impl AdminClaim {
    /// Listens.
    ///
    /// # Errors
    /// When somebody else has begun to.
    pub fn listen(self) -> io::Result<Door> {
        self.socket.listen(BACKLOG)?;
        Ok(Door { socket: self.socket, is_trusted: false })
    }
}

impl Admin {
    /// Serves who comes by these doors, until it is stopped.
    ///
    /// # Errors
    /// When an eventfd or a thread cannot be made.
    pub fn start(doors: Vec<Door>, sources: Sources) -> io::Result<Admin> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
        let (stop, replies) = (event()?, event()?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("admin".into())
            .spawn(move || serve::run(&doors, &stopped, &replies, &sources))?;
        Ok(Admin { stop, thread: Some(thread) })
    }

    /// Asks the thread to end: it serves nobody any more but those who wait for a reply that is about to come. Dropping
    /// this waits for that.
    pub fn begin_to_stop(&self) {
        // Cannot fail: the counter is far from full.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.begin_to_stop();
        if let Some(thread) = self.thread.take() {
            crate::base::thread::end(thread, "admin");
        }
    }
}
