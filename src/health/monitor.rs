//! The health thread itself: one turn waits, takes what ended and what was said, begins what is due,
//! and publishes once.
//!
//! Owns the order of a turn, the publication and the log lines; decides neither health (`judge`, `roster`) nor times
//! (`schedule`, `ejection`). Invariants: every endpoint of the roster is in the schedule, and each of them that is
//! in no queue has exactly one probe in flight; only this file publishes snapshots; nothing here
//! blocks but the wait.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, Sender};
use log::Level;

use crate::balance::detail::{CheckNote, Moment};
use crate::balance::{EndpointId, EndpointState, Report, Shared, Snapshot, Streak};
use crate::base::shortage::Shortage;
use crate::metrics::Counters;
use crate::reason::{Incident, Reason};
use crate::settings::{Plan, TargetState};

use super::checked::HealthEvent;
use super::flight::InFlight;
use super::handover::Handover;
use super::history::Why;
use super::judge::Judgement;
use super::lookup::{LookupResult, Wanted};
use super::names::{self, Names};
use super::place::Place;
use super::probe::{Begun, CheckEnd, CheckFailure, CheckResult, Lack, Probe};
use super::record::EndpointRecord;
use super::resolve::{Query, Resolved, Resolvers};
use super::roster::Roster;
use super::schedule::{Schedule, Urgency};
use super::steering::{SteerError, SteerOrder, Steered};
use super::wake::Wake;
use super::{Latch, REPORTS, Received};

/// Probes at once: each is a descriptor that clients cannot have. Hung ones end at their timeout.
const MAX_IN_FLIGHT: usize = 512;

/// Of those, kept free for what workers reported: hung targets must not delay the end of a dead one.
const REPORTED_RESERVE: usize = 64;

/// How long probing rests after the process ran out of descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// How long it sleeps at most while probes run: it sees by that whether it stood still.
const BEAT: Duration = Duration::from_millis(200);

/// A wait that ends later than it should by more than this was one in which this process stood still: it was stopped, or
/// had no processor. What ran meanwhile says nothing of the other side.
const STALL: Duration = Duration::from_millis(100);

/// From when on such a wait is worth a line of the log, and how long from one such line to the next.
const LONG_STALL: Duration = Duration::from_secs(1);
const STALL_LINES: Duration = Duration::from_secs(10);

/// How long after it workers may still report what it made them believe.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long the thread rests after a contained panic or a failed wait, so that neither can spin.
const MISHAP_PAUSE: Duration = Duration::from_millis(100);

/// From one publication to the next for each endpoint, and at most: workers walk over every endpoint of a new
/// snapshot, so when many change, many are published together. The first change after a pause is published at once.
const PUBLISH_PAUSE_EACH: Duration = Duration::from_micros(20);
const PUBLISH_PAUSE: Duration = Duration::from_millis(20);

/// What names get, beside the longest probe timeout, before the first round is declared over.
const RESOLVE_BOUND: Duration = Duration::from_secs(5);

/// Everything the health thread works on.
pub(super) struct Monitor {
    pub(super) roster: Roster,
    schedule: Schedule<EndpointId>,
    flight: InFlight,
    /// When the last turn began.
    turned: Instant,
    /// How long answers may gather.
    gather: Duration,
    /// When the time of each ejected endpoint is over. One that came in before may still be here.
    terms: BTreeSet<(Instant, EndpointId)>,
    names: Names,
    inputs: Inputs,
    shared: Arc<Shared>,
    first_round: FirstRound,
    /// Until when no probe is begun, since descriptors ran out.
    resting: Option<Instant>,
    /// It was logged that names cannot be looked up for lack of something here.
    lookups_paused: bool,
    /// Those of which it was logged that they cannot be probed.
    barred: BTreeSet<EndpointId>,
    /// When this process last stood still, as far as this thread saw, and when a line was last written about that.
    stalled: Option<Instant>,
    stall_told: Option<Instant>,
    /// Whether it was logged that nothing is healthy.
    told_none: bool,
    /// Something the snapshot shows has changed since it was published.
    changed: bool,
    /// Until when nothing is published.
    unpublished_until: Instant,
    /// Log lines, written after the next publication: who reads one finds it to be so.
    lines: Vec<(Level, String)>,
}

