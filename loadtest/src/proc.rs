//! What the kernel says about a running process: CPU, waiting for CPU, memory.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::{Add, Sub};
use std::path::Path;

use crate::Failure;

/// CPU time of all threads of a process, from `/proc/PID/task/*/schedstat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// On a CPU, in nanoseconds.
    pub(crate) ran: u64,
    /// Ready to run and waiting for a CPU, in nanoseconds.
    pub(crate) waited: u64,
}

impl Sub for Cpu {
    type Output = Cpu;
    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

impl Add for Cpu {
    type Output = Cpu;
    fn add(self, other: Cpu) -> Cpu {
        Cpu { ran: self.ran + other.ran, waited: self.waited + other.waited }
    }
}

/// `pid` and every process that descends from it: a server may serve from processes it has started.
pub(crate) fn tree(pid: u32) -> Result<Vec<u32>, Failure> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended since is nobody's child.
        let Ok(text) = fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        parents.extend(parent(&text).map(|parent| (child, parent)));
    }
    Ok(descent(pid, &parents))
}

/// `root` and all that descend from it in a table of children and their parents.
fn descent(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        let children = parents.iter().filter(|(_, parent)| *parent == one);
        found.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    found
}

/// The parent in `/proc/PID/stat`, whose second field is a name that may hold anything, in brackets.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Sums the threads of `pid` and of what descends from it. A thread that ends between two calls takes its time with
/// it.
pub(crate) fn cpu(pid: u32) -> Result<Cpu, Failure> {
    let own = cpu_of_all(&[pid])?;
    let heirs = tree(pid)?.into_iter().filter(|heir| *heir != pid);
    Ok(heirs.fold(own, |sum, heir| sum + cpu_of_all(&[heir]).unwrap_or_default()))
}

fn cpu_of(pid: u32, counts: impl Fn(&Path) -> bool) -> Result<Cpu, Failure> {
    let mut sum = Cpu::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !counts(&task) {
            continue;
        }
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let one = schedstat(&text).ok_or_else(|| Failure::new("unreadable schedstat"))?;
        sum = sum + one;
    }
    Ok(sum)
}

/// The CPU time of the calling thread.
pub(crate) fn own_thread() -> Result<Cpu, Failure> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    schedstat(&text).ok_or_else(|| Failure::new("unreadable schedstat"))
}

/// What the host has taken from this machine's CPUs since it began, in seconds (`steal` in `/proc/stat`). It is
/// counted in hundredths.
pub(crate) fn stolen() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/stat")?;
    let steal = text.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
    steal.map(|ticks: f64| ticks / 100.0).ok_or_else(|| Failure::new("unreadable /proc/stat"))
}

/// Sums the processes of `pids`, which costs less than to look for them.
pub(crate) fn cpu_of_all(pids: &[u32]) -> Result<Cpu, Failure> {
    pids.iter().try_fold(Cpu::default(), |sum, pid| Ok(sum + cpu_of(*pid, |_| true)?))
}

/// Likewise, of the threads whose names begin so alone. Linux keeps 15 bytes of a name.
pub(crate) fn cpu_of_threads(pids: &[u32], prefix: &str) -> Result<Cpu, Failure> {
    let named = |task: &Path| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(prefix))
    };
    pids.iter().try_fold(Cpu::default(), |sum, pid| Ok(sum + cpu_of(*pid, named)?))
}

fn schedstat(text: &str) -> Option<Cpu> {
    let mut fields = text.split_whitespace().map(str::parse);
    Some(Cpu { ran: fields.next()?.ok()?, waited: fields.next()?.ok()? })
}

/// The proportional share of memory (Pss) of `pid` and of what descends from it, in bytes.
pub(crate) fn pss(pid: u32) -> Result<u64, Failure> {
    summed(pid, |pid| sized_field(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
}

/// Resident memory now, in bytes, likewise.
pub(crate) fn rss(pid: u32) -> Result<u64, Failure> {
    summed(pid, |pid| sized_field(&format!("/proc/{pid}/status"), "VmRSS:"))
}

/// The most that was resident since the start or [`forget_peak`], in bytes, likewise.
pub(crate) fn peak_rss(pid: u32) -> Result<u64, Failure> {
    summed(pid, |pid| sized_field(&format!("/proc/{pid}/status"), "VmHWM:"))
}

/// Lets [`peak_rss`] begin anew (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: u32) -> Result<(), Failure> {
    tree(pid)?
        .into_iter()
        .try_for_each(|pid| Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?))
}

