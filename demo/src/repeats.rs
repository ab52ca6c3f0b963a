//! Which lines of the DNS servers say nothing new. A TTL is over every two seconds, and then the same questions get the
//! same answers: shown, they would push away what somebody has just read.
//!
//! Owns what each question was last answered. Knows the form of the lines that `dns` prints, and nothing else of it.

use std::collections::HashMap;

use crate::stage::Piece;

/// What was last shown of each question.
#[derive(Debug, Default)]
pub struct Repeats(HashMap<(Piece, String), String>);

impl Repeats {
    /// Whether a line says anything that the one before on the same question did not. Lines that answer no question do.
    pub fn is_news(&mut self, piece: Piece, line: &str) -> bool {
        let answered = match piece {
            Piece::Authority => of_authority(line),
            Piece::Resolver => of_resolver(line),
            Piece::Api(_) | Piece::Evenly => None,
        };
        let Some((question, answer)) = answered else { return true };
        let before = self.0.insert((piece, question.to_owned()), answer.to_owned());
        before.as_deref() != Some(answer)
    }
}

/// `query udp 127.0.0.1:4567 spells.test. A: No Error, answers 1`: the client has another port each time.
fn of_authority(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("query ")?.splitn(3, ' ').nth(2)?.split_once(": ")
}

/// `hit spells.test. A: No Error, ttl 2`: whether it was in the cache is news, what is left of its TTL is not.
fn of_resolver(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.split_once(' ').filter(|(word, _)| ["hit", "miss"].contains(word))?;
    let (question, outcome) = rest.split_once(": ")?;
    let answer = outcome.split(", ttl ").next()?;
    // Of a hit, the answer is the one of the miss before.
    Some((question, if word == "hit" { word } else { answer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_news_when_it_differs_from_the_one_before() {
        let mut repeats = Repeats::default();
        for (piece, line, is_news) in [
            (Piece::Authority, "dns-authority listening on 127.0.0.1:5301", true),
            (Piece::Authority, "query udp 127.0.0.1:1 a. A: No Error, answers 1", true),
            (Piece::Authority, "query udp 127.0.0.1:2 a. A: No Error, answers 1", false),
            (Piece::Authority, "query udp 127.0.0.1:3 a. AAAA: No Error, answers 1", true),
            (Piece::Authority, "query udp 127.0.0.1:4 a. A: No Error, answers 2", true),
            (Piece::Authority, "query udp 127.0.0.1:5 a. A: No Error, answers 1", true),
            (Piece::Resolver, "miss a. A: No Error, ttl 2", true),
            (Piece::Resolver, "miss a. A: No Error, ttl 1", false),
            (Piece::Resolver, "hit a. A: No Error, ttl 2", true),
            (Piece::Resolver, "hit a. A: No Error, ttl 1", false),
            (Piece::Resolver, "miss a. A: No Error, ttl 2", true),
            (
                Piece::Resolver,
                "miss a. A: Server Failure, 127.0.0.1:5301 did not answer: gone",
                true,
            ),
            (Piece::Resolver, "refused a. A: Refused, no zone", true),
            (Piece::Resolver, "refused a. A: Refused, no zone", true),
            (Piece::Evenly, "query udp 127.0.0.1:1 a. A: No Error, answers 1", true),
            (Piece::Api(1), "GET /spells -> 200", true),
            (Piece::Api(1), "GET /spells -> 200", true),
        ] {
            assert_eq!(repeats.is_news(piece, line), is_news, "{line}");
        }
    }
}
