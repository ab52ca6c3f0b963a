//! `loadtest costs`: what a request costs more, in CPU time, with an access log, while metrics are scraped, and with request IDs
//! and traces; and what it costs beside another build of evenly.
//!
//! Owns who takes part and what is allowed. The slices, and which rounds count, are those of the benchmarks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::contest::{self, Load, Record, WARM, contest};
use super::extras::{free_address, while_scraped};
use super::statistics::{Ratio, Round, middle, ratio};
use crate::Failure;
use crate::generator::http::Shape;
use crate::generator::{Generator, Pace};
use crate::report::{Report, count};
use crate::servers::{Bench, Kind};

/// Connections of the load.
const CONNECTIONS: usize = 64;
/// The name of who pays for nothing more; the others are judged by it.
const PLAIN: &str = "without an access log";
/// What JSON may cost over that, and what everything else that is always there may.
const LOG: f64 = 1.05;
const ALWAYS: f64 = 1.01;

/// How long it is measured, and beside what.
#[derive(Args, Debug, Clone)]
pub(crate) struct Costs {
    /// Another build of evenly, for example one of an earlier commit: what this one costs over it
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Rounds, each with two slices of every variant
    #[arg(long, default_value_t = 15, value_parser = super::super::number(1, 1_000))]
    rounds: u64,
    /// Milliseconds of a slice: at least 1000 for a scrape in each
    #[arg(long, default_value_t = 1_000, value_parser = super::super::number(10, 60_000))]
    slice_ms: u64,
}

/// One way to run evenly.
struct Variant {
    name: &'static str,
    program: PathBuf,
    config: String,
    /// How it is judged.
    by: Judged,
}

/// What is compared with what, and the most that is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Judged {
    /// This over the plain one.
    Over(Option<f64>),
    /// The plain one over this.
    Under(f64),
}

impl Judged {
    fn ratio(self, plain: &[Round], this: &[Round]) -> Option<Ratio> {
        match self {
            Judged::Over(_) => ratio(this, plain, |round| round.cpu_micros),
            Judged::Under(_) => ratio(plain, this, |round| round.cpu_micros),
        }
    }

    fn most(self) -> Option<f64> {
        match self {
            Judged::Over(most) => most,
            Judged::Under(most) => Some(most),
        }
    }
}

/// Measures every variant in slices that alternate, and says what each costs.
pub(crate) fn costs(options: &Costs, bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let generator = Generator::start()?;
    let admin = free_address()?;
    let program = bench.program(Kind::Evenly)?;
    let variants = variants(options, &program, &generator.targets, bench, admin);
    let start =
        |it: &Variant| contest::evenly(bench, &it.program, bench.cores, it.name, &it.config, 1);
    let subjects = variants.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let load = Load {
        shape: Shape::Bare,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        warm: WARM,
        slice: Duration::from_millis(options.slice_ms),
        rounds: usize::try_from(options.rounds)?,
    };
    let records =
        while_scraped(admin, || contest(&generator, &subjects.iter().collect::<Vec<_>>(), &load));
    report.section(format!(
        "CPU per request over {PLAIN}: medians of the ratios within rounds, least to most"
    ));
    for (variant, record) in variants.iter().zip(&records) {
        tell(variant, &records[0], record, report)?;
    }
    Ok(())
}

/// Everybody who takes part, the plain one first.
fn variants(
    options: &Costs,
    program: &Path,
    targets: &[SocketAddr],
    bench: &Bench,
    admin: SocketAddr,
) -> Vec<Variant> {
    let plain = contest::targets(targets) + &contest::limits();
    let log = |format: &str| {
        let file = bench.path(&format!("{format}.log"));
        format!("{plain}[log]\naccess = \"{}\"\nformat = \"{format}\"\n", file.display())
    };
    let ours = [
        (PLAIN, plain.clone(), None),
        ("access log (json)", log("json"), Some(LOG)),
        ("access log (combined)", log("combined"), None),
        ("scraped every second", format!("{plain}[admin]\nlisten = \"{admin}\"\n"), Some(ALWAYS)),
        ("request IDs and traces", format!("request_id = true\ntrace = true\n{plain}"), None),
    ];
    let ours = ours.into_iter().map(|(name, config, most)| Variant {
        name,
        program: program.to_owned(),
        config,
        by: Judged::Over(most),
    });
    let baseline = options.baseline.iter().map(|program| Variant {
        name: "the baseline",
        program: program.clone(),
        config: plain.clone(),
        by: Judged::Under(ALWAYS),
    });
    ours.chain(baseline).collect()
}

fn tell(
    variant: &Variant,
    plain: &Record,
    this: &Record,
    report: &mut Report,
) -> Result<(), Failure> {
    let name = variant.name;
    if let Some(trouble) = &this.trouble {
        return Err(Failure::new(format!("{name}: {trouble}")));
    }
    let micros = middle(&this.rounds, |round| round.cpu_micros);
    report.figure(format!("{name}: CPU per request"), micros, "us");
    if name == PLAIN {
        return Ok(());
    }
    let ratio = variant.by.ratio(&plain.rounds, &this.rounds);
    let ratio = ratio.ok_or_else(|| Failure::new(format!("{name}: no round")))?;
    let what = match variant.by {
        Judged::Over(_) => format!("  {name}, over {PLAIN}"),
        Judged::Under(_) => format!("  {PLAIN}, over {name}"),
    };
    match variant.by.most() {
        Some(most) => report.at_most(what, ratio.median, "x", most),
        None => report.figure(what, ratio.median, "x"),
    }
    report.figure("    least", ratio.least, "x");
    report.figure("    most", ratio.most, "x");
    report.figure("    rounds that count", count(u64::try_from(ratio.rounds)?), "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(micros: [f64; 3]) -> Vec<Round> {
        micros.map(|cpu_micros| Round { cpu_micros, ..Round::default() }).to_vec()
    }

    #[test]
    fn what_is_added_is_over_the_plain_one_and_that_is_over_its_baseline() {
        let (plain, this) = (rounds([10.0, 20.0, 40.0]), rounds([11.0, 21.0, 40.0]));
        let over = Judged::Over(Some(LOG)).ratio(&plain, &this).unwrap();
        assert!((over.median - 1.05).abs() < 1e-9 && (over.most - 1.1).abs() < 1e-9);
        let under = Judged::Under(ALWAYS).ratio(&this, &plain).unwrap();
        assert_eq!(under, over);
    }

    #[test]
    fn the_log_may_cost_five_percent_and_a_scrape_one() {
        let text = |of: Judged| of.most().map(|most| format!("{most}"));
        assert_eq!(text(Judged::Over(Some(LOG))).as_deref(), Some("1.05"));
        assert_eq!(text(Judged::Under(ALWAYS)).as_deref(), Some("1.01"));
        assert_eq!(text(Judged::Over(None)), None);
    }
}
