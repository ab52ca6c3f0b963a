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

use ipnet::IpNet;
use toml::de::DeValue;

use super::error::{Fault, Page, Place, quoted};
use super::listen::{self, Mine};
use super::raw::{self, Item};
use super::{Overrides, address, value};
use crate::settings::{
    AccessFormat, AccessLog, AccessSink, Boot, Dns, Ejection, HealthCheck, Limits, Plan, Retry,
    Settings, StatusRanges, Target, TargetAddress, Tcp, Timeouts, Via, Workers,
};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
const IN_A_ROW: RangeInclusive<u32> = 1..=1_000;
const WORKERS: RangeInclusive<u32> = 1..=1_024;
const SPIN: RangeInclusive<u32> = 0..=1_000;
const HEAD: RangeInclusive<usize> = 1_024..=65_536;
const HEADERS: RangeInclusive<u32> = 1..=256;
const MEMORY: RangeInclusive<usize> = 1 << 20..=1 << 40;
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
const VIA_EXAMPLE: &str = r#""off", "requests" or "all""#;
const EXPECT_EXAMPLE: &str = r#"200, "200-299" or ["200", "301-302"]"#;
/// The longest name of a congestion control, without the NUL that the kernel counts (`TCP_CA_NAME_MAX`).
const MAX_CONGESTION: usize = 15;

const CONGESTION_EXAMPLE: &str = r#"the kernel's name for one, such as "cubic""#;
const TARGETS_EXAMPLE: &str = r#"add a [[targets]] block with address = "host:port""#;

/// The settings of a file (empty when there is none), with what the command line says winning over it. What is wrong
/// is reported to `page`; its default stands there until then.
pub(super) fn settings<'a>(
    file: &raw::File<'a>,
    overrides: &Overrides,
    page: &'a Page<'a>,
) -> Settings {
    let defaults = Settings::default();
    let listen = listen(file.listen.as_ref(), overrides, page, defaults.plan.listen);
    let admin = admin(file.admin.as_ref(), page);
    let targets = targets(file, overrides, page);
    if let Some((admin, item)) = &admin {
        apart_from(&listen, *admin, item);
    }
    let admin = admin.map(|(address, _)| address);
    if let Some(targets) = &targets {
        no_circle(targets, &listen, admin, page);
    }
    let boot = Boot {
        workers: workers(file.workers.as_ref(), overrides, page, defaults.boot.workers),
        tcp: tcp(&table(file.tcp.as_ref(), page)),
        dns: dns(&table(file.dns.as_ref(), page)),
        admin,
        ..defaults.boot
    };
    let plan = Plan {
        listen,
        trusted_proxies: trusted_proxies(file.trusted_proxies.as_ref(), page),
        timeouts: timeouts(&table(file.timeouts.as_ref(), page)),
        limits: limits(&table(file.limits.as_ref(), page)),
        retry: retry(&table(file.retry.as_ref(), page)),
        ejection: ejection(&table(file.ejection.as_ref(), page)),
        log: access_log(&table(file.log.as_ref(), page)),
        targets: targets.into_iter().flatten().map(|(target, _)| target).collect(),
        via: defaults.plan.via,
    };
    let mut settings = Settings { boot, plan };
    overlay(&mut settings.boot.spin, file.spin.as_ref(), |item| item.number(SPIN));
    overlay(&mut settings.plan.via, file.via.as_ref(), |item| item.read(VIA_EXAMPLE, via));
    settings
}

/// A table that may be absent.
fn table<'a, T: raw::Mirror<'a> + Default>(item: Option<&Item<'a>>, page: &Page<'_>) -> T {
    item.and_then(|item| page.take(item.table())).unwrap_or_default()
}

/// Lays the value of `item`, if it is there, over the default in `slot`. `false` if it was wrong, and was reported.
fn overlay<'a, T>(
    slot: &mut T,
    item: Option<&Item<'a>>,
    read: impl FnOnce(&Item<'a>) -> Result<T, Fault>,
) -> bool {
    let Some(item) = item else { return true };
    let value = item.page.take(read(item));
    value.map(|value| *slot = value).is_some()
}

