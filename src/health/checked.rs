//! One endpoint: what its checks and the workers say of it, and what that makes it. Pure.
//!
//! Owns its judge, its ejections, and what it served; the others matter to it only as [`Company`]. Reads no clock (`now` is an
//! argument). Invariants: the checks of an ejected endpoint succeed, for one whose checks fail is down; a suspicion waits for
//! the next verdict and no longer.

use std::time::{Duration, Instant};

use crate::balance::detail::{Moment, Override};
use crate::balance::{EndpointId, EndpointState, Preference, Served, Streak};
use crate::base::address::Address;
use crate::reason::Reason;
use crate::settings::{Ejection, TargetState};

use super::ejection::{Ejections, EndpointCounts, allows};
use super::history::{History, Standpoint, Why};
use super::judge::{Judge, Judgement, Transition};
use super::place::Place;
use super::record::{EndpointRecord, ms, ms_between};

/// A request that was served is a sign of life for so long.
const LATELY: Duration = Duration::from_secs(10);

/// An endpoint that breaks what others serve is not as it was when it last served, if that was so long ago: a process of it that
/// ends and is started again takes less.
const JUST_NOW: Duration = Duration::from_secs(1);

/// The most consecutive checks that are made again because this process stood still.
const MAX_EXCUSED: u32 = 2;

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthEvent {
    /// The endpoint may be picked from now on.
    Up,
    /// Likewise, after it was ejected.
    UpAgain,
    /// The endpoint may not be picked: its probes fail.
    Down,
    /// The endpoint may not be picked: workers saw so many of a kind, and a check failed too.
    Ejected(Streak, u32),
    /// Its probes fail, but it is the last one, and serves requests: it may be picked on.
    Spared,
    /// Its probes succeed again, without its having been down.
    Recovered,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) id: EndpointId,
    pub(super) address: Address,
    pub(super) host: u64,
    pub(super) preference: Preference,
    pub(super) judge: Judge,
    pub(super) ejections: Ejections,
    /// What workers saw of it, until a check has shown whether there is more to it.
    suspicion: Option<(Streak, u32)>,
    /// When a check last cleared it of failed connects.
    cleared: Option<Instant>,
    pub(super) served: Served,
    /// When that was last asked, and when it last had served.
    asked: Instant,
    served_at: Option<Instant>,
    /// Its checks fail as often as takes an endpoint down, but it is the last one and serves requests.
    pub(super) spared: bool,
    /// Consecutive checks that were made again without a verdict.
    excused: u32,
    /// It was looked at, if in vain for lack of something here.
    pub(super) tried: bool,
    /// Nobody was there when it was last checked.
    pub(super) absent: bool,
    /// It was up at some time.
    pub(super) known: bool,
    /// What is known of it was another process's, and this one has not looked at it.
    pub(super) inherited: bool,
    /// Its name no longer has this address; it goes as soon as its successors have been probed.
    pub(super) leaving: bool,
    /// What somebody has decided about it.
    pub(super) decided: Override,
    pub(super) history: History,
}

/// How it stands with the others when a verdict comes.
pub(super) struct Company {
    /// None of them is up.
    pub(super) alone: bool,
    pub(super) rules: Ejection,
    pub(super) counts: EndpointCounts,
}

impl Checked {
    pub(super) fn new(id: EndpointId, place: &Place, member: (u32, u32), now: Instant) -> Self {
        Checked {
            id,
            address: place.address.clone(),
            host: place.host,
            preference: place.preference(),
            judge: Judge::new(member.0, member.1),
            ejections: Ejections::default(),
            suspicion: None,
            cleared: None,
            served: Served::default(),
            asked: now,
            served_at: None,
            spared: false,
            excused: 0,
            tried: false,
            absent: false,
            known: false,
            inherited: false,
            leaving: false,
            decided: Override::default(),
            history: History::new(),
        }
    }

