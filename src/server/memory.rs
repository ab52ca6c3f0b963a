//! How much memory there is for this process, and how much of it the buffers of connections may hold.
//!
//! The machine's, or what the cgroups of this process leave of it: a container that takes more is killed with all its connections.

use std::fs;
use std::path::{Path, PathBuf};

use crate::settings::Settings;

/// The part of the memory that buffers may hold by default. The kernel keeps its socket buffers, which hold the same bytes before and
/// after, to a tenth of the machine (`net.ipv4.tcp_mem`), and in a cgroup both are counted.
const PART: u64 = 8;
/// The least by default: a thousand slow readers.
const LEAST: u64 = 16 * 1024 * 1024;

/// Bytes that the buffers of connections may hold.
pub(super) fn for_buffers(settings: &Settings) -> usize {
    let available = available();
    let Some(wanted) = settings.plan.limits.memory else {
        return usize::try_from(by_default(available)).unwrap_or(usize::MAX);
    };
    if let Some(available) = available.filter(|&available| available < wanted as u64) {
        log::warn!(
            "limits.memory = {wanted} bytes is more than there is for this process ({available} bytes); write less, or \
             the kernel may end it"
        );
    }
    wanted
}

fn by_default(available: Option<u64>) -> u64 {
    available.map_or(LEAST, |available| available / PART).max(LEAST)
}

/// Bytes of the machine, or of the smallest cgroup that this process is in.
fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&cgroups).into_iter();
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

/// `MemTotal` of proc(5).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The files that may have a limit, of the cgroups in the text of `/proc/self/cgroup` and of those around them; in version 2 and in
/// version 1. Where nothing is limited they have `max`, or a number beyond any machine, or are not there.
fn limit_files(cgroups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let inner = Path::new(path.trim_start_matches('/'));
        files.extend(inner.ancestors().map(|at| Path::new(root).join(at).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn an_eighth_of_what_there_is_is_for_buffers() {
        assert_eq!(by_default(Some(8 * 1024 * MIB)), 1024 * MIB);
        assert_eq!(by_default(Some(64 * MIB)), 16 * MIB);
        assert_eq!(by_default(None), 16 * MIB);
        assert!(available().is_some_and(|bytes| bytes > 16 * MIB));
    }

    #[test]
    fn what_is_written_wins() {
        let mut settings = Settings::default();
        settings.plan.limits.memory = Some(1 << 20);
        assert_eq!(for_buffers(&settings), 1 << 20);
    }

    #[test]
    fn the_size_of_the_machine_is_read() {
        assert_eq!(total("MemTotal:       16303428 kB\nMemFree: 1 kB\n"), Some(16_303_428 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_each_cgroup_around_this_process() {
        let two = limit_files("0::/system.slice/evenly.service\n");
        let expected = ["/system.slice/evenly.service", "/system.slice", ""];
        assert_eq!(
            two,
            expected.map(|at| format!("/sys/fs/cgroup{at}/memory.max")).map(PathBuf::from)
        );
        let one = limit_files("5:cpu,memory:/docker/7\n3:cpuset:/docker/7\n");
        let expected = ["/docker/7", "/docker", ""];
        let file = |at| format!("/sys/fs/cgroup/memory{at}/memory.limit_in_bytes");
        assert_eq!(one, expected.map(file).map(PathBuf::from));
        assert_eq!(limit_files("0::/\n"), [PathBuf::from("/sys/fs/cgroup/memory.max")]);
        assert_eq!(limit_files("nonsense\n"), [] as [PathBuf; 0]);
    }
}
