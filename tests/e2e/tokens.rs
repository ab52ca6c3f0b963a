//! Commands over TCP: whoever knows the token gives them, nobody else does, and it is shown nowhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Evenly, Gate, OpenOnDrop, Origin, PATIENCE, Start, answer, until};

const TOKEN: &str = "w0nderful-T0ken/of=this+test";
const RIGHT: &str = "Authorization: Bearer w0nderful-T0ken/of=this+test\r\n";

/// Files that only their owner reads.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn file(origin: &Origin, admin: &str) -> String {
    let target = format!("[[targets]]\naddress = \"{}\"\n", origin.target());
    format!(
        "listen = \"127.0.0.1:0\"\nworkers = 2\n{target}[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n"
    )
}

fn with_token(origin: &Origin, files: &Files) -> (Evenly, String) {
    let path = files.write("token", &format!("{TOKEN}\n"));
    let text = file(origin, &format!("token_file = {path:?}"));
    (Start::of(&text).start(), text)
}

fn admin(evenly: &Evenly) -> SocketAddr {
    evenly.logged_after("admin listening on http://").parse().unwrap()
}

/// Sends a request without content; the whole response.
fn ask(address: SocketAddr, line: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What `evenly` with these arguments prints, on either output, and its exit code.
fn run(arguments: &[&str], variable: Option<&str>) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
    command.args(arguments).stdin(Stdio::null()).env_remove("EVENLY_ADMIN_TOKEN");
    command.envs(variable.map(|token| ("EVENLY_ADMIN_TOKEN", token)));
    let output = command.output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
}

#[test]
fn commands_are_taken_from_whoever_knows_the_token() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let (evenly, _) = with_token(&origin, &files);
    let address = admin(&evenly);
    let denied = [
        ("POST /reload", String::new(), "401 Unauthorized", "a token is needed"),
        ("POST /reload", RIGHT.replace("test", "tesu"), "401 Unauthorized", "not the token"),
        ("POST /drain", RIGHT.replace("+test", ""), "401 Unauthorized", "not the token"),
        ("POST /rollback", RIGHT.replace("Bearer", "Basic"), "401 Unauthorized", "is needed"),
        ("POST /upgrade?binary=/bin/false", String::new(), "401 Unauthorized", "is needed"),
        ("POST /undrain", RIGHT.repeat(2), "401 Unauthorized", "a token is needed"),
        (
            "POST /reload",
            format!("{RIGHT}Origin: http://{address}\r\n"),
            "403 Forbidden",
            "browser",
        ),
    ];
    for (line, fields, status, why) in &denied {
        let said = ask(address, line, fields);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line} {fields}{said}");
        assert!(said.contains(why), "{line} {fields}{said}");
        let challenge = said.contains("\r\nWWW-Authenticate: Bearer\r\n");
        assert_eq!(challenge, status.starts_with("401"), "{said}");
    }
    for (line, status, why) in [
        ("POST /reload", "200 OK", "nothing has changed"),
        ("POST /reload?dry-run", "200 OK", "nothing would change"),
        ("POST /rollback", "409 Conflict", "no reload since the start"),
        ("POST /undrain", "409 Conflict", ""),
        ("POST /nothing", "404 Not Found", "/reload"),
        ("GET /reload", "405 Method Not Allowed", "POST"),
    ] {
        let said = ask(address, line, RIGHT);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status}\r\n")) && said.contains(why),
            "{said}"
        );
    }
    let metrics = ask(address, "GET /metrics", "");
    let count = format!("\nevenly_commands_denied_total {}\n", denied.len());
    assert!(metrics.contains(&count), "{metrics}");
    assert_eq!(evenly.logged("a command from 127.0.0.1:"), 1, "not once for each");
    assert_eq!(evenly.logged("was refused: it has no token"), 1);
}

