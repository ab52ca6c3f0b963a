//! `dns-authority`: serves zone files. Arguments to sockets and zones; nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use evenly_demo::dns::{Authority, Front, ZoneFile, ZoneFiles};
use evenly_demo::process::{EndSignals, exit_code, say};

/// Serves zone files over UDP and TCP. A file that changes is taken up at once; a broken one is logged, and the last
/// good zone stays. Names of no zone are refused.
#[derive(Parser)]
#[command(name = "dns-authority", version)]
struct Arguments {
    /// Where to listen, by UDP and TCP; port 0 takes one that is free for both. The line `... listening on ADDR` says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5301")]
    listen: SocketAddr,
    /// A zone and its file (RFC 1035 section 5), such as test=test.zone; `.` is the root. May be repeated.
    #[arg(long = "zone", value_name = "ORIGIN=FILE", required = true)]
    zones: Vec<ZoneFile>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit_code("dns-authority", run(Arguments::parse()).await)
}

async fn run(Arguments { listen, zones }: Arguments) -> Result<(), String> {
    let end_signals = EndSignals::new().map_err(|error| error.to_string())?;
    let zones = ZoneFiles::open(zones)?;
    let bind = |error| format!("cannot listen on {listen}: {error}; choose another with --listen");
    let front = Front::bind(listen).await.map_err(bind)?;
    let authority = Authority::new(zones.subscribe());
    zones.follow().map_err(|error| format!("cannot follow the zone files: {error}"))?;
    say(format_args!("dns-authority listening on {}", front.address()));
    front.serve(authority, end_signals).await
}
