//! Upgrades: another process takes the place of the one that serves, and no client notices; or it does not, and nothing has changed.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Client, End, Evenly, Meeting, Origin, Start, answer, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
/// A test that has no use for the whole drain.
const SHORT_DRAIN: &str = "[timeouts]\ndrain = \"2s\"\n";

/// An evenly and its successors. Dropping it ends them all.
struct Service {
    first: Option<Evenly>,
    /// Its file, which successors read.
    file: PathBuf,
    folder: TempDir,
    /// Those that served last and before.
    served: Mutex<Vec<u32>>,
}

impl Service {
    #[track_caller]
    fn before(targets: &[&Origin], toml: &str) -> Service {
        Service::start(targets, &[], toml, "exec \"$0\" \"$@\"")
    }

    /// Started by a script, with the program as `$0`.
    #[track_caller]
    fn start(targets: &[&Origin], watched: &[&Origin], toml: &str, script: &str) -> Service {
        Service::made(targets, watched, toml, script, None)
    }

    /// Likewise, with this as its standard input.
    #[track_caller]
    fn with_input(
        targets: &[&Origin],
        toml: &str,
        script: &str,
        input: Option<OwnedFd>,
    ) -> Service {
        Service::made(targets, &[], toml, script, input)
    }

    #[track_caller]
    fn made(
        targets: &[&Origin],
        watched: &[&Origin],
        toml: &str,
        script: &str,
        input: Option<OwnedFd>,
    ) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("evenly.toml");
        let mut service = Service { first: None, file, folder, served: Mutex::default() };
        service.write(targets, watched, toml);
        let config: &'static str = String::leak(format!("{}", service.file.display()));
        let mut start = Start::before(&[]).through(script).bare(&["run", "--config", config]);
        if let Some(input) = input {
            start = start.input(input);
        }
        service.first = Some(start.start());
        service
    }

    /// Writes its file: two workers, one listener, and what `toml` says.
    fn write(&self, targets: &[&Origin], watched: &[&Origin], toml: &str) {
        let head = if toml.contains("workers") { "" } else { "workers = 2\n" };
        let listen = if toml.contains("listen =") { "" } else { "listen = [\"127.0.0.1:0\"]\n" };
        let admin = format!(
            "[admin]\nlisten = \"127.0.0.1:0\"\nsocket = {:?}\n",
            self.folder.path().join("evenly.sock")
        );
        let mut text = format!("{head}{listen}{toml}\n{admin}");
        for target in targets {
            let check = "health_check_endpoint = \"/healthz\"";
            text += &format!("[[targets]]\naddress = \"{}\"\n{check}\n", target.target());
            if watched.iter().any(|it| it.target() == target.target()) {
                text += "interval = \"100ms\"\nrise = 100\n";
            }
        }
        std::fs::write(&self.file, text).unwrap();
    }

    fn evenly(&self) -> &Evenly {
        self.first.as_ref().unwrap()
    }

    fn evenly_mut(&mut self) -> &mut Evenly {
        self.first.as_mut().unwrap()
    }

    fn client(&self) -> Client {
        self.evenly().client()
    }

    /// What a command to it says, and its exit code.
    fn command(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(arguments)
            .arg("--socket")
            .arg(self.folder.path().join("evenly.sock"))
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        for line in said.lines() {
            self.served.lock().unwrap().extend(successor_in(line));
        }
        (said, output.status.code())
    }

    /// Has a successor serve: its process.
    #[track_caller]
    fn upgrade(&self) -> u32 {
        let (said, code) = self.command(&["upgrade"]);
        assert_eq!(code, Some(0), "{said}");
        successor_in(&said).expect("it says which process serves")
    }

    /// Has an upgrade fail: why.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let (said, code) = self.command(&[&["upgrade"], arguments].concat());
        assert_eq!(code, Some(2), "{said}");
        said
    }

    /// A program of its own that is a shell script.
    fn program(&self, script: &str) -> String {
        let path = self.folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn admin(&self, path: &str) -> String {
        let log = self.evenly().log();
        let address = log.iter().find_map(|line| {
            Some(line.split_once("admin listening on http://")?.1.parse().unwrap())
        });
        Client::to(address.expect("its admin listener")).get(path).text().to_owned()
    }

    /// Each counter of `/metrics`, and what histograms count.
    fn counters(&self) -> BTreeMap<String, f64> {
        let text = self.admin("/metrics");
        let (mut found, mut counts) = (BTreeMap::new(), false);
        for line in text.lines() {
            if line.starts_with('#') {
                counts = line.ends_with(" counter") || line.ends_with(" histogram");
            } else if let Some((sample, value)) = line.rsplit_once(' ').filter(|_| counts) {
                found.insert(sample.to_owned(), value.parse().unwrap());
            }
        }
        found
    }

    #[track_caller]
    fn logs(&self, part: &str, count: usize) {
        until(part, || self.evenly().logged(part) == count);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let Some(evenly) = &self.first else { return };
        let logged: Vec<u32> = evenly.log().iter().filter_map(|line| successor_in(line)).collect();
        let mut served = self.served.lock().unwrap();
        served.extend(logged);
        for &pid in served.iter() {
            let called =
                std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if called.contains(self.folder.path().to_str().unwrap()) {
                // It may have ended already.
                let _ = kill_process(process(pid), Signal::KILL);
            }
        }
    }
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// The process of a line that says which one serves.
fn successor_in(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("upgraded: process ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Clients that ask without pause or with one, on connections that they keep as long as they may. What failed.
struct Crowd {
    over: AtomicBool,
    served: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Crowd {
    /// Does `work` among so many busy clients, and as many that pause between requests.
    #[track_caller]
    fn around(service: &Service, clients: usize, work: impl FnOnce(&Crowd)) -> usize {
        let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        let crowd = Crowd { over, served, failed: Mutex::default() };
        thread::scope(|scope| {
            for at in 0..2 * clients {
                let pause = if at < clients { 0 } else { 450 + 150 * (at - clients) / clients };
                let pause = Duration::from_millis(u64::try_from(pause).unwrap());
                let crowd = &crowd;
                scope.spawn(move || crowd.ask(service, pause));
            }
            let _end = EndOnDrop(&crowd.over);
            work(&crowd);
        });
        let failed = crowd.failed.into_inner().unwrap();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
        crowd.served.into_inner()
    }

    fn ask(&self, service: &Service, pause: Duration) {
        let address = service.evenly().address();
        let mut client: Option<Client> = None;
        while !self.over.load(Ordering::SeqCst) {
            let mut asks = client.take().unwrap_or_else(|| Client::to(address));
            let response = asks.try_send(GET).and_then(|()| asks.try_response());
            match response {
                Ok(response) if response.status == 200 => {
                    self.served.fetch_add(1, Ordering::SeqCst);
                    client = (!response.closes()).then_some(asks);
                }
                other => self.failed.lock().unwrap().push(format!("{other:?}")),
            }
            thread::sleep(pause);
        }
    }

    /// Waits until so many more requests were served.
    #[track_caller]
    fn serves(&self, more: usize) {
        let before = self.served.load(Ordering::SeqCst);
        until("requests", || self.served.load(Ordering::SeqCst) >= before + more);
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_was_decided_about_targets_goes_over_to_the_successor() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let service = Service::before(&[&a, &b], SHORT_DRAIN);
    let (said, code) = service.command(&["drain", &a.target()]);
    assert!(code == Some(0) && said.contains("drained by hand"), "{said}");
    let seen = || {
        let (said, _) = service.command(&["targets", "--json"]);
        let seen: serde_json::Value = serde_json::from_str(&said).unwrap();
        seen["targets"][0]["endpoints"][0].clone()
    };
    let before = seen();
    service.upgrade();
    let after = seen();
    assert_eq!((&before["state"], &after["state"]), (&"drained".into(), &"drained".into()));
    assert_eq!(before["override"], after["override"]);
    let time = |of: &serde_json::Value| of["for_seconds"].as_f64().unwrap();
    assert!(time(&after) >= time(&before), "{before} {after}");
    (0..4).for_each(|_| assert_eq!(service.client().get("/").text(), "b"));
    let (said, _) = service.command(&["auto", &a.target()]);
    assert!(said.contains("healthy endpoints: 2"), "{said}");
}

#[test]
fn no_request_fails_while_processes_take_one_anothers_place() {
    let origin = Origin::named("a");
    let mut service = Service::before(&[&origin], SHORT_DRAIN);
    let mut pids = Vec::new();
    Crowd::around(&service, 8, |crowd| {
        for _ in 0..4 {
            crowd.serves(200);
            pids.push(service.upgrade());
        }
        crowd.serves(200);
    });
    pids.dedup();
    assert_eq!(pids.len(), 4, "each is another process");
    assert_eq!(service.evenly_mut().own_exit_code(), Some(0));
}

#[test]
fn connections_that_wait_to_be_accepted_are_the_successors() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], SHORT_DRAIN);
    // Each worker is busy with what an errand of it waits for while connections come: the kernel has them.
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut waiting: Vec<Client> = (0..20).map(|_| service.client()).collect();
            waiting.iter_mut().for_each(|client| client.send(GET));
            service.upgrade();
            waiting.extend((0..20).map(|_| {
                let mut client = service.client();
                client.send(GET);
                client
            }));
            waiting
        })
        .collect();
    for mut client in clients.into_iter().flatten() {
        assert_eq!(client.response().text(), "a");
    }
}

