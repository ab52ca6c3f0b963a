//! `demo`: starts the whole story, shows what its programs say, tells what to type, and ends it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenly_demo::paint::Paint;
use evenly_demo::process::{exit_code, say};
use evenly_demo::repeats::Repeats;
use evenly_demo::stage::{DOMAIN, Log, Piece, Plan, Ports, Problem, Programs, Stage, Storage};
use evenly_demo::tour::{self, Page};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How often the children are looked at, and the signals.
const GLANCE: Duration = Duration::from_millis(50);

/// Columns of the longest name of a piece.
const LONGEST_NAME: usize = 13;

/// Starts two spells APIs, a DNS authority and a resolver, and evenly before the APIs, all on loopback; shows what they
/// say, and says what to type. Ctrl-C ends all of it.
#[derive(Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the APIs keep their spells.
    #[arg(long, value_enum, default_value_t = Database::Memory)]
    database: Database,
    /// Show every line, also DNS answers that are the same as before.
    #[arg(long)]
    every_line: bool,
    #[command(flatten)]
    place: Place,
}

/// What a stage is made of.
#[derive(Args)]
struct Place {
    /// The balancer's program; by default the one beside this one.
    #[arg(long, value_name = "FILE")]
    evenly: Option<PathBuf>,
    /// Take ports that are free instead of 8001, 8080, 5301 and 5302.
    #[arg(long)]
    free_ports: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Database {
    /// Each API has its own spells.
    Memory,
    /// Both share a file.
    Sqlite,
}

#[derive(Subcommand)]
enum Command {
    /// Tells the story step by step, with what is typed and what comes of it, and ends by itself: with 1 when a step does not
    /// come out as it is told.
    Tour {
        /// Write the tour into this file, in the place of the one before: between two lines that mark it.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Becomes PROGRAM, which ends when the process PARENT does.
    #[command(hide = true)]
    Leash {
        parent: u32,
        program: PathBuf,
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.command {
        Some(Command::Tour { write, place }) => play(write.as_deref(), place),
        Some(Command::Leash { parent, program, arguments }) => {
            let why = evenly_demo::stage::exec_leashed(*parent, program, arguments);
            Err(Problem(format!("cannot start {}: {why}", program.display())))
        }
        None => run(&arguments),
    };
    exit_code("demo", ended.map_err(with_remedy))
}

/// The pieces' own flags, which their errors name, are not the runner's.
fn with_remedy(Problem(why): Problem) -> Problem {
    let taken = why.contains("cannot listen on");
    let remedy = "\nIs another demo running? --free-ports takes ports that are free.";
    Problem(why + if taken { remedy } else { "" })
}

fn run(arguments: &Arguments) -> Result<(), Problem> {
    let asked_to_end = end_flag()?;
    let storage = match arguments.database {
        Database::Memory => Storage::Memory,
        Database::Sqlite => Storage::Shared,
    };
    let plan = plan(&arguments.place, &asked_to_end)?;
    let stage = Stage::start(Plan { storage, log: log(arguments.every_line), ..plan });
    if asked_to_end.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut stage = stage?;
    say(what_to_type(&stage));
    let ended = watch(&mut stage, &asked_to_end);
    say("ending all of it");
    stage.end();
    ended
}

/// The tour; the file is looked at first, so that nobody waits for a record that has no place.
fn play(write: Option<&Path>, place: &Place) -> Result<(), Problem> {
    let asked_to_end = end_flag()?;
    let page = write.map(Page::open).transpose()?;
    let record = tour::play(plan(place, &asked_to_end)?, Paint::of_stdout())?;
    page.map_or(Ok(()), |page| page.write(&record))
}

/// Set by the first SIGINT or SIGTERM; the second ends this program at once, and the kernel ends its children.
fn end_flag() -> Result<Arc<AtomicBool>, Problem> {
    let asked = Arc::new(AtomicBool::new(false));
    let registered = [SIGINT, SIGTERM].into_iter().try_for_each(|signal| {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked)).map(|_| ())
    });
    registered.map_err(|error: io::Error| Problem(format!("no signals: {error}")))?;
    Ok(asked)
}

/// A stage that says nothing, with spells in memory.
fn plan(place: &Place, asked_to_end: &Arc<AtomicBool>) -> Result<Plan, Problem> {
    let this = std::env::current_exe()
        .map_err(|error| Problem(format!("cannot find my own program: {error}")))?;
    let mut programs = Programs::beside(this.parent().unwrap_or(Path::new(".")));
    if let Some(evenly) = &place.evenly {
        programs.evenly = Some(evenly.clone());
    }
    Ok(Plan {
        ports: if place.free_ports { Ports::Free } else { Ports::Story },
        cancelled: Arc::clone(asked_to_end),
        ..Plan::quiet(programs)
    })
}

/// Each line that says something new, or every one, behind the name of who says it.
fn log(every_line: bool) -> Log {
    let paint = Paint::of_stdout();
    let repeats = Mutex::new(Repeats::default());
    Arc::new(move |piece, line| {
        let mut repeats = repeats.lock().unwrap_or_else(PoisonError::into_inner);
        if repeats.is_news(piece, line) || every_line {
            say(paint.log(piece, LONGEST_NAME, line));
        }
    })
}

/// Returns when a signal asks for the end, or with an error when a child has died.
fn watch(stage: &mut Stage, asked_to_end: &AtomicBool) -> Result<(), Problem> {
    while !asked_to_end.load(Ordering::Relaxed) {
        if let Some((piece, status)) = stage.died()? {
            return Err(Problem(format!("{piece} has died, {status}")));
        }
        thread::sleep(GLANCE);
    }
    Ok(())
}

fn what_to_type(stage: &Stage) -> String {
    let address = |piece| stage.address(piece).map(|address| address.to_string());
    let address = |piece| address(piece).unwrap_or_default();
    let (evenly, resolver) = (address(Piece::Evenly), address(Piece::Resolver));
    let (host, port) = resolver.rsplit_once(':').unwrap_or_default();
    let client = stage.client();
    let client = format!("{} --resolver {resolver}", client.get_program().display());
    let url = stage.url("/spells").unwrap_or_default();
    let zone = stage.zone_file();
    format!(
        "
Everything runs. In another terminal, through the story's client and its DNS:

    {client} -i {url}
    {client} -d '{{\"id\":3,\"name\":\"Alohomora\",\"description\":\"Unlocking Charm\"}}' {url}

Ask twice: http-api-1 ({}) and http-api-2 ({}) answer in turn. Or by other tools:

    curl -i -H 'Host: {DOMAIN}' http://{evenly}/spells
    dig @{host} -p {port} {DOMAIN}

The names are in {}: edit it and see.
Ctrl-C ends all of it.
",
        address(Piece::Api(1)),
        address(Piece::Api(2)),
        zone.display(),
    )
}
