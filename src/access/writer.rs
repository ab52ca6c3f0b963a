//! The thread that writes the access log. Workers hand it whole batches through a channel and get empty ones back; it is
//! woken once a batch, not once an entry.
//!
//! Invariants: only this thread blocks on the log, and [`Writer::finish`] for a bounded time; at most [`WAITING_BYTES`] of
//! batches wait; an entry is one whole line, or lost and counted; entries go to the file at the configured path, also, after a
//! moment, when it was renamed or removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use nix::libc;

use super::Batch;
use super::dates::Dates;
use super::render::Renderer;
use crate::base::lines::{self, WriteEnd, WriteResult};
use crate::metrics::Counters;
use crate::settings::{AccessLog, AccessSink};

/// Memory of the batches that may wait for the writer, in bytes. One that finds no room is lost.
pub const WAITING_BYTES: usize = 8 * 1024 * 1024;
/// Empty batches that may wait for the workers.
const EMPTY: usize = 16;
/// Bytes of lines that are written with one call, as far as the file takes them.
const LINES: usize = 64 * 1024;
/// How long the reader of the log may read nothing before that is logged.
const SILENCE: Duration = Duration::from_secs(1);
/// How often, while entries are written, the path is compared with the open file. A file that is missing for as long is created
/// again; before that, the process that renamed it may be about to create the next one.
const LOOK: Duration = Duration::from_secs(2);
/// At the end of the process: how long the writer may write nothing before it is given up.
const STALL: Duration = Duration::from_secs(1);
/// At the end of the process: how long it may write at most.
const LONGEST_END: Duration = Duration::from_secs(5);

/// What the writer is to do.
#[derive(Debug)]
enum WriterJob {
    Write(Box<Dates>, Batch),
    /// To send a descriptor of what is open, for another process.
    Lend(Sender<io::Result<OwnedFd>>),
    /// To look at [`Orders`].
    Look,
}

/// What others ask of the writer, also while it waits for a reader.
#[derive(Debug, Default)]
struct Orders {
    /// Reopen the file.
    reopen: AtomicBool,
    /// Give up on the reader.
    give_up: AtomicBool,
    /// Grows with everything that is written.
    progress: AtomicU64,
}

/// A worker's way to the writer.
#[derive(Debug, Clone)]
pub struct Outlet {
    jobs: Sender<WriterJob>,
    empty: Receiver<Batch>,
    /// Memory of the batches that wait.
    waiting: Arc<AtomicUsize>,
    /// Entries that found no room and have not been reported yet.
    refused: Arc<AtomicU64>,
}

impl Outlet {
    /// Hands `batch`, whose ticks have these `dates`, over and replaces it by an empty one. Never waits:
    /// `false` if there was no room and the entries are lost.
    pub fn hand_over(&self, dates: &Dates, batch: &mut Batch) -> bool {
        let memory = batch.memory();
        if self.waiting.fetch_add(memory, Ordering::Relaxed) + memory > WAITING_BYTES {
            self.waiting.fetch_sub(memory, Ordering::Relaxed);
            self.refused.fetch_add(batch.len() as u64, Ordering::Relaxed);
            batch.clear();
            return false;
        }
        let full = std::mem::replace(batch, self.empty.try_recv().unwrap_or_default());
        self.jobs.send(WriterJob::Write(Box::new(*dates), full)).is_ok()
    }
}

/// The running writer. It ends when all outlets are gone.
#[derive(Debug)]
pub struct Writer {
    orders: Arc<Orders>,
    jobs: Sender<WriterJob>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
    /// What was lost where it was written: the `entries_lost` of these.
    pub counters: Arc<Counters>,
}

impl Writer {
    /// Opens the sink and starts the thread; `None` if the access log is off.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be started.
    pub fn start(log: &AccessLog) -> io::Result<Option<(Writer, Outlet)>> {
        Writer::start_counting(log, Arc::default())
    }

    /// Like [`Writer::start`]; what is lost adds to `counters`, which an earlier one may have used.
    ///
    /// # Errors
    /// As [`Writer::start`].
    pub fn start_counting(
        log: &AccessLog,
        counters: Arc<Counters>,
    ) -> io::Result<Option<(Writer, Outlet)>> {
        Writer::start_with(log, counters, None)
    }

