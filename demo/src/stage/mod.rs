//! All programs of the story as children of this one: start them, know where they listen, stop and restart one, edit the
//! zone, read what they say.
//!
//! Owns the children, a temporary folder (zone, configuration of `evenly`, shared database) and the lines they have printed. Does
//! not own what is done with them: that is the runner's, the tour's and the tests'.
//!
//! No child outlives its stage: dropping it ends them, and the kernel does when this process dies of a signal
//! (`leash`). They stand in process groups of their own, so that Ctrl-C in a terminal reaches only the runner.

mod child;
mod journal;
mod leash;
mod names;

pub use journal::{Journal, Moment};
pub use leash::exec_leashed;
pub use names::{Service, Zone};

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use child::Running;
use leash::Spawner;

/// How long a piece may take until it listens, or until it says what it should.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a piece may take to end by itself before it is killed.
const ENDING: Duration = Duration::from_secs(5);
/// How often two free ports of one number are looked for.
const TRIES: u32 = 10;
/// The domain that the story's client asks for.
pub const DOMAIN: &str = "spells.test";
/// The SRV name of the APIs.
pub const SERVICE: &str = "_http._tcp.spells.test";

/// What went wrong, for people.
#[derive(Debug)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

fn problem(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Problem {
    move |error| Problem(format!("{what}: {error}"))
}

/// One program on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// `spells-api` number 1 to 99, at 127.0.0.11 to 127.0.0.109.
    Api(u8),
    /// `dns-authority`.
    Authority,
    /// `dns-resolver`.
    Resolver,
    /// The balancer.
    Evenly,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Piece::Api(number) => f.pad(&format!("http-api-{number}")),
            Piece::Authority => f.pad("dns-authority"),
            Piece::Resolver => f.pad("dns-resolver"),
            Piece::Evenly => f.pad("evenly"),
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The folder of the demo's own programs.
    pub folder: PathBuf,
    /// The balancer; none for a stage without one.
    pub evenly: Option<PathBuf>,
}

impl Programs {
    /// All in one folder, as cargo leaves them.
    pub fn beside(folder: &Path) -> Programs {
        Programs { folder: folder.to_owned(), evenly: Some(folder.join("evenly")) }
    }

    /// One of the demo's own.
    pub fn own(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn check(&self) -> Result<(), Problem> {
        for name in ["demo", "spells-api", "dns-authority", "dns-resolver"] {
            if !self.own(name).is_file() {
                let folder = self.folder.display();
                return Err(Problem(format!(
                    "{name} is not in {folder}; build it: cargo build -p evenly-demo"
                )));
            }
        }
        match &self.evenly {
            Some(evenly) if !evenly.is_file() => Err(Problem(format!(
                "evenly is not at {}; build it (cargo build -p evenly), or say where it is: --evenly FILE",
                evenly.display()
            ))),
            _ => Ok(()),
        }
    }

    fn of(&self, piece: Piece) -> PathBuf {
        match piece {
            Piece::Api(_) => self.own("spells-api"),
            Piece::Authority => self.own("dns-authority"),
            Piece::Resolver => self.own("dns-resolver"),
            Piece::Evenly => self.evenly.clone().unwrap_or_default(),
        }
    }
}

/// Which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The story's: 8001 for the APIs, 8080 for evenly, 5301 and 5302 for DNS.
    Story,
    /// Whatever is free: many stages at once.
    Free,
}

impl Ports {
    fn or_free(self, port: u16) -> u16 {
        if self == Ports::Story { port } else { 0 }
    }
}

/// Where the APIs keep their spells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Each for itself.
    Memory,
    /// One SQLite file for all.
    Shared,
}

/// What `evenly` is told of the APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// A target each, by the names `http-api-1` and `http-api-2`.
    Hosts,
    /// One target, the SRV name [`SERVICE`].
    Service,
}

/// What is done with each line that a piece prints.
pub type Log = Arc<dyn Fn(Piece, &str) + Send + Sync>;

/// How a stage is set up.
pub struct Plan {
    /// Where the programs are.
    pub programs: Programs,
    /// Which ports they take.
    pub ports: Ports,
    /// Where the APIs keep their spells.
    pub storage: Storage,
    /// What `evenly` is told of them.
    pub targets: Targets,
    /// Between two health checks of one target, and the most that one may take.
    pub check_interval: Duration,
    /// Told each line as it comes.
    pub log: Log,
    /// When this becomes true, the start is given up.
    pub cancelled: Arc<AtomicBool>,
}

