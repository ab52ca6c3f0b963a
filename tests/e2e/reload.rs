//! Reload: the program reads its file again and answers, in its log or to the command that asked, and no connection notices.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Client, Evenly, Gate, Origin, PATIENCE, Start, answer, until};

/// Answers every request with its name, and some of them late.
fn origin(name: &'static str) -> Origin {
    Origin::start(move |wire, head| {
        if head.target() == "/slow" {
            thread::sleep(Duration::from_millis(300));
        }
        answer(wire, name)
    })
}

fn file(listen: &[&str], origins: &[&Origin], more: &str) -> String {
    let targets: String = origins
        .iter()
        .map(|origin| format!("[[targets]]\naddress = \"{}\"\n", origin.target()))
        .collect();
    format!("listen = {listen:?}\nworkers = 2\n{targets}{more}")
}

fn start(text: &str) -> Evenly {
    Start::of(text).start()
}

/// Who answers.
#[track_caller]
fn name(client: &mut Client) -> String {
    let response = client.get("/");
    assert_eq!(response.status, 200);
    response.text().to_owned()
}

const ANY: &[&str] = &["127.0.0.1:0"];

#[test]
fn targets_and_limits_change_while_a_connection_stays() {
    let (a, b) = (origin("a"), origin("b"));
    let evenly = start(&file(ANY, &[&a], ""));
    let mut client = evenly.client();
    assert_eq!(name(&mut client), "a");
    let said = evenly.reload(&file(ANY, &[&a, &b], "[timeouts]\nclient_idle = \"70s\"\n"));
    assert!(said.starts_with("reload: applied generation "), "{said}");
    assert!(said.contains("timeouts.client_idle \"75s\" -> \"70s\""), "{said}");
    assert!(said.contains(&format!("+ target {}", b.address)), "{said}");
    until("b gets requests", || name(&mut client) == "b");
    let said = evenly.reload(&file(ANY, &[&b], "[timeouts]\nclient_idle = \"70s\"\n"));
    assert!(said.contains(&format!("- target {}", a.address)), "{said}");
    until("a is gone", || name(&mut client) == "b" && name(&mut client) == "b");
    let before = a.requests();
    for _ in 0..10 {
        assert_eq!(name(&mut client), "b");
    }
    assert_eq!(a.requests(), before);
}

#[test]
fn a_name_takes_the_place_of_all_targets_when_it_was_looked_up_and_checked() {
    let (a, b) = (origin("a"), Origin::named_at("b", Ipv4Addr::LOCALHOST));
    let evenly = start(&file(ANY, &[&a], ""));
    let mut client = evenly.client();
    assert_eq!(name(&mut client), "a");
    let target = format!("[[targets]]\naddress = \"localhost:{}\"\n", b.address.port());
    let said = evenly.reload(&file(ANY, &[], &target));
    assert!(said.contains(&format!("+ target localhost:{}", b.address.port())), "{said}");
    // Somebody serves all the time.
    until("the name's address serves", || name(&mut client) == "b");
}

#[test]
fn a_file_that_is_not_valid_changes_nothing_and_says_where() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let mut client = evenly.client();
    let bad = [
        ("", "add a [[targets]] block"),
        ("nonsense", "evenly.toml:1"),
        ("[timeouts]\nconnect = \"soon\"\n", "timeouts.connect"),
    ];
    for (text, part) in bad {
        let said = evenly.reload(text);
        assert!(said.starts_with("reload refused: ") && said.contains(part), "{said}");
        assert_eq!(name(&mut client), "a");
    }
    let said = evenly.reload(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    assert!(said.contains("limits.headers 100 -> 50"), "a good one works: {said}");
}

#[test]
fn what_only_a_start_reads_is_refused_by_name() {
    let a = origin("a");
    let whole = file(ANY, &[&a], "");
    let evenly = start(&whole);
    let said = evenly.reload(&whole.replace("workers = 2", "workers = 3"));
    assert!(
        said.contains("refused: workers 2 -> 3: read at startup only; evenly upgrade or"),
        "{said}"
    );
    assert!(evenly.reload(&whole).contains("nothing has changed"));
}

