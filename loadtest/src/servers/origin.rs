//! What stands behind a subject.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Bench, Kind, free_address, nginx, wait_until_it_serves};
use crate::Failure;
use crate::chaos::origin::Manner;
use crate::process::{Process, command};

/// Length of an origin's response body, in bytes.
pub(crate) const BODY_BYTES: usize = 128;

/// Where origins listen: not where connections come from, so that none can take the port of an origin
/// that is down.
const ORIGINS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A server behind the subject: an nginx that answers every path with [`BODY_BYTES`] bytes, its name
/// in `X-Origin` and the request's id in `X-Request`; or a scripted origin.
///
/// An nginx runs without a master, so that its one process id is the whole server: killing it is killing
/// all of it, also when this program dies.
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where a scripted origin records what it sees.
    pub(crate) record: Option<PathBuf>,
    program: PathBuf,
    arguments: Vec<OsString>,
    pub(crate) process: Process,
}

impl Origin {
    pub(super) fn start(bench: &Bench, name: &'static str) -> Result<Origin, Failure> {
        let address = free_address(ORIGINS)?;
        let folder = bench.scratch(name)?;
        let config = bench.file(&format!("{name}.conf"), &config(&folder, address, name))?;
        let arguments = ["-e", "stderr", "-c"].into_iter().map(OsString::from);
        let arguments = arguments.chain([config.into_os_string()]).collect();
        Origin::begin(name, address, None, Kind::Nginx.find()?, arguments)
    }

    pub(super) fn scripted(
        bench: &Bench,
        name: &'static str,
        manner: Manner,
    ) -> Result<Origin, Failure> {
        let address = free_address(ORIGINS)?;
        let record = bench.file(&format!("{name}.ids"), "")?;
        let arguments = ["origin", "--name", name, "--listen", &address.to_string(), "--record"];
        let arguments = arguments.into_iter().map(OsString::from);
        let arguments = arguments.chain([record.clone().into_os_string()]);
        let arguments = arguments.chain(manner.arguments().into_iter().map(OsString::from));
        let arguments = arguments.collect();
        Origin::begin(name, address, Some(record), std::env::current_exe()?, arguments)
    }

    fn begin(
        name: &'static str,
        address: SocketAddr,
        record: Option<PathBuf>,
        program: PathBuf,
        arguments: Vec<OsString>,
    ) -> Result<Origin, Failure> {
        let process = Origin::launch(&program, &arguments, address)?;
        Ok(Origin { name, address, record, program, arguments, process })
    }

    fn launch(
        program: &Path,
        arguments: &[OsString],
        address: SocketAddr,
    ) -> Result<Process, Failure> {
        let mut process = Process::start("an origin", command(program, None).args(arguments))?;
        wait_until_it_serves(&mut process, address)?;
        Ok(process)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the address it had.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = Origin::launch(&self.program, &self.arguments, self.address)?;
        Ok(())
    }
}

fn config(folder: &Path, address: SocketAddr, name: &str) -> String {
    let body = "x".repeat(BODY_BYTES);
    nginx::config(
        folder,
        &format!(
            "  server {{\n    listen {address} backlog=4096;\n    add_header X-Origin {name};\n\
             \x20   add_header X-Request $http_x_request;\n\
             \x20   location = /healthz {{ return 200 \"ok\"; }}\n\
             \x20   location = /id {{ return 200 \"${{http_x_request}}{body}\"; }}\n\
             \x20   location / {{ return 200 \"{body}\"; }}\n  }}\n"
        ),
    )
}