#[test]
fn the_old_process_finishes_what_it_began_and_ends_with_0() {
    let meeting = std::sync::Arc::new(Meeting::of(2));
    let there = std::sync::Arc::clone(&meeting);
    let origin = Origin::start(move |wire, head| {
        if head.target() == "/slow" {
            there.wait();
        }
        answer(wire, "ok")
    });
    let mut service = Service::before(&[&origin], "");
    let (mut slow, mut idle) = (service.client(), service.client());
    assert_eq!(idle.get("/").status, 200);
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request is at the target", || origin.requests() == 2);
    service.upgrade();
    service.logs("draining: finishing 2 connections", 1);
    // Longer than an idle connection has in a stop.
    thread::sleep(Duration::from_millis(700));
    let response = idle.get("/");
    assert_eq!((response.status, response.closes()), (200, true), "it is asked to leave");
    assert_eq!(idle.end(), End::Fin);
    meeting.wait();
    let response = slow.response();
    assert_eq!((response.text(), response.closes()), ("ok", true));
    drop((slow, idle));
    assert_eq!(service.evenly_mut().own_exit_code(), Some(0));
    assert_eq!(service.client().get("/").status, 200);
}

#[test]
fn a_successor_that_does_not_come_to_serve_changes_nothing() {
    let origin = Origin::named("a");
    let toml = "[timeouts]\nupgrade = \"500ms\"\n";
    let mut service = Service::before(&[&origin], toml);
    let mut kept = service.client();
    assert_eq!(kept.get("/").text(), "a");
    let said = service.refused(&["--binary", &service.program("exit 7")]);
    assert!(said.contains("ended before it served (exit status: 7)"), "{said}");
    let said = service.refused(&["--binary", &service.program("exec sleep 30")]);
    assert!(said.contains("was not ready within 500ms (timeouts.upgrade)"), "{said}");
    let said = service.refused(&["--binary", "/nowhere/evenly"]);
    assert!(said.contains("/nowhere/evenly cannot be started"), "{said}");
    service.write(&[&origin], &[], "nonsense = 1\n");
    let said = service.refused(&[]);
    assert!(said.contains("evenly.toml:3") && said.contains("nonsense"), "{said}");
    // It has the control socket by then.
    service.write(&[&origin], &[], "[log]\naccess = \"/nowhere/access.log\"\n");
    let said = service.refused(&[]);
    assert!(said.contains("/nowhere/access.log"), "{said}");
    assert!(!kept.get("/").closes(), "its connection stays");
    assert_eq!(service.client().get("/").text(), "a");
    assert!(service.admin("/readyz").contains("ok"));
    assert!(!service.evenly_mut().has_ended());
    service.write(&[&origin], &[], toml);
    service.upgrade();
}

