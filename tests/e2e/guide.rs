//! The guide, `docs/operations.md`: every command in it is run, and what it prints is compared with what the page says.
//!
//! Each section has a machine of its own, made by namespaces (`guide/machine.sh`): with the addresses, the names, the paths and the
//! ports that the page has, so that nothing in a command is replaced. On it this very program runs [`inside`], which reads the
//! section from its first block to its last:
//!
//! | block | what is done with it |
//! | --- | --- |
//! | any whose first line is a comment with a path | is written there |
//! | `console` | each line that begins with `$ ` is run by sh; the lines up to the next one are what it prints, all of it |
//! | `toml` | a part is laid over the machine's file; `evenly check` says that it is valid |
//! | `yaml` | is parsed |
//! | `promql` | promtool parses each line, and evenly exports the series that it names |
//! | `dockerfile`, `logrotate`, `ini` | the commands beside it use it |
//!
//! A command that ends with another exit code than 0 is followed by `$ echo $?`, as one who reads the page would see it. In what is
//! printed `...` stands for anything, alone on a line for any number of lines; times and the numbers of processes and generations are not compared, nor is how
//! much white space there is. What happens to the machine meanwhile is in [`SCENES`].

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::alerts;
use crate::harness::{Client, Gate, Origin, Then, answer, body_of, until};
use crate::nameserver::NameServer;

/// What `evenly` listens on, and its admin listener.
const LISTEN: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9901";
/// Where the section that a machine is for is named.
const SECTION: &str = "GUIDE_SECTION";
/// Where the checkout is that this was built from.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
/// Programs that a machine may lack: what they are asked is not tested then, nor is, if what follows depends on it, the rest of the section.
const TOOLS: [(&str, bool); 3] =
    [("promtool", false), ("logrotate", true), ("systemd-analyze", false)];
/// Programs that are scripts here (`guide/bin`).
const SCRIPTS: [&str; 2] = ["systemctl", "journalctl"];
/// Programs that no test can have, each with what does its work: all that a section asks of one goes there.
const STAND_INS: [(&str, StandIn); 2] = [("docker", docker), ("kubectl", kubectl)];

/// What a command printed, and its exit code.
type Said = (String, i32);
type Act = fn(&mut Machine);
/// What does the work of a program with these arguments.
type StandIn = fn(&mut Machine, &[&str]) -> Said;

/// A section, and what happens while its commands are run.
struct Scene {
    title: &'static str,
    /// Whether `evenly run /etc/evenly.toml` runs when it begins.
    runs: bool,
    /// It needs root, in this machine's own users.
    root: bool,
    /// What happens before the command that begins like this; at the beginning if that is empty.
    acts: &'static [(&'static str, Act)],
    /// What is so at the end.
    end: Act,
}

const SCENES: &[Scene] = &[
    Scene { title: "What the examples use", ..Scene::QUIET },
    Scene {
        title: "Why is a target out?",
        acts: &[
            ("", |machine| {
                machine.apis[0].stop();
                machine.until_state("api-1:8001", "down");
            }),
            ("evenly why api-1:8001 >", |machine| machine.apis[0].restart()),
        ],
        ..Scene::QUIET
    },
    Scene {
        title: "What does this 502, 503 or 504 mean?",
        acts: &[("curl -si http://127.0.0.1:8080/", |machine| {
            machine.apis.iter_mut().for_each(Origin::stop);
            machine.until_state("api-1:8001", "down");
            machine.until_state("api-2:8001", "down");
        })],
        ..Scene::QUIET
    },
    Scene { title: "Why did this request go there?", ..Scene::QUIET },
    Scene {
        title: "Take a target out, and put it back",
        acts: &[("", Machine::load)],
        end: |machine| {
            machine.end_load();
            // The successor of the one that was started has what was decided; one that is started has not.
            machine.run("evenly drain api-1:8001");
            machine.until_state("api-1:8001", "drained");
            machine.run("evenly drain --wait");
            machine.start();
            machine.until_state("api-1:8001", "up");
        },
        ..Scene::QUIET
    },
    Scene {
        title: "Change the configuration",
        acts: &[("", Machine::load)],
        end: |machine| {
            machine.end_load();
            // The last thing on the page is watch.
            machine.run("evenly upgrade");
            let text = fs::read_to_string("/etc/evenly.toml").unwrap();
            fs::write("/etc/evenly.toml", format!("max_hops = 3\n{text}")).unwrap();
            machine.until_logged("max_hops 0 -> 3");
        },
        ..Scene::QUIET
    },
    Scene {
        title: "Roll back",
        acts: &[("", Machine::load)],
        end: Machine::end_load,
        ..Scene::QUIET
    },
    Scene {
        title: "Upgrade",
        acts: &[("", Machine::load)],
        end: |machine| {
            machine.end_load();
            assert_eq!(machine.exit_code(), Some(0));
        },
        ..Scene::QUIET
    },
    Scene {
        title: "Rotate the access log",
        acts: &[("", Machine::load)],
        end: |machine| {
            machine.end_load();
            let said = machine.run("curl -s http://127.0.0.1:9901/metrics | grep entries_lost").0;
            assert!(said.contains("evenly_access_entries_lost_total 0\n"), "{said}");
        },
        ..Scene::QUIET
    },
    Scene {
        title: "Drain a machine",
        acts: &[
            ("", |machine| machine.hold()),
            ("evenly drain --wait", |machine| {
                let gate = Arc::clone(&machine.gate);
                let mut client = machine.clients.pop().expect("one that is held");
                let before = drains();
                thread::spawn(move || {
                    until("it drains again", || drains() > before);
                    gate.open();
                    assert_eq!(client.response().status, 200);
                });
            }),
        ],
        end: |machine| {
            assert_eq!(machine.exit_code(), Some(0));
            // A signal does the same, and a second one stops without waiting.
            for is_patient in [true, false] {
                machine.gate.close();
                machine.start();
                machine.hold();
                let before = drains();
                machine.signal(Signal::TERM);
                until("it drains", || drains() > before);
                match is_patient {
                    true => machine.gate.open(),
                    false => machine.signal(Signal::QUIT),
                }
                machine.clients.clear();
                assert_eq!(machine.exit_code(), Some(0));
                machine.gate.open();
            }
        },
        ..Scene::QUIET
    },
    Scene { title: "Restart without refusing anybody", ..Scene::QUIET },
    Scene { title: "Run it under systemd", runs: false, ..Scene::QUIET },
    Scene { title: "Let systemd hold the sockets", runs: false, ..Scene::QUIET },
    Scene { title: "Run it in a container", runs: false, ..Scene::QUIET },
    Scene { title: "Run it in Kubernetes", runs: false, end: pod, ..Scene::QUIET },
    Scene { title: "Watch it with Prometheus and Grafana", ..Scene::QUIET },
    Scene { title: "Give commands from another machine", ..Scene::QUIET },
    Scene { title: "Give it fewer rights", root: true, ..Scene::QUIET },
];

