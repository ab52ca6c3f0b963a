//! All of it on a screen of any size: the process, its requests, its endpoints, and what went wrong.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::remote::show::{self, quiet};

use super::columns::{Cells, Column, draw_table};
use super::interval::{EndpointFigures, Interval, ReasonFigures};
use super::numbers::{bytes, duration, number};
use super::watching::{ViewState, Watching};

const ENDPOINT_COLUMNS: [Column; 11] = [
    Column::of_text("target", 10, 10),
    Column::of_text("address", 14, 9),
    Column::of_words("state", 8),
    Column::of_numbers("for", 3),
    Column::of_numbers("rate/s", 7),
    Column::of_numbers("flight", 4),
    Column::of_numbers("fails/s", 5),
    Column::of_numbers("5xx/s", 1),
    Column::of_numbers("p99", 3),
    Column::of_words("last check", 0),
    Column::of_text("reason", 10, 6),
];

const REASON_COLUMNS: [Column; 4] = [
    Column::of_words("event", 1),
    Column::of_text("reason", 8, 3),
    Column::of_numbers("rate/s", 2),
    Column::of_numbers("total", 0),
];

/// What `?` shows.
const HELP: &[&str] = &[
    "q, Esc, Ctrl-C   quit",
    "p                pause, and go on",
    "s                sort by: file, state, rate, errors, p99",
    "arrows, PgUp, PgDn, Home, End   other endpoints",
    "?                back",
    "",
    "Rates and percentiles are of the last interval. A percentile is as exact as",
    "the buckets of its histogram: below 5 ms it is a guess.",
    "endpoints  how many get requests, of all that are known",
    "flight   requests that are with the endpoint",
    "fails/s  requests that it refused, broke, or did not answer in time",
    "5xx/s    its responses with a status of 500 or more",
    "reason   evenly why TARGET says what it means and what helps",
];

/// Draws on all of `buffer` what is known at this time.
pub fn draw(buffer: &mut Buffer, watching: &Watching, at: Duration, view: &mut ViewState) {
    let area = buffer.area;
    buffer.reset();
    let (body, foot) = match area.height {
        0 => return,
        1 => (area, None),
        rows => (Rect { height: rows - 1, ..area }, Some(area.bottom() - 1)),
    };
    let interval = watching.interval();
    let mut endpoints = interval.endpoints();
    view.sort.sort(&mut endpoints);
    // In a small screen the first endpoints are more important than the last of these lines.
    let rows = match area.height {
        18.. => HEAD_ROWS,
        12.. => 4,
        8.. => 2,
        _ => 1,
    };
    let rest = draw_head(buffer, body, &interval, rows);
    if view.help {
        for (line, y) in HELP.iter().zip(rest.top()..rest.bottom()) {
            put(buffer, (rest.x, y), line, Style::new());
        }
    } else {
        draw_tables(buffer, rest, interval.reasons(), (&endpoints, view));
    }
    let remarks = watching.remarks(at).join("; ");
    if !remarks.is_empty() {
        // In a screen of one row they are more important than the figures.
        let row = foot.unwrap_or(area.y);
        let whole_row = format!("{remarks:0$}", usize::from(area.width));
        put(buffer, (area.x, row), &whole_row, alarm(view));
    } else if let Some(row) = foot {
        let dim = Style::new().add_modifier(Modifier::DIM);
        put(buffer, (area.x, row), &keys(endpoints.len(), view), dim);
    }
}

/// All of it as text, in as many lines and columns as it takes.
#[must_use]
pub fn page(watching: &Watching, at: Duration) -> String {
    let interval = watching.interval();
    let (endpoints, reasons) = (interval.endpoints(), interval.reasons());
    let below = if reasons.is_empty() { 0 } else { TITLE_ROWS + reasons.len() };
    let rows = HEAD_ROWS + TITLE_ROWS + endpoints.len() + below;
    let rows = u16::try_from(rows).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, PAGE_WIDTH, rows);
    let mut buffer = Buffer::empty(area);
    let rest = draw_head(&mut buffer, area, &interval, HEAD_ROWS);
    draw_tables(&mut buffer, rest, reasons, (&endpoints, &mut ViewState::default()));
    let mut text = lines(&buffer).join("\n").trim_end().to_owned();
    for remark in watching.remarks(at) {
        text += &format!("\n{}", quiet(&remark));
    }
    text + "\n"
}

