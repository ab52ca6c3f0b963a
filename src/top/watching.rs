//! Readouts as they come: which are shown, what is wrong with the last question, and what somebody at the keys wants to see.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::interval::{Continuity, EndpointFigures, Interval};
use super::readout::Readout;

/// How long it is said that another process answers.
const NOTICE_TIME: Duration = Duration::from_secs(10);
/// How long nothing may come, in intervals and at least, before it is said.
const SILENCE: (u32, Duration) = (3, Duration::from_secs(2));

/// What has been said, and what is shown of it.
#[derive(Debug, Clone)]
pub struct Watching {
    every: Duration,
    before: Option<Readout>,
    now: Readout,
    /// What is shown while it is paused.
    held: Option<(Option<Readout>, Readout)>,
    /// Why the last question has no answer.
    trouble: Option<String>,
    /// What has happened to the process, and when.
    notice: Option<(Duration, String)>,
}

impl Watching {
    /// With what was said first; it will be asked again each `every`.
    #[must_use]
    pub fn new(every: Duration, first: Readout) -> Watching {
        Watching { every, before: None, now: first, held: None, trouble: None, notice: None }
    }

    /// The answer to the next question, or why there is none, at this time.
    pub fn took(&mut self, at: Duration, answer: Result<Readout, String>) {
        let next = match answer {
            Ok(next) => next,
            Err(trouble) => return self.trouble = Some(trouble),
        };
        let process = next.pid().unwrap_or_default();
        let notice = match Continuity::of(&self.now, &next) {
            Continuity::Same => None,
            Continuity::Upgraded => {
                Some(format!("upgraded: process {process} has taken its place"))
            }
            Continuity::Restarted => Some(format!("restarted: process {process} answers now")),
        };
        self.notice = notice.map(|notice| (at, notice)).or(self.notice.take());
        self.trouble = None;
        self.before = Some(std::mem::replace(&mut self.now, next));
    }

    /// What is to be shown.
    pub(super) fn interval(&self) -> Interval<'_> {
        match &self.held {
            Some((before, now)) => Interval::new(before.as_ref(), now),
            None => Interval::new(self.before.as_ref(), &self.now),
        }
    }

    /// What somebody should know about what is shown at this time, the worst first.
    pub(super) fn remarks(&self, at: Duration) -> Vec<String> {
        let mut remarks = Vec::new();
        let silence = at.saturating_sub(self.now.at);
        let (intervals, least) = SILENCE;
        if let Some(trouble) = &self.trouble {
            remarks.push(format!("no answer for {}s, asking on: {trouble}", silence.as_secs()));
        } else if silence > least.max(self.every * intervals) {
            remarks.push(format!("no answer for {}s, asking on", silence.as_secs()));
        }
        if let Some((_, held)) = &self.held {
            let age = at.saturating_sub(held.at).as_secs();
            remarks.push(format!("paused, {age}s old: p goes on, q quits"));
        }
        let is_new = |it: &&(Duration, String)| at.saturating_sub(it.0) < NOTICE_TIME;
        remarks.extend(self.notice.as_ref().filter(is_new).map(|(_, notice)| notice.clone()));
        remarks
    }

    fn pause(&mut self) {
        self.held = match self.held.take() {
            Some(_) => None,
            None => Some((self.before.clone(), self.now.clone())),
        };
    }
}

/// What endpoints are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortBy {
    /// The order of the configuration.
    #[default]
    File,
    /// Those that get no requests first.
    State,
    /// The busiest first.
    Rate,
    /// Those with most failures and server errors first.
    Errors,
    /// The slowest first.
    Slowness,
}

impl SortBy {
    const ALL: [SortBy; 5] =
        [SortBy::File, SortBy::State, SortBy::Rate, SortBy::Errors, SortBy::Slowness];

    pub(super) fn word(self) -> &'static str {
        match self {
            SortBy::File => "file",
            SortBy::State => "state",
            SortBy::Rate => "rate",
            SortBy::Errors => "errors",
            SortBy::Slowness => "p99",
        }
    }

    fn next(self) -> SortBy {
        let at = SortBy::ALL.iter().position(|it| *it == self).unwrap_or_default();
        SortBy::ALL[(at + 1) % SortBy::ALL.len()]
    }

    /// Sorts; those that are equal stay in the order of the configuration.
    pub(super) fn sort(self, endpoints: &mut [EndpointFigures]) {
        let weight = |it: &EndpointFigures| match self {
            SortBy::File => None,
            SortBy::State => Some(if it.is_in_rotation { 0.0 } else { 1.0 }),
            SortBy::Rate => it.rate,
            SortBy::Errors => {
                Some(it.failures.unwrap_or_default() + it.server_errors.unwrap_or_default())
            }
            SortBy::Slowness => it.p99,
        };
        // What is not known comes last.
        let weight = |it: &EndpointFigures| weight(it).unwrap_or(-1.0);
        endpoints.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    }
}

/// What somebody at the keys wants to see, and what there was room for.
#[derive(Debug, Clone, Default)]
pub struct ViewState {
    /// What endpoints are sorted by.
    pub sort: SortBy,
    /// Keys are shown in place of figures.
    pub help: bool,
    /// Endpoints above the first that is shown; drawing bounds it.
    pub first: usize,
    /// Endpoints that there was room for.
    pub(super) page: usize,
    /// Whether there are colours.
    pub has_colors: bool,
}

/// What a key leads to, beside another view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    /// Nothing.
    Stay,
    /// The end.
    Quit,
    /// The shell, until it has this go on.
    Suspend,
}

impl ViewState {
    /// Does what this key asks for.
    pub(super) fn press(&mut self, key: &KeyEvent, watching: &mut Watching) -> Pressed {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Pressed::Quit,
                KeyCode::Char('z') => Pressed::Suspend,
                _ => Pressed::Stay,
            };
        }
        let page = self.page.max(1);
        match key.code {
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Char('p') => watching.pause(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::Down => self.first = self.first.saturating_add(1),
            KeyCode::PageUp => self.first = self.first.saturating_sub(page),
            KeyCode::PageDown => self.first = self.first.saturating_add(page),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX,
            _ => {}
        }
        Pressed::Stay
    }
}