impl Scene {
    /// Nothing happens but what the page has.
    const QUIET: Scene = Scene { title: "", runs: true, root: false, acts: &[], end: |_| {} };
}

/// How often it has begun to drain.
fn drains() -> usize {
    fs::read_to_string("/var/log/journal").unwrap_or_default().matches(" draining: ").count()
}

/// A fenced block of the page.
struct Block {
    language: &'static str,
    lines: Vec<&'static str>,
    /// Its first line.
    at: usize,
}

impl Block {
    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The path that its first line names.
    fn path(&self) -> Option<&'static str> {
        let path = self.lines.first()?.strip_prefix("# ")?;
        (self.language != "console" && !path.contains(' ')).then_some(path)
    }
}

fn page() -> &'static str {
    static PAGE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PAGE.get_or_init(|| fs::read_to_string(format!("{CHECKOUT}/docs/operations.md")).unwrap())
}

/// The sections of the page, each with its title and its blocks.
fn sections() -> Vec<(&'static str, Vec<Block>)> {
    let mut sections = Vec::new();
    let mut open = false;
    for (at, line) in page().lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open) {
            (Some(language), false) => {
                let (_, blocks): &mut (_, Vec<Block>) = sections.last_mut().expect("a section");
                blocks.push(Block { language, lines: Vec::new(), at: at + 2 });
            }
            (None, true) => {
                let (_, blocks) = sections.last_mut().expect("a section");
                blocks.last_mut().expect("a block").lines.push(line);
            }
            (None, false) => {
                sections.extend(line.strip_prefix("## ").map(|title| (title, Vec::new())));
            }
            (Some(_), true) => {}
        }
        open ^= fence.is_some();
    }
    sections
}

/// The commands of a block, each with what the page says that it prints and with its line.
fn commands(block: &Block) -> Vec<(String, Vec<&'static str>, usize)> {
    let mut commands: Vec<(String, Vec<&str>, usize)> = Vec::new();
    for (nth, line) in block.lines.iter().enumerate() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new(), block.at + nth)),
            (None, Some((command, printed, _))) => match line.strip_prefix("> ") {
                Some(more) if printed.is_empty() => drop(write!(command, "\n{more}")),
                _ => printed.push(line),
            },
            (None, None) => panic!("line {}: no command prints {line:?}", block.at + nth),
        }
    }
    commands
}

/// A line as it is compared: single spaces, no times, no numbers of processes and generations.
fn plain(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let ends = |c: char| "(),;:\"'".contains(c);
        let (core, is_number) = (word.trim_matches(ends), |it: &str| {
            !it.is_empty() && it.chars().all(|c| c.is_ascii_digit() || c == '.')
        });
        let units = ["ms", "s", "m", "h", "d"];
        let is_time = units.iter().any(|unit| core.strip_suffix(unit).is_some_and(is_number))
            || core.ends_with('Z') && core.contains('T') && core.starts_with("20");
        let follows = |what: &str| words.last().is_some_and(|last| last == what);
        let shown = match () {
            () if is_time && follows("TIME") => {
                words.pop();
                word.replace(core, "TIME")
            }
            () if is_time => word.replace(core, "TIME"),
            // The last checks of a target.
            () if core.chars().all(|c| "+-".contains(c)) && core.len() > 1 => {
                core[core.len() - 1..].to_owned()
            }
            () if is_number(core) && ["process", "generation"].iter().any(|it| follows(it)) => {
                word.replace(core, "NUMBER")
            }
            () => word.to_owned(),
        };
        words.push(shown);
    }
    // "0.4 ms" is a time as well.
    let mut line = words.join(" ");
    while let Some(at) = line.find(" ms") {
        let from = line[..at].rfind(' ').map_or(0, |it| it + 1);
        line.replace_range(from..at + 3, "TIME");
    }
    line
}

