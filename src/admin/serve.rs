//! The thread: wait, admit, step, expire.
//!
//! It waits in poll(2) for its listener, its visitors and the end all at once, so that nobody who is slow
//! makes another wait. Visits are ordered by age.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::permit::{self, Denial, Doorkeeper, Visitor};
use super::request::{Refusal, Request};
use super::view::View;
use super::visit::{Handled, Respond, Visit};
use super::{AdminOrder, Door, Shut, Sources, answer};
use crate::command::Reply;

/// Visitors at once, and if they come by the control socket alone. One more takes the place of the one that has been silent
/// longest, or, by the control socket, waits in the kernel while nobody is silent.
const VISITS: usize = 32;
const COMMANDERS: usize = 4;
/// How long a visit may take.
const VISIT_TIME: Duration = Duration::from_secs(5);
/// How long a visitor may be silent before one of the control socket takes its place, and how long if it waits for what it asked
/// for: a drain may last.
const SILENCE: Duration = Duration::from_secs(1);
const DOING_TIME: Duration = Duration::from_secs(10);
/// How long one may wait for what it asked for to be done.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// How long a reply may take when all ends.
const LAST_TIME: Duration = Duration::from_secs(1);
/// Pause after an accept or a wait that failed: retrying at once would only spin.
const MISHAP_PAUSE: Duration = Duration::from_millis(50);
/// How much nicer than the workers the thread is to the scheduler (-20 to 19).
const NICENESS: i32 = 10;

pub(super) fn most_visits(has_listener: bool) -> usize {
    if has_listener { VISITS } else { COMMANDERS }
}

/// What the thread has.
pub(super) struct Serve {
    pub(super) doors: Arc<Vec<Door>>,
    pub(super) stop: Arc<OwnedFd>,
    pub(super) bell: Arc<OwnedFd>,
    pub(super) orders: Receiver<AdminOrder>,
    pub(super) sources: Sources,
}

impl Serve {
    /// Serves until `stop` is written.
    pub(super) fn run(self) {
        // On Linux this is for the calling thread alone. Without it the thread is merely less polite.
        let own = rustix::process::getpriority_process(None).unwrap_or(0);
        let _ = rustix::process::setpriority_process(None, (own + NICENESS).min(19));
        let (mut visits, mut frozen) = (Vec::new(), None);
        let keeper = Doorkeeper::default();
        while let Some(ready) = self.wait(&visits, frozen.as_ref()) {
            for order in self.orders.try_iter() {
                frozen = match order {
                    AdminOrder::Thaw => None,
                    AdminOrder::Keep(shut) => frozen.map(|it| Frozen { shut, ..it }),
                    AdminOrder::Freeze(totals) => {
                        let view = View::read(&self.sources);
                        // Whoever asked may have stopped waiting.
                        let _ = totals.send(view.sums());
                        Some(Frozen { view, shut: Shut { listener: true, control: true } })
                    }
                };
            }
            step(&mut visits, &ready, &self.host(frozen.as_ref(), &keeper));
            for (door, _) in self.doors.iter().zip(&ready.doors).filter(|(_, is_ready)| **is_ready)
            {
                admit(door, &mut visits, self.most());
            }
        }
        let host = self.host(frozen.as_ref(), &keeper);
        visits.into_iter().for_each(|visit| visit.part(LAST_TIME, &host));
    }

    fn host<'a>(&'a self, frozen: Option<&'a Frozen>, keeper: &'a Doorkeeper) -> Host<'a> {
        Host { sources: &self.sources, replies: &self.bell, frozen, keeper }
    }

    /// `None` when the thread is to end.
    fn wait(&self, visits: &[Visit], frozen: Option<&Frozen>) -> Option<Woken> {
        let is_shut = |door: &Door| frozen.is_some_and(|it| it.shut.is(door.is_trusted));
        let doors: Vec<_> = self.doors.iter().map(|door| (door, is_shut(door))).collect();
        wait((&doors, self.most()), &self.stop, &self.bell, visits)
    }

    fn most(&self) -> usize {
        most_visits(self.doors.iter().any(|door| !door.is_trusted))
    }
}

/// Another process is about to serve who comes, or does.
struct Frozen {
    /// What is shown to those who are here.
    view: View,
    /// By these doors.
    shut: Shut,
}

