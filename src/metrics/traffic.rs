//! What a worker counts of exchanges beyond [`Counters`](super::Counters): by method and status code, by time, and in bytes.
//!
//! Invariant: how many series this can become is fixed: a method or a code that is not known is counted with others.

use super::histogram::{Histogram, LIMITS, Times};
use super::{CLASSES, Counter, Gauge};

/// Methods with a label of their own, in the order of [`http::Method`](crate::http::Method). All others are the last one.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "_OTHER"];

/// Status codes with a label of their own: those that are registered (RFC 9110 section 16.2.1). The others have that
/// of their class, and what is above 599 that of 5xx, as a client is to do (RFC 9110 section 15).
const KNOWN: [u16; 62] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
    305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415,
    416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505,
    506, 507, 508, 510, 511,
];

/// The label of exchanges that sent no status to their client, because it left before that.
const NONE: &str = "none";

/// How many labels there are for codes.
const CODES: usize = KNOWN.len() + CLASSES.len() + 1;

/// The place of a code among the labels.
static PLACES: [u8; 600] = places();

#[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 places")]
const fn places() -> [u8; 600] {
    let mut places = [CODES as u8 - 1; 600];
    let mut code = 100;
    while code < places.len() {
        places[code] = (KNOWN.len() + code / 100 - 1) as u8;
        code += 1;
    }
    let mut at = 0;
    while at < KNOWN.len() {
        places[KNOWN[at] as usize] = at as u8;
        at += 1;
    }
    places
}

#[inline]
fn place(status: u16) -> usize {
    usize::from(PLACES[usize::from(status.min(599))])
}

fn label(place: usize) -> String {
    match (KNOWN.get(place), CLASSES.get(place.wrapping_sub(KNOWN.len()))) {
        (Some(code), _) => code.to_string(),
        (None, Some(class)) => (*class).to_owned(),
        (None, None) => NONE.to_owned(),
    }
}

/// Between whom bytes went, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From clients to here.
    FromClients,
    /// From here to clients.
    ToClients,
    /// From targets to here.
    FromTargets,
    /// From here to targets.
    ToTargets,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::FromClients, Way::ToClients, Way::FromTargets, Way::ToTargets];

    /// Its name for another process.
    fn key(self) -> &'static str {
        match self {
            Way::FromClients => "bytes.from_clients",
            Way::ToClients => "bytes.to_clients",
            Way::FromTargets => "bytes.from_targets",
            Way::ToTargets => "bytes.to_targets",
        }
    }
}

/// What one worker counts of exchanges.
#[derive(Debug)]
pub struct Traffic {
    /// By method, and of each by code.
    exchanges: [[Counter; CODES]; METHODS.len()],
    /// From the head of a request to the end of its exchange, unless that became a tunnel.
    pub durations: Histogram,
    /// From the head of a request to the first byte of its response.
    pub first_bytes: Histogram,
    bytes: [Counter; Way::ALL.len()],
    /// Exchanges that have begun and not ended.
    pub in_flight: Gauge,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            exchanges: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            durations: Histogram::default(),
            first_bytes: Histogram::default(),
            bytes: Default::default(),
            in_flight: Gauge::default(),
        }
    }
}

impl Traffic {
    /// An exchange has ended: its method by its place in [`METHODS`], and what status the client was sent, 0 for none. Only the owner
    /// may call this.
    #[inline]
    pub fn ended(&self, method: usize, status: u16) {
        self.exchanges[method.min(METHODS.len() - 1)][place(status)].bump();
    }

    /// So many bytes went this way. Only the owner may call this.
    #[inline]
    pub fn moved(&self, way: Way, bytes: usize) {
        self.bytes[way as usize].add(bytes as u64);
    }

    /// Raises each count to what `count` has under its key, if it has that. Only the owner may call this.
    pub fn raise(&self, count: impl Fn(&str) -> Option<u64>) {
        let found = TrafficCounts::default().map(|key, _| count(key).unwrap_or_default());
        let rows = self.exchanges.iter().flatten().zip(found.exchanges.iter().flatten());
        rows.for_each(|(counter, &count)| counter.raise(count));
        self.durations.raise(&found.durations);
        self.first_bytes.raise(&found.first_bytes);
        self.bytes.iter().zip(found.bytes).for_each(|(counter, count)| counter.raise(count));
    }
}

/// What [`Traffic`] said at one moment, or the sums of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficCounts {
    exchanges: Box<[[u64; CODES]; METHODS.len()]>,
    /// As [`Traffic::durations`].
    pub durations: Times,
    /// As [`Traffic::first_bytes`].
    pub first_bytes: Times,
    bytes: [u64; Way::ALL.len()],
}

impl Default for TrafficCounts {
    fn default() -> Self {
        TrafficCounts {
            exchanges: Box::new([[0; CODES]; METHODS.len()]),
            durations: Times::default(),
            first_bytes: Times::default(),
            bytes: Default::default(),
        }
    }
}