#[test]
fn an_upgrade_by_a_signal_is_the_same() {
    let origin = Origin::named("a");
    let mut service = Service::before(&[&origin], SHORT_DRAIN);
    service.evenly().signal(Signal::USR2);
    service.logs("upgraded: process ", 1);
    assert_eq!(service.client().get("/").text(), "a");
    assert_eq!(service.evenly_mut().own_exit_code(), Some(0));
    assert_eq!(service.client().get("/").text(), "a");
}

#[test]
fn counters_go_on_where_they_were_and_never_back() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], SHORT_DRAIN);
    let mut total = 0;
    let mut last = service.counters();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..5).map(|_| service.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let pid = service.upgrade();
        assert!(service.admin("/status").contains(&format!("\"pid\": {pid}")));
        // What the old process serves on counts too.
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        total += 10;
        drop(clients);
        until("all are counted", || {
            let now = service.counters();
            // How much CPU time a process has had is its own.
            for (name, count) in last.iter().filter(|(name, _)| !name.starts_with("process_")) {
                let is = now.get(name).copied().unwrap_or_default();
                assert!(is >= *count, "{name}: {is} after {count}");
            }
            last = now;
            let responses = "evenly_responses_total{method=\"GET\",code=\"200\"}";
            let counted = ["evenly_requests_total", responses].map(|name| last[name]);
            counted == [f64::from(total); 2]
        });
    }
}

