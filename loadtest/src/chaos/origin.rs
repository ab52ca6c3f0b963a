//! A target that records every request it sees, before it does anything else with it: what nginx's
//! log, written when a request is over, cannot say of a server that is killed.
//!
//! Invariant: an id is in the record before a byte of its answer is sent. The record is written with one
//! write(2) a request, so it survives the death of this process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// From when an idle connection's time is over to when it is closed: a server with an event loop is about to close
/// it then, and no longer reads what comes.
const ABOUT_TO_CLOSE: Duration = Duration::from_millis(4);
/// How long a hung origin holds a request.
const FOR_EVER: Duration = Duration::from_secs(600);
/// The length of what `/big` answers with, in bytes: more than the sockets on the way to a client may hold, so that
/// it is never over before the client leaves.
pub(crate) const BIG_BYTES: usize = 16 << 20;
/// How much of it is written at once.
const PIECE_BYTES: usize = 64 << 10;
/// The most a request body may be, in bytes.
const BODY_BYTES: u64 = 1 << 20;

/// What an origin is told.
#[derive(Args, Debug, Clone)]
pub(crate) struct Script {
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen: SocketAddr,
    /// Where ids are appended
    #[arg(long)]
    record: PathBuf,
    #[command(flatten)]
    manner: Manner,
}

/// How an origin answers; without any of these, at once, and it keeps connections for ever.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Milliseconds until the answer to anything but a probe
    #[arg(long, default_value_t = 1)]
    work: u64,
    /// Answers probes and nothing else
    #[arg(long)]
    hung: bool,
    /// Closes each connection after the answer
    #[arg(long)]
    closes: bool,
    /// Milliseconds after which an idle connection is closed
    #[arg(long)]
    idle: Option<u64>,
}

impl Manner {
    /// Takes so many milliseconds for anything but a probe.
    pub(crate) fn working(work: u64) -> Manner {
        Manner { work, ..Manner::default() }
    }

    /// Is deaf to anything but probes.
    pub(crate) fn hung() -> Manner {
        Manner { hung: true, ..Manner::working(1) }
    }

    /// Ends every connection with its answer.
    pub(crate) fn closing() -> Manner {
        Manner { closes: true, ..Manner::working(1) }
    }

    /// Ends connections that were idle for so many milliseconds.
    pub(crate) fn leaving(idle: u64) -> Manner {
        Manner { idle: Some(idle), ..Manner::working(1) }
    }

    /// The arguments of `loadtest origin` that make one of this kind.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut all = vec!["--work".to_owned(), self.work.to_string()];
        all.extend(self.hung.then(|| "--hung".to_owned()));
        all.extend(self.closes.then(|| "--closes".to_owned()));
        all.extend(self.idle.into_iter().flat_map(|idle| ["--idle".to_owned(), idle.to_string()]));
        all
    }
}

/// Serves until it is killed.
pub(crate) fn serve(script: &Script) -> ExitCode {
    let Err(error) = listen(script);
    eprintln!("loadtest origin: {error}");
    ExitCode::FAILURE
}

fn listen(script: &Script) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::bind(script.listen)?;
    loop {
        // A connection that is gone before it was taken is nobody's.
        let Ok((stream, _)) = listener.accept() else { continue };
        let record = OpenOptions::new().append(true).create(true).open(&script.record)?;
        let script = script.clone();
        thread::spawn(move || {
            // An error is a client that left: there is nobody to tell.
            let _ = converse(stream, &script, &record);
        });
    }
}

