//! The command line, as data: what `--help`, the completions and the man page are made from.
//!
//! Owns the names, the help texts and which option goes with which. What a value means is `config`'s.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::base::log::{self, LogFormat};
use crate::config::keys::{self, Entry};
use crate::config::{self, ConfigError, Overrides, Places};
use crate::settings::Settings;

/// What follows the options of `evenly --help`, and is part of the man page.
const AFTER_HELP: &str = "\
Examples:
  evenly run --target 10.0.0.1:8001 --target 10.0.0.2:8001
      Balance over two servers on 0.0.0.0:8080; no file is needed.
  evenly run /etc/evenly.toml
      Run with a configuration file.
  evenly run /etc/evenly.toml --listen 127.0.0.1:8080 --workers 2
      The same on another address, with two worker threads.
  evenly check /etc/evenly.toml
      Say whether the file is valid, without opening anything.
  evenly reload /etc/evenly.toml
      Have the evenly that runs with this file read it again and apply it.
  evenly drain --wait /etc/evenly.toml
      Have it finish what it has begun and end, and wait for that.
  evenly targets /etc/evenly.toml
      List its targets: how each is, since when, and why.
  evenly top /etc/evenly.toml
      Watch its requests, latencies, targets and errors.
  evenly drain http-api-1:8001 --wait 30s /etc/evenly.toml
      Take one target out; evenly auto http-api-1:8001 puts it back.
  evenly upgrade /etc/evenly.toml
      Have a process of the program that is now installed take its place.
  evenly reload --admin 10.0.0.1:9901 --token-file token
      Have an evenly on another machine do it.
  evenly keys timeouts
      List the keys of a table of the file; evenly keys timeouts.drain explains one.

The smallest file:
  [[targets]]
  address = \"http-api-1:8001\"
  health_check_endpoint = \"/healthz\"

  [[targets]]
  address = \"http-api-2:8001\"
  health_check_endpoint = \"/healthz\"

Exit codes:
  0  it stopped cleanly, the file is valid, or what was asked for was done
  1  it failed while running, for example because an address is in use;
     reload, rollback, drain, undrain, upgrade: no evenly was found, or it
     gave no answer; drain --wait: connections were cut, or it was taken back
  2  the command line or the configuration is wrong;
     reload, rollback, undrain, upgrade: it was refused, and nothing changed;
     drain TARGET, up, down, auto, why: no target has this name
  3  status: it does not serve; why: the target gets no requests;
     explain: no endpoint could take the request, or it is refused

Signals:
  SIGTERM, SIGINT, SIGQUIT
                   as evenly drain: accept nothing new, finish requests in
                   flight (at most timeouts.drain), then exit with 0; a
                   second one stops immediately
  SIGHUP           as evenly reload: read the file again and apply what has
                   changed, all of it or nothing; the log says what
  SIGUSR1          reopen the access log, after its file was renamed
  SIGUSR2          as evenly upgrade: have another process take its place

Environment:
  EVENLY_LOG, RUST_LOG  the log level, where --log-level does not give it
  EVENLY_ADMIN_TOKEN    the token of --admin, where --token-file does not give it
  NO_COLOR              if it is set evenly top has no colours";

/// What follows the options of `evenly run --help`.
const AFTER_RUN_HELP: &str = "\
Either a file or --target is needed. --listen, --workers and --target override
the file: --target takes the place of all [[targets]] of the file, and
everything else in the file, [health] included, still counts.

Exit codes: 0 clean stop, 1 run-time failure, 2 usage or configuration.
Signals: SIGTERM, SIGINT and SIGQUIT drain, a second one stops immediately;
SIGHUP reads the file again and applies it, as evenly reload does;
SIGUSR1 reopens the access log; SIGUSR2 has another process take its place, as
evenly upgrade does.";

