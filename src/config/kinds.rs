//! Values with rules of their own: what is neither a number, a duration, a size nor one of a few words; and how each is
//! written.
//!
//! Each error is what is wrong and what to write instead.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeValue;

use super::error::{Mistake, quoted};
use super::keys::{MAX_CONGESTION, MAX_SERVERS, STATUS};
use super::raw::Item;
use super::{address, listen, value};
use crate::settings::{AccessFormat, AccessSink, ControlSocket, LogTemplate, RunAs, StatusRanges};

const LISTEN_EXAMPLE: &str = r#""0.0.0.0:8080", or a list of such addresses"#;
const SERVERS_EXAMPLE: &str = r#"["127.0.0.1:53"], or leave the key out for the system's"#;
const EXPECT_EXAMPLE: &str = r#"200, "200-299" or ["200", "301-302"]"#;
/// What to write for the address of a target.
pub(super) const TARGET_EXAMPLE: &str = r#""host:port" or "unix:/path""#;
/// What to write for a congestion control.
pub(super) const CONGESTION_EXAMPLE: &str = r#"the kernel's name for one, such as "cubic""#;

/// A list as it is written.
pub(super) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

/// One value as it is written alone, several as a list; `None` if there is none.
pub(super) fn one_or_many<T: Display>(values: &[T]) -> Option<String> {
    match values {
        [] => None,
        [one] => Some(quoted(&one.to_string())),
        many => Some(list(many)),
    }
}

/// The addresses to listen on. An element that is wrong is reported and left out.
pub(super) fn listen(item: &Item<'_>) -> Result<Vec<SocketAddr>, Mistake> {
    let mut addresses = Vec::new();
    let items = item.one_or_many();
    for item in &items {
        let text = address_text(item, LISTEN_EXAMPLE);
        let added = text.and_then(|text| {
            add_listen(&mut addresses, &text).map_err(|problem| item.mistake(problem))
        });
        item.page.take(added);
    }
    if items.is_empty() {
        return Err(item.mistake(format!("the list is empty; write {LISTEN_EXAMPLE}")));
    }
    Ok(addresses)
}

/// The address of the admin listener.
pub(super) fn admin(item: &Item<'_>) -> Result<SocketAddr, Mistake> {
    let text = address_text(item, "\"127.0.0.1:9901\"")?;
    listen::admin(&text).map_err(|problem| item.mistake(problem))
}

/// Networks and addresses. An element that is wrong is reported and left out.
pub(super) fn networks(item: &Item<'_>) -> Vec<IpNet> {
    let example = r#"["10.0.0.0/8", "::1"]"#;
    let items = item.one_or_many();
    let networks = items.iter().map(|item| item.read(example, address::network));
    networks.filter_map(|network| item.page.take(network)).collect()
}

/// The text of an address to listen on. A bare port is one that lacks its address.
fn address_text(item: &Item<'_>, example: &str) -> Result<String, Mistake> {
    match item.value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => item.text(example).map(str::to_owned),
    }
}

/// Port 0 may be repeated: each time it is another port.
pub(super) fn add_listen(addresses: &mut Vec<SocketAddr>, text: &str) -> Result<(), String> {
    let address = listen::public(text)?;
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.port() == other.port()
            && one.ip().is_unspecified()
            && one.is_ipv4() == other.is_ipv4()
            && one.port() != 0
    };
    for &other in addresses.iter() {
        let shown = quoted(text);
        if address.port() != 0 && address == other {
            return Err(format!("{shown} repeats a listen address; remove one of the two"));
        }
        if covers(other, address) || covers(address, other) {
            let (all, one) =
                if covers(other, address) { (other, address) } else { (address, other) };
            return Err(format!("\"{all}\" listens on \"{one}\" too; remove one of the two"));
        }
    }
    addresses.push(address);
    Ok(())
}

/// `200`, `"200"`, `"200-299"`, or a list of these.
pub(super) fn statuses(item: &Item<'_>) -> Result<StatusRanges, Mistake> {
    let ranges = item.one_or_many().iter().map(status_range).collect::<Result<Vec<_>, _>>()?;
    if ranges.is_empty() {
        return Err(item.mistake(format!("the list is empty; write {EXPECT_EXAMPLE}")));
    }
    Ok(StatusRanges(ranges))
}

