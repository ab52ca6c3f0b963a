//! Pingora, which is a library: `loadtest/peers/pingora` is the program, and says how it is set up.

use std::process::Command;

use super::{Bench, Place};

pub(super) fn command(bench: &Bench, place: &Place) -> Command {
    let mut command = bench.command(place.program);
    command.arg(place.address.to_string());
    command.args(place.targets.iter().map(ToString::to_string));
    command.env("PROBE_SECONDS", bench.probes().to_string());
    command
}
