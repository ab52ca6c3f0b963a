//! An upgrade, as the process that is to be replaced sees it: another one is started, gets the sockets and what is known, and has
//! to say that it serves before this one accepts nobody any more.
//!
//! Owns the attempt. Invariants: there is one at a time; until the successor gets the word to take over, ending it costs nothing, and
//! whatever goes wrong ends it and changes nothing; the main thread never waits for it but to end it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use rustix::process::{Pid, Signal, kill_process};

use crate::access::writer::Lender;
use crate::admin::{Admin, Sources, Totals};
use crate::command::{Answer, Reply};
use crate::health::Recorder;
use crate::metrics::accepts::accepted_key;
use crate::metrics::endpoint::EndpointTotals;
use crate::metrics::reason_key;
use crate::settings::AccessSink;
use crate::worker::listener::ListenerId;
use crate::worker::{Crew, Errand};

use super::handover::{
    Counted, EndpointTally, Handed, PROTOCOL, Pair, Role, Serving, State, Takeover, Word,
};
use super::predecessor::VARIABLE;
use super::reload::{Listening, Running};
use super::socket::Held;
use super::supervisor::Supervisor;
use super::{Event, stop};

/// How long a worker may take to lend its sockets. One at a long turn does it after that.
const LEND_TIME: Duration = Duration::from_secs(5);
/// How long a successor that has gone silent may take to end by itself, so that its exit status can be said.
const END_TIME: Duration = Duration::from_millis(500);
const UNDER_WAY: &str = "an upgrade is under way";
/// How often the successor hears what this process counts while it drains.
const REPORT: Duration = Duration::from_millis(500);

/// How this process was started, to start its successor in the same way.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Why there can be no successor.
    obstacle: Option<&'static str>,
}

impl Launch {
    /// That of this process, to be called when it starts: a program that was replaced is not found by its process any more.
    /// `reads_input`: it takes its configuration from standard input.
    pub fn of_this_process(reads_input: bool) -> Launch {
        let own = std::env::current_exe().unwrap_or_default();
        let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let obstacle = if reads_input {
            Some(
                "the configuration came from standard input, which a successor cannot read again; restart evenly",
            )
        } else if std::process::id() == 1 {
            Some(
                "this is process 1, with which its container ends; start another container instead",
            )
        } else {
            None
        };
        let program = as_called(&called, &own).unwrap_or(own);
        Launch { program, arguments: std::env::args_os().skip(1).collect(), obstacle }
    }
}

/// The path by which the program was called, links included, if that leads to `own`.
fn as_called(called: &Path, own: &Path) -> Option<PathBuf> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    let own = identity(own)?;
    let found = |path: PathBuf| (identity(&path) == Some(own)).then_some(path);
    if called.components().count() > 1 {
        return found(std::path::absolute(called).ok()?);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).find_map(|it| found(std::path::absolute(it.join(called)).ok()?))
}

/// What the thread of an attempt says.
#[derive(Debug)]
pub(super) enum SuccessorNews {
    /// The successor has done everything that can fail.
    Prepared,
    /// It serves: its process.
    Serving(u32, Serving),
    /// It does not, and has ended.
    Failed(Vec<String>),
}

/// An upgrade under way.
struct Attempt {
    pair: Arc<Pair>,
    answers: Option<Answer>,
    thread: Option<JoinHandle<()>>,
    /// The successor got the word to take over.
    committed: bool,
    /// A reload was asked for meanwhile.
    reload: bool,
    /// It was given up: nothing is to be waited for.
    given_up: Arc<AtomicBool>,
}

/// A successor that serves.
struct Succession {
    pair: Arc<Pair>,
    next_report: Instant,
}

/// The upgrades of a process.
pub(super) struct Upgrades {
    launch: Launch,
    events: Sender<Event>,
    admin: Option<Admin>,
    held: Option<Held>,
    sources: Sources,
    attempt: Option<Attempt>,
    succession: Option<Succession>,
}