    /// Like [`Writer::start_counting`]; where the file cannot be opened `open` is written to, which another process has opened by the
    /// same path.
    ///
    /// # Errors
    /// As [`Writer::start`].
    pub fn start_with(
        log: &AccessLog,
        counters: Arc<Counters>,
        open: Option<OwnedFd>,
    ) -> io::Result<Option<(Writer, Outlet)>> {
        let sink = match &log.access {
            AccessSink::Off => return Ok(None),
            AccessSink::Stdout => Sink::stdout()?,
            AccessSink::File(path) => match (Sink::open(path), open) {
                (Err(error), Some(open)) => {
                    log::warn!(
                        "the access log ({}) cannot be opened: {error}; the file that was open goes on",
                        path.display()
                    );
                    Sink::new(open.into(), Some(path.clone()))
                }
                (sink, _) => sink?,
            },
        };
        let (jobs, inbox) = unbounded();
        let (back, empty) = bounded(EMPTY);
        let (alive, ended) = bounded::<()>(0);
        let (orders, waiting) = (Arc::<Orders>::default(), Arc::<AtomicUsize>::default());
        let refused = Arc::<AtomicU64>::default();
        let thread = Thread {
            renderer: Renderer::new(&log.format),
            sink,
            lines: Vec::new(),
            orders: Arc::clone(&orders),
            waiting: Arc::clone(&waiting),
            counters: Arc::clone(&counters),
            refused: Arc::clone(&refused),
            missed: 0,
            failing: false,
            astray: false,
        };
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            thread.run(&inbox, &back);
            drop(alive);
        })?;
        let outlet = Outlet { jobs: jobs.clone(), empty, waiting, refused };
        Ok(Some((Writer { orders, jobs, ended, counters }, outlet)))
    }

    /// Reopens the file, as after it was renamed. If that fails the old one stays in use.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        // Without a thread there is nothing to reopen.
        let _ = self.jobs.send(WriterJob::Look);
    }

    /// A way to ask for a descriptor of what is open. The writer does not end before it is dropped.
    pub fn lender(&self) -> Lender {
        Lender(self.jobs.clone())
    }

    /// Waits until all batches are written, but gives up on a reader that reads nothing: after `STALL`, or as soon as `hurry`, which
    /// is polled, returns `true`. The outlets must be gone.
    pub fn finish(self, mut hurry: impl FnMut() -> bool) {
        let Writer { orders, jobs, ended, .. } = self;
        drop(jobs);
        let (begun, mut seen, mut since) = (Instant::now(), 0, Instant::now());
        let stalls = || {
            let progress = orders.progress.load(Ordering::Acquire);
            if std::mem::replace(&mut seen, progress) != progress {
                since = Instant::now();
            }
            since.elapsed() > STALL || begun.elapsed() > LONGEST_END || hurry()
        };
        if ends(&ended, stalls) {
            return;
        }
        orders.give_up.store(true, Ordering::Release);
        let given_up = Instant::now();
        if !ends(&ended, || given_up.elapsed() > STALL) {
            log::warn!("the access log is abandoned: what it is written to accepts nothing");
        }
    }
}

/// Asks the writer for a descriptor.
#[derive(Debug)]
pub struct Lender(Sender<WriterJob>);

impl Lender {
    /// A descriptor of what is open, if the writer does not wait for a reader.
    ///
    /// # Errors
    /// The writer does wait, or no descriptor is left.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        let (sender, lent) = bounded(1);
        let asked = self.0.send(WriterJob::Lend(sender)).is_ok();
        let lent = lent.recv_timeout(if asked { STALL } else { Duration::ZERO });
        lent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Waits for the end of the thread, or until `stop` returns `true`. Returns whether the thread has ended.
fn ends(ended: &Receiver<()>, mut stop: impl FnMut() -> bool) -> bool {
    while ended.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
        if stop() {
            return false;
        }
    }
    true
}

