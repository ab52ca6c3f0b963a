//! One visitor's connection: it asks, it is answered, it leaves.
//!
//! Owns the socket, which never blocks, and how far the visit has come. Invariants: a visit is answered
//! once; it holds at most [`REQUEST_BYTES`] of what was sent; it ends at `until` at the latest.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, TryRecvError};

use rustix::event::PollFlags;
use socket2::Socket;

use crate::command::Reply;

use super::permit::Visitor;
use super::request::{self, REQUEST_BYTES, Refusal, Request};

/// A connection and how far its visit has come.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) stream: Socket,
    /// Who asks.
    visitor: Visitor,
    /// When it is ended, whatever it does.
    pub(super) until: Instant,
    /// When a byte last came or went.
    pub(super) moved: Instant,
    phase: VisitPhase,
}

/// How far a visit has come.
#[derive(Debug)]
enum VisitPhase {
    /// These bytes of a head have come.
    Asking(Vec<u8>),
    /// What was asked for is being done.
    Waiting(Receiver<Reply>),
    /// This much of the answer was taken.
    Answering(Vec<u8>, usize),
    /// Everything was sent; what still comes is thrown away. A socket closed with unread bytes would
    /// reset the connection, and the visitor might lose the answer.
    Leaving,
}

/// What follows a request.
pub(super) enum Handled {
    /// This answer.
    Now(Vec<u8>),
    /// An answer that is made of this reply.
    Later(Receiver<Reply>),
}

/// How answers are made.
pub(super) trait Respond {
    /// What follows this request of that visitor.
    fn respond(&self, asked: &Result<Request, Refusal>, visitor: Visitor) -> Handled;
    /// The answer to a command: of nobody's, if it was not taken in the end.
    fn conclude(&self, reply: Option<Reply>) -> Vec<u8>;
}

impl Visit {
    /// One that begins `now`.
    pub(super) fn new(stream: Socket, visitor: Visitor, now: Instant, until: Instant) -> Visit {
        Visit { stream, visitor, until, moved: now, phase: VisitPhase::Asking(Vec::new()) }
    }

