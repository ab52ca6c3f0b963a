//! Writing whole lines to a descriptor whose reader may have stopped.
//!
//! The descriptor may be shared with other processes, so it is never made non-blocking. It is polled for room first, and then
//! given no more than a pipe with room takes at once: the writer blocks in poll(2), where it can give up, and not in
//! write(2), where it cannot.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Bytes that a pipe takes whole or not at all: PIPE_BUF of Linux, see pipe(7). A line of at most so many bytes is never
/// cut in two.
pub const WHOLE: usize = 4096;
/// How often a blocked writer checks whether to go on.
const LOOK: Duration = Duration::from_millis(50);

/// Result of a write.
#[derive(Debug)]
pub struct WriteResult {
    /// Bytes that were taken.
    pub bytes: usize,
    /// Why there are not more of them.
    pub end: WriteEnd,
}

/// How a write ended.
#[derive(Debug)]
pub enum WriteEnd {
    /// With everything written.
    All,
    /// `goes_on` returned `false`.
    GivenUp,
    /// With this error.
    Failed(io::Error),
}

/// Writes `lines` to `to`, as many whole lines at a time as a pipe takes at once. `goes_on` is called before each of those
/// writes, and repeatedly while there is no room; once it returns `false`, only what is taken without blocking is written.
pub fn write(to: impl AsFd, lines: &[u8], mut goes_on: impl FnMut() -> bool) -> WriteResult {
    let mut bytes = 0;
    while bytes < lines.len() {
        let patient = goes_on();
        let step = wait(&to, if patient { LOOK } else { Duration::ZERO });
        let step = step.and_then(|ready| match ready {
            true => rustix::io::write(&to, piece(&lines[bytes..])),
            false => Ok(0),
        });
        match step {
            Ok(count) if count > 0 => bytes += count,
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) if !patient => {
                return WriteResult { bytes, end: WriteEnd::GivenUp };
            }
            // Somebody has made the descriptor non-blocking, and there is less room than it takes.
            Err(Errno::AGAIN) => std::thread::sleep(LOOK / 50),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return WriteResult { bytes, end: WriteEnd::Failed(error.into()) },
        }
    }
    WriteResult { bytes, end: WriteEnd::All }
}

/// Waits a while for room. An error of the descriptor counts as room: the write returns it.
fn wait(to: impl AsFd, patience: Duration) -> Result<bool, Errno> {
    let timeout = Timespec::try_from(patience).ok();
    poll(&mut [PollFd::new(&to, PollFlags::OUT)], timeout.as_ref()).map(|count| count > 0)
}

/// What is written next: whole lines as far as they fit, or a part of one that does not.
fn piece(rest: &[u8]) -> &[u8] {
    let Some(most) = rest.get(..WHOLE) else { return rest };
    memchr::memrchr(b'\n', most).map_or(most, |end| &most[..=end])
}

/// How many lines of `lines` are not whole in their first `written` bytes.
pub fn unwritten(lines: &[u8], written: usize) -> u64 {
    let ends = lines.get(written..).unwrap_or_default().iter().filter(|&&byte| byte == b'\n');
    ends.count() as u64
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe, pipe_with};

    use super::*;

    /// A pipe of one page and what was written to it until it was full.
    fn full(flags: PipeFlags) -> (File, OwnedFd) {
        let (reader, writer) = pipe_with(flags).unwrap();
        fcntl_setpipe_size(&writer, WHOLE).unwrap();
        assert_eq!(rustix::io::write(&writer, &[b'x'; WHOLE]).unwrap(), WHOLE);
        (reader.into(), writer)
    }

    #[test]
    fn lines_are_written_whole_however_long_they_are() {
        let lines: Vec<u8> = [1, 300, 4095, 4096, 4097, 9000, 2]
            .iter()
            .flat_map(|&length| [vec![b'a'; length - 1], vec![b'\n']].concat())
            .collect();
        let (reader, writer) = pipe().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            File::from(reader).read_to_end(&mut text).map(|_| text)
        });
        let written = write(&writer, &lines, || true);
        assert!(
            matches!(written, WriteResult { bytes, end: WriteEnd::All } if bytes == lines.len())
        );
        drop(writer);
        assert!(reader.join().unwrap().unwrap() == lines);
    }

    #[test]
    fn a_full_pipe_is_given_up_and_takes_nothing_of_a_line() {
        for flags in [PipeFlags::empty(), PipeFlags::NONBLOCK] {
            let (mut reader, writer) = full(flags);
            let mut asked = 0;
            let written = write(&writer, b"a line\n", || {
                asked += 1;
                asked < 3
            });
            assert!(
                matches!(written, WriteResult { bytes: 0, end: WriteEnd::GivenUp }),
                "{written:?}"
            );
            assert_eq!(asked, 3);
            drop(writer);
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            assert!(text == [b'x'; WHOLE]);
        }
    }

    #[test]
    fn a_reader_that_comes_back_gets_the_rest() {
        let (mut reader, writer) = full(PipeFlags::NONBLOCK);
        let mut page = [0; WHOLE];
        let mut asked = 0;
        let written = write(&writer, b"a line\n", || {
            asked += 1;
            asked < 3 || reader.read_exact(&mut page).is_ok()
        });
        assert!(matches!(written, WriteResult { bytes: 7, end: WriteEnd::All }), "{written:?}");
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let written = write(&writer, b"a line\n", || true);
        assert!(
            matches!(written, WriteResult { bytes: 0, end: WriteEnd::Failed(_) }),
            "{written:?}"
        );
    }

    #[test]
    fn what_is_not_whole_is_unwritten() {
        for (written, missing) in [(0, 2), (1, 2), (2, 1), (3, 1), (4, 0)] {
            assert_eq!(unwritten(b"a\nb\n", written), missing, "{written}");
        }
    }
}
