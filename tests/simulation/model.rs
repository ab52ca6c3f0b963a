//! The shadow model: every request that clients send, what targets answered, and what must hold between the two.
//!
//! A request's number stands in its target, and comes back in the answer's `X-Id` with the number of the
//! attempt in `X-Try`. Bodies are known from those numbers, so that each byte is checked where it arrives.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::hardship::{Hardship, Hardships};
use crate::message::Framing;
use crate::net::Taken;
use crate::random::{Rng, mix};

/// How rough the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Slow and in pieces, but everybody behaves: nothing may fail.
    Fair,
    /// Endpoints refuse connects or fall silent, pooled connections go stale: only what may not be repeated may fail.
    Flaky,
    /// Everything dies, lies and hangs.
    Stormy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Asks for a tunnel, which the target agrees to or not.
    Upgrade {
        agreed: bool,
    },
    /// No request at all; to be refused.
    Garbage(usize),
    /// A chunked body with a fault in it.
    BrokenBody,
}

/// What a target decided to answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) wire: usize,
    pub(crate) status: u16,
    /// Bytes of the body.
    pub(crate) len: u64,
    pub(crate) framing: Framing,
    pub(crate) trailer: bool,
    /// It was written to its end, the end included.
    pub(crate) whole: bool,
    /// It says that the rest of the request is not wanted, should there be one.
    pub(crate) refuses: bool,
    /// The target has read the request to its end.
    pub(crate) read_whole: bool,
}

/// What became of a request's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// Not all of it was sent, or its client gave it up.
    Part,
    /// All of it was sent.
    Whole,
    /// The connection ended in the middle, of which the client was not told.
    CutOff,
}

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// A target's answer, whole.
    Answered,
    /// An answer of the engine's own.
    Refused(u16),
    /// An answer that visibly is not whole.
    Cut,
    /// The connection ended before an answer began.
    Unanswered,
    /// The client left or broke it itself.
    Left,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) method: &'static str,
    /// HTTP/1.1, not 1.0.
    pub(crate) modern: bool,
    pub(crate) framing: Framing,
    /// Bytes of the body, or of the client's direction of a tunnel.
    pub(crate) len: u64,
    pub(crate) trailer: bool,
    pub(crate) expect: bool,
    /// It asks for the connection to end.
    pub(crate) closes: bool,
    pub(crate) keep_alive: bool,
    /// When its client began to send it.
    pub(crate) begun: u64,
    /// The connections that took bytes of it.
    pub(crate) taken: Vec<usize>,
    /// How many requests the last of them had carried then.
    pub(crate) behind: usize,
    /// When that was. Its target may read it later, behind what it was sent before.
    pub(crate) taken_at: u64,
    pub(crate) answers: Vec<Answer>,
    /// Which of them came whole to its client.
    pub(crate) attempt: Option<usize>,
    pub(crate) upload: Upload,
    /// It was answered before its client had the 100 that it may wait for.
    pub(crate) held_back: bool,
    pub(crate) fate: Fate,
}

impl Request {
    pub(crate) fn is_idempotent(&self) -> bool {
        !matches!(self.method, "POST" | "PATCH")
    }

    pub(crate) fn has_body(&self) -> bool {
        self.framing != Framing::Nothing
    }
}

pub(crate) struct Model {
    pub(crate) profile: Profile,
    pub(crate) hardships: Hardships,
    pub(crate) requests: Vec<Request>,
    /// The drain has begun.
    pub(crate) draining: bool,
    /// Clients that end their side are given up when their response does not flow.
    pub(crate) gives_up: bool,
    /// Bodies are not larger than this.
    pub(crate) largest: u64,
    /// Whether every endpoint was healthy and open all the time, and no client left.
    pub(crate) undisturbed: bool,
    /// Requests that each host took.
    pub(crate) shares: Vec<u64>,
    /// The host of each request, in the order in which they were sent.
    pub(crate) order: Vec<usize>,
    /// How many requests each connection has carried.
    carried: BTreeMap<usize, usize>,
    /// Connections on which more than an answer was written, and how many requests they had carried then.
    spoilt: BTreeMap<usize, usize>,
    /// Connections on which a target misbehaved or died.
    pub(crate) faulty: Vec<usize>,
    /// Connections on which a target sent a response nobody asked for.
    pub(crate) poisoned: Vec<usize>,
    /// Connections on which a target has answered a request and not read its body, which it takes for the next one.
    pub(crate) careless: Vec<usize>,
    /// Until when something was short here that every connect needs.
    pub(crate) short_until: u64,
    /// The host of each connection.
    hosts: BTreeMap<usize, usize>,
    /// When each host was last published as down.
    pub(crate) went_down: Vec<Option<u64>>,
}