impl Plan {
    /// The story with these programs, on free ports, in memory, with a check every second and nobody told of lines.
    pub fn quiet(programs: Programs) -> Plan {
        Plan {
            programs,
            ports: Ports::Free,
            storage: Storage::Memory,
            targets: Targets::Hosts,
            check_interval: Duration::from_secs(1),
            log: Arc::new(|_, _| {}),
            cancelled: Arc::default(),
        }
    }
}

/// One piece: where it listens (kept over restarts), and its process while it runs.
struct Slot {
    address: SocketAddr,
    running: Option<Running>,
}

/// All pieces of one story.
pub struct Stage {
    pieces: BTreeMap<Piece, Slot>,
    zone: Zone,
    journal: Arc<Journal>,
    spawner: Spawner,
    plan: Plan,
    // After the children: they use what is in it.
    folder: TempDir,
}

impl Stage {
    /// Starts everything, and returns when all of it listens: two APIs, the authority, the resolver, and `evenly` if the plan has
    /// one.
    ///
    /// # Errors
    /// When a program is not there, does not start, or the plan is cancelled; what was started is ended.
    pub fn start(plan: Plan) -> Result<Stage, Problem> {
        plan.programs.check()?;
        let mut stage = Stage {
            pieces: BTreeMap::new(),
            zone: Zone::new(),
            journal: Arc::new(Journal::new(Arc::clone(&plan.log))),
            spawner: Spawner::start(&plan.programs.own("demo"))
                .map_err(problem("cannot start a thread"))?,
            folder: tempfile::tempdir().map_err(problem("no temporary folder"))?,
            plan,
        };
        let port = stage.start_first_apis()?;
        stage.write_first_zone(port)?;
        let ports = stage.plan.ports;
        stage.launch(Piece::Authority, at(1, ports.or_free(5301)))?;
        stage.launch(Piece::Resolver, at(1, ports.or_free(5302)))?;
        if stage.plan.programs.evenly.is_some() {
            stage.launch(Piece::Evenly, at(1, ports.or_free(8080)))?;
        }
        Ok(stage)
    }

    /// Two APIs on the same port of two addresses: the first may choose, and if the second cannot have it, both choose again.
    fn start_first_apis(&mut self) -> Result<u16, Problem> {
        let wanted = self.plan.ports.or_free(8001);
        let mut tries = 1;
        loop {
            let first = self.launch(Piece::Api(1), api_at(1, wanted))?;
            match self.launch(Piece::Api(2), api_at(2, first.port())) {
                Ok(_) => return Ok(first.port()),
                Err(error) if wanted != 0 || tries == TRIES || self.is_cancelled() => {
                    return Err(error);
                }
                Err(_) => {
                    tries += 1;
                    self.stop(Piece::Api(1))?;
                }
            }
        }
    }

    fn write_first_zone(&mut self, port: u16) -> Result<(), Problem> {
        self.zone.set(DOMAIN, &[at(1, 0).ip()]);
        for number in [1, 2] {
            let host = Piece::Api(number).to_string();
            self.zone.set(&host, &[api_at(number, 0).ip()]);
            self.zone.add_service(SERVICE, Service { priority: 0, weight: 1, port, host });
        }
        self.write_zone()
    }

    /// Where a piece listens, or listened before it was stopped; none if it never did.
    pub fn address(&self, piece: Piece) -> Option<SocketAddr> {
        self.pieces.get(&piece).map(|slot| slot.address)
    }

    /// Whether a piece runs, as far as is known: see [`Stage::died`].
    pub fn is_running(&self, piece: Piece) -> bool {
        self.pieces.get(&piece).is_some_and(|slot| slot.running.is_some())
    }

    /// The URL of a path behind the balancer, by the story's domain.
    pub fn url(&self, path: &str) -> Option<String> {
        let port = self.address(Piece::Evenly)?.port();
        Some(format!("http://{DOMAIN}:{port}{path}"))
    }

    /// `ingress-client` with the stage's resolver.
    pub fn client(&self) -> Command {
        let mut client = Command::new(self.plan.programs.own("ingress-client"));
        if let Some(resolver) = self.address(Piece::Resolver) {
            client.arg("--resolver").arg(resolver.to_string());
        }
        client
    }

    /// Where the APIs that are started from now on keep their spells.
    pub fn set_storage(&mut self, storage: Storage) {
        self.plan.storage = storage;
    }

    /// The program and the arguments that a piece which has an address is started with, as they are typed.
    ///
    /// # Errors
    /// When it has none, or what its arguments name cannot be written.
    pub fn command_line(&self, piece: Piece) -> Result<String, Problem> {
        let program = self.plan.programs.of(piece);
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments = self.arguments(piece, self.needed(piece)?)?;
        Ok([vec![name], arguments].concat().join(" "))
    }

