//! HAProxy. All it does is one process with one thread.

use std::process::Command;

use super::{Bench, CONNECTIONS, Place};
use crate::Failure;

pub(super) fn command(bench: &Bench, place: &Place) -> Result<Command, Failure> {
    let text = config(place, bench.probes());
    let config = bench.file(&format!("{}.cfg", place.name), &text)?;
    let mut command = bench.command(place.program);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

/// Its pool gives idle connections up as soon as a fifth of its descriptors are in use, and drops half of what it
/// did not need for 5 s: both are raised here, so that 2,000 clients keep their connections as they do elsewhere.
pub(super) fn config(place: &Place, seconds: f64) -> String {
    let Place { address, .. } = place;
    let interval = seconds * 1000.0;
    let servers = place.each_target(|at, target| format!("  server s{at} {target} check\n"));
    format!(
        "global\n  nbthread 1\n  maxconn {CONNECTIONS}\n\
         \x20 tune.pool-low-fd-ratio 80\n  tune.pool-high-fd-ratio 90\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n\
         \x20 timeout http-keep-alive 3600s\n  option http-keep-alive\n\
         \x20 option redispatch\n  http-reuse always\n  maxconn {CONNECTIONS}\n\
         \x20 default-server inter {interval:.0}ms rise 1 fall 1 pool-max-conn -1 pool-purge-delay 60s\n\
         frontend in\n  bind {address} backlog 4096\n  option forwardfor\n\
         \x20 http-request set-header X-Forwarded-Proto http\n\
         \x20 http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n  default_backend out\n\
         backend out\n  balance roundrobin\n  option httpchk GET /healthz\n{servers}"
    )
}