/// Sends a decision about a target; the whole response.
fn put(address: SocketAddr, target: &str, fields: &str, content: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = content.len();
    let head = format!(
        "PUT /targets/{target} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{content}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_page_that_evenly_served_may_decide_with_the_token_and_no_other_page_may() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let (evenly, _) = with_token(&origin, &files);
    let (address, target) = (admin(&evenly), origin.target());
    let drain = r#"{"state": "drain"}"#;
    let cases = [
        (
            format!("Host: {address}\r\n{RIGHT}Origin: http://{address}\r\n"),
            "200 OK",
            "drained by hand",
        ),
        (
            format!("Host: {address}\r\nOrigin: http://{address}\r\n"),
            "401 Unauthorized",
            "a token is needed",
        ),
        (
            format!("Host: {address}\r\n{RIGHT}Origin: http://evil.example\r\n"),
            "403 Forbidden",
            "another server",
        ),
        (format!("Host: {address}\r\n{RIGHT}Origin: null\r\n"), "403 Forbidden", "another server"),
        (
            "Host: evil.example\r\nOrigin: http://evil.example\r\n".to_owned(),
            "403 Forbidden",
            "admin.hosts",
        ),
    ];
    for (fields, status, why) in &cases {
        let said = put(address, &target, fields, drain);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{fields}{said}");
        assert!(said.contains(why), "{fields}{said}");
    }
    let fields = format!("Host: a\r\n{RIGHT}");
    for (target, content, status) in [
        (&*target, r#"{"state": "auto"}"#, "200 OK"),
        (&*target, r#"{"state": "off"}"#, "400 Bad Request"),
        (&*target, "", "400 Bad Request"),
        (&*target, r#"{"weight": 3}"#, "409 Conflict"),
        ("none:1", drain, "404 Not Found"),
        ("%ff", drain, "400 Bad Request"),
    ] {
        let said = put(address, target, &fields, content);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{target} {content} {said}");
    }
    let reads = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    for path in ["/", "/config", "/status", "/targets", "/explain?url=/", "/none"] {
        assert_eq!(reads(path, "rebind.example:80"), "403", "{path}");
    }
    for path in ["/metrics", "/readyz", "/livez", "/healthz"] {
        assert_eq!(reads(path, "rebind.example:80"), "200", "{path}");
    }
}

#[test]
fn the_token_is_shown_nowhere() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let path = files.write("token", TOKEN);
    let text = file(&origin, &format!("token_file = {path:?}"));
    let mut evenly = Start::of(&text).args(&["--log-level", "trace"]).start();
    let address = admin(&evenly);
    let mut said = evenly.reload(&text.replace("token\"", "other\""));
    assert!(said.contains("admin.token_file") && said.contains("read at startup only"), "{said}");
    std::fs::write(evenly.file(), &text).unwrap();
    for line in [
        "POST /reload",
        "GET /",
        "GET /status",
        "GET /metrics",
        "GET /config",
        "POST /a",
        "POST /reload?a",
    ] {
        said += &ask(address, line, RIGHT);
    }
    said += &ask(address, "POST /reload", &RIGHT.replace(TOKEN, &format!("{TOKEN}-more")));
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    said += &evenly.log().join("\n");
    assert!(!said.contains("w0nderful"), "{said}");
}

#[test]
fn evenly_commands_do_over_tcp_what_they_do_over_the_socket() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let (evenly, text) = with_token(&origin, &files);
    let (address, path) = (admin(&evenly).to_string(), files.0.path().join("token"));
    let path = path.to_str().unwrap();
    let by_file = |command: &[&str]| {
        run(&[command, &["--admin", &address, "--token-file", path]].concat(), None)
    };
    std::fs::write(evenly.file(), format!("{text}[limits]\nheaders = 50\n")).unwrap();
    let (said, code) = by_file(&["reload", "--dry-run"]);
    assert_eq!((said.as_str(), code), ("limits.headers 100 -> 50\n", Some(0)));
    let (said, code) = run(&["reload", "--admin", &address], Some(TOKEN));
    assert!(said.starts_with("applied generation ") && code == Some(0), "{said}");
    let (said, code) = by_file(&["rollback"]);
    assert!(said.contains("limits.headers 50 -> 100") && code == Some(0), "{said}");
    assert_eq!(by_file(&["undrain"]), evenly.ask(&["undrain"]));
    std::fs::write(evenly.file(), "nonsense").unwrap();
    let (said, code) = by_file(&["reload"]);
    assert!(said.contains("refused: ") && said.contains("evenly.toml:1"), "{said}");
    assert_eq!((said, code), evenly.ask(&["reload"]));

    let wrong = files.write("wrong", "not-the-token-at-all");
    let wrong = wrong.to_str().unwrap();
    // The file wins over the environment.
    let (said, code) = run(&["drain", "--admin", &address, "--token-file", wrong], Some(TOKEN));
    assert!(said.contains("refused: this is not the token") && code == Some(2), "{said}");
    let other = Start::of(&file(&origin, "")).start();
    let (said, code) = run(&["drain", "--admin", &admin(&other).to_string()], Some(TOKEN));
    assert!(said.contains("set admin.token_file") && code == Some(2), "{said}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (said, code) = run(&["drain", "--admin", &nobody], Some(TOKEN));
    assert!(said.contains("nobody listens there") && code == Some(1), "{said}");
}

#[test]
fn who_waits_for_a_drain_over_tcp_hears_when_it_has_ended() {
    let (gate, files) = (Arc::new(Gate::default()), Files::new());
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        held.wait();
        answer(wire, "a")
    });
    let _open = OpenOnDrop(&gate);
    let (mut evenly, _) = with_token(&origin, &files);
    let address = admin(&evenly).to_string();
    let mut client = evenly.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is at the target", || origin.requests() == 1);
    let waiting = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["drain", "--wait", "--verbose", "--admin", &address])
        .env("EVENLY_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it drains", || evenly.logged("draining") > 0);
    gate.open();
    assert_eq!(client.response().text(), "a");
    drop(client);
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("all connections were finished"), "{said}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(evenly.exit_code(), Some(0));
}