/// The thread's own.
struct Thread {
    renderer: Renderer,
    sink: Sink,
    /// Lines under way.
    lines: Vec<u8>,
    orders: Arc<Orders>,
    waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    /// Entries that the workers could not hand over, and lines that could not be written, since that was last logged.
    refused: Arc<AtomicU64>,
    missed: u64,
    /// The reader does not read, and that has been logged.
    failing: bool,
    /// The path leads to another file that cannot be opened, and that has been logged.
    astray: bool,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<WriterJob>, back: &Sender<Batch>) {
        for job in inbox {
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            match job {
                WriterJob::Write(dates, mut batch) => {
                    self.write(&dates, &batch);
                    self.waiting.fetch_sub(batch.memory(), Ordering::Relaxed);
                    batch.clear();
                    // Without room for it the empty batch is simply dropped.
                    let _ = back.try_send(batch);
                }
                WriterJob::Lend(borrower) => {
                    // Whoever asked may have stopped waiting.
                    let _ = borrower.send(self.sink.file.as_fd().try_clone_to_owned());
                }
                WriterJob::Look => {}
            }
        }
        if let lost @ 1.. = self.take_lost() {
            log::warn!("the access log ({}) ends; entries lost: {lost}", self.sink.name());
        }
    }

    fn write(&mut self, dates: &Dates, batch: &Batch) {
        for (facts, parts) in batch.entries() {
            self.renderer.line(dates.of(facts.at), facts, &parts, &mut self.lines);
            if self.lines.len() >= LINES {
                self.flush();
            }
        }
        self.flush();
    }

    /// Writes the lines that are under way, or counts them as lost.
    fn flush(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        let mut from = 0;
        while from < lines.len() {
            if self.sink.has_moved() {
                self.follow("was renamed or replaced");
            }
            let written = self.put(&lines[from..]);
            self.orders.progress.fetch_add(written.bytes as u64, Ordering::AcqRel);
            let whole = &lines[from..from + written.bytes];
            if self.sink.is_removed() {
                // What was written there is gone with it, and is written again.
                if !self.follow("was removed") {
                    from += self.lose(&lines[from..]);
                }
                continue;
            }
            self.counters.entries_written.add(memchr::memchr_iter(b'\n', whole).count() as u64);
            from += written.bytes;
            match written.end {
                WriteEnd::All => self.is_taken(),
                WriteEnd::Failed(error) => self.is_not_taken(&error),
                WriteEnd::GivenUp if self.orders.reopen.swap(false, Ordering::AcqRel) => {
                    from += self.lose(tail(&lines, from));
                    self.reopen();
                    continue;
                }
                WriteEnd::GivenUp if !self.orders.give_up.load(Ordering::Acquire) => {
                    from += self.lose(tail(&lines, from));
                    self.follow("was renamed or replaced");
                    continue;
                }
                WriteEnd::GivenUp => {}
            }
            from += self.lose(&lines[from..]);
        }
        lines.clear();
        if lines.capacity() <= 4 * LINES {
            self.lines = lines;
        }
    }

    /// Writes as much as is taken. It ends early where there is something else to do first.
    fn put(&mut self, lines: &[u8]) -> WriteResult {
        let Thread { sink, orders, failing, .. } = self;
        let (begun, name) = (Instant::now(), sink.name());
        let mut watch = sink.watch.take();
        let written = sink.put(lines, || {
            if !*failing && begun.elapsed() > SILENCE {
                *failing = true;
                log::warn!(
                    "the access log ({name}) accepts no more; entries beyond the buffer are lost"
                );
            }
            !orders.give_up.load(Ordering::Acquire)
                && !orders.reopen.load(Ordering::Acquire)
                && !watch.as_mut().is_some_and(Watch::has_moved)
        });
        sink.watch = watch;
        written
    }

    fn is_taken(&mut self) {
        if std::mem::take(&mut self.failing) {
            let (name, lost) = (self.sink.name(), self.take_lost());
            log::info!("the access log ({name}) accepts entries again; lost: {lost}");
        }
    }

    fn is_not_taken(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let name = self.sink.name();
            log::error!(
                "the access log ({name}) cannot be written: {error}; entries are lost until it can"
            );
        }
    }

    /// Counts what is in `lines` as lost, a part of a line as one. Returns how long that is.
    fn lose(&mut self, lines: &[u8]) -> usize {
        let count = lines::unwritten(lines, 0);
        self.counters.entries_lost.add(count);
        self.missed += count;
        lines.len()
    }

    /// How many entries were lost since this was last asked.
    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.missed) + self.refused.swap(0, Ordering::Relaxed)
    }

    /// The path leads to another file, or to none: opens or creates it. Returns whether it could; that it could not is logged once.
    fn follow(&mut self, what: &str) -> bool {
        let (Some(path), name) = (self.sink.path.clone(), self.sink.name()) else { return false };
        match Sink::open(&path) {
            Ok(sink) => {
                self.sink = sink;
                (self.failing, self.astray) = (false, false);
                let lost = self.take_lost();
                log::warn!("the access log ({name}) {what} and was reopened; entries lost: {lost}");
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.astray, true) {
                    log::error!(
                        "the access log ({name}) {what}, and cannot be reopened: {}",
                        why(&path, &error)
                    );
                }
                false
            }
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.sink.path else {
            log::info!("the access log goes to standard output, which is not reopened");
            return;
        };
        match Sink::open(path) {
            Ok(sink) => {
                self.sink = sink;
                self.astray = false;
                log::info!("the access log ({}) was reopened", self.sink.name());
            }
            Err(error) => log::error!(
                "the access log ({}) cannot be reopened: {}; the file that was open goes on",
                self.sink.name(),
                why(path, &error)
            ),
        }
    }
}

