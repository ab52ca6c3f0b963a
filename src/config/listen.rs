//! Addresses to listen on: what is meant by one that is not written in full, and which addresses are the same place.
//!
//! A remedy keeps the port that was written, and never opens to others what was closed.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{canonical, is_number, variable};
use super::error::quoted;
use crate::settings::TargetAddress;

/// Whom a listener is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Clients, from wherever they come.
    Everybody,
    /// People and programs on this machine.
    Operators,
}

impl Audience {
    fn port(self) -> &'static str {
        match self {
            Audience::Everybody => "8080",
            Audience::Operators => "9901",
        }
    }
}

/// An IP address and a port, which may be 0 to let the kernel choose, for clients.
pub(super) fn public(text: &str) -> Result<SocketAddr, String> {
    read(text, Audience::Everybody)
}

/// An IP address and a port for the admin listener, which has no password.
pub(super) fn admin(text: &str) -> Result<SocketAddr, String> {
    read(text, Audience::Operators)
}

fn read(text: &str, audience: Audience) -> Result<SocketAddr, String> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(format!("{} {}", quoted(text), mistake(text, audience)));
    };
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Ok(address),
        _ => Ok(canonical(address)),
    }
}

/// What is wrong with `text`, and what to write instead.
fn mistake(text: &str, audience: Audience) -> String {
    if let Some(variable) = variable(text) {
        return format!("has {variable}, and variables are not expanded; write the address itself");
    }
    let bare = text.trim();
    if bare.starts_with("unix:") || bare.starts_with('/') {
        let address = format!("127.0.0.1:{}", audience.port());
        return format!(
            "is not an IP address and port, which is all that evenly listens on; write \"{address}\""
        );
    }
    let (scheme, rest) = match bare.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, bare),
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((ip, port)) = unbracketed(rest) {
        let whole = format!("\"[{rest}]:{}\"", audience.port());
        return format!("is IPv6 without brackets; write \"[{ip}]:{port}\" or {whole}");
    }
    let (host, port) = parts(rest);
    let remedy =
        remedy(host, port.filter(|port| is_port(port)).unwrap_or(audience.port()), audience);
    let problem = match (scheme, port) {
        (Some("https"), _) => {
            "has a scheme (https://), and evenly speaks no TLS: put a TLS terminator in front"
                .to_owned()
        }
        (Some(scheme), _) => format!("has a scheme ({scheme}://)"),
        (None, Some(port)) if !is_port(port) => {
            return format!("has no valid port; write a port from 0 to 65535, as in {remedy}");
        }
        _ if bare.contains(',') || bare.contains(char::is_whitespace) => {
            return "is more than one address; write a list, [\"127.0.0.1:8080\", \"[::1]:8080\"], or --listen for each".to_owned();
        }
        _ if rest != bare => "has a path".to_owned(),
        _ if bare.is_empty() => "is empty".to_owned(),
        (None, _) if host.is_empty() => "has no address".to_owned(),
        (None, None) if host.parse::<IpAddr>().is_ok() => "has no port".to_owned(),
        _ if bare != text => "has a space too many".to_owned(),
        _ => "is not an IP address and port".to_owned(),
    };
    format!("{problem}; write {remedy}")
}

/// An IPv6 address without brackets whose last group may be meant as the port: the two apart.
fn unbracketed(text: &str) -> Option<(Ipv6Addr, &str)> {
    text.parse::<Ipv6Addr>().ok()?;
    let (ip, port) = text.rsplit_once(':').filter(|(_, port)| is_port(port))?;
    Some((ip.parse().ok()?, port))
}

/// The address and the port in `text`, as far as there are any.
fn parts(text: &str) -> (&str, Option<&str>) {
    let unwrapped = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if is_number(text) {
        ("", Some(text))
    } else if text.parse::<IpAddr>().is_ok() {
        (text, None)
    } else if let Some(inner) = unwrapped {
        (inner, None)
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host.trim_matches(['[', ']']), Some(port)),
            None => (text, None),
        }
    }
}

fn is_port(text: &str) -> bool {
    is_number(text) && text.parse::<u16>().is_ok()
}

