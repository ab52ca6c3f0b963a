//! The program under test: started with what a test wants of it, killed by its own id at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use super::{Client, Origin, until, until_still};
use crate::nameserver::NameServer;

/// How the program is to be started.
pub(crate) struct Start {
    targets: Vec<String>,
    /// Those that are probed often.
    watched: Vec<String>,
    config: String,
    workers: usize,
    listen: Vec<&'static str>,
    args: Vec<&'static str>,
    through: Option<String>,
    without_file: bool,
    /// The whole file, in place of all that is above.
    text: Option<String>,
    environment: Vec<(&'static str, String)>,
    /// These are all its arguments.
    bare: Option<Vec<&'static str>>,
    input: Option<OwnedFd>,
}

impl Start {
    /// Before these targets, with two workers, on one free port.
    pub(crate) fn before(targets: &[&Origin]) -> Start {
        Start {
            targets: targets.iter().map(|target| target.target()).collect(),
            watched: Vec::new(),
            config: String::new(),
            workers: 2,
            listen: vec!["127.0.0.1:0"],
            args: Vec::new(),
            through: None,
            without_file: false,
            text: None,
            environment: Vec::new(),
            bare: None,
            input: None,
        }
    }

    /// With this file, which says all: a reload may change any of it.
    pub(crate) fn of(text: &str) -> Start {
        Start { text: Some(text.to_owned()), ..Start::before(&[]) }
    }

