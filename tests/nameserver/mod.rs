//! A small name server on the loopback, UDP and TCP on one port, whose table a test changes as it goes. It can be told to
//! fall silent, to fail, and to truncate, and it remembers who asked what and when.
//!
//! Authoritative for whatever is asked: what is in no table does not exist, with the SOA that says so.

#![allow(dead_code)] // each program of tests uses a part of it

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What it does with questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Answer,
    /// Says nothing.
    Silent,
    /// Answers this code.
    Fail(ResponseCode),
    /// Over UDP, says that the answer is too long for it.
    Truncate,
}

/// One question that came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: RecordType,
    pub(crate) tcp: bool,
    pub(crate) edns: bool,
    pub(crate) at: Instant,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Questions of one name, or of one name and type, that are treated otherwise.
    exceptions: HashMap<(String, Option<RecordType>), Mode>,
    table: HashMap<String, Vec<Record>>,
    /// Of a name that is an alias it says only that, and nothing of what that leads to.
    curt: bool,
    /// Its answers have their records in the reverse order.
    backwards: bool,
    /// SRV answers bring the addresses of their hosts along.
    generous: bool,
    /// What it does with questions that use EDNS, if something else than with others.
    edns: Option<Mode>,
    /// Records of other names that it puts into every answer.
    unasked: Vec<Record>,
    negative_ttl: u32,
    asked: Vec<Asked>,
}

/// A name server; it ends when it is dropped, and its port is closed.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    pub(crate) fn start() -> NameServer {
        NameServer::on(bind())
    }

    /// At this address and port.
    pub(crate) fn start_at(address: SocketAddr) -> NameServer {
        NameServer::on((UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()))
    }

    fn on((udp, tcp): (UdpSocket, TcpListener)) -> NameServer {
        let mut server = NameServer {
            address: udp.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                mode: Mode::Answer,
                exceptions: HashMap::new(),
                table: HashMap::new(),
                curt: false,
                backwards: false,
                generous: false,
                edns: None,
                unasked: Vec::new(),
                negative_ttl: 1,
                asked: Vec::new(),
            })),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (state, stop) = (Arc::clone(&server.state), Arc::clone(&server.stop));
        server.threads.push(thread::spawn(move || serve_udp(&udp, &state, &stop)));
        let (state, stop) = (Arc::clone(&server.state), Arc::clone(&server.stop));
        server.threads.push(thread::spawn(move || serve_tcp(&tcp, &state, &stop)));
        server
    }

    /// What makes evenly ask it.
    pub(crate) fn config(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address)
    }

    /// `name` has these addresses from now on, and nothing else.
    pub(crate) fn addresses(&self, name: &str, ttl: u32, ips: &[IpAddr]) {
        let record = |&ip: &IpAddr| Record::from_rdata(absolute(name), ttl, RData::from(ip));
        self.set(name, ips.iter().map(record).collect());
    }

    /// `name` is another name for `other` from now on.
    pub(crate) fn alias(&self, name: &str, ttl: u32, other: &str) {
        let data = RData::CNAME(CNAME(absolute(other)));
        self.set(name, vec![Record::from_rdata(absolute(name), ttl, data)]);
    }

    /// `name` has these SRV records from now on: priority, weight, port, host.
    pub(crate) fn services(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, host): &(u16, u16, u16, &str)| {
            let data = RData::SRV(SRV::new(priority, weight, port, absolute(host)));
            Record::from_rdata(absolute(name), ttl, data)
        };
        self.set(name, records.iter().map(record).collect());
    }

    /// `name` does not exist from now on.
    pub(crate) fn remove(&self, name: &str) {
        self.set(name, Vec::new());
    }

    fn set(&self, name: &str, records: Vec<Record>) {
        self.state.lock().unwrap().table.insert(key(&absolute(name)), records);
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    /// Treats questions of this name, and of this type if it is one, otherwise.
    pub(crate) fn except(&self, name: &str, kind: Option<RecordType>, mode: Mode) {
        let exception = (key(&absolute(name)), kind);
        self.state.lock().unwrap().exceptions.insert(exception, mode);
    }

    /// Leaves it to whoever asks to follow aliases.
    pub(crate) fn set_curt(&self) {
        self.state.lock().unwrap().curt = true;
    }

    pub(crate) fn set_backwards(&self) {
        self.state.lock().unwrap().backwards = true;
    }

    pub(crate) fn set_generous(&self) {
        self.state.lock().unwrap().generous = true;
    }

    /// Treats questions that use EDNS otherwise.
    pub(crate) fn set_edns(&self, mode: Mode) {
        self.state.lock().unwrap().edns = Some(mode);
    }

    /// Puts this address of a name that nobody asks for into every answer.
    pub(crate) fn add_unasked(&self, name: &str, ip: IpAddr) {
        let record = Record::from_rdata(absolute(name), 60, RData::from(ip));
        self.state.lock().unwrap().unasked.push(record);
    }

    pub(crate) fn set_negative_ttl(&self, ttl: u32) {
        self.state.lock().unwrap().negative_ttl = ttl;
    }

    /// The questions for this name and type so far.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> Vec<Asked> {
        let (name, state) = (key(&absolute(name)), self.state.lock().unwrap());
        let mine = |asked: &&Asked| asked.name == name && asked.kind == kind;
        state.asked.iter().filter(mine).cloned().collect()
    }

    /// The times between one question for the addresses of this name and the next.
    pub(crate) fn gaps(&self, name: &str) -> Vec<Duration> {
        let asked = self.asked(name, RecordType::A);
        asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Either wakes a thread out of its wait.
        let _ = UdpSocket::bind((self.address.ip(), 0)).unwrap().send_to(&[], self.address);
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Both on one port of a loopback address that only name servers have.
fn bind() -> (UdpSocket, TcpListener) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed) % 250;
    let ip = Ipv4Addr::new(127, 251, (std::process::id() % 250) as u8, nth as u8 + 1);
    for _ in 0..100 {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port of {ip} is free for both");
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

fn key(name: &Name) -> String {
    name.to_lowercase().to_ascii()
}

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if let Some(answer) = state.lock().unwrap().answer(&buffer[..len], false) {
            // Who asked may have left.
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, state: &Arc<Mutex<State>>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), state) = (stream, Arc::clone(state)) else { continue };
        thread::spawn(move || answer_all(stream, &state));
    }
}

