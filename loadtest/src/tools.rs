//! Which programs this machine has, and the one line that installs those it lacks.

use std::env;
use std::path::{Path, PathBuf};

/// A program that is driven here, and the Debian package it comes in.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

pub(crate) const NGINX: Tool = Tool { name: "nginx", package: "nginx" };
pub(crate) const HAPROXY: Tool = Tool { name: "haproxy", package: "haproxy" };
pub(crate) const WRK: Tool = Tool { name: "wrk", package: "wrk" };
pub(crate) const STRACE: Tool = Tool { name: "strace", package: "strace" };
pub(crate) const TASKSET: Tool = Tool { name: "taskset", package: "util-linux" };
pub(crate) const SETPRIV: Tool = Tool { name: "setpriv", package: "util-linux" };

/// Where a program is, looking where `make peers` puts those of pinned versions, through PATH, and then where
/// Debian keeps servers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    peers()
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// `target/peers/bin` for this program in `target/release`.
fn peers() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("peers").join("bin"))
}

pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command that installs what is missing of `wanted`, or `None` when all of it is here.
pub(crate) fn missing(wanted: &[Tool]) -> Option<String> {
    install_line(wanted, |name| find(name).is_some())
}

fn install_line(wanted: &[Tool], is_here: impl Fn(&str) -> bool) -> Option<String> {
    let mut packages: Vec<_> =
        wanted.iter().filter(|tool| !is_here(tool.name)).map(|tool| tool.package).collect();
    packages.dedup();
    (!packages.is_empty())
        .then(|| format!("sudo apt-get install -y --no-install-recommends {}", packages.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_the_packages_that_are_missing() {
        let line = install_line(&[NGINX, WRK, TASKSET, SETPRIV], |name| name == "wrk");
        assert_eq!(
            line.unwrap(),
            "sudo apt-get install -y --no-install-recommends nginx util-linux"
        );
        assert_eq!(install_line(&[NGINX, WRK], |_| true), None);
    }
}
