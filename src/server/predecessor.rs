//! The process whose place this one takes, as this one sees it: what it hands over, and what it says while it ends.
//!
//! Owns the way to it. Until it says that this process is to take over, nothing here has touched a client; from then on it is only
//! asked what it has counted.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::stdio::dup2_stdin;
use signal_hook::consts::SIGHUP;

use crate::access::writer::Writer;
use crate::admin::{CountedBefore, CountedEndpoints};
use crate::balance::Shared;
use crate::base::ledger::Ledger;
use crate::health::{EndpointRecord, Health};
use crate::metrics::accepts::{AcceptCounts, address_of};
use crate::settings::{Dns, Plan, Settings};

use super::handover::{Counted, EndpointTally, PROTOCOL, Pair, Serving, State, Takeover, Word};
use super::reload::Running;
use super::sockets::Inherited;
use super::stop::STOP_TIME;
use super::{Event, ServerError, SocketSource, heed, reload_later, seconds_since_1970};

/// The variable that says that standard input is a way to a predecessor: the number of its process, so that it means nothing to a
/// process further down.
pub(super) const VARIABLE: &str = "EVENLY_PREDECESSOR";
/// How long a predecessor may take to say what there is, and this process to be heard.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a predecessor has handed over.
#[derive(Debug)]
pub struct Predecessor {
    pair: Arc<Pair>,
    pid: u32,
    state: Box<State>,
    sockets: Inherited,
}

/// Says to a predecessor why this process does not take its place.
#[derive(Debug, Clone)]
pub struct SuccessorRefusal(Arc<Pair>);

impl SuccessorRefusal {
    /// A line for each thing that is wrong.
    pub fn say(&self, lines: Vec<String>) {
        // Whoever does not hear it sees that this process ends.
        let _ = self.0.say(&Word::Refused { lines }, &[], Some(PATIENCE));
    }
}

impl Predecessor {
    /// The process that started this one to take its place, if one did: takes standard input, over which it speaks.
    ///
    /// # Errors
    /// It speaks otherwise than this version, or not at all.
    pub fn meet() -> Result<Option<Predecessor>, ServerError> {
        let parent = std::os::unix::process::parent_id();
        let named = std::env::var(VARIABLE).ok().and_then(|pid| pid.parse::<u32>().ok());
        let Some(pid) = named else { return Ok(None) };
        let is_way = socket_type(io::stdin()) == Ok(SocketType::SEQPACKET);
        let wrong = |why: &str| Err(ServerError::Predecessor(pid, why.to_owned()));
        match (pid == parent, is_way) {
            (true, true) => {}
            // Of a process that a successor has started.
            (false, false) => return Ok(None),
            (false, true) => {
                return wrong(
                    "it has not started this one itself, or has ended; a script that it starts must become evenly (exec)",
                );
            }
            (true, false) => {
                return wrong(
                    "it is not at the other end of standard input; unset EVENLY_PREDECESSOR, which evenly upgrade sets",
                );
            }
        }
        let failed = |error: io::Error| {
            let why = match error.kind() {
                ErrorKind::WouldBlock => format!("it has said nothing within {PATIENCE:?}"),
                _ => error.to_string(),
            };
            ServerError::Predecessor(pid, why)
        };
        let end = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3);
        let pair = Arc::new(Pair::of(end.map_err(|errno| failed(errno.into()))?));
        let null = std::fs::File::open("/dev/null").map_err(failed)?;
        dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
        let (state, descriptors) = match pair.hear(Some(PATIENCE)).map_err(failed)? {
            Some((Word::State(state), descriptors)) => (state, descriptors),
            _ => return Err(ServerError::Predecessor(pid, "it says nothing of its state".into())),
        };
        if state.protocol != PROTOCOL {
            let why = format!(
                "version {} hands over by protocol {}, this one, {}, by {PROTOCOL}; restart evenly instead",
                state.version,
                state.protocol,
                env!("CARGO_PKG_VERSION")
            );
            SuccessorRefusal(Arc::clone(&pair)).say(vec![why.clone()]);
            return Err(ServerError::Predecessor(pid, why));
        }
        let sockets = Inherited::from_predecessor(&state.sockets, descriptors);
        Ok(Some(Predecessor { pair, pid, state, sockets }))
    }

    /// To say why this process does not take its place.
    pub fn refusal(&self) -> SuccessorRefusal {
        SuccessorRefusal(Arc::clone(&self.pair))
    }
}

