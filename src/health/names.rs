//! When each name is looked up, and what its answers come to: pure.
//!
//! Owns for each target that is a name its next lookup, its back-off, and the places of its last good answer. Reads no
//! clock (`now` is an argument), asks nobody, and makes no endpoint. Invariants: a name has at most one lookup
//! under way; the next one comes no sooner than [`MIN_TTL`] after an answer and no later than [`MAX_TTL`];
//! nothing is taken away by a lookup that failed, nor what may be in the part of it that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::lookup::{LookupResult, Missing, Wanted};
use super::place::{MAX_ADDRESSES, Place, one_for_each_address};

/// Shorter TTLs, zero among them, are raised to this: it bounds what one name costs its servers.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Longer TTLs are cut to this: a name whose TTL was once set to a week must not need a restart to be followed.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// Longer negative TTLs are cut to this: whoever adds a missing name waits for it, and one query costs little.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// How long every answer must be negative before a name's places are dropped: a zone reload, or a mistake that is
/// corrected at once, takes nothing down.
pub(super) const HOLD: Duration = Duration::from_secs(30);

/// From a first failure to the next lookup; doubled with each consecutive one, up to the target's check interval.
const RETRY: Duration = Duration::from_millis(100);

/// How long a name waits that could not be looked up for lack of something here.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);

/// However long that interval is.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// And while nothing is healthy: the first address is waited for.
const HURRIED_RETRY: Duration = Duration::from_secs(1);

/// What is to be logged about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogEvent {
    /// It did not, and does again.
    Resolves,
    /// It does not, and did or was never asked before.
    Fails(String),
    /// Only a part of it does.
    InPart(String),
    /// It no longer has a place.
    Withdrawn(String),
}

/// How much of a name was logged as failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLogged {
    Part,
    All,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The places of the target from now on; `None`: as they were.
    pub(super) places: Option<Vec<Place>>,
    pub(super) news: Option<LogEvent>,
}

/// One target that is a name.
#[derive(Debug)]
struct Name {
    wanted: Wanted,
    /// Between two probes of its endpoints: also between two lookups where answers have no TTL.
    interval: Duration,
    /// When it is looked up; `None` while it is.
    due: Option<Instant>,
    /// Consecutive lookups that failed, wholly or in part.
    failures: u32,
    /// What its last good answer gave.
    places: Vec<Place>,
    /// Since when every answer says that there is nothing.
    gone_since: Option<Instant>,
    /// What was logged of it since it last resolved.
    told: Option<LastLogged>,
    /// A lookup has ended.
    answered: bool,
}

/// All targets that are names, by their number.
#[derive(Debug)]
pub(super) struct Names {
    names: BTreeMap<usize, Name>,
    due: BTreeSet<(Instant, usize)>,
    /// Nothing is healthy: what failed is asked for again soon.
    hurry: bool,
}

impl Names {
    /// Each of them is due at `now`.
    pub(super) fn new<'a>(
        wanted: impl Iterator<Item = (usize, &'a Wanted, Duration)>,
        now: Instant,
    ) -> Self {
        let mut names = Names { names: BTreeMap::new(), due: BTreeSet::new(), hurry: false };
        names.follow(wanted, now);
        names
    }

    /// Has these from now on. New ones are due at `now`; those that stay are as they were, but for their interval.
    pub(super) fn follow<'a>(
        &mut self,
        wanted: impl Iterator<Item = (usize, &'a Wanted, Duration)>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.names);
        for (target, wanted, interval) in wanted {
            let name = before.remove(&target).unwrap_or_else(|| {
                self.due.insert((now, target));
                Name::new(wanted.clone(), now)
            });
            self.names.insert(target, Name { interval, ..name });
        }
        self.due.retain(|(_, target)| self.names.contains_key(target));
    }