fn listen(
    item: Option<&Item<'_>>,
    overrides: &Overrides,
    page: &Page<'_>,
    default: Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    let mut addresses = default;
    overlay(&mut addresses, item, |item| listen_of_file(item, page));
    if !overrides.listen.is_empty() {
        addresses = Vec::new();
        for text in &overrides.listen {
            let added = add_listen(&mut addresses, text);
            page.take(added.map_err(|p| Fault::of_option("--listen", p)));
        }
    }
    addresses
}

fn listen_of_file(item: &Item<'_>, page: &Page<'_>) -> Result<Vec<SocketAddr>, Fault> {
    let mut addresses = Vec::new();
    let items = item.one_or_many();
    for item in &items {
        let text = address_text(item, LISTEN_EXAMPLE);
        let added = text.and_then(|text| {
            add_listen(&mut addresses, &text).map_err(|problem| item.fault(problem))
        });
        page.take(added);
    }
    if items.is_empty() {
        return Err(item.fault(format!("the list is empty; write {LISTEN_EXAMPLE}")));
    }
    Ok(addresses)
}

/// The text of an address to listen on. A bare port is one that lacks its address.
fn address_text(item: &Item<'_>, example: &str) -> Result<String, Fault> {
    match item.value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => item.text(example).map(str::to_owned),
    }
}

/// Port 0 may be repeated: each time it is another port.
fn add_listen(addresses: &mut Vec<SocketAddr>, text: &str) -> Result<(), String> {
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

fn admin<'a>(item: Option<&Item<'a>>, page: &'a Page<'a>) -> Option<(SocketAddr, Item<'a>)> {
    let item = table::<raw::Admin<'_>>(item, page).listen?;
    let address = address_text(&item, "\"127.0.0.1:9901\"")
        .and_then(|text| listen::admin(&text).map_err(|problem| item.fault(problem)));
    page.take(address).map(|address| (address, item))
}

/// The admin listener is bound once and shares its address with nobody.
fn apart_from(listen: &[SocketAddr], admin: SocketAddr, item: &Item<'_>) {
    let Some(taken) = listen.iter().find(|&&taken| listen::overlap(taken, admin)) else { return };
    let relation = if *taken == admin {
        "is also a listen address".to_owned()
    } else if listen::covers(taken.ip(), admin.ip()) {
        format!("is part of the listen address {taken}")
    } else {
        format!("includes the listen address {taken}")
    };
    item.page.report(item.fault(format!("{admin} {relation}; choose another port")));
}

/// A target that is an address of this very program would send each request in a circle.
fn no_circle(
    targets: &[(Target, Source<'_>)],
    listen: &[SocketAddr],
    admin: Option<SocketAddr>,
    page: &Page<'_>,
) {
    let mine = Mine::default();
    for (target, source) in targets {
        let leads_to = |at: SocketAddr| mine.leads_to(&target.address, at);
        let own = listen.iter().copied().find(|&at| leads_to(at)).map(|at| (at, "listens"));
        let admin = admin.filter(|&at| leads_to(at)).map(|at| (at, "has its admin listener"));
        if let Some((at, what)) = own.or(admin) {
            let shown = quoted(&target.address.to_string());
            page.report(source.fault(format!(
                "{shown} leads back to evenly itself, which {what} on {at}; write the address of a server"
            )));
        }
    }
}

fn workers(
    item: Option<&Item<'_>>,
    overrides: &Overrides,
    page: &Page<'_>,
    default: Workers,
) -> Workers {
    let mut workers = default;
    overlay(&mut workers, item, |item| Ok(count_of_workers(item.number_or_auto(WORKERS)?)));
    if let Some(text) = &overrides.workers {
        let of_option = workers_option(text).map_err(|p| Fault::of_option("--workers", p));
        workers = page.take(of_option).unwrap_or(workers);
    }
    workers
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
            Err(format!("{} is not a worker count; use auto or {least} to {most}", quoted(text)))
        }
    }
}

/// Where a target was written.
enum Source<'a> {
    File(Item<'a>),
    Option,
}

impl Source<'_> {
    fn fault(&self, problem: String) -> Fault {
        match self {
            Source::File(item) => item.fault(problem),
            Source::Option => Fault::of_option("--target", problem),
        }
    }
}

