//! A running evenly from outside: where its control socket is, and one question over it.
//!
//! Owns the rules for the socket's path, which the program that makes it and the commands that look for it share.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::settings::{ControlSocket, Settings};

/// How long an answer may take: longer than a reload waits for workers.
const PATIENCE: Duration = Duration::from_secs(30);
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
    let failed = |error| RemoteError::Answer(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| RemoteError::Connect(socket.to_owned(), error))?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: evenly\r\nContent-Length: 0\r\n\r\n");
    let mut text = String::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.take(MOST).read_to_string(&mut text))
        .map_err(failed)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| failed(io::Error::other("it ended before the response was whole")))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| failed(io::Error::other("it is not HTTP")))?;
    Ok((status, body.to_owned()))
}