#[test]
fn an_address_comes_and_goes_and_its_connections_stay() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let mut old = evenly.client();
    assert_eq!(name(&mut old), "a");
    // A port that is free, as far as that can be known.
    let new = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = evenly.reload(&file(&["127.0.0.1:0", &new.to_string()], &[&a], ""));
    assert!(said.contains("listen "), "{said}");
    for _ in 0..8 {
        assert_eq!(name(&mut Client::to(new)), "a");
    }
    let mut kept = Client::to(new);
    assert_eq!(name(&mut kept), "a");
    evenly.reload(&file(ANY, &[&a], ""));
    assert!(TcpStream::connect(new).is_err(), "nobody listens there any more");
    assert_eq!((name(&mut kept), name(&mut old)), ("a".to_owned(), "a".to_owned()));
    assert_eq!(name(&mut evenly.client()), "a");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = evenly.reload(&file(&["127.0.0.1:0", &address], &[&a], ""));
    assert!(said.contains("refused: ") && said.contains("another process has it"), "{said}");
    assert_eq!(name(&mut old), "a");
}

#[test]
fn a_request_without_a_host_gets_the_first_address_that_there_is() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let host = |address: SocketAddr| {
        let mut client = Client::to(address);
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.response().text(), "a");
        a.last_head().field("Host").unwrap().to_owned()
    };
    assert_eq!(host(evenly.address()), evenly.address().to_string());
    let new = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = evenly.reload(&file(&[&new.to_string()], &[&a], ""));
    assert!(said.contains("applied"), "{said}");
    assert_eq!(host(new), new.to_string());
}

#[test]
fn the_access_log_goes_where_the_new_file_says() {
    let a = origin("a");
    let folder = tempfile::tempdir().unwrap();
    let logs = ["one", "two"].map(|name| folder.path().join(name));
    let log = |at: usize| format!("[log]\naccess = {:?}\n", logs[at]);
    let lines = |at: usize| std::fs::read_to_string(&logs[at]).unwrap_or_default().lines().count();
    let evenly = start(&file(ANY, &[&a], ""));
    let mut client = evenly.client();
    client.get("/");
    evenly.reload(&file(ANY, &[&a], &log(0)));
    (0..3).for_each(|_| drop(client.get("/")));
    evenly.reload(&file(ANY, &[&a], &log(1)));
    (0..4).for_each(|_| drop(client.get("/")));
    evenly.reload(&file(ANY, &[&a], ""));
    client.get("/");
    until("all are written", || lines(0) == 3 && lines(1) == 4);
    let said = evenly.reload(&file(ANY, &[&a], "[log]\naccess = \"/nowhere/at/all\"\n"));
    assert!(said.contains("refused: ") && said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn no_request_fails_while_targets_come_and_go() {
    let (a, b, c) = (origin("a"), origin("b"), origin("c"));
    let evenly = start(&file(ANY, &[&a, &b], ""));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = evenly.client();
            (0..5).for_each(|_| assert_eq!(client.get("/slow").status, 200));
        });
        evenly.under_load(|| {
            for turn in 0..20 {
                let some = [vec![&a, &b], vec![&b, &c], vec![&c], vec![&a, &c]];
                let more = format!("[timeouts]\nupstream_idle = \"{}s\"\n", 30 + turn);
                let said = evenly.reload(&file(ANY, &some[turn % 4], &more));
                assert!(said.contains("applied generation"), "{said}");
                let served = || a.requests() + b.requests() + c.requests();
                let before = served();
                until("clients are served", || served() > before + 8);
            }
        });
    });
}