    /// The earliest time at which one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Those that are due; their lookups begin.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(usize, Wanted)> {
        let mut taken = Vec::new();
        while let Some(&(due, target)) = self.due.first().filter(|&&(due, _)| due <= now) {
            self.due.remove(&(due, target));
            if let Some(name) = self.names.get_mut(&target) {
                name.due = None;
                taken.push((target, name.wanted.clone()));
            }
        }
        taken
    }

    /// Whether a first lookup of each has ended.
    pub(super) fn all_answered(&self) -> bool {
        self.names.values().all(|name| name.answered)
    }

    /// Whether there is a hurry from now on. When it begins, names that nobody answered are due soon.
    pub(super) fn hurry(&mut self, hurry: bool, now: Instant) {
        if std::mem::replace(&mut self.hurry, hurry) || !hurry {
            return;
        }
        let soon = now + HURRIED_RETRY;
        let failed = self.names.iter().filter(|(_, name)| name.failures > 0);
        let late = failed.filter(|(_, name)| name.due.is_some_and(|due| due > soon));
        let late: Vec<usize> = late.map(|(&target, _)| target).collect();
        late.into_iter().for_each(|target| self.set_due(target, soon));
    }

    /// Lookups may have been lost: all are begun anew.
    pub(super) fn restart(&mut self, now: Instant) {
        let targets: Vec<usize> = self.names.keys().copied().collect();
        for target in targets {
            self.set_due(target, now);
        }
    }

    /// Takes what a lookup found.
    pub(super) fn take(&mut self, target: usize, finding: LookupResult, now: Instant) -> Outcome {
        let Some(name) = self.names.get_mut(&target) else {
            return Outcome { places: None, news: None };
        };
        name.answered |= !matches!(finding, LookupResult::Short(_));
        let (outcome, wait) = match finding {
            // It was not looked up: nothing is known that was not known before.
            LookupResult::Short(_) => (Outcome { places: None, news: None }, SHORTAGE_PAUSE),
            // The lookup goes on: nothing is due before its end.
            LookupResult::Early(places) => return name.resolve_early(places),
            LookupResult::Places { places, ttl, missing: None } => name.resolve(places, ttl),
            LookupResult::Places { places, ttl, missing: Some(missing) } => {
                name.resolve_in_part(places, ttl, missing)
            }
            LookupResult::Nothing { why, ttl } => name.miss(why, ttl, now),
            LookupResult::Unavailable { why, ttl } => (name.withdraw(why), bounded(ttl, MAX_TTL)),
            LookupResult::Failed(why) => (name.tell(LogEvent::Fails(why)), name.retry()),
        };
        let failed = name.failures > 0;
        let wait = if self.hurry && failed { wait.min(HURRIED_RETRY) } else { wait };
        self.set_due(target, now + wait);
        outcome
    }

    fn set_due(&mut self, target: usize, at: Instant) {
        let Some(name) = self.names.get_mut(&target) else { return };
        if let Some(before) = name.due.replace(at) {
            self.due.remove(&(before, target));
        }
        self.due.insert((at, target));
    }
}

impl Name {
    fn new(wanted: Wanted, now: Instant) -> Self {
        Name {
            wanted,
            interval: Duration::ZERO,
            due: Some(now),
            failures: 0,
            places: Vec::new(),
            gone_since: None,
            told: None,
            answered: false,
        }
    }

    fn resolve(&mut self, places: Vec<Place>, ttl: Option<Duration>) -> (Outcome, Duration) {
        self.failures = 0;
        self.gone_since = None;
        self.places.clone_from(&places);
        let news = self.told.take().map(|_| LogEvent::Resolves);
        let wait = ttl.map_or(self.interval, |ttl| bounded(ttl, MAX_TTL));
        (Outcome { places: Some(places), news }, wait)
    }

    /// What was found so far is added, and nothing is taken away before the rest is known.
    fn resolve_early(&mut self, mut places: Vec<Place>) -> Outcome {
        self.add_kept(&mut places, |_| true);
        Outcome { places: Some(places), news: None }
    }

    /// Adds to what was found those of before that may stay. Should that be too many, what was found comes first: those that
    /// stay may be long gone.
    fn add_kept(&mut self, places: &mut Vec<Place>, may_stay: impl Fn(&Place) -> bool) {
        let is_new = |old: &Place| places.iter().all(|new| new.address != old.address);
        self.places.retain(|old| is_new(old) && may_stay(old));
        self.places.truncate(MAX_ADDRESSES.saturating_sub(places.len()));
        places.append(&mut self.places);
        *places = one_for_each_address(std::mem::take(places));
        self.places.clone_from(places);
    }

    /// What the rest of the answer would have said is not known, so what it may have had stays.
    fn resolve_in_part(
        &mut self,
        mut places: Vec<Place>,
        ttl: Option<Duration>,
        missing: Missing,
    ) -> (Outcome, Duration) {
        self.gone_since = None;
        self.add_kept(&mut places, |old| missing.may_have(&old.address));
        let told = self.tell(LogEvent::InPart(missing.why));
        let retry = self.retry();
        let wait = ttl.map_or(retry, |ttl| retry.min(bounded(ttl, MAX_TTL)));
        (Outcome { places: Some(places), ..told }, wait)
    }

