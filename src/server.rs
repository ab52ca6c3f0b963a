//! Starts everything in order and ends it in order: descriptors, health, listeners, admin, workers; signals, drain.
//!
//! It owns the threads and the order of start and stop. It does no work of its own while they run.

mod calls;
mod confine;
mod descriptors;
mod error;
mod handover;
mod memory;
mod predecessor;
mod reload;
mod socket;
mod sockets;
mod steer;
mod stop;
mod supervisor;
mod upgrade;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::access::writer::{Outlet, Writer};
use crate::admin::{self, Admin, Door, Sources};
use crate::balance::Shared;
use crate::base::ledger::Ledger;
use crate::base::{self, thread};
use crate::command::{Answer, Command, Commands, Reply};
use crate::config;
use crate::health::{Health, SteerOrder};
use crate::metrics::Counters;
use crate::settings::{AccessSink, Boot, ControlSocket, Plan, Settings, Workers};
use crate::token::{AdminToken, TokenFile};
use crate::worker::listener::{self, ListenerId, Scope};
use crate::worker::{self, Crew, Job, Station, net};

use confine::{Confinement, Identity};
use descriptors::Shares;
pub use error::ServerError;
use predecessor::{Before, PredecessorNews};
pub use predecessor::{Predecessor, SuccessorRefusal};
pub use reload::Reread;
use reload::{Listening, Running};
use socket::Held;
pub use sockets::{Activation, ActivationError};
use sockets::{Inherited, PreparedAddress};
use stop::Stop;
use supervisor::Supervisor;
pub use upgrade::Launch;
use upgrade::{SuccessorNews, Upgrades};
use watch::FileWatch;

/// What the main thread waits for.
enum Event {
    Signal(i32),
    Command(Command, Answer),
    /// In a drain: a worker has nothing left to finish.
    WorkerEmpty,
    WorkerEnded,
    /// Of the process whose place this one takes.
    Predecessor(PredecessorNews),
    /// Of the process that is to take the place of this one.
    Successor(SuccessorNews),
}

impl Event {
    fn is_stop(&self) -> bool {
        matches!(self, Event::Signal(SIGTERM | SIGINT | SIGQUIT))
    }
}

/// Does what a signal asks for that asks neither to stop nor to reload.
fn heed(signal: i32, writer: Option<&Writer>) {
    match (signal, writer) {
        (SIGUSR1, Some(writer)) => writer.reopen(),
        (SIGUSR1, None) => log::info!("SIGUSR1: there is no access log to reopen"),
        _ => log::warn!("SIGUSR2: no upgrade now"),
    }
}

/// Does what was asked for by a signal, over the control socket, or by a change of the file. The log and the service manager
/// hear of what may change something.
fn obey(running: &mut Running, supervisor: &Supervisor, command: &Command) -> Reply {
    if *command == Command::Compare {
        return match running.compare_with_file() {
            Ok(changes) => Reply::Done(changes),
            Err(refusal) => Reply::Refused(refusal.lines()),
        };
    }
    if let Command::Steer { name, state, weight } = command {
        let order = SteerOrder { name: name.clone(), state: *state, weight: *weight };
        return running.steer(order);
    }
    if let (Command::Reload, Some(writer)) = (command, &running.writer) {
        writer.reopen();
    }
    supervisor.reloading();
    let (what, outcome) = match command {
        Command::Rollback => ("rollback", running.roll_back()),
        _ => ("reload", running.reload()),
    };
    supervisor.ready(running.generation());
    running.count_reload(outcome.is_ok());
    match outcome {
        Ok(applied) => {
            log::info!("{what}: {applied}");
            Reply::Done(applied.to_string())
        }
        Err(refusal) => {
            let lines = refusal.lines();
            lines.iter().for_each(|line| log::error!("{what} refused: {line}"));
            Reply::Refused(lines)
        }
    }
}

/// By the clock of this machine.
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a process is started with beside its settings.
pub struct Start {
    /// Where the settings came from; without it there is no reload.
    pub reread: Option<Reread>,
    /// How its successor is started.
    pub launch: Launch,
    /// Where sockets came from that are there already.
    pub source: SocketSource,
}