/// The right spelling of `host` and `port`. Where it is open who may connect, the choice is the reader's.
fn remedy(host: &str, port: &str, audience: Audience) -> String {
    let here = format!("\"127.0.0.1:{port}\"");
    match host.to_ascii_lowercase().as_str() {
        "" | "*" | "any" | "all" if audience == Audience::Operators => here,
        "" => format!(
            "{here} for this machine alone, or \"0.0.0.0:{port}\" for every IPv4 address of it"
        ),
        "*" | "any" | "all" => {
            format!(
                "\"0.0.0.0:{port}\" for every IPv4 address of this machine, or \"[::]:{port}\" for those of IPv6 too"
            )
        }
        "localhost" => here,
        other => match other.parse::<IpAddr>() {
            Ok(ip) => quoted(&SocketAddr::new(ip, port.parse().unwrap_or(0)).to_string()),
            Err(_) if other.contains('%') => {
                "the number of the interface as the zone, \"[fe80::1%2]:80\"".to_owned()
            }
            Err(_) => format!("an IP address of this machine, such as {here}"),
        },
    }
}

/// Whether the two cannot both be bound: one address, or all of them and one of these.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether `all` is a wildcard that `ip` is part of.
pub(super) fn covers(all: IpAddr, ip: IpAddr) -> bool {
    // A wildcard of IPv6 may take IPv4 connections too.
    all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4())
}

/// The addresses of this machine, read from the kernel where they are first asked for. What cannot be read is left out.
#[derive(Default)]
pub(super) struct Mine(OnceCell<Vec<IpAddr>>);

impl Mine {
    /// The most that is read of each file, in bytes: a router may have a million routes.
    const MOST: u64 = 4 << 20;

    /// Whether requests to `target` arrive at the listener on `at`.
    pub(super) fn leads_to(&self, target: &TargetAddress, at: SocketAddr) -> bool {
        let (ips, port) = match &target.bare() {
            TargetAddress::Ip(address) => (vec![address.ip()], address.port()),
            TargetAddress::Name { host, port } if is_localhost(host) => {
                (vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], *port)
            }
            _ => return false,
        };
        let arrives = |ip: IpAddr| {
            overlap(SocketAddr::new(ip, port), at)
                && (ip == at.ip() || ip.is_loopback() || self.contains(ip))
        };
        ips.into_iter().any(arrives)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let read = |path: &str| {
            let mut text = String::new();
            let file = File::open(path);
            // What is there up to an error counts.
            let _ = file.and_then(|file| file.take(Self::MOST).read_to_string(&mut text));
            text
        };
        let all = || {
            of_ipv4(&read("/proc/net/fib_trie"))
                .chain(of_ipv6(&read("/proc/net/if_inet6")))
                .collect()
        };
        self.0.get_or_init(all).contains(&ip)
    }
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// The local addresses of `/proc/net/fib_trie`: each stands on the line before what it is.
fn of_ipv4(trie: &str) -> impl Iterator<Item = IpAddr> {
    let lines = trie.lines().zip(trie.lines().skip(1));
    let local = lines.filter(|(_, kind)| kind.trim() == "/32 host LOCAL");
    local.filter_map(|(address, _)| address.trim().strip_prefix("|-- ")?.parse().ok())
}

