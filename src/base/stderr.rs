//! A bounded queue of lines for standard error: any thread appends, one thread writes.
//!
//! Invariants: no call blocks on the reader of standard error, except [`Queue::finish`] for a bounded time; at most
//! [`ROOM`] bytes wait; a line is written whole or not at all, and the number of missing lines is written in their place.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lines::{self, WriteEnd};

/// Bytes of lines that may wait. A line that finds no room is lost.
pub const ROOM: usize = 256 * 1024;

/// What waits for the writer.
#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines that found no room after those.
    lost: u64,
    /// The writer has taken lines and is not done with them.
    writing: bool,
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.writing
    }
}

/// The lines that wait to be written.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue::new()
    }
}

impl Queue {
    /// One without a line.
    pub const fn new() -> Queue {
        let waiting = Waiting { lines: Vec::new(), lost: 0, writing: false };
        Queue { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line, its line end included. Never blocks on the reader of standard error.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > ROOM {
            waiting.lost += 1;
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for at most `patience` until all that was queued is written. Returns whether it is.
    pub fn finish(&self, patience: Duration) -> bool {
        let waited =
            self.changed.wait_timeout_while(self.lock(), patience, |waiting| !waiting.is_over());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_over()
    }

    /// Takes what waits; waits for it if there is nothing yet.
    fn take(&self) -> (Vec<u8>, u64) {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.lost == 0;
        let waiting = self.changed.wait_while(self.lock(), idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.writing = true;
        (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.lost))
    }

    fn done(&self) {
        self.lock().writing = false;
        self.changed.notify_all();
    }

    /// Writes to `to` whatever is queued, and does not return. `notice` makes the line that says how many are missing.
    pub fn write_all(&self, to: impl AsFd, notice: impl Fn(u64) -> String) {
        let mut writer = LineWriter { to, notice, lost: 0, torn: false };
        loop {
            let (lines, lost) = self.take();
            writer.write(&lines, lost, || true);
            self.done();
        }
    }

    /// Writes to `to` what is queued now, within `patience`: where the thread for [`Queue::write_all`] could not be created.
    pub fn write_once(&self, to: impl AsFd, notice: impl Fn(u64) -> String, patience: Duration) {
        if self.lock().is_over() {
            return;
        }
        let until = Instant::now() + patience;
        let (lines, lost) = self.take();
        let mut writer = LineWriter { to, notice, lost: 0, torn: false };
        writer.write(&lines, lost, || Instant::now() < until);
        self.done();
    }
}

/// Where lines go, and what went wrong there.
struct LineWriter<To, Notice> {
    to: To,
    notice: Notice,
    /// Missing lines that no notice has reported yet.
    lost: u64,
    /// The last line was not written whole.
    torn: bool,
}

impl<To: AsFd, Notice: Fn(u64) -> String> LineWriter<To, Notice> {
    /// Writes `lines`, and then, if any are missing, how many.
    fn write(&mut self, lines: &[u8], lost: u64, mut goes_on: impl FnMut() -> bool) {
        self.lost += self.send(lines, &mut goes_on);
        self.lost += lost;
        if self.lost > 0 {
            let notice = (self.notice)(self.lost);
            if self.send(notice.as_bytes(), &mut goes_on) == 0 {
                self.lost = 0;
            }
        }
    }

    /// How many of `lines` could not be written.
    fn send(&mut self, lines: &[u8], mut goes_on: impl FnMut() -> bool) -> u64 {
        // What follows a part of a line must not look as if it were the rest of it.
        if self.torn && matches!(lines::write(&self.to, b"\n", &mut goes_on).end, WriteEnd::All) {
            self.torn = false;
        }
        if self.torn {
            return lines::unwritten(lines, 0);
        }
        let written = lines::write(&self.to, lines, goes_on);
        self.torn = written.bytes > 0 && lines[written.bytes - 1] != b'\n';
        match written.end {
            WriteEnd::All => 0,
            WriteEnd::GivenUp | WriteEnd::Failed(_) => lines::unwritten(lines, written.bytes),
        }
    }
}

/// As a logger's target: each record is one write.
#[derive(Debug)]
pub struct Inlet(pub &'static Queue);

impl io::Write for Inlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::Arc;
    use std::thread;

    use rustix::pipe::{fcntl_setpipe_size, pipe};

    use super::super::lines::WHOLE;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn notice(lost: u64) -> String {
        format!("{lost} lost\n")
    }

    /// A queue whose thread writes to the pipe. The thread ends with the test's process.
    fn queue_into(pipe: impl AsFd + Send + 'static) -> Arc<Queue> {
        let queue = Arc::new(Queue::new());
        let writer = Arc::clone(&queue);
        thread::spawn(move || writer.write_all(pipe, notice));
        queue
    }

    #[test]
    fn lines_of_many_threads_are_all_there_and_whole() {
        let (reader, writer) = pipe().unwrap();
        let queue = queue_into(writer);
        thread::scope(|scope| {
            for thread in 0..4 {
                let queue = &queue;
                scope.spawn(move || {
                    for at in 0..200 {
                        queue.push(format!("{thread} {at} {}\n", "x".repeat(at)).as_bytes());
                    }
                });
            }
            let mut next = [0; 4];
            for line in BufReader::new(File::from(reader)).lines().take(800) {
                let line = line.unwrap();
                let parts: Vec<&str> = line.split(' ').collect();
                let thread: usize = parts[0].parse().unwrap();
                let at: usize = parts[1].parse().unwrap();
                assert_eq!((at, parts[2].len()), (next[thread], at), "{line}");
                next[thread] += 1;
            }
        });
        assert!(queue.finish(PATIENCE));
    }

    #[test]
    fn while_nobody_reads_nobody_waits_and_what_is_lost_is_counted_in_its_place() {
        let (reader, writer) = pipe().unwrap();
        fcntl_setpipe_size(&writer, WHOLE).unwrap();
        assert_eq!(rustix::io::write(&writer, &[b'\n'; WHOLE]).unwrap(), WHOLE);
        let queue = queue_into(writer);
        let line = |at: usize| format!("{at:>99}\n");
        let count = 3 * ROOM / line(0).len();
        for at in 0..count {
            queue.push(line(at).as_bytes());
        }
        assert!(!queue.finish(Duration::from_millis(1)), "nobody reads");
        assert!(queue.lock().lines.capacity() <= 2 * ROOM);
        // The reader comes back.
        let lines = BufReader::new(File::from(reader)).lines().map(Result::unwrap);
        let mut lines = lines.filter(|line| !line.is_empty());
        let (mut at, mut lost) = (0, 0);
        while at < count {
            let next = lines.next().unwrap();
            if let Some(number) = next.strip_suffix(" lost") {
                let number: usize = number.parse().unwrap();
                (at, lost) = (at + number, lost + number);
            } else {
                assert_eq!(
                    next.trim().parse(),
                    Ok(at),
                    "each line, or how many are missing, is in its place"
                );
                at += 1;
            }
        }
        assert!(lost >= count - 2 * ROOM / line(0).len() && lost > 0, "{lost}");
        queue.push(b"after\n");
        assert_eq!(lines.next().unwrap(), "after");
        assert!(queue.finish(PATIENCE));
        assert_eq!(queue.lock().lines.capacity(), 0, "the memory is given back");
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_until_that_can_be_said() {
        let (reader, writer) = pipe().unwrap();
        let said = |lost: u64| format!("{lost} lost\n");
        let to = File::options().write(true).open("/dev/full").unwrap();
        let mut broken = LineWriter { to, notice: said, lost: 0, torn: false };
        broken.write(b"a\nb\n", 3, || true);
        assert_eq!(broken.lost, 5);
        let mut whole = LineWriter { to: writer, notice: said, lost: broken.lost, torn: true };
        whole.write(b"c\n", 0, || true);
        drop(whole);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nc\n5 lost\n", "a part of a line stays alone on its line");
    }

    #[test]
    fn without_a_thread_what_waits_is_written_within_its_time() {
        let (reader, writer) = pipe().unwrap();
        let queue = Queue::new();
        queue.push(b"why\n");
        queue.write_once(&writer, notice, PATIENCE);
        queue.write_once(&writer, notice, PATIENCE);
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "why\n");
        assert!(queue.finish(Duration::ZERO));
    }
}
