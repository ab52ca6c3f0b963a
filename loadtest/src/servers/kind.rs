//! What can be measured, where its program is and what to do when it is not here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::{Failure, tools};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Evenly,
    /// As the system packages it.
    Haproxy,
    /// Debian 13's.
    #[value(name = "haproxy-3.0")]
    Haproxy3,
    /// As the system packages it.
    Nginx,
    /// Debian 13's.
    #[value(name = "nginx-1.26")]
    Nginx126,
    Envoy,
    Caddy,
    /// `loadtest/peers/pingora`
    Pingora,
    Sozu,
}

impl Kind {
    /// Evenly first, then its peers.
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Evenly,
        Kind::Haproxy,
        Kind::Haproxy3,
        Kind::Nginx,
        Kind::Nginx126,
        Kind::Envoy,
        Kind::Caddy,
        Kind::Pingora,
        Kind::Sozu,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Pingora => "pingora",
            _ => self.program(),
        }
    }

    /// The file name of its program.
    fn program(self) -> &'static str {
        match self {
            Kind::Evenly => "evenly",
            Kind::Haproxy => "haproxy",
            Kind::Haproxy3 => "haproxy-3.0",
            Kind::Nginx => "nginx",
            Kind::Nginx126 => "nginx-1.26",
            Kind::Envoy => "envoy",
            Kind::Caddy => "caddy",
            Kind::Pingora => "peer-pingora",
            Kind::Sozu => "sozu",
        }
    }

    /// Where its program is: evenly beside this one, a peer where `make peers` puts it or in PATH.
    pub(crate) fn find(self) -> Result<PathBuf, Absent> {
        let found = match self {
            Kind::Evenly => {
                let beside = std::env::current_exe().map(|exe| exe.with_file_name("evenly"));
                beside.ok().filter(|file| tools::is_program(file))
            }
            _ => tools::find(self.program()),
        };
        found.ok_or(Absent(self))
    }

    /// The version that `program` says it is; "?" when it does not say.
    pub(crate) fn version(self, program: &Path) -> String {
        let question = match self {
            Kind::Haproxy | Kind::Haproxy3 | Kind::Nginx | Kind::Nginx126 => "-v",
            Kind::Caddy => "version",
            _ => "--version",
        };
        let answer = Command::new(program).arg(question).stdin(Stdio::null()).output();
        let version = answer.ok().and_then(|answer| {
            // nginx answers on standard error.
            [answer.stdout, answer.stderr]
                .iter()
                .find_map(|text| version_in(&String::from_utf8_lossy(text)))
        });
        version.unwrap_or_else(|| "?".to_owned())
    }
}

/// A subject whose program is not here; it says how to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Absent(pub(crate) Kind);

impl Absent {
    /// What gets it.
    pub(crate) fn remedy(self) -> &'static str {
        match self.0 {
            Kind::Evenly => "cargo build --release",
            Kind::Haproxy => "make peers, or apt-get install haproxy",
            Kind::Nginx => "make peers, or apt-get install nginx",
            _ => "make peers",
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is absent: {}", self.0.name(), self.remedy())
    }
}

impl From<Absent> for Failure {
    fn from(absent: Absent) -> Failure {
        Failure::new(absent.to_string())
    }
}

/// The first word that is a version, such as `1.40.0` in `envoy  version: 9e558/1.40.0/Clean`.
fn version_in(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == '/')
        .map(|word| word.strip_prefix('v').unwrap_or(word))
        .find(|word| {
            let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            end > 0 && word[end..].starts_with('.')
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_in_what_each_program_says() {
        let cases = [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/05/20 - https://", "2.6.12-1+deb12u4"),
            ("\n/p/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("v2.11.7 h1:yj0Y4fYZGPk=\n", "2.11.7"),
            ("sozu 2.3.3\n", "2.3.3"),
        ];
        for (text, version) in cases {
            assert_eq!(version_in(text).as_deref(), Some(version), "{text}");
        }
        assert_eq!(version_in("9e5580933739 v2 .5"), None);
    }

    #[test]
    fn an_absent_peer_says_how_to_get_it() {
        assert_eq!(Absent(Kind::Sozu).to_string(), "sozu is absent: make peers");
    }

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_str(kind.name(), false), Ok(kind));
        }
        assert_eq!(Kind::value_variants().len(), Kind::ALL.len());
    }
}