/// Where other threads speak to this one.
pub(super) struct Inputs {
    pub(super) reports: Receiver<Received>,
    pub(super) plans: Receiver<NewPlan>,
    pub(super) orders: Receiver<NewOrder>,
    pub(super) records: Receiver<Sender<Vec<EndpointRecord>>>,
    pub(super) resolvers: Resolvers,
    pub(super) wake: Arc<Wake>,
    /// What this thread counts; nobody else writes there.
    pub(super) counters: Arc<Counters>,
}

/// A plan that is to take the place of the one there is.
pub(super) struct NewPlan {
    pub(super) plan: Arc<Plan>,
    /// It is taken by this thread, or withdrawn by whoever has waited too long: whoever sets it first.
    pub(super) handover: Arc<Handover>,
    /// Gets the generation of the first snapshot under it.
    pub(super) applied: Sender<io::Result<u64>>,
}

/// Something that somebody decides about a target.
pub(super) struct NewOrder {
    pub(super) order: SteerOrder,
    /// Gets what was decided, and the generation of the first snapshot that shows it.
    pub(super) decided: Sender<OrderOutcome>,
}

/// What became of an order, and the generation that shows it.
type OrderOutcome = (Result<Steered, SteerError>, u64);

/// The first probe of everything: what a start waits for.
struct FirstRound {
    deadline: Option<Instant>,
    latch: Arc<Latch>,
}

impl Monitor {
    /// Takes over `roster`; everything in it is due at `now`.
    pub(super) fn new(
        roster: Roster,
        flight: InFlight,
        inputs: Inputs,
        shared: Arc<Shared>,
        latch: Arc<Latch>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let bound = RESOLVE_BOUND + roster.longest_timeout();
        let mut monitor = Monitor {
            schedule: Schedule::new(seed),
            flight,
            turned: now,
            gather: roster.gather_time(),
            terms: BTreeSet::new(),
            names: Names::new(roster.names(), now),
            roster,
            inputs,
            shared,
            first_round: FirstRound { deadline: Some(now + bound), latch },
            resting: None,
            lookups_paused: false,
            barred: BTreeSet::new(),
            stalled: None,
            stall_told: None,
            told_none: false,
            changed: true,
            unpublished_until: now,
            lines: Vec::new(),
        };
        monitor.schedule_everything(seed, now);
        monitor.publish(now);
        monitor
    }

    /// Turns until it is asked to stop. A panic in a turn is logged and contained.
    pub(super) fn run(mut self) {
        let wake = Arc::clone(&self.inputs.wake);
        keep_turning(
            || wake.stopped(),
            |after_panic| {
                if after_panic {
                    self.recover(Instant::now());
                }
                self.turn();
            },
        );
        self.publish(Instant::now());
        self.write_log();
    }

