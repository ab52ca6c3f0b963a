//! The `evenly` program: arguments to settings to run; error to exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use evenly::base::log;
use evenly::cli::{
    self, CheckArgs, Cli, CliCommand, Drain, RemoteArgs, RunArgs, SeeArgs, TargetArgs, TopArgs,
};
use evenly::config::{self, ConfigError, Places};
use evenly::remote::{self, Contact, RemoteError, show};
use evenly::server::{
    self, Activation, Launch, Predecessor, Reread, ServerError, SocketSource, Start,
};
use evenly::settings::TargetState;
use evenly::token::{AdminToken, TokenFile};
use evenly::top::{self, Asker, WatchError};

/// How often it is looked whether requests are left.
const LOOK: Duration = Duration::from_millis(100);

/// Why the program ends other than cleanly.
enum ExitReason {
    /// The command line or the file is wrong: 2.
    Configuration(ConfigError),
    /// It failed while running: 1.
    Server(ServerError, Places),
    /// Standard output takes no more: 1.
    Output(io::Error),
    /// The command line lacks something: 2.
    Usage(String),
    /// No running evenly could be asked: 1.
    Remote(RemoteError),
    /// A running evenly did not do all of what it was asked: 1.
    Failed(String),
    /// A running evenly refused what it was asked, and changed nothing: 2.
    Refused(String),
    /// What was asked about is not as one would like it to be, which was said: 3.
    No,
}

impl ExitReason {
    /// A line for each thing that is wrong, as a log has them.
    fn lines(&self) -> Vec<String> {
        match self {
            ExitReason::Configuration(error) => error.lines(),
            ExitReason::Server(error, places) => error.lines(places),
            ExitReason::Output(error) => vec![format!("standard output: {error}")],
            ExitReason::Remote(error) => vec![error.to_string()],
            ExitReason::No => Vec::new(),
            ExitReason::Usage(lines) | ExitReason::Refused(lines) | ExitReason::Failed(lines) => {
                lines.lines().map(str::to_owned).collect()
            }
        }
    }
}

fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Err(error) => return usage(&error),
        Ok(arguments) => match dispatch(&arguments.command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(ExitReason::Configuration(error)) => fail_at(2, &error),
            Err(ExitReason::Server(error, places)) => stopped(&error, &places),
            Err(ExitReason::Usage(problem)) => fail(2, &problem),
            Err(ExitReason::Remote(error)) => fail(1, &error.to_string()),
            Err(ExitReason::Failed(line)) => fail(1, line.trim_end()),
            Err(ExitReason::Refused(lines)) => {
                lines.lines().for_each(|line| log::fatal(&format!("refused: {line}")));
                ExitCode::from(2)
            }
            Err(ExitReason::Output(error)) => fail(1, &format!("standard output: {error}")),
            Err(ExitReason::No) => ExitCode::from(3),
        },
    };
    log::finish();
    code
}

fn fail(code: u8, reason: &str) -> ExitCode {
    log::fatal(reason);
    ExitCode::from(code)
}

/// With its place. Of a log that is read by programs each line is an object, and the excerpt is left out.
fn fail_at(code: u8, error: &ConfigError) -> ExitCode {
    if log::is_json() {
        error.lines().iter().for_each(|line| log::fatal(line));
        return ExitCode::from(code);
    }
    fail(code, &error.to_string())
}

/// The server ended by an error: where the value that was wrong is written, if it is.
fn stopped(error: &ServerError, places: &Places) -> ExitCode {
    let code = if error.is_of_configuration() { 2 } else { 1 };
    match error.placed(places) {
        None => fail(code, &error.to_string()),
        Some(placed) => fail_at(code, &placed),
    }
}

