//! Addresses as people write them: targets (`host:port`, `unix:/path`), name servers, networks, and the `Host` and path
//! of a probe.
//!
//! Pure: nothing is resolved. Two spellings of one address come out equal (letter case,
//! IPv6 forms, IPv4 mapped into IPv6), so that duplicates can be found by comparing.
//! Every error is what is wrong and, after a semicolon, what to write instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use ipnet::IpNet;

use super::error::quoted;
use crate::settings::TargetAddress;

/// The longest path of a Unix socket, in bytes: what `sockaddr_un` holds beside the NUL at the end.
pub(super) const MAX_UNIX_PATH: usize = 107;

/// The longest path of a probe, in bytes.
pub(super) const MAX_ENDPOINT: usize = 2_048;

/// `host:port`, `1.2.3.4:80` or `[::1]:80`, where the port is 1 to 65,535; `_service._proto.name`; or `unix:/path`.
pub(super) fn target(text: &str) -> Result<TargetAddress, String> {
    refuse_what_is_not_one(text)?;
    match text.strip_prefix("unix:") {
        // What looks like a port makes it a host of that name.
        Some(port) if is_number(port) => {}
        Some(path) => return unix(text, path).map(TargetAddress::Unix),
        None if text.starts_with('/') => {
            let right = quoted(&format!("unix:{text}"));
            return Err(format!("{} is a path; write {right} for a Unix socket", quoted(text)));
        }
        None => {}
    }
    refuse_url(text)?;
    if text.starts_with('_') && !text.contains(':') {
        return service(text).map(TargetAddress::Service);
    }
    let (host, port) = split_port(text)?;
    let port = target_port(text, port)?;
    if is_service(host) {
        let alone = quoted(host);
        return Err(format!(
            "{} has a port, but SRV records supply the port; write {alone}",
            quoted(text)
        ));
    }
    if host.starts_with('[') {
        return server(text, canonical(bracketed(host, port)?));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return server(text, SocketAddr::from((ip, port)));
    }
    Ok(TargetAddress::Name { host: name(host)?, port })
}

/// What is more than one address, or less than one: a list, a variable, a port alone, blanks around it.
fn refuse_what_is_not_one(text: &str) -> Result<(), String> {
    let shown = quoted(text);
    if let Some(variable) = variable(text) {
        return Err(format!(
            "{shown} has {variable}, and variables are not expanded; write the address itself"
        ));
    }
    let bare = text.trim();
    if bare != text && !bare.is_empty() {
        let right = quoted(bare);
        return Err(format!("{shown} has a space at an end; write {right}"));
    }
    if is_number(text) {
        return Err(format!("{shown} is a port without a host; write \"127.0.0.1:{text}\""));
    }
    let is_path = text.starts_with('/') || text.starts_with("unix:");
    let mut parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    if text.contains([',', ' ']) && !is_path && parts.all(|part| part.contains(':')) {
        return Err(format!(
            "{shown} is more than one address; write a [[targets]] block, or --target, for each"
        ));
    }
    Ok(())
}

/// The variable in `text`, quoted, in the spelling of a shell or of a template.
pub(super) fn variable(text: &str) -> Option<String> {
    let start = text.find(['$', '{'])?;
    let rest = &text[start..];
    let part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '{' | '}' | ' ' | '.');
    let end = match rest.find('}') {
        Some(end) => rest[end..].find(|c| c != '}').map_or(rest.len(), |more| end + more),
        None => rest.find(|c| !part(c)).unwrap_or(rest.len()),
    };
    Some(quoted(&rest[..end]))
}

/// An address that a server can have.
fn server(text: &str, address: SocketAddr) -> Result<TargetAddress, String> {
    let (shown, port) = (quoted(text), address.port());
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Err(format!(
            "{shown} is every address of this machine, not that of a server; write \"127.0.0.1:{port}\" for this machine"
        )),
        IpAddr::V6(ip) if ip.is_unspecified() => Err(format!(
            "{shown} is every address of this machine, not that of a server; write \"[::1]:{port}\" for this machine"
        )),
        ip if ip.is_multicast() || ip == IpAddr::from([255; 4]) => {
            Err(format!("{shown} is a multicast address; write the address of one server"))
        }
        _ => Ok(TargetAddress::Ip(address)),
    }
}

