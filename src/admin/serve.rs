//! The thread: wait, admit, step, expire.
//!
//! It waits in poll(2) for its listener, its visitors and the end all at once, so that nobody who is slow
//! makes another wait. Visits are ordered by age.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::view::View;
use super::visit::Visit;
use super::{Sources, answer};

/// Visitors at once. One more takes the place of the one that has been silent longest.
pub(super) const VISITS: usize = 32;
/// How long a visit may take.
const VISIT_TIME: Duration = Duration::from_secs(5);
/// Pause after an accept or a wait that failed: retrying at once would only spin.
const MISHAP_PAUSE: Duration = Duration::from_millis(50);
/// How much nicer than the workers the thread is to the scheduler (-20 to 19).
const NICENESS: i32 = 10;

/// Serves until `stop` is written.
pub(super) fn run(listener: &TcpListener, stop: &OwnedFd, sources: &Sources) {
    // On Linux this is for the calling thread alone. Without it the thread is merely less polite.
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, (own + NICENESS).min(19));
    let mut visits = Vec::new();
    while let Some(ready) = wait(listener, stop, &visits) {
        step(&mut visits, &ready.visits, sources);
        if ready.listener {
            admit(listener, &mut visits);
        }
    }
}

/// What the wait was ended by.
struct Woken {
    listener: bool,
    visits: Vec<bool>,
}

/// `None` when the thread is to end.
fn wait(listener: &TcpListener, stop: &OwnedFd, visits: &[Visit]) -> Option<Woken> {
    let own = [PollFd::new(stop, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
    let theirs = visits.iter().map(|visit| PollFd::new(&visit.stream, visit.wants()));
    let mut sockets: Vec<PollFd<'_>> = own.into_iter().chain(theirs).collect();
    let timeout = visits
        .first()
        .map(|oldest| oldest.until.saturating_duration_since(Instant::now()))
        .and_then(|wait| Timespec::try_from(wait).ok());
    if let Err(error) = poll(&mut sockets, timeout.as_ref()) {
        if error != Errno::INTR {
            log::error!("the admin thread cannot wait: {error}");
            thread::sleep(MISHAP_PAUSE);
        }
        return Some(Woken { listener: false, visits: vec![false; visits.len()] });
    }
    let mut ready = sockets.iter().map(|socket| !socket.revents().is_empty());
    let (stopped, listener) = (ready.next()?, ready.next()?);
    (!stopped).then(|| Woken { listener, visits: ready.collect() })
}

/// Goes on with the visits that are ready, and ends those that are over or out of time.
fn step(visits: &mut Vec<Visit>, ready: &[bool], sources: &Sources) {
    let now = Instant::now();
    let mut ready = ready.iter();
    visits.retain_mut(|visit| {
        let is_ready = ready.next() == Some(&true);
        let goes_on =
            !is_ready || visit.step(now, &|asked| answer::bytes(asked, &View::read(sources)));
        goes_on && visit.until > now
    });
}

/// Ends the visit in which nothing has moved for the longest time: who is silent keeps nobody out, and who is being
/// answered is answered.
fn give_way(visits: &mut Vec<Visit>) {
    let silent = visits.iter().enumerate().min_by_key(|(_, visit)| visit.moved);
    if let Some((at, _)) = silent {
        visits.remove(at);
    }
}

/// Takes one visitor; if more wait, the next poll says so.
fn admit(listener: &TcpListener, visits: &mut Vec<Visit>) {
    let accepted = listener.accept().and_then(|(stream, _)| {
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    match accepted {
        Ok(stream) => {
            if visits.len() >= VISITS {
                give_way(visits);
            }
            let now = Instant::now();
            visits.push(Visit::new(stream, now, now + VISIT_TIME));
        }
        // The visitor left before it was accepted.
        Err(error)
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {}
        Err(error) => {
            // Out of descriptors, most likely: the workers say so louder.
            log::debug!("the admin thread cannot accept: {error}");
            thread::sleep(MISHAP_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn who_has_been_silent_longest_gives_way_however_long_others_have_been_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (now, until) = (Instant::now(), Instant::now() + VISIT_TIME);
        let visit = |moved: u64| {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            Visit::new(stream, now + Duration::from_millis(moved), until)
        };
        // By age; the first is still being answered.
        let mut visits = vec![visit(90), visit(20), visit(10), visit(30)];
        let moved = |visits: &[Visit]| -> Vec<u128> {
            visits.iter().map(|visit| (visit.moved - now).as_millis()).collect()
        };
        give_way(&mut visits);
        assert_eq!(moved(&visits), [90, 20, 30]);
        give_way(&mut visits);
        assert_eq!(moved(&visits), [90, 30]);
    }
}