    /// What the pieces have printed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The folder of the zone, the configuration and the database; gone with the stage.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file that the authority serves.
    pub fn zone_file(&self) -> PathBuf {
        self.folder.path().join("root.zone")
    }

    /// Changes the zone, and returns when the authority serves the change. What was written into the file by hand is lost.
    ///
    /// # Errors
    /// When the file cannot be written, or the authority does not take it up.
    pub fn edit_zone(&mut self, change: impl FnOnce(&mut Zone)) -> Result<(), Problem> {
        change(&mut self.zone);
        let before = self.journal.now();
        self.write_zone()?;
        if self.is_running(Piece::Authority) {
            self.journal.wait_for(Piece::Authority, before, "changed, serving it", PATIENCE)?;
        }
        Ok(())
    }

    /// A whole file takes the place of the other: nobody reads half of it.
    fn write_zone(&mut self) -> Result<(), Problem> {
        let (file, new) = (self.zone_file(), self.folder.path().join("root.zone.new"));
        fs::write(&new, self.zone.next_text())
            .and_then(|()| fs::rename(&new, &file))
            .map_err(problem(format_args!("cannot write {}", file.display())))
    }

    /// Starts one more API, beside those there are and on their port. No name leads to it before the zone says so.
    ///
    /// # Errors
    /// When it does not start, or its number is not from 1 to 99 or taken.
    pub fn add_api(&mut self, number: u8) -> Result<SocketAddr, Problem> {
        let port = self.address(Piece::Api(1)).map_or(0, |first| first.port());
        self.add_api_at(number, port)
    }

    /// As [`Stage::add_api`], on a port of its own, which only SRV records tell; 0 takes a free one.
    ///
    /// # Errors
    /// When it does not start, or its number is not from 1 to 99 or taken.
    pub fn add_api_at(&mut self, number: u8, port: u16) -> Result<SocketAddr, Problem> {
        let piece = Piece::Api(number);
        if !(1..=99).contains(&number) || self.pieces.contains_key(&piece) {
            return Err(Problem(format!("{piece} is not a new number from 1 to 99")));
        }
        self.launch(piece, api_at(number, port))
    }