/// Evenly with a file that it watches; its text with `more`.
fn watched(a: &Origin) -> (Evenly, impl Fn(&str) -> String) {
    let target = a.target();
    let text = move |more: &str| {
        let listen = "listen = \"127.0.0.1:0\"\nworkers = 2\nwatch = true";
        format!("{listen}\n[[targets]]\naddress = \"{target}\"\n{more}")
    };
    (start(&text("")), text)
}

const OTHER: &str = "[limits]\nheaders = 50\n";

/// Waits until it says that it has applied [`OTHER`], the only thing that was to be applied.
#[track_caller]
fn applies_the_other(evenly: &Evenly) {
    until("it is applied", || evenly.logged("reload: applied") == 1);
    assert_eq!(evenly.logged("limits.headers 100 -> 50"), 1);
}

/// Moves a file with this text to the path of the one that it watches.
fn replace(evenly: &Evenly, text: &str) {
    let new = evenly.folder().join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, evenly.file()).unwrap();
}

#[test]
fn a_watched_file_that_is_truncated_and_then_written_is_applied_whole() {
    let a = origin("a");
    let (evenly, text) = watched(&a);
    let mut file = std::fs::File::create(evenly.file()).unwrap();
    for part in text(OTHER).as_bytes().chunks(40) {
        file.write_all(part).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    applies_the_other(&evenly);
    assert_eq!(evenly.logged("refused"), 0);
}

#[test]
fn a_watched_file_that_another_was_moved_over_is_applied() {
    let a = origin("a");
    let (evenly, text) = watched(&a);
    replace(&evenly, &text(OTHER));
    applies_the_other(&evenly);
}

#[test]
fn a_watched_file_behind_a_link_that_is_swapped_is_applied() {
    use std::os::unix::fs::symlink;
    let a = origin("a");
    let (evenly, text) = watched(&a);
    let at = |name: &str| evenly.folder().join(name);
    // As Kubernetes mounts a ConfigMap.
    let swap = |version: &str, text: &str| {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("evenly.toml"), text).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    swap("..1", &text(""));
    symlink("..data/evenly.toml", at("link")).unwrap();
    std::fs::rename(at("link"), evenly.file()).unwrap();
    swap("..2", &text(OTHER));
    std::fs::remove_dir_all(at("..1")).unwrap();
    applies_the_other(&evenly);
}

#[test]
fn a_watched_file_that_is_gone_changes_nothing_and_is_applied_when_it_is_back() {
    let a = origin("a");
    let (evenly, text) = watched(&a);
    std::fs::remove_file(evenly.file()).unwrap();
    // Longer than it takes to be seen.
    thread::sleep(Duration::from_millis(1_300));
    assert_eq!((evenly.logged("reload"), name(&mut evenly.client()).as_str()), (0, "a"));
    std::fs::write(evenly.file(), text(OTHER)).unwrap();
    applies_the_other(&evenly);
}

#[test]
fn a_watched_file_that_is_empty_half_written_or_without_targets_is_refused() {
    let a = origin("a");
    let (evenly, text) = watched(&a);
    let whole = text(OTHER);
    let half = &whole[..whole.find("[[targets]]").unwrap() + 20];
    for (nth, bad) in ["", half, "listen = \"127.0.0.1:0\"\nwatch = true\n"].iter().enumerate() {
        replace(&evenly, bad);
        until("it is refused", || evenly.logged("reload refused: ") > nth);
        assert_eq!(name(&mut evenly.client()), "a", "what was in force still is");
    }
    replace(&evenly, &whole);
    applies_the_other(&evenly);
}

#[test]
fn a_good_file_works_after_a_hundred_bad_ones() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let mut client = evenly.client();
    for nth in 0..100 {
        let bad = ["", "nonsense", "[[targets]]\naddress = \"a:b\"\n", "workers = 9\n"][nth % 4];
        std::fs::write(evenly.file(), bad).unwrap();
        let (said, code) = evenly.ask(&["reload"]);
        assert!(said.contains("refused: ") && code == Some(2), "{bad:?}: {said}");
    }
    assert_eq!(name(&mut client), "a");
    std::fs::write(evenly.file(), file(ANY, &[&a], OTHER)).unwrap();
    let (said, code) = evenly.ask(&["reload"]);
    assert!(said.contains("limits.headers 100 -> 50") && code == Some(0), "{said}");
    assert_eq!(name(&mut client), "a");
}