/// The arguments of one call of `evenly`.
#[derive(Debug, Parser)]
#[command(
    name = "evenly",
    version,
    about = "An HTTP/1.1 load balancer, to stand behind your TLS terminator",
    long_about = "An HTTP/1.1 load balancer, to stand behind your TLS terminator: it distributes requests evenly, \
                  one at a time, across your healthy servers, and takes out those that are not.",
    after_long_help = AFTER_HELP,
    after_help = "See evenly --help for examples, exit codes and signals."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What `evenly` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the load balancer
    Run(RunArgs),
    /// Say whether a configuration file is valid
    ///
    /// Prints on standard output that the file is valid and how many targets it has, or on standard
    /// error each error with its line, its key and what to write instead. Opens no listener, connects
    /// nowhere and resolves no name.
    #[command(after_help = "Exit codes: 0 valid, 2 not valid or not readable.")]
    Check(CheckArgs),
    /// List the configuration keys, or explain one
    ///
    /// Each key with the type of its value, its default, its range, whether a reload may change it, and what it is: a line
    /// for each. With PATH all that there is to know about that key, or the keys of that table.
    #[command(
        after_help = "Try: evenly keys | less -S, evenly keys timeouts, evenly keys health.interval\n\n\
                            Exit codes: 0, or 2 for an unknown key."
    )]
    Keys(KeysArgs),
    /// Have a running evenly read its file again and apply it
    ///
    /// All of it or nothing: prints what was applied, or why nothing was. The file says which process is meant: the one that
    /// listens on its first address, or else runs by this file. Without a file: the one that listens on the default address, or else
    /// the only one there is.
    #[command(
        after_help = "Exit codes: 0 applied, 2 refused and nothing changed, 1 no evenly was found or it gave no answer."
    )]
    Reload(ReloadArgs),
    /// Have a running evenly apply again what was in force before its last reload
    ///
    /// Its file stays as it is, and need not be valid: mend it before the next reload. Doing it twice changes nothing.
    #[command(
        after_help = "Exit codes: 0 applied, 2 refused and nothing changed, 1 no evenly was found or it gave no answer."
    )]
    Rollback(RemoteArgs),
    /// Show how a running evenly is
    ///
    /// Its version, stage, connections and how many of its endpoints get requests.
    #[command(
        after_help = "Exit codes: 0 it serves, 3 it does not (it drains, or no endpoint gets requests), 1 no evenly was found or it gave no answer."
    )]
    Status(SeeArgs),
    /// List the targets of a running evenly: how each is, since when, and why
    #[command(after_help = "Exit codes: 0, or 1: no evenly was found or it gave no answer.")]
    Targets(SeeArgs),
    /// Say why a target of a running evenly gets requests, or gets none
    ///
    /// With its last checks. TARGET is a target as it is configured, or the address of one of its endpoints.
    #[command(
        after_help = "Exit codes: 0 it gets requests, 3 it gets none, 2 no target has this name, 1 no evenly was found or it gave no answer."
    )]
    Why(TargetArgs),
    /// Watch a running evenly on the terminal: requests, latencies, targets, errors by reason
    ///
    /// All of it is of the last interval, from what the API says (/status, /targets, /metrics). Keys: q quits, ? shows the others. Nothing is
    /// coloured if NO_COLOR is set. When it does not answer that is shown, and it is asked on.
    #[command(
        after_help = "Exit codes: 0 somebody quit, 1 no evenly was found, it gave no answer at first, or the terminal failed, 2 there is no terminal: evenly top --once needs none."
    )]
    Top(TopArgs),
    /// Say what would become of a request: whether it is refused, and which endpoints could take it
    ///
    /// Nothing is sent to anybody. URL is http://HOST/PATH, or a path.
    #[command(
        after_help = "Exit codes: 0 some endpoint could take it, 3 none could, or it is refused, 2 the question is wrong, 1 no evenly was found or it gave no answer."
    )]
    Explain(ExplainArgs),
    /// List the exchanges of a running evenly that ended last, or that went wrong last
    ///
    /// The newest at the end: when each began, what was asked for by whom, which endpoint had it, how long it took and, if it did not end as it
    /// should, why. It is kept in memory whether there is an access log or not: of each worker the last 1,024 exchanges, the last 128 that went
    /// wrong by fault of their client, and the last 128 others that went wrong.
    #[command(
        after_help = "Exit codes: 0, 1 no evenly was found or it gave no answer, 2 the command line is wrong."
    )]
    Recent(RecentArgs),
    /// Have a target of a running evenly get requests, whatever its checks say
    ///
    /// Until evenly auto, a restart, or the end of the target. A reload and an upgrade keep it.
    #[command(
        after_help = "Exit codes: 0 done, 2 no target has this name or it was refused, 1 no evenly was found or it gave no answer."
    )]
    Up(TargetArgs),
    /// Have a target of a running evenly get no requests
    ///
    /// As one whose checks fail: requests that can be sent again are moved to others, the rest go on to their end. evenly drain TARGET
    /// leaves all of them where they are. Until evenly auto TARGET or evenly up TARGET; a reload and an upgrade keep it.
    #[command(
        after_help = "Exit codes: 0 done, 2 no target has this name or it was refused, 1 no evenly was found or it gave no answer."
    )]
    Down(TargetArgs),
    /// Have the checks of a target say again whether it gets requests
    #[command(
        after_help = "Exit codes: 0 done, 2 no target has this name or it was refused, 1 no evenly was found or it gave no answer."
    )]
    Auto(TargetArgs),
    /// Take a target out; without TARGET: have a running evenly finish what it has begun and end
    ///
    /// With TARGET (as it is configured, or the address of one of its endpoints): it gets no new requests, and those under way, tunnels
    /// too, go on to their end. evenly auto TARGET puts it back. The rest is about evenly drain without one.
    ///
    /// As SIGTERM does: it is not ready from then on, still accepts for timeouts.drain_delay, then accepts nothing new, finishes
    /// requests in flight for at most timeouts.drain, and ends. Prints what it does, until when. Doing it twice changes
    /// nothing; evenly undrain takes it back.
    #[command(
        after_help = "What ends in .toml, or is a file and no address, is FILE; everything else is TARGET, and is never taken for less: one \
                      that is unknown is an error.\n\n\
                      Exit codes: 0 it has begun; with --wait, it has ended and all connections were finished. 1 no evenly was \
                      found or it gave no answer; with --wait also: connections were cut, it was taken back, or requests of TARGET \
                      were left when TIME was over. 2 no target has this name, and nothing changed."
    )]
    Drain(DrainArgs),
    /// Have a running evenly that drains serve on
    ///
    /// Possible until its drain is over. Addresses that it no longer listens on are listened on again: all of them, or, if
    /// another process has one, none, and the drain goes on.
    #[command(
        after_help = "Exit codes: 0 it serves, 2 refused and nothing changed, 1 no evenly was found or it gave no answer."
    )]
    Undrain(RemoteArgs),
    /// Have another process, of a new version, take the place of a running evenly
    ///
    /// Starts the program again with the same arguments, hands the listening sockets and what is known of targets over to it, and has
    /// the old process finish its requests when the new one serves. If that fails the old one serves on. Prints which process serves,
    /// or why it is still the same.
    #[command(
        after_help = "Exit codes: 0 the new process serves, 2 refused and nothing changed, 1 no evenly was found or it gave no answer."
    )]
    Upgrade(UpgradeArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Try: source <(evenly completions bash)")]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(after_help = "Try: evenly man > evenly.1 && man ./evenly.1")]
    Man,
    /// Print the version
    Version,
}