/// Where sockets came from that are there already.
#[derive(Debug)]
pub enum SocketSource {
    /// From a service manager, as far as it has any.
    Activation(Activation),
    /// From the process whose place this one takes.
    Predecessor(Predecessor),
}

/// Serves until it is asked to stop, or has a successor.
///
/// # Errors
/// It could not start, or its workers are gone.
pub fn run(settings: Settings, start: Start) -> Result<(), ServerError> {
    confine::no_new_privileges()?;
    // Before anything else, so that a change while it starts is seen.
    let watch = start.reread.as_ref().filter(|_| settings.boot.watch);
    let watch = watch.map(|reread| FileWatch::new(reread.path.clone(), Instant::now()));
    let (events, inbox) = unbounded();
    let signals = catch_signals()?;
    let handle = signals.handle();
    let outcome = serve(settings, start, (watch, signals), &events, &inbox);
    handle.close();
    outcome
}

fn serve(
    written: Settings,
    Start { reread, launch, source }: Start,
    (watch, signals): (Option<FileWatch>, Signals),
    events: &Sender<Event>,
    inbox: &Receiver<Event>,
) -> Result<(), ServerError> {
    let (started, settings, losses) = (Instant::now(), written.clone(), Arc::default());
    try_congestion(settings.boot.tcp.congestion.as_deref())?;
    let count = worker_count(settings.boot.workers);
    let (mut before, mut inherited) = Before::of(source, &settings)?;
    let open = descriptors::open_now().saturating_sub(inherited.descriptors());
    let Shares { clients: cap, of_worker } = descriptors::share_out(&settings, count, open)?;
    let memory = log_start(&settings, count, cap);
    let Opened { prepared, scopes, door, held, admin, token, confinement } =
        open_all(&settings, count, reread.as_ref(), &mut inherited)?;
    pass_on(signals, events.clone())?;
    let (writer, outlet) = open_log(&settings, &losses, &confinement, &mut inherited)?;
    let (boot, plan) = worked_out(settings, count, cap, &prepared);
    let shared = Arc::new(before.shared(&plan, Ledger::new(memory, count)));
    let health = before.start_health(plan, &boot.dns, &shared)?;
    if !is_wanted(&before, (&health, &shared), (events, inbox), writer.as_ref())? {
        return Ok(());
    }
    let (listeners, prepared) = numbered(&written, prepared);
    let sockets = sockets::listen_all(prepared, count)?;
    let (workers, stations) = worker::prepare(sockets, outlet.as_ref(), cap, of_worker)
        .map_err(|error| ServerError::Start("a worker's poll", error))?;
    drop(outlet);
    hang_bell(&shared, &workers);
    let sources = Sources {
        fixed: fixed(&boot),
        workers: Arc::clone(&workers),
        shared: Arc::clone(&shared),
        others: Arc::clone(&losses),
        health: health.counters(),
        inherited: Arc::clone(&before.counted),
        started,
        commands: commands_as(events.clone()),
        token,
        confinement: confinement.to_string().into(),
        file: reread.as_ref().and_then(Reread::written),
    };
    let admin = start_admin(admin, door, sources.clone())?;
    log_control_socket(held.as_ref(), &boot.socket);
    let mut running = Running {
        listeners,
        stop: None,
        settings: written,
        previous: None,
        reread,
        watch,
        open,
        confinement,
        crew: workers,
        shared,
        health,
        writer,
        losses,
    };
    let threads = start_workers(&running, boot, stations, events)?;
    log_addresses(&running.listeners, &scopes);
    before.say_serving(&running, inherited);
    let mut upgrades = Upgrades::new((launch, events.clone()), admin, held, sources);
    let outcome = wait(&mut running, before.is_there(), &mut upgrades, inbox);
    join(threads, &outcome);
    end(running, upgrades, &before, inbox);
    outcome
}

/// Waits for the end of the workers, unless one is known not to end.
fn join(threads: Vec<JoinHandle<()>>, outcome: &Result<(), ServerError>) {
    if !matches!(outcome, Err(ServerError::Stuck(_))) {
        threads.into_iter().for_each(|thread| thread::end(thread, "worker"));
    }
}

