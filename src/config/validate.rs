//! From what is written to what the program runs by: types, ranges, and how values relate.
//!
//! Owns every range. Defaults are not here but in [`crate::settings`]: a key that is absent leaves
//! the default standing. Touches no socket and resolves no name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::error::{Fault, quoted};
use super::raw::{self, Item, Lines};
use super::{Overrides, address, value};
use crate::settings::{
    AccessFormat, AccessLog, AccessSink, Dns, Ejection, HealthCheck, Limits, Network, Retry,
    Settings, StatusRanges, Target, TargetAddress, Tcp, Timeouts, Workers,
};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
const IN_A_ROW: RangeInclusive<u32> = 1..=1_000;
const WORKERS: RangeInclusive<u32> = 1..=1_024;
const SPIN: RangeInclusive<u32> = 0..=1_000;
const HEAD: RangeInclusive<usize> = 1_024..=65_536;
const HEADERS: RangeInclusive<u32> = 1..=256;
const CONNECTIONS: RangeInclusive<u32> = 1..=10_000_000;
const REQUESTS_PER_TARGET: RangeInclusive<u32> = 1..=10_000_000;
const IDLE_PER_TARGET: RangeInclusive<u32> = 0..=65_536;
const BUDGET: RangeInclusive<u32> = 0..=100;
const BUDGET_FLOOR: RangeInclusive<u32> = 0..=1_000_000;
const CONNECT_ATTEMPTS: RangeInclusive<u32> = 1..=256;
const EJECT_AFTER: RangeInclusive<u32> = 0..=1_000;
const SHARE: RangeInclusive<u32> = 0..=100;
const DEFER_ACCEPT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);
const STATUS: RangeInclusive<u16> = 100..=599;

const LISTEN_EXAMPLE: &str = r#""0.0.0.0:8080", or a list of such addresses"#;
const TARGET_EXAMPLE: &str = r#""host:port" or "unix:/path""#;
const SERVERS_EXAMPLE: &str = r#"["127.0.0.1:53"], or leave the key out for the system's"#;
/// Name servers that are asked at most: resolv.conf may name three, and more help nobody.
const MAX_SERVERS: usize = 8;
const EXPECT_EXAMPLE: &str = r#"200, "200-299" or ["200", "301-302"]"#;
/// The longest name of a congestion control, without the NUL that the kernel counts (`TCP_CA_NAME_MAX`).
const MAX_CONGESTION: usize = 15;

const CONGESTION_EXAMPLE: &str = r#"the kernel's name for one, such as "cubic""#;
const TARGETS_EXAMPLE: &str = r#"add a [[targets]] block with address = "host:port""#;

/// The settings of a file (empty when there is none), with what the command line says winning over it.
pub(super) fn settings(
    file: &raw::File<'_>,
    overrides: &Overrides,
    lines: &Lines,
) -> Result<Settings, Fault> {
    let defaults = Settings::default();
    let admin = admin(file.admin.as_ref(), lines)?;
    let listen = listen(file.listen.as_ref(), overrides, lines, defaults.listen)?;
    if let Some((admin, item)) = &admin
        && admin.port() != 0
        && listen.contains(admin)
    {
        return Err(item.fault(format!("{admin} is also a listen address; choose another port")));
    }
    Ok(Settings {
        listen,
        workers: workers(file.workers.as_ref(), overrides, defaults.workers)?,
        spin: file.spin.as_ref().map_or(Ok(defaults.spin), |item| item.number(SPIN))?,
        trusted_proxies: trusted_proxies(file.trusted_proxies.as_ref(), lines)?,
        via: file.via.as_ref().map_or(Ok(defaults.via), Item::boolean)?,
        timeouts: timeouts(&table(file.timeouts.as_ref(), lines)?)?,
        limits: limits(&table(file.limits.as_ref(), lines)?)?,
        retry: retry(&table(file.retry.as_ref(), lines)?)?,
        ejection: ejection(&table(file.ejection.as_ref(), lines)?)?,
        tcp: tcp(&table(file.tcp.as_ref(), lines)?)?,
        dns: dns(&table(file.dns.as_ref(), lines)?, lines)?,
        admin: admin.map(|(address, _)| address),
        log: access_log(&table(file.log.as_ref(), lines)?)?,
        // Last: of all that is wrong, a missing target is the least to point at.
        targets: targets(file, overrides, lines)?,
    })
}

