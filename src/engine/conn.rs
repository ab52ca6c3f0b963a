//! One socket of either side with what waits on it: remembered readiness, bytes read but not used yet,
//! bytes not taken yet, and its deadline. Nothing here knows what the bytes mean.
//!
//! Invariants: readiness is cleared only by `WouldBlock` or by a read that is proven to have drained the
//! socket; an idle connection holds no chunk; a connection has at most one live entry in the timer wheel.

use std::io::{self, IoSlice};
use std::time::Duration;

use super::net::{Net, Readiness, Token};
use super::patient::is_short;
use super::waits::Waits;
use crate::base::buffer::{Chunk, Pool};
use crate::base::tick::Tick;
use crate::base::wheel::{Due, Fired, Wheel};

/// The most that is read at once from a connection whose peer keeps up.
pub(super) const WINDOW: u32 = 256 * 1024;
/// The least, for a peer that takes little at a time.
const SMALL_WINDOW: u32 = 16 * 1024;

pub(super) struct Conn<S> {
    pub(super) socket: S,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) read_closed: bool,
    pub(super) broken: bool,
    /// In one of the engine's ready lists.
    pub(super) queued: bool,
    /// It moved much when it last ran: it takes its turn with the others that do, behind those that do not.
    pub(super) bulk: bool,
    /// A call failed for lack of memory: it runs again after a pause, since no event says when there is some.
    pub(super) short: bool,
    /// What `inbox` holds is not enough for the next step.
    pub(super) starved: bool,
    /// It did not take all of what it was sent last, or not at once: what is read for it may have to wait.
    pub(super) behind: bool,
    /// Whether its bytes wait in the kernel because buffers hold all they may.
    pub(super) hunger: Hunger,
    /// The limit that runs; its end is `deadline`.
    waits: Waits,
    /// How much may be read for this connection to take: what it has shown to take at once.
    window: u32,
    /// Read, but not used yet.
    pub(super) inbox: Option<Chunk>,
    /// To be written, but not taken yet.
    pub(super) outbox: Option<Chunk>,
    /// When this connection has waited too long.
    deadline: Due,
    /// When the wheel will look at it; never later than `deadline` unless that is [`Due::NEVER`].
    look_at: Due,
}

/// The size of a read that only finds out whether there is anything: a byte or the end.
pub(super) const PEEK: usize = 1;

/// Whether a connection waits for memory of buffers: see [`memory`](super::memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hunger {
    No,
    /// It is in line.
    Waits,
    /// It is its turn.
    Fed,
}

/// Result of a read.
pub(super) enum Filled {
    /// So many bytes for the next step, at the start of the scratch buffer.
    Bytes(usize),
    /// There is nothing now.
    Nothing,
    /// The peer's side has ended.
    End,
    /// The connection is broken.
    Broken,
}

impl<S> Conn<S> {
    pub(super) fn new(socket: S) -> Self {
        Conn {
            socket,
            readable: false,
            writable: false,
            read_closed: false,
            broken: false,
            queued: false,
            bulk: false,
            short: false,
            starved: false,
            behind: false,
            hunger: Hunger::No,
            waits: Waits::Nobody,
            window: WINDOW,
            inbox: None,
            outbox: None,
            deadline: Due::NEVER,
            look_at: Due::NEVER,
        }
    }

    pub(super) fn remember(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable || readiness.read_closed || readiness.broken;
        self.writable |= readiness.writable;
        self.read_closed |= readiness.read_closed || readiness.broken;
        self.broken |= readiness.broken;
    }

    /// It does nothing because of us: it is not the peer that is late.
    pub(super) fn is_held_up(&self) -> bool {
        self.queued || self.short || self.hunger == Hunger::Waits
    }