/// Whether a line is as the page has it, where `...` is anything.
fn is_like(line: &str, shown: &str) -> bool {
    let parts: Vec<&str> = shown.split("...").collect();
    let Some(mut rest) = line.strip_prefix(parts[0]) else { return false };
    for part in &parts[1..] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    parts.len() > 1 && parts.last().is_some_and(|last| line.ends_with(last)) || rest.is_empty()
}

/// Whether these lines are as the page has them.
fn are_like(lines: &[String], shown: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, others)) if first == "..." => {
            (0..=lines.len()).any(|skipped| are_like(&lines[skipped..], others))
        }
        Some((first, others)) => lines
            .split_first()
            .is_some_and(|(line, rest)| is_like(line, first) && are_like(rest, others)),
    }
}

/// Whether a command changes nothing, so that it may be asked until what it is about has happened.
fn only_looks(command: &str) -> bool {
    let of_evenly = ["targets", "why ", "status", "explain "].map(|word| format!("evenly {word}"));
    let others = [
        "tail ",
        "grep ",
        "journalctl ",
        "ls ",
        "cat ",
        "curl -s http://127.0.0.1:9901/",
        "docker logs",
        "kubectl logs",
    ];
    of_evenly.iter().any(|it| command.starts_with(it))
        || others.iter().any(|it| command.starts_with(it))
}

/// The tool that a command needs and that is not here.
fn missing(command: &str) -> Option<(&'static str, bool)> {
    let path = std::env::var_os("PATH").unwrap();
    let is_here =
        |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    TOOLS
        .into_iter()
        .find(|(tool, _)| command.split_whitespace().any(|word| word == *tool) && !is_here(tool))
}

/// The machine of a section, seen from within.
struct Machine {
    /// Knows the targets.
    _names: NameServer,
    apis: [Origin; 2],
    evenly: Option<Child>,
    /// The exit code of the last command.
    code: i32,
    /// Connections that are kept.
    clients: Vec<Client>,
    load: Option<(Arc<AtomicBool>, JoinHandle<usize>)>,
    /// Requests for `/report` wait for it.
    gate: Arc<Gate>,
    container: Option<Container>,
}

impl Machine {
    fn new() -> Machine {
        let gate = Arc::<Gate>::default();
        let apis = ["10.0.0.11:8001", "10.0.0.12:8001"].map(|at| api(at, &gate));
        let names = NameServer::start_at("10.0.0.1:53".parse().unwrap());
        for (name, nths) in
            [("api-1", &[11][..]), ("api-2", &[12]), ("app.default.svc.cluster.local", &[11, 12])]
        {
            let ips: Vec<IpAddr> = nths.iter().map(|&nth| [10, 0, 0, nth].into()).collect();
            names.addresses(name, 60, &ips);
        }
        let clients = Vec::new();
        Machine {
            _names: names,
            apis,
            evenly: None,
            code: 0,
            clients,
            load: None,
            gate,
            container: None,
        }
    }