/// How many threads the process has.
pub(crate) fn threads(pid: u32) -> Result<usize, Failure> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// How many descriptors it has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize, Failure> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

fn summed(pid: u32, figure: impl Fn(u32) -> Result<u64, Failure>) -> Result<u64, Failure> {
    let own = figure(pid)?;
    // One that has ended, since or before it was waited for, has no memory.
    let heirs = tree(pid)?.into_iter().filter(|heir| *heir != pid);
    Ok(own + heirs.map(|heir| figure(heir).unwrap_or(0)).sum::<u64>())
}

/// How many connections to `address` there are, on the side that began them: established, being
/// established, or closed only by the other side. IPv4 alone.
pub(crate) fn connections_to(address: SocketAddr) -> Result<usize, Failure> {
    let SocketAddr::V4(address) = address else {
        return Err(Failure::new("connections are counted for IPv4 only"));
    };
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().filter(|line| leads_to(line, address)).count())
}

/// Whether a line of `/proc/net/tcp` is an open connection to `address` (proc(5): addresses are hex, in
/// the host's byte order).
fn leads_to(line: &str, address: SocketAddrV4) -> bool {
    let host = u32::from_ne_bytes(address.ip().octets());
    let remote = format!("{host:08X}:{:04X}", address.port());
    let mut fields = line.split_whitespace().skip(2);
    fields.next() == Some(&remote) && matches!(fields.next(), Some("01" | "02" | "08"))
}

fn sized_field(file: &str, name: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(file)?;
    kilobytes(&text, name).ok_or_else(|| Failure::new(format!("no {name} in {file}")))
}

/// The value of a `Name:   123 kB` line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|count| count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_running_and_waiting_from_schedstat() {
        assert_eq!(schedstat("1200 34 5\n"), Some(Cpu { ran: 1200, waited: 34 }));
        assert_eq!(schedstat("12"), None);
    }

    #[test]
    fn reads_kilobytes_as_bytes() {
        let text = "Rss:     8 kB\nPss:      3 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(3072));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[test]
    fn finds_open_connections_in_the_kernels_table() {
        let line = "   1: 0100007F:A1B2 0200007F:1F90 01 00000000:00000000 00:00000000 00000000";
        let to = |port| SocketAddrV4::new([127, 0, 0, 2].into(), port);
        assert!(leads_to(line, to(8080)));
        assert!(!leads_to(line, to(8081)));
        assert!(!leads_to(&line.replace(" 01 ", " 06 "), to(8080)), "TIME_WAIT is not open");
    }

    #[test]
    fn follows_children_of_children_and_nobody_else() {
        let parents = [(3, 1), (4, 3), (5, 2), (6, 4)];
        assert_eq!(descent(1, &parents), [1, 3, 4, 6]);
        assert_eq!(parent("42 (a) b (c)) S 17 42 42 0"), Some(17));
    }

    #[test]
    fn sees_this_very_process() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap().ran > 0);
        assert!(pss(pid).unwrap() > 0);
        assert!(peak_rss(pid).unwrap() >= rss(pid).unwrap() / 2);
        assert!(cpu_of_all(&[pid]).unwrap().ran > 0);
        assert_eq!(cpu_of_threads(&[pid], "no such name").unwrap(), Cpu::default());
        let named = std::thread::Builder::new().name("busybody-1".to_owned());
        let ran = named.spawn(move || {
            // What a thread has used is counted when it leaves its CPU.
            std::thread::sleep(std::time::Duration::from_millis(1));
            cpu_of_threads(&[pid], "busybody-").unwrap().ran
        });
        assert!(ran.unwrap().join().unwrap() > 0);
        assert!(own_thread().unwrap().ran <= cpu(pid).unwrap().ran);
    }
}