/// Rows above the endpoints, where there is room.
const HEAD_ROWS: usize = 6;
/// The titles of a table, and what is free above it.
const TITLE_ROWS: usize = 2;
/// Wide enough for every name.
const PAGE_WIDTH: u16 = 400;

/// The lines of a screen, without white space at their ends.
pub(super) fn lines(buffer: &Buffer) -> Vec<String> {
    let row = |row: &[ratatui::buffer::Cell]| {
        let (mut line, mut skip) = (String::new(), 0);
        for cell in row {
            // What follows a wide character is part of it.
            if skip == 0 {
                line.push_str(cell.symbol());
                skip = Span::raw(cell.symbol()).width();
            }
            skip = skip.saturating_sub(1);
        }
        line.trim_end().to_owned()
    };
    let width = usize::from(buffer.area.width).max(1);
    buffer.content().chunks(width).map(row).collect()
}

/// Writes a line as far as there is room, without what a terminal would follow.
fn put(buffer: &mut Buffer, (x, y): (u16, u16), text: &str, style: Style) {
    let room = buffer.area.right().saturating_sub(x);
    buffer.set_stringn(x, y, quiet(text), usize::from(room), style);
}

/// Writes so many of the first lines; what is left below them.
fn draw_head(buffer: &mut Buffer, area: Rect, interval: &Interval<'_>, rows: usize) -> Rect {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let lines = head(interval);
    for ((at, line), y) in lines.iter().take(rows).enumerate().zip(area.top()..area.bottom()) {
        put(buffer, (area.x, y), line, if at == 0 { bold } else { Style::new() });
    }
    // A free row below more than a few.
    let taken = u16::try_from(rows + usize::from(rows >= 4)).unwrap_or(u16::MAX).min(area.height);
    Rect { y: area.y + taken, height: area.height - taken, ..area }
}

/// Both tables: what went wrong has a third of the rows, or what endpoints leave of them.
fn draw_tables(
    buffer: &mut Buffer,
    area: Rect,
    reasons: Vec<ReasonFigures>,
    (endpoints, view): (&[EndpointFigures], &mut ViewState),
) {
    let fits = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).min(area.height);
    let wanted = if reasons.is_empty() { 0 } else { fits(reasons.len() + TITLE_ROWS) };
    let left = area.height - fits(endpoints.len() + 1);
    let below = match wanted.min(left.max(area.height / 3)) {
        // Titles alone say nothing.
        0..=2 => 0,
        below => below,
    };
    let above = Rect { height: fits(endpoints.len() + 1).min(area.height - below), ..area };
    view.page = usize::from(above.height.saturating_sub(1));
    view.first = view.first.min(endpoints.len().saturating_sub(view.page.max(1)));
    let rows: Vec<_> = endpoints.iter().map(|it| endpoint_cells(it, view)).collect();
    draw_table(buffer, above, &endpoint_columns(endpoints), (&rows, view.first));
    if below > 0 {
        let below = Rect { y: above.bottom() + 1, height: below - 1, ..area };
        let rows: Vec<_> = reasons.into_iter().map(reason_cells).collect();
        draw_table(buffer, below, &REASON_COLUMNS, (&rows, 0));
    }
}