    /// Asks a piece to end, and kills it if it does not; does nothing if it does not run.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stop(&mut self, piece: Piece) -> Result<(), Problem> {
        match self.pieces.get_mut(&piece).and_then(|slot| slot.running.take()) {
            Some(running) => running.end(ENDING).map_err(problem(format_args!("ending {piece}"))),
            None => Ok(()),
        }
    }

    /// Starts a stopped piece where it listened before.
    ///
    /// # Errors
    /// When it does not start, or never ran.
    pub fn start_again(&mut self, piece: Piece) -> Result<(), Problem> {
        let slot = self.pieces.get(&piece);
        let slot = slot.ok_or_else(|| Problem(format!("{piece} has never run")))?;
        if slot.running.is_some() {
            return Ok(());
        }
        self.launch(piece, slot.address).map(|_| ())
    }

    /// The process of a running piece.
    pub fn pid(&self, piece: Piece) -> Option<u32> {
        Some(self.pieces.get(&piece)?.running.as_ref()?.pid())
    }

    /// A piece that has ended though nobody stopped it; each is told once.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn died(&mut self) -> Result<Option<(Piece, ExitStatus)>, Problem> {
        for (&piece, slot) in &mut self.pieces {
            let Some(running) = &mut slot.running else { continue };
            let ended = running.try_wait().map_err(problem(format_args!("waiting for {piece}")))?;
            if let Some(status) = ended {
                slot.running = None;
                return Ok(Some((piece, status)));
            }
        }
        Ok(None)
    }

    /// Ends every piece, all at once, and returns when they are gone. Dropping the stage does the same.
    pub fn end(mut self) {
        self.end_all();
    }

    fn end_all(&mut self) {
        let mut ending: Vec<Running> =
            self.pieces.values_mut().filter_map(|slot| slot.running.take()).collect();
        for running in &mut ending {
            running.ask_to_end();
        }
        let deadline = Instant::now() + ENDING;
        for running in ending {
            // One that cannot be waited for cannot be helped either.
            let _ = running.end(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.plan.cancelled.load(Ordering::Relaxed)
    }

    /// Starts a piece that is to listen at `wanted`, and waits until it does.
    fn launch(&mut self, piece: Piece, wanted: SocketAddr) -> Result<SocketAddr, Problem> {
        let arguments = self.arguments(piece, wanted)?;
        let before = self.journal.now();
        let child = self
            .spawner
            .spawn(&self.plan.programs.of(piece), &arguments)
            .map_err(problem(format_args!("cannot start {piece}")))?;
        let mut running = Running::new(piece, child, &self.journal);
        let address = self.wait_until_it_listens(piece, &mut running, before)?;
        self.pieces.insert(piece, Slot { address, running: Some(running) });
        Ok(address)
    }

    fn wait_until_it_listens(
        &self,
        piece: Piece,
        running: &mut Running,
        since: Moment,
    ) -> Result<SocketAddr, Problem> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Whether it has ended is looked up first: then its last lines are complete.
            let ended = running.wait_briefly().map_err(problem(format_args!("{piece}")))?;
            if let Some(address) = self.journal.find(piece, since, listening) {
                return Ok(address);
            }
            if let Some(status) = ended {
                let last = self.journal.since(piece, since).join("\n  ");
                return Err(Problem(format!("{piece} ended at its start, {status}:\n  {last}")));
            }
            if self.is_cancelled() {
                return Err(Problem("interrupted".to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(Problem(format!("{piece} does not listen after {PATIENCE:?}")));
            }
        }
    }

    fn arguments(&self, piece: Piece, listen: SocketAddr) -> Result<Vec<String>, Problem> {
        let listen_text = listen.to_string();
        let arguments = match piece {
            Piece::Api(_) => {
                let (name, database) = (piece.to_string(), self.database());
                vec![
                    "--listen".into(),
                    listen_text,
                    "--name".into(),
                    name,
                    "--database".into(),
                    database,
                ]
            }
            Piece::Authority => {
                let zone = format!(".={}", self.zone_file().display());
                vec!["--listen".into(), listen_text, "--zone".into(), zone]
            }
            Piece::Resolver => {
                let authority = format!(".={}", self.needed(Piece::Authority)?);
                vec!["--listen".into(), listen_text, "--forward".into(), authority]
            }
            Piece::Evenly => {
                let file = self.folder.path().join("evenly.toml");
                fs::write(&file, self.configuration(listen)?)
                    .map_err(problem(format_args!("cannot write {}", file.display())))?;
                vec!["run".into(), "--config".into(), file.display().to_string()]
            }
        };
        Ok(arguments)
    }

    fn database(&self) -> String {
        match self.plan.storage {
            Storage::Memory => "memory".to_owned(),
            Storage::Shared => {
                format!("sqlite:{}", self.folder.path().join("spells.db").display())
            }
        }
    }

    fn needed(&self, piece: Piece) -> Result<SocketAddr, Problem> {
        self.address(piece).ok_or_else(|| Problem(format!("{piece} has not been started")))
    }

    /// The configuration of `evenly`: its targets are names, which it asks the demo's resolver for.
    fn configuration(&self, listen: SocketAddr) -> Result<String, Problem> {
        let resolver = self.needed(Piece::Resolver)?;
        let interval = self.plan.check_interval.as_millis();
        let mut text = format!(
            "# Written by the demo.\n\
             listen = \"{listen}\"\n\n\
             [dns]\nservers = [\"{resolver}\"]\n\n\
             [health]\ninterval = \"{interval}ms\"\ntimeout = \"{interval}ms\"\n\n\
             [timeouts]\ndrain = \"1s\"\n"
        );
        for address in self.target_addresses()? {
            text += &format!(
                "\n[[targets]]\naddress = \"{address}\"\nhealth_check_endpoint = \"/healthz\"\n"
            );
        }
        Ok(text)
    }

    fn target_addresses(&self) -> Result<Vec<String>, Problem> {
        let port = self.needed(Piece::Api(1))?.port();
        Ok(match self.plan.targets {
            Targets::Hosts => [1, 2].map(|number| format!("{}:{port}", Piece::Api(number))).into(),
            Targets::Service => vec![SERVICE.to_owned()],
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}

fn api_at(number: u8, port: u16) -> SocketAddr {
    at(number.saturating_add(10), port)
}

/// The address of `... listening on ADDR`, which `evenly` writes as a URL.
fn listening(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let rest = rest.strip_prefix("http://").unwrap_or(rest);
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_where_it_listens_is_understood_from_all_programs() {
        let wanted = at(11, 8001);
        assert_eq!(listening("http-api-1 listening on 127.0.0.11:8001"), Some(wanted));
        assert_eq!(listening("[x INFO] listening on http://127.0.0.11:8001"), Some(wanted));
        assert_eq!(listening("cannot listen on 127.0.0.11:8001"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mut programs = Programs::beside(folder.path());
        let why = programs.check().unwrap_err().0;
        assert!(why.contains("cargo build -p evenly-demo"), "{why}");
        for name in ["demo", "spells-api", "dns-authority", "dns-resolver"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let why = programs.check().unwrap_err().0;
        assert!(why.contains("evenly is not at") && why.contains("--evenly FILE"), "{why}");
        programs.evenly = None;
        assert!(programs.check().is_ok());
    }
}
