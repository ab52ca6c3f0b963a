//! A running evenly from outside: where its control socket is, and one question over it, or over its admin listener.
//!
//! Owns the rules for the socket's path, which the program that makes it and the commands that look for it share.

pub mod show;

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::settings::{ControlSocket, Settings};
use crate::token::AdminToken;

/// How long an answer may take: longer than a reload waits for workers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a TCP connection may take, to each address of a name.
const CONNECT_TIME: Duration = Duration::from_secs(10);
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
    let mut folders: Vec<PathBuf> =
        given.into_iter().chain([PathBuf::from("/run/evenly")]).collect();
    folders.extend(own);
    // systemd gives a unit the system's.
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// The name of the socket of a process that listens on `first` alone.
pub fn name(first: SocketAddr) -> String {
    format!("{first}.sock")
}

/// The name of the socket of the process with this ID that listens on `first` beside others (`tcp.reuse_port`).
pub fn shared_name(first: SocketAddr, process: u32) -> String {
    format!("{first}.{process}.sock")
}

/// Whether this is the name of the socket of a process that listens on `first`, alone or beside others.
pub fn is_name_of(first: SocketAddr, name: &OsStr) -> bool {
    let own = name.to_str().and_then(|name| name.strip_prefix(&first.to_string()));
    let Some(rest) = own.and_then(|rest| rest.strip_suffix(".sock")) else { return false };
    let process = rest.strip_prefix('.').unwrap_or("0");
    (rest.is_empty() || rest.starts_with('.')) && process.parse::<u32>().is_ok()
}

/// Whether somebody listens at this socket, as far as is known: only a connect that is refused says that nobody does. It never
/// blocks, as it would at a process that was stopped and has a full backlog.
pub fn is_alive(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().err().is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused)
}

/// How a running evenly is reached.
#[derive(Debug, Clone)]
pub enum Contact {
    /// By its control socket.
    Socket(PathBuf),
    /// By its admin listener, as `host:port`, with its token, which who only reads need not have.
    Admin(String, Option<AdminToken>),
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contact::Socket(path) => write!(f, "{}", path.display()),
            Contact::Admin(address, _) => f.write_str(address),
        }
    }
}

/// Why a running evenly did not do what it was asked.
#[derive(Debug)]
pub enum RemoteError {
    /// No socket was found; where it was looked for.
    NotFound(Vec<PathBuf>),
    /// Several processes listen on the addresses of this file; their sockets.
    Several(Vec<PathBuf>),
    /// `admin.socket` is off.
    Off,
    /// It cannot be connected to.
    Connect(Contact, io::Error),
    /// The connection broke, or the answer is none.
    Answer(Contact, io::Error),
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
            RemoteError::Several(sockets) => {
                let sockets: Vec<String> =
                    sockets.iter().map(|it| it.display().to_string()).collect();
                write!(
                    f,
                    "{} evenly may be meant; say which: --socket {}",
                    sockets.len(),
                    sockets.join(" or --socket ")
                )
            }
            RemoteError::Off => {
                write!(f, "admin.socket is \"off\" in this file; send the process SIGHUP instead")
            }
            RemoteError::Connect(contact, error) => {
                let why = match (contact, error.kind()) {
                    (Contact::Socket(_), io::ErrorKind::PermissionDenied) => {
                        "run this as the user that evenly runs as, or as root"
                    }
                    (
                        Contact::Socket(_),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound,
                    ) => "nobody listens there: evenly has ended",
                    (Contact::Socket(_), _) => "is it the control socket of evenly?",
                    (Contact::Admin(..), io::ErrorKind::ConnectionRefused) => {
                        "nobody listens there: does evenly run, with this address in admin.listen?"
                    }
                    (Contact::Admin(..), _) => "is it the address of admin.listen?",
                };
                write!(f, "cannot connect to {contact}: {error}; {why}")
            }
            RemoteError::Answer(contact, error) => write!(f, "no answer from {contact}: {error}"),
        }
    }
}

impl std::error::Error for RemoteError {}

/// The control socket of the process that runs by these settings, which are those of `file` if there is one.
///
/// # Errors
/// There is none, or it is off.
pub fn find(settings: &Settings, file: Option<&Path>) -> Result<PathBuf, RemoteError> {
    match &settings.boot.socket {
        ControlSocket::Off => Err(RemoteError::Off),
        ControlSocket::Path(path) => Ok(path.clone()),
        ControlSocket::Auto => {
            let first = settings.plan.listen.first().copied();
            let is_it = |path: &PathBuf| {
                path.file_name().zip(first).is_some_and(|(name, first)| is_name_of(first, name))
            };
            let mut found = sockets();
            found.retain(is_it);
            if found.is_empty() {
                // The first address may be what has changed in the file.
                found = file.map_or_else(sockets, running_by);
            }
            if found.len() > 1 {
                // One that was killed leaves its own.
                found.retain(|path| is_alive(path));
            }
            match found.pop() {
                Some(last) if found.is_empty() => Ok(last),
                Some(last) => {
                    found.push(last);
                    Err(RemoteError::Several(found))
                }
                None => {
                    let names = first.map(name);
                    let place = |folder: PathBuf| Some(folder.join(names.as_ref()?));
                    Err(RemoteError::NotFound(folders().into_iter().filter_map(place).collect()))
                }
            }
        }
    }
}