/// Each message has its length before it (RFC 1035 section 4.2.2).
fn answer_all(mut stream: TcpStream, state: &Mutex<State>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let answer = state.lock().unwrap().answer(&question, true);
        let Some(answer) = answer else { continue };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let (name, kind) = (key(query.name()), query.query_type());
        let edns = question.edns.is_some();
        self.asked.push(Asked { name: name.clone(), kind, tcp, edns, at: Instant::now() });
        let exceptions = [Some(kind), None].map(|kind| self.exceptions.get(&(name.clone(), kind)));
        let mode = exceptions.into_iter().flatten().next().copied().unwrap_or(self.mode);
        let mode = self.edns.filter(|_| edns).unwrap_or(mode);
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match mode {
            Mode::Silent => return None,
            Mode::Fail(code) => answer.metadata.response_code = code,
            Mode::Truncate if !tcp => answer.metadata.truncation = true,
            Mode::Truncate | Mode::Answer => self.fill(&mut answer, &query),
        }
        answer.to_vec().ok()
    }

    fn fill(&self, answer: &mut Message, query: &Query) {
        let (mut name, mut seen) = (query.name().clone(), HashSet::new());
        while seen.insert(name.clone()) {
            let records = self.records(&name);
            let fitting = records.iter().filter(|r| r.record_type() == query.query_type());
            answer.add_answers(fitting.cloned());
            let Some(RData::CNAME(CNAME(other))) = records.first().map(|r| &r.data) else { break };
            answer.add_answer(records[0].clone());
            name = other.clone();
            if self.curt {
                return;
            }
        }
        if self.records(&name).is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        if !answer.answers.iter().any(|r| r.record_type() == query.query_type()) {
            answer.add_authority(self.soa());
        }
        answer.add_answers(self.unasked.iter().cloned());
        if self.backwards {
            answer.answers.reverse();
        }
        if self.generous {
            for record in answer.answers.clone() {
                if let RData::SRV(srv) = &record.data {
                    answer.add_additionals(self.records(&srv.target).iter().cloned());
                }
            }
        }
    }

    fn records(&self, name: &Name) -> &[Record] {
        self.table.get(&key(name)).map_or(&[], Vec::as_slice)
    }

    fn soa(&self) -> Record {
        let ttl = self.negative_ttl;
        let soa = SOA::new(absolute("ns.test"), absolute("admin.test"), 1, 60, 60, 60, ttl);
        Record::from_rdata(absolute("test"), ttl, RData::SOA(soa))
    }
}
