//! What makes a world hard beside its peers' malice: what befalls the engine's own thread and host, and peers that are only slow.
//!
//! None of it is anybody's fault, so that the model makes no allowance for it: in a fair world nothing that has arrived may be lost
//! and nobody is suspected, whatever of this goes on.

use crate::random::Rng;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardship {
    /// The worker stands still between two turns, or between its poll and its turn: SIGSTOP, a suspended host, a busy one.
    Pauses,
    /// A call takes long, so that the clock moves while a turn is under way.
    LongTurns,
    /// Calls fail for want of something on this host, or are interrupted.
    LocalErrors,
    /// Clients and targets are slow, but keep within the limits.
    SlowPeers,
    /// Targets leave the body of a GET unread, and take it for the next request.
    UnreadBytes,
    /// Nobody takes the access log's entries.
    UntakenLog,
    /// The clock says an earlier time than before.
    ClockSteps,
    /// Some events are told very late.
    LateWakeUps,
    /// Buffers may hold no more than a few messages.
    LittleMemory,
}

/// All of them, by the name that `WORLD` knows them by.
const ALL: [(&str, Hardship); 9] = [
    ("pauses", Hardship::Pauses),
    ("long-turns", Hardship::LongTurns),
    ("local-errors", Hardship::LocalErrors),
    ("slow-peers", Hardship::SlowPeers),
    ("unread-bytes", Hardship::UnreadBytes),
    ("untaken-log", Hardship::UntakenLog),
    ("clock-steps", Hardship::ClockSteps),
    ("late-wake-ups", Hardship::LateWakeUps),
    ("little-memory", Hardship::LittleMemory),
];

/// Those that an ordinary run has.
const ORDINARY: &[Hardship] = &[
    Hardship::Pauses,
    Hardship::LongTurns,
    Hardship::LocalErrors,
    Hardship::SlowPeers,
    Hardship::UnreadBytes,
    Hardship::UntakenLog,
    Hardship::ClockSteps,
    Hardship::LateWakeUps,
    Hardship::LittleMemory,
];

/// What a world has of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hardships(Vec<Hardship>);

impl Hardships {
    /// As chance has it, or as the variable `WORLD` says: `pauses`, `pauses,slow-peers`, `none`, `all`.
    pub(crate) fn invent(rng: &mut Rng) -> Hardships {
        let count = rng.weighted(&[(40, 0), (40, 1), (20, 2)]);
        let mut chosen: Vec<Hardship> = (0..count).map(|_| rng.one_of(ORDINARY)).collect();
        chosen.dedup();
        let named = std::env::var("WORLD").ok().filter(|names| !names.is_empty());
        Hardships(named.map_or(chosen, |names| called(&names)))
    }

    pub(crate) fn has(&self, hardship: Hardship) -> bool {
        self.0.contains(&hardship)
    }
}

fn called(names: &str) -> Vec<Hardship> {
    match names {
        "none" => Vec::new(),
        "all" => ALL.map(|(_, hardship)| hardship).to_vec(),
        names => names.split(',').map(one).collect(),
    }
}

fn one(name: &str) -> Hardship {
    let known = ALL.iter().find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("no WORLD is called {name:?}; there are {ALL:?}")).1
}
