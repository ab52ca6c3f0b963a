//! Every reason is provoked, as each event that can have it, and is then the same word wherever it is told: in the access log or
//! in the log, in the metrics, in the status, and in `Proxy-Status`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenly::reason::{Incident, Reason};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Signal, geteuid};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use super::harness::{
    Client, Evenly, Gate, Head, Origin, PATIENCE, Response, Start, Then, Wire, answer, until,
};

/// No check but the first comes in the way, and none is waited for.
const BLIND: &str = "health_check_endpoint = \"/check\"\ninterval = \"1h\"\n";

/// How something is provoked.
struct Case {
    reason: Reason,
    events: &'static [Incident],
    run: fn(&'static [Incident], Reason),
}

const fn case(
    reason: Reason,
    events: &'static [Incident],
    run: fn(&'static [Incident], Reason),
) -> Case {
    Case { reason, events, run }
}

const RESPONSE: &[Incident] = &[Incident::Response];
const CUT: &[Incident] = &[Incident::Cut];
const RETRY: &[Incident] = &[Incident::Retry];
const EJECTION: &[Incident] = &[Incident::Ejection];
const CHECK: &[Incident] = &[Incident::Check];

const CLIENT: &[Case] = &[
    case(Reason::HttpRequestError, RESPONSE, |of, why| {
        let scene = Scene::owning(vec![Origin::named("a")], "");
        scene.answers(of, why, &mut scene.client(), "GET / HTTP/1.1\r\n\r\n", 400);
    }),
    case(Reason::HttpRequestError, CUT, |of, why| {
        let scene = Scene::owning(vec![early()], "");
        let mut client = scene.client();
        client.send(CHUNKED_POST);
        client.response_head().unwrap();
        client.send("zz\r\n");
        scene.sees(of, why);
    }),
    case(Reason::RequestTimeout, RESPONSE, |of, why| {
        let scene =
            Scene::owning(vec![Origin::named("a")], "[timeouts]\nclient_header = \"100ms\"");
        scene.answers(of, why, &mut scene.client(), "GET / HTTP/1.1\r\nHo", 408);
    }),
    case(Reason::RequestTimeout, CUT, |of, why| {
        let scene = Scene::owning(vec![early()], "[timeouts]\nclient_body = \"100ms\"");
        let mut client = scene.client();
        client.send(CHUNKED_POST);
        client.response_head().unwrap();
        scene.sees(of, why);
    }),
    case(Reason::ClientReadTimeout, CUT, |of, why| {
        let body = vec![b'x'; 64 << 20];
        let origin = scripted(move |wire, _| answer(wire, &body));
        let scene = Scene::before(&[&origin], "[timeouts]\nclient_body = \"200ms\"");
        let mut client = scene.client();
        client.send(GET);
        client.response_head().unwrap();
        scene.sees(of, why);
    }),
    case(Reason::ClientClosed, CUT, |of, why| {
        let origin = hanging();
        let scene = Scene::before(&[&origin], "");
        let mut client = scene.client();
        client.send(GET);
        until("the request is with its target", || origin.requests() == 2);
        client.leave(true);
        scene.sees(of, why);
    }),
];

const CONNECTS: &[Case] = &[
    case(Reason::ConnectionRefused, &[Incident::Response, Incident::Check], |of, why| {
        let mut origin = Origin::named("a");
        let scene = Scene::before(&[&origin], "");
        origin.stop();
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::ConnectionRefused, RETRY, |of, why| {
        let (mut one, other) = (Origin::named("a"), Origin::named("b"));
        let scene = Scene::before(&[&one, &other], "");
        one.stop();
        scene.moves_on(of, why, "b");
    }),
    case(Reason::ConnectionTimeout, &[Incident::Response, Incident::Check], |of, why| {
        let full = FullPort::new();
        let config = "[timeouts]\nconnect = \"200ms\"\n[health]\ntimeout = \"300ms\"\n";
        let scene = Scene::of(&format!("{config}{}", full.target()));
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::ConnectionTimeout, RETRY, |of, why| {
        let (full, other) = (FullPort::new(), Origin::named("b"));
        let config = "[timeouts]\nconnect = \"200ms\"\n[health]\ntimeout = \"300ms\"\n";
        let scene = Scene::of(&format!("{config}{}{}", full.target(), target(&other)));
        scene.moves_on(of, why, "b");
    }),
    case(Reason::ConnectFailed, &[Incident::Response, Incident::Check], |of, why| {
        let mut origin = Origin::unix(|wire, _| answer(wire, "a"));
        let scene = Scene::before(&[&origin], "");
        origin.stop();
        std::fs::remove_file(origin.target().strip_prefix("unix:").unwrap()).unwrap();
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::ConnectFailed, RETRY, |of, why| {
        let (mut one, other) = (Origin::unix(|wire, _| answer(wire, "a")), Origin::named("b"));
        let scene = Scene::before(&[&one, &other], "");
        one.stop();
        std::fs::remove_file(one.target().strip_prefix("unix:").unwrap()).unwrap();
        scene.moves_on(of, why, "b");
    }),
    case(Reason::NotASocket, CHECK, |of, why| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain");
        std::fs::write(&path, "").unwrap();
        Scene::of(&path_target(&path)).sees(of, why);
    }),
    case(Reason::BacklogFull, &[Incident::Response, Incident::Check], |of, why| {
        let full = FullPath::new();
        let scene = Scene::of(&path_target(&full.path()));
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::BacklogFull, RETRY, |of, why| {
        let (full, other) = (FullPath::new(), Origin::named("b"));
        let scene = Scene::of(&format!("{}{}", path_target(&full.path()), target(&other)));
        scene.moves_on(of, why, "b");
    }),
];

const RESPONSES: &[Case] = &[
    case(Reason::ConnectionTerminated, RESPONSE, |of, why| {
        let scene = Scene::owning(vec![saying("", Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), POST, 502);
    }),
    case(Reason::ConnectionTerminated, RETRY, |of, why| {
        let scene = Scene::owning(vec![saying("", Then::Close), Origin::named("b")], "");
        scene.moves_on(of, why, "b");
    }),
    case(Reason::HttpResponseIncomplete, CUT, |of, why| {
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
        let scene = Scene::owning(vec![saying(short, Then::Close)], "");
        scene.cuts(of, why);
    }),
    case(Reason::ConnectionReadTimeout, RESPONSE, |of, why| {
        let scene = Scene::owning(vec![hanging()], "[timeouts]\nresponse_header = \"100ms\"");
        scene.answers(of, why, &mut scene.client(), GET, 504);
    }),
    case(Reason::ConnectionReadTimeout, CUT, |of, why| {
        let origin = scripted(|wire, _| {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").unwrap();
            // However it ends, it ends.
            let _ = wire.rest();
            Then::Close
        });
        let scene = Scene::before(&[&origin], "[timeouts]\nresponse_body = \"100ms\"");
        scene.cuts(of, why);
    }),
    case(Reason::ConnectionReadTimeout, RETRY, |of, why| {
        let origins = vec![hanging(), Origin::named("b")];
        let scene = Scene::owning(origins, "[timeouts]\nresponse_header = \"100ms\"");
        scene.moves_on(of, why, "b");
    }),
    case(Reason::HttpProtocolError, RESPONSE, |of, why| {
        let scene = Scene::owning(vec![saying("HTTP/1.1 two hundred\r\n\r\n", Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), GET, 502);
    }),
    case(Reason::HttpProtocolError, CUT, |of, why| {
        cut_in_the_rest(of, why, "zz\r\n");
    }),
    case(Reason::HttpResponseHeaderSectionSize, RESPONSE, |of, why| {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(300));
        let scene = Scene::owning(vec![saying(head, Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), GET, 502);
    }),
    case(Reason::HttpResponseTrailerSectionSize, RESPONSE, |of, why| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let bytes = format!("{head}{}\r\n", "A: b\r\n".repeat(300));
        let scene = Scene::owning(vec![saying(bytes, Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), GET, 502);
    }),
    case(Reason::HttpResponseTrailerSectionSize, CUT, |of, why| {
        cut_in_the_rest(of, why, &format!("0\r\n{}\r\n", "A: b\r\n".repeat(300)));
    }),
    case(Reason::HttpResponseTransferCoding, RESPONSE, |of, why| {
        let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n";
        let scene = Scene::owning(vec![saying(bytes, Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), GET, 502);
    }),
    case(Reason::HttpUpgradeFailed, RESPONSE, |of, why| {
        let bytes =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n";
        let scene = Scene::owning(vec![saying(bytes, Then::Close)], "");
        scene.answers(of, why, &mut scene.client(), GET, 502);
    }),
    case(Reason::DestinationUnavailable, RESPONSE, |of, why| {
        let origin = Origin::start(|wire, _| {
            wire.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").unwrap();
            Then::Close
        });
        let scene = Scene::before(&[&origin], "");
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::DestinationUnavailable, RETRY, |of, why| {
        let (one, other) = (Origin::hanging(), Origin::named("b"));
        let quick = "health_check_endpoint = \"/healthz\"\ninterval = \"200ms\"\nfall = 1\n";
        let first = format!("[[targets]]\naddress = \"{}\"\n{quick}", one.target());
        let scene = Scene::of(&format!("{first}{}", target(&other)));
        let mut clients = [scene.client(), scene.client()];
        clients.iter_mut().for_each(|client| client.send(GET));
        until("one waits", || one.requests() > 0);
        one.set_healthy(false);
        clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "b"));
        scene.sees(of, why);
    }),
];

const CHECKS: &[Case] = &[
    case(Reason::ConnectionTerminated, CHECK, |of, why| checked(of, why, "")),
    case(Reason::ConnectionReadTimeout, CHECK, |of, why| {
        let scene = Scene::owning(vec![Origin::hanging()], "[health]\ntimeout = \"200ms\"");
        scene.sees(of, why);
    }),
    case(Reason::HttpProtocolError, CHECK, |of, why| checked(of, why, "SSH-2.0-OpenSSH\r\n")),
    case(Reason::HttpResponseHeaderSectionSize, CHECK, |of, why| {
        checked(of, why, &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(4_000)));
    }),
    case(Reason::HttpResponseTransferCoding, CHECK, |of, why| {
        checked(of, why, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
    }),
    case(Reason::UnexpectedStatus, CHECK, |of, why| {
        checked(of, why, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    }),
];

const EJECTIONS: &[Case] = &[
    case(Reason::ConsecutiveConnectFailures, EJECTION, |of, why| {
        let (mut one, other) = (Origin::named("a"), Origin::named("b"));
        let config = "[ejection]\nconnect_failures = 2\n[health]\nfall = 1000";
        let scene = Scene::before(&[&one, &other], config);
        one.stop();
        scene.ejects(of, why, &other);
    }),
    case(Reason::ConsecutiveResets, EJECTION, |of, why| {
        let (one, other) = (saying("", Then::Reset), Origin::named("b"));
        let scene = Scene::before(&[&one, &other], "[ejection]\nresets = 2");
        scene.ejects(of, why, &other);
    }),
    case(Reason::ConsecutiveTimeouts, EJECTION, |of, why| {
        let (one, other) = (hanging(), Origin::named("b"));
        let config = "[ejection]\ntimeouts = 2\n[timeouts]\nresponse_header = \"50ms\"\n";
        // A check that is a request would see what hangs, and a connect does not.
        let target = format!("[[targets]]\naddress = \"{}\"\ninterval = \"1h\"\n", one.target());
        Scene::of(&format!("{config}{target}{}", self::target(&other))).ejects(of, why, &other);
    }),
    case(Reason::ConsecutiveServerErrors, EJECTION, |of, why| {
        let bytes = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
        let (one, other) = (saying(bytes, Then::Next), Origin::named("b"));
        Scene::before(&[&one, &other], "[ejection]\nerrors = 2").ejects(of, why, &other);
    }),
];

const OWN: &[Case] = &[
    case(Reason::ProxyLoopDetected, RESPONSE, |of, why| {
        let origin = Origin::named("a");
        let scene = Scene::before(&[&origin], "");
        let mut client = scene.client();
        client.get("/");
        let via = origin.last_head().field("Via").unwrap().to_owned();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n");
        scene.answers(of, why, &mut client, &request, 508);
    }),
    case(Reason::ConnectionLimitReached, RESPONSE, |of, why| {
        let origin = hanging();
        let scene = Scene::before(&[&origin], "[limits]\nrequests_per_target = 1");
        let mut first = scene.client();
        first.send(GET);
        until("the first is with its target", || origin.requests() == 2);
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::MemoryLimit, RESPONSE, |of, why| {
        let scene = Scene::owning(vec![Origin::named("a")], "[limits]\nmemory = \"1MiB\"");
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n", "x".repeat(12 << 10));
        let mut flood: Vec<Client> = (0..150).map(|_| scene.client()).collect();
        flood.iter_mut().for_each(|client| client.send(&head));
        scene.sees(of, why);
    }),
    case(Reason::TunnelIdleTimeout, CUT, |of, why| {
        let origin = scripted(|wire, _| {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n";
            wire.send(head).unwrap();
            // However it ends, it ends.
            let _ = wire.rest();
            Then::Close
        });
        let scene = Scene::before(&[&origin], "[timeouts]\ntunnel_idle = \"100ms\"");
        let mut client = scene.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
        assert_eq!(client.response().status, 101);
        scene.sees(of, why);
    }),
    case(Reason::ProxyStopped, CUT, |of, why| {
        let origin = scripted(|wire, _| {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").unwrap();
            // However it ends, it ends.
            let _ = wire.rest();
            Then::Close
        });
        let mut scene = Scene::before(&[&origin], "[timeouts]\ndrain = \"100ms\"");
        let mut client = scene.client();
        client.send(GET);
        client.response_head().unwrap();
        scene.evenly.signal(Signal::TERM);
        // Its metrics end with it: the log is what is left.
        scene.evenly.exit_code();
        assert_eq!(of, CUT);
        assert!(scene.entry_with(why).is_some());
    }),
];

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const CHUNKED_POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The program in front of some targets, with everything that tells reasons switched on.
struct Scene {
    evenly: Evenly,
    /// Where its access log is.
    folder: TempDir,
    #[expect(dead_code, reason = "they serve as long as it lives")]
    origins: Vec<Origin>,
}

/// A target as the file has it, checked once.
fn target(origin: &Origin) -> String {
    format!("[[targets]]\naddress = \"{}\"\n{BLIND}", origin.target())
}

/// Likewise, at a path, where a connect is all of a check.
fn path_target(path: &Path) -> String {
    format!("[[targets]]\naddress = \"unix:{}\"\ninterval = \"1h\"\n", path.display())
}

impl Scene {
    fn before(origins: &[&Origin], config: &str) -> Scene {
        let targets: String = origins.iter().map(|origin| target(origin)).collect();
        Scene::of(&format!("{config}\n{targets}"))
    }

    /// In front of targets of its own.
    fn owning(origins: Vec<Origin>, config: &str) -> Scene {
        let scene = Scene::before(&origins.iter().collect::<Vec<_>>(), config);
        Scene { origins, ..scene }
    }

    /// With this at the end of its file.
    fn of(config: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nworkers = 1\ntrusted_proxies = [\"127.0.0.1\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\naccess = \"{}\"\n{config}",
            folder.path().join("access.log").display()
        );
        let evenly = Start::of(&text).start();
        Scene { evenly, folder, origins: Vec::new() }
    }

    fn client(&self) -> Client {
        self.evenly.client()
    }

    /// The request is answered by a response of evenly's own, which says why.
    #[track_caller]
    fn answers(
        &self,
        events: &[Incident],
        reason: Reason,
        client: &mut Client,
        request: &str,
        status: u16,
    ) {
        client.send(request);
        self.told(events, reason, &client.response(), status);
    }

    /// That response is evenly's own, and says why.
    #[track_caller]
    fn told(&self, events: &[Incident], reason: Reason, response: &Response, status: u16) {
        assert_eq!(response.status, status, "{reason}");
        let told = response.head.field("Proxy-Status").unwrap_or_default();
        let mut parts = told.split("; ");
        assert_eq!(parts.next(), Some("evenly"), "{told}");
        assert_eq!(parts.next(), Some(&*format!("error={reason}")), "{told}");
        self.sees(events, reason);
        // The detail, if there is one, is that of the log.
        let detail = parts.next().map(|part| part.trim_start_matches("details=").trim_matches('"'));
        let entry = self.entry_with(reason).unwrap();
        assert_eq!(entry["detail"].as_str(), detail, "{entry}");
    }

    /// The response is cut.
    #[track_caller]
    fn cuts(&self, events: &[Incident], reason: Reason) {
        let mut client = self.client();
        client.send(GET);
        assert!(client.try_response().is_err(), "{reason}");
        self.sees(events, reason);
    }

    /// Whoever of two endpoints a request is for, `name` serves it.
    #[track_caller]
    fn moves_on(&self, events: &[Incident], reason: Reason, name: &str) {
        for _ in 0..2 {
            assert_eq!(self.client().get("/").text(), name, "{reason}");
        }
        self.sees(events, reason);
    }

    /// Requests get the one that is not `other` ejected.
    #[track_caller]
    fn ejects(&self, events: &[Incident], reason: Reason, other: &Origin) {
        let mut client = self.client();
        // One that has just come in is let off for 10 s.
        let deadline = Instant::now() + Duration::from_secs(10) + PATIENCE;
        while self.count(Incident::Ejection, reason) == 0 {
            assert!(Instant::now() < deadline, "no ejection: {:#?}", self.evenly.log());
            client.get("/");
        }
        self.sees(events, reason);
        assert!(other.requests() > 0);
    }

    /// Each of these events has happened for this reason, and that is told everywhere.
    #[track_caller]
    fn sees(&self, events: &[Incident], reason: Reason) {
        for &event in events {
            until(&format!("a {} for {reason}", event.word()), || self.count(event, reason) > 0);
            match event {
                Incident::Response | Incident::Cut => {
                    until("its entry in the access log", || self.entry_with(reason).is_some());
                    self.is_recorded(&self.entry_with(reason).unwrap());
                }
                Incident::Ejection | Incident::Check => {
                    let line = format!("; reason: {reason}");
                    until("its line in the log", || self.evenly.logged(&line) > 0);
                    until("the same word at its target", || self.told_of_target(event, reason));
                }
                Incident::Retry => {}
            }
            until("the same count in the status", || {
                let counted = self.count(event, reason);
                let told = &self.status()["reasons"][event.word()][reason.word()];
                told.as_u64() == Some(counted)
            });
        }
    }

    /// The flight recorder says the same as the access log.
    #[track_caller]
    fn is_recorded(&self, entry: &Value) {
        let (told, _) = self.evenly.ask(&["recent", "--errors", "--json", "-n", "1000"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let same = |it: &Value| {
            [
                "reason", "detail", "status", "end", "ended_by", "phase", "endpoint", "attempts",
                "uri", "line",
            ]
            .iter()
            .all(|&key| it[key] == entry[key])
        };
        assert!(told["exchanges"].as_array().unwrap().iter().any(same), "{entry}\n{told}");
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.evenly.admin("/status", "")).unwrap()
    }

    /// `/targets` has this as the reason of such an event.
    fn told_of_target(&self, event: Incident, reason: Reason) -> bool {
        let told: Value = serde_json::from_str(&self.evenly.admin("/targets", "")).unwrap();
        let targets = told["targets"].as_array().unwrap();
        let mut endpoints = targets.iter().flat_map(|it| it["endpoints"].as_array().unwrap());
        endpoints.any(|endpoint| match event {
            Incident::Ejection => endpoint["reason"] == reason.word(),
            _ => {
                let mut checks = endpoint["checks"].as_array().unwrap().iter();
                checks.any(|check| check["passed"] == false && check["reason"] == reason.word())
            }
        })
    }

    /// What the metrics have counted.
    fn count(&self, event: Incident, reason: Reason) -> u64 {
        let family = match event {
            Incident::Response => "evenly_own_responses_total",
            Incident::Cut => "evenly_exchanges_cut_total",
            Incident::Retry => "evenly_retries_total",
            Incident::Ejection => "evenly_ejections_total",
            Incident::Check => "evenly_health_check_failures_total",
        };
        let party = reason.party().word();
        let sample = format!("{family}{{reason=\"{reason}\",party=\"{party}\"}} ");
        let metrics = self.evenly.admin("/metrics", "");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        count.unwrap_or_else(|| panic!("no {sample}")).parse().unwrap()
    }

    /// An entry of the access log that has this reason.
    fn entry_with(&self, reason: Reason) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        let mut entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.find(|entry| entry["reason"] == reason.word())
    }
}

/// Does this to every request but checks, which it answers.
fn scripted(act: impl Fn(&mut Wire, &Head) -> Then + Send + Sync + 'static) -> Origin {
    Origin::start(move |wire, head| match head.target() {
        "/check" => answer(wire, ""),
        _ => act(wire, head),
    })
}

fn saying(bytes: impl Into<Vec<u8>>, then: Then) -> Origin {
    let bytes = bytes.into();
    scripted(move |wire, _| match wire.send(&bytes) {
        Ok(()) => then,
        Err(_) => Then::Close,
    })
}

/// Takes requests and never answers.
fn hanging() -> Origin {
    scripted(|wire, _| {
        // However it ends, it ends.
        let _ = wire.rest();
        Then::Close
    })
}

/// Begins its response before it has read the request, and reads that on.
fn early() -> Origin {
    scripted(|wire, _| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n").unwrap();
        // However it ends, it ends.
        let _ = wire.rest();
        Then::Close
    })
}

/// A response whose first part has reached its client is cut for what stands in the rest.
#[track_caller]
fn cut_in_the_rest(events: &[Incident], reason: Reason, rest: &str) {
    let (gate, rest) = (Arc::new(Gate::default()), rest.to_owned());
    let opened = Arc::clone(&gate);
    let origin = scripted(move |wire, _| {
        let first = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        wire.send(first).unwrap();
        opened.wait();
        match wire.send(&rest) {
            Ok(()) | Err(_) => Then::Close,
        }
    });
    let scene = Scene::before(&[&origin], "");
    let mut client = scene.client();
    client.send(GET);
    client.response_head().unwrap();
    gate.open();
    scene.sees(events, reason);
}

/// A check that gets these bytes fails.
#[track_caller]
fn checked(events: &[Incident], reason: Reason, bytes: &str) {
    let bytes = bytes.to_owned();
    let origin = Origin::start(move |wire, _| match wire.send(&bytes) {
        Ok(()) | Err(_) => Then::Close,
    });
    Scene::before(&[&origin], "").sees(events, reason);
}

/// A port that takes one connection, that of the first check, and lets all others wait outside.
struct FullPort(Socket);

impl FullPort {
    fn new() -> FullPort {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        FullPort(socket)
    }

    fn target(&self) -> String {
        let address = self.0.local_addr().unwrap().as_socket().unwrap();
        format!("[[targets]]\naddress = \"{address}\"\ninterval = \"1h\"\n")
    }
}

/// Likewise, a path.
struct FullPath {
    folder: TempDir,
    _socket: Socket,
}

impl FullPath {
    fn new() -> FullPath {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(folder.path().join("full")).unwrap()).unwrap();
        socket.listen(0).unwrap();
        FullPath { folder, _socket: socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("full")
    }
}

fn run(cases: &[Case]) {
    for case in cases {
        (case.run)(case.events, case.reason);
    }
}

#[test]
fn what_a_client_does_has_its_reason() {
    run(CLIENT);
}

#[test]
fn a_connect_that_fails_has_its_reason() {
    run(CONNECTS);
}

#[test]
fn a_response_that_is_not_passed_on_has_its_reason() {
    run(RESPONSES);
}

#[test]
fn a_check_that_fails_has_its_reason() {
    run(CHECKS);
}

#[test]
fn an_ejection_has_its_reason() {
    run(EJECTIONS);
}

#[test]
fn what_evenly_does_of_itself_has_its_reason() {
    run(OWN);
}

/// In a network of its own, which takes root.
const NETWORK: &[Case] = &[
    case(Reason::DestinationIpUnroutable, &[Incident::Response, Incident::Check], |of, why| {
        let origin = Origin::named("a");
        let scene = Scene::before(&[&origin], "");
        let _way = NoWay::to(&origin);
        scene.answers(of, why, &mut scene.client(), GET, 503);
    }),
    case(Reason::DestinationIpUnroutable, RETRY, |of, why| {
        let (one, other) = (Origin::named("a"), Origin::named("b"));
        let scene = Scene::before(&[&one, &other], "");
        let _way = NoWay::to(&one);
        scene.moves_on(of, why, "b");
    }),
    case(Reason::ResourceShortage, RESPONSE, |of, why| {
        let origin = closing("a");
        let scene = Scene::before(&[&origin], "[timeouts]\nconnect = \"200ms\"");
        let mut client = scene.client();
        let ports = OnePort::taken_by(&[&origin]);
        client.send(GET);
        let response = client.response();
        drop(ports);
        scene.told(of, why, &response, 503);
    }),
    case(Reason::ResourceShortage, RETRY, |of, why| {
        let (one, other) = (closing("a"), closing("b"));
        let scene = Scene::before(&[&one, &other], "");
        let mut clients = [scene.client(), scene.client()];
        let ports = OnePort::taken_by(&[&one]);
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "b"));
        drop(ports);
        scene.sees(of, why);
    }),
];

/// Answers with its name and ends each connection.
fn closing(name: &'static str) -> Origin {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n";
    Origin::saying(format!("{head}{name}"), Then::Close)
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// While it lives there is no way to an address.
struct NoWay(String);

impl NoWay {
    fn to(origin: &Origin) -> NoWay {
        let address = origin.address.ip().to_string();
        ip(&["route", "add", "unreachable", &address, "table", "local"]);
        NoWay(address)
    }
}

impl Drop for NoWay {
    fn drop(&mut self) {
        // A test that panics says enough.
        let _ = Command::new("ip").args(["route", "del", &self.0, "table", "local"]).status();
    }
}

/// While it lives there is one local port, and it is in use towards these addresses.
struct OnePort(#[expect(dead_code, reason = "they are held")] Vec<Socket>);

const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

impl OnePort {
    fn taken_by(origins: &[&Origin]) -> OnePort {
        std::fs::write(PORTS, "20000 20000").unwrap();
        let held = origins.iter().map(|origin| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.connect(&origin.address.into()).unwrap();
            socket
        });
        OnePort(held.collect())
    }
}

impl Drop for OnePort {
    fn drop(&mut self) {
        // A test that panics says enough.
        let _ = std::fs::write(PORTS, "32768 60999");
    }
}

#[test]
fn what_the_network_of_a_host_does_has_its_reason() {
    if !geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
        println!("skipped: a network of its own needs root and iproute2");
        return;
    }
    // The network is that of the thread, and of all that it starts.
    let thread = std::thread::spawn(|| {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("skipped: this machine gives nobody a network of its own");
            return;
        }
        ip(&["link", "set", "lo", "up"]);
        run(NETWORK);
    });
    thread.join().unwrap();
}

#[test]
fn every_reason_is_provoked_as_each_event_that_it_can_be_of() {
    let all = [CLIENT, CONNECTS, RESPONSES, CHECKS, EJECTIONS, OWN, NETWORK];
    for event in Incident::ALL {
        for reason in Reason::ALL.iter().filter(|reason| reason.can_be_of(event)) {
            let is_it = |case: &&Case| case.reason == *reason && case.events.contains(&event);
            let is_there = all.iter().any(|cases| cases.iter().any(|case| is_it(&case)));
            assert!(is_there, "{reason} as the reason of a {} is not tried", event.word());
        }
    }
}