impl TrafficCounts {
    /// What `traffic` says now. The parts may be a moment apart.
    pub fn of(traffic: &Traffic) -> TrafficCounts {
        let row = |at: usize| traffic.exchanges[at].each_ref().map(Counter::get);
        TrafficCounts {
            exchanges: Box::new(std::array::from_fn(row)),
            durations: traffic.durations.read(),
            first_bytes: traffic.first_bytes.read(),
            bytes: traffic.bytes.each_ref().map(Counter::get),
        }
    }

    /// Exchanges that have ended, by the labels of their method and of their code, without those of which there were none.
    pub fn exchanges(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        METHODS.iter().zip(self.exchanges.iter()).flat_map(|(method, row)| {
            let counted = row.iter().enumerate().filter(|(_, count)| **count > 0);
            counted.map(|(place, count)| (*method, label(place), *count))
        })
    }

    /// Bytes that went this way.
    pub fn bytes(&self, way: Way) -> u64 {
        self.bytes[way as usize]
    }

    /// The counts that are not 0, by keys that another process knows them by.
    pub fn by_key(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.clone().map(|key, count| {
            if count > 0 {
                found.push((key.to_owned(), count));
            }
            count
        });
        found
    }

    /// Each count made anew of its key and of itself.
    fn map(mut self, mut anew: impl FnMut(&str, u64) -> u64) -> TrafficCounts {
        for (method, row) in METHODS.iter().zip(self.exchanges.iter_mut()) {
            for (place, count) in row.iter_mut().enumerate() {
                *count = anew(&format!("exchanges.{method}.{}", label(place)), *count);
            }
        }
        let times = [("duration", &mut self.durations), ("first_byte", &mut self.first_bytes)];
        for (name, times) in times {
            for (limit, count) in LIMITS.iter().zip(&mut times.buckets) {
                *count = anew(&format!("{name}.{limit}"), *count);
            }
            times.sum = anew(&format!("{name}.sum"), times.sum);
        }
        for (way, count) in Way::ALL.iter().zip(&mut self.bytes) {
            *count = anew(way.key(), *count);
        }
        self
    }
}

impl std::iter::Sum for TrafficCounts {
    fn sum<I: Iterator<Item = TrafficCounts>>(counts: I) -> TrafficCounts {
        counts.fold(TrafficCounts::default(), |mut sum, counts| {
            let rows = sum.exchanges.iter_mut().flatten().zip(counts.exchanges.iter().flatten());
            rows.for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
            sum.durations = sum.durations.with(&counts.durations);
            sum.first_bytes = sum.first_bytes.with(&counts.first_bytes);
            let bytes = sum.bytes.iter_mut().zip(counts.bytes);
            bytes.for_each(|(sum, count)| *sum = sum.wrapping_add(count));
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    #[test]
    fn methods_are_in_the_order_of_their_enum() {
        for (at, name) in METHODS.iter().enumerate() {
            assert_eq!(Method::of(name) as usize, at, "{name}");
        }
    }

    #[test]
    fn a_code_is_counted_as_itself_if_it_is_registered_else_with_its_class() {
        let codes = [
            (0, "none"),
            (200, "200"),
            (299, "2xx"),
            (404, "404"),
            (499, "4xx"),
            (511, "511"),
            (599, "5xx"),
            (999, "5xx"),
        ];
        for (status, label) in codes {
            let traffic = Traffic::default();
            traffic.ended(Method::Patch as usize, status);
            let seen: Vec<_> = TrafficCounts::of(&traffic).exchanges().collect();
            assert_eq!(seen, [("PATCH", label.to_owned(), 1)], "{status}");
        }
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn whatever_comes_there_is_no_more_than_a_fixed_number_of_series() {
        let traffic = Traffic::default();
        for (method, status) in (0..20).flat_map(|method| (0..=999).map(move |it| (method, it))) {
            traffic.ended(method, status);
        }
        assert_eq!(TrafficCounts::of(&traffic).exchanges().count(), METHODS.len() * CODES);
    }

    #[test]
    fn what_another_process_counted_is_found_by_its_key_and_never_goes_back() {
        let traffic = Traffic::default();
        traffic.ended(0, 200);
        traffic.durations.observe(7_000);
        traffic.first_bytes.observe(6_000);
        traffic.moved(Way::ToTargets, 9);
        let counts = TrafficCounts::of(&traffic);
        let keys: std::collections::BTreeMap<_, _> = counts.by_key().into_iter().collect();
        let successor = Traffic::default();
        successor.raise(|key| keys.get(key).copied());
        assert_eq!(TrafficCounts::of(&successor), counts);
        successor.raise(|_| None);
        assert_eq!(TrafficCounts::of(&successor), counts);
        let both: TrafficCounts = [counts.clone(), counts].into_iter().sum();
        assert_eq!((both.bytes(Way::ToTargets), both.durations.count()), (18, 2));
    }
}
