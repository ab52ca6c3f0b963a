//! `dns-resolver`: caches and forwards. Arguments to sockets and a table of zones; nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use evenly_demo::dns::{Forward, Front, Resolver};
use evenly_demo::process::{EndSignals, exit_code, say};

/// Answers queries over UDP and TCP from its cache, or by asking the server of the name's zone; keeps answers for their
/// TTL, and says for each query whether it was a hit or a miss. Names of no forwarded zone are refused.
#[derive(Parser)]
#[command(name = "dns-resolver", version)]
struct Arguments {
    /// Where to listen, by UDP and TCP; port 0 takes one that is free for both. The line `... listening on ADDR` says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5302")]
    listen: SocketAddr,
    /// A zone and the server to ask for its names, such as test=127.0.0.1:5301; `.` is every name. May be repeated.
    #[arg(long = "forward", value_name = "ZONE=ADDR", required = true)]
    forwards: Vec<Forward>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit_code("dns-resolver", run(Arguments::parse()).await)
}

async fn run(Arguments { listen, forwards }: Arguments) -> Result<(), String> {
    let end_signals = EndSignals::new().map_err(|error| error.to_string())?;
    let bind = |error| format!("cannot listen on {listen}: {error}; choose another with --listen");
    let front = Front::bind(listen).await.map_err(bind)?;
    say(format_args!("dns-resolver listening on {}", front.address()));
    front.serve(Resolver::new(forwards), end_signals).await
}
