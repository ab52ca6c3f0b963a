//! Which peers are here, and does each do what the others do? A comparison is fair only between proxies that answer
//! the same bytes, use both targets alike, keep connections on both sides and tell the target who asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::{Head, read_head};
use crate::report::Report;
use crate::servers::{Bench, Kind};

/// How long a peer may take to find both targets healthy, and one answer to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lengths of the bodies, in bytes: one that fits any buffer, one that fits few, one that is sent up.
const SMALL: usize = 1 << 10;
const LARGE: usize = 300 << 10;
const UP: usize = 100 << 10;
/// Requests, or connections, over which the targets take turns.
const TURNS: usize = 20;
/// The most connections to both targets that a single client's requests may open: one for each, and one more for
/// each that a peer opens at first or ahead of time.
const OPENED: usize = 4;

/// Prints a line for each peer; a peer that is absent is none that fails.
pub(crate) fn peers(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let witnesses = [Witness::start("a")?, Witness::start("b")?];
    let mut failed = 0;
    println!("{:12} {:18} {:8} program", "peer", "version", "");
    for kind in Kind::ALL {
        let name = kind.name();
        match bench.program(kind) {
            Err(absent) => println!("{name:12} {:18} {:8} {}", "-", "absent", absent.remedy()),
            Ok(program) => {
                let version = kind.version(&program);
                let outcome = judge(bench, kind, &witnesses);
                let word = if outcome.is_ok() { "ok" } else { "FAILED" };
                println!("{name:12} {version:18} {word:8} {}", program.display());
                match outcome {
                    Ok(notes) => notes.iter().for_each(|note| println!("{:31} {note}", "")),
                    Err(failure) => {
                        failed += 1;
                        println!("{:31} {failure}", "");
                    }
                }
            }
        }
    }
    report.exactly("peers that failed", f64::from(failed), "", 0.0);
    Ok(())
}

/// What is to be known of a peer that does its work, or why it does not.
fn judge(bench: &Bench, kind: Kind, witnesses: &[Witness; 2]) -> Result<Vec<String>, Failure> {
    let targets = witnesses.each_ref().map(|witness| witness.address);
    let subject = bench.subject(kind, &targets)?;
    wait_for_both(subject.address)?;
    witnesses.iter().for_each(|witness| witness.seen().clear());
    let mut notes = Vec::new();

    let mut client = Asker::connect(subject.address)?;
    client.get("/small", SMALL)?;
    client.get("/large", LARGE)?;
    client.post(UP)?;
    client.head("/small", SMALL)?;
    let order = (0..TURNS).map(|_| client.get("/small", SMALL)).collect::<Result<Vec<_>, _>>()?;
    let seen: Vec<Seen> = witnesses.iter().flat_map(|witness| witness.seen().clone()).collect();

    if order.windows(2).any(|pair| pair[0] == pair[1]) {
        alternates_by_connection(subject.address)?;
        notes.push("a target for each connection, not for each request".to_owned());
    }
    let opened = connections(&seen);
    if opened > OPENED {
        let requests = seen.len();
        return Err(Failure::new(format!("{opened} connections for {requests} requests")));
    }
    notes.extend(forwarded(&seen)?);
    Ok(notes)
}