/// What is left of the line in whose middle `lines` are cut.
fn tail(lines: &[u8], at: usize) -> &[u8] {
    let rest = lines.get(at..).unwrap_or_default();
    match at.checked_sub(1).and_then(|before| lines.get(before)) {
        None | Some(b'\n') => &[],
        Some(_) => &rest[..memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1)],
    }
}

/// Why a log cannot be opened again, and the remedy where it is a matter of rights.
fn why(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}; evenly's user may not write in {folder}: give it that folder, or have what rotates the log make the file \
             for it (create, in logrotate)"
        ),
        _ => error.to_string(),
    }
}

/// Where lines go.
#[derive(Debug)]
struct Sink {
    file: File,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// It is a file on a disk, which never makes anybody wait for a reader.
    is_file: bool,
    /// It is one that had a name when it was opened.
    has_name: bool,
    /// `None` for standard output, and while it is being written to.
    watch: Option<Watch>,
    /// A part of a line is the last that it has.
    torn: bool,
}

impl Sink {
    fn new(file: File, path: Option<PathBuf>) -> Sink {
        let found = file.metadata().ok();
        let is_file = found.as_ref().is_some_and(fs::Metadata::is_file);
        // There are file systems that count no names.
        let has_name = is_file && path.is_some() && found.as_ref().is_some_and(|it| it.nlink() > 0);
        let watch = path.clone().zip(found).map(|(path, found)| Watch::new(path, &found));
        Sink { file, path, is_file, has_name, watch, torn: false }
    }

    /// Whether the path leads to something else than what is open, as far as it was looked.
    fn has_moved(&mut self) -> bool {
        self.watch.as_mut().is_some_and(Watch::has_moved)
    }

    /// Whether the open file has no name left, so that it will never be read.
    fn is_removed(&self) -> bool {
        self.has_name && self.file.metadata().is_ok_and(|it| it.nlink() == 0)
    }