#[test]
fn a_target_that_is_down_gets_nothing_from_a_successor() {
    let (up, down) = (Origin::named("up"), Origin::named("down"));
    down.set_healthy(false);
    // It takes a hundred checks, 10 s, to bring it up again.
    let service = Service::start(&[&up, &down], &[&down], SHORT_DRAIN, "exec \"$0\" \"$@\"");
    service.logs("is down: ", 1);
    down.set_healthy(true);
    for _ in 0..3 {
        service.upgrade();
        for _ in 0..10 {
            assert_eq!(service.client().get("/").text(), "up");
        }
    }
    assert_eq!(down.requests(), 0);
}

#[test]
fn more_workers_and_fewer_have_all_sockets() {
    let origin = Origin::named("a");
    let file = |workers: usize| format!("workers = {workers}\n{SHORT_DRAIN}");
    let service = Service::before(&[&origin], &file(2));
    Crowd::around(&service, 4, |crowd| {
        for workers in [4, 1, 3, 3, 1] {
            service.write(&[&origin], &[], &file(workers));
            service.upgrade();
            assert!(service.admin("/status").contains("\"stage\": \"running\""));
            crowd.serves(200);
        }
    });
}

#[test]
fn a_listener_that_is_no_longer_configured_goes_and_a_new_one_comes() {
    let origin = Origin::named("a");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let service = Service::before(&[&origin], SHORT_DRAIN);
    let old = service.evenly().address();
    let new = format!("listen = [\"{free}\"]\n{SHORT_DRAIN}");
    service.write(&[&origin], &[], &new);
    service.upgrade();
    assert_eq!(Client::to(free).get("/").text(), "a");
    until("nobody listens at the old one", || TcpStream::connect(old).is_err());
}

#[test]
fn during_an_upgrade_whatever_would_change_something_waits_or_is_refused() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], "[timeouts]\nupgrade = \"5s\"\n");
    let program = service.program("exec sleep 30");
    thread::scope(|scope| {
        let attempt = scope.spawn(|| service.refused(&["--binary", &program]));
        service.logs("is the successor, if it serves within", 1);
        for command in ["upgrade", "reload", "rollback"] {
            let (said, code) = service.command(&[command]);
            assert!(said.contains("an upgrade is under way") && code == Some(2), "{said}");
        }
        let (said, code) = service.command(&["reload", "--dry-run"]);
        assert!(said.contains("nothing would change") && code == Some(0), "{said}");
        service.evenly().signal(Signal::HUP);
        service.logs("reload: an upgrade is under way; it follows", 1);
        assert_eq!(service.client().get("/").text(), "a");
        assert!(attempt.join().unwrap().contains("was not ready"));
    });
    service.logs("reload: nothing has changed", 1);
}

#[test]
fn a_stop_during_an_upgrade_ends_the_successor() {
    let origin = Origin::named("a");
    let mut service = Service::before(&[&origin], "");
    let program = service.program("exec sleep 30");
    thread::scope(|scope| {
        let attempt = scope.spawn(|| service.refused(&["--binary", &program]));
        service.logs("is the successor, if it serves within", 1);
        service.evenly().signal(Signal::TERM);
        assert!(attempt.join().unwrap().contains("evenly is stopping"));
    });
    assert_eq!(service.evenly_mut().own_exit_code(), Some(0));
}

#[test]
fn a_signal_ends_a_process_that_waits_for_its_predecessor() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], "");
    let mut idle = service.client();
    assert_eq!(idle.get("/").status, 200);
    let middle = service.upgrade();
    service.upgrade();
    // It has nothing left to do but to pass on what the first one counts, which drains for 30 s.
    let begun = Instant::now();
    service.logs("draining: finishing 0 connections", 1);
    until("it ends", || {
        // The first one may come before it waits.
        let _ = kill_process(process(middle), Signal::TERM);
        service.evenly().logged("INFO  stopped") == 1
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(idle.get("/").status, 200);
}

#[test]
fn landlock_stays_in_force_where_a_successor_is_to_be_without_it_and_is_shown() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], "[security]\nlandlock = \"auto\"\n");
    service.logs("confined: ", 1);
    if service.evenly().logged("landlock ABI ") == 0 {
        return println!("skipped: this kernel has no Landlock");
    }
    for (number, lockdown) in [(2, "off"), (3, "auto"), (4, "off")] {
        service.write(&[&origin], &[], &format!("[security]\nlandlock = \"{lockdown}\"\n"));
        service.upgrade();
        service.logs("landlock ABI ", number);
    }
    service
        .logs("security.landlock is off, but the process whose place this one takes had it on", 2);
    assert_eq!(service.client().get("/").status, 200);
}

