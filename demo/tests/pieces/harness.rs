//! What the tests are made of. Nothing here sleeps for a fixed time: everything waits for a condition, and fails
//! when it does not come about within [`PATIENCE`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test fails: long, for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A program of the demo that listens; killed at the end of its scope.
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it on a free port and waits until it listens.
    #[track_caller]
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Program {
        Program::start_at(program, "127.0.0.1:0".parse().unwrap(), arguments)
    }

    #[track_caller]
    pub(crate) fn start_at(program: &str, listen: SocketAddr, arguments: &[&str]) -> Program {
        let mut child = Command::new(program)
            .args(["--listen", &listen.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = collect(child.stdout.take().unwrap());
        let address = wait_for("the line that says where it listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{program} {arguments:?} ended: {status}");
            }
            lines.lock().unwrap().iter().find_map(|line| listening(line))
        });
        Program { child, lines, address }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that has `part`.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        wait_for(&format!("a line with `{part}`"), || {
            self.lines().into_iter().find(|line| line.contains(part))
        })
    }

    /// The lines of a DNS server that has logged all it has answered: it logs in order, so a last query tells.
    #[track_caller]
    pub(crate) fn settled_lines(&self) -> Vec<String> {
        let marker = format!("m{}.invalid.", self.lines().len());
        udp(self.address, &marker, RecordType::TXT);
        self.wait_for_line(&marker);
        self.lines().into_iter().filter(|line| !line.contains(".invalid.")).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        wait_for("the program's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of `from` as they come.
pub(crate) fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            seen.lock().unwrap().push(line);
        }
    });
    lines
}

/// The address of `... listening on ADDR`.
fn listening(line: &str) -> Option<SocketAddr> {
    line.split_once(" listening on ")?.1.parse().ok()
}

/// A response: status, head in lower case, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn http(to: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[track_caller]
pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    http(to, "GET", path, "", "")
}

/// POST of a spell, or of what a test passes for one.
#[track_caller]
pub(crate) fn post(to: SocketAddr, body: &str) -> Answer {
    http(to, "POST", "/spells", "Content-Type: application/json\r\n", body)
}

/// A query of one question, whose sender takes `room` bytes by UDP (512: no EDNS).
pub(crate) fn query(name: &str, kind: RecordType, room: u16) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if room > 512 {
        let mut edns = Edns::new();
        edns.set_max_payload(room);
        message.set_edns(edns);
    }
    message
}

/// One query by UDP.
#[track_caller]
pub(crate) fn udp(to: SocketAddr, name: &str, kind: RecordType) -> Message {
    udp_with(to, &query(name, kind, 512))
}

#[track_caller]
pub(crate) fn udp_with(to: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query.to_vec().unwrap(), to).unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

/// One query by TCP.
#[track_caller]
pub(crate) fn tcp(to: SocketAddr, name: &str, kind: RecordType) -> Message {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bytes = query(name, kind, 512).to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

/// The addresses of an answer, sorted.
pub(crate) fn addresses(answer: &Message) -> Vec<String> {
    let mut found: Vec<String> = answer
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .map(|address| address.to_string())
        .collect();
    found.sort();
    found
}