/// The defaults with the listen addresses and workers of the command line.
pub(super) fn without_targets(overrides: &Overrides) -> Result<Settings, Fault> {
    let defaults = Settings::default();
    Ok(Settings {
        listen: listen(None, overrides, &Lines::new(""), defaults.listen)?,
        workers: workers(None, overrides, defaults.workers)?,
        ..Settings::default()
    })
}

/// A table that may be absent.
fn table<'a, T: raw::Mirror<'a> + Default>(
    item: Option<&Item<'a>>,
    lines: &Lines,
) -> Result<T, Fault> {
    item.map_or_else(|| Ok(T::default()), |item| item.table(lines))
}

/// Lays the value of `item`, if it is there, over the default in `slot`.
fn overlay<'a, T>(
    slot: &mut T,
    item: Option<&Item<'a>>,
    read: impl FnOnce(&Item<'a>) -> Result<T, Fault>,
) -> Result<(), Fault> {
    if let Some(item) = item {
        *slot = read(item)?;
    }
    Ok(())
}

fn listen(
    item: Option<&Item<'_>>,
    overrides: &Overrides,
    lines: &Lines,
    default: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, Fault> {
    let mut addresses = default;
    overlay(&mut addresses, item, |item| listen_of_file(item, lines))?;
    if !overrides.listen.is_empty() {
        addresses = Vec::new();
        for text in &overrides.listen {
            add_listen(&mut addresses, text).map_err(|p| Fault::of_option("--listen", p))?;
        }
    }
    Ok(addresses)
}

fn listen_of_file(item: &Item<'_>, lines: &Lines) -> Result<Vec<SocketAddr>, Fault> {
    let mut addresses = Vec::new();
    for item in item.one_or_many(lines) {
        item.read(LISTEN_EXAMPLE, |text| add_listen(&mut addresses, text))?;
    }
    if addresses.is_empty() {
        return Err(item.fault(format!("the list is empty; write {LISTEN_EXAMPLE}")));
    }
    Ok(addresses)
}

/// Port 0 may be repeated: each time it is another port.
fn add_listen(addresses: &mut Vec<SocketAddr>, text: &str) -> Result<(), String> {
    let address = address::listen(text)?;
    if address.port() != 0 && addresses.contains(&address) {
        return Err(format!("{} repeats a listen address; remove one of the two", quoted(text)));
    }
    addresses.push(address);
    Ok(())
}

fn admin<'a>(
    item: Option<&Item<'a>>,
    lines: &Lines,
) -> Result<Option<(SocketAddr, Item<'a>)>, Fault> {
    let Some(item) = table::<raw::Admin<'_>>(item, lines)?.listen else { return Ok(None) };
    let address = item.read("\"127.0.0.1:9901\"", address::listen)?;
    Ok(Some((address, item)))
}

fn workers(
    item: Option<&Item<'_>>,
    overrides: &Overrides,
    default: Workers,
) -> Result<Workers, Fault> {
    let mut workers = default;
    overlay(&mut workers, item, |item| Ok(count_of_workers(item.number_or_auto(WORKERS)?)))?;
    if let Some(text) = &overrides.workers {
        workers = workers_option(text).map_err(|p| Fault::of_option("--workers", p))?;
    }
    Ok(workers)
}

fn count_of_workers(count: Option<u32>) -> Workers {
    count.map_or(Workers::Auto, |count| Workers::Count(count as usize))
}

