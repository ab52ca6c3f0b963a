//! Colours for people: on a terminal that wants them, and nowhere else.

use std::fmt::Display;
use std::io::{self, IsTerminal};

use crate::stage::Piece;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    coloured: bool,
}

impl Paint {
    /// No colours.
    pub fn none() -> Paint {
        Paint { coloured: false }
    }

    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub fn of_stdout() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { coloured: wanted && io::stdout().is_terminal() }
    }

    /// A line of a piece's log, behind its name in a colour of its own, which takes up at least `width` columns.
    pub fn log(self, piece: Piece, width: usize, line: &str) -> String {
        format!("{} | {line}", self.with(colour(piece), format_args!("{piece:>width$}")))
    }

    /// A title.
    pub fn title(self, text: impl Display) -> String {
        self.with(1, text)
    }

    /// Something to type.
    pub fn command(self, text: impl Display) -> String {
        self.with(1, text)
    }

    /// `code`: a parameter of SGR (ECMA-48 section 8.3.117).
    fn with(self, code: u8, text: impl Display) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

fn colour(piece: Piece) -> u8 {
    match piece {
        Piece::Api(number) if number % 2 == 1 => 34,
        Piece::Api(_) => 32,
        Piece::Authority => 33,
        Piece::Resolver => 35,
        Piece::Evenly => 36,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let plain = Paint::none();
        assert_eq!(plain.log(Piece::Evenly, 8, "stopped"), "  evenly | stopped");
        let coloured = Paint { coloured: true };
        assert_eq!(coloured.log(Piece::Evenly, 0, "x"), "\x1b[36mevenly\x1b[0m | x");
    }
}