    fn turn(&mut self) {
        let late = self.wait();
        let now = Instant::now();
        self.turned = now;
        if late > STALL {
            self.note_stall(late, now);
        }
        for (endpoint, started, end) in self.flight.advance(now) {
            self.end(endpoint, now.saturating_duration_since(started), end, now);
        }
        let waiting = self.flight.waiting(now);
        if !waiting.is_empty() {
            self.shared.asks.ask(&waiting);
            self.shared.bell.ring();
        }
        self.take_reports(now);
        let applied = self.take_plans(now);
        let decided = self.take_orders(now);
        for asked in self.inputs.records.try_iter() {
            // Whoever asked may have stopped waiting.
            let _ = asked.send(self.roster.records(now));
        }
        self.take_answers(now);
        self.ask_names(now);
        self.end_terms(now);
        self.begin_due(now);
        self.retire_endpoints();
        if !self.changed || now >= self.unpublished_until {
            self.publish(now);
            self.end_first_round(now);
            self.tell_if_none_is_healthy();
            self.write_log();
        }
        for reply in applied {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Ok(self.shared.snapshot.load().generation));
        }
        for (reply, outcome) in decided {
            // Likewise.
            let _ = reply.send((outcome, self.shared.snapshot.load().generation));
        }
        // While nothing is healthy, the first request after a return is to be served.
        let hurry = self.shared.snapshot.load().healthy_count() == 0;
        self.schedule.hurry(hurry, now);
        self.names.hurry(hurry, now);
    }

    /// A panic may have lost a probe or a lookup: all are begun anew.
    fn recover(&mut self, now: Instant) {
        self.flight.clear();
        self.schedule_everything(1, now);
        self.names.restart(now);
        self.changed = true;
    }

    fn schedule_everything(&mut self, seed: u64, now: Instant) {
        self.schedule = Schedule::new(seed);
        for (id, interval) in self.roster.endpoints() {
            self.schedule.add(id, interval, now);
            self.terms.extend(self.roster.term(id).map(|end| (end, id)));
        }
    }

    /// When there is something to do even if no socket and no other thread stirs.
    fn next_event(&self) -> Option<Instant> {
        let room = |reserve| self.flight.len() + reserve < MAX_IN_FLIGHT;
        let begin = [(Urgency::Reported, 0), (Urgency::Routine, REPORTED_RESERVE)]
            .into_iter()
            .filter(|&(_, reserve)| room(reserve))
            .filter_map(|(urgency, _)| self.schedule.next_due(urgency))
            .map(|due| self.resting.map_or(due, |until| due.max(until)));
        let publish = self.changed.then_some(self.unpublished_until);
        let first_round = self.first_round.deadline.map(|at| publish.map_or(at, |it| at.max(it)));
        begin
            .chain(self.flight.next_event())
            .chain(self.names.next_due())
            .chain(first_round)
            .chain(publish)
            .chain(self.terms.first().map(|&(end, _)| end))
            .min()
    }

    /// Waits for something to do. How much later it ended than it should have.
    fn wait(&mut self) -> Duration {
        let beat = (self.flight.len() > 0).then(|| self.turned + BEAT);
        let until = self.next_event().into_iter().chain(beat).min();
        if let Err(error) = self.flight.wait(until, self.turned + self.gather) {
            log::error!("the health thread cannot wait: {error}");
            thread::sleep(MISHAP_PAUSE);
        }
        let due = until.unwrap_or_else(Instant::now);
        Instant::now().saturating_duration_since(due)
    }

    /// This process stood still: the time of probes that run begins anew, and a long stall is logged.
    fn note_stall(&mut self, late: Duration, now: Instant) {
        self.stalled = Some(now);
        self.flight.pause(now);
        let told = self.stall_told.is_some_and(|at| now < at + STALL_LINES);
        if late >= LONG_STALL && !told {
            self.stall_told = Some(now);
            let line = format!(
                "this process was paused for {} ms (stopped, suspended or without CPU): health checks of that time do not count",
                late.as_millis()
            );
            self.lines.push((Level::Warn, line));
        }
    }

    /// A probe ended: with a verdict, or to be made again.
    fn end(&mut self, id: EndpointId, took: Duration, end: CheckEnd, now: Instant) {
        match end {
            CheckEnd::Found(outcome) => self.conclude(id, took, &outcome, now),
            CheckEnd::Paused(reason) if !self.roster.excuse(id) => {
                self.conclude(id, took, &Err(reason), now);
            }
            CheckEnd::Paused(_) => self.schedule.repeat(id, now),
            CheckEnd::Short => self.schedule.postpone(id, now),
        }
    }

    fn conclude(&mut self, id: EndpointId, took: Duration, outcome: &CheckResult, now: Instant) {
        let verdict = outcome.as_ref().map_or_else(CheckFailure::verdict, |_| Judgement::Good);
        let first = self.roster.is_new(id);
        self.roster.count_check(id, outcome.is_ok(), took);
        let Some(ruling) = self.roster.observe(id, verdict, now) else { return };
        let moment = Moment { wall: SystemTime::now(), at: now };
        let check = CheckNote {
            ended: moment.wall,
            took,
            passed: outcome.is_ok(),
            result: match outcome {
                Ok(success) => success.to_string().into(),
                Err(reason) => reason.to_string().into(),
            },
            reason: outcome.as_ref().err().map(CheckFailure::reason),
        };
        if let Some(HealthEvent::Ejected(streak, count)) = ruling.change {
            self.roster.note_ejection(id, why_ejected(streak, count));
        }
        self.roster.note_check(id, check, moment);
        if let Err(failure) = outcome {
            self.inputs.counters.reasons.count(Incident::Check, failure.reason());
        }
        self.barred.remove(&id);
        self.schedule.finish(id, now, ruling.standing);
        self.changed |= ruling.looks_different;
        if let Some(change) = ruling.change {
            self.changed = true;
            self.tell_change(id, change, first, took, outcome);
        }
    }

    fn tell_change(
        &mut self,
        id: EndpointId,
        change: HealthEvent,
        first: bool,
        took: Duration,
        outcome: &CheckResult,
    ) {
        let took = took.as_millis();
        let reason = match (change, outcome) {
            (HealthEvent::Ejected(streak, _), _) => {
                let reason = reason_of(streak);
                self.inputs.counters.reasons.count(Incident::Ejection, reason);
                Some(reason)
            }
            (_, outcome) => outcome.as_ref().err().map(CheckFailure::reason),
        };
        let (level, what) = match (change, outcome) {
            (HealthEvent::Up, Ok(success)) => (Level::Info, format!("up: {success} in {took} ms")),
            (HealthEvent::UpAgain, Ok(success)) => {
                (Level::Info, format!("up again: {success} in {took} ms"))
            }
            (HealthEvent::Recovered, Ok(success)) => {
                (Level::Info, format!("passing its health checks again: {success} in {took} ms"))
            }
            (HealthEvent::Ejected(streak, count), _) => {
                let why = Report::Streak(streak, count);
                (Level::Warn, format!("ejected until a health check succeeds: {why}"))
            }
            (HealthEvent::Spared, Err(failure)) => (
                Level::Warn,
                format!(
                    "kept although its health checks fail, because it is the last one and serves requests: {failure}"
                ),
            ),
            (HealthEvent::Down, Err(failure)) if first && self.roster.has_other_family(id) => (
                Level::Info,
                format!("left out: {failure}; its host has an address of the other family"),
            ),
            (_, Err(failure)) => (Level::Warn, format!("down: {failure}")),
            (HealthEvent::Down | HealthEvent::Spared, Ok(_)) => return, // no success does that
        };
        self.tell(id, level, &what, reason);
    }

    fn tell(&mut self, id: EndpointId, level: Level, what: &str, reason: Option<Reason>) {
        let Some(endpoint) = self.roster.assignment(id) else { return };
        let who = format!("target {} ({})", endpoint.label, endpoint.address);
        let healthy = self.roster.healthy_count();
        let decided = self.roster.decided(id);
        let decided = match (decided.state, decided.saved) {
            (Some(state), _) => format!("; {} by hand", state.name()),
            (None, TargetState::Auto) => String::new(),
            (None, saved) => format!("; {} by the file", saved.name()),
        };
        let why = reason.map(|reason| format!("; reason: {reason}")).unwrap_or_default();
        self.lines
            .push((level, format!("{who} is {what}{decided}; healthy endpoints: {healthy}{why}")));
    }

    /// Handles the reports of workers, at most [`REPORTS`] at once. A report about an endpoint that is no longer healthy is
    /// out of date and dropped.
    fn take_reports(&mut self, now: Instant) {
        let reports: Vec<Received> = self.inputs.reports.try_iter().take(REPORTS).collect();
        for Received { endpoint, report, at } in reports {
            if self.roster.is_healthy(endpoint) {
                if let Some(it) = self.roster.assignment(endpoint) {
                    log::debug!("target {} ({}): a worker saw {report}", it.label, it.address);
                }
                self.schedule.report(endpoint, at, now);
                let stalled = self.stalled.is_some_and(|stalled| at <= stalled + AFTERMATH);
                if let Report::Streak(streak, count) = report
                    && !(stalled && may_be_of_a_pause(streak))
                {
                    self.eject(endpoint, (streak, count), now);
                }
            }
        }
    }

    fn eject(&mut self, id: EndpointId, why: (Streak, u32), now: Instant) {
        if let Some(time) = self.roster.accuse(id, why, now) {
            let (noted, reason) = (why_ejected(why.0, why.1), reason_of(why.0));
            self.inputs.counters.reasons.count(Incident::Ejection, reason);
            let text = Arc::clone(&noted.text);
            self.roster.note_ejection(id, noted);
            self.changed = true;
            self.terms.insert((now + time, id));
            let term = match time {
                Duration::ZERO => "until a health check succeeds".to_owned(),
                time => format!("for {time:?}"),
            };
            self.tell(id, Level::Warn, &format!("ejected {term}: {text}"), Some(reason));
        }
    }

    /// Follows new plans, the last of which holds. Those who wait for the publication.
    fn take_plans(&mut self, now: Instant) -> Vec<Sender<io::Result<u64>>> {
        let mut waiting = Vec::new();
        while let Ok(NewPlan { plan, handover, applied }) = self.inputs.plans.try_recv() {
            if !handover.take() {
                continue;
            }
            let names = plan.targets.iter().filter(|it| Wanted::of(&it.address).is_some()).count();
            if let Err(error) = self.inputs.resolvers.follow(names) {
                let _ = applied.send(Err(error));
                continue;
            }
            let check = self.roster.follow(plan, now);
            for id in check {
                self.schedule.remove(id);
                self.flight.remove(id);
                self.welcome(id, now);
            }
            self.names.follow(self.roster.names(), now);
            self.gather = self.roster.gather_time();
            self.changed = true;
            self.unpublished_until = now;
            waiting.push(applied);
        }
        waiting
    }

    /// Follows what somebody decides. Those who wait for the publication, and what became of it.
    fn take_orders(
        &mut self,
        now: Instant,
    ) -> Vec<(Sender<OrderOutcome>, Result<Steered, SteerError>)> {
        let mut waiting = Vec::new();
        while let Ok(NewOrder { order, decided }) = self.inputs.orders.try_recv() {
            let outcome = self.roster.steer(&order);
            if outcome.is_ok() {
                self.changed = true;
                self.unpublished_until = now;
            }
            waiting.push((decided, outcome));
        }
        waiting
    }

    /// An ejected endpoint whose time is over is probed at once: if that succeeds it is back.
    fn end_terms(&mut self, now: Instant) {
        while let Some(&(end, id)) = self.terms.first().filter(|&&(end, _)| end <= now) {
            self.terms.remove(&(end, id));
            if self.roster.awaits_return(id, now) {
                self.schedule.report(id, now, now);
            }
        }
    }

    fn take_answers(&mut self, now: Instant) {
        while let Some(Resolved { target, finding }) = self.inputs.resolvers.next_answer() {
            if let Some(why) = finding.trouble() {
                self.changed |= self.roster.set_trouble(target, why);
            }
            self.note_lack(&finding);
            let outcome = self.names.take(target, finding, now);
            if let Some(news) = outcome.news {
                self.tell_of_name(target, news, outcome.places.as_deref());
            }
            if let Some(places) = outcome.places {
                let update = self.roster.set_addresses(target, &places, now);
                self.changed |= update.changed;
                update.added.into_iter().for_each(|id| self.welcome(id, now));
            }
        }
    }

    /// Logs once that names cannot be looked up for lack of something here, and once that they can be again.
    fn note_lack(&mut self, finding: &LookupResult) {
        match finding {
            LookupResult::Short(why) if !std::mem::replace(&mut self.lookups_paused, true) => {
                let line = format!("name lookups paused, and addresses stay: {why}");
                self.lines.push((Level::Warn, line));
            }
            LookupResult::Short(_) => {}
            _ if std::mem::take(&mut self.lookups_paused) => {
                self.lines.push((Level::Info, "name lookups resumed".into()));
            }
            _ => {}
        }
    }

    /// A new endpoint, of a name or of a target that a reload added, is probed at once.
    fn welcome(&mut self, id: EndpointId, now: Instant) {
        if let Some(interval) = self.roster.interval(id) {
            self.schedule.add(id, interval, now);
            self.terms.extend(self.roster.term(id).map(|end| (end, id)));
        }
    }

    fn tell_of_name(&mut self, target: usize, news: names::LogEvent, places: Option<&[Place]>) {
        let Some((label, known)) = self.roster.target(target) else { return };
        let (healthy, now) = (self.roster.healthy_count(), places.map_or(known, <[_]>::len));
        let (level, line) = match news {
            names::LogEvent::Resolves => (Level::Info, format!("resolves again; addresses: {now}")),
            names::LogEvent::Fails(why) if known == 0 => (
                Level::Warn,
                format!("is down: it does not resolve: {why}; healthy endpoints: {healthy}"),
            ),
            names::LogEvent::Fails(why) => (
                Level::Warn,
                format!(
                    "no longer resolves: {why}; addresses kept: {known}; \
                     healthy endpoints: {healthy}"
                ),
            ),
            names::LogEvent::InPart(why) => (
                Level::Warn,
                format!("resolves only partially: {why}; addresses found or kept: {now}"),
            ),
            names::LogEvent::Withdrawn(why) => {
                (Level::Warn, format!("is gone from DNS: {why}; addresses removed: {known}"))
            }
        };
        self.lines.push((level, format!("target {label} {line}")));
    }

    fn ask_names(&mut self, now: Instant) {
        for (target, wanted) in self.names.take_due(now) {
            self.inputs.resolvers.ask(Query { target, wanted });
        }
    }

    fn begin_due(&mut self, now: Instant) {
        if self.resting.is_some_and(|until| now < until) {
            return;
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.flight.len());
        let urgent = self.schedule.take_due(Urgency::Reported, now, room);
        let room = room.saturating_sub(urgent.len()).saturating_sub(REPORTED_RESERVE);
        let routine = self.schedule.take_due(Urgency::Routine, now, room);
        let urgent = urgent.into_iter().map(|id| (id, true));
        let mut due = urgent.chain(routine.into_iter().map(|id| (id, false)));
        let short = due.find_map(|(id, urgent)| Some((id, self.begin(id, urgent, now).err()?)));
        if let Some((id, error)) = short {
            self.rest(&error, now);
            let left = due.map(|(id, _)| id);
            std::iter::once(id).chain(left).for_each(|id| self.schedule.put_back(id));
        }
    }

    /// Begins one probe; an error means that this process lacks what any probe needs.
    fn begin(&mut self, id: EndpointId, urgent: bool, now: Instant) -> io::Result<()> {
        let Some(endpoint) = self.roster.assignment(id) else { return Ok(()) };
        // Its time counts from here: of many that begin in one turn the last ones do so much later than the turn.
        let started = Instant::now();
        let ended = match Probe::begin(id, &endpoint.address, &endpoint.spec, urgent, started) {
            Ok(Begun::InFlight(probe)) => {
                self.flight.add(probe)?;
                None
            }
            Ok(Begun::Ended(outcome)) => Some(outcome),
            Err(Lack { shortage: Shortage::Descriptors | Shortage::Memory, error }) => {
                return Err(error);
            }
            Err(Lack { error, .. }) => {
                self.bar(id, &error, now);
                return Ok(());
            }
        };
        self.schedule.begin(id, started);
        self.roster.look_at(id, started);
        if self.resting.take().is_some() {
            self.lines.push((Level::Info, "health checks resumed".into()));
        }
        if let Some(outcome) = ended {
            self.conclude(id, Duration::ZERO, &outcome, now);
        }
        Ok(())
    }

    /// This endpoint cannot be probed from here now, which says nothing of it, nor of others.
    fn bar(&mut self, id: EndpointId, error: &io::Error, now: Instant) {
        self.schedule.postpone(id, now);
        self.roster.try_in_vain(id);
        if self.barred.insert(id) {
            self.tell(id, Level::Warn, &format!("not checked, and keeps its state: {error}"), None);
        }
    }

    fn rest(&mut self, error: &io::Error, now: Instant) {
        if self.resting.replace(now + SHORTAGE_PAUSE).is_none() {
            let line = format!("health checks paused, and endpoints keep their state: {error}");
            self.lines.push((Level::Warn, line));
        }
    }

    /// Ends endpoints that no target has any more, since its name lost the address or a reload the target, their probes included.
    fn retire_endpoints(&mut self) {
        for (id, address, label) in self.roster.retire() {
            self.changed = true;
            self.schedule.remove(id);
            self.flight.remove(id);
            self.barred.remove(&id);
            let healthy = self.roster.healthy_count();
            self.lines.push((
                Level::Info,
                format!("target {label} no longer has {address}; healthy endpoints: {healthy}"),
            ));
        }
    }

    fn publish(&mut self, now: Instant) {
        if std::mem::take(&mut self.changed) {
            let endpoints = u32::try_from(self.roster.len()).unwrap_or(u32::MAX);
            let pause = PUBLISH_PAUSE_EACH.saturating_mul(endpoints).min(PUBLISH_PAUSE);
            self.unpublished_until = now + pause;
            let generation = self.shared.snapshot.load().generation + 1;
            self.roster.show(Moment { wall: SystemTime::now(), at: now });
            self.shared.snapshot.store(Arc::new(self.roster.snapshot(generation)));
            // Requests may wait for one that has gone down.
            self.shared.bell.ring();
        }
    }

    /// Says once why nothing is healthy, each time it comes to that: endpoints that are ejected and endpoints whose
    /// probes fail call for different remedies.
    fn tell_if_none_is_healthy(&mut self) {
        let snapshot = self.shared.snapshot.load();
        if snapshot.healthy_count() > 0 {
            self.told_none = false;
        } else if self.first_round.deadline.is_none() && !self.told_none {
            self.told_none = true;
            let unresolved = self.roster.without_address();
            self.lines.push((Level::Warn, why_none(&snapshot, unresolved)));
        }
    }

    fn end_first_round(&mut self, now: Instant) {
        let Some(deadline) = self.first_round.deadline else { return };
        let whole = self.names.all_answered() && self.roster.all_probed();
        if whole || now >= deadline {
            self.first_round.deadline = None;
            self.roster.forget_records();
            self.first_round.latch.open();
            let (healthy, all) = (self.roster.healthy_count(), self.roster.shown_count());
            let level = if healthy == 0 { Level::Warn } else { Level::Info };
            let mut line = format!("healthy endpoints: {healthy} of {all}");
            if let without @ 1.. = self.roster.without_address() {
                line.push_str(&format!("; targets without an address: {without}"));
            }
            self.lines.push((level, line));
        }
    }

    fn write_log(&mut self) {
        for (level, line) in self.lines.drain(..) {
            log::log!(level, "{line}");
        }
    }
}

