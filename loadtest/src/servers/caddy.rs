//! Caddy: one Go thread of its own code (`GOMAXPROCS`), beside the runtime's.
//!
//! It cannot leave out its `Via` in both directions but by removing it again, which costs more than it saves.

use std::process::Command;

use super::{Bench, IDLE, Place};
use crate::Failure;

pub(super) fn command(bench: &Bench, place: &Place) -> Result<Command, Failure> {
    let config = bench.file("Caddyfile", &config(place, bench.probes()))?;
    let home = bench.scratch(place.name)?;
    let mut command = bench.command(place.program);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
    // Whatever it wants to keep, it keeps there.
    command.env("HOME", &home).env("XDG_DATA_HOME", &home).env("XDG_CONFIG_HOME", &home);
    command.env("GOMAXPROCS", "1");
    Ok(command)
}

/// It asks targets for gzip on its own account and unpacks what it gets, unless `compression` is off. The three
/// `X-Forwarded-*` fields are what it adds by default.
pub(super) fn config(place: &Place, seconds: f64) -> String {
    let targets = place.each_target(|_, target| format!(" {target}"));
    format!(
        "{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\
         \tlog {{\n\t\toutput stderr\n\t\tlevel ERROR\n\t}}\n\
         \tservers {{\n\t\tprotocols h1\n\t\ttimeouts {{\n\t\t\tidle 1h\n\t\t}}\n\t}}\n}}\n\
         :{port} {{\n\tbind {host}\n\treverse_proxy{targets} {{\n\
         \t\tlb_policy round_robin\n\t\tlb_retries 2\n\
         \t\thealth_uri /healthz\n\t\thealth_interval {interval:.0}ms\n\t\thealth_timeout 1s\n\
         \t\ttransport http {{\n\t\t\tversions 1.1\n\t\t\tcompression off\n\t\t\tdial_timeout 1s\n\
         \t\t\tkeepalive 1h\n\t\t\tkeepalive_idle_conns {all}\n\
         \t\t\tkeepalive_idle_conns_per_host {IDLE}\n\t\t}}\n\t}}\n}}\n",
        port = place.address.port(),
        host = place.address.ip(),
        interval = seconds * 1000.0,
        all = IDLE * place.targets.len(),
    )
}
