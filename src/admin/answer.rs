//! What is asked for to the bytes of an answer. Pure.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::command::{Command, Reply};
use crate::http::reason;
use crate::worker::Stage;

use super::exposition::Exposition;
use super::permit::Denial;
use super::request::{Refusal, Request};
use super::view::View;
use super::{explain, page, prometheus, recent, status, targets};

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const TOML: &str = "application/toml";
/// What is served here, for programs.
const OPENAPI: &str = include_str!("../../config/openapi.json");

/// A path that is served.
struct Route {
    path: &'static str,
    /// What is there, for the page.
    what: &'static str,
    render: fn(&View) -> Response,
}

const ROUTES: [Route; 11] = [
    Route { path: "/", what: "this page", render: |view| Response::ok(HTML, listing(view)) },
    Route {
        path: "/metrics",
        what: "counters and gauges for Prometheus",
        render: |view| metrics(view, Exposition::Plain),
    },
    Route {
        path: "/status",
        what: "workers and endpoints as JSON",
        render: |view| Response::ok(status::CONTENT_TYPE, status::render(view)),
    },
    Route {
        path: "/targets",
        what: "each target as JSON: how it is, since when, why, and its last checks",
        render: |view| Response::ok(status::CONTENT_TYPE, targets::render(view)),
    },
    Route {
        path: "/config",
        what: "every setting that is in force, as a file",
        render: |view| Response::ok(TOML, (view.config)(&view.snapshot.plan)),
    },
    Route {
        path: "/openapi.json",
        what: "what there is here, for programs (OpenAPI)",
        render: |_| Response::ok(status::CONTENT_TYPE, OPENAPI.to_owned()),
    },
    Route {
        path: "/readyz",
        what: "200 while it wants new connections, 503 as soon as it drains",
        render: readyz,
    },
    Route { path: "/healthz", what: "as /readyz", render: readyz },
    Route {
        path: "/page.css",
        what: "the style of this page",
        render: |_| Response::ok(CSS, page::STYLE.to_owned()),
    },
    Route {
        path: "/page.js",
        what: "its script",
        render: |_| Response::ok(SCRIPT, page::SCRIPT.to_owned()),
    },
    Route { path: "/livez", what: "200 until it ends", render: |_| Response::plain(200, "ok") },
];

/// What would become of a request.
const EXPLAIN: &str = "/explain";

/// Exchanges that ended last.
const RECENT: &str = "/recent";

/// What the path of one target begins with; its name follows, percent-encoded.
const TARGET: &str = "/targets/";

/// Where commands are taken.
const COMMANDS: [&str; 5] = ["/reload", "/rollback", "/drain", "/undrain", "/upgrade"];

/// A response before it is bytes.
#[derive(Debug)]
struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
    /// The methods there are, of a 405.
    allow: &'static str,
}

impl Response {
    fn ok(content_type: &'static str, body: String) -> Response {
        Response { status: 200, content_type, body, allow: "" }
    }

    fn plain(status: u16, body: &str) -> Response {
        Response { status, content_type: PLAIN, body: format!("{body}\n"), allow: "" }
    }
}

/// The whole answer to `asked`, after which the connection ends; who asks is `trusted` if commands of theirs are taken.
pub(super) fn bytes(asked: &Result<Request, Refusal>, view: &View, trusted: bool) -> Vec<u8> {
    let answer = match asked {
        Ok(request) if request.path == RECENT && request.credentials.is_some() && !trusted => {
            deny(Denial::Wrong)
        }
        Ok(request) if request.path == RECENT => {
            match recent::render(&request.query, view, trusted) {
                Ok(text) => Response::ok(status::CONTENT_TYPE, text),
                Err(why) => Response::plain(400, &why),
            }
        }
        Ok(request) if request.path == EXPLAIN => match explain::render(&request.query, view) {
            Ok(text) => Response::ok(status::CONTENT_TYPE, text),
            Err(why) => Response::plain(400, &why),
        },
        Ok(request) if request.path == "/metrics" => metrics(view, request.form),
        Ok(request) => route(&request.path, view),
        Err(refusal) => refuse(*refusal),
    };
    written(&answer, !asked.as_ref().is_ok_and(|request| request.head_only))
}

