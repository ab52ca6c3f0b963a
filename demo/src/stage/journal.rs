//! What the pieces of a stage have printed, in the order in which it came.
//!
//! Bounded: the last [`ROOM`] lines are kept. Invariant: numbers of lines only grow, so that a [`Moment`] stays valid when
//! old lines go.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Log, Piece, Problem};

/// Most lines that are kept.
const ROOM: usize = 10_000;

/// A point between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

struct Line {
    number: u64,
    piece: Piece,
    text: String,
}

#[derive(Default)]
struct Lines {
    next: u64,
    kept: VecDeque<Line>,
}

/// The lines of all pieces.
pub struct Journal {
    lines: Mutex<Lines>,
    came: Condvar,
    log: Log,
}

impl Journal {
    pub(super) fn new(log: Log) -> Journal {
        Journal { lines: Mutex::default(), came: Condvar::new(), log }
    }

    pub(super) fn add(&self, piece: Piece, text: &str) {
        (self.log)(piece, text);
        let mut lines = self.lock();
        let number = lines.next;
        lines.next += 1;
        if lines.kept.len() == ROOM {
            lines.kept.pop_front();
        }
        lines.kept.push_back(Line { number, piece, text: text.to_owned() });
        drop(lines);
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the last line so far.
    pub fn now(&self) -> Moment {
        Moment(self.lock().next)
    }

    /// The beginning.
    pub fn start(&self) -> Moment {
        Moment(0)
    }

    /// What a piece has printed since then.
    pub fn since(&self, piece: Piece, moment: Moment) -> Vec<String> {
        of(&self.lock(), piece, moment).map(ToOwned::to_owned).collect()
    }

    /// What `look` finds in the first line of a piece since then in which it finds something.
    pub fn find<T>(
        &self,
        piece: Piece,
        moment: Moment,
        look: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        of(&self.lock(), piece, moment).find_map(look)
    }

    /// Waits for a line of a piece that has `part`, printed since then.
    ///
    /// # Errors
    /// When there is none after `patience`.
    pub fn wait_for(
        &self,
        piece: Piece,
        moment: Moment,
        part: &str,
        patience: Duration,
    ) -> Result<String, Problem> {
        let deadline = Instant::now() + patience;
        let mut lines = self.lock();
        loop {
            if let Some(line) = of(&lines, piece, moment).find(|line| line.contains(part)) {
                return Ok(line.to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Problem(format!("{piece} has not said `{part}` in {patience:?}")));
            }
            let waited = self.came.wait_timeout(lines, left);
            (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn of(lines: &Lines, piece: Piece, moment: Moment) -> impl Iterator<Item = &str> {
    lines
        .kept
        .iter()
        .filter(move |line| line.piece == piece && line.number >= moment.0)
        .map(|line| line.text.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lines_are_told_apart_by_piece_and_moment() {
        let journal = Journal::new(Arc::new(|_, _| {}));
        journal.add(Piece::Api(1), "old");
        let moment = journal.now();
        journal.add(Piece::Api(2), "other");
        journal.add(Piece::Api(1), "new");
        assert_eq!(journal.since(Piece::Api(1), moment), ["new"]);
        assert_eq!(journal.since(Piece::Api(1), journal.start()), ["old", "new"]);
        let patience = Duration::from_millis(1);
        assert!(journal.wait_for(Piece::Api(1), moment, "old", patience).is_err());
        assert_eq!(journal.wait_for(Piece::Api(1), moment, "ne", patience).unwrap(), "new");
    }

    #[test]
    fn old_lines_go_and_moments_stay() {
        let journal = Journal::new(Arc::new(|_, _| {}));
        journal.add(Piece::Evenly, "first");
        let moment = journal.now();
        for at in 0..ROOM {
            journal.add(Piece::Evenly, &at.to_string());
        }
        assert_eq!(journal.since(Piece::Evenly, journal.start()).len(), ROOM);
        assert_eq!(journal.since(Piece::Evenly, moment).first().map(String::as_str), Some("0"));
    }
}
