//! What is shown. Pure: what was seen comes in, lines of text go out.
//!
//! Owns the counts, the latest requests and how all of it looks. What evenly says decides: a request counts when it is
//! in the access log, and an origin is up or down as `/status` has it.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::terminal::END_KEYS;
use crate::traffic;
use crate::watch::{Entry, Status};

/// An origin's name, which is its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Blue,
    Green,
}

impl Colour {
    pub(crate) const ALL: [Colour; 2] = [Colour::Blue, Colour::Green];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Colour::Blue => "blue",
            Colour::Green => "green",
        }
    }

    /// What a browser fills its window with: dark enough for white letters.
    pub(crate) fn css(self) -> &'static str {
        match self {
            Colour::Blue => "#1d4ed8",
            Colour::Green => "#15803d",
        }
    }

    /// The parameter of SGR (ECMA-48 section 8.3.117): the bright one, which is legible on black and on white.
    fn sgr(self) -> &'static str {
        match self {
            Colour::Blue => "94",
            Colour::Green => "32",
        }
    }

    /// The key that kills it and brings it back.
    pub(crate) fn key(self) -> u8 {
        self.name().as_bytes()[0]
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Alarm,
    Of(Colour),
}

impl Style {
    fn sgr(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Alarm => "1;31",
            Style::Of(colour) => colour.sgr(),
        }
    }
}

/// A line of text, in parts that each have a style.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    fn with(mut self, style: Style, text: impl fmt::Display) -> Line {
        self.0.push((style, text.to_string()));
        self
    }

    fn plain(self, text: impl fmt::Display) -> Line {
        self.with(Style::Plain, text)
    }

    /// For a screen: at most `width` columns. Each character takes one: all text is ASCII, but for the blocks.
    pub(crate) fn painted(&self, width: usize, has_colours: bool) -> String {
        let (mut painted, mut left) = (String::new(), width);
        for (style, text) in &self.0 {
            let text: String = text.chars().take(left).collect();
            left -= text.chars().count();
            let _ = match style {
                Style::Plain => write!(painted, "{text}"),
                _ if !has_colours => write!(painted, "{text}"),
                style => write!(painted, "\x1b[{}m{text}\x1b[0m", style.sgr()),
            };
        }
        painted
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(_, text)| f.write_str(text))
    }
}

/// How many of the latest requests are shown as blocks.
const BLOCKS: usize = 60;
/// How many of the latest lines are shown.
const FEED: usize = 100;

/// An origin, as the board has it.
struct Row {
    colour: Colour,
    address: String,
    is_alive: bool,
    /// As evenly's status has it.
    state: String,
    answered: u64,
}

/// All that is shown.
pub(crate) struct Board {
    url: String,
    /// Of evenly's own page.
    page: String,
    rows: [Row; 2],
    requests: u64,
    failed: u64,
    /// Connections that an origin refused, and requests that were retried: what clients did not notice.
    refused: u64,
    retried: u64,
    is_sending: bool,
    /// Which origin responded; `None` where none did.
    latest: VecDeque<Option<Colour>>,
    feed: VecDeque<Line>,
}

impl Board {
    /// Before the first request. `listening` is where evenly listens, `admin` where its page is, `origins` where the origins
    /// do.
    pub(crate) fn new(
        listening: SocketAddr,
        admin: SocketAddr,
        origins: [(Colour, SocketAddr); 2],
    ) -> Board {
        let row = |(colour, address): (Colour, SocketAddr)| Row {
            colour,
            address: address.to_string(),
            is_alive: true,
            state: "up".into(),
            answered: 0,
        };
        Board {
            url: format!("http://{listening}/"),
            page: format!("http://{admin}/"),
            rows: origins.map(row),
            requests: 0,
            failed: 0,
            refused: 0,
            retried: 0,
            is_sending: false,
            latest: VecDeque::new(),
            feed: VecDeque::new(),
        }
    }

