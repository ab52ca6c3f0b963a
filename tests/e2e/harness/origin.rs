//! A scripted target: a closure for each request, counts of what came, and a port or a path it keeps while it is down.
//!
//! Requests for `/healthz` are probes: they are in no count and in no script.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tempfile::TempDir;

use super::{Gate, Head, Wire};

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It waits for the next one.
    Next,
    /// It is closed.
    Close,
    /// It is closed by a reset.
    Reset,
}

type Handler = Arc<dyn Fn(&mut Wire, &Head) -> Then + Send + Sync>;

struct State {
    handler: Mutex<Handler>,
    stopped: AtomicBool,
    /// What probes are told.
    healthy: AtomicBool,
    /// It answers nobody, probes included.
    hangs: AtomicBool,
    /// Connections that carried a request, requests, and how many of those connections have ended.
    connections: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    open: Mutex<HashMap<usize, TcpStream>>,
    /// An assertion in the script failed.
    failed: AtomicBool,
}

pub(crate) struct Origin {
    /// Where it is, unless it is a Unix socket.
    pub(crate) address: SocketAddr,
    /// Where its Unix socket is.
    folder: Option<TempDir>,
    state: Arc<State>,
    running: Option<(Socket, JoinHandle<()>)>,
}

/// A loopback address no other origin has, so that a port which one test closes is not opened by another.
fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed) % 250;
    Ipv4Addr::new(127, 1 + (process / 250 % 250) as u8, (process % 250) as u8, nth as u8 + 2)
}

impl Origin {
    /// Runs `handler` for each request, on a thread for each connection.
    pub(crate) fn start(
        handler: impl Fn(&mut Wire, &Head) -> Then + Send + Sync + 'static,
    ) -> Origin {
        Origin::start_in(None, handler)
    }

    /// Likewise, on a Unix socket.
    pub(crate) fn unix(
        handler: impl Fn(&mut Wire, &Head) -> Then + Send + Sync + 'static,
    ) -> Origin {
        Origin::start_in(Some(tempfile::tempdir().unwrap()), handler)
    }

    fn start_in(
        folder: Option<TempDir>,
        handler: impl Fn(&mut Wire, &Head) -> Then + Send + Sync + 'static,
    ) -> Origin {
        let mut origin = Origin {
            address: SocketAddr::from((own_ip(), 0)),
            folder,
            state: Arc::new(State {
                handler: Mutex::new(Arc::new(handler)),
                stopped: AtomicBool::new(false),
                healthy: AtomicBool::new(true),
                hangs: AtomicBool::new(false),
                connections: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                ended: AtomicUsize::new(0),
                heads: Mutex::default(),
                open: Mutex::default(),
                failed: AtomicBool::new(false),
            }),
            running: None,
        };
        origin.restart();
        origin
    }

    /// Runs `handler` for each request, at this address and port.
    pub(crate) fn start_at(
        address: SocketAddr,
        handler: impl Fn(&mut Wire, &Head) -> Then + Send + Sync + 'static,
    ) -> Origin {
        let mut origin = Origin::start(handler);
        origin.stop();
        origin.address = address;
        origin.restart();
        origin
    }

    /// Answers each request with `name`, whatever its body.
    pub(crate) fn named(name: &'static str) -> Origin {
        Origin::start(named(name))
    }

    /// Likewise, at this address of the loopback.
    pub(crate) fn named_at(name: &'static str, ip: Ipv4Addr) -> Origin {
        Origin::start_at(SocketAddr::from((ip, 0)), named(name))
    }

    /// Likewise, on the port of `other` and an address of its own: both can be one name's.
    pub(crate) fn named_beside(name: &'static str, other: &Origin) -> Origin {
        let mut origin = Origin::named(name);
        origin.stop();
        origin.address.set_port(other.address.port());
        origin.restart();
        origin
    }

    /// Does the same to every request: sends `bytes`, then `then`.
    pub(crate) fn saying(bytes: impl Into<Vec<u8>>, then: Then) -> Origin {
        let bytes = bytes.into();
        Origin::start(move |wire, head| {
            if body_of(wire, head).is_err() || wire.send(&bytes).is_err() {
                return Then::Close;
            }
            then
        })
    }

    /// Answers each request "ok" when the gate is open.
    pub(crate) fn gated() -> (Origin, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let waited_for = Arc::clone(&gate);
        let origin = Origin::start(move |wire, _| {
            waited_for.wait();
            answer(wire, "ok")
        });
        (origin, gate)
    }

    /// Takes requests and never answers; its side of a connection ends when the other side does.
    pub(crate) fn hanging() -> Origin {
        Origin::start(|wire, _| {
            // However it ends, it ends.
            let _ = wire.rest();
            Then::Close
        })
    }

    /// Its address as a configuration has it.
    pub(crate) fn target(&self) -> String {
        match &self.folder {
            Some(folder) => format!("unix:{}", folder.path().join("socket").display()),
            None => self.address.to_string(),
        }
    }