    /// Starts `evenly` by the file of the first section, and waits until it serves.
    fn start(&mut self) {
        let (_, blocks) = &sections()[0];
        blocks.iter().for_each(|block| self.file(block));
        let journal = File::options().create(true).append(true).open("/var/log/journal").unwrap();
        let child = Command::new("evenly")
            .args(["run", "/etc/evenly.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(journal)
            .spawn();
        let child = child.unwrap();
        fs::write("/run/main.pid", child.id().to_string()).unwrap();
        self.evenly = Some(child);
        until("it serves", || self.run("evenly status").1 == 0);
        self.code = 0;
    }

    /// Writes a block where its first line says.
    fn file(&mut self, block: &Block) {
        let Some(path) = block.path() else { return };
        let path = Path::new(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(path, block.text()).unwrap();
    }

    /// Runs a command: what it prints, and its exit code.
    fn run(&mut self, command: &str) -> Said {
        let words: Vec<&str> = command.split_whitespace().collect();
        if let Some((_, stand_in)) = STAND_INS.iter().find(|(name, _)| words[0] == *name) {
            return stand_in(self, &words[1..]);
        }
        // A file, since what goes on in the background would hold a pipe.
        let output = tempfile::NamedTempFile::new().unwrap();
        let handle = || Stdio::from(output.as_file().try_clone().unwrap());
        let script = format!("(exit {})\n{command}", self.code);
        let mut shell = Command::new("timeout");
        shell.args(["30", "sh", "-c", &script]).stdin(Stdio::null());
        let status = shell.stdout(handle()).stderr(handle()).status().unwrap();
        let printed = fs::read_to_string(output.path()).unwrap();
        (printed, status.code().unwrap_or(128))
    }

    /// Runs the command of a line, and compares what it prints.
    fn compare(&mut self, command: &str, printed: &[&str], at: usize) {
        let shown: Vec<String> = printed.iter().map(|line| plain(line)).collect();
        let mut said = (String::new(), 0);
        let mut is_as_shown = |machine: &mut Machine| {
            said = machine.run(command);
            let lines: Vec<String> = said.0.lines().map(plain).collect();
            are_like(&lines, &shown)
        };
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        let mut is_it = is_as_shown(self);
        while !is_it && only_looks(command) && std::time::Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            is_it = is_as_shown(self);
        }
        assert!(
            is_it,
            "docs/operations.md:{at}: {command}\nprinted, with exit code {}:\n{}\nthe page has:\n{}",
            said.1,
            said.0,
            printed.join("\n"),
        );
        println!("$ {command}\n{}", said.0);
        self.code = said.1;
    }

    fn journal(&self) -> String {
        fs::read_to_string("/var/log/journal").unwrap_or_default()
    }

    /// Waits for these words in what it wrote to standard error.
    #[track_caller]
    fn until_logged(&self, words: &str) {
        until(words, || self.journal().contains(words));
    }

    /// Waits until this endpoint is in this state.
    #[track_caller]
    fn until_state(&mut self, target: &str, state: &str) {
        let words = format!(" is {state} for ");
        until(&words, || self.run(&format!("evenly why {target}")).0.contains(&words));
    }

    /// Requests come until the end of the section, and none of them may fail.
    fn load(&mut self) {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut served = 0;
            while !stop.load(Ordering::SeqCst) {
                let response = Client::to(LISTEN.parse().unwrap()).get("/");
                assert_eq!(response.status, 200, "{}", response.text());
                served += 1;
            }
            served
        });
        self.load = Some((over, thread));
    }

    /// No request failed.
    fn end_load(&mut self) {
        let (over, thread) = self.load.take().expect("requests");
        over.store(true, Ordering::SeqCst);
        assert!(thread.join().expect("no request failed") > 0);
    }

    /// A request is with a target until the gate is opened.
    fn hold(&mut self) {
        let requests = |machine: &Machine| machine.apis.iter().map(Origin::requests).sum::<usize>();
        let before = requests(self);
        let mut client = Client::to(LISTEN.parse().unwrap());
        client.send("GET /report HTTP/1.1\r\nHost: a\r\n\r\n");
        self.clients.push(client);
        until("the request is with a target", || requests(self) > before);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.evenly.as_ref().expect("it runs")), signal).unwrap();
    }

    /// The exit code of the `evenly` that was started.
    #[track_caller]
    fn exit_code(&mut self) -> Option<i32> {
        let mut evenly = self.evenly.take().expect("it runs");
        let mut status = None;
        until("its end", || {
            status = evenly.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the journal:\n{}", self.journal());
        }
    }
}

/// A target: `/orders` ends without a response, `/report` waits for the gate.
fn api(address: &str, gate: &Arc<Gate>) -> Origin {
    let (address, gate) = (address.parse().unwrap(), Arc::clone(gate));
    Origin::start_at(address, move |wire, head| {
        if body_of(wire, head).is_err() || head.target() == "/orders" {
            return Then::Close;
        }
        if head.target() == "/report" {
            gate.wait();
        }
        answer(wire, "ok\n")
    })
}

#[test]
#[ignore = "runs a section of the guide on a machine that the other tests make for it"]
fn inside() {
    let Ok(title) = std::env::var(SECTION) else { return };
    let scene = SCENES.iter().find(|scene| scene.title == title).expect("a scene");
    let (_, blocks) = sections().into_iter().find(|(it, _)| *it == title).expect("a section");
    let mut machine = Machine::new();
    match scene.runs {
        true => machine.start(),
        false => sections()[0].1.iter().for_each(|block| machine.file(block)),
    }
    let mut acts: Vec<_> = scene.acts.to_vec();
    let mut act = |machine: &mut Machine, command: &str| {
        if let Some(at) = acts.iter().position(|(prefix, _)| match prefix.is_empty() {
            true => command.is_empty(),
            false => command.starts_with(prefix),
        }) {
            acts.remove(at).1(machine);
        }
    };
    act(&mut machine, "");
    'section: for block in &blocks {
        machine.file(block);
        match block.language {
            "console" => {
                let commands = commands(block);
                for (at, (command, printed, line)) in commands.iter().enumerate() {
                    act(&mut machine, command);
                    if let Some((tool, rest_too)) = missing(command) {
                        println!("skipped: there is no {tool} here for: {command}");
                        match rest_too {
                            true => break 'section,
                            false => continue,
                        }
                    }
                    machine.compare(command, printed, *line);
                    let asks = commands.get(at + 1).is_some_and(|(next, ..)| next == "echo $?");
                    assert!(machine.code == 0 || asks, "line {line}: exit code {}", machine.code);
                }
            }
            "toml" => check(&mut machine, block),
            "yaml" => drop(yaml(&block.text())),
            "promql" => queries(block),
            "dockerfile" | "logrotate" | "ini" => {
                assert!(block.path().is_some(), "line {}", block.at);
            }
            other => panic!("line {}: nobody knows what to do with {other:?}", block.at),
        }
    }
    (scene.end)(&mut machine);
    let left: Vec<_> = acts.iter().map(|(command, _)| command).collect();
    assert!(left.is_empty(), "no command begins like these: {left:?}");
    assert!(!machine.journal().contains("panic"), "{}", machine.journal());
}

