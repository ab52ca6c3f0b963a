//! A reload: the file is read again, compared with what is in force, and applied: all of it or nothing.
//!
//! Owns the order. What can fail comes first: the file is valid, nothing has changed that only a start reads, there are
//! descriptors, every new address is listened on by sockets for all workers, the access log can be written. Only then do workers
//! get their errands, and the health thread the plan, whose publication has them run. Nothing here touches a connection that
//! is open.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::writer::{Outlet, Writer};
use crate::balance::Shared;
use crate::config::{self, Change, ConfigError, Places};
use crate::health::Health;
use crate::metrics::Counters;
use crate::settings::{Plan, Settings, Timeouts};
use crate::worker::listener::{self, ListenerId, Scope};
use crate::worker::{Crew, Errand};

use super::confine::Confinement;
use super::stop::Stop;
use super::watch::FileWatch;
use super::{ServerError, descriptors, memory};

/// How long workers may take to follow a plan. One that is at a long turn does it after that.
pub(super) const FOLLOW_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether they do.
pub(super) const LOOK: Duration = Duration::from_micros(200);

/// Where the configuration came from.
pub struct Reread {
    /// The file.
    pub path: PathBuf,
    /// Reads it again.
    pub read: Box<dyn Fn() -> Result<(Settings, Places), ConfigError> + Send>,
}

impl Reread {
    /// The absolute path of the file, if it is text.
    pub(super) fn written(&self) -> Option<Arc<str>> {
        std::path::absolute(&self.path).ok()?.to_str().map(Arc::from)
    }
}

/// What a reload works on: what is in force, and who is to follow.
pub(super) struct Running {
    /// As they were written.
    pub(super) settings: Settings,
    /// What was in force before the last reload.
    pub(super) previous: Option<Settings>,
    /// `None`: there is no file.
    pub(super) reread: Option<Reread>,
    /// `None`: changes of the file are not looked for.
    pub(super) watch: Option<FileWatch>,
    /// Descriptors that were open when it started.
    pub(super) open: u64,
    /// The addresses that are listened on, in the order of the file.
    pub(super) listeners: Vec<Listening>,
    /// What is done to stop, as long as it is.
    pub(super) stop: Option<Stop>,
    /// What the process may not do any more.
    pub(super) confinement: Confinement,
    pub(super) crew: Arc<Crew>,
    pub(super) shared: Arc<Shared>,
    pub(super) health: Health,
    pub(super) writer: Option<Writer>,
    /// Entries of the access log that were lost, by this writer and those before it.
    pub(super) losses: Arc<Counters>,
}

/// An address that is listened on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listening {
    /// As it is written.
    pub(super) written: SocketAddr,
    /// With the port that the kernel chose, if it did.
    pub(super) bound: SocketAddr,
    pub(super) id: ListenerId,
}

/// What a reload did.
pub(super) struct Applied {
    generation: u64,
    took: Duration,
    changes: Vec<Change>,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Applied { generation, took, changes } = self;
        if changes.is_empty() {
            return write!(f, "nothing has changed; generation {generation} stays in force");
        }
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        write!(
            f,
            "applied generation {generation} in {} ms: {}",
            took.as_millis(),
            changes.join(", ")
        )
    }
}

/// Why a reload changed nothing.
pub(super) enum ReloadError {
    /// The configuration came from the command line alone, or from standard input.
    NoFile,
    /// The file is not valid.
    File(ConfigError),
    /// These keys are read at the start only.
    AtStart(Vec<Change>),
    /// An address that comes or goes changes what another one takes.
    Scope(SocketAddr),
    /// There was no reload yet.
    NothingBefore,
    /// Something that the new plan needs is not available; where it is written.
    Server(ServerError, Places),
}

impl ReloadError {
    /// A line for each thing that is wrong.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            ReloadError::NoFile => vec![
                "there is no file to read again: evenly was started without one, or from standard input; restart it to \
                 change its configuration"
                    .to_owned(),
            ],
            ReloadError::NothingBefore => {
                vec!["there was no reload since the start, so that there is nothing to go back to".to_owned()]
            }
            ReloadError::File(error) => error.lines(),
            ReloadError::AtStart(changes) => changes
                .iter()
                .map(|change| format!("{change}: read at startup only; evenly upgrade or a restart applies it"))
                .collect(),
            ReloadError::Scope(address) => vec![format!(
                "listen: what {address} takes would change with the other addresses; restart evenly to apply it"
            )],
            ReloadError::Server(error, places) => error.lines(places),
        }
    }
}

/// What a plan needs, ready to be handed out.
struct Prepared {
    plan: Plan,
    /// The addresses of the new plan, each with the listener it has or gets.
    listeners: Vec<Listening>,
    /// New ones: a socket for each worker.
    added: Vec<(ListenerId, Vec<std::net::TcpListener>)>,
    removed: Vec<ListenerId>,
    /// Another access log, if it is to be another one.
    log: Option<Option<(Writer, Outlet)>>,
    room: (usize, usize),
    memory: usize,
}