#[test]
fn clients_that_wait_at_an_address_that_goes_are_served() {
    let a = origin("a");
    let new = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let evenly = start(&file(&["127.0.0.1:0", &new.to_string()], &[&a], ""));
    // While it stands still, the kernel takes connections for it.
    evenly.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::to(new)).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    std::fs::write(evenly.file(), file(ANY, &[&a], "")).unwrap();
    evenly.signal(Signal::HUP);
    evenly.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().text(), "a");
    }
    until("nobody listens there any more", || TcpStream::connect(new).is_err());
    // And they stay.
    clients.iter_mut().for_each(|client| assert_eq!(name(client), "a"));
}

#[test]
fn a_target_that_goes_finishes_its_requests_and_keeps_no_connection() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let gone = Origin::start(move |wire, head| {
        if head.target() == "/held" {
            held.wait();
        }
        answer(wire, "gone")
    });
    let stays = origin("stays");
    let evenly = start(&file(ANY, &[&gone], ""));
    let (mut busy, mut idle) = (evenly.client(), evenly.client());
    busy.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is at its target", || gone.requests() == 1);
    assert_eq!(name(&mut idle), "gone");
    assert_eq!(gone.connections(), 2);
    let said = evenly.reload(&file(ANY, &[&stays], ""));
    assert!(said.contains("applied"), "{said}");
    until("the idle connection is closed", || gone.ended() == 1);
    gate.open();
    assert_eq!(busy.response().text(), "gone");
    until("and so is the other", || gone.ended() == 2);
    assert_eq!((name(&mut busy), name(&mut idle)), ("stays".to_owned(), "stays".to_owned()));
}

#[test]
fn a_reload_reopens_the_access_log_whoever_asks_for_it() {
    let a = origin("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let evenly = start(&file(ANY, &[&a], &format!("[log]\naccess = {log:?}\n")));
    let mut client = evenly.client();
    let reloads: [&dyn Fn(); 2] =
        [&|| assert_eq!(evenly.ask(&["reload"]).1, Some(0)), &|| evenly.signal(Signal::HUP)];
    for (nth, reload) in reloads.iter().enumerate() {
        client.get("/");
        until("it is written", || std::fs::metadata(&log).is_ok_and(|it| it.len() > 0));
        std::fs::rename(&log, folder.path().join("old")).unwrap();
        reload();
        until("it is opened again", || evenly.logged(") was reopened") > nth);
        assert!(log.exists());
    }
}

#[test]
fn a_command_says_what_was_applied_and_its_exit_code_does_too() {
    let a = origin("a");
    let whole = file(ANY, &[&a], "");
    let evenly = start(&whole);
    let mut client = evenly.client();
    let write = |text: &str| std::fs::write(evenly.file(), text).unwrap();
    assert_eq!(evenly.ask(&["rollback"]).1, Some(2), "there was nothing before");
    write(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    let (said, code) = evenly.ask(&["reload", "--dry-run"]);
    assert_eq!((said.as_str(), code), ("limits.headers 100 -> 50\n", Some(0)));
    let (said, code) = evenly.ask(&["reload"]);
    assert!(said.starts_with("applied generation ") && code == Some(0), "{said}");
    assert!(said.ends_with(" ms: limits.headers 100 -> 50\n"), "{said}");
    let (said, code) = evenly.ask(&["rollback"]);
    assert!(said.ends_with("limits.headers 50 -> 100\n") && code == Some(0), "{said}");
    write("nonsense");
    let (said, code) = evenly.ask(&["reload"]);
    assert!(said.contains("refused: ") && said.contains("evenly.toml:1"), "{said}");
    assert_eq!((code, name(&mut client).as_str()), (Some(2), "a"));
}

#[test]
fn commands_that_come_together_are_all_answered() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let ask = || evenly.ask(&["reload"]);
    thread::scope(|scope| {
        let all: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        for command in all {
            let (said, code) = command.join().unwrap();
            assert_eq!(code, Some(0), "{said}");
            assert!(said.starts_with("nothing has changed"), "{said}");
        }
    });
}

#[test]
fn the_file_says_which_evenly_is_meant() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], ""));
    let reload = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        command.env("RUNTIME_DIRECTORY", evenly.folder());
        command.args(["reload", file]).output().unwrap()
    };
    let other = evenly.file().with_file_name("other.toml");
    let text = file(&[&evenly.address().to_string()], &[&a], "");
    std::fs::write(&other, text).unwrap();
    let output = reload(other.to_str().unwrap());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("nothing has changed"), "{said} {:?}", output.stderr);
    std::fs::write(&other, "nonsense").unwrap();
    assert_eq!(reload(other.to_str().unwrap()).status.code(), Some(2));
}