    fn stdout() -> io::Result<Sink> {
        Ok(Sink::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), None))
    }

    /// Opens a file for appending, and creates it if there is none.
    fn open(path: &Path) -> io::Result<Sink> {
        // open(2) of a FIFO for writing blocks until there is a reader, or fails with ENXIO if it may not block; opened for both it
        // does neither, and readers may come and go.
        let is_fifo = fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo());
        let mut options = OpenOptions::new();
        options.append(true).create(!is_fifo).read(is_fifo);
        // The open file description is this process's own, so that no other process gets EAGAIN for it.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        Ok(Sink::new(options.open(path)?, Some(path.to_owned())))
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or("standard output".into(), |path| path.display().to_string())
    }

    /// Writes `lines` as far as they are taken. A line of which a part was written is taken back where that can be.
    fn put(&mut self, lines: &[u8], mut goes_on: impl FnMut() -> bool) -> WriteResult {
        if self.torn {
            // What follows a part of a line must not look as if it were the rest of it.
            let ended = self.append(b"\n", &mut goes_on);
            if !matches!(ended.end, WriteEnd::All) {
                return ended_with(0, ended.end);
            }
            self.torn = false;
        }
        let length = self.length();
        let written = self.append(lines, goes_on);
        let part =
            written.bytes - memchr::memrchr(b'\n', &lines[..written.bytes]).map_or(0, |at| at + 1);
        if part == 0 {
            return written;
        }
        if self.take_back(length, written.bytes, part) {
            return ended_with(written.bytes - part, written.end);
        }
        self.torn = true;
        written
    }

    fn append(&mut self, lines: &[u8], goes_on: impl FnMut() -> bool) -> WriteResult {
        if !self.is_file {
            return lines::write(&self.file, lines, goes_on);
        }
        let mut bytes = 0;
        while bytes < lines.len() {
            match self.file.write(&lines[bytes..]) {
                Ok(0) => {
                    return ended_with(bytes, WriteEnd::Failed(io::ErrorKind::WriteZero.into()));
                }
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return ended_with(bytes, WriteEnd::Failed(error)),
            }
        }
        ended_with(bytes, WriteEnd::All)
    }

    /// How long the file is, if it is one of our own.
    fn length(&self) -> Option<u64> {
        let own = self.is_file && self.path.is_some();
        own.then(|| self.file.metadata().ok()).flatten().map(|it| it.len())
    }

    /// Cuts off a part of a line at the end of the file, which was `length` long before `written` bytes of which those are
    /// the last. `false` if that cannot be, because somebody else writes to it.
    fn take_back(&self, length: Option<u64>, written: usize, part: usize) -> bool {
        let Some(length) = length else { return false };
        let end = length + written as u64;
        self.length() == Some(end) && self.file.set_len(end - part as u64).is_ok()
    }
}

/// What the path of a sink leads to.
#[derive(Debug)]
struct Watch {
    path: PathBuf,
    /// Device and inode of the open file.
    opened: (u64, u64),
    is_file: bool,
    next_look: Instant,
    /// There was nothing at the last look.
    missing: bool,
}

impl Watch {
    fn new(path: PathBuf, found: &fs::Metadata) -> Watch {
        Watch {
            path,
            opened: (found.dev(), found.ino()),
            is_file: found.is_file(),
            next_look: Instant::now() + LOOK,
            missing: false,
        }
    }