impl Running {
    /// That of the snapshot in force.
    pub(super) fn generation(&self) -> u64 {
        self.shared.snapshot.load().generation
    }

    /// Those in force.
    pub(super) fn timeouts(&self) -> Timeouts {
        self.shared.snapshot.load().plan.timeouts
    }

    /// Reads the file again and applies what it says.
    pub(super) fn reload(&mut self) -> Result<Applied, ReloadError> {
        // Before it is read: what is written meanwhile is another change.
        if let Some(watch) = &mut self.watch {
            watch.note();
        }
        let (settings, places) = self.reread()?;
        self.follow(settings, places)
    }

    /// Applies again what was in force before the last reload. Doing it twice changes nothing.
    pub(super) fn roll_back(&mut self) -> Result<Applied, ReloadError> {
        let before = self.previous.clone().ok_or(ReloadError::NothingBefore)?;
        self.follow(before, Places::default())
    }

    /// What a reload would change, in a line for each.
    pub(super) fn compare_with_file(&self) -> Result<String, ReloadError> {
        let (settings, _) = self.reread()?;
        let changes = self.changes(&settings)?;
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Ok(if lines.is_empty() { "nothing would change".to_owned() } else { lines.join("\n") })
    }

    fn reread(&self) -> Result<(Settings, Places), ReloadError> {
        let reread = self.reread.as_ref().ok_or(ReloadError::NoFile)?;
        (reread.read)().map_err(ReloadError::File)
    }

    /// In what `settings` differ from those in force, if a reload may change all of it.
    fn changes(&self, settings: &Settings) -> Result<Vec<Change>, ReloadError> {
        let changes = config::changes(&self.settings, settings);
        let at_start: Vec<Change> = changes.iter().filter(|it| !it.reload).cloned().collect();
        if at_start.is_empty() { Ok(changes) } else { Err(ReloadError::AtStart(at_start)) }
    }

    fn follow(&mut self, settings: Settings, places: Places) -> Result<Applied, ReloadError> {
        let begun = Instant::now();
        let changes = self.changes(&settings)?;
        if changes.is_empty() {
            let generation = self.shared.snapshot.load().generation;
            return Ok(Applied { generation, took: begun.elapsed(), changes });
        }
        let prepared = self.prepare(&settings, &places)?;
        let generation = self
            .apply(prepared)
            .map_err(|error| ReloadError::Server(ServerError::Follow(error), places))?;
        self.previous = Some(std::mem::replace(&mut self.settings, settings));
        Ok(Applied { generation, took: begun.elapsed(), changes })
    }

    /// Everything that can fail. Dropping what it returns undoes it.
    fn prepare(&self, settings: &Settings, places: &Places) -> Result<Prepared, ReloadError> {
        let failed = |error| ReloadError::Server(error, places.clone());
        let count = self.crew.peers.len();
        let shares = descriptors::share_out(settings, count, self.open).map_err(failed)?;
        let (listeners, added, removed) = self.relisten(settings, places)?;
        let log = match settings.plan.log == self.settings.plan.log {
            true => None,
            false => {
                if let Some(error) = self.confinement.forbids(&settings.plan.log.access) {
                    return Err(failed(error));
                }
                let log = Writer::start_counting(&settings.plan.log, Arc::clone(&self.losses));
                let sink = || settings.plan.log.access.clone();
                Some(log.map_err(|error| failed(ServerError::AccessLog(sink(), error)))?)
            }
        };
        let mut plan = settings.plan.clone();
        plan.limits.connections = Some(shares.clients);
        plan.listen = listeners.iter().map(|it| it.bound).collect();
        Ok(Prepared {
            plan,
            listeners,
            added,
            removed,
            log,
            room: (shares.clients, shares.of_worker),
            memory: memory::for_buffers(settings),
        })
    }