    fn miss(&mut self, why: String, ttl: Option<Duration>, now: Instant) -> (Outcome, Duration) {
        let gone = now.saturating_duration_since(*self.gone_since.get_or_insert(now));
        let wait = match ttl {
            Some(ttl) => bounded(ttl, MAX_NEGATIVE_TTL),
            None => self.retry(),
        };
        if self.places.is_empty() {
            return (self.tell(LogEvent::Fails(why)), wait);
        }
        if gone >= HOLD {
            return (self.withdraw(format!("{why}, for {} s now", gone.as_secs())), wait);
        }
        (self.tell(LogEvent::Fails(why)), wait.min(HOLD - gone))
    }

    fn withdraw(&mut self, why: String) -> Outcome {
        self.failures = 0;
        let had_some = !std::mem::take(&mut self.places).is_empty();
        if had_some {
            self.told = Some(LastLogged::All);
            return Outcome { places: Some(Vec::new()), news: Some(LogEvent::Withdrawn(why)) };
        }
        Outcome { places: Some(Vec::new()), ..self.tell(LogEvent::Fails(why)) }
    }

    /// The places stay; the news is logged only if its kind has changed.
    fn tell(&mut self, news: LogEvent) -> Outcome {
        let kind =
            if matches!(news, LogEvent::InPart(_)) { LastLogged::Part } else { LastLogged::All };
        let news = (self.told.replace(kind) != Some(kind)).then_some(news);
        Outcome { places: None, news }
    }

    /// How long to wait after one more failure.
    fn retry(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        RETRY.saturating_mul(factor).min(self.interval.max(RETRY)).min(MAX_RETRY)
    }
}

fn bounded(ttl: Duration, longest: Duration) -> Duration {
    ttl.clamp(MIN_TTL, longest)
}

#[cfg(test)]
mod tests {
    use super::super::lookup::AddressFamily;
    use super::*;
    use std::net::SocketAddr;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_secs(5);

    fn place(last: u8) -> Place {
        Place::plain(SocketAddr::from(([10, 0, 0, last], 80)).into())
    }

    fn places(lasts: &[u8]) -> Vec<Place> {
        lasts.iter().map(|&last| place(last)).collect()
    }

    fn found(lasts: &[u8], ttl: Option<u64>) -> LookupResult {
        let ttl = ttl.map(Duration::from_secs);
        LookupResult::Places { places: places(lasts), ttl, missing: None }
    }

    fn part(family: Option<AddressFamily>) -> Option<Missing> {
        Some(Missing { why: "x".into(), family })
    }

    fn in_part(lasts: &[u8]) -> LookupResult {
        LookupResult::Places { places: places(lasts), ttl: Some(60 * SECOND), missing: part(None) }
    }

    fn nothing(ttl: Option<u64>) -> LookupResult {
        LookupResult::Nothing { why: "gone".into(), ttl: ttl.map(Duration::from_secs) }
    }

    fn failed() -> LookupResult {
        LookupResult::Failed("no answer".into())
    }

    /// One name, at position 7, whose first lookup is under way.
    fn asked() -> (Names, Instant) {
        let now = Instant::now();
        let wanted = Wanted::Host { name: "a".into(), port: 80 };
        let mut names = Names::new([(7, &wanted, INTERVAL)].into_iter(), now);
        assert_eq!(names.take_due(now), [(7, wanted)]);
        (names, now)
    }

    /// Gives it an answer; how long it then waits, and the result.
    fn answer(names: &mut Names, finding: LookupResult, now: Instant) -> (Duration, Outcome) {
        let outcome = names.take(7, finding, now);
        let due = names.next_due().unwrap();
        assert_eq!(names.take_due(due).len(), 1);
        (due - now, outcome)
    }

    #[test]
    fn a_name_is_due_at_once_and_then_not_while_its_lookup_runs() {
        let (mut names, now) = asked();
        assert_eq!(names.next_due(), None);
        assert!(names.take_due(now + 3600 * SECOND).is_empty());
        assert!(!names.all_answered());
        names.take(7, failed(), now);
        assert!(names.all_answered());
    }

    #[test]
    fn the_next_lookup_comes_when_the_ttl_ends_within_bounds() {
        let cases = [
            (Some(0), SECOND),
            (Some(1), SECOND),
            (Some(42), 42 * SECOND),
            (Some(u64::from(u32::MAX)), 3600 * SECOND),
            (None, INTERVAL),
        ];
        for (ttl, wait) in cases {
            let (mut names, now) = asked();
            let outcome = Outcome { places: Some(places(&[1, 2])), news: None };
            assert_eq!(answer(&mut names, found(&[1, 2], ttl), now), (wait, outcome));
        }
    }

