//! `demo`: starts the whole story, shows what its programs say, tells what to type, and ends it.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use evenly_demo::process::{exit_code, say};
use evenly_demo::stage::{DOMAIN, Log, Piece, Plan, Ports, Problem, Programs, Stage, Storage};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How often the children are looked at, and the signals.
const GLANCE: Duration = Duration::from_millis(50);

/// Starts two spells APIs, a DNS authority and a resolver, and evenly before the APIs, all on loopback; shows what they
/// say, and says what to type. Ctrl-C ends all of it.
#[derive(Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// Where the APIs keep their spells.
    #[arg(long, value_enum, default_value_t = Database::Memory)]
    database: Database,
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
enum Hidden {
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
    let ended = match &arguments.hidden {
        Some(Hidden::Leash { parent, program, arguments }) => {
            let why = evenly_demo::stage::exec_leashed(*parent, program, arguments);
            Err(Problem(format!("cannot start {}: {why}", program.display())))
        }
        None => run(&arguments),
    };
    exit_code("demo", ended)
}

fn run(arguments: &Arguments) -> Result<(), Problem> {
    let asked_to_end = end_flag().map_err(|error| Problem(format!("no signals: {error}")))?;
    let stage = Stage::start(plan(arguments, &asked_to_end)?);
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

/// Set by the first SIGINT or SIGTERM; the second ends this program at once, and the kernel ends its children.
fn end_flag() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(asked)
}

fn plan(arguments: &Arguments, asked_to_end: &Arc<AtomicBool>) -> Result<Plan, Problem> {
    let this = std::env::current_exe()
        .map_err(|error| Problem(format!("cannot find my own program: {error}")))?;
    let mut programs = Programs::beside(this.parent().unwrap_or(Path::new(".")));
    if let Some(evenly) = &arguments.evenly {
        programs.evenly = Some(evenly.clone());
    }
    Ok(Plan {
        ports: if arguments.free_ports { Ports::Free } else { Ports::Story },
        storage: match arguments.database {
            Database::Memory => Storage::Memory,
            Database::Sqlite => Storage::Shared,
        },
        log: log(),
        cancelled: Arc::clone(asked_to_end),
        ..Plan::quiet(programs)
    })
}

/// Each line behind the name of who says it, in a colour of its own on a terminal.
fn log() -> Log {
    let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Arc::new(move |piece, line| {
        if coloured {
            say(format_args!("\x1b[{}m{piece:>13}\x1b[0m | {line}", colour(piece)));
        } else {
            say(format_args!("{piece:>13} | {line}"));
        }
    })
}

fn colour(piece: Piece) -> u8 {
    match piece {
        Piece::Api(number) if number % 2 == 1 => 34,
        Piece::Api(_) => 32,
        Piece::Authority => 33,
        Piece::Resolver => 35,
        Piece::Evenly => 36,
    }
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