/// Lays a part of a configuration over the file of the machine: a table takes the place of the one with its name, what stands before
/// the first table comes in front. Whole or in part, `evenly check` must say that the file is valid.
fn check(machine: &mut Machine, block: &Block) {
    let tables = |text: &str| {
        let mut tables = vec![String::new()];
        for line in text.lines() {
            if line.starts_with('[') {
                tables.push(String::new());
            }
            *tables.last_mut().expect("one") += &format!("{line}\n");
        }
        tables
    };
    let path = "/etc/evenly.toml";
    if block.path().is_none() {
        let mut new = tables(&block.text());
        let title = |table: &String| table.lines().next().map(str::to_owned);
        let titles: Vec<_> = new.iter().skip(1).map(title).collect();
        let mut old = tables(&fs::read_to_string(path).unwrap());
        let old_head = old.remove(0);
        old.retain(|table| !titles.contains(&title(table)));
        let head = new.remove(0) + &old_head;
        fs::write(path, [vec![head], old, new].concat().concat()).unwrap();
    }
    let path = block.path().unwrap_or(path);
    let (said, code) = machine.run(&format!("evenly check {path}"));
    machine.code = 0;
    assert_eq!(code, 0, "line {}: {said}", block.at);
}

/// The documents of a YAML file; `None` where nothing can read it.
fn yaml(text: &str) -> Option<Vec<Value>> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let can = Command::new("python3").args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("skipped: there is no python3 with yaml (Debian's package python3-yaml)");
        return None;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let input = File::open(file.path()).unwrap();
    let output = Command::new("python3").args(["-c", script]).stdin(input).output().unwrap();
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{fault}\n{text}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Queries, a line each, perhaps with a comment behind.
fn queries(block: &Block) {
    let queries: Vec<&str> = block
        .lines
        .iter()
        .map(|line| line.split(" # ").next().unwrap_or_default().trim())
        .collect();
    alerts::can_be_parsed(&queries);
    alerts::are_exported(&queries);
}

/// A process that is alone on its machine, as in a container: process 1, a user without rights, nothing to write on but what was mounted.
struct Container {
    /// `unshare`, which ends as the process does.
    child: Child,
    pid: Pid,
    /// The files of the ConfigMap, if it has one.
    config: PathBuf,
}

/// What a container is made of.
#[derive(Default)]
struct Image {
    /// Each file or folder with where it is in the container.
    mounts: Vec<(PathBuf, String)>,
    /// Folders that can be written.
    writable: Vec<String>,
    user: String,
    arguments: Vec<String>,
}

impl Container {
    fn start(image: &Image, config: PathBuf) -> Container {
        assert!(image.user.parse().is_ok_and(|user: u32| user > 0), "user {}", image.user);
        let mut script = String::from("set -e\n");
        for folder in &image.writable {
            writeln!(script, "mkdir -p {folder}; mount -t tmpfs -o mode=1777 none {folder}")
                .unwrap();
        }
        for (from, to) in &image.mounts {
            let from = from.display();
            writeln!(script, "mkdir -p $(dirname {to}); test -d {from} && mkdir -p {to} || test -e {to} || : >{to}; mount --bind {from} {to}").unwrap();
        }
        // What can be written of the rest is all mounts that there are.
        script += "for at in / /etc /usr/local/bin /var/log /var/lib /opt /run; do mount -o remount,bind,ro $at; done\n";
        script += "for at in / /etc /var/log /run; do if touch $at/written 2>/dev/null; then echo \"$at can be written\" >&2; exit 1; fi; done\n";
        let (user, arguments) = (&image.user, image.arguments.join(" "));
        writeln!(
            script,
            "cd /; exec unshare --user --map-user={user} --map-group={user} env -i PATH=/usr/local/bin:/usr/bin:/bin {arguments}"
        )
        .unwrap();
        let journal = File::options().create(true).append(true).open("/var/log/journal").unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(journal)
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let mut pid = None;
        until("process 1", || {
            let text = fs::read_to_string(&children).unwrap_or_default();
            pid = text.trim().parse().ok().and_then(Pid::from_raw);
            pid.is_some()
        });
        let container = Container { child, pid: pid.unwrap(), config };
        until("it serves", || container.run(&["evenly", "status"]).1 == 0);
        container
    }