    #[test]
    fn failures_are_retried_soon_then_later_and_at_the_latest_after_the_interval() {
        let (mut names, now) = asked();
        let waits: Vec<u128> =
            (0..40).map(|_| answer(&mut names, failed(), now).0.as_millis()).collect();
        assert_eq!(waits[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(waits[39], 5000);
        answer(&mut names, found(&[1], Some(9)), now);
        assert_eq!(answer(&mut names, failed(), now).0.as_millis(), 100, "a success begins anew");
    }

    #[test]
    fn a_hurry_has_names_that_nobody_answers_asked_for_each_second() {
        let (mut names, now) = asked();
        (0..10).for_each(|_| drop(answer(&mut names, failed(), now)));
        names.take(7, failed(), now);
        assert_eq!(names.next_due(), Some(now + INTERVAL));
        names.hurry(true, now);
        assert_eq!(names.next_due(), Some(now + SECOND));
        names.take_due(now + SECOND);
        assert_eq!(answer(&mut names, failed(), now + SECOND).0, SECOND);
        assert_eq!(answer(&mut names, found(&[1], Some(60)), now).0, 60 * SECOND);
        names.hurry(false, now);
        (0..10).for_each(|_| drop(answer(&mut names, failed(), now)));
        assert_eq!(answer(&mut names, failed(), now).0, INTERVAL);
    }

    #[test]
    fn a_failure_takes_nothing_away_and_is_logged_once_until_it_is_over() {
        let (mut names, now) = asked();
        answer(&mut names, found(&[1], Some(9)), now);
        let fails = LogEvent::Fails("no answer".into());
        let told = [(); 3].map(|()| answer(&mut names, failed(), now).1);
        assert_eq!(told[0], Outcome { places: None, news: Some(fails) });
        assert_eq!(told[1], Outcome { places: None, news: None });
        assert_eq!(told[2], told[1]);
        let (_, back) = answer(&mut names, found(&[1], Some(9)), now);
        assert_eq!(back, Outcome { places: Some(places(&[1])), news: Some(LogEvent::Resolves) });
        assert_eq!(answer(&mut names, found(&[1], Some(9)), now).1.news, None);
    }

    #[test]
    fn a_lookup_that_could_not_be_made_says_nothing_and_is_made_soon() {
        let (mut names, now) = asked();
        let short = || LookupResult::Short("no descriptor".into());
        let nothing = Outcome { places: None, news: None };
        assert_eq!(answer(&mut names, short(), now), (SECOND, nothing));
        assert!(!names.all_answered());
        answer(&mut names, found(&[1], Some(9)), now);
        let waits = [(); 3].map(|()| answer(&mut names, short(), now).0);
        assert_eq!(waits, [SECOND; 3], "it is no failure that backs off");
        assert_eq!(
            answer(&mut names, failed(), now).1.news,
            Some(LogEvent::Fails("no answer".into()))
        );
    }

    #[test]
    fn an_answer_of_which_a_part_is_missing_adds_and_takes_nothing_away() {
        let (mut names, now) = asked();
        answer(&mut names, found(&[1, 3], Some(9)), now);
        let (wait, outcome) = answer(&mut names, in_part(&[2, 3]), now);
        assert_eq!(outcome.places, Some(places(&[1, 2, 3])));
        assert_eq!(outcome.news, Some(LogEvent::InPart("x".into())));
        assert_eq!(wait.as_millis(), 100, "the missing part is asked for again");
        let (_, whole) = answer(&mut names, found(&[2], Some(9)), now);
        assert_eq!(whole.places, Some(places(&[2])));
    }

    #[test]
    fn what_is_found_early_is_added_while_the_lookup_goes_on() {
        let (mut names, now) = asked();
        let early = |lasts: &[u8]| LookupResult::Early(places(lasts));
        let outcome = names.take(7, early(&[2]), now);
        assert_eq!(outcome, Outcome { places: Some(places(&[2])), news: None });
        assert!(names.all_answered());
        assert_eq!(names.next_due(), None, "its end is to come");
        answer(&mut names, found(&[1, 2], Some(9)), now);
        assert_eq!(names.take(7, early(&[3]), now).places, Some(places(&[1, 2, 3])));
        assert_eq!(answer(&mut names, found(&[3], Some(9)), now).1.places, Some(places(&[3])));
    }

    #[test]
    fn that_all_of_a_name_fails_is_logged_after_a_part_of_it_was() {
        let (mut names, now) = asked();
        let fails = || Some(LogEvent::Fails("no answer".into()));
        let in_part = || (in_part(&[1]), Some(LogEvent::InPart("x".into())));
        let rounds =
            [in_part(), (failed(), fails()), (failed(), None), in_part(), (failed(), fails())];
        for (finding, news) in rounds {
            assert_eq!(answer(&mut names, finding, now).1.news, news);
        }
    }

    #[test]
    fn a_family_that_fails_keeps_its_own_addresses_and_no_others() {
        let six = Place::plain(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80)).into());
        let cases = [
            (AddressFamily::V6, vec![place(2), six.clone()]),
            (AddressFamily::V4, vec![place(1), place(2)]),
        ];
        for (family, left) in cases {
            let (mut names, now) = asked();
            let both = vec![place(1), six.clone()];
            answer(&mut names, LookupResult::of(both, None, None), now);
            let found = LookupResult::of(places(&[2]), None, part(Some(family)));
            assert_eq!(answer(&mut names, found, now).1.places, Some(left), "{family:?}");
        }
    }