#[test]
fn a_command_reaches_the_evenly_that_runs_by_its_file_and_no_other() {
    let a = origin("a");
    let runtime = tempfile::tempdir().unwrap();
    let begin = || {
        let start = Start::of(&file(ANY, &[&a], "[tcp]\nreuse_port = true\n"));
        start.variable("RUNTIME_DIRECTORY", runtime.path().to_str().unwrap()).start()
    };
    let (first, mut second) = (begin(), begin());
    let ask = |command: &str, file: &Path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_evenly"));
        program.arg(command).arg(file).env("RUNTIME_DIRECTORY", runtime.path());
        let output = program.output().unwrap();
        (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
    };
    // Neither listens on the first address of this file, and one of them runs by it.
    let text = file(&[&a.target()], &[], "[[targets]]\naddress = \"127.0.0.1:9\"\n");
    std::fs::write(second.file(), &text).unwrap();
    let (said, code) = ask("reload", &second.file());
    assert_eq!(
        (code, second.logged("reload refused"), first.logged("reload")),
        (Some(2), 1, 0),
        "{said}"
    );
    // Its file need not be valid for that.
    std::fs::write(second.file(), "nonsense").unwrap();
    let (said, code) = ask("undrain", &second.file());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("evenly is not draining"), "{said}");
    assert_eq!(ask("drain", &second.file()).1, Some(0));
    assert_eq!(second.exit_code(), Some(0));
    // The one that is left does not run by another file.
    let other = runtime.path().join("other.toml");
    std::fs::write(&other, &text).unwrap();
    let (said, code) = ask("drain", &other);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no running evenly was found"), "{said}");
    assert_eq!(name(&mut first.client()), "a");
}

#[test]
fn a_control_socket_in_the_folder_of_the_unit_and_of_the_system_is_one() {
    // As `ExecReload=` has it: RUNTIME_DIRECTORY is the folder that is looked in anyway.
    let folder = Path::new("/run/evenly");
    if !rustix::process::geteuid().is_root()
        || (!folder.exists() && std::fs::create_dir(folder).is_err())
    {
        eprintln!("skipped: only root writes in /run");
        return;
    }
    let a = origin("a");
    let evenly = Start::of(&file(ANY, &[&a], "[tcp]\nreuse_port = true\n"))
        .variable("RUNTIME_DIRECTORY", "/run/evenly")
        .start();
    let mut program = Command::new(env!("CARGO_BIN_EXE_evenly"));
    program.arg("reload").arg(evenly.file()).env("RUNTIME_DIRECTORY", "/run/evenly");
    let output = program.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.starts_with("nothing has changed"), "{said}");
}