/// The targets of the file, or those of the command line in their place. `None` if there is none at all, or not one
/// whose address can be read; that was reported.
fn targets<'a>(
    file: &raw::File<'a>,
    overrides: &Overrides,
    page: &'a Page<'a>,
) -> Option<Vec<(Target, Source<'a>)>> {
    let base: raw::Health<'_> = table(file.health.as_ref(), page);
    // Judged on its own too, so that a fault in it is found whatever the targets repeat.
    let default_check = health(&raw::Target::default(), &base);
    let of_file = file.targets.as_ref().map(|item| (item, targets_of_file(item, &base, page)));
    if !overrides.targets.is_empty() {
        return Some(targets_of_options(overrides, default_check, page));
    }
    match of_file {
        Some((_, Some(targets))) if !targets.is_empty() => return Some(targets),
        // What is there was reported as wrong.
        Some((item, _)) if item.elements().is_none_or(|blocks| !blocks.is_empty()) => return None,
        Some((item, _)) => {
            page.report(item.fault(format!("there is no target; {TARGETS_EXAMPLE}")));
        }
        // A block of another name was reported: it may be what is missing.
        None if file.has_unknown_keys => {}
        None => {
            let problem = format!("there is no target; {TARGETS_EXAMPLE}");
            page.report(Fault { place: Place::Whole, key: "targets".to_owned(), problem });
        }
    }
    None
}

fn targets_of_file<'a>(
    item: &Item<'a>,
    base: &raw::Health<'_>,
    page: &'a Page<'a>,
) -> Option<Vec<(Target, Source<'a>)>> {
    let Some(blocks) = item.elements() else {
        page.report(item.wrong_type("[[targets]] in double brackets, once for each target"));
        return None;
    };
    let mut seen = Seen::default();
    let mut targets = Vec::with_capacity(blocks.len());
    for block in blocks {
        let Some(raw) = page.take(block.table::<raw::Target<'_>>()) else { continue };
        let health = health(&raw, base);
        let Some(item) = raw.address else {
            if !raw.has_unknown_keys {
                page.report(block.fault("has no address; write address = \"host:port\""));
            }
            continue;
        };
        let Some(address) = page.take(item.read(TARGET_EXAMPLE, address::target)) else { continue };
        match seen.add(&address, || format!("{} (line {})", item.key, item.line())) {
            Err(first) => page.report(item.fault(repeated(item.value.get_ref(), &first))),
            Ok(()) => targets.push((Target { address, health }, Source::File(item))),
        }
    }
    Some(targets)
}

fn repeated(value: &DeValue<'_>, first: &str) -> String {
    format!("{} is the same target as {first}; remove one of the two", value::shown(value))
}

fn targets_of_options<'a>(
    overrides: &Overrides,
    mut health: HealthCheck,
    page: &'a Page<'a>,
) -> Vec<(Target, Source<'a>)> {
    let endpoint = overrides.health_check_endpoint.as_deref().map(address::endpoint).transpose();
    let endpoint = endpoint.map_err(|p| Fault::of_option("--health-check-endpoint", p));
    health.endpoint = page.take(endpoint).flatten();
    let mut seen = Seen::default();
    let mut targets = Vec::with_capacity(overrides.targets.len());
    for text in &overrides.targets {
        let address = address::target(text).and_then(|address| {
            seen.add(&address, || quoted(text)).map_err(|first| {
                format!("{} is the same target as {first}; remove one of the two", quoted(text))
            })?;
            Ok(address)
        });
        if let Some(address) = page.take(address.map_err(|p| Fault::of_option("--target", p))) {
            targets.push((Target { address, health: health.clone() }, Source::Option));
        }
    }
    targets
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
fn health(own: &raw::Target<'_>, base: &raw::Health<'_>) -> HealthCheck {
    let interval = own.interval.as_ref().or(base.interval.as_ref());
    let timeout = own.timeout.as_ref().or(base.timeout.as_ref());
    let mut check = HealthCheck::default();
    overlay(&mut check.endpoint, own.health_check_endpoint.as_ref(), |item| {
        item.read("a path such as \"/healthz\"", address::endpoint).map(Some)
    });
    let sound = overlay(&mut check.interval, interval, |item| item.duration(&INTERVAL));
    let sound = overlay(&mut check.timeout, timeout, |item| item.duration(&TIMEOUT)) && sound;
    overlay(&mut check.rise, own.rise.as_ref().or(base.rise.as_ref()), |i| i.number(IN_A_ROW));
    overlay(&mut check.fall, own.fall.as_ref().or(base.fall.as_ref()), |i| i.number(IN_A_ROW));
    overlay(&mut check.expect, own.expect.as_ref().or(base.expect.as_ref()), statuses);
    overlay(&mut check.host, own.host.as_ref().or(base.host.as_ref()), |item| {
        item.read("a host name", address::host_field).map(Some)
    });
    if sound {
        fit_timeout(&mut check, interval, timeout);
    }
    check
}

/// A probe ends before the next one begins. A timeout that nobody wrote gives way to a shorter
/// interval; one that somebody wrote is an error.
fn fit_timeout(check: &mut HealthCheck, interval: Option<&Item<'_>>, timeout: Option<&Item<'_>>) {
    if check.timeout <= check.interval {
        return;
    }
    let Some(timeout) = timeout else {
        check.timeout = check.interval;
        return;
    };
    let of = interval.map_or("the default", |item| item.key.as_str());
    let most = super::units::show_duration(check.interval);
    let written = value::shown(timeout.value.get_ref());
    timeout.page.report(timeout.fault(format!(
        "{written} is longer than the interval ({of}); write at most {most} or lengthen the interval"
    )));
}

/// `200`, `"200"`, `"200-299"`, or a list of these.
fn statuses(item: &Item<'_>) -> Result<StatusRanges, Fault> {
    let ranges = item.one_or_many().iter().map(status_range).collect::<Result<Vec<_>, _>>()?;
    if ranges.is_empty() {
        return Err(item.fault(format!("the list is empty; write {EXPECT_EXAMPLE}")));
    }
    Ok(StatusRanges(ranges))
}

fn status_range(item: &Item<'_>) -> Result<(u16, u16), Fault> {
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
            item.fault(format!("{problem}; write {EXPECT_EXAMPLE}"))
        })
}

