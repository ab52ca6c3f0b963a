//! nginx as a proxy, and what it shares with nginx as an origin. Without a master, so that its one process id is
//! the whole server.
//!
//! It has no active health checks: a target that refuses a connection is left out for 10 s.

use std::path::Path;
use std::process::Command;

use super::{Bench, IDLE, Place};
use crate::Failure;

pub(super) fn command(bench: &Bench, place: &Place) -> Result<Command, Failure> {
    let folder = bench.scratch(place.name)?;
    let config = bench.file(&format!("{}.conf", place.name), &proxy_config(&folder, place))?;
    let mut command = bench.command(place.program);
    command.args(["-e", "stderr", "-c"]).arg(config);
    Ok(command)
}

/// What both roles share; `folder` takes the temporary files a packaged nginx would put in
/// `/var/lib`, where only root may write.
pub(super) fn config(folder: &Path, servers: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         pid {folder}/pid;\nerror_log stderr error;\nevents {{ worker_connections 16000; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 3600s;\n  keepalive_requests 1000000000;\n\
         \x20 client_max_body_size 0;\n{temporary}{servers}}}\n"
    )
}

/// Responses are buffered in memory as by default, which is what people run; what does not fit waits at the origin
/// instead of going to disk, and so do requests, which by default are written to disk whole before the origin sees
/// any of them: no other subject does so.
pub(super) fn proxy_config(folder: &Path, place: &Place) -> String {
    let Place { address, .. } = place;
    let servers = place.each_target(|_, target| format!("    server {target};\n"));
    config(
        folder,
        &format!(
            "  upstream out {{\n{servers}    keepalive {IDLE};\n    keepalive_requests 1000000000;\n\
             \x20   keepalive_timeout 3600s;\n  }}\n\
             \x20 server {{\n    listen {address} backlog=4096;\n    location / {{\n\
             \x20     proxy_pass http://out;\n      proxy_http_version 1.1;\n\
             \x20     proxy_connect_timeout 1s;\n\
             \x20     proxy_max_temp_file_size 0;\n      proxy_request_buffering off;\n\
             \x20     proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n\
             \x20     proxy_set_header X-Forwarded-For $remote_addr;\n\
             \x20     proxy_set_header X-Forwarded-Proto $scheme;\n\
             \x20     proxy_set_header X-Forwarded-Host $http_host;\n    }}\n  }}\n"
        ),
    )
}
