//! When each endpoint is probed next: plain deadlines, pure.
//!
//! Reads no clock (`now` is an argument) and opens no socket. Invariants: a key that is waiting is
//! in exactly one of the two queues, one that was taken is in neither; two routine starts of a key
//! are never further apart than its interval, unless the job itself takes longer; report-caused
//! starts of a key are at least [`REPORT_GAP`] apart.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The least time between two report-caused probes of one endpoint: a flood of reports must not
/// become a flood of probes. Also the pace at which a wavering endpoint is probed after a report.
pub(super) const REPORT_GAP: Duration = Duration::from_millis(100);

/// Shorter intervals are raised to this.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// Longer intervals are cut to this, so that no sum of times overflows.
const MAX_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Routine starts fall on a grid of this, or of a twentieth of a shorter interval, so that keys are due in batches:
/// of a thousand probes per second each would otherwise wake a thread and find the caches cold.
const GRID: Duration = Duration::from_millis(50);

/// How soon a job is repeated whose result decides nothing yet, or where the interval is shorter, after it.
const RECHECK: Duration = Duration::from_secs(1);

/// So many jobs of a key that is absent are repeated after [`RECHECK`]: it is nearly always one that is being restarted.
const ABSENCES: u32 = 30;

/// From one routine start of a key to the next at most, while there is a hurry; at least two fifths of it.
const HURRY: Duration = Duration::from_millis(250);

/// And for each key, so that a thousand of them come to no more than about 500 starts per second.
const HURRY_EACH: Duration = Duration::from_millis(3);

/// Why a key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Its interval has passed.
    Routine,
    /// A worker reported a failure.
    Reported,
}

/// How a key stands after a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// As it should.
    Sound,
    /// Its last jobs decide nothing yet.
    Wavering,
    /// It is of no use: where there is a hurry, it is one for this key.
    Out,
    /// Likewise, and it may be back soon.
    Absent,
}

#[derive(Debug)]
struct ScheduleEntry {
    interval: Duration,
    due: Instant,
    urgency: Urgency,
    /// Begun and not finished.
    running: bool,
    /// Begun at least once.
    started: Option<Instant>,
    /// How many consecutive times it was found absent.
    absences: u32,
    /// Finished at least once: the phase within the interval is drawn.
    spread: bool,
    /// The last start that a report caused.
    reported_start: Option<Instant>,
    /// A report came after the running job began: it may have seen what the job missed.
    again: bool,
}

/// The deadlines of a set of keys.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    entries: HashMap<K, ScheduleEntry>,
    routine: BTreeSet<(Instant, K)>,
    reported: BTreeSet<(Instant, K)>,
    /// Where the grid begins: when the first key was added.
    origin: Option<Instant>,
    random: u64,
    /// Nothing works until a job succeeds: all of them are begun often.
    hurry: bool,
}

impl<K: Copy + Ord + Hash> Schedule<K> {
    /// An empty schedule. The same `seed` and the same calls give the same deadlines.
    pub(super) fn new(seed: u64) -> Self {
        Schedule {
            entries: HashMap::new(),
            routine: BTreeSet::new(),
            reported: BTreeSet::new(),
            origin: None,
            random: seed | 1, // xorshift never leaves zero
            hurry: false,
        }
    }

    /// Adds `key`, due at once. `interval` is held to 1 ms up to a year.
    pub(super) fn add(&mut self, key: K, interval: Duration, now: Instant) {
        self.remove(key);
        self.origin.get_or_insert(now);
        let interval = interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let entry = ScheduleEntry {
            interval,
            due: now,
            urgency: Urgency::Routine,
            running: false,
            started: None,
            absences: 0,
            spread: false,
            reported_start: None,
            again: false,
        };
        self.entries.insert(key, entry);
        self.routine.insert((now, key));
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: K) {
        if let Some(entry) = self.entries.remove(&key) {
            self.routine.remove(&(entry.due, key));
            self.reported.remove(&(entry.due, key));
        }
    }

    /// A worker saw `key` fail at `at`: makes it due at once, or as soon as [`REPORT_GAP`] allows.
    /// Nothing happens if a job that began after `at` has looked, or is looking, already.
    pub(super) fn report(&mut self, key: K, at: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.started.is_some_and(|started| started > at) {
            return;
        }
        if entry.running {
            entry.again = true;
        } else if entry.urgency == Urgency::Routine {
            let due = entry.report_due(now);
            self.enqueue(key, due, Urgency::Reported);
        }
    }