fn workers_option(text: &str) -> Result<Workers, String> {
    if text == "auto" {
        return Ok(Workers::Auto);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse().ok().filter(|count| digits && WORKERS.contains(count)) {
        Some(count) => Ok(count_of_workers(Some(count))),
        None => {
            let (least, most) = WORKERS.into_inner();
            Err(format!("{} is no such number; write auto or {least} to {most}", quoted(text)))
        }
    }
}

/// The targets of the file, or those of the command line in their place.
fn targets(
    file: &raw::File<'_>,
    overrides: &Overrides,
    lines: &Lines,
) -> Result<Vec<Target>, Fault> {
    let base: raw::Health<'_> = table(file.health.as_ref(), lines)?;
    // Judged on its own too, so that a fault in it is found whatever the targets repeat.
    let default_check = health(&raw::Target::default(), &base, lines)?;
    let of_file = match &file.targets {
        Some(item) => targets_of_file(item, &base, lines)?,
        None => Vec::new(),
    };
    let targets = match overrides.targets.as_slice() {
        [] => of_file,
        _ => targets_of_options(overrides, default_check)?,
    };
    if targets.is_empty() {
        let (line, key) = match &file.targets {
            Some(item) => (item.line, item.key.clone()),
            None => (1, "targets".to_owned()),
        };
        let problem = format!("there is no target; {TARGETS_EXAMPLE}");
        return Err(Fault { line: Some(line), key, problem });
    }
    Ok(targets)
}

fn targets_of_file(
    item: &Item<'_>,
    base: &raw::Health<'_>,
    lines: &Lines,
) -> Result<Vec<Target>, Fault> {
    let Some(blocks) = item.elements(lines) else {
        return Err(item.wrong_type("[[targets]] in double brackets, once for each target"));
    };
    let mut seen = Seen::default();
    let mut targets = Vec::with_capacity(blocks.len());
    for block in blocks {
        let raw: raw::Target<'_> = block.table(lines)?;
        let Some(item) = &raw.address else {
            return Err(block.fault("has no address; write address = \"host:port\""));
        };
        let address = item.read(TARGET_EXAMPLE, address::target)?;
        seen.add(&address, || format!("{} (line {})", item.key, item.line))
            .map_err(|first| item.fault(repeated(item.value, &first)))?;
        targets.push(Target { address, health: health(&raw, base, lines)? });
    }
    Ok(targets)
}

fn repeated(value: &DeValue<'_>, first: &str) -> String {
    format!("{} is the same target as {first}; remove one of the two", value::shown(value))
}

fn targets_of_options(
    overrides: &Overrides,
    mut health: HealthCheck,
) -> Result<Vec<Target>, Fault> {
    health.endpoint = overrides
        .health_check_endpoint
        .as_deref()
        .map(address::endpoint)
        .transpose()
        .map_err(|p| Fault::of_option("--health-check-endpoint", p))?;
    let mut seen = Seen::default();
    let mut targets = Vec::with_capacity(overrides.targets.len());
    for text in &overrides.targets {
        let address = address::target(text).and_then(|address| {
            seen.add(&address, || quoted(text)).map_err(|first| {
                format!("{} is the same target as {first}; remove one of the two", quoted(text))
            })?;
            Ok(address)
        });
        let address = address.map_err(|p| Fault::of_option("--target", p))?;
        targets.push(Target { address, health: health.clone() });
    }
    Ok(targets)
}

/// The targets so far, and how to name each to people.
#[derive(Default)]
struct Seen(HashMap<TargetAddress, String>);

impl Seen {
    /// Adds a target; the error names the one that has the same address.
    fn add(&mut self, address: &TargetAddress, name: impl Fn() -> String) -> Result<(), String> {
        match self.0.entry(address.clone()) {
            Entry::Occupied(first) => Err(first.get().clone()),
            Entry::Vacant(free) => {
                free.insert(name());
                Ok(())
            }
        }
    }
}

/// How a target is probed: its own keys win over those of `[health]`.
fn health(
    own: &raw::Target<'_>,
    base: &raw::Health<'_>,
    lines: &Lines,
) -> Result<HealthCheck, Fault> {
    let interval = own.interval.as_ref().or(base.interval.as_ref());
    let timeout = own.timeout.as_ref().or(base.timeout.as_ref());
    let mut check = HealthCheck::default();
    overlay(&mut check.endpoint, own.health_check_endpoint.as_ref(), |item| {
        item.read("a path such as \"/healthz\"", address::endpoint).map(Some)
    })?;
    overlay(&mut check.interval, interval, |item| item.duration(&INTERVAL))?;
    overlay(&mut check.timeout, timeout, |item| item.duration(&TIMEOUT))?;
    overlay(&mut check.rise, own.rise.as_ref().or(base.rise.as_ref()), |i| i.number(IN_A_ROW))?;
    overlay(&mut check.fall, own.fall.as_ref().or(base.fall.as_ref()), |i| i.number(IN_A_ROW))?;
    overlay(&mut check.expect, own.expect.as_ref().or(base.expect.as_ref()), |item| {
        statuses(item, lines)
    })?;
    overlay(&mut check.host, own.host.as_ref().or(base.host.as_ref()), |item| {
        item.read("a host name", address::host_field).map(Some)
    })?;
    fit_timeout(&mut check, interval, timeout)?;
    Ok(check)
}

/// A probe ends before the next one begins. A timeout that nobody wrote gives way to a shorter
/// interval; one that somebody wrote is an error.
fn fit_timeout(
    check: &mut HealthCheck,
    interval: Option<&Item<'_>>,
    timeout: Option<&Item<'_>>,
) -> Result<(), Fault> {
    if check.timeout <= check.interval {
        return Ok(());
    }
    let Some(timeout) = timeout else {
        check.timeout = check.interval;
        return Ok(());
    };
    let of = interval.map_or("the default", |item| item.key.as_str());
    let most = super::units::show_duration(check.interval);
    let written = value::shown(timeout.value);
    Err(timeout.fault(format!(
        "{written} is longer than the interval ({of}); write at most {most} or lengthen the interval"
    )))
}

/// `200`, `"200"`, `"200-299"`, or a list of these.
fn statuses(item: &Item<'_>, lines: &Lines) -> Result<StatusRanges, Fault> {
    let ranges = item.one_or_many(lines).iter().map(status_range).collect::<Result<Vec<_>, _>>()?;
    if ranges.is_empty() {
        return Err(item.fault(format!("the list is empty; write {EXPECT_EXAMPLE}")));
    }
    Ok(StatusRanges(ranges))
}

fn status_range(item: &Item<'_>) -> Result<(u16, u16), Fault> {
    let range = match item.value {
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
            let shown = value::shown(item.value);
            let problem = format!("{shown} is no status or range within {least} to {most}");
            item.fault(format!("{problem}; write {EXPECT_EXAMPLE}"))
        })
}