    /// With one more variable in its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Start {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Puts `toml` into the file, before the targets.
    pub(crate) fn config(mut self, toml: &str) -> Start {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Before this path of a Unix socket too.
    pub(crate) fn target(mut self, path: &str) -> Start {
        self.targets.push(format!("unix:{path}"));
        self
    }

    /// Before this name too, asking this server for it.
    pub(crate) fn name(mut self, name: &str, server: &NameServer) -> Start {
        self.targets.push(name.to_owned());
        self.config(&server.config())
    }

    /// Probes this target often, and with little patience: on a busy machine it may seem down when it is not.
    pub(crate) fn watching(mut self, target: &Origin) -> Start {
        self.watched.push(target.target());
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Start {
        self.workers = workers;
        self
    }

    pub(crate) fn listen(mut self, addresses: &[&'static str]) -> Start {
        self.listen = addresses.to_vec();
        self
    }

    pub(crate) fn args(mut self, args: &[&'static str]) -> Start {
        self.args = args.to_vec();
        self
    }

    /// With at most so many descriptors.
    pub(crate) fn descriptors(self, limit: u32) -> Start {
        self.through(&format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
    }

    /// By a shell that runs this script, with the program as `$0` and its arguments.
    pub(crate) fn through(mut self, script: &str) -> Start {
        self.through = Some(script.to_owned());
        self
    }

    /// Names the targets on the command line instead.
    pub(crate) fn without_file(mut self) -> Start {
        self.without_file = true;
        self
    }

    /// With this as its standard input.
    pub(crate) fn input(mut self, input: OwnedFd) -> Start {
        self.input = Some(input);
        self
    }

    /// With these arguments and no others.
    pub(crate) fn bare(mut self, arguments: &[&'static str]) -> Start {
        self.bare = Some(arguments.to_vec());
        self
    }

    fn toml(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let mut toml = self.config.clone();
        for target in &self.targets {
            let endpoint = "health_check_endpoint = \"/healthz\"";
            writeln!(toml, "[[targets]]\naddress = \"{target}\"\n{endpoint}").unwrap();
            if self.watched.contains(target) {
                writeln!(toml, "interval = \"200ms\"\nfall = 2").unwrap();
            }
        }
        toml
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_evenly");
        match &self.through {
            None => Command::new(program),
            Some(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script, program]);
                command
            }
        }
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Evenly {
        let count = self.listen.len();
        let mut evenly = self.begin();
        until("the addresses it listens on", || {
            let ended = evenly.child.try_wait().unwrap().is_some();
            assert!(!ended, "it ended: {:#?}", evenly.log());
            evenly.addresses = evenly.log().iter().filter_map(|line| address_in(line)).collect();
            evenly.addresses.len() >= count
        });
        evenly
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn begin(self) -> Evenly {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evenly.toml");
        std::fs::write(&file, self.toml()).unwrap();
        let mut command = self.command();
        match &self.bare {
            Some(arguments) => drop(command.args(arguments)),
            None => self.arguments(&mut command, &file),
        }
        command.env_remove("RUST_LOG").env_remove("EVENLY_LOG");
        // Its control socket is made there.
        command.env("RUNTIME_DIRECTORY", folder.path()).envs(self.environment);
        let mut child = command
            .stdin(self.input.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let unread = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&unread);
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
                while waits.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let reader = Some(reader);
        Evenly { child, addresses: Vec::new(), log, reader, unread, folder }
    }
}

impl Start {
    fn arguments(&self, command: &mut Command, file: &Path) {
        command.arg("run");
        if self.text.is_none() {
            command.args(["--workers", &self.workers.to_string()]);
            command.args(self.listen.iter().flat_map(|address| ["--listen", address]));
        }
        if self.without_file {
            command.args(["--health-check-endpoint", "/healthz"]);
            command.args(self.targets.iter().flat_map(|at| ["--target", at]));
        } else {
            command.arg("--config").arg(file);
        }
        command.args(&self.args);
    }
}

/// The address of a line that says where it listens.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (before, rest) = line.split_once("listening on http://")?;
    if before.ends_with("admin ") {
        return None;
    }
    let end = rest.find(['"', ' ']).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The program, running.
pub(crate) struct Evenly {
    child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Nobody reads its standard error.
    unread: Arc<AtomicBool>,
    /// Where its file and its control socket are.
    folder: TempDir,
}

impl Evenly {
    /// Before these targets, with two workers and every default.
    #[track_caller]
    pub(crate) fn before(targets: &[&Origin]) -> Evenly {
        Start::before(targets).start()
    }

    /// Before these targets, with two workers and what `toml` says.
    #[track_caller]
    pub(crate) fn with(targets: &[&Origin], toml: &str) -> Evenly {
        Start::before(targets).config(toml).start()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Does `work` while clients ask without pause; none of their requests may fail. How many there were.
    pub(crate) fn under_load(&self, work: impl FnOnce()) -> usize {
        let (served, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = self.client();
                    while !over.load(Ordering::SeqCst) {
                        let response = client.get("/");
                        assert_eq!(response.status, 200, "{}", response.text());
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let _end = SetOnDrop(&over);
            work();
        });
        served.into_inner()
    }

    /// A fresh connection to it.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::to(self.address())
    }

    /// Nobody reads its standard error any more, and the pipe is full.
    pub(crate) fn stop_reading(&self) {
        self.unread.store(true, Ordering::SeqCst);
        let path = format!("/proc/{}/fd/2", self.child.id());
        // Opened anew, so that this side alone does not block.
        let flags = nix::libc::O_NONBLOCK;
        let mut pipe = File::options().write(true).custom_flags(flags).open(path).unwrap();
        until_still("its standard error is full", Duration::from_millis(50), || {
            let mut taken = 0;
            while let Ok(count) = pipe.write(&[b'\n'; 4096]) {
                taken += count;
            }
            taken > 0
        });
    }

    /// Its standard error is read again.
    pub(crate) fn read_on(&self) {
        self.unread.store(false, Ordering::SeqCst);
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many lines it has logged that hold `text`.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// Where its file and its control socket are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("evenly.toml")
    }

    /// What follows `text` in the first line of its log that has it.
    #[track_caller]
    pub(crate) fn logged_after(&self, text: &str) -> String {
        let mut found = None;
        until(text, || {
            let log = self.log.lock().unwrap();
            found = log.iter().find_map(|line| Some(line.split_once(text)?.1.to_owned()));
            found.is_some()
        });
        found.unwrap()
    }

    /// Its control socket.
    #[track_caller]
    pub(crate) fn socket(&self) -> String {
        self.logged_after("control socket: ")
    }

    /// What `evenly` with these arguments asks it, not started yet.
    #[track_caller]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        command.args(arguments).args(["--socket", &self.socket()]).stdin(Stdio::null());
        command
    }

    /// What `evenly` with these arguments prints, on either output, and its exit code.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.code())
    }

    /// Reloads with this text in its file, by a signal. What it says of that.
    #[track_caller]
    pub(crate) fn reload(&self, text: &str) -> String {
        std::fs::write(self.file(), text).unwrap();
        let before = self.log().len();
        self.signal(Signal::HUP);
        let mut said = None;
        until("a word of the reload", || {
            let log = self.log.lock().unwrap();
            let lines = &log[before..];
            said = lines.iter().find_map(|line| Some(line[line.find("reload")?..].to_owned()));
            said.is_some()
        });
        said.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended by itself: its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let code = self.own_exit_code();
        self.read_on();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        code
    }

    /// Likewise, where another process may write to its log on.
    #[track_caller]
    pub(crate) fn own_exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The text of a file of its in `/proc`.
    pub(crate) fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    /// The paths below a directory of its in `/proc`.
    pub(crate) fn proc_entries(&self, dir: &str) -> Vec<String> {
        std::fs::read_dir(format!("/proc/{}/{dir}", self.child.id()))
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .map(|name| format!("{dir}/{name}"))
            .collect()
    }

    /// Memory it has in use, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it runs");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// It may have so many KiB of memory more than it has now, as by `LimitDATA=` of systemd.
    pub(crate) fn limit_memory(&self, more: u64) {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmData:")).expect("it runs");
        let now: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let limit = Some((now + more) * 1024);
        let limit = Rlimit { current: limit, maximum: limit };
        prlimit(Some(self.pid()), Resource::Data, limit).unwrap();
    }

    /// CPU time it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, rest) = stat.rsplit_once(')').expect("it runs");
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        // utime and stime, in the kernel's hundredths of a second.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

impl Drop for Evenly {
    fn drop(&mut self) {
        self.read_on();
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("its log: {:#?}", self.log());
        } else {
            assert_eq!(self.logged("panic"), 0, "{:#?}", self.log());
        }
    }
}

/// Ends the clients even if an assertion fails, so that their scope ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