    #[test]
    fn a_part_that_gives_other_addresses_each_time_is_bounded() {
        let (mut names, now) = asked();
        for round in 0..20u16 {
            let address = |at: u16| SocketAddr::from(([10, 0, 0, 1], round * 100 + at)).into();
            let places = (0..100).map(|at| Place::plain(address(at))).collect();
            let found = LookupResult::of(places, None, part(None));
            let LookupResult::Places { places: new, .. } = &found else { unreachable!() };
            let new = new.clone();
            let (_, outcome) = answer(&mut names, found, now);
            let all = outcome.places.unwrap();
            assert!(all.len() <= MAX_ADDRESSES);
            assert!(
                new.iter().all(|place| all.contains(place)),
                "round {round}: none found is lost"
            );
        }
    }

    #[test]
    fn a_name_that_is_gone_keeps_its_places_for_a_while_and_then_loses_them() {
        let (mut names, start) = asked();
        answer(&mut names, found(&[1], Some(9)), start);
        let mut now = start;
        let mut lost = None;
        while lost.is_none() && now < start + 3600 * SECOND {
            let (wait, outcome) = answer(&mut names, nothing(Some(20)), now);
            lost = outcome.places.map(|places| (places, outcome.news, now - start));
            now += wait;
        }
        let (places, news, after) = lost.unwrap();
        assert_eq!((places, after), (Vec::new(), HOLD), "neither a TTL early nor late");
        assert_eq!(news, Some(LogEvent::Withdrawn("gone, for 30 s now".into())));
        assert_eq!(answer(&mut names, nothing(Some(20)), now).1.news, None);
        assert_eq!(answer(&mut names, found(&[1], Some(9)), now).1.news, Some(LogEvent::Resolves));
    }

    #[test]
    fn a_name_that_is_back_in_between_begins_its_hold_anew() {
        let (mut names, start) = asked();
        answer(&mut names, found(&[1], Some(9)), start);
        answer(&mut names, nothing(Some(20)), start);
        answer(&mut names, found(&[1], Some(9)), start + 20 * SECOND);
        assert_eq!(answer(&mut names, nothing(Some(20)), start + HOLD).1.places, None);
    }

    #[test]
    fn negative_ttls_are_honoured_within_bounds() {
        for (ttl, wait) in [(0, 1), (7, 7), (86_400, 30)] {
            let (mut names, now) = asked();
            assert_eq!(answer(&mut names, nothing(Some(ttl)), now).0.as_secs(), wait);
        }
        let (mut names, now) = asked();
        assert_eq!(answer(&mut names, nothing(None), now).0, RETRY, "no SOA, no TTL");
    }

    #[test]
    fn a_service_that_says_it_is_not_available_loses_its_places_at_once() {
        let (mut names, now) = asked();
        answer(&mut names, found(&[1], Some(9)), now);
        let finding = || LookupResult::Unavailable { why: "no".into(), ttl: 60 * SECOND };
        let (wait, outcome) = answer(&mut names, finding(), now);
        assert_eq!((wait, outcome.places), (60 * SECOND, Some(Vec::new())));
        assert_eq!(outcome.news, Some(LogEvent::Withdrawn("no".into())));
        assert_eq!(answer(&mut names, finding(), now).1.news, None);
    }

    #[test]
    fn a_restart_asks_everything_again() {
        let (mut names, now) = asked();
        names.restart(now);
        assert_eq!(names.take_due(now).len(), 1);
        names.take(7, found(&[1], Some(60)), now);
        names.restart(now + SECOND);
        assert_eq!(names.take_due(now + SECOND).len(), 1);
        assert_eq!(names.next_due(), None);
    }
}