    /// An exchange is over. What to say of it, unless it is one of many of our own.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Option<Line> {
        self.requests += 1;
        let endpoint = entry.endpoint.as_deref();
        let row = self.rows.iter_mut().find(|row| Some(row.address.as_str()) == endpoint);
        let answered_by = row.filter(|_| entry.end == "finished").map(|row| {
            row.answered += 1;
            row.colour
        });
        push(&mut self.latest, answered_by, BLOCKS);
        // One that its own client left has not failed.
        let is_failed = entry.end != "client-closed" && (entry.status >= 500 || entry.end == "cut");
        self.failed += u64::from(is_failed);
        if entry.user_agent == traffic::AGENT && !is_failed {
            return None;
        }
        let request = match (&entry.method, &entry.uri) {
            (Some(method), Some(uri)) => format!("{method} {uri}"),
            _ => entry.line.clone().unwrap_or_default(),
        };
        let line = Line::default().plain(format_args!("{} -> ", printable(&request)));
        let line = match answered_by {
            Some(colour) => line.with(Style::Of(colour), colour),
            None => {
                let end =
                    if entry.end == "answered" { "evenly itself" } else { entry.end.as_str() };
                line.with(if is_failed { Style::Alarm } else { Style::Dim }, end)
            }
        };
        let line = line.plain(format_args!(" {} in {:.1} ms", entry.status, entry.duration_ms));
        Some(self.feed(line))
    }

    /// A request of our own got no response, and is in no log.
    pub(crate) fn lost(&mut self) -> Line {
        self.failed += 1;
        self.feed(Line::default().with(Style::Alarm, "a request got no response"))
    }

    /// Evenly has logged something: origins are called by their names in it.
    pub(crate) fn log(&mut self, message: &str) -> Line {
        let mut message = message.to_owned();
        for row in &self.rows {
            let twice = format!("{0} ({0})", row.address);
            message = message.replace(&twice, row.colour.name());
            message = message.replace(&row.address, row.colour.name());
        }
        self.feed(Line::default().with(Style::Dim, format_args!("evenly: {}", printable(&message))))
    }

    /// Evenly's status.
    pub(crate) fn status(&mut self, status: &Status) {
        self.refused = status.counters.connect_failed;
        self.retried = status.counters.replayed;
        for endpoint in &status.endpoints {
            let row = self.rows.iter_mut().find(|row| row.address == endpoint.address);
            if let Some(row) = row {
                row.state.clone_from(&endpoint.state);
            }
        }
    }

    /// An origin was killed, or came back; `true` if that is news.
    pub(crate) fn alive(&mut self, colour: Colour, is_alive: bool) -> bool {
        let row = self.rows.iter_mut().find(|row| row.colour == colour);
        row.is_some_and(|row| std::mem::replace(&mut row.is_alive, is_alive) != is_alive)
    }

    /// Traffic of our own is on, or off.
    pub(crate) fn sending(&mut self, is_sending: bool) {
        self.is_sending = is_sending;
    }

    /// Something else to say.
    pub(crate) fn note(&mut self, text: impl fmt::Display) -> Line {
        self.feed(Line::default().with(Style::Bold, text))
    }

    fn feed(&mut self, line: Line) -> Line {
        push(&mut self.feed, line.clone(), FEED);
        line
    }

    /// What is known at the end.
    pub(crate) fn summary(&self) -> String {
        format!(
            "requests {}, failed {}, connections refused {}, retries {}",
            self.requests, self.failed, self.refused, self.retried
        )
    }

    /// What to say where there is no screen, before anything has happened; `pid` is this process.
    pub(crate) fn introduction(&self, pid: u32) -> String {
        let [blue, green] = &self.rows;
        let (url, page) = (&self.url, &self.page);
        format!(
            "evenly listens on {url} in front of blue ({}) and green ({})\n\
             several times, in another terminal: curl {url}\n\
             in a browser: {url}\n\
             evenly's own page, with targets, rates and latencies: {page}\n\
             kill -USR1 {pid} kills blue and brings it back, kill -USR2 {pid} green; Ctrl-C or kill {pid} ends it\n",
            blue.address, green.address
        )
    }

    /// The screen: at most `height` lines.
    pub(crate) fn lines(&self, height: usize) -> Vec<Line> {
        let empty = Line::default;
        let line = |text: &str| empty().plain(text);
        let mut lines = vec![
            empty()
                .with(Style::Bold, "  evenly")
                .plain(" in front of two origins, ")
                .with(Style::Of(Colour::Blue), Colour::Blue)
                .plain(" and ")
                .with(Style::Of(Colour::Green), Colour::Green),
            empty(),
            empty()
                .with(Style::Bold, format_args!("  curl {}", self.url))
                .plain("   several times, in another terminal"),
            empty().with(Style::Bold, format_args!("       {}", self.url)).plain("   in a browser"),
            empty()
                .with(Style::Bold, format_args!("       {}", self.page))
                .plain("   evenly's own page: targets, rates, latencies"),
            empty(),
        ];
        lines.extend(self.rows.iter().map(Row::line));
        let sends = if self.is_sending { "stops sending requests" } else { "sends requests" };
        lines.extend([
            empty(),
            empty()
                .plain("  requests ")
                .with(Style::Bold, self.requests)
                .plain("   failed ")
                .with(if self.failed > 0 { Style::Alarm } else { Style::Bold }, self.failed)
                .plain(format_args!(
                    "   (behind them: connections refused {}, retries {})",
                    self.refused, self.retried
                )),
            self.blocks(),
            empty(),
            empty()
                .with(Style::Bold, "  t")
                .plain(format_args!(" {sends} (up to {} per second)   ", traffic::RATE))
                .with(Style::Bold, char::from(END_KEYS[0]))
                .plain(" ends it"),
            line(""),
        ]);
        let room = height.saturating_sub(lines.len());
        let feed = self.feed.iter().skip(self.feed.len().saturating_sub(room));
        lines.extend(feed.map(|line| {
            let mut indented = empty().plain("  ");
            indented.0.extend(line.0.iter().cloned());
            indented
        }));
        lines.truncate(height);
        lines
    }

    /// The latest requests, each a block in the colour of its origin, the last one on the right.
    fn blocks(&self) -> Line {
        let block = |line: Line, responded: &Option<Colour>| match responded {
            Some(colour) => {
                line.with(Style::Of(*colour), if *colour == Colour::Blue { '█' } else { '▒' })
            }
            None => line.with(Style::Alarm, 'x'),
        };
        self.latest.iter().fold(Line::default().plain("  "), block)
    }
}