/// Answers one request after another on a connection.
fn converse(stream: TcpStream, script: &Script, record: &File) -> io::Result<()> {
    let Script { name, manner, .. } = script;
    stream.set_nodelay(true)?;
    let idle = manner.idle.map(Duration::from_millis);
    let mut stream = BufReader::new(stream);
    while let Some(request) = next(&mut stream, idle)? {
        if request.path != "/healthz" {
            let mut record = record;
            record.write_all(format!("{}\n", request.id).as_bytes())?;
            if manner.hung || request.path == "/never" {
                return until_the_client_leaves(stream.get_mut());
            }
            // So that a kill finds requests in this origin's hands.
            thread::sleep(Duration::from_millis(manner.work));
        }
        let mut body = Vec::new();
        (&mut stream).take(request.length).read_to_end(&mut body)?;
        let to = stream.get_mut();
        match request.path.as_str() {
            "/big" => answer_big(to, name)?,
            "/id" if request.length == 0 => {
                answer(to, name, manner.closes, &request.id, &padded(&request.id))?;
            }
            _ => answer(to, name, manner.closes, &request.id, &body)?,
        }
        if manner.closes {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request. An idle connection whose time is over is closed, with whatever has come since.
fn next(stream: &mut BufReader<TcpStream>, idle: Option<Duration>) -> io::Result<Option<Request>> {
    if let Some(idle) = idle
        && stream.buffer().is_empty()
        && !comes_within(stream.get_ref(), idle)?
    {
        thread::sleep(ABOUT_TO_CLOSE);
        return Ok(None);
    }
    Request::read(stream)
}

/// Whether anything comes in that time. A read timeout of the socket would be up to 32 ms late (the kernel's coarse timers).
fn comes_within(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(poll(&mut fds, Some(&time))? > 0)
}

/// Says nothing, and reads what comes until the other side has closed.
fn until_the_client_leaves(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(FOR_EVER))?;
    io::copy(stream, &mut io::sink()).map(drop)
}

/// What a GET of `/id` is answered with, here as by the nginx origins.
pub(crate) fn padded(id: &str) -> Vec<u8> {
    let mut body = id.as_bytes().to_vec();
    body.resize(body.len() + crate::servers::BODY_BYTES, b'x');
    body
}

/// Writes a 200; `closes` says that it is the last on its connection.
pub(crate) fn answer(
    to: &mut impl Write,
    name: &str,
    closes: bool,
    id: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    let close = if closes { "Connection: close\r\n" } else { "" };
    let mut message = format!(
        "HTTP/1.1 200 OK\r\nX-Origin: {name}\r\nX-Request: {id}\r\nContent-Length: {length}\r\n{close}\r\n"
    )
    .into_bytes();
    message.extend_from_slice(body);
    to.write_all(&message)
}

fn answer_big(to: &mut TcpStream, name: &str) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\nX-Origin: {name}\r\nContent-Length: {BIG_BYTES}\r\n\r\n");
    to.write_all(head.as_bytes())?;
    let piece = [b'x'; PIECE_BYTES];
    (0..BIG_BYTES / PIECE_BYTES).try_for_each(|_| to.write_all(&piece))
}

/// What is needed of a request; evenly has made it well-formed.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) length: u64,
}

impl Request {
    /// The next request on the connection, `None` at its end.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut request = Request { path, id: String::new(), length: 0 };
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(Some(request));
            };
            match name.to_ascii_lowercase().as_str() {
                "x-request" => request.id = value.trim().to_owned(),
                "content-length" => {
                    request.length = value.trim().parse().unwrap_or(0).min(BODY_BYTES);
                }
                _ => {}
            }
        }
    }
}

/// The ids in a record, as often as they were seen.
pub(crate) fn seen(record: &Path) -> io::Result<Vec<String>> {
    Ok(fs::read_to_string(record)?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_path_id_and_length_of_a_request() {
        let mut bytes = &b"POST /id HTTP/1.1\r\nX-Request: 7\r\nContent-Length: 3\r\n\r\nabc"[..];
        let request = Request::read(&mut bytes).unwrap().unwrap();
        assert_eq!((request.path.as_str(), request.id.as_str(), request.length), ("/id", "7", 3));
        assert_eq!(bytes, b"abc");
        assert!(Request::read(&mut &b""[..]).unwrap().is_none());
    }
}
