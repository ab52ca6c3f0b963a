//! A running evenly from outside: where its control socket is, and one question over it.
//!
//! Owns the rules for the socket's path, which the program that makes it and the commands that look for it share.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::settings::{ControlSocket, Settings};

/// How long an answer may take: longer than a reload waits for workers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a read waits for something before it is looked whether to wait on.
const LOOK: Duration = Duration::from_secs(1);
/// The longest answer that is read.
const MOST: u64 = 16 << 20;

/// The folders in which the socket is looked for, the first in which it can be made or found is taken: that which systemd
/// gives a unit (`RuntimeDirectory=`), the system's for root, and the user's own.
pub fn folders() -> Vec<PathBuf> {
    let given = std::env::var_os("RUNTIME_DIRECTORY").and_then(|list| {
        // systemd separates several by colons.
        let list = list.into_string().ok()?;
        list.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
    });
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    let own = own.map(|path| PathBuf::from(path).join("evenly"));
    given.into_iter().chain([PathBuf::from("/run/evenly")]).chain(own).collect()
}

/// The name of the socket of a process that listens on `first`.
pub fn name(first: SocketAddr) -> String {
    format!("{first}.sock")
}

/// Why a running evenly did not do what it was asked.
#[derive(Debug)]
pub enum RemoteError {
    /// No socket was found; where it was looked for.
    NotFound(Vec<PathBuf>),
    /// `admin.socket` is off.
    Off,
    /// It cannot be connected to.
    Connect(PathBuf, io::Error),
    /// The connection broke, or the answer is none.
    Answer(PathBuf, io::Error),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::NotFound(places) => {
                let places: Vec<String> =
                    places.iter().map(|it| it.display().to_string()).collect();
                write!(
                    f,
                    "no running evenly was found at {}; is it running, by this user? Otherwise give --socket PATH, which its log has",
                    places.join(" or ")
                )
            }
            RemoteError::Off => {
                write!(f, "admin.socket is \"off\" in this file; send the process SIGHUP instead")
            }
            RemoteError::Connect(path, error) => {
                let why = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "run this as the user that evenly runs as, or as root"
                    }
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                        "nobody listens there: evenly has ended"
                    }
                    _ => "is it the control socket of evenly?",
                };
                write!(f, "cannot connect to {}: {error}; {why}", path.display())
            }
            RemoteError::Answer(path, error) => {
                write!(f, "no answer from {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for RemoteError {}

/// The control socket of the process that runs by these settings.
///
/// # Errors
/// There is none, or it is off.
pub fn find(settings: &Settings) -> Result<PathBuf, RemoteError> {
    match &settings.boot.socket {
        ControlSocket::Off => Err(RemoteError::Off),
        ControlSocket::Path(path) => Ok(path.clone()),
        ControlSocket::Auto => {
            let first = settings.plan.listen.first().copied();
            let names = first.map(name);
            let places: Vec<PathBuf> = names
                .iter()
                .flat_map(|name| folders().into_iter().map(move |it| it.join(name)))
                .collect();
            let found = places.iter().find(|path| path.exists()).cloned();
            // The first address may be what has changed in the file.
            found.or_else(only_one).ok_or(RemoteError::NotFound(places))
        }
    }
}

/// The control socket, if there is exactly one in all the folders.
fn only_one() -> Option<PathBuf> {
    let entries = folders().into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut sockets = entries
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
    sockets.next().filter(|_| sockets.next().is_none())
}

/// Sends a request without a body; the status and the body of its response.
///
/// # Errors
/// Nobody listens there, or the response does not come.
pub fn ask(socket: &Path, method: &str, target: &str) -> Result<(u16, String), RemoteError> {
    let begun = Instant::now();
    exchange(socket, method, target, || begun.elapsed() < PATIENCE)
}

/// Likewise, for a response that comes when the process ends, whenever that is: it has ended then. `meanwhile` is called each second
/// with the number of client connections that are left.
///
/// # Errors
/// As of [`ask`]; and the process may end without a response.
pub fn wait(
    socket: &Path,
    target: &str,
    mut meanwhile: impl FnMut(u64),
) -> Result<(u16, String), RemoteError> {
    exchange(socket, "POST", target, || {
        // It may be about to end.
        if let Some(left) = ask(socket, "GET", "/status").ok().and_then(|(_, text)| left(&text)) {
            meanwhile(left);
        }
        true
    })
}

/// The client connections that `/status` tells of.
fn left(status: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(status).ok()?.get("connections")?.as_u64()
}

/// Asks, and reads to the end of the connection. After each second of silence `goes_on` says whether to wait on.
fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    mut goes_on: impl FnMut() -> bool,
) -> Result<(u16, String), RemoteError> {
    let failed = |error| RemoteError::Answer(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| RemoteError::Connect(socket.to_owned(), error))?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: evenly\r\nContent-Length: 0\r\n\r\n");
    let mut read = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        loop {
            match (&stream).take(MOST).read_to_end(&mut bytes) {
                Ok(_) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && goes_on() => {}
                // It ended with something unread, or was killed: what it said counts.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(bytes),
                Err(error) => return Err(error),
            }
        }
    };
    response(&read().map_err(failed)?).map_err(|why| failed(io::Error::other(why)))
}

/// The status and the body of a response that is whole.
fn response(bytes: &[u8]) -> Result<(u16, String), &'static str> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or("it ended before it had answered; its log may say why")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    match (status, length.and_then(|length| length.parse::<usize>().ok())) {
        (Some(_), Some(length)) if length > body.len() => {
            Err("it ended before the answer was whole; its log may say why")
        }
        (Some(status), _) => Ok((status, body.to_owned())),
        (None, _) => Err("it is not HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_if_it_is_whole() {
        let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\n";
        for (body, whole) in [("", false), ("ab", false), ("ab\n", true)] {
            let read = response(format!("{head}{body}").as_bytes());
            assert_eq!(read.ok(), whole.then(|| (500, body.to_owned())));
        }
        assert!(response(b"").unwrap_err().contains("ended before"));
        assert!(response(b"HTTP/1.1 200").unwrap_err().contains("ended before"));
        assert!(response(b"what?\r\n\r\n").unwrap_err().contains("not HTTP"));
    }

    #[test]
    fn the_connections_that_are_left_are_read_from_the_status() {
        assert_eq!(left("{\"stage\": \"draining\", \"connections\": 12}"), Some(12));
        assert_eq!((left("{}"), left("<html>")), (None, None));
    }
}