fn status_range(item: &Item<'_>) -> Result<(u16, u16), Mistake> {
    let range = match item.value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => {
            Some((number.as_str(), number.as_str()))
        }
        DeValue::String(text) => Some(text.split_once('-').unwrap_or((text, text))),
        _ => None,
    };
    range
        .and_then(|(low, high)| Some((status(low)?, status(high)?)))
        .filter(|(low, high)| low <= high)
        .ok_or_else(|| {
            let (least, most) = STATUS.into_inner();
            let shown = value::shown(item.value.get_ref());
            let problem = format!("{shown} is not a status or range within {least} to {most}");
            item.mistake(format!("{problem}; write {EXPECT_EXAMPLE}"))
        })
}

fn status(text: &str) -> Option<u16> {
    let exact = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|status| exact && STATUS.contains(status))
}

pub(super) fn servers(item: &Item<'_>) -> Result<Vec<SocketAddr>, Mistake> {
    let mut servers = Vec::new();
    for item in item.one_or_many() {
        let server = item.read(SERVERS_EXAMPLE, address::name_server)?;
        if servers.contains(&server) {
            let shown = value::shown(item.value.get_ref());
            return Err(item.mistake(format!("{shown} repeats a server; remove one of the two")));
        }
        servers.push(server);
    }
    match servers.len() {
        0 => Err(item.mistake(format!("the list is empty; write {SERVERS_EXAMPLE}"))),
        1..=MAX_SERVERS => Ok(servers),
        many => Err(item.mistake(format!("has {many} servers; write at most {MAX_SERVERS}"))),
    }
}

/// Host names in lower case, without the dot that makes one absolute.
pub(super) fn hosts(item: &Item<'_>) -> Result<Vec<String>, Mistake> {
    let example = "\"edge.example.net\", or a list of names";
    let name = |text: &str| {
        let name = address::name(text)?;
        Ok(name.strip_suffix('.').unwrap_or(&name).to_owned())
    };
    let names = item
        .one_or_many()
        .iter()
        .map(|item| item.read(example, name))
        .collect::<Result<Vec<_>, _>>()?;
    match names.is_empty() {
        true => Err(item.mistake(format!("the list is empty; write {example}"))),
        false => Ok(names),
    }
}

/// The name of an algorithm as the kernel takes it. Whether this kernel has it is found out at the start.
pub(super) fn congestion(text: &str) -> Result<String, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=MAX_CONGESTION).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(text.to_owned());
    }
    let shown = quoted(text);
    Err(format!("{shown} is not a congestion control name; write {CONGESTION_EXAMPLE}"))
}

/// A word that stands for a destination elsewhere is a slip, not the name of a file; and so is a path that only a shell
/// would expand.
pub(super) fn access_sink(text: &str) -> Result<AccessSink, String> {
    const PLACES: &str = r#"write "stdout" or a path such as "/var/log/evenly/access.log""#;
    let shown = quoted(text);
    let problem = match text.trim().to_ascii_lowercase().as_str() {
        "off" if text == "off" => return Ok(AccessSink::Off),
        "stdout" if text == "stdout" => return Ok(AccessSink::Stdout),
        word @ ("off" | "stdout") => format!("{shown} is misspelt; write \"{word}\""),
        "none" | "no" | "false" | "disabled" | "null" | "0" => {
            format!("{shown} is not a destination; write \"off\"")
        }
        "on" | "yes" | "true" | "enabled" | "1" | "console" => {
            format!("{shown} is not a destination; {PLACES}")
        }
        "stderr" => format!("{shown} is where the program's own log goes; {PLACES}"),
        "syslog" | "journal" | "journald" => {
            format!(
                "{shown} is not supported; write \"stdout\", which systemd takes to the journal"
            )
        }
        _ if text.is_empty() || text.contains('\0') => {
            format!("{shown} is not a path; write \"off\", \"stdout\" or a path")
        }
        _ => return path(text).map(AccessSink::File),
    };
    Err(problem)
}

/// What to write for the format of the access log.
pub(super) const FORMAT_EXAMPLE: &str =
    r#""json", "combined", "vhost-combined" or a template such as "{time} {client} {status}""#;