    /// Whether there is a hurry from now on. When it begins, whoever waits for long is due soon.
    pub(super) fn hurry(&mut self, hurry: bool, now: Instant) {
        if !std::mem::replace(&mut self.hurry, hurry) && hurry {
            let waiting: Vec<(Instant, K)> = self.routine.iter().copied().collect();
            for (due, key) in waiting {
                let soon = now + self.pace();
                if soon < due {
                    self.entries.entry(key).and_modify(|entry| entry.spread = false);
                    self.enqueue(key, soon, Urgency::Routine);
                }
            }
        }
    }

    /// How long a key waits while there is a hurry: never in step with others.
    fn pace(&mut self) -> Duration {
        let keys = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        HURRY.max(HURRY_EACH.saturating_mul(keys)).mul_f64(1.0 - 0.6 * self.draw())
    }

    /// The job of `key` failed for lack of something here: it is repeated soon, but not immediately.
    pub(super) fn postpone(&mut self, key: K, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.running = false;
        let due = now + RECHECK.min(entry.interval);
        self.enqueue(key, due, Urgency::Routine);
    }

    /// The job of `key` failed because this process stood still: it is repeated immediately.
    pub(super) fn repeat(&mut self, key: K, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.running = false;
        self.enqueue(key, now, Urgency::Reported);
    }

    /// Takes at most `limit` keys that are due for this reason, the longest overdue first. Each must
    /// be given to [`Schedule::begin`] or [`Schedule::put_back`] before the next call.
    pub(super) fn take_due(&mut self, urgency: Urgency, now: Instant, limit: usize) -> Vec<K> {
        let queue = self.queue(urgency);
        let due: Vec<K> =
            queue.iter().take_while(|(due, _)| *due <= now).take(limit).map(|&(_, k)| k).collect();
        for _ in &due {
            queue.pop_first();
        }
        due
    }

    /// The job of a taken key begins.
    pub(super) fn begin(&mut self, key: K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.running = true;
            entry.started = Some(now);
            entry.again = false;
            if entry.urgency == Urgency::Reported {
                entry.reported_start = Some(now);
            }
        }
    }

    /// The job of a taken key could not begin: it keeps its place in the queue.
    pub(super) fn put_back(&mut self, key: K) {
        if let Some(entry) = self.entries.get(&key) {
            let at = (entry.due, key);
            let urgency = entry.urgency;
            self.queue(urgency).insert(at);
        }
    }

    /// The job of `key` is over. While it wavers, the job is repeated soon rather than after the interval, and sooner still
    /// if a report caused it.
    pub(super) fn finish(&mut self, key: K, now: Instant, standing: Standing) {
        let (random, origin) = (self.draw(), self.origin.unwrap_or(now));
        let hurried = self.hurry && matches!(standing, Standing::Out | Standing::Absent);
        let wavering = standing == Standing::Wavering;
        let pace = self.pace();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.running = false;
        entry.absences = match standing {
            Standing::Absent => entry.absences.saturating_add(1),
            _ => 0,
        };
        let soon = match hurried {
            true => Some(pace),
            false if wavering || (1..=ABSENCES).contains(&entry.absences) => Some(RECHECK),
            false => None,
        };
        let (due, urgency) = if entry.again || (wavering && entry.urgency == Urgency::Reported) {
            (entry.report_due(now), Urgency::Reported)
        } else {
            // Those that hurry together must not stay together.
            entry.spread &= !hurried;
            let due = match soon {
                Some(soon) => entry.due_after(soon.min(entry.interval), now),
                None => entry.routine_due(now, random, origin),
            };
            (due, Urgency::Routine)
        };
        self.enqueue(key, due, urgency);
    }

    /// When the next key is due for this reason. May lie in the past.
    pub(super) fn next_due(&self, urgency: Urgency) -> Option<Instant> {
        let queue = match urgency {
            Urgency::Routine => &self.routine,
            Urgency::Reported => &self.reported,
        };
        queue.first().map(|&(due, _)| due)
    }

    fn enqueue(&mut self, key: K, due: Instant, urgency: Urgency) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let before = (entry.due, key);
            entry.due = due;
            entry.urgency = urgency;
            self.routine.remove(&before);
            self.reported.remove(&before);
            self.queue(urgency).insert((due, key));
        }
    }

    fn queue(&mut self, urgency: Urgency) -> &mut BTreeSet<(Instant, K)> {
        match urgency {
            Urgency::Routine => &mut self.routine,
            Urgency::Reported => &mut self.reported,
        }
    }

    /// A number from 0 up to, not including, 1: Marsaglia's xorshift64*.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40; // the high 24 bits
        f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(1u32 << 24)
    }
}