#[test]
fn a_watched_file_that_is_a_pipe_is_refused_and_evenly_stops_when_asked() {
    let a = origin("a");
    let (mut evenly, _) = watched(&a);
    std::fs::remove_file(evenly.file()).unwrap();
    assert!(Command::new("mkfifo").arg(evenly.file()).status().unwrap().success());
    until("it is refused", || evenly.logged("is a pipe that nobody wrote to") == 1);
    assert_eq!(name(&mut evenly.client()), "a");
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_command_to_nobody_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["reload", "--socket", "/nowhere/evenly.sock"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot connect to /nowhere/evenly.sock"), "{said}");
}

#[test]
fn a_second_process_at_the_same_socket_does_not_start_and_a_stop_removes_it() {
    let a = origin("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evenly.sock");
    let text = file(ANY, &[&a], &format!("[admin]\nsocket = {path:?}\n"));
    let mut evenly = start(&text);
    assert!(path.exists());
    let second = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["run", evenly.file().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another evenly has it"), "{said}");
    assert_eq!(second.status.code(), Some(1));
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn commands_are_not_taken_by_the_admin_listener() {
    let a = origin("a");
    let evenly = start(&file(ANY, &[&a], "[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let address: SocketAddr = evenly.logged_after("admin listening on http://").parse().unwrap();
    for (request, status) in [
        ("POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "403"),
        ("GET /reload HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"),
        ("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {text}");
    }
}

/// What a service manager is told at a socket of the test's own.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path, _folder: folder }
    }

    /// The next message that has this part.
    #[track_caller]
    fn hears(&self, part: &str) -> String {
        let mut room = [0; 4096];
        loop {
            let count = self.socket.recv(&mut room).unwrap();
            let text = String::from_utf8_lossy(&room[..count]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_what_evenly_does_and_that_it_is_alive() {
    let a = origin("a");
    let manager = Manager::new();
    let start = Start::of(&file(ANY, &[&a], "")).variable("NOTIFY_SOCKET", &manager.path);
    let evenly = start.variable("WATCHDOG_USEC", "200000").start();
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=serving; configuration generation "), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    evenly.reload(&file(ANY, &[&a], "[limits]\nheaders = 50\n"));
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    let again = manager.hears("READY=1");
    assert_ne!(again, ready, "another generation");
    evenly.signal(Signal::TERM);
    assert!(manager.hears("STOPPING=1").contains("STATUS=draining"));
}

/// systemd lets no service return that said that it stops, and kills it.
#[test]
fn a_service_manager_is_not_told_of_a_stop_that_may_be_taken_back() {
    let a = Origin::hanging();
    let manager = Manager::new();
    let start = Start::of(&file(ANY, &[&a], "")).variable("NOTIFY_SOCKET", &manager.path);
    let evenly = start.start();
    manager.hears("READY=1");
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is at the target", || a.requests() == 1);
    for _ in 0..2 {
        assert_eq!(evenly.ask(&["drain"]).1, Some(0));
        assert_eq!(manager.hears(""), "STATUS=draining\n");
        assert_eq!(evenly.ask(&["undrain"]).1, Some(0));
        assert!(manager.hears("").contains("READY=1"));
    }
}

#[test]
fn the_unit_files_are_ones_that_systemd_takes() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/config/evenly.service");
    let sockets = concat!(env!("CARGO_MANIFEST_DIR"), "/config/evenly.socket");
    let run = |args: &[&str]| Command::new("systemd-analyze").args(args).output();
    let Ok(verified) = run(&["verify", unit, sockets]) else {
        return eprintln!("skipped: systemd-analyze is not here (Debian: apt-get install systemd)");
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // The program need not be installed here; other units of the machine are not ours.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("evenly") && !line.contains("is not executable"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    let judged = run(&["security", "--offline=true", "--no-pager", unit]).unwrap();
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    let level = said
        .lines()
        .find_map(|line| line.split_once("exposure level for evenly.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f32>().ok());
    let Some(level) = level else {
        return eprintln!("skipped: this systemd-analyze does not judge offline: {said}");
    };
    assert!(level < 2.0, "exposure level {level}");
}
