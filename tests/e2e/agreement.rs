//! Targets and clients that do what they should not, all at the same time: what failed is the same in the access log, the metrics,
//! the status and evenly's own log, and no client saw anything fail that has no reason there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use serde_json::Value;

use super::harness::{Client, Evenly, Head, Origin, Start, Then, Wire, answer, body_of, until};
use super::told::{Failed, Told, differences, unrest};

/// Clients at the same time, and how often each does everything.
const CLIENTS: usize = 4;
const ROUNDS: usize = 2;
/// Pages of a large response.
const PAGES: usize = 1_000;

const CONFIG: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[timeouts]\nclient_header = \"200ms\"\nclient_body = \"300ms\"\n\
    response_header = \"500ms\"\nresponse_body = \"200ms\"\ntunnel_idle = \"200ms\"\n";

/// What a client saw of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Status(u16),
    /// The connection ended before the response was whole.
    Broken,
    /// It has not looked.
    Nothing,
}

/// What a client does; it may leave a connection open.
type Act = fn(SocketAddr, &mut Vec<Client>) -> Seen;

const ACTS: &[Act] = &[
    |to, _| get(to, "/ok"),
    |to, _| get(to, "/500"),
    |to, _| get(to, "/die"),
    |to, _| post(to, "/die"),
    |to, _| post(to, "/reset"),
    |to, _| get(to, "/hang"),
    |to, _| get(to, "/cut"),
    |to, _| get(to, "/stall"),
    |to, _| get(to, "/nonsense"),
    |to, _| get(to, "/gzip"),
    |to, _| get(to, "/chunks"),
    |to, _| ask(to, "GET /no-host HTTP/1.1\r\n\r\n"),
    |to, _| ask(to, "this is no HTTP\r\n\r\n"),
    |to, _| ask(to, "GET /slow HTTP/1.1\r\nHo"),
    |to, _| ask(to, "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nshort"),
    |to, _| ask(to, "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    |to, _| leave(to, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"),
    |to, _| leave(to, "this is no HTTP\r\n\r\n"),
    |to, _| {
        let mut client = Client::to(to);
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        // Its target may have been taken out.
        let _ = client.response_head();
        client.leave(true);
        Seen::Nothing
    },
    // They take nothing of what they asked for: in the middle of a response, and behind one that is over for its target.
    |to, held| hold(to, held, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"),
    |to, held| hold(to, held, &"GET /page HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400)),
    |to, held| {
        hold(
            to,
            held,
            "GET /tunnel HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
        )
    },
];

fn get(to: SocketAddr, path: &str) -> Seen {
    ask(to, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

fn post(to: SocketAddr, path: &str) -> Seen {
    ask(to, &format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"))
}

fn ask(to: SocketAddr, request: &str) -> Seen {
    let mut client = Client::to(to);
    client.send(request);
    client.try_response().map_or(Seen::Broken, |response| Seen::Status(response.status))
}

fn leave(to: SocketAddr, request: &str) -> Seen {
    let mut client = Client::to(to);
    client.send(request);
    client.leave(true);
    Seen::Nothing
}

fn hold(to: SocketAddr, held: &mut Vec<Client>, request: &str) -> Seen {
    let mut client = Client::to(to);
    client.send(request);
    held.push(client);
    Seen::Nothing
}

/// Does what the path of a request says.
fn wild() -> Origin {
    let page = vec![b'x'; 60 << 10];
    Origin::start(move |wire, head| {
        if body_of(wire, head).is_err() {
            return Then::Close;
        }
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        match head.target() {
            "/500" => say(wire, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", Then::Next),
            "/die" => Then::Close,
            "/reset" => Then::Reset,
            "/hang" => hang(wire),
            "/cut" => say(wire, short, Then::Close),
            "/stall" => match say(wire, short, Then::Next) {
                Then::Next => hang(wire),
                then => then,
            },
            "/nonsense" => say(wire, "HTTP/1.1 two hundred\r\n\r\n", Then::Close),
            "/gzip" => say(wire, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Then::Close),
            "/chunks" => say(wire, &format!("{chunked}5\r\nfirst\r\nzz\r\n"), Then::Close),
            "/big" => big(wire, &page),
            "/page" => answer(wire, &page),
            "/tunnel" => tunnel(wire, head),
            _ => answer(wire, "ok"),
        }
    })
}

fn say(wire: &mut Wire, bytes: &str, then: Then) -> Then {
    match wire.send(bytes) {
        Ok(()) => then,
        Err(_) => Then::Close,
    }
}

/// More than the kernel takes of it.
fn big(wire: &mut Wire, page: &[u8]) -> Then {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PAGES * page.len());
    if wire.send(head).is_err() || (0..PAGES).any(|_| wire.send(page).is_err()) {
        return Then::Close;
    }
    Then::Next
}

fn hang(wire: &mut Wire) -> Then {
    // However it ends, it ends.
    let _ = wire.rest();
    Then::Close
}

fn tunnel(wire: &mut Wire, head: &Head) -> Then {
    let upgrade = head.field("Upgrade").unwrap_or_default();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: upgrade\r\n\r\n"
    );
    match say(wire, &head, Then::Next) {
        Then::Next => hang(wire),
        then => then,
    }
}

/// Every client does everything, beginning with something else, while one target dies and returns. What they saw, and the connections that they have left open.
fn play(evenly: &Evenly, victim: &mut Origin) -> (BTreeMap<Seen, u64>, Vec<Client>) {
    let address = evenly.address();
    let crowd = |client: usize| {
        move || {
            let (mut seen, mut held) = (Vec::new(), Vec::new());
            let from = client * ACTS.len() / CLIENTS;
            for at in from..from + ROUNDS * ACTS.len() {
                seen.push(ACTS[at % ACTS.len()](address, &mut held));
            }
            (seen, held)
        }
    };
    let (mut seen, mut held) = (BTreeMap::new(), Vec::new());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(crowd(client))).collect();
        let who = format!("({})", victim.target());
        let told = |what: &str| {
            evenly.log().iter().filter(|line| line.contains(&who) && line.contains(what)).count()
        };
        let downs = told(" is down: ");
        victim.stop();
        until("it is down", || told(" is down: ") > downs);
        let ups = told(" is up");
        victim.restart();
        until("it is up again", || told(" is up") > ups);
        for client in clients {
            let (saw, holds) = client.join().unwrap();
            saw.into_iter().for_each(|saw| *seen.entry(saw).or_default() += 1);
            held.extend(holds);
        }
    });
    (seen, held)
}

#[test]
fn what_failed_is_the_same_wherever_it_is_told() {
    let (one, other, mut victim) = (wild(), wild(), wild());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = format!("[log]\naccess = \"{}\"\n", file.display());
    let start = Start::before(&[&one, &other, &victim]).watching(&victim);
    let evenly = start.config(CONFIG).config(&log).start();
    let (seen, held) = play(&evenly, &mut victim);
    let access = agreed(&evenly, &file);
    let failed = Failed::of(&access).unwrap();
    explains(&access, &seen);
    recorded(&evenly, &access);
    // Some of each kind were there.
    for reason in [
        "connection_terminated",
        "connection_read_timeout",
        "http_request_error",
        "request_timeout",
    ] {
        assert!(failed.answered.contains_key(reason), "{reason} in {failed:?}");
    }
    for reason in [
        "http_response_incomplete",
        "connection_read_timeout",
        "client_closed",
        "client_read_timeout",
    ] {
        assert!(failed.cut.contains_key(reason), "{reason} in {failed:?}");
    }
    drop(held);
}

/// Waits until all is said alike; the access log as it is then.
fn agreed(evenly: &Evenly, file: &Path) -> String {
    let (mut found, mut access) = (Vec::new(), String::new());
    until("all is said alike", || {
        let metrics = evenly.admin("/metrics", "");
        let mut now: Vec<String> = unrest(&metrics).into_iter().collect();
        if now.is_empty() {
            access = std::fs::read_to_string(file).unwrap();
            let (status, log) = (evenly.admin("/status", ""), evenly.log());
            let told = Told { access: &access, metrics: &metrics, status: &status, log: &log };
            now = differences(&told);
        }
        if now != found {
            eprintln!("{now:#?}");
            found = now;
        }
        found.is_empty()
    });
    access
}

/// No client saw more fail than the access log has: by status, and of what broke off.
fn explains(access: &str, seen: &BTreeMap<Seen, u64>) {
    let entries: Vec<Value> = entries(access);
    let count =
        |is_it: &dyn Fn(&Value) -> bool| entries.iter().filter(|entry| is_it(entry)).count() as u64;
    for (saw, times) in seen {
        let told = match saw {
            Seen::Status(status) if *status < 400 => continue,
            Seen::Status(status) => count(&|it| it["status"] == *status && it["end"] != "cut"),
            Seen::Broken => count(&|it| it["end"] == "cut" && it["reason"].is_string()),
            Seen::Nothing => continue,
        };
        assert!(*times <= told, "{saw:?}: seen {times} times, told {told} times\n{access}");
    }
}

/// The flight recorder has the same exchanges among those that went wrong: there were fewer than it keeps.
fn recorded(evenly: &Evenly, access: &str) {
    let went_wrong = |it: &&Value| it["reason"].is_string() || it["status"].as_u64() >= Some(500);
    let say = |it: &Value| {
        let fields =
            ["status", "reason", "detail", "end", "ended_by", "phase", "uri", "line", "request_id"];
        fields.map(|name| it[name].to_string()).join(" ")
    };
    let sorted = |entries: &[Value]| {
        let mut said: Vec<String> = entries.iter().filter(went_wrong).map(say).collect();
        said.sort_unstable();
        said
    };
    let (recent, _) = evenly.ask(&["recent", "--errors", "--json", "-n", "10000"]);
    let recent: Value = serde_json::from_str(&recent).unwrap();
    let exchanges = recent["exchanges"].as_array().unwrap();
    assert_eq!(sorted(exchanges), sorted(&entries(access)));
    assert_eq!(exchanges.len(), sorted(exchanges).len());
}

fn entries(access: &str) -> Vec<Value> {
    access.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