fn why_none(snapshot: &Snapshot, unresolved: usize) -> String {
    let ejected = snapshot.count(EndpointState::Ejected);
    let failing = snapshot.count(EndpointState::Down);
    let by_hand = [EndpointState::Drained, EndpointState::Disabled].map(|it| snapshot.count(it));
    let counts = [
        (ejected, "ejected for failing requests"),
        (failing, "failing health checks"),
        (by_hand.iter().sum(), "taken out by hand"),
        (unresolved, "without an address"),
    ];
    let reasons = counts.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<String> = reasons.map(|(count, why)| format!("{count} {why}")).collect();
    format!("no healthy endpoint: {}", reasons.join(", "))
}

/// Why one with so many failures of this kind is ejected.
fn why_ejected(streak: Streak, count: u32) -> Why {
    let text = Report::Streak(streak, count).to_string().into();
    Why { text, reason: Some(reason_of(streak)) }
}

/// The reason of an ejection for such a streak.
fn reason_of(streak: Streak) -> Reason {
    match streak {
        Streak::ConnectFailures => Reason::ConsecutiveConnectFailures,
        Streak::Resets | Streak::Replayed => Reason::ConsecutiveResets,
        Streak::Timeouts => Reason::ConsecutiveTimeouts,
        Streak::Errors => Reason::ConsecutiveServerErrors,
    }
}

/// Whether a worker that stood still may have seen that where there was none of it.
fn may_be_of_a_pause(streak: Streak) -> bool {
    matches!(streak, Streak::ConnectFailures | Streak::Timeouts)
}

/// Calls `turn` until `stopped`. One that panics is logged, and the next one knows of it: a health thread
/// that ended would leave dead targets in the snapshot forever.
fn keep_turning(stopped: impl Fn() -> bool, mut turn: impl FnMut(bool)) {
    let mut after_panic = false;
    while !stopped() {
        let result = catch_unwind(AssertUnwindSafe(|| turn(after_panic)));
        after_panic = result.is_err();
        if after_panic {
            log::error!("the health thread panicked and goes on; every endpoint is checked again");
            thread::sleep(MISHAP_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_panic_in_a_turn_is_contained_and_the_next_turn_knows() {
        let turns = Cell::new(0);
        let mut told = Vec::new();
        keep_turning(
            || turns.get() == 3,
            |after_panic| {
                turns.set(turns.get() + 1);
                told.push(after_panic);
                assert_ne!(turns.get(), 2, "the second turn panics");
            },
        );
        assert_eq!(told, [false, false, true]);
    }
}
