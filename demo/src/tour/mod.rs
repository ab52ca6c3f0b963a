//! The tour: the story told step by step on a [`Stage`], each step with what is typed and what came of it, and checked: a
//! step whose outcome is not what the text says ends it with an error.
//!
//! Owns the order of the story and its words (`steps`). Nothing that is shown as output was written beforehand: command lines
//! are run by `sh` as they are shown (`shell`), and lines of logs are from the stage's journal. Waits are for conditions.
//!
//! Invariants: a step begins with both APIs healthy and in turn; what it shows does not depend on how fast the machine
//! is, so that the [`Record`] is the same each time.

mod meanwhile;
mod record;
mod shell;
mod steps;
mod teller;

pub use record::{Page, Record};

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use record::Steadier;
use shell::{Job, Shell};
use teller::Teller;

use crate::paint::Paint;
use crate::process::say;
use crate::stage::{Moment, PATIENCE, Piece, Plan, Problem, Stage};

/// Between two health checks of one target: short enough to be waited for, and a check may take half of it on a machine that
/// is busy.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often what is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// How many lines of evenly's log go with a step that failed.
const LAST_WORDS: usize = 8;

/// Plays the tour on a stage of this plan, tells it on standard output, and ends the stage.
///
/// # Errors
/// When the stage does not start, the plan is cancelled, or a step does not come out as it is told.
pub fn play(plan: Plan, paint: Paint) -> Result<Record, Problem> {
    let began = Instant::now();
    let cancelled = Arc::clone(&plan.cancelled);
    let stage = Stage::start(Plan { check_interval: CHECK_INTERVAL, ..plan })?;
    let steadier = Steadier::new(&stage)?;
    let mut tour = Tour::new(stage, Teller::new(paint), cancelled)?;
    tour.steps().map_err(|why| tour.failed(&why))?;
    let record = tour.teller.record(&steadier);
    tour.stage.end();
    say(format_args!("\nAll of it came out as told, in {} seconds.", began.elapsed().as_secs()));
    Ok(record)
}

/// A stage, and who tells what happens on it.
struct Tour {
    stage: Stage,
    teller: Teller,
    cancelled: Arc<AtomicBool>,
    shell: Shell,
    /// `ingress-client` as it is typed; with `--resolver` unless that is where it asks by itself.
    client: String,
    /// Of all spells.
    url: String,
}

impl Tour {
    fn new(stage: Stage, teller: Teller, cancelled: Arc<AtomicBool>) -> Result<Tour, Problem> {
        let missing = || Problem("a tour needs evenly on its stage".to_owned());
        let url = stage.url("/spells").ok_or_else(missing)?;
        let resolver = stage.address(Piece::Resolver).ok_or_else(missing)?;
        let client = match resolver.port() {
            5302 => "ingress-client".to_owned(),
            _ => format!("ingress-client --resolver {resolver} \\\n   "),
        };
        let folder = Path::new(stage.client().get_program()).parent().map(Path::to_owned);
        let shell = Shell::new(&folder.unwrap_or_default());
        Ok(Tour { stage, teller, cancelled, shell, client, url })
    }

    /// An error with the step in which it came up and what evenly said last.
    fn failed(&self, Problem(why): &Problem) -> Problem {
        if self.is_cancelled() {
            return Problem("the tour was interrupted".to_owned());
        }
        let journal = self.stage.journal();
        let said = journal.since(Piece::Evenly, journal.start());
        let last = said.iter().skip(said.len().saturating_sub(LAST_WORDS));
        let last: String = last.map(|line| format!("\n  evenly | {line}")).collect();
        Problem(format!("the tour ends in step {}: {why}{last}", self.teller.steps()))
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until `look` finds something.
    fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Stage) -> Result<Option<T>, Problem>,
    ) -> Result<T, Problem> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&mut self.stage)? {
                return Ok(found);
            }
            if self.is_cancelled() {
                return Err(Problem("interrupted".to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(Problem(format!("waited {PATIENCE:?} in vain for {what}")));
            }
            thread::sleep(GLANCE);
        }
    }

    /// Waits for a line of a piece that has all these parts, said since then.
    fn line(&mut self, piece: Piece, since: Moment, parts: &[&str]) -> Result<String, Problem> {
        let has_all = |line: &str| {
            parts.iter().all(|part| line.contains(part)).then(|| without_time(line).to_owned())
        };
        let what = format!("the line of {piece} with `{}`", parts.join("` and `"));
        self.until(&what, |stage| Ok(stage.journal().find(piece, since, has_all)))
    }

    /// Waits for such a line, and shows it.
    fn show_line(&mut self, piece: Piece, since: Moment, parts: &[&str]) -> Result<(), Problem> {
        let line = self.line(piece, since, parts)?;
        self.teller.log(piece, &line);
        Ok(())
    }

    fn begin(&self, command: &str) -> Result<Job, Problem> {
        self.shell.begin(command).map_err(|error| not_run(command, &error))
    }

    /// What a command line printed.
    fn output(&mut self, command: &str, mut job: Job) -> Result<Vec<String>, Problem> {
        let ended = |_: &mut Stage| job.output().map_err(|error| not_run(command, &error));
        let output = self.until(&format!("the end of `{command}`"), ended)?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Runs a command line that nobody sees.
    fn run(&mut self, command: &str) -> Result<Vec<String>, Problem> {
        let job = self.begin(command)?;
        self.output(command, job)
    }

    /// Shows a command line, runs it, and shows what it printed.
    fn show(&mut self, command: &str) -> Result<Vec<String>, Problem> {
        self.teller.command(command);
        let lines = self.run(command)?;
        self.teller.lines(lines.iter().map(String::as_str));
        Ok(lines)
    }
}

fn not_run(command: &str, error: &io::Error) -> Problem {
    Problem(format!("cannot run `{command}`: {error}"))
}

/// A line of evenly's log without the time at its beginning.
fn without_time(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if time.ends_with('Z') && time.contains('T') => rest,
        _ => line,
    }
}

/// An error unless `holds`: the story says one thing, and another has happened.
fn check(holds: bool, told: &str, lines: &[String]) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    Err(Problem(format!("{told}; but this was the outcome:\n  {}", lines.join("\n  "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_at_the_beginning_is_taken_from_a_line() {
        let line = "2026-11-22T20:09:05.083Z WARN  target a is down";
        assert_eq!(without_time(line), "WARN  target a is down");
        assert_eq!(without_time("hit spells.test. A: No Error"), "hit spells.test. A: No Error");
        assert_eq!(without_time("stopped"), "stopped");
    }

    #[test]
    fn an_outcome_that_is_not_as_told_is_shown() {
        let lines = ["503".to_owned()];
        assert!(check(true, "it is 200", &lines).is_ok());
        let why = check(false, "it is 200", &lines).unwrap_err().0;
        assert_eq!(why, "it is 200; but this was the outcome:\n  503");
    }
}
