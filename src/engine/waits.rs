//! What a connection may wait for: how long, what begins that time again, and what follows when it is over. Pure: tables.
//!
//! Owns the name of every limit of a connection. Which of them runs is worked out in [`clock`](super::clock), which also sets the
//! timers. `docs/design.md` has the same table; a test compares.

use std::time::Duration;

use super::{DRAIN_GRACE, LINGER};
use crate::base::tick::Tick;
use crate::base::wheel::Due;
use crate::exchange::{Failure, Phase};
use crate::settings::Timeouts;

/// How long a target that went down has to respond to what cannot be sent elsewhere.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a connection idles that others may wait behind: as long as nothing shows that its target serves several at once.
const BRIEF: Duration = Duration::from_secs(1);
/// How long a target may take to end a connection, or to read what is left on it.
const PARTING: Duration = Duration::from_secs(1);
/// How often it is looked whether all is sent that a client is to have before its connection is reset.
const RESET_LOOK: Duration = Duration::from_millis(50);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nothing of its peer's: the other side of its exchange has the limit.
    Nobody,

    /// A client, for its next request.
    Idle,
    /// A client, for the rest of a request's head.
    RequestHead,
    /// A client, for more of a request's body.
    RequestBody,
    /// A client, for the rest of a request that was answered and that no target takes: it is dropped.
    Leftover,
    /// A client, to take what it is sent.
    Reader,
    /// A client whose side has ended, for its target's response: it may have gone.
    Grace,
    /// A client that was sent its last response, to read it and end the connection.
    Linger,
    /// A client that is to be reset, until the kernel has sent what it is to have before.
    Unsent,

    /// A connection of either side, for bytes of a tunnel.
    Tunnel,

    /// A target, to take the connection.
    Connect,
    /// A target, for the head of its response.
    ResponseHead,
    /// Likewise, although its endpoint went down.
    LastWords,
    /// A target, for more of its response's body.
    ResponseBody,
    /// A target that has answered, to take more of the request.
    Upload,
    /// An upstream connection, for the next request.
    Pooled,
    /// Likewise, one that others may wait behind.
    PooledBriefly,
    /// A target, to end a connection that carries nothing more.
    Parting,
}

/// Every one, in order.
const ALL: [Waits; Waits::Parting as usize + 1] = [
    Waits::Nobody,
    Waits::Idle,
    Waits::RequestHead,
    Waits::RequestBody,
    Waits::Leftover,
    Waits::Reader,
    Waits::Grace,
    Waits::Linger,
    Waits::Unsent,
    Waits::Tunnel,
    Waits::Connect,
    Waits::ResponseHead,
    Waits::LastWords,
    Waits::ResponseBody,
    Waits::Upload,
    Waits::Pooled,
    Waits::PooledBriefly,
    Waits::Parting,
];

/// What happened on a connection since its limit was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing that counts. The limit begins only if it is another one now.
    None,
    /// Its peer sent something.
    Read,
    /// Its peer took something.
    Written,
    /// Whatever is waited for begins now.
    Anew,
}

/// What follows when a limit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: there was no limit.
    Nothing,
    /// The connection is closed.
    Close,
    /// The client gets a response of our own with this status.
    Respond(u16),
    /// The client's response has begun: its connection ends so that it can see that it is not whole.
    Cut,
    /// The client's connection is reset.
    Reset,
    /// The exchange is given up: the client has left.
    Abandon,
    /// The exchange ends: its response was whole.
    Finish,
    /// The tunnel ends.
    EndTunnel,
    /// It is looked again.
    Look,
    /// The request moves on to the next endpoint.
    NextEndpoint,
    /// The exchange with the target failed: the table in `exchange::retry` says what follows.
    Fail(Failure),
    /// The target gets no more of the request.
    StopUpload,
    /// The upstream connection ends, in order as long as such ends are few.
    Part,
}