/// The path of a Unix socket: absolute, short enough for the kernel, fit for a log line. Comes back without what says
/// nothing in it (`//`, `/./`, a slash at the end).
fn unix(text: &str, path: &str) -> Result<String, String> {
    const EXAMPLE: &str = "write \"unix:/run/app.sock\"";
    let shown = quoted(text);
    if !path.starts_with('/') {
        return Err(format!("{shown} has no absolute path; {EXAMPLE}"));
    }
    if path.chars().any(char::is_control) {
        return Err(format!("{shown} has control characters; {EXAMPLE}"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let plain = format!("/{}", parts.join("/"));
    match plain.len() {
        1 => Err(format!("{shown} is a directory; {EXAMPLE}")),
        2..=MAX_UNIX_PATH => Ok(plain),
        length => Err(format!(
            "{shown} is a path of {length} bytes, and the kernel takes {MAX_UNIX_PATH}; move the socket or use a shorter link to it"
        )),
    }
}

/// An SRV name (RFC 2782): a service and a protocol, each with an underscore before it, and a domain.
fn service(text: &str) -> Result<String, String> {
    let name = name(text)?;
    if is_service(&name) {
        return Ok(name);
    }
    Err(format!(
        "{} has no port (and is not an SRV name); write {} or \"_http._tcp.example.org\"",
        quoted(text),
        quoted(&format!("{text}:80"))
    ))
}

fn is_service(name: &str) -> bool {
    let labels: Vec<&str> = name.splitn(3, '.').collect();
    let marked = |label: &&str| label.len() > 1 && label.starts_with('_');
    matches!(&labels[..], [service, protocol, domain]
        if marked(service) && marked(protocol) && !domain.is_empty())
}

/// An IP address, and a port where it is not 53.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let shown = quoted(text);
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, 53)));
    let address = alone.or_else(|_| text.parse::<SocketAddr>()).map_err(|_| {
        format!(
            "{shown} is not an IP address, with or without a port; write \"127.0.0.1\", \"127.0.0.1:5353\" or \"[::1]:5353\""
        )
    })?;
    match address {
        _ if address.port() == 0 => {
            Err(format!("{shown} has port 0; write a port from 1 to 65535, or none for 53"))
        }
        _ if address.ip().is_unspecified() => {
            Err(format!("{shown} is not a server address; write \"127.0.0.1\" for this machine"))
        }
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            Err(format!("{shown} has a zone; write an address that needs none"))
        }
        _ => Ok(canonical(address)),
    }
}

/// A network in CIDR form, or one address. Its host bits must be zero.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let shown = quoted(text);
    let wrong =
        || format!("{shown} is not a network; write \"10.0.0.0/8\", \"fd00::/8\" or \"::1\"");
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) if is_number(length) => length.parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
        None => bits,
    };
    let written = IpNet::new(address, length)
        .map_err(|_| format!("{shown} has more than {bits} bits; write at most /{bits}"))?;
    let right = unmapped(written.trunc());
    match right {
        _ if right == written => Ok(right),
        IpNet::V4(_) if address.is_ipv6() => {
            Err(format!("{shown} is an IPv4 network in IPv6 form; write \"{right}\""))
        }
        _ => Err(format!("{shown} has host bits set; write \"{right}\"")),
    }
}

/// The path of an HTTP probe: starts with `/`, visible ASCII, no fragment.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let shown = quoted(text);
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let right = quoted(path);
        return Err(format!("{shown} is a URL; write the path alone, {right}"));
    }
    if !text.starts_with('/') {
        let word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let right = if word { format!("/{text}") } else { "/healthz".to_owned() };
        return Err(format!("{shown} does not start with \"/\"; write {}", quoted(&right)));
    }
    if text.contains('#') {
        return Err(format!(
            "{shown} has a fragment, which is never sent; remove \"#\" and what follows"
        ));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "{shown} contains characters that must be percent-encoded; write a space as %20, and so on"
        ));
    }
    if text.len() > MAX_ENDPOINT {
        return Err(format!("{shown} is too long; write at most {MAX_ENDPOINT} bytes"));
    }
    Ok(text.to_owned())
}

/// A `Host` field: a name, an IPv4 address or a bracketed IPv6 address, with or without a port
/// (RFC 9110 section 7.2). Comes back as it was written.
pub(super) fn host_field(text: &str) -> Result<String, String> {
    refuse_url(text)?;
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, "80"),
    };
    let port = target_port(text, port)?;
    if host.starts_with('[') {
        bracketed(host, port)?;
    } else if host.parse::<Ipv4Addr>().is_err() {
        name(host)?;
    }
    Ok(text.to_owned())
}