fn status(text: &str) -> Option<u16> {
    let exact = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|status| exact && STATUS.contains(status))
}

fn trusted_proxies(item: Option<&Item<'_>>, page: &Page<'_>) -> Vec<IpNet> {
    let items = item.map(Item::one_or_many).unwrap_or_default();
    let example = r#"["10.0.0.0/8", "::1"]"#;
    let networks = items.iter().map(|item| item.read(example, address::network));
    networks.filter_map(|network| page.take(network)).collect()
}

fn timeouts(raw: &raw::Timeouts<'_>) -> Timeouts {
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
        overlay(slot, item.as_ref(), |item| item.duration(&TIMEOUT));
    }
    overlay(&mut timeouts.client_gone, raw.client_gone.as_ref(), |item| {
        item.duration_or_off(&GRACE)
    });
    timeouts
}

fn limits(raw: &raw::Limits<'_>) -> Limits {
    let mut limits = Limits::default();
    overlay(&mut limits.head, raw.head.as_ref(), |item| item.size(&HEAD));
    overlay(&mut limits.headers, raw.headers.as_ref(), |item| count(item, HEADERS));
    overlay(&mut limits.connections, raw.connections.as_ref(), |item| {
        Ok(item.number_or_auto(CONNECTIONS)?.map(|number| number as usize))
    });
    overlay(&mut limits.requests_per_target, raw.requests_per_target.as_ref(), |item| {
        Ok(item.number_or_auto(REQUESTS_PER_TARGET)?.map(|number| number as usize))
    });
    overlay(&mut limits.idle_per_target, raw.idle_per_target.as_ref(), |item| {
        count(item, IDLE_PER_TARGET)
    });
    overlay(&mut limits.memory, raw.memory.as_ref(), |item| item.size_or_auto(&MEMORY));
    limits
}

fn count(item: &Item<'_>, range: RangeInclusive<u32>) -> Result<usize, Fault> {
    item.number(range).map(|number| number as usize)
}

fn retry(raw: &raw::Retry<'_>) -> Retry {
    let mut retry = Retry::default();
    overlay(&mut retry.connect_attempts, raw.connect_attempts.as_ref(), |item| {
        count(item, CONNECT_ATTEMPTS)
    });
    overlay(&mut retry.replay, raw.replay.as_ref(), Item::boolean);
    overlay(&mut retry.budget, raw.budget.as_ref(), |item| count(item, BUDGET));
    overlay(&mut retry.budget_floor, raw.budget_floor.as_ref(), |item| count(item, BUDGET_FLOOR));
    retry
}