    /// Goes on from what another process knew of it.
    pub(super) fn resume(&mut self, record: &EndpointRecord, now: Instant) {
        // No count comes near this.
        self.judge.resume(record.passing, record.against.min(1 << 16));
        let until = record.ejected_ms.map(|left| now + ms(left));
        let came_in = record.returned_ms.and_then(|ago| now.checked_sub(ms(ago)));
        self.ejections = Ejections::resume(until, record.ejections, came_in);
        (self.absent, self.known) = (record.absent, record.known);
        self.inherited = true;
        self.decided = record.decided().saving(self.decided.saved);
        if let Some(ago) = record.since_ms {
            let reason = record.reason_word.as_deref().and_then(Reason::of_word);
            let why = record.reason.as_deref().map(|text| Why { text: text.into(), reason });
            self.history.resume(self.state(), ms(ago), why);
        }
    }

    /// What another process is to go on from.
    pub(super) fn record(&self, target: &str, now: Instant) -> EndpointRecord {
        let (passing, against) = self.judge.record();
        let (until, ejections, came_in) = self.ejections.record();
        let why = self.history.why(self.health());
        EndpointRecord {
            target: target.to_owned(),
            address: self.address.to_string(),
            passing,
            against,
            absent: self.absent,
            known: self.known,
            ejected_ms: until.map(|until| ms_between(now, until)),
            ejections,
            returned_ms: came_in.map(|at| ms_between(at, now)),
            since_ms: self.history.since().map(|at| ms_between(at, now)),
            reason: why.map(|why| why.text.to_string()),
            reason_word: why.and_then(|why| why.reason).map(|reason| reason.word().to_owned()),
            override_state: self.decided.state.map(|state| state.name().to_owned()),
            override_weight: self.decided.weight,
        }
    }

    /// Returns whether it changed.
    pub(super) fn prefer(&mut self, place: &Place) -> bool {
        let preference = place.preference();
        let before = (self.preference, self.host);
        (self.preference, self.host) = (preference, place.host);
        before != (preference, place.host)
    }

    /// As workers are to see it: what somebody has decided comes first.
    pub(super) fn state(&self) -> EndpointState {
        match self.decided.in_force() {
            TargetState::Auto => self.health(),
            TargetState::Up => EndpointState::Up,
            TargetState::Drain => EndpointState::Drained,
            TargetState::Down => EndpointState::Disabled,
        }
    }

