//! What the kernel says of this process, by the names that every exporter of Prometheus has for it.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::exposition::{MetricKind, Text};

/// How many ticks a second has in `/proc`: `USER_HZ`, which is this on every machine that Linux runs on today.
const TICKS: f64 = 100.0;

/// What the kernel says; what it does not say is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ProcessView {
    /// Of all its threads, in seconds.
    cpu: Option<f64>,
    /// Since 1970, in seconds.
    started: Option<f64>,
    /// In bytes.
    virtual_memory: Option<u64>,
    resident_memory: Option<u64>,
    descriptors: Option<u64>,
    descriptors_limit: Option<u64>,
}

impl ProcessView {
    /// Asks it.
    pub(super) fn read() -> ProcessView {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let view = ProcessView::of(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/stat"),
        );
        ProcessView {
            descriptors: descriptors(Path::new("/proc/self/fd")),
            descriptors_limit: getrlimit(Resource::Nofile).current,
            ..view
        }
    }

    /// Of these three files (proc(5)).
    fn of(stat: &str, status: &str, machine: &str) -> ProcessView {
        // The name of the program is in parentheses and may have any bytes; field 3 follows it.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
        let ticks = |number: usize| fields.get(number - 3)?.trim().parse::<f64>().ok();
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let booted = machine.lines().find_map(|line| line.strip_prefix("btime "));
        let booted = booted.and_then(|seconds| seconds.trim().parse::<f64>().ok());
        ProcessView {
            cpu: ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) / TICKS),
            started: booted.zip(ticks(22)).map(|(booted, after)| booted + after / TICKS),
            virtual_memory: memory("VmSize:"),
            resident_memory: memory("VmRSS:"),
            descriptors: None,
            descriptors_limit: None,
        }
    }

    /// Writes its families.
    pub(super) fn render(&self, text: &mut Text) {
        if let Some(seconds) = self.cpu {
            let help = "CPU time of all threads.";
            text.single("process_cpu_seconds_total", MetricKind::Counter, help, seconds);
        }
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                text.single(name, MetricKind::Gauge, help, value);
            }
        };
        gauge("process_virtual_memory_bytes", "Address space in use.", self.virtual_memory);
        gauge("process_resident_memory_bytes", "Memory in use.", self.resident_memory);
        gauge("process_open_fds", "Open descriptors.", self.descriptors);
        gauge("process_max_fds", "Descriptors that may be open.", self.descriptors_limit);
        if let Some(seconds) = self.started {
            let help = "When the process started, since 1970.";
            text.single("process_start_time_seconds", MetricKind::Gauge, help, seconds);
        }
    }
}

/// How many descriptors are open. A newer kernel (6.2) says it without their being counted one by one.
fn descriptors(folder: &Path) -> Option<u64> {
    let size = std::fs::metadata(folder).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The one by which the folder is read is not counted.
    Some((std::fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1))
}

/// A moment for tests.
#[cfg(test)]
pub(super) const SAMPLE: ProcessView = ProcessView {
    cpu: Some(1.5),
    started: Some(1_700_000_000.25),
    virtual_memory: Some(1 << 30),
    resident_memory: Some(1 << 23),
    descriptors: Some(20),
    descriptors_limit: Some(1024),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 99 9 9";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        let view = ProcessView::of(stat, status, "cpu 1 2\nbtime 1700000000\n");
        let expected = ProcessView {
            cpu: Some(3.0),
            started: Some(1_700_000_123.45),
            virtual_memory: Some(2 << 20),
            resident_memory: Some(512 << 10),
            ..ProcessView::default()
        };
        assert_eq!(view, expected);
        assert_eq!(ProcessView::of("", "", ""), ProcessView::default());
    }

    #[test]
    fn this_process_has_all_of_it() {
        let view = ProcessView::read();
        assert!(view.cpu.is_some() && view.started.is_some_and(|at| at > 1.6e9), "{view:?}");
        assert!(view.resident_memory > Some(1 << 16), "{view:?}");
        assert!(view.descriptors >= Some(3) && view.descriptors_limit > view.descriptors);
    }
}
