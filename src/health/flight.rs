//! The probes in flight, and the health thread's wait for them.
//!
//! Owns the probes, their deadlines and the epoll that watches their sockets; does not know why a probe was begun or
//! what its outcome means. Invariants: an endpoint has at most one probe here; each has its deadline in `deadlines` and
//! its socket in the epoll, with the interest of its phase. A wait costs what is ready, not what is in flight.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::balance::EndpointId;

use super::probe::{CheckEnd, Probe};
use super::wake::Wake;

/// Names the eventfd among the sockets: no [`EndpointId`] is as large.
const WAKE: u64 = u64::MAX;

/// Sockets that one wait reports at most; the next reports the rest.
const MAX_EVENTS: usize = 512;

/// Probes in flight from which on a wait lets answers gather. Fewer are taken one by one.
const CROWD: usize = 8;

/// How long a probe waits before workers are asked for what may be in its way.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longer waits are cut to this.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// A probe that ended: whom it probed, when it began, and how it ended.
pub(super) type Ended = (EndpointId, Instant, CheckEnd);

/// The probes in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    epoll: OwnedFd,
    wake: Arc<Wake>,
    probes: HashMap<EndpointId, Probe>,
    deadlines: BTreeSet<(Instant, EndpointId)>,
    /// How many of them must be heard at once.
    urgent: usize,
    /// When those that have waited for long are reported.
    ask_at: Option<Instant>,
    /// Whose sockets the last wait found ready.
    ready: Vec<EndpointId>,
}

impl InFlight {
    /// Nothing in flight. Fails when the process is out of descriptors.
    pub(super) fn new(wake: Arc<Wake>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(InFlight {
            epoll,
            wake,
            probes: HashMap::new(),
            deadlines: BTreeSet::new(),
            urgent: 0,
            ask_at: None,
            ready: Vec::new(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.probes.len()
    }

    /// The earliest time at which one of them is over, or [`InFlight::waiting`] has something to say.
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline).into_iter().chain(self.ask_at).min()
    }

    /// Whose probes have waited for so long that idle connections of workers may be in their way. Each is reported once, a crowd
    /// together.
    pub(super) fn waiting(&mut self, now: Instant) -> Vec<EndpointId> {
        if self.ask_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut waiting = Vec::new();
        let mut left = false;
        for (&id, probe) in &mut self.probes {
            match now.saturating_duration_since(probe.started()) >= PATIENCE {
                true if probe.ask() => waiting.push(id),
                true => {}
                false => left = true,
            }
        }
        self.ask_at = left.then_some(now + PATIENCE);
        waiting
    }

    /// Watches one more. An error means that this process lacks what that needs; the probe is dropped.
    pub(super) fn add(&mut self, probe: Probe) -> io::Result<()> {
        let id = probe.endpoint();
        epoll::add(&self.epoll, &probe, data(id), probe.interest())?;
        self.deadlines.insert((probe.deadline(), id));
        self.urgent += usize::from(probe.is_urgent());
        self.ask_at.get_or_insert(probe.started() + PATIENCE);
        self.probes.insert(id, probe);
        Ok(())
    }

    /// Drops the probe of this endpoint, if there is one. The kernel forgets its socket with it.
    pub(super) fn remove(&mut self, id: EndpointId) {
        if let Some(probe) = self.probes.remove(&id) {
            self.deadlines.remove(&(probe.deadline(), id));
            self.urgent -= usize::from(probe.is_urgent());
            self.ask_at = self.ask_at.filter(|_| !self.probes.is_empty());
        }
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.probes.clear();
        self.deadlines.clear();
        self.urgent = 0;
        self.ask_at = None;
    }

    /// Blocks until then, or until a probe's socket or another thread stirs. A crowd of probes of which none is urgent
    /// stirs nobody before `gather` is over: to wake for each answer costs more than to take it.
    pub(super) fn wait(&mut self, until: Option<Instant>, gather: Instant) -> io::Result<()> {
        self.ready.clear();
        if self.urgent == 0 && self.len() >= CROWD {
            let mut wake = [PollFd::new(&*self.wake, PollFlags::IN)];
            let until = until.map_or(gather, |until| until.min(gather));
            unless_interrupted(poll(&mut wake, Some(&until_then(until))).map(drop))?;
        }
        let timeout = until.map(until_then);
        let mut events: Vec<Event> = Vec::with_capacity((self.len() + 1).min(MAX_EVENTS));
        let room = spare_capacity(&mut events);
        unless_interrupted(epoll::wait(&self.epoll, room, timeout.as_ref()).map(drop))?;
        for event in events {
            match u32::try_from(event.data.u64()) {
                Ok(id) => self.ready.push(EndpointId(id)),
                Err(_) => self.wake.clear(),
            }
        }
        Ok(())
    }

    /// This process stood still: the time of each of them begins anew.
    pub(super) fn pause(&mut self, now: Instant) {
        for probe in self.probes.values_mut() {
            probe.pause(now);
        }
        self.deadlines = self.probes.iter().map(|(&id, probe)| (probe.deadline(), id)).collect();
    }

    /// Advances the probes whose sockets are ready; returns those that finished or timed out. Before one times out it has a
    /// last look at its socket.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut ready = std::mem::take(&mut self.ready);
        for id in ready.drain(..) {
            let Some(probe) = self.probes.get_mut(&id) else { continue };
            let before = probe.interest();
            let end = match probe.advance() {
                None => watch(&self.epoll, probe, before).err().map(|_| CheckEnd::Short),
                end => end,
            };
            if let Some(end) = end {
                ended.push((id, probe.started(), end));
                self.remove(id);
            }
        }
        self.ready = ready; // for its memory
        while let Some(&(deadline, id)) = self.deadlines.first().filter(|&&(at, _)| at <= now) {
            let Some(probe) = self.probes.get_mut(&id) else {
                self.deadlines.remove(&(deadline, id));
                continue;
            };
            let before = probe.interest();
            let end = match probe.look(now) {
                None => watch(&self.epoll, probe, before).err().map(|_| CheckEnd::Short),
                end => end,
            };
            match end {
                Some(end) => {
                    ended.push((id, probe.started(), end));
                    self.remove(id);
                }
                None => {
                    self.deadlines.remove(&(deadline, id));
                    self.deadlines.insert((probe.deadline(), id));
                }
            }
        }
        ended
    }
}

/// Watches the probe's socket for what it waits for now, if that was something else before. An error means that the
/// kernel has no memory for it.
fn watch(epoll: &OwnedFd, probe: &Probe, before: EventFlags) -> io::Result<()> {
    if probe.interest() == before {
        return Ok(());
    }
    let id = probe.endpoint();
    Ok(epoll::modify(epoll, probe, data(id), probe.interest())?)
}

fn data(id: EndpointId) -> EventData {
    EventData::new_u64(u64::from(id.0))
}

fn until_then(until: Instant) -> Timespec {
    let wait = until.saturating_duration_since(Instant::now()).min(MAX_WAIT);
    Timespec::try_from(wait).unwrap_or_default()
}

fn unless_interrupted(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