/// The arguments of `evenly run`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = AFTER_RUN_HELP)]
pub struct RunArgs {
    /// Configuration file (TOML); - is standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Configuration file, as FILE
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// Worker threads: auto (as many as the CPUs it may use) or 1 to 1024
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub workers: Option<String>,
    /// An IP address and port to listen on [default: 0.0.0.0:8080]; may be repeated
    #[arg(short, long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Server to send requests to, as host:port or unix:/path; may be repeated. Takes the place of the file's targets
    #[arg(short, long, value_name = "ADDR")]
    pub target: Vec<String>,
    /// The path that health checks of the --target servers request, such as /healthz. Without it a TCP
    /// connection is the check
    #[arg(long, value_name = "PATH", requires = "target")]
    pub health_check_endpoint: Option<String>,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "human")]
    pub log_format: LogFormat,
    /// What to log: off, error, warn, info, debug or trace, or a filter such as evenly=debug
    /// [default: EVENLY_LOG, else RUST_LOG, else info]
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub log_level: Option<String>,
}

/// Which running evenly is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct RemoteArgs {
    /// The configuration file that it runs by
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The configuration file that it runs by, as FILE
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// Its control socket, in place of a file
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["file", "config"])]
    pub socket: Option<PathBuf>,
    /// Its admin listener (admin.listen), as host:port, in place of a file. Needs the token of admin.token_file
    #[arg(long, value_name = "ADDR", value_parser = admin_address, conflicts_with_all = ["file", "config", "socket"])]
    pub admin: Option<String>,
    /// With --admin: a file with the token [default: EVENLY_ADMIN_TOKEN in the environment is the token]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath, requires = "admin")]
    pub token_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// The file, however it was given; `None` for standard input.
    pub fn path(&self) -> Option<&Path> {
        let path = self.file.as_deref().or(self.config.as_deref());
        path.filter(|path| path.as_os_str() != "-")
    }
}

