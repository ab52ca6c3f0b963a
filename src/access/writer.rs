//! The thread that writes the access log. Workers hand it whole batches through a bounded channel and get
//! empty ones back; it is woken once a batch, not once an entry.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::thread::JoinHandle;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::Batch;
use super::render::Renderer;
use crate::settings::{AccessFormat, AccessLog, AccessSink};

/// Batches that may wait for the writer, and empty ones that may wait for the workers.
const BATCHES: usize = 64;

/// A worker's way to the writer.
#[derive(Debug, Clone)]
pub struct Outlet {
    full: Sender<(SystemTime, Batch)>,
    empty: Receiver<Batch>,
}

impl Outlet {
    /// Hands `batch`, whose ticks count from `origin`, over and replaces it by an empty one. Never waits:
    /// `false` if there was no room and the entries are lost.
    pub fn hand_over(&self, origin: SystemTime, batch: &mut Batch) -> bool {
        let full = std::mem::replace(batch, self.empty.try_recv().unwrap_or_default());
        match self.full.try_send((origin, full)) {
            Ok(()) => true,
            Err(TrySendError::Full((_, mut lost)) | TrySendError::Disconnected((_, mut lost))) => {
                lost.clear();
                *batch = lost;
                false
            }
        }
    }
}

/// The running writer. It ends when all outlets are gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the sink and starts the thread; `None` if the access log is off.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be had.
    pub fn start(log: &AccessLog) -> io::Result<Option<(Writer, Outlet)>> {
        let sink: Box<dyn Write + Send> = match &log.access {
            AccessSink::Off => return Ok(None),
            AccessSink::Stdout => Box::new(io::stdout()),
            AccessSink::File(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let (full, batches) = bounded(BATCHES);
        let (back, empty) = bounded(BATCHES);
        let format = log.format;
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(sink, format, &batches, &back))?;
        Ok(Some((Writer { thread }, Outlet { full, empty })))
    }

    /// Waits until all that was handed over is written. The outlets must be gone.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            log::error!("the access log's thread panicked; lines may be missing");
        }
    }
}

fn write_all(
    mut sink: impl Write,
    format: AccessFormat,
    batches: &Receiver<(SystemTime, Batch)>,
    back: &Sender<Batch>,
) {
    let mut renderer = Renderer::new(format);
    let mut lines = Vec::new();
    let mut failing = false;
    for (origin, mut batch) in batches {
        lines.clear();
        for (facts, parts) in batch.entries() {
            let time = origin + std::time::Duration::from_micros(facts.at.0);
            renderer.line(time, facts, &parts, &mut lines);
        }
        let written = sink.write_all(&lines).and_then(|()| sink.flush());
        if let Err(error) = &written
            && !failing
        {
            log::error!("the access log cannot be written: {error}; lines are lost until it can");
        }
        failing = written.is_err();
        batch.clear();
        // Without room for it the empty batch is simply dropped.
        let _ = back.try_send(batch);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{End, Facts};
    use super::*;
    use crate::base::tick::Tick;

    #[test]
    fn every_entry_that_was_handed_over_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog { access: AccessSink::File(path.clone()), format: AccessFormat::Json };
        let (writer, outlet) = Writer::start(&log).unwrap().unwrap();
        let facts = Facts {
            at: Tick(1),
            duration: Duration::ZERO,
            client: IpAddr::from([127, 0, 0, 1]),
            upstream: None,
            status: 503,
            bytes: 0,
            end: End::Answered,
        };
        for _ in 0..10 {
            let mut batch = Batch::default();
            batch.push(facts.clone(), b"GET / HTTP/1.1\0\0\0\0");
            batch.push(facts.clone(), b"GET / HTTP/1.1\0\0\0\0");
            assert!(outlet.hand_over(UNIX_EPOCH, &mut batch));
            assert!(batch.is_empty());
        }
        drop(outlet);
        writer.finish();
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 20);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let access = AccessSink::File("/nowhere/access.log".into());
        assert!(Writer::start(&AccessLog { access, format: AccessFormat::Json }).is_err());
        assert!(Writer::start(&AccessLog::default()).unwrap().is_none());
    }
}
