//! Who may give commands: all who come by the control socket, and by TCP those who know the token. And by which names the admin
//! listener is called, so that no page in a browser reads it by a name of its own that leads here.
//!
//! Owns those decisions, the first of which is the same for every command, and what the log says of those who were turned away.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::request::Request;
use crate::token::AdminToken;

/// How long after a line of the log the next one may follow: whoever guesses does not fill the log.
const PAUSE: Duration = Duration::from_secs(10);

/// Where a visitor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visitor {
    /// The control socket: whoever can open it may do what this user may.
    Local,
    /// The admin listener, from this address, if it is still known.
    Remote(Option<SocketAddr>),
}

/// Why a command is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// It calls this by a name that is not known to be one of this machine.
    Name,
    /// A page in a browser that was not served here asks, which may do so by a person's network and cookies, and without that person knowing.
    Browser,
    /// There is no token that one could know.
    NoToken,
    /// The request has none.
    Missing,
    /// The request has another.
    Wrong,
    /// It names the program to run, which whoever reads a token on its way must not be able to choose.
    Program,
}

/// Whether commands of this request are taken.
pub(super) fn judge(
    request: &Request,
    visitor: Visitor,
    token: Option<&AdminToken>,
) -> Result<(), Denial> {
    if request.origin.as_ref().is_some_and(|origin| !is_own(origin, request)) {
        return Err(Denial::Browser);
    }
    match (visitor, token, &request.credentials) {
        (Visitor::Local, ..) => Ok(()),
        (_, None, _) => Err(Denial::NoToken),
        (_, _, None) => Err(Denial::Missing),
        (_, Some(token), Some(said)) if !token.is(said.bytes()) => Err(Denial::Wrong),
        _ if request.path == "/upgrade" && !request.query.is_empty() => Err(Denial::Program),
        _ => Ok(()),
    }
}

/// Whether a page of this origin was served by the name that the request has (RFC 6454 section 7), by evenly itself or behind
/// something that speaks TLS.
fn is_own(origin: &str, request: &Request) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.zip(request.host.as_ref()).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// Whether the request calls this by a name that is known: an address, a name without a dot, which nobody gives out in DNS, a name in
/// `hosts`; or comes from whoever knows the token or has the control socket. Monitoring may call by any name.
pub(super) fn is_called_rightly(
    request: &Request,
    visitor: Visitor,
    token: Option<&AdminToken>,
    hosts: &[String],
) -> bool {
    const OPEN: [&str; 4] = ["/metrics", "/livez", "/readyz", "/healthz"];
    // No browser leaves the field out.
    let Some(host) = &request.host else { return true };
    let knows =
        || token.zip(request.credentials.as_ref()).is_some_and(|(it, said)| it.is(said.bytes()));
    visitor == Visitor::Local || OPEN.contains(&&*request.path) || is_known(host, hosts) || knows()
}

fn is_known(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            return rest.split(']').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
        }
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<Ipv4Addr>().is_ok()
        || name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || name.ends_with(".localhost")
        || hosts.contains(&name)
}

/// Logs who was turned away, now and then.
#[derive(Debug, Default)]
pub(super) struct Doorkeeper {
    spoke: Cell<Option<Instant>>,
    /// Since that.
    silent: Cell<u64>,
}

impl Doorkeeper {
    /// A command of this visitor was not taken.
    pub(super) fn note(&self, visitor: Visitor, denial: Denial, now: Instant) {
        if let Some(line) = self.line(visitor, denial, now) {
            log::warn!("{line}");
        }
    }

