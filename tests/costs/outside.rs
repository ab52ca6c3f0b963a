//! What stands around the program under test: two origins, clients, and the program itself as a child process.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::messages::{WRK, nginx};

/// The longest anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The path of a request that is answered only when all are there.
const GATHER: &str = "/gather";
/// Rounds before anything is counted.
const WARM_UP: usize = 20;

/// Two servers that answer each GET with 128 bytes. They last as long as the test's process.
pub(crate) struct Origins {
    pub(crate) addresses: [SocketAddr; 2],
}

impl Origins {
    /// `gathered` requests for [`GATHER`] are answered together, none earlier: then the program has a connection for each.
    pub(crate) fn start(gathered: usize) -> Origins {
        let barrier = Arc::new(Barrier::new(gathered));
        let start = |()| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (stream, barrier) = (stream.expect("a connection"), Arc::clone(&barrier));
                    thread::spawn(move || serve(stream, &barrier));
                }
            });
            address
        };
        Origins { addresses: [(), ()].map(start) }
    }
}

/// Answers until the other side closes. A GET arrives whole, for it is written at once.
fn serve(mut stream: TcpStream, barrier: &Barrier) {
    let response = nginx(128);
    let mut request = [0; 4096];
    stream.set_nodelay(true).expect("a socket");
    while let Ok(count @ 1..) = stream.read(&mut request) {
        if request[4..count].starts_with(GATHER.as_bytes()) {
            barrier.wait();
        }
        if stream.write_all(&response).is_err() {
            return;
        }
    }
}

/// Client connections that keep step: all send, then all read.
pub(crate) struct Clients(Vec<TcpStream>);

impl Clients {
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Clients {
        let connect = |_| {
            let stream = TcpStream::connect(address).expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream
        };
        Clients((0..count).map(connect).collect())
    }

    /// Leaves the program with as many connections to its origins as these clients can ever need at once: with
    /// exact round robin a round needs as many of each origin as any other.
    pub(crate) fn warm_up(&mut self) {
        self.send_all(&get(GATHER));
        for _ in 0..WARM_UP {
            self.round();
        }
    }

    /// One GET on each connection, all at once.
    pub(crate) fn round(&mut self) {
        self.send_all(WRK);
    }

    /// One GET on each connection, one after another.
    pub(crate) fn take_turns(&mut self) {
        for stream in &mut self.0 {
            stream.write_all(WRK).expect("a request is taken");
            read_response(stream);
        }
    }

    /// One GET of `path` on the first connection.
    pub(crate) fn get(&mut self, path: &str) {
        self.0[0].write_all(&get(path)).expect("a request is taken");
        read_response(&mut self.0[0]);
    }

    fn send_all(&mut self, request: &[u8]) {
        for stream in &mut self.0 {
            stream.write_all(request).expect("a request is taken");
        }
        self.0.iter_mut().for_each(read_response);
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

fn read_response(stream: &mut TcpStream) {
    let mut response = [0; 1024];
    let mut len = 0;
    // The origins' bodies are of this length, and nothing else ends in them.
    while !response[..len].ends_with(&[b'x'; 128]) {
        let count = match stream.read(&mut response[len..]) {
            Ok(count) => count,
            // A read with a time limit is not begun again by the kernel when this process was stopped.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("no response in time: {error}"),
        };
        assert!(count > 0, "cut off: {}", String::from_utf8_lossy(&response[..len]));
        len += count;
    }
    assert!(
        response.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&response[..len])
    );
}

/// The program, with one worker. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it before `origins`, by way of `wrapper`: a command that ends by running its arguments in its place.
    pub(crate) fn start(origins: &Origins, wrapper: &[&str]) -> Program {
        let run =
            [env!("CARGO_BIN_EXE_evenly"), "run", "--listen", "127.0.0.1:0", "--workers", "1"];
        let mut words = wrapper.iter().chain(&run);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for address in origins.addresses {
            command.arg("--target").arg(address.to_string());
        }
        let mut child = command.spawn().expect("it starts");
        let (found, inbox) = mpsc::channel();
        let log = child.stderr.take().expect("piped");
        thread::spawn(move || watch_log(log, &found));
        // Before anything can fail: whoever is dropped kills its child.
        let mut program = Program { child, address: ([127, 0, 0, 1], 0).into() };
        program.address = inbox.recv_timeout(PATIENCE).expect("it says where it listens");
        program
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports the address it listens on, and reads on so that nothing it says blocks it.
fn watch_log(log: impl Read, found: &Sender<SocketAddr>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        println!("{line}");
        if let Some((_, address)) = line.split_once("listening on http://") {
            // Nobody waits any more if that took too long.
            let _ = found.send(address.parse().expect("an address"));
        }
    }
}