impl Upgrades {
    pub(super) fn new(
        (launch, events): (Launch, Sender<Event>),
        admin: Option<Admin>,
        held: Option<Held>,
        sources: Sources,
    ) -> Self {
        let (attempt, succession) = (None, None);
        // This process serves.
        let held = held.map(Held::kept);
        Upgrades { launch, events, admin, held, sources, attempt, succession }
    }

    /// Whether one is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.attempt.is_some()
    }

    /// Starts a successor: of `program`, or of that of this process. The answer follows when it serves, or has failed.
    pub(super) fn begin(
        &mut self,
        running: &Running,
        program: Option<PathBuf>,
        answer: Option<Answer>,
    ) {
        let program = program.unwrap_or_else(|| self.launch.program.clone());
        let begun = match (self.launch.obstacle, self.is_under_way()) {
            (Some(obstacle), _) => Err(obstacle.to_owned()),
            (None, true) => Err(UNDER_WAY.to_owned()),
            (None, false) => self.start(running, &program),
        };
        match begun {
            Ok(attempt) => {
                log::info!("upgrade: starting {}", program.display());
                self.attempt = Some(Attempt { answers: answer, ..attempt });
            }
            Err(why) => refuse(answer, vec![why]),
        }
    }

    fn start(&self, running: &Running, program: &Path) -> Result<Attempt, String> {
        let (pair, theirs) =
            Pair::new().map_err(|error| {
                format!(
                    "no socket to a successor can be made: {error}; for lack of descriptors raise the limit of open files \
                     (ulimit -n, LimitNOFILE=)"
                )
            })?;
        let pair = Arc::new(pair);
        let log = match &running.settings.plan.log.access {
            AccessSink::File(path) => running.writer.as_ref().map(|it| (path.clone(), it.lender())),
            AccessSink::Off | AccessSink::Stdout => None,
        };
        let time = running.timeouts().upgrade;
        let given_up = Arc::<AtomicBool>::default();
        let attend = AttemptThread {
            given_up: Arc::clone(&given_up),
            pair: Arc::clone(&pair),
            events: self.events.clone(),
            until: Instant::now() + time,
            time,
            crew: Arc::clone(&running.crew),
            listeners: running.listeners.clone(),
            recorder: running.health.recorder(),
            generation: running.generation(),
            log,
            doors: self.doors(running.settings.boot.admin),
        };
        let mut command = Command::new(program);
        command
            .args(&self.launch.arguments)
            .env(VARIABLE, std::process::id().to_string())
            // These name this process; a watchdog without a number is for any.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .envs(running.confinement.mark())
            .stdin(Stdio::from(theirs));
        let thread = std::thread::Builder::new()
            .name("upgrade".into())
            .spawn(move || attend.run(command))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Attempt {
            pair,
            answers: None,
            thread: Some(thread),
            committed: false,
            reload: false,
            given_up,
        })
    }

    /// Descriptors of the admin listener and the control socket, which may not be lent for lack of some: then the
    /// successor makes its own.
    fn doors(&self, admin: Option<SocketAddr>) -> Vec<(Handed, OwnedFd)> {
        let handed = |door: &crate::admin::Door| {
            let (role, name) = match (door.is_trusted, admin, &self.held) {
                (false, Some(address), _) => (Role::Admin, address.to_string()),
                (true, _, Some(held)) => {
                    (Role::Control, held.path().to_string_lossy().into_owned())
                }
                _ => return None,
            };
            let descriptor = door.socket.as_fd().try_clone_to_owned().ok()?;
            Some((Handed { role, name, listener: 0, worker: 0 }, descriptor))
        };
        self.admin.iter().flat_map(Admin::doors).filter_map(handed).collect()
    }

    /// Remembers that a reload was asked for: it is done if the upgrade fails, and by the successor if it does not.
    pub(super) fn note_reload(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.reload = true;
            log::warn!("reload: an upgrade is under way; it follows");
        }
    }

    /// This process is to stop: a successor that serves nobody yet is ended.
    pub(super) fn cancel(&mut self) {
        if let Some(attempt) = self.attempt.as_mut().filter(|it| !it.committed) {
            attempt.given_up.store(true, Ordering::Release);
            attempt.pair.end();
            refuse(attempt.answers.take(), vec!["evenly is stopping".to_owned()]);
        }
    }

    /// Follows what the thread of the attempt says.
    pub(super) fn hear(
        &mut self,
        news: SuccessorNews,
        running: &mut Running,
        supervisor: &mut Supervisor,
    ) {
        match news {
            SuccessorNews::Prepared => self.commit(),
            SuccessorNews::Serving(pid, serving) => {
                self.give_way(pid, &serving, running, supervisor);
            }
            SuccessorNews::Failed(lines) => self.fail(lines),
        }
    }

    /// Has the successor take over.
    fn commit(&mut self) {
        let Some(attempt) = self.attempt.as_mut().filter(|it| !it.given_up.load(Ordering::Acquire))
        else {
            return;
        };
        // Whoever asks what was counted asks one of the two.
        let totals =
            self.admin.as_ref().and_then(Admin::freeze).unwrap_or_else(|| self.sources.totals());
        let cursor = self.sources.shared.cursor.next();
        let word = Word::TakeOver(Takeover { cursor, counts: tally(&totals) });
        attempt.committed = true;
        if attempt.pair.say(&word, &[], None).is_err() {
            // Its thread sees that, and ends it.
            attempt.pair.end();
        }
    }

    /// The successor serves: this process accepts nobody any more, and drains.
    fn give_way(
        &mut self,
        pid: u32,
        serving: &Serving,
        running: &mut Running,
        supervisor: &mut Supervisor,
    ) {
        let Some(attempt) = self.attempt.take() else { return };
        supervisor.hand_over(pid);
        // If it is not heard the successor sees the end of this process, which says the same.
        let _ = attempt.pair.say(&Word::Lead, &[], None);
        if let Some(held) = self.held.take_if(|_| serving.control) {
            held.leave();
        }
        if let Some(admin) = &self.admin {
            admin.keep_from(serving.admin, serving.control);
        }
        let crew = &running.crew;
        let taken = running.listeners.iter().map(|it| it.id);
        for id in taken.filter(|ListenerId(id)| serving.listeners.contains(id)) {
            (0..crew.peers.len()).for_each(|at| crew.send(at, Errand::Release(id)));
        }
        let said =
            format!("process {pid} serves, generation {}; this one drains", serving.generation);
        log::info!("upgraded: {said}");
        if attempt.reload {
            // It may have read its file before that was changed.
            let _ = process(pid).map(|pid| kill_process(pid, Signal::HUP));
        }
        let now = Instant::now();
        self.succession = Some(Succession { pair: attempt.pair, next_report: now + REPORT });
        stop::for_successor(running);
        if let Some(answer) = attempt.answers {
            answer(Reply::Done(format!("upgraded: {said}")));
        }
    }

    fn fail(&mut self, lines: Vec<String>) {
        let Some(attempt) = self.attempt.take() else { return };
        if let Some(admin) = &self.admin {
            admin.thaw();
        }
        if !attempt.given_up.load(Ordering::Acquire) {
            refuse(attempt.answers, lines);
        }
        if attempt.reload {
            super::reload_later(&self.events);
        }
    }

    /// When [`Upgrades::report`] is due.
    pub(super) fn next_report(&self) -> Option<Instant> {
        self.succession.as_ref().map(|it| it.next_report)
    }

    /// Tells the successor what was counted here since it took over, if that is due.
    pub(super) fn report(&mut self) {
        let now = Instant::now();
        if let Some(succession) = self.succession.as_mut().filter(|it| it.next_report <= now) {
            succession.next_report = now + REPORT;
            // A later one has all of it.
            let _ = succession.pair.say(&counts(&self.sources), &[], None);
        }
    }

    /// Whether a successor serves.
    pub(super) fn has_successor(&self) -> bool {
        self.succession.is_some()
    }

    /// Nothing is counted any more: says the last word, to be called when everything else but the admin thread has ended.
    pub(super) fn finish(mut self) -> Option<Admin> {
        if let Some(succession) = &self.succession {
            // It may have ended before this process.
            let _ = succession.pair.say(&counts(&self.sources), &[], Some(END_TIME));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.pair.end();
            if let Some(thread) = attempt.thread.take() {
                // It ends its child first, and its errors are logged.
                let _ = thread.join();
            }
        }
        self.admin
    }
}

