//! The codec attacked with byte tables: input, outcome, and the section that says so.

mod bodies;
mod halves;
mod properties;
mod requests;
mod responses;
mod rewriting;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

/// What became of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Partial,
    Whole,
    Refused(u16),
}

fn request_outcome(input: &[u8], limits: HeadLimits) -> Got {
    match parse_request(input, limits, &mut FieldSpace::new()) {
        Ok(Progress::Partial) => Got::Partial,
        Ok(Progress::Complete(_)) => Got::Whole,
        Err(refusal) => Got::Refused(refusal.status()),
    }
}

/// A refused response is a 502.
fn response_outcome(input: &[u8], limits: HeadLimits) -> Got {
    match parse_response(input, limits, &mut FieldSpace::new()) {
        Ok(Progress::Partial) => Got::Partial,
        Ok(Progress::Complete(_)) => Got::Whole,
        Err(_) => Got::Refused(502),
    }
}

/// Calls `look` with the whole head at the start of `input`.
fn with_request<T>(input: &[u8], look: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
    match parse_request(input, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Complete(head)) => look(&head),
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

fn with_response<T>(input: &[u8], look: impl FnOnce(&ResponseHead<'_, '_>) -> T) -> T {
    match parse_response(input, LIMITS, &mut FieldSpace::new()) {
        Ok(Progress::Complete(head)) => look(&head),
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

fn check(table: &[(&str, Got, &str)], outcome: impl Fn(&[u8]) -> Got) {
    let mut wrong = Vec::new();
    for &(input, expected, section) in table {
        let got = outcome(input.as_bytes());
        if got != expected {
            wrong.push(format!("{input:?}: {got:?}, not {expected:?} ({section})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