    /// As its checks and its requests say.
    pub(super) fn health(&self) -> EndpointState {
        match (self.judge.is_unknown(), self.judge.is_healthy(), self.ejections.is_out()) {
            (true, ..) => EndpointState::Unknown,
            (_, false, _) => EndpointState::Down,
            (_, true, true) => EndpointState::Ejected,
            (_, true, false) => EndpointState::Up,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state() == EndpointState::Up
    }

    /// Decides about it. What workers suspect of it is of another time.
    pub(super) fn decide(&mut self, decided: Override) {
        self.decided = decided;
        self.suspicion = None;
    }

    /// Where it has its turns: as DNS says, unless somebody has decided otherwise.
    pub(super) fn preference(&self) -> Preference {
        let weight = self.decided.weight.unwrap_or(self.preference.weight);
        Preference { weight, ..self.preference }
    }

    /// Shows how it is.
    pub(super) fn show(&mut self, now: Moment) {
        let is = Standpoint {
            state: self.state(),
            health: self.health(),
            ejected_until: self.ejections.until(),
            decided: self.decided,
        };
        self.history.show(is, now);
    }

    /// Whether no check of it has even been tried.
    pub(super) fn is_new(&self) -> bool {
        self.judge.is_unknown() && !self.tried
    }

    /// Takes note of what it served since it was last asked, and returns whether it did. An answer to a question of long ago
    /// tells nothing of when.
    pub(super) fn note_served(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.asked, now));
        let served = self.served.take();
        if served && since <= LATELY {
            self.served_at = Some(now);
        }
        served
    }

    fn served_within(&self, time: Duration, now: Instant) -> bool {
        self.served_at.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    /// Whether a check of it that failed is to be made again without a verdict.
    pub(super) fn excuse(&mut self) -> bool {
        self.excused += 1;
        self.excused <= MAX_EXCUSED
    }

    /// What workers saw: an ejection and for how long, or a suspicion that the next check confirms or clears. `asks`: its
    /// check is a request, and not only a connection.
    pub(super) fn accuse(
        &mut self,
        (streak, count): (Streak, u32),
        asks: bool,
        rules: &Ejection,
        now: Instant,
    ) -> Option<Duration> {
        // Of one that is seldom asked it is not known when it served. The next streak will show it.
        let served_now = self.note_served(now);
        let serves = served_now || self.served_within(LATELY, now);
        let arrived = self.ejections.came_in_within(LATELY, now);
        let again = self.cleared.is_some_and(|at| now.saturating_duration_since(at) <= rules.time);
        let hasty = match streak {
            // These a check can repeat; if they come back soon, it does not see what workers see.
            Streak::ConnectFailures => !again,
            // These may be the requests' own doing, however often they come back.
            Streak::Timeouts => asks || serves || arrived,
            // Likewise, but a target that does so with each request is likelier than one that has only such requests.
            Streak::Resets => serves || arrived,
            // These are not, but a process that ended took several with it.
            Streak::Replayed => served_now || self.served_within(JUST_NOW, now),
            // These are counted because somebody wants that.
            Streak::Errors => serves,
        };
        if hasty && !self.judge.is_wavering() {
            let checked = asks || streak == Streak::ConnectFailures;
            self.suspicion = checked.then_some((streak, count));
            return None;
        }
        Some(self.eject(rules, now))
    }

    fn eject(&mut self, rules: &Ejection, now: Instant) -> Duration {
        self.suspicion = None;
        self.served.meters().checks.ejections.bump();
        let time = self.ejections.eject(rules, now);
        if self.judge.is_wavering() {
            self.ejections.cut_short(now);
            return Duration::ZERO;
        }
        time
    }

    /// Follows a verdict of a probe: an ejection ends when a probe succeeds after its time or after one that
    /// failed, or when as many have failed as take an endpoint down; and a success ends it too while nobody else is up.
    pub(super) fn observe(
        &mut self,
        verdict: Judgement,
        company: &Company,
        now: Instant,
    ) -> Option<HealthEvent> {
        self.note_served(now);
        self.tried = true;
        self.inherited = false;
        self.excused = 0;
        self.absent = verdict == Judgement::Gone;
        if verdict == Judgement::Good {
            return self.succeed(company, now);
        }
        let spare = verdict == Judgement::Bad
            && company.alone
            && self.is_up()
            && self.judge.is_about_to_fall()
            && self.served_within(LATELY, now);
        if spare {
            return (!std::mem::replace(&mut self.spared, true)).then_some(HealthEvent::Spared);
        }
        self.spared = false;
        if self.judge.observe(false) == Some(Transition::Down) {
            self.suspicion = None;
            self.ejections.give_way();
            return Some(HealthEvent::Down);
        }
        self.ejections.cut_short(now);
        let (streak, count) = self.suspicion.take().filter(|_| self.is_up())?;
        allows(&company.rules, company.counts).then(|| {
            self.eject(&company.rules, now);
            HealthEvent::Ejected(streak, count)
        })
    }

    fn succeed(&mut self, company: &Company, now: Instant) -> Option<HealthEvent> {
        if let Some((Streak::ConnectFailures, _)) = self.suspicion.take() {
            self.cleared = Some(now);
        }
        self.known = true;
        let spared = std::mem::take(&mut self.spared);
        let needed = company.alone && company.rules.share < 100;
        if self.judge.observe(true) == Some(Transition::Up) {
            self.ejections.come_in(now);
            Some(HealthEvent::Up)
        } else if self.ejections.is_over(now) || self.ejections.is_out() && needed {
            self.ejections.come_in(now);
            Some(HealthEvent::UpAgain)
        } else {
            spared.then_some(HealthEvent::Recovered)
        }
    }
}