    /// Looks at the path if it is time to. Whether it leads to something else, or, if it is to be a file, to nothing for the
    /// second time.
    fn has_moved(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK;
        match fs::metadata(&self.path) {
            Ok(found) => {
                self.missing = false;
                (found.dev(), found.ino()) != self.opened
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_file => {
                std::mem::replace(&mut self.missing, true)
            }
            Err(_) => false,
        }
    }
}

fn ended_with(bytes: usize, end: WriteEnd) -> WriteResult {
    WriteResult { bytes, end }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::IpAddr;
    use std::time::{SystemTime, UNIX_EPOCH};

    use rustix::pipe::{fcntl_setpipe_size, pipe};

    use super::super::{End, Facts, LogPhase};
    use super::*;
    use crate::base::tick::Tick;
    use crate::settings::AccessFormat;

    fn facts() -> Facts {
        Facts {
            at: Tick(1),
            duration: 0,
            connect: None,
            first_byte: None,
            listener: None,
            client: IpAddr::from([127, 0, 0, 1]),
            endpoint: None,
            attempts: 0,
            status: 503,
            bytes_in: 0,
            bytes_out: 0,
            end: End::Answered,
            phase: LogPhase::Request,
            cause: None,
        }
    }

    fn batch(entries: usize, text: &[u8]) -> Batch {
        let mut batch = Batch::default();
        assert!((0..entries).all(|_| batch.push(facts(), [b""; 2], text)));
        batch
    }

    fn log_to(path: &Path) -> AccessLog {
        AccessLog { access: AccessSink::File(path.to_owned()), format: AccessFormat::Json }
    }

    fn dates() -> Dates {
        Dates::new(Tick(0), UNIX_EPOCH)
    }

    /// A writer whose thread has not been started, and its inbox.
    fn thread(sink: Sink) -> Thread {
        Thread {
            renderer: Renderer::new(&AccessFormat::Json),
            sink,
            lines: Vec::new(),
            orders: Arc::default(),
            waiting: Arc::default(),
            counters: Arc::default(),
            refused: Arc::default(),
            missed: 0,
            failing: false,
            astray: false,
        }
    }

    const TEXT: &[u8] = b"GET\0/\0HTTP/1.1\0\0\0\0\0\0";

    #[test]
    fn every_entry_that_was_handed_over_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (writer, outlet) = Writer::start(&log_to(&path)).unwrap().unwrap();
        for _ in 0..10 {
            let mut batch = batch(2, TEXT);
            assert!(outlet.hand_over(&dates(), &mut batch));
            assert!(batch.is_empty());
        }
        let counters = Arc::clone(&writer.counters);
        drop(outlet);
        writer.finish(|| false);
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 20);
        assert_eq!(counters.entries_lost.get(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        for path in ["/nowhere/access.log", "/"] {
            assert!(Writer::start(&log_to(Path::new(path))).is_err());
        }
        assert!(Writer::start(&AccessLog::default()).unwrap().is_none());
    }

    #[test]
    fn entries_that_a_full_disk_does_not_take_are_counted() {
        let (writer, outlet) = Writer::start(&log_to(Path::new("/dev/full"))).unwrap().unwrap();
        let counters = Arc::clone(&writer.counters);
        for entries in [3, 500] {
            assert!(outlet.hand_over(&dates(), &mut batch(entries, TEXT)));
        }
        drop(outlet);
        writer.finish(|| false);
        assert_eq!(counters.entries_lost.get(), 503);
    }

    #[test]
    fn what_waits_for_a_reader_that_has_stopped_is_bounded_in_bytes() {
        let (reader, pipe) = pipe().unwrap();
        let thread = thread(Sink::new(pipe.into(), None));
        let (orders, waiting) = (Arc::clone(&thread.orders), Arc::clone(&thread.waiting));
        let (jobs, inbox) = unbounded();
        let (back, empty) = bounded(EMPTY);
        let refused = Arc::clone(&thread.refused);
        let outlet = Outlet { jobs, empty, waiting: Arc::clone(&waiting), refused };
        for size in [20, 300, 16_000] {
            let mut lost = 0;
            for _ in 0..WAITING_BYTES / 20_000 {
                let mut batch = batch(1, &vec![b'x'; size]);
                while !batch.is_full() {
                    assert!(batch.push(facts(), [b""; 2], &vec![b'x'; size]));
                }
                lost += u64::from(!outlet.hand_over(&dates(), &mut batch));
                assert!(batch.is_empty());
            }
            assert!(lost > 0, "{size}");
            assert!(waiting.load(Ordering::Relaxed) <= WAITING_BYTES);
        }
        // It is given up: nothing is waited for, and all that waited is counted.
        orders.give_up.store(true, Ordering::Release);
        drop(outlet);
        let counters = Arc::clone(&thread.counters);
        thread.run(&inbox, &back);
        assert!(counters.entries_lost.get() > 1_000);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        drop(reader);
    }

    #[test]
    fn a_writer_whose_reader_has_stopped_ends_in_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        make_fifo(&path);
        // Nobody has opened it to read, and that delays nobody.
        let (writer, outlet) = Writer::start(&log_to(&path)).unwrap().unwrap();
        let counters = Arc::clone(&writer.counters);
        let reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        for _ in 0..4 {
            assert!(outlet.hand_over(&dates(), &mut batch(500, TEXT)));
        }
        drop(outlet);
        let started = Instant::now();
        let mut asked = 0;
        writer.finish(|| {
            asked += 1;
            asked > 3
        });
        assert!(started.elapsed() < LONGEST_END, "{:?}", started.elapsed());
        let mut text = vec![0; 1 << 20];
        let count = (&reader).read(&mut text).unwrap();
        let lines = text[..count].iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(text[count - 1], b'\n', "each line is whole");
        assert!(lines > 0);
        assert_eq!(lines + counters.entries_lost.get(), 2_000);
    }

