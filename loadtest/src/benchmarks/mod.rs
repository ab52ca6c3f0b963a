//! `loadtest benchmarks`: every work on evenly, the floor and every peer that is here, in one
//! interleaved run; what was promised of it; and the document that shows it.
//!
//! Owns the order of things. The tables are in `works`, the slices in `contest`, what is no contest of
//! all subjects in `extras`, the document in `document` and `chart`.

mod chart;
mod contest;
pub(crate) mod costs;
mod document;
mod extras;
mod machine;
pub(crate) mod mixed;
mod results;
mod statistics;
mod works;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::generator::http::Shape;
use crate::generator::{Generator, Pace, Slice, Until};
use crate::servers::{Bench, Kind};
use crate::steady::allow_descriptors;
use contest::{Load, Subject, WARM};
use results::{Participant, Results};
use works::{Rate, SATURATION, WORKS, Work};

/// What all of it may take.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Descriptors that 1,800 connections need at both ends of the generator, and some.
const DESCRIPTORS: usize = 8 << 10;

/// Rounds and slices at a fixed rate, at least.
const PACED_ROUNDS: usize = 9;
const PACED_SLICE: Duration = Duration::from_secs(1);

/// How it is measured and where it goes.
#[derive(Args, Debug, Clone)]
pub(crate) struct Benchmarks {
    /// Rounds, each with two slices of every subject
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Milliseconds of a slice
    #[arg(long, default_value_t = 300)]
    slice_ms: u64,
    /// Only works with this in their name; also: mixed, calls, memory, workers, targets, log, allocations
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only these peers; `none` for evenly and the floor alone [default: every peer that is here]
    #[arg(long, value_name = "NAMES", value_parser = peers)]
    peers: Option<Peers>,
    /// Another build of evenly, which takes part as `other`
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// A short run that shows whether everything works: 1 round of 100 ms
    #[arg(long)]
    quick: bool,
    /// Writes benchmarks.md, its charts and benchmarks.json to this folder; with `--only mixed`, that section of
    /// benchmarks.md alone
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// Measures nothing and renders this file of an earlier run
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Which peers take part.
#[derive(Debug, Clone)]
struct Peers(Vec<Kind>);

impl Peers {
    fn all() -> Peers {
        Peers(Kind::value_variants().iter().copied().filter(|kind| *kind != Kind::Evenly).collect())
    }
}

fn peers(names: &str) -> Result<Peers, String> {
    let names = names.split(',').filter(|name| *name != "none");
    names.map(|name| Kind::from_str(name, true)).collect::<Result<_, _>>().map(Peers)
}

/// What every part of the run needs.
struct Run {
    peers: Peers,
    other: Option<PathBuf>,
    bench: Bench,
    program: PathBuf,
    rounds: usize,
    slice: Duration,
    /// Nothing is measured for longer than `rounds` and `slice` say.
    quick: bool,
    only: Option<String>,
    results: Results,
}

/// Measures, or reads what was measured, and writes it down.
pub(crate) fn benchmarks(
    options: &Benchmarks,
    evenly: Option<&PathBuf>,
    json: Option<&Path>,
) -> Result<(), Failure> {
    let results = match &options.from {
        Some(file) => serde_json::from_str(&fs::read_to_string(file)?)?,
        None => measure(options, evenly)?,
    };
    let text = format!("{}\n", serde_json::to_string_pretty(&results)?);
    if let Some(file) = json {
        fs::write(file, &text)?;
    }
    match &options.write {
        Some(folder) if options.only.as_deref() == Some(mixed::NAME) => {
            document::write_mixed(&results, folder)?;
        }
        Some(folder) => {
            document::write(&results, folder)?;
            fs::write(folder.join("benchmarks.json"), &text)?;
        }
        None => {}
    }
    print!("{}", document::targets(&results));
    println!("\n{:.0} s in all", results.seconds);
    Ok(())
}

fn measure(options: &Benchmarks, evenly: Option<&PathBuf>) -> Result<Results, Failure> {
    machine::restore_at_the_end(LIMIT)?;
    let precedence = machine::Precedence::take();
    let began = Instant::now();
    let (rounds, millis) =
        if options.quick { (1, 100) } else { (options.rounds.max(1), options.slice_ms.max(10)) };
    // Before the CPUs are divided and this program has but one.
    let cpus = extras::all_cpus()?;
    let mut machine = machine::describe();
    machine.push(("before other work on it".to_owned(), precedence.word().to_owned()));
    let bench = Bench::new(evenly.cloned(), None)?;
    let mut run = Run {
        program: bench.program(Kind::Evenly)?,
        bench,
        rounds,
        slice: Duration::from_millis(millis),
        quick: options.quick,
        only: options.only.clone(),
        peers: options.peers.clone().unwrap_or_else(Peers::all),
        other: options.other.clone(),
        results: Results {
            date: machine::date(),
            command: std::env::args()
                .skip(1)
                .fold("loadtest".to_owned(), |all, one| all + " " + &one),
            machine,
            rounds,
            slice_millis: millis,
            ..Results::default()
        },
    };
    allow_descriptors(DESCRIPTORS)?;
    run.alone()?;
    run.contests(false)?;
    run.under_cubic()?;
    run.results.judge_works();
    mixed::part(&mut run)?;
    extras::extras(&mut run, &cpus)?;
    if run.wants("allocations") {
        run.results.refer_to_tests();
    }
    run.results.seconds = began.elapsed().as_secs_f64();
    Ok(run.results)
}

impl Run {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }

    /// Whether a work is done: it is asked for, or one that is needs what it finds out.
    fn does(&self, work: &Work) -> bool {
        let needs =
            |other: &Work| matches!(other.rate, Rate::OfSlowest(_)) && self.wants(other.name);
        self.wants(work.name) || work.name == SATURATION && WORKS.iter().any(needs)
    }

    /// Rounds and slices of a work: long ones where the rate is fixed, since they are about the slowest of
    /// a thousand requests.
    fn length(&self, rate: Rate) -> (usize, Duration) {
        if self.quick || rate == Rate::Saturated {
            return (self.rounds, self.slice);
        }
        (self.rounds.max(PACED_ROUNDS), self.slice.max(PACED_SLICE))
    }

    fn say(&self, what: &str) {
        eprintln!("loadtest: {what}");
    }

    /// Evenly, the floor and every peer that is here, each freshly started.
    fn subjects(&mut self, generator: &Generator) -> Result<Vec<Subject>, Failure> {
        let config = contest::targets(&generator.targets) + &contest::limits();
        let cores = self.bench.cores;
        let ours = contest::evenly(&self.bench, &self.program, cores, "evenly", &config, 1)?;
        let mut found = vec![ours];
        found.push(contest::floor(&self.bench, &generator.targets)?);
        let mut absent = Vec::new();
        if let Some(other) = &self.other {
            found.push(contest::evenly(&self.bench, other, cores, "other", &config, 1)?);
        }
        for kind in &self.peers.0 {
            match contest::peer(&self.bench, *kind, &generator.targets) {
                Ok(subject) => found.push(subject),
                Err(failure) => absent.push((kind.name(), failure.to_string())),
            }
        }
        if self.results.subjects.is_empty() {
            let here = found.iter().map(|subject| Participant {
                name: subject.name.clone(),
                version: subject.version.clone(),
                absent: None,
            });
            let absent = absent.into_iter().map(|(name, why)| Participant {
                name: name.to_owned(),
                version: String::new(),
                absent: Some(why),
            });
            self.results.subjects = here.chain(absent).collect();
        }
        Ok(found)
    }

    /// The generator straight to its own origin: how far it is from being what is measured.
    fn alone(&mut self) -> Result<(), Failure> {
        if !self.wants("alone") {
            return Ok(());
        }
        let generator = Generator::start()?;
        generator.open(generator.targets[0], Shape::Bare, 64, WARM)?;
        let (until, run_in) = (Until::Time(self.slice * 3), Duration::from_millis(50));
        let slice = Slice { pace: Pace::Closed, until, run_in, watched: Vec::new() };
        let outcome = generator.measure(slice)?;
        let group = "The generator straight to its own origin, 64 connections";
        self.figure(group, "generator", "requests/s", outcome.per_second(), "");
        self.figure(group, "generator", "of its core", outcome.busy() * 100.0, "%");
        Ok(())
    }

    /// All works, or under cubic those that are done twice.
    fn contests(&mut self, again: bool) -> Result<(), Failure> {
        let wanted = |work: &&Work| self.does(work) && (work.both || !again);
        let works: Vec<&Work> = WORKS.iter().filter(wanted).collect();
        let generator = Generator::start()?;
        let subjects = self.subjects(&generator)?;
        let subjects: Vec<&Subject> = subjects.iter().collect();
        for work in works {
            let Some(pace) = self.pace(work) else {
                self.results.notes.push(format!("{}: needs {SATURATION} and a peer", work.name));
                continue;
            };
            let mut name = work.name.to_owned();
            if work.both {
                name += &format!(" ({})", machine::congestion());
            }
            self.say(&format!("{name}: {}", work.title));
            let (rounds, slice) = self.length(work.rate);
            let load = Load {
                shape: work.shape,
                connections: work.connections,
                pace,
                warm: WARM,
                slice,
                rounds,
            };
            let title = (name, work.title.to_owned());
            self.results.works.push(contest::finding(&generator, &subjects, &load, title));
        }
        Ok(())
    }

    fn pace(&self, work: &Work) -> Option<Pace> {
        match work.rate {
            Rate::Saturated => Some(Pace::Closed),
            Rate::Fixed(rate) => Some(Pace::PerSecond(rate)),
            Rate::OfSlowest(share) => {
                let saturation = self.results.works.iter().find(|work| work.name == SATURATION)?;
                let peers = saturation.ratios.iter().filter(|ratio| ratio.is_peer);
                let rows = peers.filter_map(|peer| {
                    saturation.rows.iter().find(|row| row.subject == peer.subject)
                });
                let slowest = rows.map(|row| row.per_second).fold(f64::INFINITY, f64::min);
                slowest.is_finite().then(|| Pace::PerSecond((slowest * share).round()))
            }
        }
    }

    /// The works with large bodies once more, with every socket of everybody on cubic.
    fn under_cubic(&mut self) -> Result<(), Failure> {
        if machine::congestion() == "cubic"
            || !WORKS.iter().any(|work| work.both && self.wants(work.name))
        {
            return Ok(());
        }
        match machine::Congestion::set("cubic") {
            Ok(_kept) => self.contests(true),
            Err(failure) => {
                self.results.notes.push(format!("nothing under cubic: {failure}"));
                Ok(())
            }
        }
    }
}