/// The arguments of `evenly reload`.
#[derive(Debug, Clone, Default, Args)]
pub struct ReloadArgs {
    /// Only print what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of a command that shows something.
#[derive(Debug, Clone, Default, Args)]
pub struct SeeArgs {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of a command about one target.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetArgs {
    /// A target as it is configured, such as http-api-1:8001, or the address of an endpoint
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of `evenly top`.
#[derive(Debug, Clone, Default, Args)]
pub struct TopArgs {
    /// How often it is asked, and what rates and percentiles are of: 100ms to 1m
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print one frame as text, after one interval
    #[arg(long)]
    pub once: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of `evenly explain`.
#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// What would be asked for: http://HOST/PATH, or a path
    #[arg(value_name = "URL")]
    pub url: String,
    /// The method of the request
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A field of the request, as NAME: VALUE; may be repeated
    #[arg(short = 'H', long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of `evenly recent`.
#[derive(Debug, Clone, Default, Args)]
pub struct RecentArgs {
    /// Only those that evenly answered or cut, that their client left, or whose status is 500 or more
    #[arg(long)]
    pub errors: bool,
    /// So many, from 1 to 10000
    #[arg(
        short = 'n', long, value_name = "NUMBER", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub limit: u32,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of `evenly drain`.
#[derive(Debug, Clone, Default, Args)]
pub struct DrainArgs {
    /// Return when it has ended, and say how; with TARGET when its requests have, or TIME (30s, 5m) is over
    #[arg(short, long, value_name = "TIME", num_args = 0..=1, default_missing_value = "")]
    wait: Option<String>,
    /// With --wait: print how many connections or requests are left, as on a terminal
    #[arg(short, long, requires = "wait")]
    pub verbose: bool,
    /// The target to take out; or, in the place of FILE, the configuration file of the evenly that is to end
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Which evenly is meant.
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What `evenly drain` is to drain.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// A target of the running evenly; `None`: that evenly.
    pub target: Option<String>,
    /// The end is waited for, no longer than this.
    pub wait: Option<Option<Duration>>,
    /// Which evenly is meant.
    pub remote: RemoteArgs,
}

impl DrainArgs {
    /// Which of its words is what. A word that could be the name of a target is never taken for a file, so that nobody drains more
    /// than he means.
    ///
    /// # Errors
    /// Why they do not go together, and what to write instead.
    pub fn resolve(&self) -> Result<Drain, String> {
        let mut remote = self.remote.clone();
        let time =
            self.wait.as_deref().filter(|text| !text.is_empty()).map(|text| (text, time(text)));
        // What follows --wait and is no time is the word that would stand there without it.
        let behind = time.filter(|(_, time)| time.is_none()).map(|(text, _)| text.to_owned());
        let wait = self.wait.as_ref().map(|_| time.and_then(|(_, time)| time));
        let second = remote.file.take().map(|path| path.to_string_lossy().into_owned());
        let mut target = None;
        for word in behind.into_iter().chain(self.target.clone()).chain(second) {
            match is_file(&word)? {
                true if remote.file.is_none() => remote.file = Some(PathBuf::from(word)),
                false if target.is_none() => target = Some(word),
                is_file => {
                    let what = if is_file { "files" } else { "targets" };
                    return Err(format!("these are two {what}; write evenly drain TARGET FILE"));
                }
            }
        }
        let other = [
            (remote.config.is_some(), "--config <FILE>"),
            (remote.socket.is_some(), "--socket <PATH>"),
            (remote.admin.is_some(), "--admin <ADDR>"),
        ];
        if let Some((_, option)) = other.iter().find(|(given, _)| *given && remote.file.is_some()) {
            return Err(format!("the argument '{option}' cannot be used with a file"));
        }
        if let (None, Some(Some(_))) = (&target, wait) {
            return Err(
                "--wait takes a time with TARGET only; timeouts.drain bounds how long evenly itself drains".to_owned(),
            );
        }
        Ok(Drain { target, wait, remote })
    }
}

/// Whether a word of `evenly drain` is a file; if not it is a target.
fn is_file(word: &str) -> Result<bool, String> {
    if word == "-" || word.ends_with(".toml") {
        return Ok(true);
    }
    match (Path::new(word).is_file(), config::is_target(word)) {
        (true, true) => Err(format!(
            "{word} is a file, and may be a target; write --config {word} if the file is meant, and remove or rename it if not"
        )),
        (is_file, _) => Ok(is_file),
    }
}

/// A time as it is written: `30s`, `500ms`, `5m`, `1h`.
fn time(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// An interval of `evenly top`.
fn interval(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    match time(text) {
        Some(time) if range.contains(&time) => Ok(time),
        Some(_) => Err("write 100ms to 1m".to_owned()),
        None => Err("write a number with a unit, such as 500ms or 2s".to_owned()),
    }
}

/// The arguments of `evenly upgrade`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpgradeArgs {
    /// The program to start [default: what is now at the path from which the running one was started]. Not with --admin
    #[arg(long, value_name = "PATH", conflicts_with = "admin", value_hint = clap::ValueHint::ExecutablePath)]
    pub binary: Option<PathBuf>,
    /// Which evenly is meant.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The arguments of `evenly check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file (TOML); - is standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath, required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// Configuration file, as FILE
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "file")]
    pub config: Option<PathBuf>,
}

impl CheckArgs {
    /// The file to check, however it was given.
    pub fn path(&self) -> &Path {
        self.file.as_deref().or(self.config.as_deref()).unwrap_or(Path::new("-"))
    }
}

/// The arguments of `evenly keys`.
#[derive(Debug, Default, Args)]
pub struct KeysArgs {
    /// A key, such as health.interval, or a table, such as health
    #[arg(value_name = "PATH", value_parser = KeyPath, hide_possible_values = true)]
    pub path: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Completions know the paths; what is wrong with one that is not a key is said by `config`.
#[derive(Debug, Clone)]
struct KeyPath;

impl TypedValueParser for KeyPath {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let paths = keys::entries().into_iter().map(|entry| PossibleValue::new(entry.path));
        let tables = keys::TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
        Some(Box::new(paths.chain(tables.map(PossibleValue::new))))
    }
}

/// The arguments of `evenly completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to print it for
    pub shell: Shell,
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[LogFormat::Human, LogFormat::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            LogFormat::Human => PossibleValue::new("human").help("Time, level and message"),
            LogFormat::Json => PossibleValue::new("json").help("One JSON object per line"),
        })
    }
}