impl Row {
    fn line(&self) -> Line {
        let line = Line::default()
            .with(Style::Of(self.colour), format_args!("  {:6}", self.colour))
            .plain(format_args!("{:16}", self.address));
        let line = match (self.is_alive, self.state.as_str()) {
            (true, "up") => line.plain(format_args!("{:18}", "up")),
            (true, state) => line.with(Style::Alarm, format_args!("{state:18}")),
            (false, state) => {
                line.with(Style::Alarm, format_args!("{:18}", format!("killed, {state}")))
            }
        };
        let does = if self.is_alive { "kills it" } else { "brings it back" };
        line.plain(format_args!("{:>8} requests   ", self.answered))
            .with(Style::Bold, char::from(self.colour.key()))
            .plain(format_args!(" {does}"))
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Text that drives no terminal and whose characters take a column each: whoever sends a request writes its line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Counters, Endpoint};

    const BLUE: &str = "127.0.0.1:4001";
    const GREEN: &str = "127.0.0.1:4002";

    fn board() -> Board {
        let origins =
            [(Colour::Blue, BLUE.parse().unwrap()), (Colour::Green, GREEN.parse().unwrap())];
        Board::new("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9901".parse().unwrap(), origins)
    }

    fn entry(endpoint: Option<&str>, status: u16, end: &str) -> Entry {
        Entry {
            method: Some("GET".into()),
            uri: Some("/hello".into()),
            line: None,
            status,
            duration_ms: 0.25,
            endpoint: endpoint.map(str::to_owned),
            user_agent: "curl/8.0".into(),
            end: end.into(),
        }
    }