/// Whatever of a URL is not host and port.
fn refuse_url(text: &str) -> Result<(), String> {
    let shown = quoted(text);
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let remedy = match split_port(host) {
        Ok((name, port)) if !name.is_empty() && is_number(port) => quoted(host),
        // The port of the scheme, where that says one.
        Err(_) if scheme.is_some_and(|it| ["http", "ws"].contains(&it)) && name(host).is_ok() => {
            quoted(&format!("{host}:80"))
        }
        _ => "host and port alone, such as \"example.org:80\"".to_owned(),
    };
    let path = Some(path).filter(|path| path.len() > 1);
    let path = path.map(|path| format!(" and a path ({path}), and requests keep their own"));
    let path = path.unwrap_or_default();
    match scheme {
        Some(scheme @ ("https" | "wss")) => Err(format!(
            "{shown} has a scheme ({scheme}://), and evenly speaks no TLS to targets; write a host and the port where it speaks plain HTTP, or put a proxy in between that speaks TLS to it"
        )),
        Some(scheme) => Err(format!("{shown} has a scheme ({scheme}://){path}; write {remedy}")),
        None if end < rest.len() => Err(format!("{shown} has a path; write {remedy}")),
        None if text.contains('@') => Err(format!("{shown} has a user name; write {remedy}")),
        None => Ok(()),
    }
}

fn split_port(text: &str) -> Result<(&str, &str), String> {
    let shown = quoted(text);
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        // The last part may be meant as the port.
        let parts = text.rsplit_once(':').filter(|(_, port)| is_number(port));
        let parts = parts.filter(|(ip, _)| ip.parse::<std::net::Ipv6Addr>().is_ok());
        let or = parts.map(|(ip, port)| format!(" or \"[{ip}]:{port}\"")).unwrap_or_default();
        return Err(format!("{shown} is IPv6 without brackets; write \"[{text}]:80\"{or}"));
    }
    let host_end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    match text[host_end..].find(':').map(|at| host_end + at) {
        None if text.is_empty() => Err("is empty; write \"host:port\"".to_owned()),
        None => Err(format!("{shown} has no port; write {}", quoted(&format!("{text}:80")))),
        Some(0) => {
            Err(format!("{shown} has no host; write {}", quoted(&format!("127.0.0.1{text}"))))
        }
        Some(colon) if host_end == 0 && text[colon + 1..].contains(':') => Err(format!(
            "{shown} has several colons; write IPv6 as \"[::1]:80\", names as \"host:80\""
        )),
        Some(colon) => Ok((&text[..colon], &text[colon + 1..])),
    }
}

fn target_port(text: &str, port: &str) -> Result<u16, String> {
    let number = if is_number(port) { port.parse::<u16>().ok() } else { None };
    match number {
        Some(0) => Err(format!("{} has port 0; write a port from 1 to 65535", quoted(text))),
        Some(number) => Ok(number),
        None => Err(format!("{} has no valid port; write a port from 1 to 65535", quoted(text))),
    }
}

/// `[IPv6]` and a port. A zone is numeric, since interface names would have to be looked up.
fn bracketed(host: &str, port: u16) -> Result<SocketAddr, String> {
    format!("{host}:{port}").parse::<SocketAddrV6>().map(SocketAddr::V6).map_err(|_| {
        if let Some((ip, zone)) = host.trim_matches(['[', ']']).split_once('%') {
            let zone = quoted(zone);
            return format!(
                "{} has {zone} as its zone; write the number of that interface, as in \"[{ip}%2]:{port}\" (ip link shows it)",
                quoted(host)
            );
        }
        format!("{} is not an IPv6 address in brackets; write it as \"[::1]\"", quoted(host))
    })
}