    fn open(&mut self) -> Socket {
        let kind = Type::STREAM;
        if let Some(folder) = &self.folder {
            let path = folder.path().join("socket");
            // The file of the one before is still there.
            let _ = std::fs::remove_file(&path);
            let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
            socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
            return socket;
        }
        let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        self.address = socket.local_addr().unwrap().as_socket().unwrap();
        socket
    }

    /// Opens the port again, the same one as before.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let socket = self.open();
        socket.listen(1024).unwrap();
        let listener = socket.try_clone().unwrap();
        self.state.stopped.store(false, Ordering::SeqCst);
        let state = Arc::clone(&self.state);
        let thread = thread::spawn(move || {
            for nth in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                let state = Arc::clone(&state);
                // Only a stream's own calls are made on it, which a Unix socket has too.
                thread::spawn(move || state.serve(nth, stream.into()));
            }
        });
        self.running = Some((socket, thread));
    }

    /// Dies as a killed process does: the port is closed and every connection is cut.
    pub(crate) fn stop(&mut self) {
        let Some((socket, thread)) = self.running.take() else { return };
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the accept with an error; from then on connects are refused.
        socket.shutdown(Shutdown::Both).unwrap();
        thread.join().unwrap();
        drop(socket);
        for (_, stream) in self.state.open.lock().unwrap().drain() {
            // It may have ended by itself.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Has probes succeed or fail from now on.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Takes connections and requests from now on, and answers neither them nor probes.
    pub(crate) fn hang(&self) {
        self.state.hangs.store(true, Ordering::SeqCst);
    }

    /// Connections that carried a request.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many of [`Origin::connections`] have ended.
    pub(crate) fn ended(&self) -> usize {
        self.state.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// What the last request was for; empty before the first one.
    pub(crate) fn last_target(&self) -> String {
        let heads = self.state.heads.lock().unwrap();
        heads.last().map(|head| head.target().to_owned()).unwrap_or_default()
    }

    /// The head of the last request.
    pub(crate) fn last_head(&self) -> Head {
        self.state.heads.lock().unwrap().last().expect("no request came").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
        let failed = self.state.failed.load(Ordering::SeqCst);
        assert!(!failed || thread::panicking(), "an assertion in the script of an origin failed");
    }
}

impl State {
    fn serve(&self, nth: usize, stream: TcpStream) {
        {
            let mut open = self.open.lock().unwrap();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            open.insert(nth, stream.try_clone().unwrap());
        }
        let mut wire = Wire::new(stream);
        let mut counted = false;
        let run = AssertUnwindSafe(|| self.requests_of(&mut wire, &mut counted));
        let then = catch_unwind(run).unwrap_or_else(|_| {
            self.failed.store(true, Ordering::SeqCst);
            Then::Close
        });
        self.open.lock().unwrap().remove(&nth);
        if then == Then::Reset {
            SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(wire);
        if counted {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn requests_of(&self, wire: &mut Wire, counted: &mut bool) -> Then {
        while let Ok(head) = wire.head() {
            if self.hangs.load(Ordering::SeqCst) {
                // However it ends, it ends.
                let _ = wire.rest();
                return Then::Close;
            }
            if head.target() == "/healthz" {
                let healthy = self.healthy.load(Ordering::SeqCst);
                let status = if healthy { "200 OK" } else { "500 Oh" };
                if wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).is_err() {
                    return Then::Close;
                }
                continue;
            }
            if !std::mem::replace(counted, true) {
                self.connections.fetch_add(1, Ordering::SeqCst);
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.heads.lock().unwrap().push(head.clone());
            let handler = Arc::clone(&*self.handler.lock().unwrap());
            match handler(wire, &head) {
                Then::Next => {}
                then => return then,
            }
        }
        Then::Close
    }
}

/// Answers each request with `name`.
fn named(name: &'static str) -> impl Fn(&mut Wire, &Head) -> Then {
    move |wire, head| match body_of(wire, head) {
        Ok(_) => answer(wire, name),
        Err(_) => Then::Close,
    }
}

/// Sends a 200 with `body`.
pub(crate) fn answer(wire: &mut Wire, body: impl AsRef<[u8]>) -> Then {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    match wire.send(bytes) {
        Ok(()) => Then::Next,
        Err(_) => Then::Close,
    }
}

/// Reads the body of the request with `head`, and its trailers.
pub(crate) fn body_of(wire: &mut Wire, head: &Head) -> std::io::Result<(Vec<u8>, Vec<String>)> {
    match head.content_length() {
        None if head.is_chunked() => wire.chunked(),
        length => Ok((wire.exactly(length.unwrap_or(0))?, Vec::new())),
    }
}

/// Checks that a request has no body.
#[track_caller]
pub(crate) fn no_body(head: &Head) {
    assert!(!head.is_chunked() && head.content_length().unwrap_or(0) == 0, "{head:?}");
}