/// Has whoever publishes a snapshot wake the workers.
fn hang_bell(shared: &Shared, workers: &Arc<Crew>) {
    let woken = Arc::clone(workers);
    shared.bell.hang(move || woken.wake());
}

/// Waits for the first round of probes, and for the word of a predecessor. `false` if a signal ended the wait.
fn is_wanted(
    before: &Before,
    (health, shared): (&Health, &Shared),
    (events, inbox): (&Sender<Event>, &Receiver<Event>),
    writer: Option<&Writer>,
) -> Result<bool, ServerError> {
    before.listen(events)?;
    let is_wanted = first_round(before, health, (events, inbox), writer)?
        && before.take_over(shared, events, inbox, writer)?;
    if !is_wanted {
        log::info!("stopped before serving");
    }
    Ok(is_wanted)
}

/// What a start opens while the process has its first thread alone, perhaps as root.
struct Opened {
    prepared: Vec<PreparedAddress>,
    scopes: Vec<Scope>,
    door: Option<Door>,
    held: Option<Held>,
    admin: Option<admin::AdminClaim>,
    token: Option<Arc<AdminToken>>,
    confinement: Confinement,
}

/// Opens what can be wrong, so that it is reported immediately and not after the first round of checks, and gives up the rights that
/// this took.
fn open_all(
    settings: &Settings,
    workers: usize,
    reread: Option<&Reread>,
    inherited: &mut Inherited,
) -> Result<Opened, ServerError> {
    let user = Identity::of(settings)?;
    let scopes = listener::scopes(&settings.plan.listen);
    let mut prepared = sockets::claim_all(settings, &scopes, workers, inherited)?;
    let control = open_control(settings, &prepared, user.as_ref(), inherited)?;
    let (door, held) = control.unzip();
    let admin = settings.boot.admin.map(|it| claim_admin(it, inherited)).transpose()?;
    let token = read_token(&settings.boot)?;
    let path = held.as_ref().map(Held::path);
    let confinement = confine::enter(settings, user, (&mut prepared, workers), path, reread)?;
    Ok(Opened { prepared, scopes, door, held, admin, token, confinement })
}

/// Reads the token of commands, which may be in a file of root's.
fn read_token(boot: &Boot) -> Result<Option<Arc<AdminToken>>, ServerError> {
    let Some(path) = &boot.token_file else { return Ok(None) };
    let TokenFile { token, is_exposed } = TokenFile::read(path).map_err(ServerError::Token)?;
    let shown = path.display();
    if is_exposed {
        log::warn!(
            "admin.token_file: every user of this machine may read {shown}, and give commands then; chmod o= {shown}, and make another token"
        );
    }
    if boot.admin.is_none() {
        log::warn!(
            "admin.token_file is of no use without admin.listen, by which its commands come"
        );
    }
    Ok(Some(Arc::new(token)))
}

/// What the admin thread knows of what holds as long as the process.
fn fixed(boot: &Boot) -> admin::Fixed {
    let hosts = boot.admin_hosts.clone().into();
    let boot = boot.clone();
    let config =
        move |plan: &Plan| config::show(&Settings { boot: boot.clone(), plan: plan.clone() });
    admin::Fixed { hosts, config: Arc::new(config) }
}

/// Makes events of commands.
fn commands_as(events: Sender<Event>) -> Commands {
    Arc::new(move |command, answer| {
        // Nobody listens any more when the process ends; then the answer is dropped, which says so.
        let _ = events.send(Event::Command(command, answer));
    })
}

/// Makes the control socket, which is named after the first address.
fn open_control(
    settings: &Settings,
    prepared: &[PreparedAddress],
    user: Option<&Identity>,
    inherited: &mut Inherited,
) -> Result<Option<(Door, Held)>, ServerError> {
    let first = prepared.first().map_or(([0, 0, 0, 0], 0).into(), PreparedAddress::address);
    socket::open(&settings.boot.socket, first, settings.boot.tcp.reuse_port, user, inherited)
}

fn log_control_socket(held: Option<&Held>, setting: &ControlSocket) {
    match held {
        Some(held) => log::info!("control socket: {}", held.path().display()),
        None if *setting == ControlSocket::Off => {}
        None => log::info!(
            "no control socket: none of the folders for it can be written; admin.socket sets its path"
        ),
    }
}