fn written(answer: &Response, with_body: bool) -> Vec<u8> {
    let mut text = String::with_capacity(answer.body.len() + 256);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    );
    if answer.status == 405 {
        let _ = write!(text, "Allow: {}\r\n", answer.allow);
    }
    if answer.status == 401 {
        text.push_str("WWW-Authenticate: Bearer\r\n");
    }
    if answer.content_type == HTML {
        text.push_str(page::FIELDS);
    }
    text.push_str("X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
    if with_body {
        text.push_str(&answer.body);
    }
    text.into_bytes()
}

/// What a request asks to be done, by one whose commands are taken or not; else the answer that refuses it.
pub(super) fn command(request: &Request, permit: Result<(), Denial>) -> Result<Command, Vec<u8>> {
    let refused = |response| Err(written(&response, true));
    if let Some(content) = &request.content {
        return steer(request, content, permit).map_err(|response| written(&response, true));
    }
    let command = match (&*request.path, &*request.query) {
        ("/reload", "") => Command::Reload,
        ("/reload", "dry-run" | "dry-run=") => Command::Compare,
        ("/rollback", "") => Command::Rollback,
        ("/drain", "") => Command::Drain { wait: false },
        ("/drain", "wait" | "wait=") => Command::Drain { wait: true },
        ("/undrain", "") => Command::Undrain,
        ("/upgrade", "") => Command::Upgrade(None),
        ("/upgrade", query) if path_in(query).is_some() => Command::Upgrade(path_in(query)),
        (path, query) if COMMANDS.contains(&path) => {
            let why = format!(
                "?{query} is unknown; /reload takes ?dry-run, /drain takes ?wait, /upgrade ?binary= and an absolute path"
            );
            return refused(Response::plain(400, &why));
        }
        (path, _)
            if permit.is_err()
                || path == EXPLAIN
                || path == RECENT
                || path.starts_with(TARGET)
                || ROUTES.iter().any(|route| route.path == path) =>
        {
            return refused(refuse(Refusal::Method));
        }
        _ => {
            return refused(Response::plain(
                404,
                "not found; POST /reload, /rollback, /drain, /undrain and /upgrade are taken",
            ));
        }
    };
    permit.map(|()| command).map_err(|denial| written(&deny(denial), true))
}

/// A decision about a target.
fn steer(
    request: &Request,
    content: &[u8],
    permit: Result<(), Denial>,
) -> Result<Command, Response> {
    let Some(name) = request.path.strip_prefix(TARGET) else {
        let allow = if COMMANDS.contains(&&*request.path) { "POST" } else { "GET, HEAD" };
        return Err(Response {
            allow,
            ..Response::plain(405, "PUT is taken at /targets/NAME only")
        });
    };
    permit.map_err(deny)?;
    let name = decoded(name).and_then(|name| String::from_utf8(name).ok());
    let name = name.ok_or_else(|| {
        Response::plain(400, "the name of the target is not percent-encoded UTF-8 (RFC 3986)")
    })?;
    super::steer::command(name, content).map_err(|why| Response::plain(400, &why))
}

/// The answer to one who is turned away.
pub(super) fn denied(denial: Denial) -> Vec<u8> {
    written(&deny(denial), true)
}

