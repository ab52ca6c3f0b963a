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

/// How long an answer takes, so that a kill finds requests in this origin's hands.
const WORK: Duration = Duration::from_millis(1);
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
        let name = script.name.clone();
        thread::spawn(move || {
            // An error is a client that left: there is nobody to tell.
            let _ = converse(stream, &name, &record);
        });
    }
}

/// Answers one request after another on a connection.
fn converse(stream: TcpStream, name: &str, record: &File) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream)? {
        if request.path != "/healthz" {
            let mut record = record;
            record.write_all(format!("{}\n", request.id).as_bytes())?;
            thread::sleep(WORK);
        }
        let mut body = Vec::new();
        (&mut stream).take(request.length).read_to_end(&mut body)?;
        let to = stream.get_mut();
        match request.path.as_str() {
            "/big" => answer_big(to, name)?,
            "/id" if request.length == 0 => answer(to, name, &request.id, &padded(&request.id))?,
            _ => answer(to, name, &request.id, &body)?,
        }
    }
    Ok(())
}

/// What a GET of `/id` is answered with, here as by the nginx origins.
pub(crate) fn padded(id: &str) -> Vec<u8> {
    let mut body = id.as_bytes().to_vec();
    body.resize(body.len() + crate::servers::BODY_BYTES, b'x');
    body
}

fn answer(to: &mut TcpStream, name: &str, id: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let mut message = format!(
        "HTTP/1.1 200 OK\r\nX-Origin: {name}\r\nX-Request: {id}\r\nContent-Length: {length}\r\n\r\n"
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
struct Request {
    path: String,
    id: String,
    length: u64,
}

impl Request {
    /// The next request on the connection, `None` at its end.
    fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
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