fn status(text: &str) -> Option<u16> {
    let exact = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|status| exact && STATUS.contains(status))
}

fn trusted_proxies(item: Option<&Item<'_>>, lines: &Lines) -> Result<Vec<Network>, Fault> {
    let items = item.map(|item| item.one_or_many(lines)).unwrap_or_default();
    let example = r#"["10.0.0.0/8", "::1"]"#;
    items.iter().map(|item| item.read(example, address::network)).collect()
}

fn timeouts(raw: &raw::Timeouts<'_>) -> Result<Timeouts, Fault> {
    let mut timeouts = Timeouts::default();
    let slots = [
        (&mut timeouts.client_header, &raw.client_header),
        (&mut timeouts.client_idle, &raw.client_idle),
        (&mut timeouts.client_body, &raw.client_body),
        (&mut timeouts.connect, &raw.connect),
        (&mut timeouts.response_header, &raw.response_header),
        (&mut timeouts.response_body, &raw.response_body),
        (&mut timeouts.tunnel_idle, &raw.tunnel_idle),
        (&mut timeouts.upstream_idle, &raw.upstream_idle),
        (&mut timeouts.drain, &raw.drain),
    ];
    for (slot, item) in slots {
        overlay(slot, item.as_ref(), |item| item.duration(&TIMEOUT))?;
    }
    overlay(&mut timeouts.client_gone, raw.client_gone.as_ref(), |item| {
        item.duration_or_off(&GRACE)
    })?;
    Ok(timeouts)
}

