//! Why the server ended or did not start, and the remedy: what an operator reads last.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Places};
use crate::settings::{AccessSink, RunAs};
use crate::token::TokenFileError;

use super::descriptors;
use super::sockets::ActivationError;

/// The error of a machine without IPv6, which has no [`io::ErrorKind`].
const EAFNOSUPPORT: i32 = nix::libc::EAFNOSUPPORT;
const EMFILE: i32 = nix::libc::EMFILE;
const ENFILE: i32 = nix::libc::ENFILE;

/// Why the server ended other than by being asked to.
#[derive(Debug)]
pub enum ServerError {
    /// This one of the addresses, counted from 0, cannot be listened on.
    Bind(usize, SocketAddr, io::Error),
    /// The control socket cannot be made at this path.
    Socket(PathBuf, io::Error),
    /// The admin address cannot be listened on.
    BindAdmin(SocketAddr, io::Error),
    /// The token of commands cannot be read.
    Token(TokenFileError),
    /// The congestion control of this name is not available.
    Congestion(String, io::Error),
    /// The access log of this path, or standard output, cannot be opened.
    AccessLog(AccessSink, io::Error),
    /// The process cannot become this user: why, with the remedy.
    User(RunAs, String),
    /// This one of the addresses, counted from 0, has a port that only root may bind, and the process became this user.
    LowPort(usize, SocketAddr, RunAs),
    /// What this key asks for is not available: why.
    Lockdown(&'static str, String),
    /// Landlock forbids to write this access log.
    Landlocked(PathBuf),
    /// A thread, a signal handler or a poll could not be created.
    Start(&'static str, io::Error),
    /// The descriptor limit is too low to serve.
    Descriptors {
        /// How many there may be.
        limit: u64,
        /// How many there must be.
        needed: u64,
    },
    /// A service manager has passed something that is not configured.
    Activation(ActivationError),
    /// The process whose place this one was to take, by its number: what is wrong.
    Predecessor(u32, String),
    /// The health thread cannot follow a new plan.
    Follow(io::Error),
    /// Every worker ended without being told to.
    Workers,
    /// So many workers did not end when they were asked to.
    Stuck(usize),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Bind(_, address, error) => fmt_bind(f, *address, error),
            ServerError::BindAdmin(address, error) => fmt_bind(f, *address, error),
            ServerError::Socket(path, error) => fmt_socket(f, path, error),
            ServerError::Token(error) => write!(f, "{error}"),
            ServerError::Congestion(name, error) => fmt_congestion(f, name, error),
            ServerError::User(user, why) => write!(f, "cannot become user {user}: {why}"),
            ServerError::LowPort(_, address, user) => write!(
                f,
                "cannot listen on {address}: evenly has become user {user}, who may not use ports below {}; restart it, so \
                 that it binds the port as root, or choose a higher one",
                first_open_port()
            ),
            ServerError::Lockdown(_, why) => write!(f, "{why}; write \"auto\" to do without"),
            ServerError::Landlocked(path) => write!(
                f,
                "cannot open {}: by security.landlock this process writes only in the folders that its files had when it was \
                 started; restart evenly to apply it",
                path.display()
            ),
            ServerError::Activation(error) => write!(f, "{error}"),
            ServerError::Predecessor(pid, why) => {
                write!(f, "process {pid}, whose place this one was to take: {why}")
            }
            ServerError::Follow(error) => write!(f, "health checks cannot follow it: {error}"),
            ServerError::Start(what, error) => write!(f, "cannot start {what}: {error}"),
            ServerError::Descriptors { limit, needed } => write!(
                f,
                "file descriptor limit is {limit}; at least {needed} are needed (ulimit -n, LimitNOFILE=)"
            ),
            ServerError::Workers => f.write_str("all workers have stopped; see the log above"),
            ServerError::AccessLog(sink, error) => fmt_access_log(f, sink, error),
            ServerError::Stuck(count) => {
                write!(f, "{count} workers did not stop; their connections are closed")
            }
        }
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// Whether it lies in what was configured, which stays so however often it is started.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, ServerError::Activation(_))
    }

    /// Itself with the place of the value that it is about, if it is about one that is written.
    pub fn placed(&self, places: &Places) -> Option<ConfigError> {
        places.error(&self.key()?, &self.to_string())
    }

    /// A line for each thing that is wrong, with the place of the value if it is written.
    pub fn lines(&self, places: &Places) -> Vec<String> {
        self.placed(places).map_or_else(|| vec![self.to_string()], |error| error.lines())
    }

    /// The key of the configuration whose value it is about, if it is about one: `listen[1]`.
    fn key(&self) -> Option<String> {
        match self {
            ServerError::Bind(at, ..) | ServerError::LowPort(at, ..) => {
                Some(format!("listen[{at}]"))
            }
            ServerError::User(..) => Some("user".to_owned()),
            ServerError::Lockdown(key, _) => Some((*key).to_owned()),
            ServerError::Landlocked(_) => Some("log.access".to_owned()),
            ServerError::BindAdmin(..) => Some("admin.listen".to_owned()),
            ServerError::Socket(..) => Some("admin.socket".to_owned()),
            ServerError::Token(_) => Some("admin.token_file".to_owned()),
            ServerError::Congestion(..) => Some("tcp.congestion".to_owned()),
            ServerError::AccessLog(..) => Some("log.access".to_owned()),
            ServerError::Start(..)
            | ServerError::Follow(_)
            | ServerError::Activation(_)
            | ServerError::Predecessor(..)
            | ServerError::Descriptors { .. }
            | ServerError::Workers
            | ServerError::Stuck(_) => None,
        }
    }
}

