//! What is measured, and what was promised of it: tables, nothing else.

use crate::generator::http::Shape;

/// One kind of load, put on every subject in turn.
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) shape: Shape,
    pub(super) connections: usize,
    pub(super) rate: Rate,
    /// Whether it is measured under the system's congestion control and under cubic.
    pub(super) both: bool,
}

/// How requests follow one another.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rate {
    /// As fast as answers come.
    Saturated,
    /// So many a second.
    Fixed(f64),
    /// This share of what the slowest peer did in [`SATURATION`].
    OfSlowest(f64),
}

/// The work that says what peers can do at most.
pub(super) const SATURATION: &str = "bare-64";

const fn saturated(
    name: &'static str,
    title: &'static str,
    shape: Shape,
    connections: usize,
) -> Work {
    Work { name, title, shape, connections, rate: Rate::Saturated, both: false }
}

const fn bodies(name: &'static str, title: &'static str, shape: Shape) -> Work {
    Work { name, title, shape, connections: 16, rate: Rate::Saturated, both: true }
}

/// Few connections before many, so that pools filled by many weigh on nobody's small figures.
pub(super) const WORKS: [Work; 14] = [
    saturated("bare-32", "GET with Host alone, 32 connections", Shape::Bare, 32),
    saturated("bare-64", "GET with Host alone, 64 connections", Shape::Bare, 64),
    saturated("browser-32", "GET with a browser's 13 fields, 32 connections", Shape::Browser, 32),
    saturated("browser-64", "GET with a browser's 13 fields, 64 connections", Shape::Browser, 64),
    saturated("10k-64", "10 KiB responses, 64 connections", Shape::Size10k, 64),
    saturated("post-64", "POST of 1 KiB, 64 connections", Shape::Post, 64),
    saturated("close-32", "Connection: close, 32 clients", Shape::Close, 32),
    Work {
        name: "rate-15k",
        title: "15,000 requests/s, 64 connections",
        shape: Shape::Bare,
        connections: 64,
        rate: Rate::Fixed(15_000.0),
        both: false,
    },
    Work {
        name: "rate-70",
        title: "70 % of what the slowest peer can do, 64 connections",
        shape: Shape::Bare,
        connections: 64,
        rate: Rate::OfSlowest(0.7),
        both: false,
    },
    saturated("bare-256", "GET with Host alone, 256 connections", Shape::Bare, 256),
    saturated("bare-1800", "GET with Host alone, 1,800 connections", Shape::Bare, 1800),
    bodies("64k-16", "64 KiB responses, 16 connections", Shape::Size64k),
    bodies("1m-16", "1 MiB responses, 16 connections", Shape::Size1m),
    bodies("upload-16", "Uploads of 1 MiB, 16 connections", Shape::Upload),
];

/// Figures of a work in which subjects are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Cpu,
    PerSecond,
    P50,
    P99,
    P999,
}

/// Whom evenly is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    Floor,
    Peer(&'static str),
    /// Whoever of the peers is best in this figure.
    BestPeer,
}

/// Evenly's figure over another's, and how large it may be (for requests/s: must be).
pub(super) struct Promise {
    pub(super) works: &'static [&'static str],
    pub(super) metric: Metric,
    pub(super) against: Against,
    pub(super) bound: f64,
}

const SMALL: &[&str] = &["bare-32", "bare-64", "browser-32", "browser-64"];
const BODIES: &[&str] = &["64k-16", "1m-16", "upload-16"];
const RATES: &[&str] = &["rate-15k", "rate-70"];

const fn cpu(works: &'static [&'static str], against: Against, bound: f64) -> Promise {
    Promise { works, metric: Metric::Cpu, against, bound }
}

const fn latency(metric: Metric, bound: f64) -> Promise {
    Promise { works: RATES, metric, against: Against::BestPeer, bound }
}

pub(super) const PROMISES: [Promise; 12] = [
    cpu(SMALL, Against::Floor, 1.12),
    cpu(SMALL, Against::Peer("haproxy"), 0.72),
    cpu(SMALL, Against::Peer("nginx"), 0.75),
    cpu(&["bare-256"], Against::Peer("haproxy"), 0.55),
    cpu(&["bare-1800"], Against::Peer("haproxy"), 0.33),
    cpu(&["10k-64", "post-64"], Against::BestPeer, 0.70),
    cpu(BODIES, Against::BestPeer, 0.60),
    cpu(&["close-32"], Against::BestPeer, 0.85),
    Promise {
        works: &["bare-64", "browser-64"],
        metric: Metric::PerSecond,
        against: Against::BestPeer,
        bound: 1.4,
    },
    latency(Metric::P99, 0.75),
    latency(Metric::P50, 1.0),
    latency(Metric::P999, 1.0),
];

/// What may not allocate at all, and the tests in `tests/costs/allocations.rs` that see to it.
pub(super) const ALLOCATIONS: [(&str, &str); 5] = [
    ("a bare GET", "a_bare_get_allocates_nothing"),
    ("a browser's GET", "a_browsers_get_allocates_nothing"),
    ("a POST of 1 KiB", "a_post_of_1_kib_allocates_nothing"),
    ("a response in chunks", "a_response_in_chunks_allocates_nothing"),
    ("a worker on real sockets", "a_worker_on_real_sockets_allocates_nothing"),
];

impl Metric {
    pub(super) fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "CPU per request",
            Metric::PerSecond => "requests/s",
            Metric::P50 => "latency p50",
            Metric::P99 => "latency p99",
            Metric::P999 => "latency p99.9",
        }
    }

    /// Whether more of it is better.
    pub(super) fn more_is_better(self) -> bool {
        self == Metric::PerSecond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_is_about_works_that_are_done() {
        for name in PROMISES.iter().flat_map(|promise| promise.works) {
            assert!(WORKS.iter().any(|work| work.name == *name), "{name}");
        }
    }

    #[test]
    fn the_rate_that_depends_on_saturation_comes_after_it() {
        let place = |wanted: fn(&Work) -> bool| WORKS.iter().position(wanted).unwrap();
        let saturation = place(|work| work.name == SATURATION);
        assert!(saturation < place(|work| matches!(work.rate, Rate::OfSlowest(_))));
    }
}
