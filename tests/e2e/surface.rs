//! What an operator sees: addresses, options that win over the file, log lines.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use crate::harness::{Client, Evenly, Origin, Start, until};

#[test]
fn several_addresses_of_both_families_are_served() {
    let origin = Origin::named("a");
    let evenly =
        Start::before(&[&origin]).listen(&["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]).start();
    let mut seen = Vec::new();
    for &address in &evenly.addresses {
        for _ in 0..4 {
            assert_eq!(Client::to(address).get("/").text(), "a");
        }
        seen.push(origin.last_head().field("X-Forwarded-For").unwrap().to_owned());
    }
    assert_eq!(seen, ["127.0.0.1", "::1", "127.0.0.1"]);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin])
        .config("listen = \"192.0.2.1:1\"\nworkers = 7")
        .workers(3)
        .start();
    assert_eq!(evenly.client().get("/").status, 200);
    let is_worker = |task: &&String| evenly.proc(&format!("{task}/comm")).starts_with("worker-");
    // A thread names itself, some time after it was started.
    until("there are three workers", || {
        evenly.proc_entries("task").iter().filter(is_worker).count() == 3
    });
    assert_eq!(evenly.addresses.len(), 1);
}

#[test]
fn targets_on_the_command_line_need_no_file() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).without_file().start();
    let mut client = evenly.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!((a.requests(), b.requests()), (5, 5));
}

#[test]
fn a_congestion_control_of_its_own_serves_as_the_systems_does() {
    let origin = Origin::named("a");
    // Every kernel has this one, and lets everybody have it.
    let evenly = Evenly::with(&[&origin], "[tcp]\ncongestion = \"reno\"");
    let mut client = evenly.client();
    (0..3).for_each(|_| assert_eq!(client.get("/").text(), "a"));
}

#[test]
fn clients_are_served_whose_connections_are_accepted_with_their_first_bytes() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "[tcp]\ndefer_accept = \"5s\"");
    let silent = evenly.client();
    for _ in 0..20 {
        let mut client = evenly.client();
        (0..3).for_each(|_| assert_eq!(client.get("/").text(), "a"));
    }
    let mut late = silent;
    assert_eq!(late.get("/").text(), "a");
}

#[test]
fn a_congestion_control_that_no_kernel_has_ends_it_with_1_and_those_there_are() {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let toml = "[tcp]\ncongestion = \"nosuchthing\"\n[[targets]]\naddress = \"127.0.0.1:1\"\n";
    file.write_all(toml.as_bytes()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["run", "--listen", "127.0.0.1:0", "--config"])
        .arg(file.path())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let available = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let available = std::fs::read_to_string(available).unwrap();
    let line = format!(
        "{}:2:14: tcp.congestion: \"nosuchthing\" is not available in this kernel; write one that is ({}), \
         or load its module",
        file.path().display(),
        available.trim()
    );
    assert!(log.contains(&line), "{log}");
}

/// What one that is to listen on `address` says before it ends with 1.
#[track_caller]
fn refused(address: &str, target: &Origin) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["run", "--target", &target.target(), "--health-check-endpoint", "/healthz"])
        .args(["--listen", address])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(!log.contains("is down"), "the first round is not waited for: {log}");
    log
}

#[test]
fn an_address_in_use_ends_it_at_once_with_1_and_the_reason() {
    let hanging = Origin::named("a");
    hanging.hang();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let log = refused(&address.to_string(), &hanging);
    let line = format!(
        "\n--listen: cannot listen on {address}: another process has it (ss -ltnp 'sport = :{}' shows which); \
         end that, or choose another address\n",
        address.port()
    );
    assert!(log.contains(&line), "{log}");
    let log = refused("192.0.2.1:0", &hanging);
    assert!(
        log.contains("no interface of this machine has 192.0.2.1 (ip address lists them)"),
        "{log}"
    );
}