impl ScheduleEntry {
    fn report_due(&self, now: Instant) -> Instant {
        let gap = REPORT_GAP.min(self.interval);
        self.reported_start.map_or(now, |last| now.max(last + gap))
    }

    /// So long after the last start, or at once where that has passed.
    fn due_after(&self, wait: Duration, now: Instant) -> Instant {
        (self.started.unwrap_or(now) + wait).max(now + MIN_INTERVAL)
    }

    /// After the first job anywhere in what is left of the interval, so that keys added together
    /// spread over it; later 90 to 100 % of the interval after the last start, so that they
    /// stay spread and none waits longer than its interval. In both cases on the grid, if it can be.
    fn routine_due(&mut self, now: Instant, random: f64, origin: Instant) -> Instant {
        let started = self.started.unwrap_or(now);
        let left = (started + self.interval).saturating_duration_since(now);
        let grid = GRID.min(self.interval / 20);
        let wait = if self.spread {
            // What the grid then takes off is part of the tenth.
            left.saturating_sub((self.interval / 10 - grid).mul_f64(random))
        } else {
            left.mul_f64(random)
        };
        self.spread = true;
        let due = now + wait;
        let past = due.saturating_duration_since(origin).as_nanos() % grid.as_nanos();
        let due = due - Duration::from_nanos(u64::try_from(past).unwrap_or(0));
        // A job that outlasts its interval must still not be due within the same turn.
        due.max(now + MIN_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::Urgency::{Reported, Routine};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// Begins everything that is due at `now`; the keys, reported ones first.
    fn begin_due(schedule: &mut Schedule<u32>, now: Instant) -> Vec<u32> {
        let mut due = schedule.take_due(Reported, now, usize::MAX);
        due.extend(schedule.take_due(Routine, now, usize::MAX));
        for &key in &due {
            schedule.begin(key, now);
        }
        due
    }

    /// One key with a long interval whose first job is over at the returned time.
    fn settled() -> (Schedule<u32>, Instant) {
        let start = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.add(7, 3600 * SECOND, start);
        assert_eq!(begin_due(&mut schedule, start), [7]);
        schedule.finish(7, start + MS, Standing::Sound);
        (schedule, start + MS)
    }

    #[test]
    fn everything_added_is_due_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        for key in 0..5 {
            schedule.add(key, SECOND, now);
        }
        assert_eq!(begin_due(&mut schedule, now), [0, 1, 2, 3, 4]);
        assert_eq!(schedule.next_due(Routine), None);
    }

    #[test]
    fn every_wait_is_nine_tenths_of_the_interval_to_all_of_it() {
        let start = Instant::now();
        let mut schedule = Schedule::new(42);
        schedule.add(1, 5 * SECOND, start);
        let mut last = start;
        assert_eq!(begin_due(&mut schedule, start), [1]);
        for round in 0..200 {
            schedule.finish(1, last + 3 * MS, Standing::Sound);
            let due = schedule.next_due(Routine).unwrap();
            let gap = due - last;
            assert!(gap <= 5 * SECOND, "{gap:?}");
            assert!(round == 0 || gap >= 4500 * MS, "{gap:?}");
            assert_eq!(begin_due(&mut schedule, due), [1]);
            last = due;
        }
    }

    #[test]
    fn keys_added_together_spread_over_the_interval() {
        let start = Instant::now();
        let mut schedule = Schedule::new(3);
        for key in 0..1_000 {
            schedule.add(key, 10 * SECOND, start);
        }
        begin_due(&mut schedule, start);
        let mut tenths = [0; 10];
        for key in 0..1_000 {
            // Half of them end late, as hung ones do: they must not start again together.
            let end = if key % 2 == 0 { start } else { start + 2 * SECOND };
            schedule.finish(key, end, Standing::Sound);
        }
        for &(due, _) in &schedule.routine {
            tenths[(due - start).as_millis() as usize / 1_000] += 1;
        }
        assert!(tenths.iter().all(|&count| (20..=200).contains(&count)), "{tenths:?}");
    }

    #[test]
    fn keys_come_due_in_batches() {
        let start = Instant::now();
        for (interval, batches) in [(SECOND, 20), (100 * MS, 20), (10 * SECOND, 200)] {
            let mut schedule = Schedule::new(5);
            (0..1_000).for_each(|key| schedule.add(key, interval, start));
            let mut dues = BTreeSet::new();
            for _ in 0..1_000 {
                let due = schedule.next_due(Routine).unwrap();
                for key in begin_due(&mut schedule, due) {
                    schedule.finish(key, due + MS, Standing::Sound);
                    if due > start && due <= start + interval {
                        dues.insert(due);
                    }
                }
            }
            // The first batch of all begins a grid step after the start at the latest.
            assert!(dues.len() <= batches + 1, "{interval:?}: {}", dues.len());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_deadlines() {
        let start = Instant::now();
        let deadlines = |seed| {
            let mut schedule = Schedule::new(seed);
            (0..50).for_each(|key| schedule.add(key, SECOND, start));
            begin_due(&mut schedule, start);
            (0..50).for_each(|key| schedule.finish(key, start, Standing::Sound));
            schedule.routine.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(deadlines(9), deadlines(9));
        assert_ne!(deadlines(9), deadlines(10));
    }

    #[test]
    fn the_longest_overdue_goes_first_and_a_limit_leaves_the_rest_in_line() {
        let start = Instant::now();
        let mut schedule = Schedule::new(1);
        for key in [3, 1, 2] {
            schedule.add(key, SECOND, start + key * MS);
        }
        let now = start + SECOND;
        assert_eq!(schedule.take_due(Routine, now, 2), [1, 2]);
        assert_eq!(schedule.next_due(Routine), Some(start + 3 * MS));
        schedule.put_back(1);
        assert_eq!(schedule.take_due(Routine, now, 2), [1, 3], "put back, it keeps its place");
    }

    #[test]
    fn a_report_makes_a_key_due_at_once() {
        let (mut schedule, now) = settled();
        assert!(begin_due(&mut schedule, now + SECOND).is_empty());
        schedule.report(7, now + SECOND, now + SECOND);
        assert!(
            schedule.take_due(Routine, now + SECOND, 9).is_empty(),
            "it waits in one queue only"
        );
        assert_eq!(begin_due(&mut schedule, now + SECOND), [7]);
    }

    #[test]
    fn a_report_older_than_the_last_start_is_ignored() {
        let (mut schedule, now) = settled();
        schedule.report(7, now, now);
        begin_due(&mut schedule, now + MS);
        schedule.report(7, now, now + 2 * MS);
        schedule.finish(7, now + 3 * MS, Standing::Sound);
        schedule.report(7, now, now + 4 * MS);
        assert_eq!(schedule.next_due(Reported), None);
    }

    #[test]
    fn a_report_during_a_job_that_began_before_it_causes_another_job() {
        let start = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.add(7, 3600 * SECOND, start);
        begin_due(&mut schedule, start);
        schedule.report(7, start + MS, start + MS);
        assert_eq!(schedule.next_due(Reported), None, "one at a time");
        schedule.finish(7, start + 2 * MS, Standing::Sound);
        assert_eq!(begin_due(&mut schedule, start + 2 * MS), [7]);
    }

    #[test]
    fn a_flood_of_reports_starts_one_job_in_each_gap() {
        let (mut schedule, mut now) = settled();
        let end = now + 10 * SECOND;
        let mut starts = 0;
        while now < end {
            schedule.report(7, now, now);
            starts += begin_due(&mut schedule, now).len();
            schedule.report(7, now, now);
            schedule.finish(7, now, Standing::Sound);
            now += MS;
        }
        assert_eq!(starts, 100);
    }

    #[test]
    fn a_wavering_key_is_repeated_soon_only_when_a_report_began_it() {
        let (mut schedule, now) = settled();
        schedule.report(7, now, now);
        for step in 0..3 {
            let at = now + step * REPORT_GAP;
            assert_eq!(begin_due(&mut schedule, at), [7]);
            let standing = if step < 2 { Standing::Wavering } else { Standing::Sound };
            schedule.finish(7, at + MS, standing);
        }
        assert_eq!(schedule.next_due(Reported), None);
        let routine = schedule.next_due(Routine).unwrap();
        assert!(routine > now + 1800 * SECOND);
        begin_due(&mut schedule, routine);
        schedule.finish(7, routine, Standing::Wavering);
        assert_eq!(schedule.next_due(Reported), None);
        assert_eq!(schedule.next_due(Routine), Some(routine + RECHECK), "less soon otherwise");
    }

    #[test]
    fn an_absent_key_is_retried_each_second_for_half_a_minute() {
        let (mut schedule, mut now) = (Schedule::new(1), Instant::now());
        let start = now;
        schedule.add(0, 3600 * SECOND, now);
        for _ in 0..=ABSENCES {
            now = schedule.next_due(Routine).unwrap();
            assert_eq!(begin_due(&mut schedule, now), [0]);
            schedule.finish(0, now, Standing::Absent);
        }
        let took = now - start;
        assert!(took >= 29 * SECOND && took < 32 * SECOND, "{took:?}");
        assert!(schedule.next_due(Routine).unwrap() > now + 2 * SECOND);
        now = schedule.next_due(Routine).unwrap();
        begin_due(&mut schedule, now);
        schedule.finish(0, now, Standing::Sound);
        now = schedule.next_due(Routine).unwrap();
        begin_due(&mut schedule, now);
        schedule.finish(0, now, Standing::Absent);
        assert!(schedule.next_due(Routine).unwrap() <= now + SECOND, "it is another absence");
    }

    #[test]
    fn a_hurry_makes_every_key_due_soon_again_and_again_until_it_ends() {
        let (mut schedule, now) = settled();
        schedule.hurry(true, now);
        let mut last = now;
        for _ in 0..50 {
            let due = schedule.next_due(Routine).unwrap();
            assert!((100 * MS..=250 * MS).contains(&(due - last)), "{:?}", due - last);
            assert_eq!(begin_due(&mut schedule, due), [7]);
            schedule.finish(7, due + MS, Standing::Out);
            schedule.hurry(true, due + MS);
            last = due;
        }
        schedule.hurry(false, last);
        let due = schedule.next_due(Routine).unwrap();
        begin_due(&mut schedule, due);
        schedule.finish(7, due, Standing::Sound);
        assert!(schedule.next_due(Routine).unwrap() > due + 10 * SECOND);
    }

    #[test]
    fn a_hurry_of_many_keys_starts_a_bounded_number_of_them_a_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(11);
        (0..1_000).for_each(|key| schedule.add(key, 5 * SECOND, start));
        begin_due(&mut schedule, start);
        (0..1_000).for_each(|key| schedule.finish(key, start, Standing::Out));
        schedule.hurry(true, start);
        let (mut starts, end) = (0, start + 20 * SECOND);
        while let Some(due) = schedule.next_due(Routine).filter(|due| *due < end) {
            for key in begin_due(&mut schedule, due) {
                starts += 1;
                schedule.finish(key, due, Standing::Out);
            }
        }
        assert!((6_000..=11_000).contains(&starts), "{starts}");
    }

    #[test]
    fn a_job_without_a_result_is_repeated_at_once_or_after_a_pause() {
        let (mut schedule, now) = settled();
        schedule.report(7, now, now);
        begin_due(&mut schedule, now);
        schedule.postpone(7, now);
        assert_eq!(schedule.next_due(Routine), Some(now + RECHECK));
        assert_eq!(begin_due(&mut schedule, now + RECHECK), [7]);
        schedule.repeat(7, now + RECHECK);
        assert_eq!(schedule.next_due(Reported), Some(now + RECHECK));
    }

    #[test]
    fn a_removed_key_is_never_due_and_what_still_runs_for_it_is_ignored() {
        let (mut schedule, now) = settled();
        schedule.report(7, now, now);
        begin_due(&mut schedule, now);
        schedule.remove(7);
        schedule.finish(7, now, Standing::Wavering);
        schedule.report(7, now + MS, now + MS);
        schedule.put_back(7);
        assert_eq!((schedule.next_due(Routine), schedule.next_due(Reported)), (None, None));
    }

    #[test]
    fn absurd_intervals_neither_overflow_nor_spin() {
        let now = Instant::now();
        for interval in [Duration::ZERO, Duration::MAX] {
            let mut schedule = Schedule::new(1);
            schedule.add(1, interval, now);
            for _ in 0..3 {
                let due = schedule.next_due(Routine).unwrap();
                begin_due(&mut schedule, due);
                schedule.finish(1, due, Standing::Sound);
                assert!(schedule.next_due(Routine).unwrap() > due);
            }
        }
    }
}
