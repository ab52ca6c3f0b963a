//! How the descriptors of the process are shared out: so many stay free for whatever is no connection of a client or for
//! one, and each worker has an equal part of the rest.
//!
//! Invariant: a worker keeps within its part by closing idle connections to targets, so that checks, the admin listener, lookups
//! and logs find a descriptor however many clients there are.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ServerError;
use crate::admin;
use crate::settings::{AccessSink, ControlSocket, Settings, TargetAddress};

/// The fewest client connections worth starting for.
const LEAST_CONNECTIONS: u64 = 16;
/// A worker's poll, its copy in the registry, its waker; a connection that waits for room, one that is being accepted,
/// and what two workers may have in hand while both look at the same count.
const WORKER: u64 = 8;
/// The health thread's poll and wake, and what a report may have probed beside the round.
const HEALTH: u64 = 8;
/// The runtime of lookups, and files that are read when they change.
const RESOLVER: u64 = 8;
/// What one lookup may have open: a socket for each family, over UDP and over TCP.
const LOOKUP: u64 = 4;
/// Lookups at once.
const LOOKUPS: u64 = 64;
/// Addresses of a name that are probed at once.
const NAME_PROBES: u64 = 4;
/// The access log and its successor, and files of /proc and /sys that are read now and then.
const FILES: u64 = 8;

/// What an upgrade takes beside the sockets that workers lend for it: the way to the successor, both ends; its start; the other
/// sockets and the access log.
const UPGRADE: u64 = 8;

/// What stands for a limit that there is not.
const UNLIMITED: u64 = 1 << 20;

/// How the descriptors are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Client connections there may be.
    pub(super) clients: usize,
    /// Connections to clients and targets that each worker may have.
    pub(super) of_worker: usize,
}

/// Raises the soft limit of descriptors to the hard one and shares them out. Each client may need a connection to a
/// target too. `open` is what was open before anything was opened.
pub(super) fn share_out(
    settings: &Settings,
    workers: usize,
    open: u64,
) -> Result<Shares, ServerError> {
    let limit = raise_limit();
    let reserve = reserve(settings, workers as u64, limit, open);
    let shares = divide(limit, reserve, workers as u64)
        .ok_or(ServerError::Descriptors { limit, needed: reserve + 2 * LEAST_CONNECTIONS })?;
    match settings.plan.limits.connections {
        Some(wanted) if wanted > shares.clients => {
            log::warn!(
                "limits.connections = {wanted} needs more than the {limit} descriptors allowed; \
                 using {}; raise the limit (ulimit -n, LimitNOFILE=)",
                shares.clients
            );
            Ok(shares)
        }
        wanted => Ok(Shares { clients: wanted.unwrap_or(shares.clients), ..shares }),
    }
}

/// How many descriptors this process may have open now.
pub(super) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(UNLIMITED).min(1 << 30)
}

/// Descriptors that are open before anything is opened: the standard ones, those of signals, and inherited ones.
pub(super) fn open_now() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(16, |entries| entries.count() as u64)
}

/// Descriptors that connections must leave free.
fn reserve(settings: &Settings, workers: u64, limit: u64, open: u64) -> u64 {
    let is_name =
        |at: &TargetAddress| matches!(at, TargetAddress::Name { .. } | TargetAddress::Service(_));
    let targets = settings.plan.targets.len() as u64;
    let names =
        settings.plan.targets.iter().filter(|target| is_name(&target.address)).count() as u64;
    // With thousands of targets not all are probed in one moment, and what finds no descriptor is probed later.
    let probes = (targets - names + names * NAME_PROBES).min(limit / 4);
    let lookups = if names > 0 { RESOLVER + names.min(LOOKUPS) * LOOKUP } else { 0 };
    let listens = settings.boot.admin.is_some();
    let admin = match listens || settings.boot.socket != ControlSocket::Off {
        true => admin::most_descriptors(listens),
        false => 0,
    };
    let log = if settings.plan.log.access == AccessSink::Off { 0 } else { 2 };
    let listeners = settings.plan.listen.len() as u64;
    let upgrade = UPGRADE + workers * listeners;
    open + workers * (WORKER + listeners)
        + upgrade
        + HEALTH
        + probes
        + lookups
        + admin
        + log
        + FILES
}

/// `None` if too few are left to serve.
fn divide(limit: u64, reserve: u64, workers: u64) -> Option<Shares> {
    let room = limit.saturating_sub(reserve);
    if room < 2 * LEAST_CONNECTIONS.max(workers) {
        return None;
    }
    let number = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Some(Shares { clients: number(room / 2), of_worker: number(room / workers) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HealthCheck, Plan, Target, TargetState};

    fn settings(targets: usize, names: usize) -> Settings {
        let ip = |_| TargetAddress::Ip(([127, 0, 0, 1], 1).into());
        let name = |_| TargetAddress::Name { host: "a".into(), port: 1 };
        let target =
            |address| Target { address, health: HealthCheck::default(), state: TargetState::Auto };
        let targets = (0..targets).map(ip).chain((0..names).map(name)).map(target).collect();
        let plan = Plan { targets, ..Plan::default() };
        Settings { plan, ..Settings::default() }
    }

    #[test]
    fn what_is_no_connection_has_its_own() {
        let plain = reserve(&settings(2, 0), 2, 1024, 5);
        assert!((25..64).contains(&plain), "{plain}");
        let mut more = settings(2, 0);
        more.boot.admin = Some(([127, 0, 0, 1], 1).into());
        more.plan.log.access = AccessSink::Stdout;
        assert_eq!(reserve(&more, 2, 1024, 5), plain + 28 + 2, "more may visit");
        assert_eq!(reserve(&settings(12, 0), 2, 1024, 5), plain + 10);
        assert!(reserve(&settings(2, 1), 2, 1024, 5) > plain + LOOKUP + NAME_PROBES);
        assert_eq!(reserve(&settings(2, 0), 2, 1024, 105), plain + 100);
        assert!(reserve(&settings(5_000, 5_000), 2, 1024, 5) < 700, "it starts all the same");
    }

    #[test]
    fn what_is_left_is_divided_so_that_each_client_has_two() {
        for (limit, reserve, workers) in [(200, 50, 2), (1 << 30, 100, 64), (164, 132, 16)] {
            let shares = divide(limit, reserve, workers).unwrap();
            let workers = usize::try_from(workers).unwrap();
            let room = usize::try_from(limit - reserve).unwrap();
            assert_eq!(shares.clients, room / 2);
            assert!(shares.of_worker * workers <= room && shares.of_worker >= 2);
        }
        for (limit, reserve, workers) in [(100, 69, 1), (100, 200, 1), (200, 100, 64)] {
            assert_eq!(divide(limit, reserve, workers), None);
        }
    }
}
