//! `loadtest drive`: the generator for whoever wants to load a server of their own.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::http::Shape;
use super::{Generator, Pace, Slice, Until};
use crate::Failure;
use crate::steady::{SPARE_DESCRIPTORS, allow_descriptors};

/// What is driven, and how.
#[derive(Args, Debug, Clone)]
pub(crate) struct Drive {
    /// The server to load; it must have this program's origin behind it (see --serve), since every answer is checked
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["direct", "serve"])]
    target: Option<SocketAddr>,
    /// Loads the generator's own origin, without a proxy: how fast the generator is by itself
    #[arg(long, conflicts_with = "target")]
    direct: bool,
    /// Waits so many seconds before the load and says where the origin listens, so that a proxy can be pointed at it
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    serve: u64,
    /// What clients do
    #[arg(long, value_enum, default_value_t = Shape::Bare)]
    shape: Shape,
    /// Requests a second, evenly spread [default: each connection asks again when it has its answer]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=10e6).contains(&rate) => Ok(rate),
        _ => Err("1 to 10000000 requests per second are meant".to_owned()),
    }
}

/// Runs one slice and prints what became of it.
pub(crate) fn drive(drive: &Drive, connections: usize, time: Duration) -> Result<(), Failure> {
    allow_descriptors(4 * connections + SPARE_DESCRIPTORS)?;
    let generator = Generator::start()?;
    let target = match drive.target {
        Some(target) if !drive.direct => target,
        _ => generator.targets[0],
    };
    if drive.serve > 0 {
        let [first, second] = generator.targets;
        println!("origin at {first} and {second}, load in {} s", drive.serve);
        std::thread::sleep(Duration::from_secs(drive.serve));
    }
    generator.open(target, drive.shape, connections, 3)?;
    let pace = drive.rate.map_or(Pace::Closed, Pace::PerSecond);
    let (until, run_in) = (Until::Time(time), Duration::from_millis(100));
    let outcome = generator.measure(Slice { pace, until, run_in, watched: Vec::new() })?;
    let refused = generator.close()?;
    print!("{}", outcome.describe());
    match outcome.failed() + refused {
        0 => Ok(()),
        failed => Err(Failure::new(format!("requests that failed: {failed}"))),
    }
}