/// What the wait was ended by.
struct Woken {
    doors: Vec<bool>,
    /// Something that was asked for is done.
    reply: bool,
    visits: Vec<bool>,
}

/// Makes answers.
struct Host<'a> {
    sources: &'a Sources,
    replies: &'a Arc<OwnedFd>,
    /// What is shown, unless it is what there is.
    frozen: Option<&'a Frozen>,
    keeper: &'a Doorkeeper,
}

impl Respond for Host<'_> {
    fn respond(&self, asked: &Result<Request, Refusal>, visitor: Visitor) -> Handled {
        let (token, hosts) = (self.sources.token.as_deref(), &*self.sources.fixed.hosts);
        let command = match asked {
            Ok(request) if !permit::is_called_rightly(request, visitor, token, hosts) => {
                self.sources.others.commands_denied.add(u64::from(request.is_command));
                self.keeper.note(visitor, Denial::Name, Instant::now());
                return Handled::Now(answer::denied(Denial::Name));
            }
            Ok(request) if request.is_command => {
                let permit = permit::judge(request, visitor, token);
                if let Err(denial) = permit {
                    self.sources.others.commands_denied.bump();
                    self.keeper.note(visitor, denial, Instant::now());
                }
                answer::command(request, permit)
            }
            _ => {
                let judged = asked.as_ref().map(|request| permit::judge(request, visitor, token));
                let trusted = judged.is_ok_and(|permit| permit.is_ok());
                let fresh = || View::read(self.sources);
                let frozen = self.frozen.filter(|it| it.shut.is(visitor == Visitor::Local));
                let view = frozen.map_or_else(fresh, |it| it.view.clone());
                return Handled::Now(answer::bytes(asked, &view, trusted));
            }
        };
        match command {
            Ok(command) => {
                let (sender, reply) = bounded(1);
                let replies = Arc::clone(self.replies);
                let answer = move |reply| {
                    // The visitor may have left. The counter of the eventfd is far from full.
                    let _ = sender.send(reply);
                    let _ = rustix::io::write(&*replies, &1u64.to_ne_bytes());
                };
                (self.sources.commands)(command, Box::new(answer));
                Handled::Later(reply)
            }
            Err(refused) => Handled::Now(refused),
        }
    }

    fn conclude(&self, reply: Option<Reply>) -> Vec<u8> {
        answer::conclude(reply)
    }
}