/// The addresses of `/proc/net/if_inet6`: 32 digits at the begin of each line.
fn of_ipv6(table: &str) -> impl Iterator<Item = IpAddr> {
    let digits = table.lines().filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok());
    digits.map(|bits| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_on_addresses_only() {
        assert_eq!(public("[::ffff:127.0.0.1]:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!(public("[::1]:65535"), Ok(SocketAddr::from((Ipv6Addr::LOCALHOST, 65535))));
    }

    #[test]
    fn a_remedy_keeps_the_port_and_opens_nothing() {
        let both = |port: u16| {
            format!(
                "write \"127.0.0.1:{port}\" for this machine alone, or \"0.0.0.0:{port}\" for every IPv4 address of it"
            )
        };
        let cases = [
            ("8081", format!("has no address; {}", both(8081))),
            (":9000", format!("has no address; {}", both(9000))),
            ("", format!("is empty; {}", both(8080))),
            ("localhost:8080", "is not an IP address and port; write \"127.0.0.1:8080\"".into()),
            ("localhost", "is not an IP address and port; write \"127.0.0.1:8080\"".into()),
            ("127.0.0.1", "has no port; write \"127.0.0.1:8080\"".into()),
            ("::1", "has no port; write \"[::1]:8080\"".into()),
            ("[::1]", "has no port; write \"[::1]:8080\"".into()),
            ("::1:80", "is IPv6 without brackets; write \"[::1]:80\" or \"[::1:80]:8080\"".into()),
            ("fe80::1:2:3:4:x:80", "is not an IP address and port; write an IP address of this machine, such as \"127.0.0.1:80\"".into()),
            ("*:81", "is not an IP address and port; write \"0.0.0.0:81\" for every IPv4 address of this machine, or \"[::]:81\" for those of IPv6 too".into()),
            ("http://127.0.0.1:81/", "has a scheme (http://); write \"127.0.0.1:81\"".into()),
            ("https://10.0.0.1:443", "has a scheme (https://), and evenly speaks no TLS: put a TLS terminator in front; write \"10.0.0.1:443\"".into()),
            ("127.0.0.1:81/", "has a path; write \"127.0.0.1:81\"".into()),
            ("127.0.0.1:65536", "has no valid port; write a port from 0 to 65535, as in \"127.0.0.1:8080\"".into()),
            ("127.0.0.1:http", "has no valid port; write a port from 0 to 65535, as in \"127.0.0.1:8080\"".into()),
            (" 127.0.0.1:81", "has a space too many; write \"127.0.0.1:81\"".into()),
            ("a.example:81", "is not an IP address and port; write an IP address of this machine, such as \"127.0.0.1:81\"".into()),
            ("127.0.0.1:1,127.0.0.1:2", "is more than one address; write a list, [\"127.0.0.1:8080\", \"[::1]:8080\"], or --listen for each".into()),
            ("[fe80::1%eth0]:80", "is not an IP address and port; write the number of the interface as the zone, \"[fe80::1%2]:80\"".into()),
            ("unix:/run/a", "is not an IP address and port, which is all that evenly listens on; write \"127.0.0.1:8080\"".into()),
            ("${LISTEN}", "has \"${LISTEN}\", and variables are not expanded; write the address itself".into()),
        ];
        for (text, expected) in cases {
            assert_eq!(public(text), Err(format!("{} {expected}", quoted(text))));
        }
    }

    #[test]
    fn the_admin_listener_is_kept_on_this_machine() {
        for text in [":9901", "9901", "*:9901", "localhost:9901", "localhost", "*", ""] {
            let error = admin(text).unwrap_err();
            assert!(error.ends_with("; write \"127.0.0.1:9901\""), "{error}");
        }
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_port() {
        let meet = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| public(text).expect("an address"));
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        assert!(meet("0.0.0.0:1", "127.0.0.1:1"));
        assert!(meet("[::]:1", "127.0.0.1:1"));
        assert!(meet("[::]:1", "[::1]:1"));
        assert!(meet("10.0.0.1:1", "10.0.0.1:1"));
        assert!(!meet("0.0.0.0:1", "[::1]:1"));
        assert!(!meet("0.0.0.0:1", "127.0.0.1:2"));
        assert!(!meet("0.0.0.0:0", "0.0.0.0:0"));
        assert!(!meet("127.0.0.1:1", "127.0.0.2:1"));
    }

    #[test]
    fn the_addresses_of_this_machine_are_those_of_the_kernel() {
        let trie = "Local:\n  +-- 0.0.0.0/0 2 0 2\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL\n";
        assert_eq!(of_ipv4(trie).collect::<Vec<_>>(), [IpAddr::from([10, 1, 2, 3])]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\nfe80 x\n";
        assert_eq!(of_ipv6(table).collect::<Vec<_>>(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert!(Mine::default().contains(IpAddr::from([127, 0, 0, 1])));
        assert!(!Mine::default().contains(IpAddr::from([192, 0, 2, 1])));
    }
}
