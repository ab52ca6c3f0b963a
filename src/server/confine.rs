//! What the process gives up once it has opened what it needs, in this order: new privileges (`no_new_privs`), root (`user`), writing
//! anywhere else (Landlock), system calls that it does not make (seccomp). All but the first before anything of a client, a target or a
//! name server is read.
//!
//! Owns the order, and what is said of it. Invariant: all of it happens while the main thread is alone, because Landlock holds for
//! the thread that asks for it and those that it starts.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{self, Gid, Group, Uid, User};

use crate::settings::{AccessSink, Lockdown, RunAs, Settings};

use super::reload::Reread;
use super::sockets::PreparedAddress;
use super::{ServerError, calls, error};

/// Variable of a process whose predecessor has confined it: a second layer of Landlock would forbid nothing more, and the kernel
/// takes 16 at most.
const MARK: &str = "EVENLY_LANDLOCK";

/// What is in force.
#[derive(Debug, Clone, Default)]
pub(super) struct Confinement {
    /// Whom the process became; `None` if it is who it was.
    user: Option<RunAs>,
    landlock: Option<Locked>,
    seccomp: bool,
}

/// A Landlock.
#[derive(Debug, Clone)]
struct Locked {
    /// The version of the kernel's interface.
    abi: u32,
    /// Where logs may be written.
    folders: Vec<PathBuf>,
    /// It is the predecessor's, and so are its folders.
    is_inherited: bool,
}

impl fmt::Display for Confinement {
    /// `user evenly, no_new_privs, landlock ABI 6, seccomp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "user {user}")?,
            None => write!(f, "uid {}", unistd::geteuid())?,
        }
        f.write_str(", no_new_privs")?;
        if let Some(locked) = &self.landlock {
            write!(f, ", landlock ABI {}", locked.abi)?;
        }
        f.write_str(if self.seccomp { ", seccomp" } else { "" })
    }
}

impl Confinement {
    /// The error of an address that cannot be bound.
    pub(super) fn bind(&self, at: usize, address: SocketAddr, error: io::Error) -> ServerError {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        match &self.user {
            Some(user) if is_denied && address.port() < error::first_open_port() => {
                ServerError::LowPort(at, address, user.clone())
            }
            _ => ServerError::Bind(at, address, error),
        }
    }

    /// Why this log cannot be opened, if it is for Landlock.
    pub(super) fn forbids(&self, log: &AccessSink) -> Option<ServerError> {
        let (AccessSink::File(path), Some(locked)) = (log, &self.landlock) else { return None };
        let folder = fs::canonicalize(folder_of(path)).ok()?;
        let is_open = locked.folders.iter().any(|open| folder.starts_with(open));
        (!is_open).then(|| ServerError::Landlocked(path.clone()))
    }

    /// The error of a start that cannot open this log.
    pub(super) fn blame(&self, log: &AccessSink, error: io::Error) -> ServerError {
        let is_inherited = self.landlock.as_ref().is_some_and(|locked| locked.is_inherited);
        match log {
            AccessSink::File(path)
                if is_inherited && error.kind() == io::ErrorKind::PermissionDenied =>
            {
                ServerError::Landlocked(path.clone())
            }
            _ => ServerError::AccessLog(log.clone(), error),
        }
    }

    /// What a successor of this process is to have in its environment, if it inherits a Landlock.
    pub(super) fn mark(&self) -> Option<(&'static str, String)> {
        self.landlock.as_ref().map(|locked| (MARK, locked.abi.to_string()))
    }
}

/// From here on no program that is run gives this process more rights than it has, whatever bits its file has.
pub(super) fn no_new_privileges() -> Result<(), ServerError> {
    prctl::set_no_new_privs()
        .map_err(|errno| ServerError::Start("a process without new privileges", errno.into()))
}

