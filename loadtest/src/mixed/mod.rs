//! Small requests beside other people's load: what an edge sees. One thread is the clients, the crowd beside them
//! and the server behind the subject, and serves them in this order: answers to the small requests first, then
//! requests at the origin, then one piece of bulk, so that a small request never waits for this program's own bulk
//! for longer than one piece takes.
//!
//! Bytes of bulk are discarded in the kernel (`MSG_TRUNC`) but for the first response of each connection, whose content is
//! checked: the subject shall be at its end, not this thread.

mod crowd;
mod mixer;
mod origin;
mod probe;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::generator::histogram::Histogram;
use crate::generator::http::Faults;
use crate::proc::Cpu;

pub(crate) use mixer::Mixer;

/// What goes on beside the small requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// Responses of 4 MiB on a loop.
    Downloads,
    /// Bodies in one-byte chunks, as fast as they are taken.
    Uploads,
    /// New connections, each for one request, at a fixed rate.
    Connections,
    /// Clients that read 4 MiB at [`READ`] every [`READ_EVERY`].
    Readers,
}

/// How many download, upload, and read slowly.
pub(crate) const DOWNLOADS: usize = 32;
pub(crate) const UPLOADS: usize = 24;
pub(crate) const READERS: usize = 1000;
/// New connections per second.
pub(crate) const CONNECTIONS: u32 = 500;
/// Bytes of a large response's body.
const LARGE: u64 = 4 << 20;
/// What a slow reader reads at once, in bytes, and how often.
const READ: usize = 16 << 10;
const READ_EVERY: Duration = Duration::from_millis(500);
/// Small requests: so many clients ask, wait for the answer, and ask again after a pause of 1 to 3 ms.
pub(crate) const ASKING: usize = 4;
/// And so many a second are asked whatever becomes of those before.
pub(crate) const ASKED: u32 = 200;
/// Bytes of bulk that are moved at once.
const PIECE: usize = 128 << 10;

impl Beside {
    pub(crate) const ALL: [Beside; 5] =
        [Beside::Nothing, Beside::Downloads, Beside::Uploads, Beside::Connections, Beside::Readers];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "idle",
            Beside::Downloads => "downloads",
            Beside::Uploads => "uploads",
            Beside::Connections => "connections",
            Beside::Readers => "readers",
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Beside::Nothing => "nothing else".to_owned(),
            Beside::Downloads => format!("{DOWNLOADS} downloads of 4 MiB on a loop"),
            Beside::Uploads => {
                format!("{UPLOADS} uploads in one-byte chunks, as fast as they are taken")
            }
            Beside::Connections => {
                format!("{CONNECTIONS} new connections per second, one GET each")
            }
            Beside::Readers => format!("{READERS} readers of 4 MiB at 32 KiB/s each"),
        }
    }

    /// What is counted of it.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Beside::Nothing => "GET/s",
            Beside::Connections => "connections/s",
            _ => "MiB/s",
        }
    }
}

/// What is done, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) target: SocketAddr,
    pub(crate) beside: Beside,
    /// How long it runs before it counts.
    pub(crate) run_in: Duration,
    pub(crate) time: Duration,
    /// Processes whose CPU time is wanted.
    pub(crate) watched: Vec<u32>,
}

/// What became of a slice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// How long it counted, in seconds.
    pub(crate) span: f64,
    /// Small requests of those who wait for the answer before they ask again.
    pub(crate) closed: Histogram,
    /// Likewise of those that are asked at their time, counted from it.
    pub(crate) open: Histogram,
    /// New connections, from when each was due to the end of its answer.
    pub(crate) visits: Histogram,
    /// How long it took until every connection of the small requests had its first answer, beside the load that began
    /// with it, in seconds.
    pub(crate) warm: f64,
    /// Bytes of bulk that the clients sent or received.
    pub(crate) bytes: u64,
    /// Visits that were answered while it counted.
    pub(crate) visited: u64,
    pub(crate) faults: Faults,
    pub(crate) own: Cpu,
    /// How long this thread found nothing to do, in seconds.
    pub(crate) idle: f64,
    pub(crate) subject: Cpu,
    /// What the host took from this machine's CPUs, in seconds of one.
    pub(crate) stolen: f64,
}

/// When the small requests and the visits are measured: those that were due within.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    fn contains(self, due: Instant) -> bool {
        (self.from..self.to).contains(&due)
    }
}

impl Outcome {
    /// Adds another slice of the same kind.
    pub(crate) fn merge(&mut self, other: &Outcome) {
        self.span += other.span;
        self.closed.merge(&other.closed);
        self.open.merge(&other.open);
        self.visits.merge(&other.visits);
        self.warm = self.warm.max(other.warm);
        self.bytes += other.bytes;
        self.visited += other.visited;
        self.faults.merge(&other.faults);
        self.own = self.own + other.own;
        self.idle += other.idle;
        self.subject = self.subject + other.subject;
        self.stolen += other.stolen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::http::Fault;
    use crate::steady::allow_descriptors;

    const SHORT: Duration = Duration::from_millis(60);

    fn slice(target: SocketAddr, beside: Beside, time: Duration) -> Slice {
        let run_in = time / 2;
        Slice { target, beside, run_in, time, watched: vec![std::process::id()] }
    }

    #[test]
    fn every_load_goes_on_beside_small_requests_that_are_all_answered() {
        allow_descriptors(4096).unwrap();
        let mixer = Mixer::start().unwrap();
        for beside in Beside::ALL {
            let mut time = SHORT;
            loop {
                let outcome = mixer.run(slice(mixer.targets[1], beside, time)).unwrap();
                assert_eq!(outcome.faults.total(), 0, "{beside:?} {outcome:?}");
                // By when they were due: a machine with other work answers late, not fewer.
                let due = |a_second: u32| {
                    u64::try_from(time.as_millis() * u128::from(a_second) / 1000).unwrap()
                };
                assert!(outcome.open.seen().abs_diff(due(ASKED)) <= 1, "{beside:?} {outcome:?}");
                if beside == Beside::Connections {
                    assert!(outcome.visits.seen().abs_diff(due(CONNECTIONS)) <= 1, "{outcome:?}");
                }
                let no_bulk = matches!(beside, Beside::Nothing | Beside::Connections);
                if outcome.closed.seen() > 0 && (no_bulk || outcome.bytes > 0) {
                    break;
                }
                // A short one may pass while this thread waits for its CPU.
                time *= 2;
                assert!(time < Duration::from_secs(20), "{beside:?} {outcome:?}");
            }
        }
    }

    #[test]
    fn a_slice_follows_another_with_connections_of_its_own() {
        let mixer = Mixer::start().unwrap();
        for _ in 0..3 {
            let outcome = mixer.run(slice(mixer.targets[0], Beside::Downloads, SHORT)).unwrap();
            assert_eq!(outcome.faults.total(), 0, "{outcome:?}");
        }
    }

    #[test]
    fn nobody_at_the_target_is_a_fault_of_every_client() {
        let mixer = Mixer::start().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let outcome = mixer.run(slice(gone, Beside::Uploads, SHORT)).unwrap();
        let at_least = (UPLOADS + ASKING) as u64;
        assert!(outcome.faults.total() >= at_least, "{outcome:?}");
        assert!(outcome.faults.of(Fault::Connect) + outcome.faults.of(Fault::Cut) >= at_least);
        assert_eq!(outcome.closed.seen(), 0);
    }
}