/// The reply to what would change something meanwhile.
pub(super) fn busy() -> Reply {
    Reply::Refused(vec![UNDER_WAY.to_owned()])
}

fn counts(sources: &Sources) -> Word {
    Word::Counts(tally(&sources.totals()))
}

fn tally(totals: &Totals) -> Counted {
    let plain = totals.counts.iter().map(|(it, count)| (it.key.to_owned(), count));
    let reasons = totals.counts.reasons.iter();
    let reasons = reasons.map(|(event, reason, count)| (reason_key(event, reason), count));
    let accepted = totals.accepted.iter().map(|(at, count)| (accepted_key(at), *count));
    let counters = plain.chain(reasons).chain(totals.traffic.by_key()).chain(accepted).collect();
    let endpoint = |((target, address), counts): (&(String, String), &EndpointTotals)| {
        let (target, address) = (target.clone(), address.clone());
        EndpointTally { target, address, counts: counts.by_key().into_iter().collect() }
    };
    let endpoints = totals.endpoints.iter().map(endpoint).collect();
    Counted { counters, endpoints, panics: totals.panics }
}

fn refuse(answer: Option<Answer>, lines: Vec<String>) {
    lines.iter().for_each(|line| log::error!("upgrade refused: {line}"));
    if let Some(answer) = answer {
        answer(Reply::Refused(lines));
    }
}

fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Starts a successor and attends to it, on a thread of its own.
struct AttemptThread {
    given_up: Arc<AtomicBool>,
    pair: Arc<Pair>,
    events: Sender<Event>,
    until: Instant,
    /// How long it has in all.
    time: Duration,
    crew: Arc<Crew>,
    listeners: Vec<Listening>,
    recorder: Recorder,
    generation: u64,
    log: Option<(PathBuf, Lender)>,
    doors: Vec<(Handed, OwnedFd)>,
}

/// Why there is no successor.
enum Trouble {
    /// It has gone.
    Gone,
    /// It has said nothing in its time.
    Silent,
    /// For these reasons.
    Reasons(Vec<String>),
}

impl Trouble {
    fn of(error: &std::io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Silent,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Trouble::Gone,
            _ => Trouble::Reasons(vec![format!("the successor is not understood: {error}")]),
        }
    }
}

impl AttemptThread {
    fn run(mut self, mut command: Command) {
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.spawn();
        // It holds the successor's end, by whose closing its end is seen.
        drop(command);
        let news = match spawned {
            Ok(mut child) => match self.attend(child.id()) {
                Ok(serving) => SuccessorNews::Serving(child.id(), serving),
                Err(trouble) => {
                    self.pair.end();
                    SuccessorNews::Failed(self.explain(trouble, &mut child))
                }
            },
            Err(error) => SuccessorNews::Failed(vec![format!(
                "{program} cannot be started: {error}; --binary PATH names another program"
            )]),
        };
        // Nobody listens any more when the process ends.
        let _ = self.events.send(Event::Successor(news));
    }