/// Ends what is not a worker. Whoever waits for the end hears of it last, so that nothing is left to do then.
fn end(running: Running, upgrades: Upgrades, before: &Before, inbox: &Receiver<Event>) {
    running.health.stop();
    let is_hurried = || inbox.try_iter().any(|event| event.is_stop());
    if let Some(writer) = running.writer {
        writer.finish(is_hurried);
    }
    if upgrades.has_successor() {
        before.wait_for_end(is_hurried);
    }
    let admin = upgrades.finish();
    log::info!("stopped");
    // What was asked for meanwhile is not done any more.
    inbox.try_iter().for_each(drop);
    if let Some(admin) = &admin {
        admin.begin_to_stop();
    }
    if let Some(stop) = running.stop {
        stop.conclude();
    }
    drop(admin);
}

fn open_log(
    settings: &Settings,
    losses: &Arc<Counters>,
    confinement: &Confinement,
    inherited: &mut Inherited,
) -> Result<(Option<Writer>, Option<Outlet>), ServerError> {
    let log = &settings.plan.log;
    let open = match &log.access {
        AccessSink::File(path) => inherited.log(path),
        AccessSink::Off | AccessSink::Stdout => None,
    };
    let started = Writer::start_with(log, Arc::clone(losses), open)
        .map_err(|error| confinement.blame(&log.access, error))?;
    Ok(started.unzip())
}

fn try_congestion(name: Option<&str>) -> Result<(), ServerError> {
    let Some(name) = name else { return Ok(()) };
    net::try_congestion(name).map_err(|error| ServerError::Congestion(name.to_owned(), error))
}

/// The settings with the values that were worked out for "auto", and the addresses that were bound, which workers see.
fn worked_out(
    mut settings: Settings,
    workers: usize,
    clients: usize,
    prepared: &[PreparedAddress],
) -> (Boot, Arc<Plan>) {
    settings.boot.workers = Workers::Count(workers);
    settings.plan.limits.connections = Some(clients);
    settings.plan.listen = prepared.iter().map(PreparedAddress::address).collect();
    (settings.boot, Arc::new(settings.plan))
}

/// Logs what it is about to be. The bytes that buffers may hold.
fn log_start(settings: &Settings, workers: usize, clients: usize) -> usize {
    let memory = memory::for_buffers(settings);
    log::info!(
        "evenly {} starting: {workers} workers, {} MiB for buffers, at most {clients} client connections",
        env!("CARGO_PKG_VERSION"),
        memory >> 20
    );
    memory
}

fn log_addresses(listeners: &[Listening], scopes: &[Scope]) {
    for (Listening { bound: address, .. }, scope) in listeners.iter().zip(scopes) {
        let families = if scope.ipv4_too { " (IPv6 and IPv4)" } else { "" };
        log::info!("listening on http://{address}{families}");
    }
}

