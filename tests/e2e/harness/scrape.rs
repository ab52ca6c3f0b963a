//! What the admin listener says, and promtool of that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Client, Evenly};

/// An admin listener, as a configuration has it.
pub(crate) const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

impl Evenly {
    /// What the admin listener says at this path, to a request with these fields.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str, fields: &str) -> String {
        let address = self.logged_after("admin listening on http://").parse().unwrap();
        let mut client = Client::to(address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"));
        client.response().text().to_owned()
    }
}

/// Metrics at one moment.
#[derive(Clone, Default)]
pub(crate) struct Scrape {
    /// Each sample with its labels, as it is written.
    pub(crate) samples: BTreeMap<String, f64>,
    /// Those whose family counts.
    pub(crate) counting: BTreeSet<String>,
}

impl Scrape {
    #[track_caller]
    pub(crate) fn of(evenly: &Evenly) -> Scrape {
        let (mut scrape, mut counts) = (Scrape::default(), false);
        for line in evenly.admin("/metrics", "").lines() {
            if line.starts_with('#') {
                counts = ["counter", "histogram", "summary"].iter().any(|it| line.ends_with(it));
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                scrape.samples.insert(sample.to_owned(), value.parse().unwrap());
                if counts {
                    scrape.counting.insert(sample.to_owned());
                }
            }
        }
        scrape
    }

    /// 0 for a sample that is not there.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_default()
    }
}

/// What promtool with these arguments says of `text`, and whether it is content; `None` if there is no promtool here.
pub(crate) fn promtool(arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no promtool (Debian's package prometheus has it)");
        return None;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