/// The lines above the tables, the most important first.
fn head(interval: &Interval<'_>) -> [String; HEAD_ROWS] {
    let (status, single) = (&interval.now.status, &interval.now.single);
    let whole = |key: &str| number(status[key].as_f64());
    let rate = |name: &str| interval.rate_of(name);
    let times = |name: &str| {
        let of = |part| duration(interval.percentile(part, name));
        format!("p50 {:<9} p90 {:<9} p99 {}", of(0.5), of(0.9), of(0.99))
    };
    let volume = |name: &str| bytes(rate(name));
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"]
        .map(|class| format!("{class} {:<6}", number(interval.rate_of_class(class))));
    let endpoints = status["endpoints"].as_array().map_or(0, Vec::len);
    [
        format!(
            "evenly {}, process {}, {} for {}, generation {}",
            show::text(&status["version"]),
            whole("pid"),
            show::text(&status["stage"]),
            show::time(interval.now.uptime()),
            whole("generation"),
        ),
        format!(
            "requests/s   {:<7} in flight {:<5} connections {} of {}  endpoints {} of {endpoints}",
            number(rate("evenly_requests_total")),
            number(single.get("evenly_requests_in_flight").copied()),
            whole("connections"),
            whole("connections_limit"),
            whole("endpoints_healthy"),
        ),
        format!("duration     {}", times("evenly_request_duration_seconds")),
        format!("first byte   {}", times("evenly_response_first_byte_seconds")),
        format!("responses/s  {}", classes.join(" ")),
        format!(
            "bytes/s      clients sent {}, got {}; targets sent {}, got {}",
            volume("evenly_client_received_bytes_total"),
            volume("evenly_client_sent_bytes_total"),
            volume("evenly_upstream_received_bytes_total"),
            volume("evenly_upstream_sent_bytes_total"),
        ),
    ]
}

/// Where each target has one address its name is enough in a narrow screen.
fn endpoint_columns(endpoints: &[EndpointFigures]) -> [Column; 11] {
    let mut columns = ENDPOINT_COLUMNS;
    let is_one_of_several = |pair: &[&str]| pair[0] == pair[1];
    let mut names: Vec<&str> = endpoints.iter().map(|it| it.target.as_str()).collect();
    names.sort_unstable();
    let has_names = endpoints.iter().all(|it| it.target != it.address);
    if has_names && !names.windows(2).any(is_one_of_several) {
        columns[1].rank = 2;
    }
    columns
}

fn endpoint_cells(it: &EndpointFigures, view: &ViewState) -> Cells<11> {
    let is_named = it.target != it.address;
    let check = it.check.map(|(passed, ms)| {
        let took = duration(ms.map(|ms| ms / 1000.0));
        format!("{} {took}", if passed { "passed" } else { "failed" })
    });
    let state = match it.state.as_str() {
        _ if !view.has_colors => Style::new(),
        "up" => Style::new().fg(Color::Green),
        "down" | "ejected" | "unresolved" => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    };
    let plain = |text: String| (text, Style::new());
    // A target without an address has none of these.
    let known = |text: String| plain(if it.in_flight.is_some() { text } else { String::new() });
    [
        plain(if is_named { it.target.clone() } else { String::new() }),
        plain(it.address.clone()),
        (it.state.clone(), state),
        plain(it.seconds.map(show::time).unwrap_or_default()),
        known(number(it.rate)),
        known(number(it.in_flight)),
        known(number(it.failures)),
        known(number(it.server_errors)),
        known(duration(it.p99)),
        plain(check.unwrap_or_default()),
        plain(it.why.clone()),
    ]
}

fn reason_cells(it: ReasonFigures) -> Cells<4> {
    let cells = [it.event.to_owned(), it.reason, number(it.rate), number(it.total)];
    cells.map(|text| (text, Style::new()))
}

/// The keys, and which endpoints are shown.
fn keys(endpoints: usize, view: &ViewState) -> String {
    let mut keys = format!("q quit  ? help  p pause  s sort: {}", view.sort.word());
    let last = (view.first + view.page).min(endpoints);
    if view.first > 0 || last < endpoints {
        keys += &format!("  endpoints {} to {last} of {endpoints}", view.first + 1);
    }
    keys
}

/// What must not be overlooked.
fn alarm(view: &ViewState) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
    if view.has_colors { style.fg(Color::Yellow) } else { style }
}