/// What is connected to need not be an IP address, unlike what is listened on.
fn admin_address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@';
        !host.is_empty() && !host.contains(odd) && (!host.contains(':') || host.starts_with('['))
    };
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(text.to_owned())
        }
        _ => Err("write host:port, such as 127.0.0.1:9901".to_owned()),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    log::parse_filter(text).map(|_| text.to_owned())
}

/// Options of other programs, and what they are called here.
const OTHER_OPTIONS: &[(&[&str], &str)] = &[
    (&["-p", "--port"], "--listen 127.0.0.1:8080 sets address and port"),
    (
        &["-b", "--bind", "--address", "--host", "--from", "--addr"],
        "--listen 127.0.0.1:8080 sets address and port",
    ),
    (
        &[
            "--to",
            "--backend",
            "--backends",
            "--upstream",
            "--upstreams",
            "--server",
            "--origin",
            "--targets",
            "-u",
        ],
        "--target HOST:PORT names a server; repeat it for each",
    ),
    (
        &["-f", "--file", "--conf", "--configfile", "--config-file"],
        "--config FILE names the configuration",
    ),
    (&["--threads", "-j", "--jobs"], "--workers N sets the number of threads"),
    (
        &["-d", "--daemon", "--daemonize", "-D"],
        "evenly stays in the foreground: let systemd or a container run it",
    ),
    (
        &["-v", "-vv", "--verbose", "--debug", "-q", "--quiet"],
        "--log-level LEVEL sets what is logged, evenly --version prints the version",
    ),
    (&["-t", "--test", "--validate", "--check"], "evenly check FILE says whether a file is valid"),
    (
        &["--health", "--health-check", "--health-path"],
        "--health-check-endpoint PATH sets what is asked",
    ),
];

