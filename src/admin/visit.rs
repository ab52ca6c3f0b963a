//! One visitor's connection: it asks, it is answered, it leaves.
//!
//! Owns the socket, which never blocks, and how far the visit has come. Invariants: a visit is answered
//! once; it holds at most [`HEAD_BYTES`] of what was sent; it ends at `until` at the latest.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use rustix::event::PollFlags;

use super::request::{self, HEAD_BYTES, Refusal, Request};

/// A connection and how far its visit has come.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) stream: TcpStream,
    /// When it is ended, whatever it does.
    pub(super) until: Instant,
    phase: Phase,
}

/// How far a visit has come.
#[derive(Debug)]
enum Phase {
    /// These bytes of a head have come.
    Asking(Vec<u8>),
    /// This much of the answer was taken.
    Answering(Vec<u8>, usize),
    /// Everything was sent; what still comes is thrown away. A socket closed with unread bytes would
    /// reset the connection, and the visitor might lose the answer.
    Leaving,
}

/// How an answer is made.
pub(super) type Respond<'a> = &'a dyn Fn(&Result<Request, Refusal>) -> Vec<u8>;

impl Visit {
    pub(super) fn new(stream: TcpStream, until: Instant) -> Visit {
        Visit { stream, until, phase: Phase::Asking(Vec::new()) }
    }

    /// What it waits for.
    pub(super) fn wants(&self) -> PollFlags {
        match self.phase {
            Phase::Asking(_) | Phase::Leaving => PollFlags::IN,
            Phase::Answering(..) => PollFlags::OUT,
        }
    }

    /// Goes on as far as the socket allows. `false`: the visit is over.
    pub(super) fn step(&mut self, respond: Respond<'_>) -> bool {
        match self.advance(respond) {
            Ok(goes_on) => goes_on,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn advance(&mut self, respond: Respond<'_>) -> io::Result<bool> {
        let mut room = [0; HEAD_BYTES];
        if let Phase::Asking(head) = &mut self.phase {
            let count = self.stream.read(&mut room[head.len()..])?;
            head.extend_from_slice(&room[..count]);
            match request::parse(head) {
                Some(asked) => self.phase = Phase::Answering(respond(&asked), 0),
                None => return Ok(count > 0),
            }
        }
        if let Phase::Answering(answer, sent) = &mut self.phase {
            while *sent < answer.len() {
                match self.stream.write(&answer[*sent..])? {
                    0 => return Ok(false),
                    count => *sent += count,
                }
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.phase = Phase::Leaving;
            return Ok(true);
        }
        Ok(self.stream.read(&mut room)? > 0)
    }
}