/// Arguments that are not valid: 2, and what was meant where that can be guessed. Help and version are asked for: 0.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is there to read it.
    let _ = error.print();
    if error.use_stderr()
        && let Some(tip) = cli::tip(error.kind(), &arguments())
    {
        let _ = writeln!(io::stderr(), "\n  tip: {tip}");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn arguments() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

fn dispatch(command: &CliCommand) -> Result<(), ExitReason> {
    match command {
        CliCommand::Run(args) => run(args),
        CliCommand::Check(args) => check(args),
        CliCommand::Keys(args) => {
            print(cli::keys(args).map_err(ExitReason::Configuration)?.as_bytes())
        }
        CliCommand::Reload(args) => {
            if args.remote.socket.is_none() && args.remote.admin.is_none() {
                // What is wrong with the file is shown here, with its lines, and asked of nobody.
                cli::remote_settings(&args.remote).map_err(ExitReason::Configuration)?;
            }
            let target = if args.dry_run { "/reload?dry-run" } else { "/reload" };
            ask(&args.remote, target)
        }
        CliCommand::Upgrade(args) => {
            let program = args.binary.as_deref().map(std::path::absolute).transpose();
            let program = program.map_err(ExitReason::Output)?;
            // The process bounds it (timeouts.upgrade).
            let target = remote::upgrade_target(program.as_deref());
            say(remote::ask_patiently(&contact(&args.remote)?, &target))
        }
        CliCommand::Rollback(args) => ask(args, "/rollback"),
        CliCommand::Drain(args) => drain(&args.resolve().map_err(ExitReason::Usage)?, args.verbose),
        CliCommand::Status(args) => see(args, "/status", show::status, show::serves),
        CliCommand::Targets(args) => see(args, "/targets", show::targets, |_| true),
        CliCommand::Why(TargetArgs { target, json, remote }) => {
            let args = SeeArgs { json: *json, remote: remote.clone() };
            see(&args, &remote::target_path(target), show::one, show::gets_requests)
        }
        CliCommand::Top(args) => watch(args),
        CliCommand::Explain(args) => {
            let path = remote::explain_target(&args.method, &args.url, &args.header);
            let see_args = SeeArgs { json: args.json, remote: args.remote.clone() };
            see(&see_args, &path, show::explanation, show::is_taken)
        }
        CliCommand::Recent(args) => {
            let path = remote::recent_target(args.errors, args.limit);
            let see_args = SeeArgs { json: args.json, remote: args.remote.clone() };
            see(&see_args, &path, show::recent, |_| true)
        }
        CliCommand::Up(args) => steer(args, TargetState::Up),
        CliCommand::Down(args) => steer(args, TargetState::Down),
        CliCommand::Auto(args) => steer(args, TargetState::Auto),
        CliCommand::Undrain(args) => ask(args, "/undrain"),
        CliCommand::Completions(args) => print(&cli::completions(args.shell)),
        CliCommand::Man => print(&cli::man().map_err(ExitReason::Output)?),
        CliCommand::Version => {
            print(concat!("evenly ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
    }
}

fn run(args: &RunArgs) -> Result<(), ExitReason> {
    // Before there is another thread.
    let activation = Activation::take();
    let launch = Launch::of_this_process(args.reads_input());
    log::init(args.log_format, args.log_level.as_deref());
    let predecessor =
        Predecessor::meet().map_err(|error| ExitReason::Server(error, Places::default()))?;
    let refusal = predecessor.as_ref().map(Predecessor::refusal);
    let source =
        predecessor.map_or(SocketSource::Activation(activation), SocketSource::Predecessor);
    let outcome = serve(args, launch, source);
    if let (Err(reason), Some(refusal)) = (&outcome, refusal) {
        refusal.say(reason.lines());
    }
    outcome
}

fn serve(args: &RunArgs, launch: Launch, source: SocketSource) -> Result<(), ExitReason> {
    let (settings, places) = cli::settings(args).map_err(ExitReason::Configuration)?;
    let again = args.clone();
    let reread = args
        .reread_path()
        .map(|path| Reread { path: path.clone(), read: Box::new(move || cli::settings(&again)) });
    server::run(settings, Start { reread, launch, source })
        .map_err(|error| ExitReason::Server(error, places))
}

/// Has a running evenly do something, and prints what it says.
fn ask(args: &RemoteArgs, target: &str) -> Result<(), ExitReason> {
    say(remote::ask(&contact(args)?, "POST", target))
}

/// Has a target of a running evenly drain, or that evenly, and waits for the end of it if that is asked for.
fn drain(args: &Drain, verbose: bool) -> Result<(), ExitReason> {
    if let Some(target) = &args.target {
        let contact = contact(&args.remote)?;
        decide(&contact, target, TargetState::Drain)?;
        return match args.wait {
            None => Ok(()),
            Some(most) => wait_for_target(&contact, target, most, verbose),
        };
    }
    if args.wait.is_none() {
        return ask(&args.remote, "/drain");
    }
    let tell = teller("client connections left", verbose);
    say(remote::wait(&contact(&args.remote)?, "/drain?wait", tell))
}

/// Says how many are left, each time that is another number, if somebody looks.
fn teller(what: &'static str, verbose: bool) -> impl FnMut(u64) {
    let shows = verbose || io::stderr().is_terminal();
    let mut before = None;
    move |left| {
        if shows && before.replace(left) != Some(left) {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "{what}: {left}");
        }
    }
}

/// Waits until no request is with a target that was drained.
fn wait_for_target(
    contact: &Contact,
    target: &str,
    most: Option<Duration>,
    verbose: bool,
) -> Result<(), ExitReason> {
    let (begun, path) = (Instant::now(), remote::target_path(target));
    let mut tell = teller("requests left", verbose);
    loop {
        let (_, said) = remote::ask(contact, "GET", &path).map_err(ExitReason::Remote)?;
        let left = serde_json::from_str(&said).ok().as_ref().and_then(show::requests_left);
        let left = left.ok_or_else(|| {
            ExitReason::Failed("it was not drained for as long as that was waited for".to_owned())
        })?;
        tell(left);
        if left == 0 {
            return print(b"no request is left\n");
        }
        if most.is_some_and(|most| begun.elapsed() >= most) {
            let were = if left == 1 { "request is" } else { "requests are" };
            return Err(ExitReason::Failed(format!(
                "{left} {were} left after {:?}; the target stays drained",
                most.unwrap_or_default()
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Decides about a target of a running evenly.
fn steer(args: &TargetArgs, state: TargetState) -> Result<(), ExitReason> {
    decide(&contact(&args.remote)?, &args.target, state)
}

fn decide(contact: &Contact, target: &str, state: TargetState) -> Result<(), ExitReason> {
    let content = serde_json::json!({ "state": state.name() });
    match remote::put(contact, &remote::target_path(target), &content) {
        // What follows is for whoever typed the name.
        Ok((404, said)) => Err(ExitReason::Refused(format!("{target}: {said}"))),
        said => say(said),
    }
}

/// Shows what a running evenly says at `path`: the JSON as it comes, or what `shown` makes of it. `is_well`: what it says is as
/// one would like it to be.
fn see(
    args: &SeeArgs,
    path: &str,
    shown: fn(&serde_json::Value) -> String,
    is_well: fn(&serde_json::Value) -> bool,
) -> Result<(), ExitReason> {
    let contact = reading_contact(&args.remote)?;
    let said = match remote::ask(&contact, "GET", path).map_err(ExitReason::Remote)? {
        (200, said) => said,
        (400 | 404, said) => return Err(ExitReason::Refused(said)),
        (_, said) => return Err(ExitReason::Failed(said)),
    };
    let value = serde_json::from_str(&said)
        .map_err(|error| ExitReason::Failed(format!("what it says is not JSON: {error}")))?;
    let text = if args.json { said } else { shown(&value) };
    print(text.as_bytes())?;
    if is_well(&value) { Ok(()) } else { Err(ExitReason::No) }
}

/// Shows a running evenly on the terminal, again and again.
fn watch(args: &TopArgs) -> Result<(), ExitReason> {
    let remote = args.remote.clone();
    let find = move || reading_contact(&remote).ok();
    if args.once {
        let asker = Asker::new(reading_contact(&args.remote)?, find);
        return print(top::once(asker, args.interval).map_err(ExitReason::Remote)?.as_bytes());
    }
    let ends = [("input", io::stdin().is_terminal()), ("output", io::stdout().is_terminal())];
    if let Some((end, _)) = ends.iter().rev().find(|(_, is_terminal)| !is_terminal) {
        return Err(ExitReason::Usage(format!(
            "standard {end} is no terminal: use evenly top --once, evenly status, or evenly status --json"
        )));
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        let why = "TERM says that this terminal only prints lines: use evenly top --once, or set TERM (such as xterm)";
        return Err(ExitReason::Usage(why.to_owned()));
    }
    let asker = Asker::new(reading_contact(&args.remote)?, find);
    top::watch(asker, args.interval).map_err(|error| match error {
        WatchError::Remote(error) => ExitReason::Remote(error),
        WatchError::Terminal(error) => ExitReason::Failed(format!("the terminal: {error}")),
    })
}

/// How the running evenly that is meant is reached to read, which needs no token; one that is given has to be one.
fn reading_contact(args: &RemoteArgs) -> Result<Contact, ExitReason> {
    match &args.admin {
        Some(address) => {
            let given =
                args.token_file.is_some() || std::env::var_os("EVENLY_ADMIN_TOKEN").is_some();
            let token = given.then(|| token(args)).transpose().map_err(ExitReason::Usage)?;
            Ok(Contact::Admin(address.clone(), token))
        }
        None => contact(args),
    }
}

/// How the running evenly that is meant is reached.
fn contact(args: &RemoteArgs) -> Result<Contact, ExitReason> {
    if let Some(address) = &args.admin {
        let token = token(args).map_err(ExitReason::Usage)?;
        return Ok(Contact::Admin(address.clone(), Some(token)));
    }
    if let Some(path) = &args.socket {
        return Ok(Contact::Socket(path.clone()));
    }
    let socket = match (cli::remote_settings(args), args.path()) {
        (Ok(settings), file) => remote::find(&settings, file).map_err(ExitReason::Remote),
        // It need not be valid to say who is meant.
        (Err(error), file) => {
            let mut found = file.map_or_else(Vec::new, remote::running_by);
            found.pop().filter(|_| found.is_empty()).ok_or(ExitReason::Configuration(error))
        }
    };
    socket.map(Contact::Socket)
}

/// The token that goes with `--admin`.
fn token(args: &RemoteArgs) -> Result<AdminToken, String> {
    if let Some(path) = &args.token_file {
        let read = TokenFile::read(path).map_err(|error| format!("--token-file: {error}"))?;
        return Ok(read.token);
    }
    let text = std::env::var_os("EVENLY_ADMIN_TOKEN").ok_or(
        "--admin needs the token of that evenly: give --token-file PATH, or have EVENLY_ADMIN_TOKEN in the environment",
    )?;
    AdminToken::new(text.as_encoded_bytes()).map_err(|fault| {
        format!("EVENLY_ADMIN_TOKEN in the environment is not a token: {fault}; copy what is in the file of admin.token_file")
    })
}

/// Prints what a running evenly says.
fn say(said: Result<(u16, String), RemoteError>) -> Result<(), ExitReason> {
    match said.map_err(ExitReason::Remote)? {
        (200, said) => print(said.as_bytes()),
        (500, said) => Err(ExitReason::Failed(said)),
        (_, said) => Err(ExitReason::Refused(said)),
    }
}

fn check(args: &CheckArgs) -> Result<(), ExitReason> {
    let settings = config::load(args.path()).map_err(ExitReason::Configuration)?;
    let count = settings.plan.targets.len();
    let noun = if count == 1 { "target" } else { "targets" };
    print(format!("{}: valid, {count} {noun}\n", args.path().display()).as_bytes())
}

/// Writes to standard output. A reader that has seen enough (`evenly man | head`) is no failure.
fn print(text: &[u8]) -> Result<(), ExitReason> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ExitReason::Output(error)),
        _ => Ok(()),
    }
}