    fn shown(board: &Board) -> String {
        board.lines(50).iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn each_request_is_shown_with_the_origin_that_answered_it() {
        let mut board = board();
        let line = board.entry(&entry(Some(GREEN), 200, "finished")).unwrap();
        assert_eq!(line.to_string(), "GET /hello -> green 200 in 0.2 ms");
        assert_eq!(line.painted(99, true), "GET /hello -> \x1b[32mgreen\x1b[0m 200 in 0.2 ms");
        assert_eq!(line.painted(16, false), "GET /hello -> gr");
        board.entry(&entry(Some(BLUE), 200, "finished"));
        let shown = shown(&board);
        assert!(
            shown.contains(
                "  requests 2   failed 0   (behind them: connections refused 0, retries 0)\n  ▒█\n"
            ),
            "{shown}"
        );
        assert!(
            shown.contains("green 127.0.0.1:4002  up                       1 requests"),
            "{shown}"
        );
    }

    #[test]
    fn failed_is_what_a_client_sees_fail() {
        let mut board = board();
        for (upstream, status, end, failed) in [
            (Some(BLUE), 200, "finished", 0),
            (Some(BLUE), 404, "finished", 0),
            (None, 400, "answered", 0),
            (Some(BLUE), 0, "client-closed", 0),
            (Some(BLUE), 500, "finished", 1),
            (None, 503, "answered", 2),
            (Some(GREEN), 200, "cut", 3),
        ] {
            board.entry(&entry(upstream, status, end));
            assert_eq!(board.failed, failed, "{status} {end}");
        }
        board.lost();
        assert_eq!(board.summary(), "requests 7, failed 4, connections refused 0, retries 0");
    }

    #[test]
    fn our_own_traffic_counts_and_fills_no_lines() {
        let mut board = board();
        let own = |it| Entry { user_agent: traffic::AGENT.into(), ..it };
        assert!(board.entry(&own(entry(Some(BLUE), 200, "finished"))).is_none());
        assert!(board.entry(&own(entry(None, 503, "answered"))).is_some());
        assert_eq!(board.requests, 2);
    }

    #[test]
    fn an_origin_is_up_or_down_as_evenly_says() {
        let mut board = board();
        let endpoints = vec![
            Endpoint { address: BLUE.into(), state: "down".into() },
            Endpoint { address: GREEN.into(), state: "up".into() },
        ];
        board.status(&Status { counters: Counters { connect_failed: 5, replayed: 3 }, endpoints });
        assert!(board.alive(Colour::Blue, false) && !board.alive(Colour::Blue, false));
        let shown = shown(&board);
        assert!(shown.contains("blue  127.0.0.1:4001  killed, down"), "{shown}");
        assert!(shown.contains("green 127.0.0.1:4002  up "), "{shown}");
        assert!(shown.contains("refused 5, retries 3)"), "{shown}");
    }

    #[test]
    fn what_a_client_writes_drives_no_terminal() {
        let mut board = board();
        let forged = Entry {
            method: None,
            line: Some("GET /\x1b[2J\u{202e}ü".into()),
            ..entry(None, 400, "answered")
        };
        let line = board.entry(&forged).unwrap().to_string();
        assert_eq!(line, "GET /?[2J?? -> evenly itself 400 in 0.2 ms");
    }

    #[test]
    fn log_lines_call_origins_by_their_names() {
        let said =
            board().log("target 127.0.0.1:4001 (127.0.0.1:4001) is down: refused").to_string();
        assert_eq!(said, "evenly: target blue is down: refused");
    }

    #[test]
    fn a_small_terminal_gets_what_fits() {
        let mut board = board();
        (0..200).for_each(|_| drop(board.entry(&entry(Some(BLUE), 200, "finished"))));
        assert_eq!(board.lines(20).len(), 20);
        assert_eq!(board.lines(3).len(), 3);
        assert!(board.lines(40).last().unwrap().to_string().starts_with("  GET /hello"));
    }
}