/// Commands of other programs, and what they are called here.
const OTHER_COMMANDS: &[(&[&str], &str)] = &[
    (
        &["serve", "start", "server", "proxy", "reverse-proxy", "balance", "listen"],
        "evenly run FILE, or evenly run --target HOST:PORT",
    ),
    (&["validate", "verify", "test", "lint", "configtest", "validate-config"], "evenly check FILE"),
    (&["stop", "restart", "quit", "shutdown"], "evenly drain FILE, or send the process SIGTERM"),
    (&["apply", "reconfigure", "hup"], "evenly reload FILE"),
    (&["key", "options", "config", "reference", "defaults", "describe"], "evenly keys"),
    (&["completion"], "evenly completions SHELL"),
    (&["manual", "manpage"], "evenly man"),
    (
        &["demo", "try", "example", "quickstart"],
        "make run, in evenly's source, starts two small servers and evenly in front of them",
    ),
];

/// What somebody who typed `arguments`, in which this is wrong, may have meant.
pub fn tip(wrong: ErrorKind, arguments: &[String]) -> Option<String> {
    let of = |table: &[(&[&str], &str)], word: &str| {
        let word = word.split('=').next().unwrap_or(word);
        table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| (*tip).to_owned())
    };
    let is_file = |word: &str| word.ends_with(".toml") || Path::new(word).is_file();
    let first = arguments.first()?;
    let is_command = Cli::command().get_subcommands().any(|known| known.get_name() == first);
    if !is_command {
        let file = arguments.iter().find(|word| is_file(word));
        let bare = file.map(|file| format!("evenly run {file}, or evenly check {file}"));
        let address = config::is_target(first).then(|| format!("evenly run --target {first}"));
        let option = || {
            of(OTHER_OPTIONS, first).or_else(|| {
                let run = first
                    .starts_with('-')
                    .then(|| "the command comes first: evenly run".to_owned());
                run.filter(|_| arguments.len() > 1)
            })
        };
        return of(OTHER_COMMANDS, first).or(bare).or(address).or_else(option);
    }
    if wrong != ErrorKind::UnknownArgument {
        return None;
    }
    let rest = &arguments[1..];
    let option = rest.iter().find_map(|word| of(OTHER_OPTIONS, word));
    // A second one, or one behind `--target`.
    let address = || rest.iter().any(|word| config::is_target(word));
    option.or_else(|| address().then(|| "give --target once for each server".to_owned()))
}

impl RunArgs {
    /// Whether the configuration comes from standard input.
    pub fn reads_input(&self) -> bool {
        let file = self.file.as_ref().or(self.config.as_ref());
        file.is_some_and(|path| path.as_os_str() == "-")
    }

    /// The file, if it is one that can be read again.
    pub fn reread_path(&self) -> Option<&PathBuf> {
        self.file.as_ref().or(self.config.as_ref()).filter(|path| path.as_os_str() != "-")
    }
}

/// What `evenly run` with these arguments runs by, and where that was written.
///
/// # Errors
/// The file or an argument is not valid, or there is neither a file nor a target.
pub fn settings(args: &RunArgs) -> Result<(Settings, Places), ConfigError> {
    let overrides = Overrides {
        listen: args.listen.clone(),
        workers: args.workers.clone(),
        targets: args.target.clone(),
        health_check_endpoint: args.health_check_endpoint.clone(),
    };
    match args.file.as_ref().or(args.config.as_ref()) {
        Some(path) => config::load_placed(path, &overrides),
        None => config::options_placed(&overrides),
    }
}

