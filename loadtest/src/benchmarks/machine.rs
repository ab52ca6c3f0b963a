//! The machine: what it is, and the congestion control that its sockets take.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{getpriority_process, setpriority_process};

use crate::Failure;
use crate::process::run;

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// What the system had before it was changed.
static BEFORE: OnceLock<String> = OnceLock::new();

/// The niceness of this session among all (sched(7)).
const AUTOGROUP: &str = "/proc/self/autogroup";
/// What the session had before.
static SESSIONS_NICE: OnceLock<String> = OnceLock::new();
const NICE: i32 = -20;

/// Names and values for the report.
pub(super) fn describe() -> Vec<(String, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    [
        ("CPU", model(&cpu).to_owned()),
        ("cores", cores.to_string()),
        ("kernel", kernel.trim().to_owned()),
        ("congestion control", congestion()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model.trim())
}

/// The date, UTC.
pub(super) fn date() -> String {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%d %H:%M UTC"]);
    let said = run("date", &mut date, Duration::from_secs(5)).map(|(_, text)| text);
    said.unwrap_or_default().trim().to_owned()
}

/// The congestion control of new sockets.
pub(super) fn congestion() -> String {
    fs::read_to_string(CONGESTION).unwrap_or_default().trim().to_owned()
}

/// Another congestion control for all new sockets of this network namespace, as long as this lives,
/// also when the run is interrupted.
pub(super) struct Congestion;

impl Congestion {
    pub(super) fn set(name: &str) -> Result<Congestion, Failure> {
        BEFORE.get_or_init(congestion);
        fs::write(CONGESTION, name)
            .map_err(|error| Failure::new(format!("{CONGESTION} cannot be set: {error}")))?;
        Ok(Congestion)
    }
}

impl Drop for Congestion {
    fn drop(&mut self) {
        restore();
    }
}

/// Sets the congestion control, and who goes first, back to what they were.
fn restore() {
    if let Some(before) = BEFORE.get() {
        let _ = fs::write(CONGESTION, before);
    }
    if let Some(before) = SESSIONS_NICE.get() {
        let _ = fs::write(AUTOGROUP, before);
    }
}

/// This program and all it starts from now on, before other work on this machine, where it is allowed to be (root):
/// what else runs here then costs a few percent of the time instead of half of it. As long as this lives.
pub(super) struct Precedence {
    /// Whether there is any.
    pub(super) taken: bool,
    /// This process's niceness before.
    before: i32,
}

impl Precedence {
    pub(super) fn take() -> Precedence {
        let before = getpriority_process(None).unwrap_or(0);
        let one = setpriority_process(None, NICE).is_ok();
        // Where sessions share the CPUs before processes do, a process's niceness says nothing to other sessions.
        let text = fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let Some(sessions) = sessions_nice(&text) else { return Precedence { taken: one, before } };
        SESSIONS_NICE.get_or_init(|| sessions.to_owned());
        Precedence { taken: fs::write(AUTOGROUP, NICE.to_string()).is_ok(), before }
    }
}

impl Precedence {
    pub(super) fn word(&self) -> &'static str {
        if self.taken { "yes" } else { "no" }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        let _ = setpriority_process(None, self.before);
        restore();
    }
}

/// The number in `/autogroup-6 nice 0`.
fn sessions_nice(autogroup: &str) -> Option<&str> {
    autogroup.rsplit_once(" nice ").map(|(_, nice)| nice.trim())
}

/// Restores what was changed when the run is interrupted (SIGINT, SIGTERM) or takes longer than
/// `limit`, and ends it. The kernel then ends its children.
pub(super) fn restore_at_the_end(limit: Duration) -> Result<(), Failure> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            restore();
            std::process::exit(130);
        }
    });
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        restore();
        eprintln!("loadtest: given up after {limit:?}");
        std::process::exit(1);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_model_of_the_cpu() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Some CPU\n"), "Some CPU");
        assert_eq!(model(""), "unknown");
    }

    #[test]
    fn finds_the_niceness_of_the_session() {
        assert_eq!(sessions_nice("/autogroup-6 nice -5\n"), Some("-5"));
        assert_eq!(sessions_nice("0"), None);
    }
}