#[test]
fn a_process_that_drains_has_no_successor() {
    let origin = Origin::hanging();
    let service = Service::before(&[&origin], "");
    let mut client = service.client();
    client.send(GET);
    until("the request is at the target", || origin.requests() == 1);
    service.evenly().signal(Signal::TERM);
    service.logs("draining: ", 1);
    assert!(service.refused(&[]).contains("evenly is stopping"));
    service.evenly().signal(Signal::USR2);
    service.logs("SIGUSR2: no upgrade now", 1);
}

#[test]
fn the_service_manager_hears_which_process_is_the_main_one() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let script = format!(
        "export NOTIFY_SOCKET={} WATCHDOG_USEC=200000 WATCHDOG_PID=$$; exec \"$0\" \"$@\"",
        path.display()
    );
    let service = Service::start(&[&origin], &[], SHORT_DRAIN, &script);
    let heard = || {
        let mut room = [0; 4096];
        let count = manager.recv(&mut room).unwrap();
        String::from_utf8_lossy(&room[..count]).into_owned()
    };
    while !heard().contains("READY=1") {}
    let pid = service.upgrade();
    let mut since = Vec::new();
    while !since.iter().any(|it: &String| it.contains("READY=1")) {
        since.push(heard());
    }
    let at = since.iter().position(|it| it.contains(&format!("MAINPID={pid}")));
    assert!(since[at.unwrap()..].iter().all(|it| !it.contains("STOPPING")), "{since:?}");
    // The successor feeds the watchdog, although its number was the predecessor's.
    let begun = Instant::now();
    let mut fed = 0;
    while fed < 3 {
        let said = heard();
        assert!(!said.contains("STOPPING") && !said.contains("MAINPID"), "{said}");
        fed += usize::from(said.contains("WATCHDOG=1"));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// As a service manager passes its sockets on: one, by this name, at each of these descriptors.
fn passing(names: &str, descriptors: std::ops::Range<u32>) -> String {
    let count = descriptors.len();
    let dups: String = descriptors.map(|at| format!(" {at}<&0")).collect();
    format!(
        "exec{dups} </dev/null; export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; exec \"$0\" \"$@\""
    )
}

/// A service with a listening socket of this test's own, by a script.
fn activated(
    origin: &Origin,
    toml: impl Fn(std::net::SocketAddr) -> String,
    script: &str,
) -> Evenly {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("[[targets]]\naddress = \"{}\"\n", origin.target());
    let text = toml(listener.local_addr().unwrap()) + &target;
    Start::of(&text).input(listener.into()).through(script).begin()
}

#[test]
fn sockets_of_a_service_manager_are_listeners_and_an_upgrade_hands_them_over() {
    let origin = Origin::named("a");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It waits already, and nobody else listens there.
    let mut early = Client::to(address);
    early.send(GET);
    let toml = format!("listen = [\"{address}\"]\n{SHORT_DRAIN}");
    let service =
        Service::with_input(&[&origin], &toml, &passing("web", 3..4), Some(listener.into()));
    assert_eq!(early.response().text(), "a");
    for _ in 0..20 {
        assert_eq!(service.client().get("/").text(), "a");
    }
    service.upgrade();
    service.upgrade();
    assert_eq!(service.client().get("/").text(), "a");
}

#[test]
fn a_socket_that_is_called_admin_is_the_admin_listener() {
    let origin = Origin::named("a");
    let evenly = activated(
        &origin,
        |it| format!("listen = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"{it}\"\n"),
        &passing("admin", 3..4),
    );
    until("its admin listener", || evenly.logged("admin listening on http://") == 1);
    until("its listener", || evenly.logged("INFO  listening on http://") == 1);
}

#[test]
fn a_socket_that_is_not_configured_is_an_error_that_says_which() {
    let origin = Origin::named("a");
    let other = |_| "listen = [\"127.0.0.1:0\"]\n".to_owned();
    let own = |it| format!("listen = [\"{it}\"]\n");
    let file = "exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\"";
    let said = |evenly: &mut Evenly, parts: [&str; 2]| {
        assert_eq!(evenly.exit_code(), Some(2), "{:#?}", evenly.log());
        let log = evenly.log().join("\n");
        assert!(parts.iter().all(|part| log.contains(part)), "{log}");
    };
    said(
        &mut activated(&origin, other, &passing("web", 3..4)),
        ["descriptor 3 (\"web\") of LISTEN_FDS listens on", "which is not in listen"],
    );
    said(
        &mut activated(&origin, own, &passing("web:admin", 3..5)),
        ["descriptor 4 (\"admin\") of LISTEN_FDS", "admin.listen is not set"],
    );
    said(
        &mut activated(&origin, other, file),
        ["descriptor 3 (\"\") of LISTEN_FDS", "is not a listening TCP socket"],
    );
}

#[test]
fn variables_for_another_process_do_not_count() {
    let origin = Origin::named("a");
    let script = "export LISTEN_PID=1 LISTEN_FDS=1 EVENLY_PREDECESSOR=1; exec \"$0\" \"$@\"";
    let evenly = Start::before(&[&origin]).through(script).start();
    assert_eq!(evenly.client().get("/").text(), "a");
}

#[test]
fn a_predecessor_that_is_none_is_an_error_that_says_what_to_do() {
    let origin = Origin::named("a");
    let script = "EVENLY_PREDECESSOR=$$ \"$0\" \"$@\" </dev/null";
    let mut evenly = Start::before(&[&origin]).through(script).begin();
    assert_eq!(evenly.exit_code(), Some(1));
    assert_eq!(evenly.logged("unset EVENLY_PREDECESSOR"), 1, "{:#?}", evenly.log());
    // A script that stays between the two.
    let service = Service::before(&[&origin], "");
    let program = format!("{} \"$@\"; exit 7", env!("CARGO_BIN_EXE_evenly"));
    let said = service.refused(&["--binary", &service.program(&program)]);
    assert!(said.contains("exit status: 7"), "{said}");
    service.logs("a script that it starts must become evenly (exec)", 1);
}

#[test]
fn a_successor_whose_predecessor_is_killed_frees_the_addresses() {
    let origin = Origin::named("a");
    let health = "[health]\ninterval = \"1m\"\ntimeout = \"1m\"\n";
    let service = Service::before(&[&origin], health);
    // Its check says nothing, so that the successor has not served when its predecessor ends.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!(
        "{health}[[targets]]\naddress = \"{}\"\nhealth_check_endpoint = \"/\"\n",
        silent.local_addr().unwrap()
    );
    service.write(&[&origin], &[], &target);
    service.evenly().signal(Signal::USR2);
    let check = silent.accept().unwrap();
    service.evenly().signal(Signal::KILL);
    let address = service.evenly().address();
    until("the address is free", || std::net::TcpListener::bind(address).is_ok());
    drop(check);
    service.logs("it has ended, or wants no successor any more", 1);
}