/// Why an address cannot be listened on, and the remedy.
fn fmt_bind(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error) -> fmt::Result {
    let (ip, port) = (address.ip(), address.port());
    write!(f, "cannot listen on {address}: ")?;
    match error.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "another process has it (ss -ltnp 'sport = :{port}' shows which); end that, or choose another address"
        ),
        io::ErrorKind::PermissionDenied if port < first_open_port() => write!(
            f,
            "this user may not use ports below {}: grant CAP_NET_BIND_SERVICE (AmbientCapabilities= of a systemd \
             unit), lower net.ipv4.ip_unprivileged_port_start, or choose a higher port",
            first_open_port()
        ),
        io::ErrorKind::PermissionDenied => write!(
            f,
            "a rule of this machine forbids it (SELinux, AppArmor or a cgroup's program); allow it there, or choose \
             another port"
        ),
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() && ip.is_loopback() => {
            write!(
                f,
                "IPv6 is off on this machine (net.ipv6.conf.lo.disable_ipv6); choose an IPv4 address"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            write!(
                f,
                "no interface of this machine has {ip} (ip address lists them); choose another address"
            )
        }
        _ if error.raw_os_error() == Some(EAFNOSUPPORT) => {
            write!(f, "this machine has no IPv6; choose an IPv4 address, such as 0.0.0.0:{port}")
        }
        _ if error.raw_os_error() == Some(EMFILE) => write!(
            f,
            "this process may have no more than {} files open; raise that limit (ulimit -n, LimitNOFILE= of a \
             systemd unit)",
            descriptors::limit()
        ),
        _ if error.raw_os_error() == Some(ENFILE) => write!(
            f,
            "this machine has no more room for open files; raise fs.file-max, or end what has them open"
        ),
        _ => write!(f, "{error}; choose another address"),
    }
}

/// Why there is no control socket, and the remedy.
fn fmt_socket(f: &mut fmt::Formatter<'_>, path: &Path, error: &io::Error) -> fmt::Result {
    write!(f, "no control socket can be made at {}: ", path.display())?;
    match error.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "another evenly has it; end that, or give this one another path or \"off\" in admin.socket"
        ),
        io::ErrorKind::NotFound => write!(f, "its folder does not exist; make that first"),
        io::ErrorKind::PermissionDenied => {
            write!(f, "this user may not write there; choose a folder that it may write to")
        }
        _ => write!(f, "{error}; write another path, or \"off\""),
    }
}

/// The lowest port that every user may listen on.
pub(super) fn first_open_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// What this kernel takes instead is read while formatting: the error is shown once, and then the process ends.
fn fmt_congestion(f: &mut fmt::Formatter<'_>, name: &str, error: &io::Error) -> fmt::Result {
    let of_kernel = |file: &str| {
        let path = format!("/proc/sys/net/ipv4/{file}");
        std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    };
    write!(f, "{name:?} is not available")?;
    match error.kind() {
        io::ErrorKind::PermissionDenied => write!(
            f,
            " to this user; write one that is ({}), or add it to net.ipv4.tcp_allowed_congestion_control",
            of_kernel("tcp_allowed_congestion_control")
        ),
        io::ErrorKind::NotFound => write!(
            f,
            " in this kernel; write one that is ({}), or load its module (modprobe tcp_{name})",
            of_kernel("tcp_available_congestion_control")
        ),
        _ => write!(f, ": {error}; leave the key out for the system's"),
    }
}

/// Why the access log cannot be opened, and the remedy.
fn fmt_access_log(f: &mut fmt::Formatter<'_>, sink: &AccessSink, error: &io::Error) -> fmt::Result {
    let AccessSink::File(path) = sink else {
        return write!(f, "cannot write to standard output: {error}; give it one, or write a path");
    };
    let folder = path.parent().unwrap_or(path);
    write!(f, "cannot open {}: {error}; ", path.display())?;
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => write!(
            f,
            "write a path on a file system that can be written (LogsDirectory= of a systemd unit makes one)"
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            write!(f, "free some room there, or write a path elsewhere")
        }
        io::ErrorKind::NotFound if folder.is_dir() => {
            write!(f, "no file can be made in {}; write a path in another folder", folder.display())
        }
        io::ErrorKind::NotFound => write!(f, "make the folder {} first", folder.display()),
        io::ErrorKind::PermissionDenied => {
            write!(f, "let this user write to the file, or to the folder {}", folder.display())
        }
        io::ErrorKind::IsADirectory => write!(f, "write the path of a file in this folder"),
        io::ErrorKind::NotADirectory => {
            write!(f, "{} is not a folder; write the path of a file in one", folder.display())
        }
        _ => write!(f, "write the path of a file, \"stdout\" or \"off\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_descriptor_for_it_is_not_blamed() {
        let shown = |errno| {
            let address = SocketAddr::from(([0, 0, 0, 0], 80));
            ServerError::Bind(0, address, io::Error::from_raw_os_error(errno)).to_string()
        };
        let limit = descriptors::limit();
        assert_eq!(
            shown(EMFILE),
            format!(
                "cannot listen on 0.0.0.0:80: this process may have no more than {limit} files open; raise that \
                 limit (ulimit -n, LimitNOFILE= of a systemd unit)"
            )
        );
        assert!(shown(ENFILE).contains("raise fs.file-max"), "{}", shown(ENFILE));
    }
}