impl Model {
    pub(crate) fn new(profile: Profile, hosts: usize, largest: u64, hardships: Hardships) -> Model {
        Model {
            profile,
            hardships,
            requests: Vec::new(),
            draining: false,
            gives_up: false,
            largest,
            undisturbed: true,
            shares: vec![0; hosts],
            order: Vec::new(),
            carried: BTreeMap::new(),
            spoilt: BTreeMap::new(),
            faulty: Vec::new(),
            poisoned: Vec::new(),
            careless: Vec::new(),
            short_until: 0,
            hosts: BTreeMap::new(),
            went_down: vec![None; hosts],
        }
    }

    pub(crate) fn add(&mut self, request: Request) -> u64 {
        self.requests.push(request);
        self.requests.len() as u64 - 1
    }

    pub(crate) fn get(&mut self, id: u64) -> &mut Request {
        let at = usize::try_from(id).unwrap();
        self.requests.get_mut(at).unwrap_or_else(|| panic!("request {id} was never sent"))
    }

    /// A body's size: mostly small, some larger than any buffer on the way.
    pub(crate) fn size(&self, rng: &mut Rng) -> u64 {
        let most = rng.weighted(&[(10, 0), (45, 200), (25, 5_000), (15, 70_000), (5, 700_000)]);
        rng.within(0..=most).min(self.largest)
    }

    /// The engine began to send a request on an upstream connection.
    pub(crate) fn request_taken(&mut self, taken: &Taken, host: usize, now: u64) {
        let Taken { wire, id, told, stale, quiet } = *taken;
        let carried = self.carried.entry(wire).or_default();
        let reused = *carried > 0;
        let spoilt = quiet && self.spoilt.get(&wire) == Some(carried);
        assert!(
            !spoilt,
            "request {id} was sent on wire {wire} after more than an answer was read there"
        );
        assert!(
            !self.careless.contains(&wire),
            "request {id} was sent on wire {wire}, whose target left the last request's body unread"
        );
        *carried += 1;
        let behind = *carried;
        self.hosts.insert(wire, host);
        self.shares[host] += 1;
        self.order.push(host);
        let request = self.get(id);
        assert!(
            !told,
            "request {id} was sent on wire {wire}, which was known to hold unread bytes"
        );
        let repeatable = request.is_idempotent();
        assert!(
            !stale || repeatable || !reused,
            "{} {id} was sent on wire {wire}, which is stale",
            request.method
        );
        request.taken.push(wire);
        (request.behind, request.taken_at) = (behind, now);
        let most = if repeatable { 2 } else { 1 };
        assert!(
            request.taken.len() <= most,
            "{} {id} was sent {} times, on {:?}",
            request.method,
            request.taken.len(),
            request.taken
        );
        assert!(!matches!(request.kind, Kind::Garbage(_)), "garbage {id} reached a target");
        assert!(
            matches!(request.fate, Fate::Open | Fate::Left),
            "request {id} is sent after it has ended as {:?}",
            request.fate
        );
    }

    /// A target has written more than the answer to its last request.
    pub(crate) fn spoil(&mut self, wire: usize) {
        let carried = self.carried.get(&wire).copied().unwrap_or_default();
        self.spoilt.insert(wire, carried);
    }

    pub(crate) fn settle(&mut self, id: u64, fate: Fate) {
        let request = self.get(id);
        if request.fate == Fate::Open {
            request.fate = fate;
        }
    }

    /// What becomes of the requests of a client that had ended its side: `fate`, unless it counts as one that left.
    pub(crate) fn given_up(&mut self, fate: Fate) -> Fate {
        if !self.gives_up {
            return fate;
        }
        // Its request may have been given a turn that no target saw.
        self.undisturbed = false;
        Fate::Left
    }

    /// Whether the client's connection may end before the answer to `id` begins, after it was kept so far.
    pub(crate) fn may_go_unanswered(&self) -> bool {
        self.draining || self.profile == Profile::Stormy
    }

    /// Whether the request may have waited for a host that went down, for longer than that is waited for.
    fn was_lost(&self, request: &Request) -> bool {
        let went_down = |wire| self.hosts.get(wire).and_then(|&host| self.went_down[host]);
        request.taken.iter().filter_map(went_down).any(|at| at >= request.begun)
    }

    /// Whether the failure of this request is excused by what was done to it.
    fn may_fail(&self, request: &Request) -> bool {
        let hit = request.taken.iter().any(|wire| self.faulty.contains(wire));
        match self.profile {
            Profile::Fair => false,
            Profile::Flaky => hit && (!request.is_idempotent() || request.has_body()),
            Profile::Stormy => true,
        }
    }