#[test]
fn a_token_that_cannot_be_read_ends_the_start_and_one_that_all_can_read_is_warned_about() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let path = files.write("token", "");
    let text = file(&origin, &format!("token_file = {path:?}"));
    let start = || {
        let mut evenly = Start::of(&text).begin();
        assert_eq!(evenly.exit_code(), Some(1));
        let place = "evenly.toml:7:14: admin.token_file: no token can be read from ";
        let said = evenly.logged_after(place);
        assert!(said.contains(path.to_str().unwrap()) && !said.contains("2short"), "{said}");
        said
    };
    for (content, why) in [
        ("\n", "it is empty; make one: (umask 077; "),
        ("2short", "its 6 characters are too few; a token has 16 to 1024; make one"),
        ("two words of a token", "white space within"),
    ] {
        files.write("token", content);
        let said = start();
        assert!(said.contains(why), "{said}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(start().contains("No such file"));
    files.write("token", TOKEN);
    let warning = "admin.token_file: every user of this machine may read";
    let evenly = Start::of(&text).start();
    assert_eq!(evenly.logged(warning), 0);
    drop(evenly);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let evenly = Start::of(&text).start();
    assert_eq!(evenly.logged(warning), 1);
}

/// A process that a test caused. Dropping it kills it.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn an_upgrade_over_tcp_has_a_successor_that_reads_the_token_itself() {
    let (origin, files) = (Origin::named("a"), Files::new());
    let (mut evenly, _) = with_token(&origin, &files);
    let address = admin(&evenly).to_string();
    let command = |name: &str, token| run(&[name, "--admin", &address], Some(token));
    let (said, code) = command("upgrade", "not-the-token-at-all");
    assert!(said.contains("this is not the token") && code == Some(2), "{said}");
    files.write("token", "2short");
    let (said, code) = command("upgrade", TOKEN);
    assert!(said.contains("refused: ") && said.contains("admin.token_file: no token"), "{said}");
    assert_eq!(code, Some(2));

    let next = "another-token-that-is-in-the-file";
    files.write("token", next);
    let (said, code) = command("upgrade", TOKEN);
    let process = said.strip_prefix("upgraded: process ").and_then(|it| it.split(' ').next());
    let process = process.and_then(|it| Pid::from_raw(it.parse().ok()?));
    let _successor = Successor(process.unwrap_or_else(|| panic!("{said}")));
    assert_eq!(code, Some(0));
    until("the old one has ended", || evenly.has_ended());
    let (said, code) = command("reload", TOKEN);
    assert!(said.contains("this is not the token") && code == Some(2), "{said}");
    let (said, code) = command("reload", next);
    assert!(said.contains("nothing has changed") && code == Some(0), "{said}");
    let mut drain = Command::new(env!("CARGO_BIN_EXE_evenly"));
    drain.args(["drain", "--wait", "--admin", &address]).env("EVENLY_ADMIN_TOKEN", next);
    let output = drain.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn queries_of_urls_are_told_over_tcp_to_who_has_the_token() {
    let (files, origin) = (Files::new(), Origin::named("a"));
    let (evenly, _) = with_token(&origin, &files);
    evenly.client().get("/a?password=secret");
    let told = |fields: &str| ask(admin(&evenly), "GET /recent", fields);
    until("the exchange has ended", || told("").contains("/a?"));
    let text = told("");
    assert!(text.contains("\"uri\":\"/a?") && !text.contains("secret"), "{text}");
    let text = told("Authorization: Bearer 0000000000000000\r\n");
    assert!(text.starts_with("HTTP/1.1 401") && !text.contains("/a?"), "{text}");
    let text = told(RIGHT);
    assert!(text.contains("/a?password=secret"), "{text}");
    let text = ask(admin(&evenly), "GET /recent?limit=0", "");
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("write a number from 1"), "{text}");
}

#[test]
fn who_gives_a_token_reads_with_it() {
    let (files, origin) = (Files::new(), Origin::named("a"));
    let (evenly, _) = with_token(&origin, &files);
    evenly.client().get("/a?password=secret");
    let token = files.0.path().join("token");
    let address = admin(&evenly).to_string();
    let asked = |path: &str| run(&["recent", "--admin", &address, "--token-file", path], None);
    until("the exchange has ended", || {
        asked(token.to_str().unwrap()).0.contains("/a?password=secret")
    });
    let (said, code) = asked("/nonexistent");
    assert!(code == Some(2) && said.contains("--token-file"), "{said}");
}