#[test]
fn the_old_process_is_asked_by_what_its_successor_does_not_have() {
    let origin = Origin::named("a");
    let service = Service::before(&[&origin], "");
    let mut idle = service.client();
    assert_eq!(idle.get("/").status, 200);
    // Another control socket, and no admin listener.
    let text = std::fs::read_to_string(&service.file).unwrap();
    let (head, _) = text.split_once("[admin]").unwrap();
    let target = format!(
        "[[targets]]\naddress = \"{}\"\nhealth_check_endpoint = \"/healthz\"\n",
        origin.target()
    );
    let other =
        format!("{head}[admin]\nsocket = {:?}\n{target}", service.folder.path().join("other.sock"));
    std::fs::write(&service.file, other).unwrap();
    service.upgrade();
    assert!(service.admin("/readyz").contains("draining"));
    let (said, code) = service.command(&["undrain"]);
    assert!(said.contains("another process serves") && code == Some(2), "{said}");
    let (said, code) = service.command(&["drain"]);
    assert!(said.contains("already draining") && code == Some(0), "{said}");
    assert!(idle.get("/").closes());
}

#[test]
fn the_access_log_goes_on_in_the_successor() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let service = Service::before(&[&origin], &format!("[log]\naccess = {path:?}\n{SHORT_DRAIN}"));
    for round in 1..=3 {
        let mut client = service.client();
        client.get("/");
        service.upgrade();
        client.get("/");
        drop(client);
        let lines = || std::fs::read_to_string(&path).unwrap_or_default().lines().count();
        until("both have written", || lines() == 2 * round);
    }
}