/// How long is waited; `None` is for any length of time.
pub(super) fn limit(waits: Waits, timeouts: &Timeouts, draining: bool) -> Option<Duration> {
    Some(match waits {
        Waits::Nobody => return None,
        Waits::Idle if draining => DRAIN_GRACE,
        Waits::Idle => timeouts.client_idle,
        Waits::RequestHead => timeouts.client_header,
        Waits::RequestBody | Waits::Reader => timeouts.client_body,
        Waits::Leftover | Waits::Linger => LINGER,
        // Without a grace the exchange is given up at once: there is nothing to wait for.
        Waits::Grace => return timeouts.client_gone.filter(|grace| !grace.is_zero()),
        Waits::Unsent => RESET_LOOK,
        Waits::Tunnel => timeouts.tunnel_idle,
        Waits::Connect => timeouts.connect,
        Waits::ResponseHead => timeouts.response_header,
        Waits::LastWords => LAST_WORDS,
        Waits::ResponseBody | Waits::Upload => timeouts.response_body,
        Waits::Pooled => timeouts.upstream_idle,
        Waits::PooledBriefly => timeouts.upstream_idle.min(BRIEF),
        Waits::Parting => PARTING,
    })
}

/// How long each limit is, worked out once for a plan, since every request has several.
pub(super) struct Lengths([u64; Waits::Parting as usize + 1]);

impl Lengths {
    pub(super) fn new(timeouts: &Timeouts, draining: bool) -> Lengths {
        Lengths(ALL.map(|waits| match limit(waits, timeouts, draining) {
            Some(length) => u64::try_from(length.as_micros()).unwrap_or(u64::MAX),
            None => u64::MAX,
        }))
    }

    /// When a limit is over that begins now.
    #[inline]
    pub(super) fn end(&self, waits: Waits, now: Tick) -> Due {
        match self.0[waits as usize] {
            u64::MAX => Due::NEVER,
            length => Due::at(Tick(now.0.saturating_add(length))),
        }
    }
}

/// Whether a limit that runs begins again.
#[inline]
pub(super) fn begins_again(waits: Waits, moved: Moved) -> bool {
    match moved {
        Moved::None => false,
        Moved::Read => matches!(
            waits,
            Waits::RequestBody | Waits::Reader | Waits::Tunnel | Waits::ResponseBody
        ),
        Moved::Written => matches!(
            waits,
            Waits::Reader | Waits::Grace | Waits::Tunnel | Waits::ResponseHead | Waits::Upload
        ),
        Moved::Anew => true,
    }
}