/// The settings that say where the control socket is: those of the file, or the defaults without one.
///
/// # Errors
/// The file is not valid.
pub fn remote_settings(args: &RemoteArgs) -> Result<Settings, ConfigError> {
    match args.file.as_ref().or(args.config.as_ref()) {
        Some(path) => config::load(path),
        None => Ok(Settings::default()),
    }
}

/// What `evenly keys` with these arguments prints.
///
/// # Errors
/// The key is unknown.
pub fn keys(args: &KeysArgs) -> Result<String, ConfigError> {
    let entries = match &args.path {
        Some(path) => keys::find(path)?,
        None => keys::entries(),
    };
    Ok(match (&entries[..], &args.path) {
        (_, None) if args.json => json(&entries),
        ([one], _) if args.json => format!("{:#}\n", object(one)),
        (_, _) if args.json => json(&entries),
        ([one], Some(_)) => explained(one),
        _ => listed(&entries),
    })
}

fn json(entries: &[Entry]) -> String {
    format!("{:#}\n", serde_json::Value::from_iter(entries.iter().map(object)))
}

/// All that is known of a key.
fn object(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "path": entry.path,
        "kind": entry.key.kind(),
        "default": entry.key.default(),
        "overrides": entry.overrides,
        "range": entry.key.range(),
        "reload": entry.key.reload,
        "short": entry.short(),
        "long": entry.key.long,
    })
}

/// A line for each key, in columns.
fn listed(entries: &[Entry]) -> String {
    let row = |entry: &Entry| {
        let reload = if entry.key.reload { "yes" } else { "no" };
        let (default, short) = (entry.default(), entry.short().replace('`', ""));
        [
            entry.path.clone(),
            entry.key.kind().into(),
            default,
            entry.key.range(),
            reload.into(),
            short,
        ]
    };
    let titles = ["key", "type", "default", "range", "reload", "what it is"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(entries.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..5).filter_map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

/// One key at length.
fn explained(entry: &Entry) -> String {
    let key = entry.key;
    let stop = if key.long.is_empty() { "" } else { ". " };
    let prose = filled(&format!("{}{stop}{}.", entry.short(), key.long).replace('`', ""));
    let reload = if key.reload { "may change it" } else { "does not change it: read at startup" };
    let example = match key.example {
        "" => String::new(),
        example => format!("example  {} = {example}\n", key.name),
    };
    format!(
        "{}\n\n{prose}\ntype     {}\nrange    {}\ndefault  {}\n{example}reload   {reload}\n",
        entry.path,
        key.kind(),
        key.range(),
        entry.default(),
    )
}

/// `text` in lines of at most 80 characters, or one word.
fn filled(text: &str) -> String {
    const WIDTH: usize = 80;
    let (mut filled, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 {
            let fits = column + 1 + length <= WIDTH;
            filled.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        filled.push_str(word);
        column += length;
    }
    filled + "\n"
}

/// The completion script for `shell`.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "evenly", &mut script);
    script
}

/// The manual page of all commands, as roff.
///
/// # Errors
/// None in practice: the page is written to memory.
pub fn man() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    for subcommand in command.get_subcommands() {
        man_section(&mut page, subcommand)?;
    }
    heading("NOTES").to_writer(&mut page)?;
    verbatim(AFTER_HELP).to_writer(&mut page)?;
    Ok(page)
}

/// One subcommand: its own sections as subsections of one that bears its name.
fn man_section(page: &mut Vec<u8>, command: &clap::Command) -> io::Result<()> {
    heading(&format!("evenly {}", command.get_name())).to_writer(page)?;
    let man = Man::new(command.clone());
    let mut own = Vec::new();
    man.render_synopsis_section(&mut own)?;
    man.render_description_section(&mut own)?;
    man.render_options_section(&mut own)?;
    page.extend(String::from_utf8_lossy(&own).replace(".SH ", ".SS ").into_bytes());
    if let Some(notes) = command.get_after_help() {
        verbatim(&notes.to_string()).to_writer(page)?;
    }
    Ok(())
}

fn heading(title: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff
}

/// Text whose lines stay as they are.
fn verbatim(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}
