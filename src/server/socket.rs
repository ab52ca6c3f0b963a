//! The control socket: where it is made, and that it goes with the process.
//!
//! Owns the file. Only this user and root can open it: it has mode 0600 before it has its name. One that a process left behind is
//! taken over; one at which somebody listens is another instance's.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::admin::Door;
use crate::remote::{self, is_alive};
use crate::settings::ControlSocket;

use super::ServerError;
use super::confine::{Identity, only_roots};
use super::sockets::Inherited;

/// Visitors that may wait in the kernel.
const BACKLOG: i32 = 16;
/// Files of a folder that are looked at when a socket is made there.
const MOST_SWEPT: usize = 1_000;

/// The file of a control socket. Dropping it removes the file, unless another process has put its own there.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Another process removes it.
    is_left: bool,
}

impl Held {
    /// The file is this process's from now on: until it serves, it is its predecessor's.
    pub(super) fn kept(mut self) -> Held {
        self.is_left = false;
        self
    }

    /// Leaves the file to a successor, which has the socket too.
    pub(super) fn leave(mut self) {
        self.is_left = true;
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_left && identity(&self.path).is_ok_and(|now| now == self.identity) {
            // It may be gone already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

/// Makes the socket of a process that listens on `first` and becomes `owner`, alone or, if it `shares` that, beside others, or takes
/// over that of its predecessor. `None` if it is off, or has no place.
pub(super) fn open(
    setting: &ControlSocket,
    first: SocketAddr,
    shares: bool,
    owner: Option<&Identity>,
    inherited: &mut Inherited,
) -> Result<Option<(Door, Held)>, ServerError> {
    let is_ours = |path: &Path| match setting {
        ControlSocket::Off => false,
        ControlSocket::Path(own) => own == path,
        ControlSocket::Auto => {
            let is_there = remote::folders().iter().any(|folder| path.parent() == Some(folder));
            is_there && path.file_name().is_some_and(|name| remote::is_name_of(first, name))
        }
    };
    if let Some((path, socket)) = inherited.control(is_ours)
        && let Ok(identity) = identity(&path)
    {
        // Whoever does not come to serve takes nothing away.
        let held = Held { path, identity, is_left: true };
        return Ok(Some((Door { socket, is_trusted: true }, held)));
    }
    match setting {
        ControlSocket::Off => Ok(None),
        ControlSocket::Path(path) => {
            bind_as(path, owner).map(Some).map_err(|error| ServerError::Socket(path.clone(), error))
        }
        ControlSocket::Auto => {
            for folder in remote::folders() {
                let alone = folder.join(remote::name(first));
                let path = match shares {
                    // One that does not share is not to be joined, which the kernel does not see to.
                    true if is_alive(&alone) && alone.exists() => alone,
                    true => folder.join(remote::shared_name(first, std::process::id())),
                    false => alone,
                };
                // The folder above it is somebody else's to make.
                match make_folder(&folder, owner).err().map(|error| error.kind()) {
                    None | Some(ErrorKind::AlreadyExists) => {}
                    Some(_) => continue,
                }
                sweep(&folder);
                match bind_as(&path, owner) {
                    Ok(made) => return Ok(Some(made)),
                    Err(error) if error.kind() == ErrorKind::AddrInUse => {
                        return Err(ServerError::Socket(path, error));
                    }
                    Err(error) => log::debug!("no control socket at {}: {error}", path.display()),
                }
            }
            Ok(None)
        }
    }
}

/// Makes a folder in which the owner of the sockets may remove them again.
fn make_folder(folder: &Path, owner: Option<&Identity>) -> io::Result<()> {
    let above = folder.parent().unwrap_or(folder);
    match owner {
        Some(owner) if only_roots(above) => {
            fs::create_dir(folder)?;
            owner.give(folder)
        }
        Some(owner) => owner.acting(|| fs::create_dir(folder)),
        None => fs::create_dir(folder),
    }
}

/// Makes the socket so that it is the owner's. Where others may write, what root does could be led elsewhere by a link: it is done as
/// the owner there.
fn bind_as(path: &Path, owner: Option<&Identity>) -> io::Result<(Door, Held)> {
    match owner {
        Some(owner) if path.parent().is_some_and(only_roots) => {
            bind(path, |fresh| owner.give(fresh))
        }
        Some(owner) => owner.acting(|| bind(path, |_| Ok(()))),
        None => bind(path, |_| Ok(())),
    }
}

/// Removes the sockets at which nobody listens any more: of processes that were killed. One that lives listens before it has
/// its name.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(MOST_SWEPT) {
        let path = entry.path();
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let is_named = path.extension().is_some_and(|extension| extension == "sock");
        if is_socket && is_named && !is_alive(&path) {
            // Another process may have removed it meanwhile.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Makes the socket; `prepare` gets the path of its file before it is the one that it will have.
fn bind(path: &Path, prepare: impl Fn(&Path) -> io::Result<()>) -> io::Result<(Door, Held)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "another file has that name"));
        }
        Ok(_) if is_alive(path) => return Err(ErrorKind::AddrInUse.into()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    // What an earlier process of this number left.
    let _ = fs::remove_file(&fresh);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&fresh)?)?;
    let ready = || {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        prepare(&fresh)?;
        socket.listen(BACKLOG)?;
        fs::rename(&fresh, path)?;
        identity(path)
    };
    let identity = ready().inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    Ok((
        Door { socket, is_trusted: true },
        Held { path: path.to_owned(), identity, is_left: false },
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn at(path: &Path) -> Result<Option<(Door, Held)>, ServerError> {
        let setting = ControlSocket::Path(path.to_owned());
        open(&setting, ([127, 0, 0, 1], 1).into(), false, None, &mut Inherited::default())
    }

    #[test]
    fn a_socket_is_for_its_user_alone_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let made = at(&path).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(made);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn sockets_of_processes_that_were_killed_are_swept_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _alive = std::os::unix::net::UnixListener::bind(at("alive.sock")).unwrap();
        for name in ["dead.sock", "other"] {
            drop(std::os::unix::net::UnixListener::bind(at(name)).unwrap());
        }
        fs::write(at("file.sock"), "").unwrap();
        sweep(folder.path());
        let names = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["alive.sock", "file.sock", "other"]);
    }

    #[test]
    fn a_process_that_accepts_nobody_is_alive_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        assert!(is_alive(&path), "its backlog is full");
        sweep(folder.path());
        assert!(path.exists());
        drop((waiting, listener));
        assert!(!is_alive(&path));
    }

    #[test]
    fn one_that_was_left_is_taken_over_and_one_that_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (door, held) = at(&path).unwrap().unwrap();
        let error = at(&path).unwrap_err().to_string();
        assert!(error.contains("another evenly"), "{error}");
        // Whoever took its place keeps it.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop((door, held));
        assert!(path.exists());
        assert!(at(&path).is_err(), "it is no socket");
    }
}