/// What follows when a limit is over, in an exchange that is at this phase.
pub(super) fn verdict(waits: Waits, phase: Phase) -> Verdict {
    match waits {
        Waits::Nobody => Verdict::Nothing,
        Waits::Idle | Waits::Linger | Waits::Pooled | Waits::PooledBriefly => Verdict::Close,
        Waits::RequestHead => Verdict::Respond(408),
        Waits::RequestBody => match phase {
            Phase::Request => Verdict::Respond(408),
            Phase::Upload => Verdict::Finish,
            _ => Verdict::Cut,
        },
        Waits::Leftover => Verdict::Finish,
        Waits::Reader => Verdict::Reset,
        Waits::Grace => Verdict::Abandon,
        Waits::Unsent => Verdict::Look,
        Waits::Tunnel => Verdict::EndTunnel,
        Waits::Connect => Verdict::NextEndpoint,
        Waits::ResponseHead => Verdict::Fail(Failure::HeadTimeout),
        Waits::LastWords => Verdict::Fail(Failure::Down),
        Waits::ResponseBody => Verdict::Fail(Failure::BodyTimeout),
        Waits::Upload => Verdict::StopUpload,
        Waits::Parting => Verdict::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key has a length of its own, so that a limit says which it is.
    fn timeouts() -> (Timeouts, Vec<(Duration, &'static str)>) {
        let at = |seconds: u64| Duration::from_secs(100 + seconds);
        let timeouts = Timeouts {
            client_header: at(0),
            client_idle: at(1),
            client_body: at(2),
            client_gone: Some(at(3)),
            connect: at(4),
            response_header: at(5),
            response_body: at(6),
            tunnel_idle: at(7),
            upstream_idle: at(8),
            drain_delay: at(10),
            drain: at(9),
            upgrade: at(11),
        };
        let names = vec![
            (at(0), "timeouts.client_header"),
            (at(1), "timeouts.client_idle"),
            (at(2), "timeouts.client_body"),
            (at(3), "timeouts.client_gone"),
            (at(4), "timeouts.connect"),
            (at(5), "timeouts.response_header"),
            (at(6), "timeouts.response_body"),
            (at(7), "timeouts.tunnel_idle"),
            (at(8), "timeouts.upstream_idle"),
            (LINGER, "5 s"),
            (LAST_WORDS, "2 s"),
            (BRIEF, "1 s"),
            (RESET_LOOK, "50 ms"),
        ];
        (timeouts, names)
    }

    fn named(limit: Option<Duration>, names: &[(Duration, &'static str)]) -> &'static str {
        let Some(limit) = limit else { return "" };
        names.iter().find(|(length, _)| *length == limit).expect("a length of the list").1
    }

    /// A row of the table, as the documentation has it.
    fn row(waits: Waits) -> [String; 4] {
        let (timeouts, names) = timeouts();
        let again = [(Moved::Read, "read"), (Moved::Written, "written")];
        let again: Vec<&str> = again
            .iter()
            .filter(|(it, _)| begins_again(waits, *it))
            .map(|(_, word)| *word)
            .collect();
        let phases = [Phase::Request, Phase::Both, Phase::Upload];
        let mut then: Vec<String> =
            phases.iter().map(|&phase| format!("{:?}", verdict(waits, phase))).collect();
        then.dedup();
        [
            format!("{waits:?}"),
            named(limit(waits, &timeouts, false), &names).to_owned(),
            again.join(", "),
            then.join(", "),
        ]
    }

    #[test]
    fn the_documentation_has_every_limit_and_what_follows() {
        const PAGE: &str = include_str!("../../docs/design.md");
        let mut lines = PAGE.lines().skip_while(|line| !line.starts_with("| waits |"));
        lines.next().expect("the table of what is waited for");
        let rows: Vec<[String; 4]> = lines
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells =
                    line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
                let mut cells: Vec<String> = cells.collect();
                // What it means in words is for people.
                cells.remove(1);
                cells.try_into().expect("five cells")
            })
            .collect();
        let table: Vec<[String; 4]> = ALL.into_iter().skip(1).map(row).collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn the_lengths_of_a_plan_are_its_limits() {
        let (timeouts, _) = timeouts();
        let lengths = Lengths::new(&timeouts, false);
        let now = Tick(7);
        for (at, waits) in ALL.into_iter().enumerate() {
            assert_eq!(waits as usize, at, "{waits:?}");
            let end =
                limit(waits, &timeouts, false).map_or(Due::NEVER, |it| Due::at(now.after(it)));
            assert_eq!(lengths.end(waits, now), end, "{waits:?}");
        }
    }

    #[test]
    fn nobody_is_waited_for_without_a_name() {
        let (timeouts, _) = timeouts();
        assert_eq!(limit(Waits::Nobody, &timeouts, false), None);
        assert_eq!(verdict(Waits::Nobody, Phase::Awaited), Verdict::Nothing);
        for waits in ALL.into_iter().skip(1) {
            assert!(limit(waits, &timeouts, false).is_some(), "{waits:?}");
            assert_ne!(verdict(waits, Phase::Awaited), Verdict::Nothing, "{waits:?}");
            assert!(begins_again(waits, Moved::Anew) && !begins_again(waits, Moved::None));
        }
    }

    #[test]
    fn a_drain_shortens_only_the_wait_for_a_next_request() {
        let (timeouts, _) = timeouts();
        let shortened =
            |&waits: &Waits| limit(waits, &timeouts, true) != limit(waits, &timeouts, false);
        let shortened: Vec<Waits> = ALL.into_iter().filter(shortened).collect();
        assert_eq!(shortened, [Waits::Idle]);
        assert_eq!(limit(Waits::Idle, &timeouts, true), Some(DRAIN_GRACE));
    }

    #[test]
    fn a_client_that_may_have_gone_has_no_time_or_any_if_so_configured() {
        let (timeouts, _) = timeouts();
        for client_gone in [None, Some(Duration::ZERO)] {
            let timeouts = Timeouts { client_gone, ..timeouts };
            assert_eq!(limit(Waits::Grace, &timeouts, false), None);
        }
    }

    #[test]
    fn a_request_that_stalls_is_answered_before_its_response_and_cut_within_it() {
        let then = |phase| verdict(Waits::RequestBody, phase);
        assert_eq!(then(Phase::Request), Verdict::Respond(408));
        assert_eq!(then(Phase::Both), Verdict::Cut);
        assert_eq!(then(Phase::Upload), Verdict::Finish);
    }
}