/// Why a command is not taken, and what to do.
fn deny(denial: Denial) -> Response {
    match denial {
        Denial::Name => Response::plain(
            403,
            "this name is not known to lead here, so that a page in a browser could read with it what it should not; use the IP \
             address, or write the name in admin.hosts",
        ),
        Denial::Browser => Response::plain(
            403,
            "a request with the Origin of another server comes from a page in a browser, which gives no commands here: it may act \
             without the knowledge of who looks at it; use evenly's own commands, or a program that sends no Origin",
        ),
        Denial::NoToken => Response::plain(
            403,
            "commands are taken here only with a token, and there is none: set admin.token_file and restart evenly, or give \
             commands over the control socket (evenly reload FILE, or --socket PATH)",
        ),
        Denial::Missing => Response::plain(
            401,
            "a token is needed: what is in the file of admin.token_file, as Authorization: Bearer TOKEN; evenly's own commands \
             take --token-file PATH, or EVENLY_ADMIN_TOKEN",
        ),
        Denial::Wrong => Response::plain(
            401,
            "this is not the token; it is what was in the file of admin.token_file when evenly was started",
        ),
        Denial::Program => Response::plain(
            403,
            "the program of an upgrade is named over the control socket only (evenly upgrade --binary PATH FILE); without one \
             the upgrade starts what is now at the path from which evenly was started",
        ),
    }
}

/// What `text` says, percent-encoded (RFC 3986 section 2.1).
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

/// The program of an upgrade: an absolute path.
fn path_in(query: &str) -> Option<PathBuf> {
    let bytes = decoded(query.strip_prefix("binary=")?)?;
    let is_whole = !bytes.contains(&0);
    let path = PathBuf::from(OsString::from_vec(bytes));
    (path.is_absolute() && is_whole).then_some(path)
}

/// The answer to a command.
pub(super) fn conclude(reply: Option<Reply>) -> Vec<u8> {
    let response = match reply {
        Some(Reply::Done(line)) => Response::plain(200, &line),
        Some(Reply::Refused(lines)) => Response::plain(409, &lines.join("\n")),
        Some(Reply::Missing(line)) => Response::plain(404, &line),
        Some(Reply::Failed(line)) => Response::plain(500, &line),
        None => Response::plain(503, "evenly is stopping"),
    };
    written(&response, true)
}

fn metrics(view: &View, form: Exposition) -> Response {
    Response::ok(form.content_type(), prometheus::render(view, form))
}

fn route(path: &str, view: &View) -> Response {
    match ROUTES.iter().find(|route| route.path == path) {
        Some(route) => (route.render)(view),
        None if COMMANDS.contains(&path) => {
            Response { allow: "POST", ..Response::plain(405, "this takes POST only") }
        }
        None => match path.strip_prefix(TARGET) {
            Some(name) => target(name, view),
            None => Response::plain(404, "not found; see / for what there is"),
        },
    }
}

fn target(name: &str, view: &View) -> Response {
    let name = decoded(name).and_then(|name| String::from_utf8(name).ok());
    match name.and_then(|name| targets::render_one(view, &name)) {
        Some(text) => Response::ok(status::CONTENT_TYPE, text),
        None => Response::plain(
            404,
            "no target has this name or address; see /targets for those there are",
        ),
    }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Method => Response {
            allow: "GET, HEAD",
            ..Response::plain(405, "only GET and HEAD are served here")
        },
        Refusal::Length => Response::plain(411, "the content needs a Content-Length"),
        Refusal::Content => {
            Response::plain(413, "the content is longer than any that is taken here")
        }
        Refusal::Invalid(fault) => Response::plain(fault.status(), fault.why()),
    }
}

/// For a balancer in front of this one: whether to send new connections here.
fn readyz(view: &View) -> Response {
    match view.stage {
        Stage::Running => Response::plain(200, "ok"),
        Stage::Leaving | Stage::Draining | Stage::Stopping => Response::plain(503, "draining"),
    }
}