    /// Ends what is left of a successor. The reasons, for people.
    fn explain(&self, trouble: Trouble, child: &mut Child) -> Vec<String> {
        let waits = Instant::now() + END_TIME;
        let mut status = None;
        let is_wanted = || !self.given_up.load(Ordering::Acquire) && Instant::now() < waits;
        while matches!(trouble, Trouble::Gone) && status.is_none() && is_wanted() {
            status = child.try_wait().ok().flatten();
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
        match (trouble, status) {
            (Trouble::Reasons(lines), _) => lines,
            (Trouble::Silent, _) => vec![format!(
                "the successor was not ready within {:?} (timeouts.upgrade) and was ended",
                self.time
            )],
            (Trouble::Gone, Some(status)) => vec![format!(
                "the successor ended before it served ({status}); what it wrote to the log says why"
            )],
            (Trouble::Gone, None) => vec!["the successor broke off and was ended".to_owned()],
        }
    }

    fn attend(&mut self, pid: u32) -> Result<Serving, Trouble> {
        log::info!("upgrade: process {pid} is the successor, if it serves within {:?}", self.time);
        let sent = self.state().map_err(|why| Trouble::Reasons(vec![why]))?;
        let (state, descriptors) = sent;
        let descriptors = super::sockets::borrowed(&descriptors);
        let word = Word::State(Box::new(state));
        self.pair.say(&word, &descriptors, Some(self.left())).map_err(|it| Trouble::of(&it))?;
        loop {
            match self.pair.hear(Some(self.left())) {
                Ok(Some((Word::Prepared, _))) => {
                    // Nobody listens any more when the process ends.
                    let _ = self.events.send(Event::Successor(SuccessorNews::Prepared));
                }
                Ok(Some((Word::Serving(serving), _))) => return Ok(serving),
                Ok(Some((Word::Refused { lines }, _))) => return Err(Trouble::Reasons(lines)),
                Ok(Some(_)) => {}
                Ok(None) => return Err(Trouble::Gone),
                Err(error) => return Err(Trouble::of(&error)),
            }
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// What there is to hand over.
    fn state(&mut self) -> Result<(State, Vec<OwnedFd>), String> {
        let mut all = std::mem::take(&mut self.doors);
        for worker in 0..self.crew.peers.len() {
            for (id, descriptor) in self.borrow(worker)? {
                let Some(known) = self.listeners.iter().find(|it| it.id == id) else { continue };
                let (role, name) = (Role::Listener, known.written.to_string());
                all.push((Handed { role, name, listener: id.0, worker }, descriptor));
            }
        }
        if let Some((path, lender)) = self.log.take() {
            match lender.lend() {
                Ok(descriptor) => {
                    let name = path.to_string_lossy().into_owned();
                    all.push((
                        Handed { role: Role::Log, name, listener: 0, worker: 0 },
                        descriptor,
                    ));
                }
                // The successor opens it by itself, if it can.
                Err(error) => log::warn!("upgrade: the access log is not handed over: {error}"),
            }
        }
        let (sockets, descriptors) = all.into_iter().unzip();
        let endpoints = self.recorder.records().map_err(|error| error.to_string())?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let generation = self.generation;
        Ok((State { protocol: PROTOCOL, version, generation, sockets, endpoints }, descriptors))
    }

    /// The sockets of a worker.
    fn borrow(&self, worker: usize) -> Result<Vec<(ListenerId, OwnedFd)>, String> {
        let (sender, lent) = bounded(1);
        self.crew.send(worker, Errand::Lend(sender));
        self.crew.wake();
        match lent.recv_timeout(LEND_TIME) {
            Ok(Ok(sockets)) => Ok(sockets),
            Ok(Err(error)) => {
                Err(format!("the sockets of worker {worker} cannot be lent: {error}"))
            }
            Err(_) => {
                Err(format!("worker {worker} does not lend its sockets within {LEND_TIME:?}"))
            }
        }
    }
}