/// What came before this process, if anything did.
#[derive(Debug)]
pub(super) struct Before {
    link: Option<PredecessorLink>,
    /// What is known of endpoints.
    records: Vec<EndpointRecord>,
    /// Of the predecessor's snapshot.
    generation: u64,
    /// What was counted.
    pub(super) counted: Arc<CountedBefore>,
}

impl Before {
    /// Of this source, with the sockets that it has for these settings.
    pub(super) fn of(
        source: SocketSource,
        settings: &Settings,
    ) -> Result<(Before, Inherited), ServerError> {
        match source {
            SocketSource::Activation(activation) => {
                let inherited = activation.sort(settings).map_err(ServerError::Activation)?;
                let counted = Arc::default();
                let before = Before { link: None, records: Vec::new(), generation: 0, counted };
                Ok((before, inherited))
            }
            SocketSource::Predecessor(Predecessor { pair, pid, state, sockets }) => {
                log::info!("taking the place of process {pid}, version {}", state.version);
                let link = PredecessorLink { pair, gone: Arc::default(), until: None };
                let counted = CountedBefore { predecessor: Some(pid), ..CountedBefore::default() };
                let before = Before {
                    link: Some(link),
                    records: state.endpoints,
                    generation: state.generation,
                    counted: Arc::new(counted),
                };
                Ok((before, sockets))
            }
        }
    }

    /// What workers and the health thread share, whose generations go on from those of a predecessor.
    pub(super) fn shared(&self, plan: &Arc<Plan>, ledger: Ledger) -> Shared {
        let shared = Shared::new(Arc::clone(plan), ledger);
        shared.go_on_from(self.generation);
        shared.last_reload.applied_at.set(seconds_since_1970());
        shared
    }

    /// Starts the health thread, which goes on from what a predecessor knows.
    pub(super) fn start_health(
        &mut self,
        plan: Arc<Plan>,
        dns: &Dns,
        shared: &Arc<Shared>,
    ) -> Result<Health, ServerError> {
        let records = std::mem::take(&mut self.records);
        Health::start_after(records, plan, dns.clone(), Arc::clone(shared))
            .map_err(|error| ServerError::Start("the health thread", error))
    }

    /// Whether there is a predecessor.
    pub(super) fn is_there(&self) -> bool {
        self.link.is_some()
    }

    /// Has what a predecessor says become events, and what it counts be part of what this process has counted.
    pub(super) fn listen(&self, events: &Sender<Event>) -> Result<(), ServerError> {
        let Some(link) = &self.link else { return Ok(()) };
        link.listen(events.clone(), Arc::clone(&self.counted))
            .map_err(|error| ServerError::Start("the thread that hears the predecessor", error))
    }

    /// The predecessor has gone before it handed over.
    pub(super) fn is_over(&self) -> ServerError {
        let pid = self.counted.predecessor.unwrap_or_default();
        ServerError::Predecessor(pid, "it has ended, or wants no successor any more".to_owned())
    }

    /// Waits until a predecessor hands over. `false` if a signal ended the wait.
    pub(super) fn take_over(
        &self,
        shared: &Shared,
        events: &Sender<Event>,
        inbox: &Receiver<Event>,
        writer: Option<&Writer>,
    ) -> Result<bool, ServerError> {
        let Some(link) = &self.link else { return Ok(true) };
        link.say_prepared().map_err(|_| self.is_over())?;
        let mut reload = false;
        loop {
            match inbox.recv() {
                Ok(Event::Predecessor(PredecessorNews::TakeOver(takeover))) => {
                    shared.cursor.go_on_from(takeover.cursor);
                    if reload {
                        reload_later(events);
                    }
                    return Ok(true);
                }
                Ok(Event::Predecessor(PredecessorNews::Gone)) | Err(_) => {
                    return Err(self.is_over());
                }
                Ok(event) if event.is_stop() => return Ok(false),
                Ok(Event::Signal(SIGHUP)) => reload = true,
                Ok(Event::Signal(signal)) => heed(signal, writer),
                Ok(_) => {}
            }
        }
    }

