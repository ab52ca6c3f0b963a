//! From what is written to what the program runs by: what wins over what, and how values relate.
//!
//! What a key may be by itself is in [`keys`], with its range; defaults are in [`crate::settings`]: a key that is absent
//! leaves the default standing. Touches no socket and resolves no name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;

use toml::de::{DeTable, DeValue};

use super::error::{Location, Mistake, Page, quoted};
use super::keys::{self, Draft, WORKERS};
use super::listen::{self, Mine};
use super::raw::{Item, Written};
use super::{Overrides, address, kinds, units, value};
use crate::settings::{
    Ejection, HealthCheck, Settings, Target, TargetAddress, TargetState, Workers,
};

const TARGETS_EXAMPLE: &str = r#"add a [[targets]] block with address = "host:port""#;

/// The settings of a file (`None` when there is none), with what the command line says winning over it. What is wrong
/// is reported to `page`; its default stands there until then.
pub(super) fn settings<'a>(
    file: Option<&'a DeTable<'a>>,
    overrides: &Overrides,
    page: &'a Page<'a>,
) -> Settings {
    let top = keys::table("");
    let file =
        file.map_or_else(|| Written::nothing(top), |content| Written::read(top, content, "", page));
    let mut draft = Draft::default();
    file.lay_over(&mut draft);
    for name in ["timeouts", "limits", "retry", "tcp", "dns", "security", "log"] {
        file.table(name).lay_over(&mut draft);
    }
    let ejection = file.table("ejection");
    let wrong = ejection.lay_over(&mut draft);
    if !wrong.contains(&"time") && !wrong.contains(&"max_time") {
        fit_time(&mut draft.plan.ejection, &ejection, page);
    }
    let admin = file.table("admin");
    admin.lay_over(&mut draft);
    let Draft { boot, plan, .. } = draft;
    let mut settings = Settings { boot, plan };
    override_with(&mut settings, overrides, page);
    if let (Some(address), Some(item)) = (settings.boot.admin, admin.get("listen")) {
        apart_from(&settings.plan.listen, address, item);
    }
    let targets = targets(&file, overrides, page);
    if let Some(targets) = &targets {
        no_circle(targets, &settings, page);
    }
    settings.plan.targets = targets.into_iter().flatten().map(|(target, _)| target).collect();
    settings
}

/// Lays the listen addresses and workers of the command line over those of the file.
fn override_with(settings: &mut Settings, overrides: &Overrides, page: &Page<'_>) {
    if !overrides.listen.is_empty() {
        settings.plan.listen = Vec::new();
        for text in &overrides.listen {
            let added = kinds::add_listen(&mut settings.plan.listen, text);
            page.take(added.map_err(|problem| Mistake::of_option("--listen", problem)));
        }
    }
    if let Some(text) = &overrides.workers {
        let workers = workers(text).map_err(|problem| Mistake::of_option("--workers", problem));
        settings.boot.workers = page.take(workers).unwrap_or(settings.boot.workers);
    }
}

/// The value of `--workers`.
fn workers(text: &str) -> Result<Workers, String> {
    if text == "auto" {
        return Ok(Workers::Auto);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<usize>().ok().filter(|&n| digits && WORKERS.contains(&(n as u64))) {
        Some(count) => Ok(Workers::Count(count)),
        None => {
            let (least, most) = WORKERS.into_inner();
            Err(format!("{} is not a worker count; use auto or {least} to {most}", quoted(text)))
        }
    }
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
    item.page.report(item.mistake(format!("{admin} {relation}; choose another port")));
}

/// A target that is an address of this very program would send each request in a circle.
fn no_circle(targets: &[(Target, Source<'_>)], settings: &Settings, page: &Page<'_>) {
    let mine = Mine::default();
    for (target, source) in targets {
        let leads_to = |at: SocketAddr| mine.leads_to(&target.address, at);
        let listen = settings.plan.listen.iter().copied().find(|&at| leads_to(at));
        let own = listen.map(|at| (at, "listens"));
        let admin = settings.boot.admin.filter(|&at| leads_to(at));
        let admin = admin.map(|at| (at, "has its admin listener"));
        if let Some((at, what)) = own.or(admin) {
            let shown = quoted(&target.address.to_string());
            page.report(source.mistake(format!(
                "{shown} leads back to evenly itself, which {what} on {at}; write the address of a server"
            )));
        }
    }
}

/// Where a target was written.
enum Source<'a> {
    File(Item<'a>),
    Option,
}

impl Source<'_> {
    fn mistake(&self, problem: String) -> Mistake {
        match self {
            Source::File(item) => item.mistake(problem),
            Source::Option => Mistake::of_option("--target", problem),
        }
    }
}

/// The targets of the file, or those of the command line in their place. `None` if there is none at all, or not one
/// whose address can be read; that was reported.
fn targets<'a>(
    file: &Written<'a>,
    overrides: &Overrides,
    page: &'a Page<'a>,
) -> Option<Vec<(Target, Source<'a>)>> {
    let base = Base::read(file);
    // Judged on its own too, so that a mistake in it is found whatever the targets repeat.
    let (default_check, _) = base.target(&Written::nothing(keys::table("targets")));
    let of_file = file.get("targets").map(|item| (item, targets_of_file(item, &base, page)));
    if !overrides.targets.is_empty() {
        return Some(targets_of_options(overrides, default_check.0, page));
    }
    match of_file {
        Some((_, Some(targets))) if !targets.is_empty() => return Some(targets),
        // What is there was reported as wrong.
        Some((item, _)) if item.elements().is_none_or(|blocks| !blocks.is_empty()) => return None,
        Some((item, _)) => {
            page.report(item.mistake(format!("there is no target; {TARGETS_EXAMPLE}")));
        }
        // A block of another name was reported: it may be what is missing.
        None if file.has_unknown_keys => {}
        None => {
            let problem = format!("there is no target; {TARGETS_EXAMPLE}");
            page.report(Mistake { location: Location::Whole, key: "targets".to_owned(), problem });
        }
    }
    None
}

/// How targets are checked whose own keys do not say otherwise.
struct Base<'a> {
    written: Written<'a>,
    check: HealthCheck,
    /// Keys whose value is wrong.
    wrong: Vec<&'static str>,
}

