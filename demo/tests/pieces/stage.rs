//! The stage and the runner. `evenly` itself is not asked for here: a stand-in takes its place where one is needed.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use evenly_demo::stage::{PATIENCE, Piece, Plan, Programs, Service, Stage, Storage};
use hickory_proto::rr::{RData, RecordType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{addresses, collect, get, post, udp, wait_for};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

fn programs() -> Programs {
    Programs { folder: Path::new(DEMO).parent().unwrap().to_owned(), evenly: None }
}

fn stage() -> Stage {
    Stage::start(Plan::quiet(programs())).unwrap()
}

/// Exit code and output of the stage's client.
fn client(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let ended = stage.client().args(arguments).output().unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stdout).unwrap())
}

fn listens(at: SocketAddr) -> bool {
    TcpStream::connect(at).is_ok()
}

/// A program that does what `script` says in the place of `evenly`. Another process writes it: a file that this one has open
/// for writing cannot be run while any child still holds it.
fn stand_in(folder: &TempDir, script: &str) -> PathBuf {
    let file = folder.path().join("stand-in");
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
    assert!(writer.wait().unwrap().success());
    file
}

/// The runner with a stand-in for `evenly`, on free ports; killed at the end of its scope.
struct Runner {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
}

impl Runner {
    fn start(script: &str) -> Runner {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(DEMO)
            .arg("--free-ports")
            .arg("--evenly")
            .arg(stand_in(&folder, script))
            .env("STAND_IN", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = collect(child.stdout.take().unwrap());
        Runner { child, lines, folder }
    }

    #[track_caller]
    fn wait_for_line(&self, part: &str) -> String {
        wait_for(&format!("a line with `{part}`"), || {
            self.lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// Where a piece listens, by its log.
    fn address(&self, name: &str) -> SocketAddr {
        let line = self.wait_for_line(&format!("{name} listening on "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn pieces(&self) -> [SocketAddr; 4] {
        ["http-api-1", "http-api-2", "dns-authority", "dns-resolver"].map(|name| self.address(name))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, once all its pieces are gone.
    #[track_caller]
    fn wait_for_end(&mut self, pieces: &[SocketAddr]) -> Option<i32> {
        let status = wait_for("the runner's end", || self.child.try_wait().unwrap());
        for &piece in pieces {
            wait_for("the end of every piece", || (!listens(piece)).then_some(()));
        }
        status.code()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LISTENS: &str = "echo \"listening on http://127.0.0.1:9\"\nexec sleep 600";

#[test]
fn a_stage_has_two_apis_on_one_port_whose_names_lead_to_them() {
    let stage = stage();
    let [one, two] = [1, 2].map(|number| stage.address(Piece::Api(number)).unwrap());
    assert_eq!(
        (one.ip().to_string(), two.ip().to_string()),
        ("127.0.0.11".into(), "127.0.0.12".into())
    );
    assert_eq!(one.port(), two.port());
    for name in ["http-api-1", "http-api-2"] {
        let (code, out) = client(&stage, &["-i", &format!("http://{name}:{}/spells", one.port())]);
        assert_eq!(code, 0);
        assert!(out.contains(&format!("x-served-by: {name}\n")), "{out}");
    }
    let resolver = stage.address(Piece::Resolver).unwrap();
    let service = udp(resolver, "_http._tcp.spells.test.", RecordType::SRV);
    let ports = service.answers.iter().map(|record| match &record.data {
        RData::SRV(srv) => srv.port,
        other => panic!("{other}"),
    });
    assert_eq!(ports.collect::<Vec<_>>(), [one.port(); 2]);
}

#[test]
fn a_stopped_api_is_gone_and_comes_back_where_it_was() {
    let mut stage = stage();
    let piece = Piece::Api(1);
    let address = stage.address(piece).unwrap();
    let url = format!("http://http-api-1:{}/healthz", address.port());
    stage.stop(piece).unwrap();
    assert!(!stage.is_running(piece));
    assert_eq!(client(&stage, &[&url]).0, 7);
    stage.start_again(piece).unwrap();
    assert_eq!(stage.address(piece), Some(address));
    assert_eq!(client(&stage, &[&url]).0, 0);
    assert!(stage.died().unwrap().is_none(), "what was stopped has not died");
}

#[test]
fn an_api_and_an_address_can_be_added_and_taken_away() {
    let mut stage = stage();
    let third = stage.add_api(3).unwrap();
    assert_eq!(get(third, "/healthz").field("x-served-by"), Some("http-api-3"));
    assert!(stage.add_api(3).is_err() && stage.add_api(100).is_err());
    stage.edit_zone(|zone| zone.add("http-api-1", third.ip())).unwrap();
    let authority = stage.address(Piece::Authority).unwrap();
    let asked = || addresses(&udp(authority, "http-api-1.", RecordType::A));
    assert_eq!(asked(), ["127.0.0.11", "127.0.0.13"]);
    stage.edit_zone(|zone| zone.set("http-api-1", &[third.ip()])).unwrap();
    assert_eq!(asked(), ["127.0.0.13"]);
    let only = Service { priority: 0, weight: 9, port: 1, host: "http-api-1".to_owned() };
    stage.edit_zone(|zone| zone.set_service("_http._tcp.spells.test", &[only])).unwrap();
    let service = udp(authority, "_http._tcp.spells.test.", RecordType::SRV);
    assert_eq!(service.answers.len(), 1);
}

#[test]
fn spells_are_shared_if_the_plan_says_so() {
    let plan = Plan { storage: Storage::Shared, ..Plan::quiet(programs()) };
    let stage = Stage::start(plan).unwrap();
    let [one, two] = [1, 2].map(|number| stage.address(Piece::Api(number)).unwrap());
    assert_eq!(post(one, r#"{"id":3,"name":"Alohomora","description":""}"#).status, 201);
    assert_eq!(get(two, "/spells/3").status, 200);
}

#[test]
fn a_piece_that_dies_is_told_once() {
    let mut stage = stage();
    let pid = stage.pid(Piece::Resolver).unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    assert!(stage.died().unwrap().is_none());
    kill_process(pid, Signal::KILL).unwrap();
    let (piece, status) = wait_for("its death", || stage.died().unwrap());
    assert_eq!((piece, status.success()), (Piece::Resolver, false));
    assert!(stage.died().unwrap().is_none());
    stage.start_again(Piece::Resolver).unwrap();
    assert!(stage.is_running(Piece::Resolver));
}

#[test]
fn nothing_outlives_its_stage() {
    let stage = stage();
    let pieces = [Piece::Api(1), Piece::Api(2), Piece::Authority, Piece::Resolver];
    let addresses = pieces.map(|piece| stage.address(piece).unwrap());
    let folder = stage.folder().to_owned();
    assert!(addresses.into_iter().all(listens));
    stage.end();
    assert!(!addresses.into_iter().any(listens));
    assert!(!folder.exists());
}

#[test]
fn many_stages_can_stand_at_once() {
    let stages = [stage(), stage(), stage()];
    let mut ports = stages.each_ref().map(|stage| stage.address(Piece::Resolver).unwrap());
    ports.sort_unstable();
    assert!(ports.is_sorted_by(|one, next| one < next));
}

#[test]
fn evenly_is_told_names_and_whom_to_ask_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut programs = programs();
    programs.evenly = Some(stand_in(&folder, &format!("echo $1 $2\ncat \"$3\"\n{LISTENS}")));
    let stage = Stage::start(Plan::quiet(programs)).unwrap();
    let text = stage.journal().since(Piece::Evenly, stage.journal().start()).join("\n");
    let port = stage.address(Piece::Api(1)).unwrap().port();
    let resolver = stage.address(Piece::Resolver).unwrap();
    for part in [
        "run --config\n",
        "listen = \"127.0.0.1:0\"\n",
        &format!("[dns]\nservers = [\"{resolver}\"]\n"),
        &format!("address = \"http-api-1:{port}\"\nhealth_check_endpoint = \"/healthz\"\n"),
        &format!("address = \"http-api-2:{port}\"\nhealth_check_endpoint = \"/healthz\"\n"),
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(stage.url("/spells").as_deref(), Some("http://spells.test:9/spells"));
}

#[test]
fn a_piece_that_fails_at_its_start_is_named_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut programs = programs();
    programs.evenly = Some(stand_in(&folder, "echo that is no configuration >&2\nexit 2"));
    let why = Stage::start(Plan::quiet(programs)).err().unwrap().to_string();
    assert!(why.contains("evenly ended at its start, exit status: 2"), "{why}");
    assert!(why.contains("that is no configuration"), "{why}");
}

#[test]
fn a_line_is_waited_for_and_not_for_ever() {
    let stage = stage();
    let before = stage.journal().now();
    get(stage.address(Piece::Api(1)).unwrap(), "/spells/1");
    let line = stage.journal().wait_for(Piece::Api(1), before, "-> 200", PATIENCE).unwrap();
    assert_eq!(line, "GET /spells/1 -> 200");
}

#[test]
fn the_runner_says_what_to_type_and_ends_all_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut runner = Runner::start(LISTENS);
        let url = runner.wait_for_line("http://spells.test:9/spells");
        let resolver = runner.address("dns-resolver");
        assert!(url.contains(&format!("--resolver {resolver}")), "{url}");
        runner.wait_for_line("Ctrl-C ends all of it.");
        let pieces = runner.pieces();
        assert!(pieces.into_iter().all(listens));
        runner.signal(signal);
        assert_eq!(runner.wait_for_end(&pieces), Some(0));
    }
}

#[test]
fn the_runner_ends_with_an_error_when_a_piece_dies() {
    let script = "echo \"listening on http://127.0.0.1:9\"\n\
                  while ! [ -e \"$STAND_IN/die\" ]; do sleep 0.02; done\nexit 3";
    let mut runner = Runner::start(script);
    runner.wait_for_line("Everything runs");
    let pieces = runner.pieces();
    let errors = collect(runner.child.stderr.take().unwrap());
    fs::write(runner.folder.path().join("die"), "").unwrap();
    assert_eq!(runner.wait_for_end(&pieces), Some(1));
    wait_for("its last words", || {
        let errors = errors.lock().unwrap();
        errors.iter().any(|line| line == "demo: evenly has died, exit status: 3").then_some(())
    });
}

#[test]
fn a_runner_that_is_killed_takes_its_pieces_with_it() {
    let mut runner = Runner::start(LISTENS);
    runner.wait_for_line("Everything runs");
    let pieces = runner.pieces();
    runner.signal(Signal::KILL);
    assert_eq!(runner.wait_for_end(&pieces), None);
}

#[test]
fn the_runner_can_be_ended_while_it_starts() {
    let mut runner = Runner::start("exec sleep 600");
    let pieces = runner.pieces();
    runner.signal(Signal::TERM);
    assert_eq!(runner.wait_for_end(&pieces), Some(0));
}

#[test]
fn the_runner_says_when_evenly_is_not_there() {
    let ended = Command::new(DEMO).args(["--evenly", "/nowhere/evenly"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let why = String::from_utf8(ended.stderr).unwrap();
    assert!(why.contains("evenly is not at /nowhere/evenly; build it"), "{why}");
}