    /// Whoever is answered early can send all that it announced, and its target gets it.
    fn judge_upload(&self, id: usize, request: &Request) {
        let hit = request.taken.iter().any(|wire| self.faulty.contains(wire));
        // Where it is not known that a target answers before it has read all it was sent, it need not be left to read that.
        let ignored = !matches!(request.method, "POST" | "PUT" | "PATCH");
        let answer = request.attempt.and_then(|attempt| request.answers.get(attempt));
        let refused = answer.is_none_or(|answer| answer.status >= 400);
        let unwanted = ignored || refused;
        if request.kind != Kind::Plain || !request.has_body() || request.held_back {
            return;
        }
        if request.fate != Fate::Answered || unwanted || hit || self.profile == Profile::Stormy {
            return;
        }
        // What ends a later request may take away what was not read of this one.
        let wire = answer.map_or(0, |answer| answer.wire);
        let carried = self.carried.get(&wire).copied().unwrap_or_default();
        if request.taken.last() != Some(&wire) || carried > request.behind {
            return;
        }
        let read = answer.is_some_and(|answer| answer.read_whole);
        let lost = match request.upload {
            Upload::Part => false,
            Upload::Whole => !read,
            Upload::CutOff => true,
        };
        assert!(!lost, "the content of {id} did not reach its target: {request:?}");
    }

    fn judge(&self, id: usize, request: &Request) {
        let failed = || panic!("request {id} must not fail: {request:?}");
        let slow = self.hardships.has(Hardship::SlowPeers);
        match request.fate {
            Fate::Open => panic!("request {id} is still open at the end: {request:?}"),
            Fate::Answered | Fate::Left => {}
            Fate::Refused(_) if matches!(request.kind, Kind::Garbage(_) | Kind::BrokenBody) => {}
            // The reset that shows a cut may overtake what was sent.
            Fate::Cut | Fate::Unanswered if request.kind == Kind::BrokenBody => {}
            // It is not waited for without end that somebody reads what is wrong.
            Fate::Cut if slow && matches!(request.kind, Kind::Garbage(_)) => {}
            Fate::Refused(502..=504) | Fate::Cut if self.may_fail(request) => {}
            Fate::Refused(502) if slow && self.was_lost(request) => {}
            // There was no memory for it: it has gone nowhere.
            Fate::Refused(503)
                if self.hardships.has(Hardship::LittleMemory) && request.taken.is_empty() => {}
            // There was nothing to connect with, at first or when its target went down.
            Fate::Refused(502 | 503) if request.begun <= self.short_until => {}
            // Its connection was idle and gave way while it was on its way.
            Fate::Unanswered if request.taken.is_empty() && request.begun <= self.short_until => {}
            // Likewise, while a slow reader had not read the answer before.
            Fate::Cut if request.begun <= self.short_until && !request.closes => {}
            // An answer to nobody that came when somebody waited for one.
            Fate::Refused(_) if request.taken.iter().any(|wire| self.poisoned.contains(wire)) => {}
            Fate::Refused(408) if self.profile == Profile::Stormy => {}
            Fate::Unanswered if self.may_go_unanswered() => {}
            // A drain closes what is idle. A slow reader that then asks for more loses what it has not read.
            Fate::Cut if self.draining && !request.closes => {}
            _ => failed(),
        }
    }

    /// What must hold when all is over.
    pub(crate) fn judge_all(&self) {
        for (id, request) in self.requests.iter().enumerate() {
            self.judge(id, request);
            self.judge_upload(id, request);
        }
        if self.undisturbed && self.profile == Profile::Fair {
            let (least, most) =
                (self.shares.iter().min().unwrap(), self.shares.iter().max().unwrap());
            assert!(most - least <= 1, "the shares are not equal: {:?}", self.shares);
        }
    }
}

/// A prime, so that bodies of different requests are nowhere alike.
const PERIOD: usize = 65_521;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let once: Vec<u8> = (0..PERIOD as u64).map(|at| mix(at + 1).to_le_bytes()[0]).collect();
        [once.as_slice(), once.as_slice()].concat()
    })
}

/// The body of request `id`, or of its answer, which is another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Request(u64),
    Answer(u64),
}

impl Body {
    fn start(self, offset: u64) -> usize {
        let seed = match self {
            Body::Request(id) => mix(id * 2 + 1),
            Body::Answer(id) => mix(id * 2 + 2),
        };
        usize::try_from((seed % PERIOD as u64 + offset) % PERIOD as u64).unwrap()
    }

    /// `count` bytes of it from `offset` on; at most 65,521.
    pub(crate) fn bytes(self, offset: u64, count: usize) -> &'static [u8] {
        let start = self.start(offset);
        &table()[start..start + count]
    }

    /// Panics if `bytes` are not those from `offset` on.
    pub(crate) fn check(self, mut offset: u64, bytes: &[u8]) {
        for piece in bytes.chunks(32 * 1024) {
            assert!(
                piece == self.bytes(offset, piece.len()),
                "{self:?} differs from {offset} on: {:?}",
                String::from_utf8_lossy(&piece[..piece.len().min(60)])
            );
            offset += piece.len() as u64;
        }
    }
}