impl<'a> Base<'a> {
    fn read(file: &Written<'a>) -> Self {
        let written = file.table("health");
        let mut draft = Draft::default();
        let wrong = written.lay_over(&mut draft);
        Base { written, check: draft.check, wrong }
    }

    /// How the target of the block `own` is checked, whether it gets requests, and where it is, if that can be read.
    fn target(&self, own: &Written<'_>) -> ((HealthCheck, TargetState), Option<TargetAddress>) {
        let mut draft = Draft { check: self.check.clone(), ..Draft::default() };
        let wrong = own.lay_over(&mut draft);
        let item = |name| own.get(name).or(self.written.get(name));
        let is_sound = |name| match own.get(name) {
            Some(_) => !wrong.contains(&name),
            None => !self.wrong.contains(&name),
        };
        if is_sound("interval") && is_sound("timeout") {
            fit_timeout(&mut draft.check, item("interval"), item("timeout"));
        }
        ((draft.check, draft.state), draft.address)
    }
}

fn targets_of_file<'a>(
    item: &Item<'a>,
    base: &Base<'_>,
    page: &'a Page<'a>,
) -> Option<Vec<(Target, Source<'a>)>> {
    let Some(blocks) = item.elements() else {
        page.report(item.wrong_type("[[targets]] in double brackets, once for each target"));
        return None;
    };
    let mut seen = Seen::default();
    let mut targets = Vec::with_capacity(blocks.len());
    for block in blocks {
        let Some(written) = page.take(block.table(keys::table("targets"))) else { continue };
        let (target, address) = base.target(&written);
        let Some(item) = written.get("address") else {
            if !written.has_unknown_keys {
                page.report(block.mistake("has no address; write address = \"host:port\""));
            }
            continue;
        };
        let Some(address) = address else { continue };
        match seen.add(&address, || format!("{} (line {})", item.key, item.line())) {
            Err(first) => page.report(item.mistake(repeated(item.value.get_ref(), &first))),
            Ok(()) => {
                let (health, state) = target;
                targets.push((Target { address, health, state }, Source::File(item.clone())));
            }
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
    let endpoint = endpoint.map_err(|p| Mistake::of_option("--health-check-endpoint", p));
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
        if let Some(address) = page.take(address.map_err(|p| Mistake::of_option("--target", p))) {
            let (health, state) = (health.clone(), TargetState::Auto);
            targets.push((Target { address, health, state }, Source::Option));
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
        match self.0.entry(address.bare()) {
            Entry::Occupied(first) => Err(first.get().clone()),
            Entry::Vacant(free) => {
                free.insert(name());
                Ok(())
            }
        }
    }
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
    let most = units::show_duration(check.interval);
    let written = value::shown(timeout.value.get_ref());
    timeout.page.report(timeout.mistake(format!(
        "{written} is longer than the interval ({of}); write at most {most} or lengthen the interval"
    )));
}

/// The first ejection is no longer than the longest. The one that nobody wrote gives way.
fn fit_time(ejection: &mut Ejection, written: &Written<'_>, page: &Page<'_>) {
    if ejection.time <= ejection.max_time {
        return;
    }
    match (written.get("time"), written.get("max_time")) {
        (Some(time), Some(_)) => {
            let most = units::show_duration(ejection.max_time);
            let shown = value::shown(time.value.get_ref());
            page.report(time.mistake(format!(
                "{shown} is longer than ejection.max_time; write at most {most} or lengthen that"
            )));
        }
        (Some(_), None) => ejection.max_time = ejection.time,
        (None, _) => ejection.time = ejection.max_time,
    }
}