/// Asks on new connections until each target has answered.
fn wait_for_both(address: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let (mut a, mut b) = (false, false);
    while !(a && b) {
        match Asker::connect(address)?.get("/small", SMALL) {
            Ok(name) if name == "a" => a = true,
            Ok(_) => b = true,
            Err(_) => {}
        }
        if Instant::now() > deadline {
            return Err(Failure::new("does not use both targets"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Each of two targets gets half of the connections, give or take one.
fn alternates_by_connection(address: SocketAddr) -> Result<(), Failure> {
    let mut clients = (0..TURNS).map(|_| Asker::connect(address)).collect::<Result<Vec<_>, _>>()?;
    let names = clients
        .iter_mut()
        .map(|client| client.get("/small", SMALL))
        .collect::<Result<Vec<_>, _>>()?;
    let share = names.iter().filter(|name| *name == "a").count();
    if share.abs_diff(TURNS / 2) > 1 {
        return Err(Failure::new(format!("{share} of {TURNS} connections to one of two targets")));
    }
    Ok(())
}

/// How many connections the requests came on.
fn connections(seen: &[Seen]) -> usize {
    let mut from: Vec<SocketAddr> = seen.iter().map(|seen| seen.from).collect();
    from.sort_unstable();
    from.dedup();
    from.len()
}

/// Which of the fields that evenly writes did not arrive; without the client's address nothing is comparable.
fn forwarded(seen: &[Seen]) -> Result<Vec<String>, Failure> {
    let wanted = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", HOST),
        ("host", HOST),
    ];
    let must = ["x-forwarded-for", "host"];
    let mut notes = Vec::new();
    for (name, value) in wanted {
        let right =
            |seen: &Seen| seen.fields.iter().any(|(field, found)| field == name && found == value);
        if seen.iter().all(right) {
            continue;
        }
        let found = seen.iter().find(|seen| !right(seen)).and_then(|seen| seen.value(name));
        match found {
            None if !must.contains(&name) => notes.push(format!("no {name}")),
            // Envoy names its own address for a client on loopback.
            Some(other) if name == "x-forwarded-for" && other.parse::<IpAddr>().is_ok() => {
                notes.push(format!("{name} is {other} for {value}"));
            }
            _ => {
                let wrong = format!("{name} reaches a target as {found:?}, not {value}");
                return Err(Failure::new(wrong));
            }
        }
    }
    let mut more: Vec<&str> = seen.iter().flat_map(Seen::names).collect();
    more.sort_unstable();
    more.dedup();
    more.retain(|name| !wanted.iter().any(|(known, _)| known == name) && !SENT.contains(name));
    if !more.is_empty() {
        notes.push(format!("adds {}", more.join(", ")));
    }
    Ok(notes)
}

/// What requests here name as their host.
const HOST: &str = "loadtest";
/// What they carry besides, or what belongs to a connection.
const SENT: [&str; 3] = ["content-length", "connection", "transfer-encoding"];

/// A client that knows what it must be answered.
struct Asker {
    stream: BufReader<TcpStream>,
}

impl Asker {
    fn connect(address: SocketAddr) -> io::Result<Asker> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Asker { stream: BufReader::new(stream) })
    }

    /// Returns which target answered.
    fn get(&mut self, path: &str, length: usize) -> Result<String, Failure> {
        let what = format!("GET {path}");
        let head = self.ask(&what, &[])?;
        self.expect(&what, &head, &pattern(length))?;
        head.origin.ok_or_else(|| Failure::new(format!("{what}: no X-Origin")))
    }

    /// The target sends the body back.
    fn post(&mut self, length: usize) -> Result<(), Failure> {
        let body = pattern(length);
        let head = self.ask("POST /echo", &body)?;
        self.expect("POST /echo", &head, &body)
    }

    /// Has no body, and the Content-Length that GET would have.
    fn head(&mut self, path: &str, length: usize) -> Result<(), Failure> {
        let what = format!("HEAD {path}");
        let head = self.ask(&what, &[])?;
        match head.length {
            Some(found) if found == length as u64 => self.expect(&what, &head, &[]),
            found => Err(Failure::new(format!("{what}: Content-Length {found:?}"))),
        }
    }

    fn ask(&mut self, what: &str, body: &[u8]) -> Result<Head, Failure> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let mut message = format!("{what} HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n").into_bytes();
        message.extend_from_slice(body);
        let answer =
            self.stream.get_mut().write_all(&message).and_then(|()| read_head(&mut self.stream));
        answer.map_err(|error| Failure::new(format!("{what}: {error}")))
    }

    fn expect(&mut self, what: &str, head: &Head, body: &[u8]) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Failure::new(format!("{what}: {why}")));
        if head.status != 200 {
            return wrong(&format!("status {}", head.status));
        }
        if head.last {
            return wrong("the connection is not kept");
        }
        if !body.is_empty() && head.length != Some(body.len() as u64) {
            return wrong(&format!("Content-Length {:?}", head.length));
        }
        let mut found = vec![0; body.len()];
        self.stream.read_exact(&mut found)?;
        if found != body {
            return wrong("the body is not the target's");
        }
        Ok(())
    }
}

