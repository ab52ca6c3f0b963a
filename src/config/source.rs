//! Reads the file: its bounds, and what is no file at all.
//!
//! A pipe is waited for with a bound, since it may have no writer. Standard input is `-`, and waited for as everywhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::address;
use super::error::ConfigError;

/// The largest file that is read, in bytes.
pub(crate) const MAX_FILE: u64 = 16 << 20;
/// How long a pipe may say nothing.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What errors call the file at `path`.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.to_string_lossy().into_owned() }
}

/// The text of the file at `path`, which errors call `name`.
pub(super) fn read(path: &Path, name: &str) -> Result<String, ConfigError> {
    let bytes = if path == Path::new("-") { bounded(io::stdin().lock()) } else { open(path) }
        .map_err(|error| ConfigError::in_file(name, None, unreadable(&error, name)))?;
    if bytes.len() as u64 > MAX_FILE {
        let problem = format!("is larger than {} MiB; pass a TOML file", MAX_FILE >> 20);
        return Err(ConfigError::in_file(name, None, problem));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..valid]).count();
        ConfigError::in_file(name, Some(line), "is not UTF-8 text; save the file as UTF-8")
    })
}

/// Opens without waiting for the other end of a pipe, and reads.
fn open(path: &Path) -> io::Result<Vec<u8>> {
    let nonblocking = i32::try_from(PipeFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    if is_pipe { bounded(Pipe(file)) } else { bounded(file) }
}

/// All of it, or one byte more than is read of any file.
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A pipe whose writer may be slow, or never come.
struct Pipe(File);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut ready, Some(&PATIENCE)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

fn unreadable(error: &io::Error, name: &str) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::TimedOut => {
            let seconds = PATIENCE.tv_sec;
            return format!("is a pipe that nobody wrote to for {seconds} s; pass a file");
        }
        // Somebody listed servers behind one --target, or instead of a file.
        io::ErrorKind::NotFound if address::target(name).is_ok() => {
            return format!("is not a file; write --target {name}, once for each server");
        }
        _ if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) => {
            "raise the limit of open files (ulimit -n, LimitNOFILE=)"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "let this user read it",
        io::ErrorKind::IsADirectory => "pass the TOML file itself",
        _ => "pass a readable TOML file",
    };
    format!("cannot be read: {error}; {remedy}")
}
