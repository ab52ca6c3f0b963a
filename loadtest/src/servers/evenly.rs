//! evenly itself: one worker, its defaults but for the pool.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use super::{Absent, Bench, IDLE, Kind, START, Subject};
use crate::Failure;
use crate::process::{Process, command};

impl Bench {
    /// The access log of [`Bench::evenly_with`], in its folder.
    pub(crate) const ACCESS: &str = "access.log";

    /// Starts evenly with two workers and a configuration of its own, under at most `descriptors`, with an access log and an
    /// admin listener.
    pub(crate) fn evenly_with(
        &self,
        config: &str,
        descriptors: Option<u64>,
    ) -> Result<Subject, Failure> {
        let access = self.file(Bench::ACCESS, "")?;
        let more = "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n";
        let config = format!("{config}{more}access = \"{}\"\n", access.display());
        let config = self.file("evenly.toml", &config)?;
        let mut command = match descriptors {
            Some(most) => {
                let mut command = command("prlimit", self.cores.subject);
                command.arg(format!("--nofile={most}:{most}")).arg("--").arg(&self.evenly);
                command
            }
            None => self.command(&self.evenly),
        };
        command.arg("run").arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--workers", "2"]);
        launch(self, &mut command)
    }
}

/// Starts evenly before `targets`.
pub(super) fn start(bench: &Bench, targets: &[SocketAddr]) -> Result<Subject, Failure> {
    let config = bench.file("evenly.toml", &config(targets, bench.interval))?;
    let mut command = bench.command(&bench.evenly);
    command.arg("run").arg("--config").arg(config);
    command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
    launch(bench, &mut command)
}

fn launch(bench: &Bench, command: &mut Command) -> Result<Subject, Failure> {
    if !bench.evenly.is_file() {
        return Err(Absent(Kind::Evenly).into());
    }
    let began = Instant::now();
    let mut process = Process::start("evenly", command)?;
    let Some((_, address)) = process.line(began, START, listening) else {
        return Err(process.complaint("did not say where it listens"));
    };
    Ok(Subject { kind: Kind::Evenly, address, process })
}

/// The address in `listening on http://127.0.0.1:38211`.
pub(crate) fn listening(line: &str) -> Option<SocketAddr> {
    let (before, rest) = line.split_once("listening on http://")?;
    // The metrics have a listener of their own.
    if before.ends_with("admin ") {
        return None;
    }
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '/'));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

fn config(targets: &[SocketAddr], interval: Option<f64>) -> String {
    let mut text = String::new();
    for target in targets {
        text += &format!(
            "[[targets]]\naddress = \"{target}\"\nhealth_check_endpoint = \"/healthz\"\n\n"
        );
    }
    let _ = write!(text, "[limits]\nidle_per_target = {IDLE}\n");
    if let Some(seconds) = interval {
        let _ = write!(text, "\n[health]\ninterval = \"{:.0}ms\"\n", seconds * 1000.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_the_line_that_names_it() {
        let wanted = Some(SocketAddr::from(([127, 0, 0, 1], 38211)));
        assert_eq!(listening("[INFO] listening on http://127.0.0.1:38211"), wanted);
        assert_eq!(listening("{\"m\":\"listening on http://127.0.0.1:38211\"}"), wanted);
        assert_eq!(listening("listening on http://127.0.0.1:38211 (1 worker)"), wanted);
        assert_eq!(listening("admin listening on http://127.0.0.1:38211"), None);
        assert_eq!(listening("listening on nothing"), None);
        assert_eq!(listening("healthy endpoints: 2"), None);
    }

    #[test]
    fn writes_the_smallest_configuration() {
        let targets = [SocketAddr::from(([127, 0, 0, 1], 1))];
        assert_eq!(
            config(&targets, Some(0.5)),
            "[[targets]]\naddress = \"127.0.0.1:1\"\nhealth_check_endpoint = \"/healthz\"\n\n\
             [limits]\nidle_per_target = 4096\n\n[health]\ninterval = \"500ms\"\n"
        );
    }
}