fn claim_admin(
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<admin::AdminClaim, ServerError> {
    let claim = match inherited.admin(address) {
        Some(socket) => admin::AdminClaim::adopt(socket),
        None => admin::claim(address),
    };
    claim.map_err(|error| ServerError::BindAdmin(address, error))
}

/// Starts the admin thread, if anybody can come to it.
fn start_admin(
    claim: Option<admin::AdminClaim>,
    control: Option<Door>,
    sources: Sources,
) -> Result<Option<Admin>, ServerError> {
    let address = claim.as_ref().map(|claim| claim.address);
    let listen = |claim: admin::AdminClaim| {
        let address = claim.address;
        claim.listen().map_err(|error| ServerError::BindAdmin(address, error))
    };
    let doors: Vec<Door> = claim.map(listen).transpose()?.into_iter().chain(control).collect();
    if doors.is_empty() {
        return Ok(None);
    }
    let admin = Admin::start(doors, sources)
        .map_err(|error| ServerError::Start("the admin thread", error))?;
    if let Some(address) = address {
        log::info!("admin listening on http://{address}");
    }
    Ok(Some(admin))
}

/// Has a reload follow that was asked for when none could be done: as soon as the main thread waits for events.
fn reload_later(events: &Sender<Event>) {
    // The channel is open as long as the caller has its end.
    let _ = events.send(Event::Signal(SIGHUP));
}

/// Waits for the first round of probes, so that nobody meets a 503 because the program is young.
/// `false` if a signal ended the wait.
fn first_round(
    before: &Before,
    health: &Health,
    (events, inbox): (&Sender<Event>, &Receiver<Event>),
    writer: Option<&Writer>,
) -> Result<bool, ServerError> {
    let mut reload = false;
    while !health.wait_first_round(Duration::from_millis(20)) {
        for event in inbox.try_iter() {
            match event {
                event if event.is_stop() => return Ok(false),
                Event::Signal(SIGHUP) => reload = true,
                Event::Signal(signal) => heed(signal, writer),
                // Whoever starts evenly again is to find its addresses free.
                Event::Predecessor(PredecessorNews::Gone) => return Err(before.is_over()),
                // Nobody can ask yet.
                Event::Predecessor(_)
                | Event::Command(..)
                | Event::WorkerEmpty
                | Event::WorkerEnded
                | Event::Successor(_) => {}
            }
        }
    }
    if reload {
        reload_later(events);
    }
    Ok(true)
}

/// Signals that come from here on wait for [`pass_on`].
fn catch_signals() -> Result<Signals, ServerError> {
    let failed = |error| ServerError::Start("the signal thread", error);
    // Whoever started us may have blocked some for threads of its own: that is inherited, and SIGTERM would never come.
    SigSet::empty().thread_set_mask().map_err(|errno| failed(errno.into()))?;
    // A file of the log that may not grow (RLIMIT_FSIZE) is an error like a full disk, not the end.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
    Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2]).map_err(failed)
}