    /// Runs a command in it.
    fn run(&self, arguments: &[&str]) -> Said {
        let pid = self.pid.as_raw_nonzero().to_string();
        let output = Command::new("nsenter")
            .args(["--target", &pid, "--user", "--preserve-credentials", "--mount", "--pid"])
            .args(arguments)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code().unwrap_or(128))
    }

    /// Its exit code.
    #[track_caller]
    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("the end of the container", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

/// The words of a list in JSON, as `ENTRYPOINT` has them.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap()
}

/// docker: `build` finds what the Containerfile needs, `run` runs it as that and the options say, and knows no others.
fn docker(machine: &mut Machine, arguments: &[&str]) -> Said {
    match arguments {
        ["build", "--tag", "evenly", "."] => drop(image()),
        ["run", options @ .., "evenly"] => {
            let mut image = image();
            let mut options = options.iter();
            while let Some(option) = options.next() {
                match *option {
                    "--detach" | "--read-only" | "--rm" => {}
                    "--name" | "--network" | "--stop-timeout" => drop(options.next()),
                    "--tmpfs" => image.writable.push((*options.next().unwrap()).to_owned()),
                    "--volume" => {
                        let parts: Vec<&str> = options.next().unwrap().split(':').collect();
                        image
                            .mounts
                            .push((fs::canonicalize(parts[0]).unwrap(), parts[1].to_owned()));
                    }
                    other => panic!("docker run {other}: not that this test knew"),
                }
            }
            machine.container = Some(Container::start(&image, PathBuf::new()));
        }
        ["exec", "evenly", command @ ..] => {
            return machine.container.as_ref().unwrap().run(command);
        }
        ["logs", "evenly"] => return (machine.journal(), 0),
        ["stop", "evenly"] => {
            let container = machine.container.as_mut().unwrap();
            kill_process(container.pid, Signal::TERM).unwrap();
            assert_eq!(container.exit_code(), Some(0), "{}", machine.journal());
        }
        other => panic!("docker {other:?}: not that this test knew"),
    }
    ("done by a stand-in\n".to_owned(), 0)
}