    /// Sockets for the addresses that come, and which listeners go.
    #[expect(clippy::type_complexity, reason = "taken apart where it is returned")]
    fn relisten(
        &self,
        settings: &Settings,
        places: &Places,
    ) -> Result<
        (Vec<Listening>, Vec<(ListenerId, Vec<std::net::TcpListener>)>, Vec<ListenerId>),
        ReloadError,
    > {
        let wanted = &settings.plan.listen;
        let before = listener::scopes(&self.settings.plan.listen);
        let mut left: Vec<(Listening, Scope)> =
            self.listeners.iter().copied().zip(before).collect();
        let next = self.listeners.iter().map(|it| it.id.0 + 1).max().unwrap_or(0);
        let mut next = ListenerId(next);
        let (mut listeners, mut added) = (Vec::new(), Vec::new());
        for (at, (&address, scope)) in wanted.iter().zip(listener::scopes(wanted)).enumerate() {
            if let Some(known) = left.iter().position(|(it, _)| it.written == address) {
                let (kept, before) = left.remove(known);
                if before.ipv4_too != scope.ipv4_too {
                    return Err(ReloadError::Scope(address));
                }
                listeners.push(kept);
                continue;
            }
            let overlaps = self.settings.plan.listen.iter().any(|it| it.port() == address.port());
            let claim = match overlaps && address.port() != 0 {
                true => listener::claim_beside,
                false => listener::claim,
            };
            let (bound, sockets) = claim(address, scope, &settings.boot.tcp)
                .and_then(|claim| Ok((claim.address(), claim.listen(self.crew.peers.len())?)))
                .map_err(|error| {
                    ReloadError::Server(self.confinement.bind(at, address, error), places.clone())
                })?;
            listeners.push(Listening { written: address, bound, id: next });
            added.push((next, sockets));
            next = ListenerId(next.0 + 1);
        }
        let removed = left.into_iter().map(|(it, _)| it.id).collect();
        Ok((listeners, added, removed))
    }

    /// Hands everything out and has the plan published. Its generation.
    fn apply(&mut self, prepared: Prepared) -> io::Result<u64> {
        let Prepared { plan, listeners, added, removed, log, room, memory } = prepared;
        let plan = Arc::new(plan);
        let new: Vec<ListenerId> = added.iter().map(|(id, _)| *id).collect();
        let bound = |all: &[Listening], which: &[ListenerId]| -> Vec<SocketAddr> {
            all.iter().filter(|it| which.contains(&it.id)).map(|it| it.bound).collect()
        };
        let (opened, closed) = (bound(&listeners, &new), bound(&self.listeners, &removed));
        for (id, sockets) in added {
            for (at, socket) in sockets.into_iter().enumerate() {
                self.crew.send(at, Errand::Listen(id, socket));
            }
        }
        // A worker reads it when it follows the plan, which may be before the health thread has answered.
        let room_before = self.crew.set_room(room.0, room.1);
        let generation = self.health.follow(Arc::clone(&plan)).inspect_err(|_| {
            self.crew.set_room(room_before.0, room_before.1);
            self.send_all(|| new.iter().map(|&id| Errand::Unlisten(id)).collect());
        })?;
        self.shared.memory.set_limit(memory, self.crew.peers.len());
        self.send_all(|| removed.iter().map(|&id| Errand::Unlisten(id)).collect());
        if let Some(log) = log {
            let (writer, outlet) = log.unzip();
            self.send_all(|| vec![Errand::Log(outlet.clone())]);
            if let Some(before) = std::mem::replace(&mut self.writer, writer) {
                // It ends when the workers have let go of it, or gives up on what takes nothing.
                let end = move || before.finish(|| false);
                if let Err(error) = std::thread::Builder::new().name("log-end".into()).spawn(end) {
                    log::warn!("the access log before is not waited for: {error}");
                }
            }
        }
        self.listeners = listeners;
        self.await_workers(generation);
        self.compare(&plan);
        opened.iter().for_each(|address| log::info!("listening on http://{address}"));
        closed.iter().for_each(|address| log::info!("no longer listening on {address}"));
        Ok(generation)
    }

    /// Counts a reload or rollback that was applied or refused.
    pub(super) fn count_reload(&self, applied: bool) {
        let last = &self.shared.last_reload;
        last.refused.set(u64::from(!applied));
        match applied {
            true => {
                self.losses.reloads_applied.bump();
                last.applied_at.set(super::seconds_since_1970());
            }
            false => self.losses.reloads_refused.bump(),
        }
    }

    fn send_all(&self, errands: impl Fn() -> Vec<Errand>) {
        for at in 0..self.crew.peers.len() {
            errands().into_iter().for_each(|errand| self.crew.send(at, errand));
        }
        self.crew.wake();
    }

    pub(super) fn await_workers(&self, generation: u64) {
        let until = Instant::now() + FOLLOW_TIME;
        while !self.crew.follow(generation) {
            if Instant::now() >= until {
                log::warn!(
                    "not every worker follows generation {generation} after {FOLLOW_TIME:?}"
                );
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Logs in what the state differs from what it should be.
    fn compare(&self, plan: &Arc<Plan>) {
        let snapshot = self.shared.snapshot.load();
        if !Arc::ptr_eq(&snapshot.plan, plan) {
            log::error!("after the reload another plan is in force than the one that was applied");
        }
        let (targets, planned) = (snapshot.targets(), plan.targets.len());
        if targets != planned {
            log::error!(
                "after the reload there are {targets} targets, but {planned} are configured"
            );
        }
        for (at, listeners) in self.crew.listeners().enumerate() {
            let planned = self.listeners.len();
            if listeners != planned {
                log::error!("worker {at} has {listeners} listeners, but {planned} are configured");
            }
        }
    }
}