fn limits(raw: &raw::Limits<'_>) -> Result<Limits, Fault> {
    let mut limits = Limits::default();
    overlay(&mut limits.head, raw.head.as_ref(), |item| item.size(&HEAD))?;
    overlay(&mut limits.headers, raw.headers.as_ref(), |item| count(item, HEADERS))?;
    overlay(&mut limits.connections, raw.connections.as_ref(), |item| {
        Ok(item.number_or_auto(CONNECTIONS)?.map(|number| number as usize))
    })?;
    overlay(&mut limits.requests_per_target, raw.requests_per_target.as_ref(), |item| {
        Ok(item.number_or_auto(REQUESTS_PER_TARGET)?.map(|number| number as usize))
    })?;
    overlay(&mut limits.idle_per_target, raw.idle_per_target.as_ref(), |item| {
        count(item, IDLE_PER_TARGET)
    })?;
    Ok(limits)
}

fn count(item: &Item<'_>, range: RangeInclusive<u32>) -> Result<usize, Fault> {
    item.number(range).map(|number| number as usize)
}

fn retry(raw: &raw::Retry<'_>) -> Result<Retry, Fault> {
    let mut retry = Retry::default();
    overlay(&mut retry.connect_attempts, raw.connect_attempts.as_ref(), |item| {
        count(item, CONNECT_ATTEMPTS)
    })?;
    overlay(&mut retry.replay, raw.replay.as_ref(), Item::boolean)?;
    overlay(&mut retry.budget, raw.budget.as_ref(), |item| count(item, BUDGET))?;
    overlay(&mut retry.budget_floor, raw.budget_floor.as_ref(), |item| count(item, BUDGET_FLOOR))?;
    Ok(retry)
}

fn ejection(raw: &raw::Ejection<'_>) -> Result<Ejection, Fault> {
    let mut ejection = Ejection::default();
    let counts = [
        (&mut ejection.connect_failures, &raw.connect_failures),
        (&mut ejection.resets, &raw.resets),
        (&mut ejection.timeouts, &raw.timeouts),
        (&mut ejection.errors, &raw.errors),
    ];
    for (slot, item) in counts {
        overlay(slot, item.as_ref(), |item| item.number(EJECT_AFTER))?;
    }
    overlay(&mut ejection.time, raw.time.as_ref(), |item| item.duration(&TIMEOUT))?;
    overlay(&mut ejection.max_time, raw.max_time.as_ref(), |item| item.duration(&TIMEOUT))?;
    overlay(&mut ejection.share, raw.share.as_ref(), |item| item.number(SHARE))?;
    fit_time(&mut ejection, raw)?;
    Ok(ejection)
}

/// The first ejection is no longer than the longest. The one that nobody wrote gives way.
fn fit_time(ejection: &mut Ejection, raw: &raw::Ejection<'_>) -> Result<(), Fault> {
    if ejection.time <= ejection.max_time {
        return Ok(());
    }
    match (&raw.time, &raw.max_time) {
        (Some(time), Some(_)) => {
            let most = super::units::show_duration(ejection.max_time);
            let written = value::shown(time.value);
            Err(time.fault(format!(
                "{written} is longer than ejection.max_time; write at most {most} or lengthen that"
            )))
        }
        (Some(_), None) => {
            ejection.max_time = ejection.time;
            Ok(())
        }
        (None, _) => {
            ejection.time = ejection.max_time;
            Ok(())
        }
    }
}