/// A user of this machine that the process is to become, or is already.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    written: RunAs,
    /// As the system has it; `None` if it has no name for the number.
    name: Option<CString>,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    /// The user of the settings. `None` if the process stays who it is: there is none, or it is that user.
    ///
    /// # Errors
    /// This machine does not have it, or this process cannot become it.
    pub(super) fn of(settings: &Settings) -> Result<Option<Identity>, ServerError> {
        let is_root = unistd::geteuid().is_root();
        let Some(written) = &settings.boot.user else {
            if is_root {
                log::warn!(
                    "running as root, which evenly needs for nothing once it has bound its ports: write user = \"NAME\" in its \
                     file, or start it as another user"
                );
            }
            return Ok(None);
        };
        let failed = |why: String| ServerError::User(written.clone(), why);
        let found = Identity::find(written).map_err(failed)?;
        if is_root {
            return Ok(Some(found));
        }
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        match uid == found.uid && (gid == found.gid || written.group.is_none()) {
            true => Ok(None),
            false => Err(failed(format!(
                "only root can become another user, and evenly was started with uid {uid} and gid {gid}; start it as root, or \
                 as that user, or remove the key"
            ))),
        }
    }

    fn find(written: &RunAs) -> Result<Identity, String> {
        let asked =
            |what: &str, errno: Errno| format!("this machine cannot look up {what}: {errno}");
        let known = match written.user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(&written.user),
        };
        let known = known.map_err(|errno| asked("users", errno))?;
        let number = written.user.parse().ok().map(Uid::from_raw);
        let uid = known.as_ref().map(|user| user.uid).or(number).ok_or_else(|| {
            let make = format!("useradd --system --no-create-home {}", written.user);
            format!("this machine has no such user; make it ({make}), or write another")
        })?;
        let gid = match &written.group {
            None => known.as_ref().map(|user| user.gid).ok_or_else(|| {
                format!("its group is not known, because this machine has no user of that number; write \"{uid}:GROUP\"")
            })?,
            Some(group) => match group.parse() {
                Ok(number) => Gid::from_raw(number),
                Err(_) => Group::from_name(group)
                    .map_err(|errno| asked("groups", errno))?
                    .map(|group| group.gid)
                    .ok_or_else(|| format!("this machine has no group \"{group}\"; write another"))?,
            },
        };
        let name = known.and_then(|user| CString::new(user.name).ok());
        Ok(Identity { written: written.clone(), name, uid, gid })
    }

    /// Gives it a file or folder that this process has just made where nobody but root can put another in its place.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Does something as this user, for a moment: in a folder where others may put what they like.
    pub(super) fn acting<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        unistd::setegid(self.gid)?;
        let done = unistd::seteuid(self.uid).map_err(io::Error::from).and_then(|()| {
            let done = act();
            unistd::seteuid(uid)?;
            done
        });
        unistd::setegid(gid)?;
        done
    }

    /// Has the sockets of these addresses, one for each worker, which others of this user may join: the kernel shares an address
    /// among the sockets of one user only.
    fn bind(&self, prepared: &mut [PreparedAddress], workers: usize) -> Result<(), ServerError> {
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        for (at, one) in prepared.iter_mut().enumerate() {
            let address = one.address();
            one.bind_for(workers, |socket| std::os::unix::fs::fchown(socket, Some(uid), Some(gid)))
                .map_err(|error| ServerError::Bind(at, address, error))?;
        }
        Ok(())
    }

    /// Makes the access log, if only root can: in a folder of root's alone, where nobody can have it make another file.
    fn make_log(&self, log: &AccessSink) {
        let AccessSink::File(path) = log else { return };
        if !only_roots(folder_of(path)) {
            return;
        }
        // What is there already stays whose it is; whether the user may write to it is seen when the log is opened.
        let made = OpenOptions::new().append(true).create_new(true).open(path);
        let (uid, gid) = (Some(self.uid.as_raw()), Some(self.gid.as_raw()));
        if let Err(error) = made.and_then(|file| std::os::unix::fs::fchown(&file, uid, gid)) {
            log::debug!("{} is not made by root: {error}", path.display());
        }
    }

    /// Becomes this user, in every thread, for good.
    fn assume(&self) -> Result<(), ServerError> {
        let failed = |why: String| ServerError::User(self.written.clone(), why);
        let become_it = || {
            match &self.name {
                Some(name) => unistd::initgroups(name, self.gid)?,
                None => unistd::setgroups(&[self.gid])?,
            }
            unistd::setresgid(self.gid, self.gid, self.gid)?;
            unistd::setresuid(self.uid, self.uid, self.uid)
        };
        become_it().map_err(|errno| {
            failed(format!(
                "this root may not become another user ({errno}): it lacks CAP_SETUID or CAP_SETGID, as in a container that drops \
                 them; start evenly as that user, and remove the key"
            ))
        })?;
        let now = unistd::getresuid().ok().zip(unistd::getresgid().ok()).map(|(uids, gids)| {
            let is_user = [uids.real, uids.effective, uids.saved].iter().all(|it| *it == self.uid);
            is_user && [gids.real, gids.effective, gids.saved].iter().all(|it| *it == self.gid)
        });
        let is_back = !self.uid.is_root() && unistd::seteuid(Uid::from_raw(0)).is_ok();
        match now == Some(true) && !is_back {
            true => Ok(()),
            false => Err(failed(
                "the kernel leaves a way back to root; evenly does not run so".to_owned(),
            )),
        }
    }
}