/// Bytes that show it when some are lost, doubled or exchanged.
fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

/// A target in this program, which remembers every request but the probes.
struct Witness {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request as it reached a target.
#[derive(Clone, Debug)]
struct Seen {
    /// The other end of the connection it came on.
    from: SocketAddr,
    method: String,
    path: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Witness {
    /// Serves until this program ends.
    fn start(name: &'static str) -> io::Result<Witness> {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::default();
        let witness = Witness { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                // An error is a peer that left.
                thread::spawn(move || converse(stream, name, &seen));
            }
        });
        Ok(witness)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse(stream: TcpStream, name: &str, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let from = stream.peer_addr()?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = Seen::read(&mut stream, from)? {
        let mut body = match request.path.as_str() {
            "/healthz" => b"ok".to_vec(),
            "/small" => pattern(SMALL),
            "/large" => pattern(LARGE),
            _ => request.body(&mut stream)?,
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nX-Origin: {name}\r\nContent-Length: {length}\r\n\r\n");
        if request.method == "HEAD" {
            body.clear();
        }
        if request.path != "/healthz" {
            lock(seen).push(request);
        }
        stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}

impl Seen {
    /// The next head on a connection, `None` at its end.
    fn read(stream: &mut impl BufRead, from: SocketAddr) -> io::Result<Option<Seen>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let mut fields = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(Some(Seen { from, method, path, fields }));
            };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The body, of the length it says or in chunks.
    fn body(&self, stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.value("transfer-encoding").is_none() {
            let length = self.value("content-length").and_then(|value| value.parse().ok());
            stream.take(length.unwrap_or(0)).read_to_end(&mut body)?;
            return Ok(body);
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim_end(), 16).unwrap_or(0);
            stream.by_ref().take(length).read_to_end(&mut body)?;
            stream.read_line(&mut line)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        Seen::read(&mut text.as_bytes(), from).unwrap().unwrap()
    }

    #[test]
    fn a_target_behind_nothing_answers_what_is_asked() {
        let witness = Witness::start("a").unwrap();
        let mut client = Asker::connect(witness.address).unwrap();
        assert_eq!(client.get("/large", LARGE).unwrap(), "a");
        client.head("/small", SMALL).unwrap();
        client.post(UP).unwrap();
        assert!(client.get("/small", LARGE).is_err(), "another length is another answer");
        assert_eq!(connections(&witness.seen()), 1);
        assert_eq!(witness.seen().len(), 4);
    }

    #[test]
    fn reads_a_body_in_chunks() {
        let chunked = seen("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut rest = &b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET"[..];
        assert_eq!(chunked.body(&mut rest).unwrap(), b"abc0123456789");
        assert_eq!(rest, b"GET");
    }

    #[test]
    fn tells_missing_fields_from_additional_ones() {
        let host = "Host: loadtest\r\nX-Forwarded-Host: loadtest\r\n";
        let good = seen(&format!(
            "GET / HTTP/1.1\r\n{host}X-Forwarded-For: 127.0.0.1\r\nVia: 1.1 x\r\n\r\n"
        ));
        assert_eq!(forwarded(&[good]).unwrap(), ["no x-forwarded-proto", "adds via"]);
        let bad = seen(&format!("GET / HTTP/1.1\r\n{host}\r\n"));
        assert!(forwarded(&[bad]).is_err());
    }
}