/// The page for people.
fn listing(view: &View) -> String {
    page::render(view, ROUTES.iter().map(|route| (route.path, route.what)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Fault;

    fn ask(path: &str, head_only: bool) -> Result<Request, Refusal> {
        Ok(Request {
            path: path.into(),
            query: String::new(),
            head_only,
            is_command: false,
            content: None,
            credentials: None,
            origin: None,
            host: None,
            form: Exposition::Plain,
        })
    }

    fn answer(asked: &Result<Request, Refusal>, view: &View) -> String {
        String::from_utf8(bytes(asked, view, true)).unwrap()
    }

    #[test]
    fn each_request_has_its_status_and_type() {
        let json = "application/json";
        let metrics = "text/plain; version=0.0.4; charset=utf-8";
        let cases = [
            (ask("/", false), "200 OK", HTML),
            (ask("/metrics", false), "200 OK", metrics),
            (ask("/status", false), "200 OK", json),
            (ask("/page.css", false), "200 OK", CSS),
            (ask("/page.js", false), "200 OK", SCRIPT),
            (ask("/healthz", false), "200 OK", PLAIN),
            (ask("/metrics/", false), "404 Not Found", PLAIN),
            (ask("/Metrics", false), "404 Not Found", PLAIN),
            (ask("*", false), "404 Not Found", PLAIN),
            (Err(Refusal::Invalid(Fault::NoHost)), "400 Bad Request", PLAIN),
            (Err(Refusal::Method), "405 Method Not Allowed", PLAIN),
            (
                Err(Refusal::Invalid(Fault::LargeRequestHead)),
                "431 Request Header Fields Too Large",
                PLAIN,
            ),
            (Err(Refusal::Invalid(Fault::OtherVersion)), "505 HTTP Version Not Supported", PLAIN),
        ];
        for (asked, status, content_type) in cases {
            let text = answer(&asked, &View::sample());
            let begin = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n");
            assert!(text.starts_with(&begin), "{asked:?}: {text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
            assert!(head.ends_with("\r\nConnection: close"), "{head}");
            assert_eq!(head.contains("\r\nAllow: GET, HEAD\r\n"), asked == Err(Refusal::Method));
        }
    }

    #[test]
    fn head_is_answered_like_get_without_the_body() {
        let view = View::sample();
        for path in ["/", "/metrics", "/status", "/healthz", "/none"] {
            let (get, head) = (answer(&ask(path, false), &view), answer(&ask(path, true), &view));
            assert_eq!(
                get.split_once("\r\n\r\n").unwrap().0,
                head.strip_suffix("\r\n\r\n").unwrap()
            );
        }
    }

    #[test]
    fn healthz_says_when_it_drains() {
        for (stage, status, body) in [
            (Stage::Running, 200, "ok\n"),
            (Stage::Leaving, 503, "draining\n"),
            (Stage::Draining, 503, "draining\n"),
            (Stage::Stopping, 503, "draining\n"),
        ] {
            let answer = readyz(&View { stage, ..View::sample() });
            assert_eq!((answer.status, answer.body.as_str()), (status, body));
        }
    }

    #[test]
    fn a_command_is_refused_whichever_it_is_and_with_a_remedy() {
        let cases = [
            (Denial::Name, "403 Forbidden", "admin.hosts"),
            (Denial::Browser, "403 Forbidden", "a page in a browser"),
            (Denial::NoToken, "403 Forbidden", "set admin.token_file"),
            (Denial::Missing, "401 Unauthorized", "--token-file PATH"),
            (Denial::Wrong, "401 Unauthorized", "this is not the token"),
            (Denial::Program, "403 Forbidden", "over the control socket only"),
        ];
        for path in COMMANDS {
            let request = ask(path, false).unwrap();
            assert!(command(&request, Ok(())).is_ok(), "{path}");
            for (denial, status, why) in cases {
                let text = String::from_utf8(command(&request, Err(denial)).unwrap_err()).unwrap();
                assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text}");
                assert!(text.contains(why), "{text}");
                let asks = text.contains("\r\nWWW-Authenticate: Bearer\r\n");
                assert_eq!(asks, status.starts_with("401"), "{text}");
            }
        }
    }

    #[test]
    fn the_page_lists_every_path_and_may_load_nothing_from_elsewhere() {
        let text = answer(&ask("/", false), &View::sample());
        for route in ROUTES {
            let link = format!("<a href=\"{0}\">{0}</a>: ", route.path);
            assert!(text.contains(&link), "{text}");
        }
        let policy = "\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; ";
        assert!(text.contains(policy), "{text}");
        for path in ["/page.css", "/page.js"] {
            let text = answer(&ask(path, false), &View::sample());
            assert!(text.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{text}");
        }
    }
}