/// What it says of itself and of `toml`, before it ends with 1.
#[track_caller]
fn ends_with(toml: &str, mut command: Command) -> String {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let output = command.arg("run").arg(file.path()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    log.replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn what_only_a_start_finds_wrong_is_told_with_its_place_in_the_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, evenly) = (taken.local_addr().unwrap(), env!("CARGO_BIN_EXE_evenly"));
    let target = "[[targets]]\naddress = \"127.0.0.1:1\"\n";
    let cases = [
        (
            format!("listen = [\"127.0.0.1:0\", \"{address}\"]\n{target}"),
            format!("FILE:1:26: listen[1]: cannot listen on {address}: another process has it"),
        ),
        (
            format!("workers = 1\nlisten = \"192.0.2.1:80\"\n{target}"),
            "FILE:2:10: listen: cannot listen on 192.0.2.1:80: no interface".into(),
        ),
        (
            format!("listen = \"127.0.0.1:0\"\n{target}[admin]\nlisten = \"{address}\"\n"),
            format!("FILE:5:10: admin.listen: cannot listen on {address}: another process has it"),
        ),
        (
            format!("listen = \"127.0.0.1:0\"\n{target}[log]\naccess = \"/nowhere/a.log\"\n"),
            "FILE:5:10: log.access: cannot open /nowhere/a.log: No such file or directory (os error 2); \
             make the folder /nowhere first\n  5 | access = \"/nowhere/a.log\"\n    |          ^^^^"
                .into(),
        ),
    ];
    for (toml, line) in cases {
        let log = ends_with(&toml, Command::new(evenly));
        assert!(log.contains(&line), "{log}\n{line}");
    }
}

#[test]
fn a_port_that_this_user_may_not_use_is_told_with_how_it_may() {
    let first = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if std::fs::read_to_string(first).is_ok_and(|text| text.trim() == "0") {
        println!("SKIPPED: here every user may use every port");
        return;
    }
    let toml = "listen = \"127.0.0.1:1\"\n[[targets]]\naddress = \"127.0.0.1:2\"\n";
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]);
    // Without root there is no such capability, and no need to drop it.
    let command = match rustix::process::geteuid().is_root() {
        true => {
            command.arg(env!("CARGO_BIN_EXE_evenly"));
            command
        }
        false => Command::new(env!("CARGO_BIN_EXE_evenly")),
    };
    let log = ends_with(toml, command);
    assert!(
        log.contains("FILE:1:10: listen: cannot listen on 127.0.0.1:1: this user may not use ports below 1024"),
        "{log}"
    );
    assert!(log.contains("grant CAP_NET_BIND_SERVICE"), "{log}");
}

#[test]
fn a_second_process_on_the_same_address_is_refused() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    let port = evenly.address().port();
    for address in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("[::]:{port}")]
    {
        assert!(refused(&address, &origin).contains("another process has it"), "{address}");
    }
    assert_eq!(evenly.client().get("/").status, 200);
}

#[test]
fn an_ipv6_wildcard_serves_ipv4_too_and_says_so() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).listen(&["[::]:0"]).start();
    assert_eq!(evenly.logged("(IPv6 and IPv4)"), 1);
    for ip in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), evenly.address().port());
        let mut client = Client::to(address);
        assert_eq!(client.get("/").text(), "a");
        assert_eq!(origin.last_head().field("X-Forwarded-For"), Some(ip));
    }
}

#[test]
fn each_change_of_health_is_one_line_with_its_reason() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&b).start();
    until("the first round is told", || evenly.logged(" of 2") == 1);
    let address = b.address.to_string();
    let last =
        || evenly.log().into_iter().rfind(|line| line.contains(&address)).unwrap_or_default();
    until("it is up", || {
        last().contains("is up: 200") && evenly.logged("healthy endpoints: 2") > 0
    });
    b.stop();
    until("it is down", || last().ends_with("healthy endpoints: 1; reason: connection_refused"));
    b.restart();
    until("it is up again", || last().contains("is up: 200"));
    b.set_healthy(false);
    until("the status is told", || last().contains("is down") && last().contains("500"));
    let changes =
        evenly.log().into_iter().filter(|line| line.contains(&address)).collect::<Vec<_>>();
    let says = |line: &String, what: &str| line.contains(what);
    for pair in changes.windows(2) {
        assert_ne!(says(&pair[0], "is up"), says(&pair[1], "is up"), "no change: {changes:#?}");
    }
}