/// What the Containerfile says.
fn image() -> Image {
    let mut image = Image::default();
    let (mut entry, mut command) = (Vec::new(), Vec::new());
    for line in fs::read_to_string("Containerfile").unwrap().lines() {
        let Some((word, rest)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        match word {
            // Nothing of it is here: the programs of this machine are used.
            "FROM" => assert!(rest.starts_with("debian:"), "{line}"),
            "COPY" => {
                let (from, to) = rest.split_once(' ').expect("two paths");
                image.mounts.push((fs::canonicalize(from).expect(from), to.to_owned()));
            }
            "USER" => image.user = rest.to_owned(),
            // What it says is for readers.
            "EXPOSE" => {
                assert!(
                    rest.split(' ').all(|port| LISTEN.ends_with(port) || ADMIN.ends_with(port))
                );
            }
            "ENTRYPOINT" => entry = words(rest),
            "CMD" => command = words(rest),
            other => panic!("{other}: not that this test knew"),
        }
    }
    image.arguments = [entry, command].concat();
    image
}

/// kubectl: `apply` does what the kubelet would with the ConfigMap and the Deployment of a file, `exec` runs a command there.
fn kubectl(machine: &mut Machine, arguments: &[&str]) -> Said {
    match arguments {
        ["apply", "--filename", file] => {
            if let Some(documents) = yaml(&fs::read_to_string(file).unwrap()) {
                apply(machine, &documents);
            }
        }
        ["exec", "deployment/evenly", "--", command @ ..] => {
            return machine.container.as_ref().expect("yaml can be read").run(command);
        }
        ["logs", "deployment/evenly"] => return (machine.journal(), 0),
        other => panic!("kubectl {other:?}: not that this test knew"),
    }
    ("done by a stand-in\n".to_owned(), 0)
}

/// The document of this kind.
fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|it| it["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// A ConfigMap as the kubelet has it in a folder: files are links by `..data` to a folder, which is replaced as a whole.
fn mount_config(folder: &Path, map: &Value) {
    let nth = fs::read_dir(folder).unwrap().count();
    let version = format!("..{nth}");
    fs::create_dir(folder.join(&version)).unwrap();
    for (name, text) in map["data"].as_object().unwrap() {
        fs::write(folder.join(&version).join(name), text.as_str().unwrap()).unwrap();
        let _ = std::os::unix::fs::symlink(format!("..data/{name}"), folder.join(name));
    }
    std::os::unix::fs::symlink(&version, folder.join("..new")).unwrap();
    fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
}

fn apply(machine: &mut Machine, documents: &[Value]) {
    let map = of_kind(documents, "ConfigMap");
    if let Some(container) = &machine.container {
        mount_config(&container.config, map);
        return;
    }
    let pod = &of_kind(documents, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let config = PathBuf::from("/run/config");
    fs::create_dir(&config).unwrap();
    mount_config(&config, map);
    let volume = |name: &Value| {
        pod["volumes"].as_array().unwrap().iter().find(|it| it["name"] == *name).unwrap()
    };
    let mut image =
        Image { user: pod["securityContext"]["runAsUser"].to_string(), ..Image::default() };
    for mount in container["volumeMounts"].as_array().unwrap() {
        let (path, volume) =
            (mount["mountPath"].as_str().unwrap().to_owned(), volume(&mount["name"]));
        match volume["configMap"]["name"] == map["metadata"]["name"] {
            true => image.mounts.push((config.clone(), path)),
            false => {
                assert!(volume["emptyDir"].is_object(), "{volume}");
                image.writable.push(path);
            }
        }
    }
    // The entry point is the image's.
    let (_, blocks) =
        sections().into_iter().find(|(title, _)| *title == "Run it in a container").unwrap();
    let file = blocks.iter().find(|block| block.language == "dockerfile").unwrap().text();
    let entry = file.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    let arguments =
        container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    image.arguments = words(entry).into_iter().chain(arguments).collect();
    machine.container = Some(Container::start(&image, config));
}

/// Plays a section on a machine of its own.
#[track_caller]
fn section(title: &str) {
    let scene = SCENES.iter().find(|scene| scene.title == title).expect("a scene");
    let own_users: &[&str] = if scene.root { &[] } else { &["--user", "--map-root-user"] };
    if scene.root && !rustix::process::geteuid().is_root() {
        println!("skipped: {title}: making users needs root");
        return;
    }
    let namespaces =
        ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
    for tool in [
        &["ip", "-V"][..],
        &["curl", "-V"],
        &[&["unshare"], own_users, &namespaces, &["true"]].concat(),
    ] {
        let tried = Command::new(tool[0]).args(&tool[1..]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            println!("skipped: {title}: this machine has no {}, or does not let it", tool[0]);
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(own_users)
        .args(namespaces)
        .arg(format!("{CHECKOUT}/tests/e2e/guide/machine.sh"))
        .arg(folder.path())
        .arg(env!("CARGO_BIN_EXE_evenly"))
        .arg(std::env::current_exe().unwrap())
        .args(["guide::inside", "--exact", "--ignored", "--nocapture"])
        .env(SECTION, title)
        .env("GUIDE_CHECKOUT", CHECKOUT)
        .env_remove("RUST_LOG")
        .env_remove("EVENLY_LOG")
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    if std::env::var_os("SHOW").is_some() {
        println!("{said}");
    }
    said.lines().filter(|line| line.starts_with("skipped")).for_each(|line| println!("{line}"));
}

#[test]
fn the_file_of_the_examples_is_valid() {
    section("What the examples use");
}

#[test]
fn why_a_target_is_out() {
    section("Why is a target out?");
}

#[test]
fn what_a_502_a_503_or_a_504_means() {
    section("What does this 502, 503 or 504 mean?");
}

#[test]
fn why_a_request_goes_where_it_goes() {
    section("Why did this request go there?");
}

#[test]
fn a_target_is_taken_out_and_put_back() {
    section("Take a target out, and put it back");
}

#[test]
fn the_configuration_is_changed() {
    section("Change the configuration");
}

#[test]
fn a_reload_and_a_program_are_rolled_back() {
    section("Roll back");
}

#[test]
fn the_program_is_upgraded() {
    section("Upgrade");
}

#[test]
fn the_access_log_is_rotated() {
    section("Rotate the access log");
}

#[test]
fn a_machine_is_drained() {
    section("Drain a machine");
}

#[test]
fn a_restart_refuses_nobody() {
    section("Restart without refusing anybody");
}

#[test]
fn it_runs_by_its_unit() {
    section("Run it under systemd");
}

#[test]
fn systemd_holds_the_sockets() {
    section("Let systemd hold the sockets");
}

#[test]
fn it_runs_in_a_container() {
    section("Run it in a container");
}

#[test]
fn it_runs_in_a_pod() {
    section("Run it in Kubernetes");
}

#[test]
fn prometheus_and_grafana_watch_it() {
    section("Watch it with Prometheus and Grafana");
}

#[test]
fn commands_come_from_another_machine() {
    section("Give commands from another machine");
}

#[test]
fn it_has_fewer_rights() {
    section("Give it fewer rights");
}

#[test]
fn every_section_of_the_guide_has_a_scene_and_a_test() {
    let titles: Vec<&str> = sections().into_iter().map(|(title, _)| title).collect();
    let scenes: Vec<&str> = SCENES.iter().map(|scene| scene.title).collect();
    assert_eq!(titles, scenes);
    let here = fs::read_to_string(format!("{CHECKOUT}/tests/e2e/guide.rs")).unwrap();
    for title in titles {
        assert!(here.contains(&format!("section(\"{title}\");")), "{title} has no test");
    }
}

#[test]
fn what_stands_in_for_a_program_is_for_one_that_the_guide_uses() {
    let sections = sections();
    let blocks =
        sections.iter().flat_map(|(_, blocks)| blocks).filter(|it| it.language == "console");
    let commands: Vec<String> = blocks.flat_map(commands).map(|(command, ..)| command).collect();
    let stand_ins = STAND_INS.iter().map(|(name, _)| *name);
    for name in stand_ins.chain(TOOLS.map(|(name, _)| name)).chain(SCRIPTS) {
        let uses = |command: &String| command.split_whitespace().any(|word| word == name);
        assert!(commands.iter().any(uses), "no command uses {name}");
    }
    for name in SCRIPTS {
        assert!(Path::new(&format!("{CHECKOUT}/tests/e2e/guide/bin/{name}")).exists(), "{name}");
    }
}

#[test]
fn commands_and_keys_in_the_text_of_the_guide_are_there() {
    let outside: String = page().split("```").step_by(2).collect();
    let spans = outside.split('`').skip(1).step_by(2);
    let mut asked = 0;
    for span in spans {
        let words: Vec<&str> = span.split(' ').collect();
        let tables = ["timeouts", "limits", "health", "admin", "tcp", "dns", "log", "ejection"];
        let is_key =
            |word: &str| word.split_once('.').is_some_and(|(table, _)| tables.contains(&table));
        let arguments = match *words {
            ["evenly", command, ..] => vec![command, "--help"],
            [key] if is_key(key) => vec!["keys", key],
            _ => continue,
        };
        let output = Command::new(env!("CARGO_BIN_EXE_evenly")).args(&arguments).output().unwrap();
        assert!(output.status.success(), "`{span}`: {}", String::from_utf8_lossy(&output.stderr));
        asked += 1;
    }
    assert!(asked > 40, "{asked}");
}

#[test]
fn what_is_printed_is_compared_line_by_line() {
    let like = |lines: &str, shown: &str| {
        let plain = |text: &str| text.lines().map(plain).collect::<Vec<_>>();
        are_like(&plain(lines), &plain(shown))
    };
    assert!(like("a  up  1m 4s  +++\nb", "a up 3h ++\nb"));
    assert!(like(
        "process 12 serves, generation 5; 0.4 ms",
        "process 7 serves, generation 6; 12.0 ms"
    ));
    assert!(like("a\nb\nc", "a\n...\nc") && like("a\nc", "a\n...\nc") && like("a b c", "a ... c"));
    assert!(like(
        "2026-12-01T15:22:37.846Z INFO up: 200 in 3 ms;",
        "2026-11-01T02:00:00.005Z INFO up: 200 in 1 ms;"
    ));
    for (lines, shown) in [
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("a b c", "a ... d"),
        ("a b c", "b ... c"),
        ("502", "503"),
        ("+++-", "+++"),
        ("generation 5", "process 5"),
        ("healthy endpoints: 1", "healthy endpoints: 2"),
        ("a b c d", "a ... c"),
    ] {
        assert!(!like(lines, shown), "{lines:?} {shown:?}");
    }
}

/// What the kubelet does with the Pod: it asks its probes, and stops it.
fn pod(machine: &mut Machine) {
    let (_, blocks) =
        sections().into_iter().find(|(title, _)| *title == "Run it in Kubernetes").unwrap();
    let text = blocks.iter().find(|block| block.language == "yaml").unwrap().text();
    let Some(documents) = yaml(&text) else { return };
    let pod = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |name: &Value| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|it| it["name"] == *name).expect("a port of this name")["containerPort"]
            .clone()
    };
    // From where the kubelet is.
    let probe = |machine: &mut Machine, name: &str| {
        let get = &container[name]["httpGet"];
        let (path, port) = (get["path"].as_str().unwrap(), port(&get["port"]));
        machine
            .run(&format!("curl -s -o /dev/null -w '%{{http_code}}' http://10.0.0.1:{port}{path}"))
            .0
    };
    for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
        if container[name].is_object() {
            assert_eq!(probe(machine, name), "200", "{name}");
        }
    }
    let service = &of_kind(&documents, "Service")["spec"];
    let http = port(&service["ports"][0]["targetPort"]);
    assert!(LISTEN.ends_with(&format!(":{http}")));
    assert_eq!(
        service["selector"],
        of_kind(&documents, "Deployment")["spec"]["selector"]["matchLabels"]
    );
    assert!(container["lifecycle"].is_null(), "a hook that this test does not try");
    let pid = machine.container.as_ref().unwrap().pid;
    kill_process(pid, Signal::TERM).unwrap();
    until("it is not ready", || probe(machine, "readinessProbe") == "503");
    assert_eq!(probe(machine, "livenessProbe"), "200");
    let response = Client::to(LISTEN.parse().unwrap()).get("/");
    assert!(response.status == 200 && response.closes(), "{response:?}");
    // The times of the file, which it has with some to spare.
    let map = &of_kind(&documents, "ConfigMap")["data"]["evenly.toml"];
    let delay = map
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("drain_delay = \""))
        .unwrap();
    let delay: u64 = delay.trim_end_matches("s\"").parse().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= delay + 30 + 5);
    // A second signal, so that nobody waits for so long.
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(machine.container.as_mut().unwrap().exit_code(), Some(0), "{}", machine.journal());
}