    /// Says to a predecessor that this process serves, and what of its sockets.
    pub(super) fn say_serving(&mut self, running: &Running, inherited: Inherited) {
        let Some(link) = &mut self.link else { return };
        let serving = Serving {
            generation: running.generation(),
            listeners: inherited.taken().to_vec(),
            admin: inherited.has_given_admin(),
            control: inherited.has_given_control(),
        };
        let drain = running.timeouts().drain + STOP_TIME;
        if let Err(error) = link.say_serving(serving, drain) {
            log::warn!("the predecessor does not hear that this process serves: {error}");
        }
        // What was not taken the predecessor closes too, when it has heard that.
        drop(inherited);
    }

    /// Waits until a predecessor has ended and everything that it counted is known here, or `is_hurried` says that nobody waits for
    /// that.
    pub(super) fn wait_for_end(&self, is_hurried: impl Fn() -> bool) {
        if let Some(link) = &self.link {
            link.wait_for_end(is_hurried);
        }
    }
}

/// The way to a predecessor.
#[derive(Debug)]
pub(super) struct PredecessorLink {
    pair: Arc<Pair>,
    gone: Arc<AtomicBool>,
    /// When it has ended at the latest, once it has handed over.
    until: Option<Instant>,
}

/// What it says.
#[derive(Debug)]
pub(super) enum PredecessorNews {
    /// To take over.
    TakeOver(Takeover),
    /// It accepts nobody any more.
    Lead,
    /// It has ended.
    Gone,
}

impl PredecessorLink {
    /// Has what it says become events, and what it has counted be part of `counted`, on a thread of its own.
    pub(super) fn listen(
        &self,
        events: Sender<Event>,
        counted: Arc<CountedBefore>,
    ) -> io::Result<()> {
        let (pair, gone) = (Arc::clone(&self.pair), Arc::clone(&self.gone));
        let listen = move || {
            // One that speaks otherwise counts as gone.
            while let Ok(Some((word, _))) = pair.hear(None) {
                let news = match word {
                    Word::TakeOver(takeover) => {
                        take_note(&counted, &takeover.counts);
                        PredecessorNews::TakeOver(takeover)
                    }
                    Word::Counts(tally) => {
                        take_note(&counted, &tally);
                        continue;
                    }
                    Word::Lead => PredecessorNews::Lead,
                    _ => continue,
                };
                // Nobody listens any more when the process ends.
                let _ = events.send(Event::Predecessor(news));
            }
            gone.store(true, Ordering::Release);
            let _ = events.send(Event::Predecessor(PredecessorNews::Gone));
        };
        std::thread::Builder::new().name("predecessor".into()).spawn(listen)?;
        Ok(())
    }

    /// Everything that can fail is done.
    pub(super) fn say_prepared(&self) -> io::Result<()> {
        self.pair.say(&Word::Prepared, &[], Some(PATIENCE))
    }

    /// This process serves. `drain` is how long the predecessor may take to end.
    pub(super) fn say_serving(&mut self, serving: Serving, drain: Duration) -> io::Result<()> {
        self.until = Some(Instant::now() + drain);
        self.pair.say(&Word::Serving(serving), &[], Some(PATIENCE))
    }

    fn wait_for_end(&self, is_hurried: impl Fn() -> bool) {
        let until = self.until.unwrap_or_else(Instant::now);
        while !self.gone.load(Ordering::Acquire) && Instant::now() < until && !is_hurried() {
            std::thread::sleep(LOOK);
        }
    }
}

fn take_note(counted: &CountedBefore, tally: &Counted) {
    counted.counters.raise(|key| tally.counters.get(key).copied());
    counted.traffic.raise(|key| tally.counters.get(key).copied());
    counted.panics.fetch_max(tally.panics, Ordering::Relaxed);
    let mut endpoints = CountedEndpoints::clone(&counted.endpoints.load());
    for EndpointTally { target, address, counts } in &tally.endpoints {
        let known = endpoints.entry((target.clone(), address.clone())).or_default();
        *known = known.raised(|key| counts.get(key).copied());
    }
    counted.endpoints.store(Arc::new(endpoints));
    let mut accepted = AcceptCounts::clone(&counted.accepted.load());
    for (key, &count) in &tally.counters {
        if let Some(address) = address_of(key) {
            let known = accepted.entry(address).or_default();
            *known = count.max(*known);
        }
    }
    counted.accepted.store(Arc::new(accepted));
}