    /// Whether it waits for something to be done.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, VisitPhase::Waiting(_))
    }

    /// What it waits for.
    pub(super) fn wants(&self) -> PollFlags {
        match self.phase {
            VisitPhase::Asking(_) | VisitPhase::Waiting(_) | VisitPhase::Leaving => PollFlags::IN,
            VisitPhase::Answering(..) => PollFlags::OUT,
        }
    }

    /// Gives one that waits its reply, which may take so long, because the process ends. The connection is left for the end
    /// of the process to close, which shows the visitor that it has ended.
    pub(super) fn part(mut self, time: Duration, respond: &impl Respond) {
        let VisitPhase::Waiting(reply) = &self.phase else { return };
        let answer = respond.conclude(reply.recv_timeout(time).ok());
        // It is the first that is sent, and short: a socket that does not take it takes nothing.
        if self.stream.write_all(&answer).is_ok() {
            std::mem::forget(self.stream);
        }
    }

    /// Goes on as far as the socket allows. `false`: the visit is over.
    pub(super) fn step(&mut self, now: Instant, respond: &impl Respond) -> bool {
        match self.advance(now, respond) {
            Ok(goes_on) => goes_on,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn advance(&mut self, now: Instant, respond: &impl Respond) -> io::Result<bool> {
        let mut room = [0; REQUEST_BYTES];
        if let VisitPhase::Asking(head) = &mut self.phase {
            let room = &mut room[head.len()..];
            let count = self.stream.read(room)?;
            self.moved = now;
            head.extend_from_slice(&room[..count]);
            match request::parse(head) {
                Some(asked) => {
                    self.phase = match respond.respond(&asked, self.visitor) {
                        Handled::Now(answer) => VisitPhase::Answering(answer, 0),
                        Handled::Later(reply) => VisitPhase::Waiting(reply),
                    }
                }
                None => return Ok(count > 0),
            }
        }
        if let VisitPhase::Waiting(reply) = &self.phase {
            let reply = match reply.try_recv() {
                Ok(reply) => Some(reply),
                Err(TryRecvError::Disconnected) => None,
                // Whoever asked may have left meanwhile; it is done all the same.
                Err(TryRecvError::Empty) => return Ok(self.stream.read(&mut room)? > 0),
            };
            self.moved = now;
            self.phase = VisitPhase::Answering(respond.conclude(reply), 0);
        }
        if let VisitPhase::Answering(answer, sent) = &mut self.phase {
            while *sent < answer.len() {
                match self.stream.write(&answer[*sent..])? {
                    0 => return Ok(false),
                    count => {
                        *sent += count;
                        self.moved = now;
                    }
                }
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.phase = VisitPhase::Leaving;
            return Ok(true);
        }
        Ok(self.stream.read(&mut room)? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use rustix::event::{PollFd, poll};
    use rustix::io::Errno;

    /// Answers at once what the function makes of what is asked.
    struct Plain<F>(F);

    impl<F: Fn(&Result<Request, Refusal>) -> Vec<u8>> Respond for Plain<F> {
        fn respond(&self, asked: &Result<Request, Refusal>, _: Visitor) -> Handled {
            Handled::Now(self.0(asked))
        }

        fn conclude(&self, _: Option<Reply>) -> Vec<u8> {
            unreachable!("nothing is done")
        }
    }

    /// A visit and the visitor.
    fn pair() -> (Visit, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let visitor = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let now = Instant::now();
        (Visit::new(stream.into(), Visitor::Local, now, now), visitor)
    }

    /// Steps until the visit wants something else than now, or is over: `false`. Waits for its socket, however long a busy
    /// machine takes.
    fn step_on(visit: &mut Visit, respond: &impl Respond) -> bool {
        let wanted = visit.wants();
        while visit.wants() == wanted {
            match poll(&mut [PollFd::new(&visit.stream, wanted)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
            if !visit.step(Instant::now(), respond) {
                return false;
            }
        }
        true
    }

    #[test]
    fn an_answer_larger_than_the_socket_takes_at_once_arrives_whole() {
        let (mut visit, mut visitor) = pair();
        let answer: Vec<u8> = (0..16 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        let respond = Plain(|_: &_| answer.clone());
        visitor.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(visit.wants(), PollFlags::IN);
        assert!(step_on(&mut visit, &respond));
        assert_eq!(visit.wants(), PollFlags::OUT, "nobody reads yet");
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            visitor.read_to_end(&mut read).map(|_| read)
        });
        assert!(step_on(&mut visit, &respond));
        assert_eq!(visit.wants(), PollFlags::IN, "it waits for the visitor to leave");
        assert!(reader.join().unwrap().unwrap() == answer);
        assert!(!step_on(&mut visit, &respond));
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_read_as_it_was_sent() {
        let sent = b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 1..sent.len() {
            let (mut visit, mut visitor) = pair();
            let respond =
                Plain(|asked: &Result<Request, Refusal>| format!("{asked:?}").into_bytes());
            for part in [&sent[..cut], &sent[cut..]] {
                visitor.write_all(part).unwrap();
                poll(&mut [PollFd::new(&visit.stream, PollFlags::IN)], None).unwrap();
                assert!(visit.step(Instant::now(), &respond), "{cut}");
            }
            let mut answer = String::new();
            visitor.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("Ok("), "{cut}: {answer}");
        }
    }

    #[test]
    fn a_visitor_that_leaves_ends_its_visit_in_every_phase() {
        let respond = Plain(|_: &_| vec![0; 16 << 20]);
        for head in ["", "GET /", "GET / HTTP/1.0\r\n\r\n"] {
            let (mut visit, mut visitor) = pair();
            visitor.write_all(head.as_bytes()).unwrap();
            drop(visitor);
            while step_on(&mut visit, &respond) {}
        }
    }
}