/// The control sockets in the folders whose processes say that they run by this file.
pub fn running_by(file: &Path) -> Vec<PathBuf> {
    let Ok(file) = file.canonicalize() else { return Vec::new() };
    let is_its = |socket: &PathBuf| {
        let contact = Contact::Socket(socket.clone());
        let said = is_alive(socket).then(|| ask(&contact, "GET", "/status").ok()).flatten();
        let status: Option<serde_json::Value> =
            said.and_then(|(_, text)| serde_json::from_str(&text).ok());
        let path = status.as_ref().and_then(|status| status.get("file")?.as_str());
        path.and_then(|path| Path::new(path).canonicalize().ok()).is_some_and(|it| it == file)
    };
    sockets().into_iter().filter(is_its).collect()
}

/// Every control socket in the folders, the most likely first.
fn sockets() -> Vec<PathBuf> {
    let paths = |folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
        paths.sort();
        paths
    };
    folders().into_iter().flat_map(paths).collect()
}

/// The target of a request for an upgrade to the program at this path, or the same one.
pub fn upgrade_target(program: Option<&Path>) -> String {
    let Some(program) = program else { return "/upgrade".to_owned() };
    format!("/upgrade?binary={}", encoded(program.as_os_str().as_bytes()))
}

/// The path of one target, or of all endpoints at one address.
pub fn target_path(name: &str) -> String {
    format!("/targets/{}", encoded(name.as_bytes()))
}

/// The target that asks what would become of a request.
pub fn explain_target(method: &str, url: &str, headers: &[String]) -> String {
    let encoded = |text: &str| encoded(text.as_bytes());
    let mut target = format!("/explain?method={}&url={}", encoded(method), encoded(url));
    headers.iter().for_each(|field| target += &format!("&header={}", encoded(field)));
    target
}

/// The target that asks for the exchanges that ended last, so many at most, or for those that went wrong.
pub fn recent_target(errors: bool, limit: u32) -> String {
    format!("/recent?limit={limit}{}", if errors { "&errors" } else { "" })
}

/// `bytes` as part of a target, percent-encoded (RFC 3986 section 2.1).
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

/// Sends a request with JSON as its content; the status and the body of its response.
///
/// # Errors
/// As of [`ask`].
pub fn put(
    contact: &Contact,
    target: &str,
    content: &serde_json::Value,
) -> Result<(u16, String), RemoteError> {
    let begun = Instant::now();
    let goes_on = || begun.elapsed() < PATIENCE;
    exchange(contact, ("PUT", target, &content.to_string()), goes_on)
}

/// Sends a request without a body; the status and the body of its response.
///
/// # Errors
/// Nobody listens there, or the response does not come.
pub fn ask(contact: &Contact, method: &str, target: &str) -> Result<(u16, String), RemoteError> {
    let begun = Instant::now();
    exchange(contact, (method, target, ""), || begun.elapsed() < PATIENCE)
}

/// Likewise, to be done, for a response that may take as long as the process lives.
///
/// # Errors
/// As of [`ask`].
pub fn ask_patiently(contact: &Contact, target: &str) -> Result<(u16, String), RemoteError> {
    exchange(contact, ("POST", target, ""), || true)
}

/// Likewise, for a response that comes when the process ends, whenever that is: it has ended then. `meanwhile` is called each second
/// with the number of client connections that are left.
///
/// # Errors
/// As of [`ask`]; and the process may end without a response.
pub fn wait(
    contact: &Contact,
    target: &str,
    mut meanwhile: impl FnMut(u64),
) -> Result<(u16, String), RemoteError> {
    exchange(contact, ("POST", target, ""), || {
        // It may be about to end.
        if let Some(left) = ask(contact, "GET", "/status").ok().and_then(|(_, text)| left(&text)) {
            meanwhile(left);
        }
        true
    })
}

/// The client connections that `/status` tells of.
fn left(status: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(status).ok()?.get("connections")?.as_u64()
}

fn connect(contact: &Contact) -> io::Result<Socket> {
    match contact {
        Contact::Socket(path) => UnixStream::connect(path).map(Socket::from),
        Contact::Admin(address, _) => {
            let mut last = io::Error::other("this name has no address");
            for address in address.to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                    Ok(stream) => return Ok(stream.into()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Asks, and reads to the end of the connection. After each second of silence `goes_on` says whether to wait on.
fn exchange(
    contact: &Contact,
    (method, target, content): (&str, &str, &str),
    mut goes_on: impl FnMut() -> bool,
) -> Result<(u16, String), RemoteError> {
    let failed = |error| RemoteError::Answer(contact.clone(), error);
    let mut stream =
        connect(contact).map_err(|error| RemoteError::Connect(contact.clone(), error))?;
    let credentials = match contact {
        Contact::Admin(_, Some(token)) => format!("Authorization: {}\r\n", token.credentials()),
        _ => String::new(),
    };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: evenly\r\nConnection: close\r\n{credentials}Content-Length: {}\r\n\r\n{content}",
        content.len()
    );
    let mut read = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        loop {
            match (&mut stream).take(MOST).read_to_end(&mut bytes) {
                Ok(_) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !goes_on() {
                        let why = "it is silent: it may be busy, stopped or hung, and may yet do what it was asked; \
                                   its log says";
                        return Err(io::Error::other(why));
                    }
                }
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
    fn a_socket_is_known_by_its_name() {
        let first = ([127, 0, 0, 1], 80).into();
        for name in [name(first), shared_name(first, 1), shared_name(first, u32::MAX)] {
            assert!(is_name_of(first, OsStr::new(&name)), "{name}");
        }
        for name in ["127.0.0.1:8080.sock", "127.0.0.1:80.x.sock", "127.0.0.1:80..sock", "a.sock"] {
            assert!(!is_name_of(first, OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_connections_that_are_left_are_read_from_the_status() {
        assert_eq!(left("{\"stage\": \"draining\", \"connections\": 12}"), Some(12));
        assert_eq!((left("{}"), left("<html>")), (None, None));
    }
}