/// A DNS name in lower case, with a dot at its end if it has one, which makes it absolute: labels of letters, digits, `-` and `_`.
pub(super) fn name(host: &str) -> Result<String, String> {
    let shown = quoted(host);
    let bare = host.strip_suffix('.').unwrap_or(host);
    if !bare.is_ascii() {
        return Err(format!("{shown} is not ASCII; write an international name in its xn-- form"));
    }
    if bare.len() > 253 {
        return Err(format!("{shown} is longer than 253 bytes; write a valid host name"));
    }
    if let Some(wrong) = bare.split('.').find(|label| !is_label(label)) {
        let wrong = quoted(wrong);
        return Err(format!(
            "{shown} is not a host name because of {wrong}; use labels of 1 to 63 letters, digits, \"-\" or \"_\""
        ));
    }
    if bare.rsplit('.').next().is_some_and(looks_numeric) {
        return Err(format!(
            "{shown} is neither a name nor an IPv4 address; write it as \"192.0.2.1\""
        ));
    }
    Ok(host.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether resolvers would read a name that ends in this label as an IPv4 address (`127.1`, `0x7f000001`).
fn looks_numeric(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    is_number(label) || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// An IPv4 network that was written as IPv6 (`::ffff:10.0.0.0/104`) as IPv4, which is how clients are compared.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let ipv4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    ipv4.and_then(|(ip, length)| IpNet::new(ip.into(), length).ok()).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        target(text).map_or_else(|error| panic!("{text}: {error}"), |address| address.to_string())
    }

    #[test]
    fn reads_targets_and_makes_spellings_equal() {
        let cases = [
            ("http-api-1:8001", "http-api-1:8001"),
            ("Example.ORG:80", "example.org:80"),
            ("Example.ORG.:80", "example.org.:80"),
            ("my_service:1", "my_service:1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0:0:0:0:0:0:1]:0080", "[::1]:80"),
            ("[FE80::A]:80", "[fe80::a]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("1and1.example:80", "1and1.example:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run//./my app.sock/", "unix:/run/my app.sock"),
            ("unix:/run/../r/a", "unix:/run/../r/a"),
            ("unix:80", "unix:80"),
            ("_HTTP._tcp.Spells.Test.", "_http._tcp.spells.test."),
            ("_http._tcp.test", "_http._tcp.test"),
            ("_http.spells.test:80", "_http.spells.test:80"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn refuses_targets_with_a_remedy() {
        let cases = [
            ("", "write \"host:port\""),
            ("example.org", "write \"example.org:80\""),
            ("[::1]", "write \"[::1]:80\""),
            ("::1", "write \"[::1]:80\""),
            ("2001:db8::1:8001", "write \"[2001:db8::1:8001]:80\" or \"[2001:db8::1]:8001\""),
            ("3000", "is a port without a host; write \"127.0.0.1:3000\""),
            ("127.0.0.1:80 ", "has a space at an end; write \"127.0.0.1:80\""),
            (
                "a:1,b:2",
                "is more than one address; write a [[targets]] block, or --target, for each",
            ),
            ("a:1 b:2", "is more than one address"),
            ("${APP}:80", "has \"${APP}\", and variables are not expanded"),
            ("$APP:80", "has \"$APP\", and variables are not expanded"),
            ("{{ app }}:80", "has \"{{ app }}\", and variables are not expanded"),
            (
                "0.0.0.0:80",
                "is every address of this machine, not that of a server; write \"127.0.0.1:80\"",
            ),
            (
                "[::]:80",
                "is every address of this machine, not that of a server; write \"[::1]:80\"",
            ),
            ("[::ffff:0.0.0.0]:80", "write \"127.0.0.1:80\""),
            ("224.0.0.1:80", "is a multicast address"),
            ("fd00::1:2:3:4:5:6:80:90", "write IPv6 as"),
            (":80", "write \"127.0.0.1:80\""),
            ("a:b:80", "several colons"),
            ("http://a:80", "has a scheme (http://); write \"a:80\""),
            ("http://a:80/", "has a scheme (http://); write \"a:80\""),
            (
                "http://a:80/x",
                "has a scheme (http://) and a path (/x), and requests keep their own; write \"a:80\"",
            ),
            ("http://a", "write \"a:80\""),
            (
                "https://a",
                "evenly speaks no TLS to targets; write a host and the port where it speaks plain HTTP",
            ),
            ("https://a:443/x", "evenly speaks no TLS to targets"),
            ("tcp://a", "write host and port alone"),
            ("http://", "write host and port alone"),
            ("localhost:3000/", "has a path; write \"localhost:3000\""),
            ("u@a:80", "has a user name; write \"a:80\""),
            ("a:0", "has port 0"),
            ("a:", "has no valid port"),
            ("a:+80", "has no valid port"),
            ("a:65536", "has no valid port"),
            ("a:http", "has no valid port"),
            (
                "_http._tcp.a:80",
                "has a port, but SRV records supply the port; write \"_http._tcp.a\"",
            ),
            (
                "_http._tcp",
                "has no port (and is not an SRV name); write \"_http._tcp:80\" or \"_http._tcp.example.org\"",
            ),
            ("_http.tcp.a", "is not an SRV name"),
            ("_._tcp.a", "is not an SRV name"),
            ("_http._tcp..", "not a host name"),
            ("_http._tcp.a/b", "has a path"),
            ("unix:", "has no absolute path; write \"unix:/run/app.sock\""),
            ("unix:app.sock", "has no absolute path"),
            ("unix:@abstract", "has no absolute path"),
            ("unix:/", "is a directory"),
            ("unix:/a\nb", "has control characters"),
            ("unix:/a\0b", "has control characters"),
            ("/run/app.sock", "write \"unix:/run/app.sock\" for a Unix socket"),
            ("[::1]80", "has no port"),
            ("[::1]x:80", "not an IPv6 address in brackets"),
            ("[127.0.0.1]:80", "not an IPv6 address in brackets"),
            ("[fe80::1%eth0]:80", "write the number of that interface, as in \"[fe80::1%2]:80\""),
            ("1.2.3.256:80", "neither a name nor an IPv4 address"),
            ("127.1:80", "neither a name nor an IPv4 address"),
            ("0x7f000001:80", "neither a name nor an IPv4 address"),
            ("-a:80", "not a host name"),
            ("a..b:80", "not a host name"),
            (".:80", "not a host name"),
            ("a b:80", "not a host name"),
            ("a\n:80", "not a host name"),
            ("bücher.example:80", "xn--"),
        ];
        for (text, remedy) in cases {
            let error = target(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_has_at_most_253_bytes_and_labels_at_most_63() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(target(&format!("{longest}:1")).is_ok());
        assert!(target(&format!("{longest}a:1")).is_err());
        assert!(target(&format!("{label}a:1")).is_err());
    }

    #[test]
    fn a_path_has_at_most_107_bytes() {
        let longest = format!("/{}", "é".repeat(53));
        assert_eq!(longest.len(), 107);
        assert_eq!(target(&format!("unix:{longest}")), Ok(TargetAddress::Unix(longest.clone())));
        let error = target(&format!("unix:{longest}a")).unwrap_err();
        assert!(error.contains("is a path of 108 bytes, and the kernel takes 107;"), "{error}");
    }

    #[test]
    fn reads_networks_and_names_the_right_one_when_host_bits_are_set() {
        let cases =
            [("10.0.0.0/8", "10.0.0.0", 8), ("::1", "::1", 128), ("0.0.0.0/0", "0.0.0.0", 0)];
        for (text, address, prefix) in cases {
            let network = network(text).unwrap();
            assert_eq!(
                (network.addr().to_string().as_str(), network.prefix_len()),
                (address, prefix)
            );
        }
        let cases = [
            ("10.1.2.3/8", "write \"10.0.0.0/8\""),
            ("fd12::/8", "write \"fd00::/8\""),
            ("1.2.3.4/0", "write \"0.0.0.0/0\""),
            ("::ffff:10.0.0.0/104", "write \"10.0.0.0/8\""),
            ("::ffff:1.2.3.4", "write \"1.2.3.4/32\""),
            ("10.0.0.0/33", "at most /32"),
            ("::/129", "at most /128"),
            ("10.0.0.0/", "not a network"),
            ("10.0.0.0/+8", "not a network"),
            ("10.0.0.0/999", "not a network"),
            ("10.0.0/8", "not a network"),
            ("localhost", "not a network"),
        ];
        for (text, remedy) in cases {
            let error = network(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn a_probe_path_is_visible_ascii_without_a_fragment() {
        assert_eq!(endpoint("/healthz?deep=1").as_deref(), Ok("/healthz?deep=1"));
        assert!(
            endpoint("http://a:1/up")
                .unwrap_err()
                .ends_with("is a URL; write the path alone, \"/up\"")
        );
        assert!(endpoint("up").unwrap_err().ends_with("write \"/up\""));
        for text in ["", "healthz", "http://a/", "/a b", "/a#b", "/\r\nX: y", "/ü", "/\u{7f}"] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
        assert!(endpoint(&"/".repeat(MAX_ENDPOINT)).is_ok());
        assert!(endpoint(&"/".repeat(MAX_ENDPOINT + 1)).is_err());
    }

    #[test]
    fn a_host_field_has_no_room_for_another_header() {
        for text in ["example.org", "Example.org:8080", "[::1]", "[::1]:80", "1.2.3.4"] {
            assert_eq!(host_field(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a\r\nX: y", "a:0", "a:b", "u@a", "http://a", "::1", "[::1", "a/b"]
        {
            assert!(host_field(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn name_servers_are_addresses_with_port_53_unless_another_is_written() {
        let cases = [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("::ffff:10.0.0.1", "10.0.0.1:53"),
        ];
        for (text, expected) in cases {
            assert_eq!(name_server(text).map(|at| at.to_string()).as_deref(), Ok(expected));
        }
        let cases = [
            ("", "is not an IP address"),
            ("localhost", "is not an IP address"),
            ("[::1]", "write \"127.0.0.1\", \"127.0.0.1:5353\" or \"[::1]:5353\""),
            ("127.0.0.1:", "is not an IP address"),
            ("127.0.0.1:0", "has port 0"),
            ("0.0.0.0", "is not a server address"),
            ("[::]:53", "is not a server address"),
            ("[fe80::1%2]:53", "has a zone"),
        ];
        for (text, remedy) in cases {
            let error = name_server(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