/// Starts the first threads: that of the program's log, and one that makes events of signals.
fn pass_on(mut signals: Signals, events: Sender<Event>) -> Result<(), ServerError> {
    base::log::start();
    let watch = move || {
        for signal in signals.forever() {
            // Nobody listens any more when the process ends.
            let _ = events.send(Event::Signal(signal));
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .map_err(|error| ServerError::Start("the signal thread", error))
}

fn worker_count(workers: Workers) -> usize {
    match workers {
        Workers::Count(count) => count,
        // The affinity mask and the cgroup quota are taken into account by the standard library.
        Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Numbers the listeners in the order of the file.
fn numbered(
    written: &Settings,
    prepared: Vec<PreparedAddress>,
) -> (Vec<Listening>, Vec<(ListenerId, PreparedAddress)>) {
    let prepared: Vec<(ListenerId, PreparedAddress)> =
        (0..).map(ListenerId).zip(prepared).collect();
    let addresses = written.plan.listen.iter().zip(&prepared);
    let listening = addresses.map(|(&written, (id, prepared))| Listening {
        written,
        bound: prepared.address(),
        id: *id,
    });
    (listening.collect(), prepared)
}

/// Starts a worker at each station.
fn start_workers(
    running: &Running,
    boot: Boot,
    stations: Vec<Station>,
    events: &Sender<Event>,
) -> Result<Vec<JoinHandle<()>>, ServerError> {
    let boot = Arc::new(boot);
    let start = |(me, station): (usize, Station)| {
        let reporter = running.health.reporter();
        let empty = events.clone();
        let job = Job {
            me,
            workers: Arc::clone(&running.crew),
            boot: Arc::clone(&boot),
            shared: Arc::clone(&running.shared),
            report: Box::new(move |endpoint, report| reporter.report(endpoint, report)),
            // Nobody listens any more when the process ends.
            emptied: Box::new(move || drop(empty.send(Event::WorkerEmpty))),
        };
        let ended = events.clone();
        std::thread::Builder::new().name(format!("worker-{me}")).spawn(move || {
            worker::run(station, &job);
            // The writer of the access log ends with the last job.
            drop(job);
            // Nobody listens any more when the process ends.
            let _ = ended.send(Event::WorkerEnded);
        })
    };
    stations
        .into_iter()
        .enumerate()
        .map(start)
        .collect::<io::Result<_>>()
        .map_err(|error| ServerError::Start("a worker", error))
}

/// Waits until the workers have ended, and does meanwhile what is asked for. A successor that serves has it drain, too.
fn wait(
    running: &mut Running,
    follows: bool,
    upgrades: &mut Upgrades,
    inbox: &Receiver<Event>,
) -> Result<(), ServerError> {
    let workers = Arc::clone(&running.crew);
    let mut supervisor = Supervisor::new(follows);
    supervisor.ready(running.generation());
    let mut left = workers.peers.len();
    while left > 0 {
        let until = running.stop.as_ref().map(Stop::until);
        let is_still = until.is_none() && !upgrades.is_under_way();
        let look = running.watch.as_ref().filter(|_| is_still).map(FileWatch::next);
        let beats = supervisor.next_beat().into_iter().chain(upgrades.next_report());
        let event = match until.into_iter().chain(beats).chain(look).min() {
            Some(until) => inbox.recv_deadline(until),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        supervisor.beat(&workers);
        upgrades.report();
        let now = Instant::now();
        let is_due = look.is_some_and(|at| at <= now);
        if is_due && running.watch.as_mut().is_some_and(|it| it.look(now)) {
            obey(running, &supervisor, &Command::Reload);
        }
        match event {
            Ok(Event::WorkerEnded) => left -= 1,
            Ok(event) if event.is_stop() => {
                upgrades.cancel();
                stop::by_signal(running, &supervisor);
            }
            Ok(Event::Predecessor(news)) => follow(&news, running, &mut supervisor),
            Ok(Event::Successor(news)) => upgrades.hear(news, running, &mut supervisor),
            Ok(Event::Command(Command::Drain { wait }, answer)) => {
                upgrades.cancel();
                stop::by_command(running, &supervisor, wait, answer);
            }
            Ok(Event::Command(Command::Undrain, answer)) if !upgrades.has_successor() => {
                answer(stop::take_back(running, &supervisor));
            }
            Ok(Event::WorkerEmpty) | Err(RecvTimeoutError::Timeout) => stop::go_on(running, left)?,
            Ok(event) if running.stop.is_some() => {
                let why = match upgrades.has_successor() {
                    true => "another process serves, and this one is stopping",
                    false => "evenly is stopping",
                };
                refuse(event, why, running.writer.as_ref());
            }
            Ok(event) if upgrades.is_under_way() => match event {
                Event::Signal(SIGHUP) => upgrades.note_reload(),
                Event::Command(Command::Compare, answer) => {
                    answer(obey(running, &supervisor, &Command::Compare));
                }
                Event::Command(_, answer) => answer(upgrade::busy()),
                Event::Signal(signal) => heed(signal, running.writer.as_ref()),
                _ => {}
            },
            Ok(Event::Signal(SIGUSR2)) => upgrades.begin(running, None, None),
            Ok(Event::Command(Command::Upgrade(program), answer)) => {
                upgrades.begin(running, program, Some(answer));
            }
            Ok(Event::Signal(SIGHUP)) => drop(obey(running, &supervisor, &Command::Reload)),
            Ok(Event::Command(command, answer)) => answer(obey(running, &supervisor, &command)),
            Ok(Event::Signal(signal)) => heed(signal, running.writer.as_ref()),
            Err(RecvTimeoutError::Disconnected) => return Err(ServerError::Workers),
        }
    }
    if running.stop.is_none() { Err(ServerError::Workers) } else { Ok(()) }
}

/// The predecessor has said something: from when it is over, or gone, the service manager listens to this process.
fn follow(news: &PredecessorNews, running: &Running, supervisor: &mut Supervisor) {
    if matches!(news, PredecessorNews::Lead | PredecessorNews::Gone) {
        supervisor.lead(running.generation());
    }
}

/// What is asked for while it stops.
fn refuse(event: Event, why: &str, writer: Option<&Writer>) {
    match event {
        Event::Command(_, answer) => answer(Reply::Refused(vec![why.to_owned()])),
        Event::Signal(SIGHUP) => log::warn!("no reload: {why}"),
        Event::Signal(signal) => heed(signal, writer),
        Event::WorkerEmpty | Event::WorkerEnded | Event::Predecessor(_) | Event::Successor(_) => {}
    }
}