/// `None` when the thread is to end.
fn wait(
    (doors, most): (&[(&Door, bool)], usize),
    stop: &OwnedFd,
    replies: &OwnedFd,
    visits: &[Visit],
) -> Option<Woken> {
    let now = Instant::now();
    let looks =
        |&(door, is_shut): &(&Door, bool)| match !is_shut && is_open(door, visits, most, now) {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
    let closed = doors.iter().any(|door| !door.1 && looks(door).is_empty());
    let opens = visits.iter().filter(|_| closed).map(silent_at);
    let own = [PollFd::new(stop, PollFlags::IN), PollFd::new(replies, PollFlags::IN)];
    let of_doors = doors.iter().map(|door| PollFd::new(&door.0.socket, looks(door)));
    let theirs = visits.iter().map(|visit| PollFd::new(&visit.stream, visit.wants()));
    let mut sockets: Vec<PollFd<'_>> = own.into_iter().chain(of_doors).chain(theirs).collect();
    let timeout = visits
        .iter()
        .map(|visit| visit.until)
        .chain(opens)
        .min()
        .map(|first| first.saturating_duration_since(now))
        .and_then(|wait| Timespec::try_from(wait).ok());
    if let Err(error) = poll(&mut sockets, timeout.as_ref()) {
        if error != Errno::INTR {
            log::error!("the admin thread cannot wait: {error}");
            thread::sleep(MISHAP_PAUSE);
        }
        let (doors, visits) = (vec![false; doors.len()], vec![false; visits.len()]);
        return Some(Woken { doors, reply: false, visits });
    }
    let mut ready = sockets.iter().map(|socket| !socket.revents().is_empty());
    let (stopped, reply) = (ready.next()?, ready.next()?);
    if reply {
        // Fails only if it was read already.
        let _ = rustix::io::read(replies, &mut [0; 8]);
    }
    let doors = ready.by_ref().take(doors.len()).collect();
    (!stopped).then(|| Woken { doors, reply, visits: ready.collect() })
}

/// Goes on with the visits that are ready, and ends those that are over or out of time.
fn step(visits: &mut Vec<Visit>, woken: &Woken, host: &Host<'_>) {
    let now = Instant::now();
    let mut ready = woken.visits.iter();
    visits.retain_mut(|visit| {
        let is_ready = ready.next() == Some(&true) || woken.reply && visit.is_waiting();
        let goes_on = !is_ready || visit.step(now, host);
        if visit.is_waiting() {
            // It ends when what it asked for is done.
            visit.until = now + COMMAND_TIME;
        }
        goes_on && visit.until > now
    });
}

/// Whether it may give way to a visitor of the control socket.
fn is_silent(visit: &Visit, now: Instant) -> bool {
    silent_at(visit) <= now
}

/// When it has been silent for so long that it may.
fn silent_at(visit: &Visit) -> Instant {
    visit.moved + if visit.is_waiting() { DOING_TIME } else { SILENCE }
}

/// Whether one more visitor is taken here now. Commands that come together are done one after another, and each is answered:
/// whoever gives one waits in the kernel rather than in the place of another.
fn is_open(door: &Door, visits: &[Visit], most: usize, now: Instant) -> bool {
    !door.is_trusted || visits.len() < most || visits.iter().any(|visit| is_silent(visit, now))
}

/// Ends the visit in which nothing has moved for the longest time: who is silent keeps nobody out, and who is being
/// answered is answered. One that waits for what it asked for gives way only to others that do, or if there is no other.
fn give_way(visits: &mut Vec<Visit>, to_trusted: bool, now: Instant) {
    let others = visits.iter().enumerate();
    let others = others.filter(|(_, visit)| !to_trusted || is_silent(visit, now));
    let silent = others.min_by_key(|(_, visit)| (visit.is_waiting(), visit.moved));
    if let Some((at, _)) = silent {
        visits.remove(at);
    }
}

/// Takes one visitor; if more wait, the next poll says so.
fn admit(door: &Door, visits: &mut Vec<Visit>, most: usize) {
    if !is_open(door, visits, most, Instant::now()) {
        return;
    }
    let accepted = door.socket.accept().and_then(|(stream, address)| {
        stream.set_nonblocking(true)?;
        Ok((stream, address))
    });
    match accepted {
        Ok((stream, address)) => {
            let now = Instant::now();
            let visitor = match door.is_trusted {
                true => Visitor::Local,
                false => Visitor::Remote(address.as_socket()),
            };
            if visits.len() >= most {
                give_way(visits, door.is_trusted, now);
            }
            visits.push(Visit::new(stream, visitor, now, now + VISIT_TIME));
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
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_has_been_silent_longest_gives_way_however_long_others_have_been_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (now, until) = (Instant::now(), Instant::now() + VISIT_TIME);
        let visit = |moved: u64| {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            Visit::new(stream.into(), Visitor::Local, now + Duration::from_millis(moved), until)
        };
        // By age; the first is still being answered.
        let mut visits = vec![visit(90), visit(20), visit(10), visit(30)];
        let moved = |visits: &[Visit]| -> Vec<u128> {
            visits.iter().map(|visit| (visit.moved - now).as_millis()).collect()
        };
        give_way(&mut visits, false, now);
        assert_eq!(moved(&visits), [90, 20, 30]);
        give_way(&mut visits, false, now);
        assert_eq!(moved(&visits), [90, 30]);
    }

    #[test]
    fn who_commands_waits_while_nobody_is_silent_and_who_scrapes_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let now = Instant::now();
        let visit = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            Visit::new(stream.into(), Visitor::Local, now, now + VISIT_TIME)
        };
        let door = |is_trusted| Door { socket: listener.try_clone().unwrap().into(), is_trusted };
        let visits = [visit(), visit()];
        let is_open = |trusted, most, later| is_open(&door(trusted), &visits, most, now + later);
        assert!(is_open(true, 3, Duration::ZERO));
        assert!(!is_open(true, 2, SILENCE / 2));
        assert!(is_open(true, 2, SILENCE));
        assert!(is_open(false, 2, Duration::ZERO));
    }
}