#[test]
fn nothing_is_logged_for_a_request() {
    let origin = Origin::named("a");
    let evenly = Evenly::before(&[&origin]);
    until("the first round is told", || evenly.logged("healthy endpoints: 1 of 1") == 1);
    let mut client = evenly.client();
    client.get("/");
    let before = evenly.log().len();
    (0..20).for_each(|_| drop(client.get("/")));
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response().status, 400);
    assert_eq!(evenly.log().len(), before, "{:#?}", evenly.log());
}

#[test]
fn log_lines_can_be_json() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b]).watching(&b).args(&["--log-format", "json"]).start();
    b.stop();
    until("a change of health", || evenly.logged("healthy endpoints: 1") > 0);
    for line in evenly.log() {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        for key in ["time", "level", "module", "message"] {
            assert!(object[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {line}");
        }
    }
}

#[test]
fn the_log_level_is_heeded() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let evenly = Start::before(&[&a, &b])
        .watching(&b)
        .args(&["--log-level", "evenly::server=info,evenly::health=off"])
        .start();
    b.stop();
    let mut client = evenly.client();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(evenly.logged("is down"), 0, "{:#?}", evenly.log());
}

#[test]
fn two_that_share_an_address_both_serve_and_have_a_control_socket_each() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let folder = tempfile::tempdir().unwrap();
    let runtime = folder.path().to_str().unwrap();
    let start = |listen: &str, origin: &Origin, more: &str| {
        let target = origin.target();
        let text = format!("listen = {listen:?}\n{more}\n[[targets]]\naddress = {target:?}\n");
        Start::of(&text).variable("RUNTIME_DIRECTORY", runtime)
    };
    let shared = "[tcp]\nreuse_port = true";
    let mut first = start("127.0.0.1:0", &a, shared).start();
    let address = first.address();
    let second = start(&address.to_string(), &b, shared).start();
    assert_ne!(first.socket(), second.socket());
    let mut served: Vec<String> =
        (0..64).map(|_| Client::to(address).get("/").text().to_owned()).collect();
    served.sort();
    served.dedup();
    assert_eq!(served, ["a", "b"], "the kernel spreads connections across both");
    // Of a file that both run by it has to be said which is meant.
    let ask = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        command.arg("undrain").arg(file).env("RUNTIME_DIRECTORY", runtime).output().unwrap()
    };
    let output = ask(&second.file());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 evenly may be meant; say which: --socket "), "{said}");
    assert!(said.contains(&first.socket()) && said.contains(&second.socket()), "{said}");
    assert_eq!(output.status.code(), Some(1));
    // One that does not say that it shares is refused, and one that ends leaves the other alone.
    let mut third = start(&address.to_string(), &a, "").begin();
    assert_eq!(third.exit_code(), Some(1));
    assert_eq!(third.logged("another process has it"), 1);
    assert_eq!(first.ask(&["drain", "--wait"]).1, Some(0));
    assert_eq!(first.exit_code(), Some(0));
    for _ in 0..16 {
        assert_eq!(Client::to(address).get("/").text(), "b");
    }
    let output = ask(&second.file());
    assert!(String::from_utf8(output.stderr).unwrap().contains("refused: evenly is not draining"));
}

#[test]
fn one_that_shares_does_not_join_one_that_does_not() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let start = |listen: &str, more: &str| {
        let target = origin.target();
        let text = format!("listen = {listen:?}\n{more}\n[[targets]]\naddress = {target:?}\n");
        Start::of(&text).variable("RUNTIME_DIRECTORY", folder.path().to_str().unwrap())
    };
    let first = start("127.0.0.1:0", "").start();
    let mut second = start(&first.address().to_string(), "[tcp]\nreuse_port = true").begin();
    assert_eq!(second.exit_code(), Some(1));
    assert_eq!(second.logged("another evenly has it"), 1);
}