    /// A read would find something to pass on that is not in memory yet.
    pub(super) fn has_more(&self) -> bool {
        self.readable && (self.starved || self.inbox.is_none())
    }

    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// Gets bytes for the next step into `scratch`: those of the inbox, with a read of at most `limit` bytes behind them if
    /// there are none or they were not enough.
    #[inline]
    pub(super) fn fill<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Pool,
        scratch: &mut [u8],
        limit: usize,
    ) -> Filled {
        match self.inbox {
            None => self.read(net, scratch, limit),
            Some(_) if self.starved => self.fill_behind(net, buffers, scratch, limit),
            Some(_) => Filled::Bytes(self.empty_inbox(buffers, scratch)),
        }
    }

    #[cold]
    fn fill_behind<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Pool,
        scratch: &mut [u8],
        limit: usize,
    ) -> Filled {
        let kept = self.inbox.as_ref().map_or(0, |inbox| buffers.get(inbox).len());
        match self.read(net, &mut scratch[kept..], limit) {
            Filled::Bytes(count) => Filled::Bytes(self.empty_inbox(buffers, scratch) + count),
            other => other,
        }
    }

    /// Puts what the inbox holds at the start of `scratch`. How much that is.
    fn empty_inbox(&mut self, buffers: &mut Pool, scratch: &mut [u8]) -> usize {
        // Nothing was kept.
        let Some(inbox) = self.inbox.take() else { return 0 };
        let bytes = buffers.get(&inbox);
        let count = bytes.len();
        scratch[..count].copy_from_slice(bytes);
        buffers.take_back(inbox);
        count
    }

    /// Reads at most `limit` bytes, if the socket may have some.
    pub(super) fn read<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        into: &mut [u8],
        limit: usize,
    ) -> Filled {
        if !self.readable {
            return Filled::Nothing;
        }
        let limit = limit.min(into.len());
        let count = match net.read(&mut self.socket, &mut into[..limit]) {
            Ok(0) => {
                self.readable = false;
                self.read_closed = true;
                return Filled::End;
            }
            Ok(count) => count,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Filled::Nothing;
                }
                _ if is_short(&error) => {
                    self.short = true;
                    return Filled::Nothing;
                }
                _ => {
                    self.readable = false;
                    return Filled::Broken;
                }
            },
        };
        // A short read has drained the socket, unless the end was announced: data and FIN may share an edge.
        if count < limit && !self.read_closed {
            self.readable = false;
        }
        Filled::Bytes(count)
    }

    /// Keeps `rest`, which a step did not use. `starved` says that the next step needs more than that.
    pub(super) fn keep(&mut self, buffers: &mut Pool, rest: &[u8], starved: bool) {
        self.starved = starved;
        if !rest.is_empty() {
            self.inbox = Some(buffers.lend(&[rest]));
        }
    }

    /// Writes `pieces`, and keeps what is not taken. How many bytes were taken.
    ///
    /// # Errors
    /// When the connection is broken; nothing is kept then.
    pub(super) fn send<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Pool,
        pieces: [&[u8]; 3],
    ) -> io::Result<usize> {
        let written = self.write(net, pieces)?;
        if self.behind {
            let mut skip = written;
            let rest = pieces.map(|piece| {
                let from = skip.min(piece.len());
                skip -= from;
                &piece[from..]
            });
            self.outbox = Some(buffers.lend(&rest));
        }
        Ok(written)
    }

    /// Writes what waits in `chunk`, and keeps a copy of what is not taken. How many bytes were taken.
    ///
    /// # Errors
    /// As [`Conn::send`].
    pub(super) fn send_chunk<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Pool,
        chunk: &Chunk,
    ) -> io::Result<usize> {
        let written = self.write(net, [buffers.get(chunk), &[], &[]])?;
        if self.behind {
            self.outbox = Some(buffers.lend_rest(chunk, written));
        }
        Ok(written)
    }

    /// Writes `pieces`. How many bytes were taken; if that is not all, the peer is [behind](Conn::behind).
    fn write<N: Net<Conn = S>>(&mut self, net: &mut N, pieces: [&[u8]; 3]) -> io::Result<usize> {
        debug_assert!(self.outbox.is_none(), "a message overtakes what waits");
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.behind = false;
        if total == 0 {
            return Ok(0);
        }
        let written = match write_pieces(net, &mut self.socket, pieces) {
            Ok(written) => {
                self.writable &= written == total;
                written
            }
            Err(error) if is_short(&error) => {
                self.short = true;
                0
            }
            Err(error) => return Err(error),
        };
        self.behind = written < total;
        self.window = clamp_window(if self.behind { written } else { self.window() * 2 });
        Ok(written)
    }

    /// Writes more of the outbox. How many bytes were taken.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush<N: Net<Conn = S>>(
        &mut self,
        net: &mut N,
        buffers: &mut Pool,
    ) -> io::Result<usize> {
        let mut written = 0;
        while self.writable
            && let Some(outbox) = &self.outbox
        {
            match net.write(&mut self.socket, buffers.get(outbox)) {
                Ok(count) => {
                    written += count;
                    if buffers.consume(outbox, count) {
                        self.outbox.take().into_iter().for_each(|chunk| buffers.take_back(chunk));
                    } else {
                        self.writable = false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if is_short(&error) => {
                    self.short = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// What was moved last took too long for one step: the next ones are smaller.
    pub(super) fn shrink_window(&mut self) {
        // A step doubles it, so that a quarter is half of what it was.
        self.window = clamp_window(self.window() / 4);
    }

    /// Gives every chunk back.
    pub(super) fn release(&mut self, buffers: &mut Pool) {
        for chunk in [self.inbox.take(), self.outbox.take()].into_iter().flatten() {
            buffers.take_back(chunk);
        }
    }

    #[inline]
    fn set_deadline(&mut self, wheel: &mut Wheel<Token>, token: Token, end: Due) {
        self.deadline = end;
        if end < self.look_at {
            self.look_at = wheel.set(token, end);
        }
    }

    /// From now on this connection waits for `waits`, and has waited too long at `end`.
    #[inline]
    pub(super) fn set_limit(
        &mut self,
        wheel: &mut Wheel<Token>,
        token: Token,
        waits: Waits,
        end: Due,
    ) {
        self.waits = waits;
        self.set_deadline(wheel, token, end);
    }

    /// The limit that runs.
    #[inline]
    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// When it has waited too long.
    pub(super) fn deadline(&self) -> Due {
        self.deadline
    }

    /// The time of a pause of ours does not count: the deadline is so much later.
    pub(super) fn forgive(&mut self, pause: Duration) {
        self.deadline = self.deadline.later(pause);
    }

    /// The wheel looks at it again in the next slot: it has work of its own that waits for us.
    pub(super) fn look_again(&mut self, wheel: &mut Wheel<Token>, token: Token, now: Tick) {
        self.set_deadline(wheel, token, Due::at(now.after(Duration::from_micros(1))));
    }

    /// The wheel looks at this connection: whether it has waited too long. Sets the timer again if not. A deadline
    /// that has come stays as it is, so that whoever does something about it can see whether it was moved meanwhile.
    pub(super) fn is_due(
        &mut self,
        wheel: &mut Wheel<Token>,
        fired: Fired<Token>,
        now: Tick,
    ) -> bool {
        if fired.due != self.look_at {
            return false;
        }
        self.look_at = Due::NEVER;
        if self.deadline.has_come(now) {
            return true;
        }
        if self.deadline < Due::NEVER {
            self.look_at = wheel.set(fired.key, self.deadline);
        }
        false
    }
}

fn clamp_window(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).clamp(SMALL_WINDOW, WINDOW)
}

fn write_pieces<N: Net>(
    net: &mut N,
    socket: &mut N::Conn,
    pieces: [&[u8]; 3],
) -> io::Result<usize> {
    let single = match pieces {
        [one, [], []] | [[], one, []] | [[], [], one] => Some(one),
        _ => None,
    };
    let result = match single {
        Some(one) => net.write(socket, one),
        None => net.write_vectored(socket, &pieces.map(IoSlice::new)),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
