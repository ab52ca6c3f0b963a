//! `spells-api`: one instance of the spells API. Arguments to a listener and a storage; nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;

use axum::http::HeaderValue;
use clap::Parser;
use evenly_demo::process::{EndSignals, exit_code, say};
use evenly_demo::spells::{Database, Store, serve};
use tokio::net::TcpListener;

/// Serves spells over HTTP: GET, POST, DELETE under /spells, and /healthz.
#[derive(Parser)]
#[command(name = "spells-api", version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one. The line `NAME listening on ADDR` says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// What this instance calls itself in the header X-Served-By.
    #[arg(long, default_value = "http-api-1", value_parser = name)]
    name: HeaderValue,
    /// `memory`, which ends with the process, or `sqlite:FILE`, which instances share.
    #[arg(long, default_value = "memory")]
    database: Database,
}

fn name(text: &str) -> Result<HeaderValue, String> {
    match HeaderValue::from_str(text) {
        Ok(name) if !text.trim().is_empty() && name.to_str().is_ok() => Ok(name),
        _ => Err("a name is visible ASCII: it is sent in a header".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit_code("spells-api", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { listen, name, database } = arguments;
    let end_signals = EndSignals::new().map_err(|error| error.to_string())?;
    let store = Store::open(&database).map_err(|error| error.to_string())?;
    let bind = |error| format!("cannot listen on {listen}: {error}; choose another with --listen");
    let listener = TcpListener::bind(listen).await.map_err(bind)?;
    let real = listener.local_addr().map_err(bind)?;
    say(format_args!("{} listening on {real}", name.to_str().unwrap_or_default()));
    serve(listener, name, store, end_signals).await.map_err(|error| error.to_string())
}
