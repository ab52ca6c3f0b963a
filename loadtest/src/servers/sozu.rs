//! Sozu: a main process that only commands, and one worker process that serves.
//!
//! It adds `Sozu-Id` and `X-Forwarded-Port` and cannot leave them out, and writes no `X-Forwarded-Host` but where it
//! rewrites Host. It chooses a target for each client connection, not for each request.

use std::process::Command;

use super::{Bench, CONNECTIONS, Place};
use crate::Failure;

pub(super) fn command(bench: &Bench, place: &Place) -> Result<Command, Failure> {
    let folder = bench.scratch(place.name)?;
    let socket = folder.join("command");
    let text = config(place, &socket.display().to_string(), bench.probes());
    let config = bench.file("sozu.toml", &text)?;
    let mut command = bench.command(place.program);
    command.arg("start").arg("--config").arg(config).current_dir(folder);
    Ok(command)
}

/// A request holds two buffers. Requests are logged at `info`, so `error` leaves the access log out. Probes are set
/// in whole seconds.
pub(super) fn config(place: &Place, socket: &str, seconds: f64) -> String {
    let Place { address, .. } = place;
    let backends = place.each_target(|at, target| {
        format!("  {{ address = \"{target}\", backend_id = \"t{at}\" }},\n")
    });
    format!(
        "command_socket = \"{socket}\"\nlog_level = \"error\"\nlog_target = \"stdout\"\n\
         worker_count = 1\nworker_automatic_restart = false\nhandle_process_affinity = false\n\
         max_connections = {CONNECTIONS}\nmin_buffers = 64\nmax_buffers = {buffers}\nbuffer_size = 16393\n\
         activate_listeners = true\nfront_timeout = 3600\nback_timeout = 60\nconnect_timeout = 1\n\n\
         [[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\nforwarded_headers = \"x_forwarded\"\n\n\
         [clusters.out]\nprotocol = \"http\"\nload_balancing = \"ROUND_ROBIN\"\n\
         frontends = [{{ address = \"{address}\", hostname = \"*\", position = \"POST\" }}]\n\
         backends = [\n{backends}]\n\n\
         [clusters.out.health_check]\nuri = \"/healthz\"\ninterval = {interval:.0}\ntimeout = 1\n\
         healthy_threshold = 1\nunhealthy_threshold = 1\n",
        buffers = 4 * CONNECTIONS,
        interval = seconds.ceil(),
    )
}