fn ejection(raw: &raw::Ejection<'_>) -> Ejection {
    let mut ejection = Ejection::default();
    let counts = [
        (&mut ejection.connect_failures, &raw.connect_failures),
        (&mut ejection.resets, &raw.resets),
        (&mut ejection.timeouts, &raw.timeouts),
        (&mut ejection.errors, &raw.errors),
    ];
    for (slot, item) in counts {
        overlay(slot, item.as_ref(), |item| item.number(EJECT_AFTER));
    }
    let sound = overlay(&mut ejection.time, raw.time.as_ref(), |item| item.duration(&TIMEOUT));
    let max_time = raw.max_time.as_ref();
    let sound = overlay(&mut ejection.max_time, max_time, |item| item.duration(&TIMEOUT)) && sound;
    overlay(&mut ejection.share, raw.share.as_ref(), |item| item.number(SHARE));
    if sound {
        fit_time(&mut ejection, raw);
    }
    ejection
}

/// The first ejection is no longer than the longest. The one that nobody wrote gives way.
fn fit_time(ejection: &mut Ejection, raw: &raw::Ejection<'_>) {
    if ejection.time <= ejection.max_time {
        return;
    }
    match (&raw.time, &raw.max_time) {
        (Some(time), Some(_)) => {
            let most = super::units::show_duration(ejection.max_time);
            let written = value::shown(time.value.get_ref());
            time.page.report(time.fault(format!(
                "{written} is longer than ejection.max_time; write at most {most} or lengthen that"
            )));
        }
        (Some(_), None) => ejection.max_time = ejection.time,
        (None, _) => ejection.time = ejection.max_time,
    }
}

fn tcp(raw: &raw::Tcp<'_>) -> Tcp {
    let mut tcp = Tcp::default();
    overlay(&mut tcp.congestion, raw.congestion.as_ref(), |item| {
        item.read(CONGESTION_EXAMPLE, congestion).map(Some)
    });
    overlay(&mut tcp.defer_accept, raw.defer_accept.as_ref(), |item| seconds(item).map(Some));
    tcp
}

fn dns(raw: &raw::Dns<'_>) -> Dns {
    let mut dns = Dns::default();
    overlay(&mut dns.servers, raw.servers.as_ref(), servers);
    dns
}

fn servers(item: &Item<'_>) -> Result<Vec<SocketAddr>, Fault> {
    let mut servers = Vec::new();
    for item in item.one_or_many() {
        let server = item.read(SERVERS_EXAMPLE, address::name_server)?;
        if servers.contains(&server) {
            let shown = value::shown(item.value.get_ref());
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
    let (written, more) = (value::shown(item.value.get_ref()), time.as_secs() + 1);
    Err(item.fault(format!("{written} is not a number of whole seconds; write \"{more}s\"")))
}

/// The name of an algorithm as the kernel takes it. Whether this kernel has it is found out at the start.
fn congestion(text: &str) -> Result<String, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=MAX_CONGESTION).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(text.to_owned());
    }
    let shown = quoted(text);
    Err(format!("{shown} is not a congestion control name; write {CONGESTION_EXAMPLE}"))
}

fn access_log(raw: &raw::Log<'_>) -> AccessLog {
    let mut log = AccessLog::default();
    overlay(&mut log.access, raw.access.as_ref(), |item| {
        item.read(r#""off", "stdout" or the path of a file"#, access_sink)
    });
    overlay(&mut log.format, raw.format.as_ref(), |item| {
        item.read(r#""json" or "combined""#, access_format)
    });
    log
}

fn via(text: &str) -> Result<Via, String> {
    match text {
        "off" => Ok(Via::Off),
        "requests" => Ok(Via::Requests),
        "all" => Ok(Via::All),
        _ => Err(format!("{} is none of its values; write {VIA_EXAMPLE}", quoted(text))),
    }
}

/// A word that stands for a destination elsewhere is a slip, not the name of a file; and so is a path that only a shell
/// would expand.
fn access_sink(text: &str) -> Result<AccessSink, String> {
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
        _ => return Ok(AccessSink::File(PathBuf::from(text))),
    };
    Err(problem)
}

fn access_format(text: &str) -> Result<AccessFormat, String> {
    match text {
        "json" => Ok(AccessFormat::Json),
        "combined" => Ok(AccessFormat::Combined),
        _ => Err(format!("{} is not a format; write \"json\" or \"combined\"", quoted(text))),
    }
}