/// The format of the access log. What has a brace in it is a template.
pub(super) fn access_format(text: &str) -> Result<AccessFormat, String> {
    match text {
        "json" => return Ok(AccessFormat::Json),
        "combined" => return Ok(AccessFormat::Combined),
        "vhost-combined" => return Ok(AccessFormat::VhostCombined),
        _ if text.contains(['{', '}']) => {
            return LogTemplate::parse(text).map(AccessFormat::Template);
        }
        _ => {}
    }
    let shown = quoted(text);
    Err(match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
        word @ ("json" | "combined" | "vhost-combined") => {
            format!("{shown} is misspelt; write \"{word}\"")
        }
        "vcombined" | "combined-vhost" => format!("{shown} is misspelt; write \"vhost-combined\""),
        "common" | "clf" => {
            format!("{shown} is not a format; write \"combined\", which has two more fields")
        }
        _ => format!("{shown} is not a format; write {FORMAT_EXAMPLE}"),
    })
}

/// A format as it is written.
pub(super) fn show_format(format: &AccessFormat) -> String {
    match format {
        AccessFormat::Json => quoted("json"),
        AccessFormat::Combined => quoted("combined"),
        AccessFormat::VhostCombined => quoted("vhost-combined"),
        AccessFormat::Template(template) => quoted(template.text()),
    }
}

/// What to write for a file.
pub(super) const PATH_EXAMPLE: &str = r#"the path of a file, such as "/etc/evenly/token""#;

/// The path of a file. One that only a shell would expand is a slip, and so is one without a folder.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    let shown = quoted(text);
    Err(match text {
        _ if text.is_empty() || text.contains('\0') => {
            format!("{shown} is not a path; write {PATH_EXAMPLE}")
        }
        _ if text.starts_with('~') => {
            format!("{shown} begins with \"~\", which only a shell expands; write the whole path")
        }
        _ if text.starts_with('$') || text.contains("${") => {
            format!("{shown} has a variable, and these are not expanded; write the whole path")
        }
        _ if text.ends_with('/') => format!("{shown} is a folder; add the name of the file"),
        _ if !text.contains('/') => {
            let here = quoted(&format!("./{text}"));
            format!(
                "{shown} has no folder; write {here} for the one evenly is started in, or the whole path"
            )
        }
        _ => return Ok(PathBuf::from(text)),
    })
}

/// A destination as it is written.
pub(super) fn show_sink(sink: &AccessSink) -> String {
    match sink {
        AccessSink::Off => "\"off\"".to_owned(),
        AccessSink::Stdout => "\"stdout\"".to_owned(),
        AccessSink::File(path) => quoted(&path.to_string_lossy()),
    }
}

/// What to write for a user.
pub(super) const USER_EXAMPLE: &str = r#"the name of a user, such as "evenly", or "user:group""#;

/// A user, and perhaps a group. Whether this machine has them is found out at the start.
pub(super) fn user(text: &str) -> Result<RunAs, String> {
    // As in /etc/passwd: no colon, no line end, and nothing that is there by mistake.
    let is_name = |part: &str| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
        !part.is_empty() && !part.contains(odd)
    };
    let (user, group) =
        text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if !is_name(user) || group.is_some_and(|group| !is_name(group)) {
        return Err(format!("{} is not a user; write {USER_EXAMPLE}", quoted(text)));
    }
    Ok(RunAs { user: user.to_owned(), group: group.map(str::to_owned) })
}

/// Where the control socket is.
pub(super) fn control_socket(text: &str) -> Result<ControlSocket, String> {
    let shown = quoted(text);
    match text {
        "auto" => Ok(ControlSocket::Auto),
        "off" => Ok(ControlSocket::Off),
        _ if text.contains('\0') => Err(format!("{shown} is not a path; write \"auto\"")),
        // sun_path has room for 108 bytes, one of which ends it.
        _ if text.starts_with('/') && text.len() > 107 => Err(format!(
            "{shown} is longer than the 107 bytes of a socket's path; write a shorter one"
        )),
        _ if text.starts_with('/') => Ok(ControlSocket::Path(text.into())),
        _ => Err(format!(
            "{shown} is not an absolute path; write \"auto\", \"off\" or a path such as \"/run/evenly/edge.sock\""
        )),
    }
}

/// As it is written.
pub(super) fn show_socket(socket: &ControlSocket) -> String {
    match socket {
        ControlSocket::Auto => "\"auto\"".to_owned(),
        ControlSocket::Off => "\"off\"".to_owned(),
        ControlSocket::Path(path) => quoted(&path.to_string_lossy()),
    }
}

/// Statuses as they are written.
pub(super) fn show_statuses(ranges: &StatusRanges) -> String {
    let range = |&(low, high): &(u16, u16)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    };
    one_or_many(&ranges.0.iter().map(range).collect::<Vec<_>>()).unwrap_or_default()
}