fn tcp(raw: &raw::Tcp<'_>) -> Result<Tcp, Fault> {
    let mut tcp = Tcp::default();
    overlay(&mut tcp.congestion, raw.congestion.as_ref(), |item| {
        item.read(CONGESTION_EXAMPLE, congestion).map(Some)
    })?;
    overlay(&mut tcp.defer_accept, raw.defer_accept.as_ref(), |item| seconds(item).map(Some))?;
    Ok(tcp)
}

fn dns(raw: &raw::Dns<'_>, lines: &Lines) -> Result<Dns, Fault> {
    let mut dns = Dns::default();
    overlay(&mut dns.servers, raw.servers.as_ref(), |item| servers(item, lines))?;
    Ok(dns)
}

fn servers(item: &Item<'_>, lines: &Lines) -> Result<Vec<SocketAddr>, Fault> {
    let mut servers = Vec::new();
    for item in item.one_or_many(lines) {
        let server = item.read(SERVERS_EXAMPLE, address::name_server)?;
        if servers.contains(&server) {
            let shown = value::shown(item.value);
            return Err(item.fault(format!("{shown} repeats a server; remove one of the two")));
        }
        servers.push(server);
    }
    match servers.len() {
        0 => Err(item.fault(format!("the list is empty; write {SERVERS_EXAMPLE}"))),
        1..=MAX_SERVERS => Ok(servers),
        many => Err(item.fault(format!("has {many} servers; write at most {MAX_SERVERS}"))),
    }
}

/// The kernel counts this time in seconds.
fn seconds(item: &Item<'_>) -> Result<Duration, Fault> {
    let time = item.duration(&DEFER_ACCEPT)?;
    if time.subsec_nanos() == 0 {
        return Ok(time);
    }
    let (written, more) = (value::shown(item.value), time.as_secs() + 1);
    Err(item.fault(format!("{written} is not a number of whole seconds; write \"{more}s\"")))
}

/// The name of an algorithm as the kernel takes it. Whether this kernel has it is found out at the start.
fn congestion(text: &str) -> Result<String, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=MAX_CONGESTION).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(text.to_owned());
    }
    let shown = quoted(text);
    Err(format!("{shown} is no algorithm's name; write {CONGESTION_EXAMPLE}"))
}

fn access_log(raw: &raw::Log<'_>) -> Result<AccessLog, Fault> {
    let mut log = AccessLog::default();
    overlay(&mut log.access, raw.access.as_ref(), |item| {
        item.read(r#""off", "stdout" or the path of a file"#, access_sink)
    })?;
    overlay(&mut log.format, raw.format.as_ref(), |item| {
        item.read(r#""json" or "combined""#, access_format)
    })?;
    Ok(log)
}

/// A path that differs from a keyword only in letter case is a slip, not the name of a file.
fn access_sink(text: &str) -> Result<AccessSink, String> {
    match text {
        "off" => Ok(AccessSink::Off),
        "stdout" => Ok(AccessSink::Stdout),
        _ if text.is_empty() || text.contains('\0') => {
            Err(format!("{} is no path; write \"off\", \"stdout\" or a path", quoted(text)))
        }
        _ => match ["off", "stdout"].iter().find(|word| text.eq_ignore_ascii_case(word)) {
            Some(word) => Err(format!("{} is misspelt; write \"{word}\"", quoted(text))),
            None => Ok(AccessSink::File(PathBuf::from(text))),
        },
    }
}

fn access_format(text: &str) -> Result<AccessFormat, String> {
    match text {
        "json" => Ok(AccessFormat::Json),
        "combined" => Ok(AccessFormat::Combined),
        _ => Err(format!("{} is no format; write \"json\" or \"combined\"", quoted(text))),
    }
}