    fn line(&self, visitor: Visitor, denial: Denial, now: Instant) -> Option<String> {
        if self.spoke.get().is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            self.silent.set(self.silent.get() + 1);
            return None;
        }
        self.spoke.set(Some(now));
        let from = match visitor {
            Visitor::Local => "the control socket".to_owned(),
            Visitor::Remote(None) => "the admin listener".to_owned(),
            Visitor::Remote(Some(address)) => address.to_string(),
        };
        let why = match denial {
            Denial::Name => "it calls the admin listener by a name that is not in admin.hosts",
            Denial::Browser => "its Origin is another one: a page in a browser sent it",
            Denial::NoToken => "there is no admin.token_file",
            Denial::Missing => "it has no token",
            Denial::Wrong => "its token is wrong",
            Denial::Program => "it names a program",
        };
        let more = match self.silent.take() {
            0 => String::new(),
            count => format!("; {count} more since the last line about this"),
        };
        Some(format!("a command from {from} was refused: {why}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const ANYBODY: Visitor = Visitor::Remote(None);

    fn judged(fields: &str, visitor: Visitor, has_token: bool) -> Result<(), Denial> {
        let head = format!("POST /reload HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let request = parse(head.as_bytes()).unwrap().unwrap();
        let token = AdminToken::new(TOKEN.as_bytes()).unwrap();
        judge(&request, visitor, has_token.then_some(&token))
    }

    #[test]
    fn whoever_knows_the_token_or_comes_by_the_socket_may() {
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        let cases = [
            (right.clone(), Ok(())),
            (right.replace("Bearer ", "bEARER   "), Ok(())),
            (right.replace("Authorization", "AUTHORIZATION"), Ok(())),
            (String::new(), Err(Denial::Missing)),
            ("Authorization: Bearer\r\n".into(), Err(Denial::Missing)),
            (right.replace("Bearer", "Basic"), Err(Denial::Missing)),
            (right.replace("Bearer ", "Bearer"), Err(Denial::Missing)),
            // Which of them counts could be read in two ways.
            (right.repeat(2), Err(Denial::Missing)),
            (right.replace('f', "g"), Err(Denial::Wrong)),
            (right.replace('f', "f, x"), Err(Denial::Wrong)),
            (format!("{right}Origin: null\r\n"), Err(Denial::Browser)),
            (format!("oRIGIN: http://b\r\n{right}"), Err(Denial::Browser)),
            (format!("Origin: ftp://a\r\n{right}"), Err(Denial::Browser)),
            (format!("Origin: http://a:1\r\n{right}"), Err(Denial::Browser)),
            // Our own page, also behind something that speaks TLS.
            (format!("Origin: http://a\r\n{right}"), Ok(())),
            (format!("Origin: https://A\r\n{right}"), Ok(())),
        ];
        for (fields, expected) in cases {
            assert_eq!(judged(&fields, ANYBODY, true), expected, "{fields}");
            let without = expected.and(Err(Denial::NoToken));
            let without = without.map_err(|denial| match denial {
                Denial::Browser => denial,
                _ => Denial::NoToken,
            });
            assert_eq!(judged(&fields, ANYBODY, false), without, "{fields}");
            let local = if expected == Err(Denial::Browser) { expected } else { Ok(()) };
            assert_eq!(judged(&fields, Visitor::Local, false), local, "{fields}");
        }
    }

    #[test]
    fn a_name_that_anybody_may_give_out_is_no_name_of_this_machine() {
        let hosts = ["edge.example.net".to_owned()];
        for (host, is) in [
            ("127.0.0.1:9901", true),
            ("10.0.0.1", true),
            ("[::1]:9901", true),
            ("[evil.example]:1", false),
            ("localhost:9901", true),
            ("evenly", true),
            ("a.localhost", true),
            ("EDGE.example.net:9901", true),
            ("edge.example.net.", true),
            ("edge.example.net.evil.example", false),
            ("rebind.example:9901", false),
            ("127.0.0.1.evil.example", false),
        ] {
            assert_eq!(is_known(host, &hosts), is, "{host}");
        }
    }

    #[test]
    fn a_page_with_a_name_of_its_own_reads_nothing_but_what_is_open_to_all() {
        let token = AdminToken::new(TOKEN.as_bytes()).unwrap();
        let reads = |path: &str, fields: &str, visitor| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: rebind.example\r\n{fields}\r\n");
            let request = parse(head.as_bytes()).unwrap().unwrap();
            is_called_rightly(&request, visitor, Some(&token), &[])
        };
        let right = format!("Authorization: Bearer {TOKEN}\r\n");
        assert!(!reads("/", "", ANYBODY) && !reads("/config", "", ANYBODY));
        assert!(!reads("/targets", &right.replace('f', "g"), ANYBODY));
        assert!(reads("/metrics", "", ANYBODY) && reads("/readyz", "", ANYBODY));
        assert!(reads("/targets", &right, ANYBODY) && reads("/targets", "", Visitor::Local));
    }

    #[test]
    fn a_program_is_named_over_the_control_socket_alone() {
        let token = AdminToken::new(TOKEN.as_bytes()).unwrap();
        let asked = |query: &str, token: &str| {
            let head = format!(
                "POST /upgrade{query} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            parse(head.as_bytes()).unwrap().unwrap()
        };
        let judged = |query, said, visitor| judge(&asked(query, said), visitor, Some(&token));
        assert_eq!(judged("?binary=/bin/false", TOKEN, ANYBODY), Err(Denial::Program));
        assert_eq!(judged("?binary=/bin/false", TOKEN, Visitor::Local), Ok(()));
        assert_eq!(
            judged("?binary=/bin/false", "another token, as long", ANYBODY),
            Err(Denial::Wrong)
        );
        assert_eq!(judged("", TOKEN, ANYBODY), Ok(()));
    }

    #[test]
    fn the_log_says_who_was_turned_away_but_not_each_time() {
        let keeper = Doorkeeper::default();
        let (now, who) = (Instant::now(), Visitor::Remote(Some(([192, 0, 2, 1], 5).into())));
        let line = |after| keeper.line(who, Denial::Wrong, now + after);
        let said = "a command from 192.0.2.1:5 was refused: its token is wrong";
        assert_eq!(line(Duration::ZERO).as_deref(), Some(said));
        assert_eq!(line(Duration::from_millis(1)), None);
        assert_eq!(line(PAUSE - Duration::from_millis(1)), None);
        let more = format!("{said}; 2 more since the last line about this");
        assert_eq!(line(PAUSE), Some(more));
        assert_eq!(line(PAUSE * 2).as_deref(), Some(said));
    }
}
