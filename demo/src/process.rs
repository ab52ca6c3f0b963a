//! What every program of the demo needs: lines that never panic, the end that a signal asks for, errors as exit codes.
//!
//! Owns no state. Does not own what a program does between its start and its end.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Prints one line to standard output. A reader that has gone is no reason to end: `println!` would panic.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The signals that ask a program to end: SIGTERM, and SIGINT (Ctrl-C).
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Takes the signals over: from here on they no longer kill. To be called before the program says that it listens.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> io::Result<EndSignals> {
        Ok(EndSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when one of them has come.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The exit code of a program that ended so: 0, or 1 with the reason on standard error.
pub fn exit_code<E: Display>(program: &str, ended: Result<(), E>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr().lock(), "{program}: {why}");
            ExitCode::FAILURE
        }
    }
}