/// Whether nobody but root can change what is at this path: no part of it is a link, or is another's to write.
pub(super) fn only_roots(folder: &Path) -> bool {
    let is_roots = |part: &Path| {
        fs::symlink_metadata(part)
            .is_ok_and(|it| it.is_dir() && it.uid() == 0 && it.mode() & 0o022 == 0)
    };
    folder.is_absolute() && folder.ancestors().all(is_roots)
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives everything up. The sockets of `claims` are bound for so many workers before, and `socket` is the control socket's path.
///
/// # Errors
/// The process cannot become the user, or lacks what the settings do not do without.
pub(super) fn enter(
    settings: &Settings,
    user: Option<Identity>,
    (prepared, workers): (&mut [PreparedAddress], usize),
    socket: Option<&Path>,
    reread: Option<&Reread>,
) -> Result<Confinement, ServerError> {
    let mut confinement =
        Confinement { user: settings.boot.user.clone(), ..Confinement::default() };
    if let Some(user) = user {
        user.bind(prepared, workers)?;
        user.make_log(&settings.plan.log.access);
        user.assume()?;
        if let Some(Err(error)) = reread.map(|reread| fs::File::open(&reread.path)) {
            log::warn!(
                "user {} cannot read the configuration file ({error}): no reload will be able to; let that user read it",
                user.written
            );
        }
    }
    let security = settings.boot.security;
    let landlocked = |why| wanted(security.landlock, "security.landlock", why);
    let files = Files::of(&settings.plan.log.access, socket);
    confinement.landlock = match (files.inherited(), security.landlock) {
        (Some(locked), Lockdown::Off) => {
            log::warn!(
                "security.landlock is off, but the process whose place this one takes had it on, and it stays in force; \
                 restart evenly to end it"
            );
            Some(locked)
        }
        (Some(locked), _) => Some(locked),
        (None, Lockdown::Off) => None,
        (None, _) => files.lock().map(Some).or_else(landlocked)?,
    };
    if security.seccomp != Lockdown::Off {
        let filtered = calls::filter().map(Some);
        let filtered = filtered.or_else(|why| wanted(security.seccomp, "security.seccomp", why))?;
        confinement.seccomp = filtered.is_some();
    }
    log::info!("confined: {confinement}");
    Ok(confinement)
}

/// The kernel lacks something.
fn wanted<T>(wish: Lockdown, key: &'static str, why: String) -> Result<Option<T>, ServerError> {
    if wish == Lockdown::On {
        return Err(ServerError::Lockdown(key, why));
    }
    log::warn!("{key} is off: {why}");
    Ok(None)
}

/// Where files are written.
struct Files {
    /// Where the access log is: as written, and where links lead.
    logs: Vec<PathBuf>,
    sockets: Vec<PathBuf>,
}

impl Files {
    fn of(log: &AccessSink, socket: Option<&Path>) -> Files {
        let logs = match log {
            AccessSink::File(path) => {
                let real = fs::canonicalize(path).ok();
                let folder = |path: &Path| folder_of(path).to_owned();
                [Some(folder(path)), real.as_deref().map(folder)].into_iter().flatten().collect()
            }
            AccessSink::Off | AccessSink::Stdout => Vec::new(),
        };
        Files { logs, sockets: socket.map(|path| folder_of(path).to_owned()).into_iter().collect() }
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.logs.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect()
    }

    /// What a predecessor has put in force, whatever is wanted now: nothing takes it away.
    fn inherited(&self) -> Option<Locked> {
        let abi = std::env::var(MARK).ok()?.parse().ok()?;
        is_locked().then(|| Locked { abi, folders: self.folders(), is_inherited: true })
    }

    /// What holds from now on, or what the kernel lacks.
    fn lock(&self) -> Result<Locked, String> {
        let status = self.restrict().map_err(|error| format!("Landlock: {error}"))?;
        match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Err("this kernel has Landlock, but was started without it (lsm=)".to_owned())
            }
            (RulesetStatus::NotEnforced, _) => {
                Err("this kernel has no Landlock; Linux has it since 5.13".to_owned())
            }
            (_, status) => {
                let abi = ABI::from(status) as u32;
                Ok(Locked { abi, folders: self.folders(), is_inherited: false })
            }
        }
    }

    fn restrict(&self) -> Result<landlock::RestrictionStatus, RulesetError> {
        // Rights to write as of version 3: later ones are about devices and about connecting to Unix sockets, which targets may be.
        let log: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
        let socket: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile;
        Ruleset::default()
            .handle_access(AccessFs::from_write(ABI::V3))?
            .create()?
            .add_rules(path_beneath_rules(&self.logs, log))?
            .add_rules(path_beneath_rules(&self.sockets, socket))?
            // What a child process without input or output gets.
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::WriteFile))?
            .restrict_self()
    }
}

/// Whether a file that everybody may write to cannot be opened for that.
fn is_locked() -> bool {
    let opened = OpenOptions::new().write(true).open("/dev/zero");
    opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