    fn make_fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn a_file_that_was_renamed_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (writer, outlet) = Writer::start(&log_to(&path)).unwrap().unwrap();
        assert!(outlet.hand_over(&dates(), &mut batch(1, TEXT)));
        let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
        let until = |path: &Path, count| {
            let started = Instant::now();
            while lines(path) != count {
                assert!(started.elapsed() < Duration::from_secs(20), "{count} in {path:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        until(&path, 1);
        fs::rename(&path, &old).unwrap();
        writer.reopen();
        assert!(outlet.hand_over(&dates(), &mut batch(2, TEXT)));
        until(&path, 2);
        assert_eq!(lines(&old), 1);
        // Where it cannot be opened, the old one goes on.
        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        writer.reopen();
        assert!(outlet.hand_over(&dates(), &mut batch(3, TEXT)));
        until(&old, 5);
        drop(outlet);
        writer.finish(|| false);
    }

    #[test]
    fn a_file_that_was_removed_is_made_anew_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut thread = thread(Sink::open(&path).unwrap());
        let lines = || fs::read_to_string(&path).unwrap_or_default().lines().count();
        thread.write(&dates(), &batch(3, TEXT));
        for count in 1..=3 {
            fs::remove_file(&path).unwrap();
            thread.write(&dates(), &batch(count, TEXT));
            assert_eq!(lines(), count, "all that was written after it was removed");
        }
        assert_eq!(thread.counters.entries_lost.get(), 0);
        // With its folder it cannot be made: that is counted, until it can.
        fs::remove_dir_all(folder.path()).unwrap();
        thread.write(&dates(), &batch(4, TEXT));
        thread.write(&dates(), &batch(5, TEXT));
        assert_eq!((thread.counters.entries_lost.get(), thread.missed), (9, 9));
        fs::create_dir(folder.path()).unwrap();
        thread.write(&dates(), &batch(6, TEXT));
        assert_eq!((lines(), thread.counters.entries_lost.get(), thread.missed), (6, 9, 0));
    }

    #[test]
    fn what_a_path_leads_to_is_looked_at_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut sink = Sink::open(&path).unwrap();
        let look = |sink: &mut Sink| {
            sink.watch.as_mut().unwrap().next_look = Instant::now();
            let moved = sink.has_moved();
            assert!(!sink.has_moved(), "not before its time");
            moved
        };
        assert!(!look(&mut sink));
        fs::rename(&path, &old).unwrap();
        assert!(!sink.is_removed(), "somebody may read it");
        assert!(!look(&mut sink), "who renamed it may be about to make the next one");
        assert!(look(&mut sink));
        fs::rename(&old, &path).unwrap();
        assert!(!look(&mut sink), "it is back");
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "").unwrap();
        assert!(look(&mut sink), "here is the next one");
        for same in ["/dev/full", "/dev/null"] {
            let mut sink = Sink::open(Path::new(same)).unwrap();
            assert!(!look(&mut sink) && !sink.is_removed());
        }
    }

    #[test]
    fn a_line_of_which_a_part_was_written_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let sink = Sink::open(&path).unwrap();
        // As if a disk had been full in the middle of the second line.
        fs::write(&path, "first\nsec").unwrap();
        assert!(!sink.take_back(Some(1), 9, 3), "somebody else has written to it");
        assert!(!sink.take_back(None, 9, 3));
        assert!(sink.take_back(Some(0), 9, 3));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }

    #[test]
    fn what_follows_a_part_of_a_line_begins_a_line() {
        let (reader, pipe) = pipe().unwrap();
        let mut sink = Sink::new(pipe.into(), None);
        sink.torn = true;
        assert!(matches!(
            sink.put(b"a line\n", || true),
            WriteResult { bytes: 7, end: WriteEnd::All }
        ));
        drop(sink);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "\na line\n");
    }

    #[test]
    fn a_file_opened_anew_while_nobody_reads_gets_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (reader, pipe) = pipe().unwrap();
        fcntl_setpipe_size(&pipe, lines::WHOLE).unwrap();
        let mut thread = thread(Sink::new(pipe.into(), Some(path.clone())));
        thread.orders.reopen.store(true, Ordering::Release);
        let batch = batch(100, TEXT);
        thread.write(&Dates::new(Tick(0), SystemTime::now()), &batch);
        drop(thread.sink);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text += &fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert_eq!(thread.counters.entries_lost.get(), 0);
    }
}
