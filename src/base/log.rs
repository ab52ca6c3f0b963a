//! The program's own log: how a line looks, which lines are written, and where to (standard error).
//!
//! One record is one line whatever its message holds, and at most [`WHOLE`] bytes long. Logging never blocks on the reader of
//! standard error: lines go to a thread that writes them ([`stderr`](super::stderr)), and those that its queue has no room for
//! are lost and counted. The access log is not here.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Record};

use super::lines::WHOLE;
use super::stderr::{Inlet, Queue};
use super::text;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `2026-11-22T13:04:05.123Z INFO  message`.
    #[default]
    Human,
    /// One JSON object per line with `time`, `level`, `module` and `message`.
    Json,
}

/// The variables that hold a filter when the command line has none. The first that is set and not empty counts.
const VARIABLES: [&str; 2] = ["EVENLY_LOG", "RUST_LOG"];

/// What the end of the process waits for at most, so that its last lines are read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines on their way to standard error.
static LINES: Queue = Queue::new();
/// The format, once the command line has been read.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();
/// Whether there is a thread that writes.
static WRITER: OnceLock<bool> = OnceLock::new();

/// Has the log of the process go to standard error, panics included. Lines wait until there is [`start`] or [`finish`]. `level` is a filter as [`parse_filter`] reads it; without one
/// `EVENLY_LOG` counts, then `RUST_LOG`, then `info`. A filter that cannot be read gives `info` and a
/// warning. A second call changes nothing.
pub fn init(format: LogFormat, level: Option<&str>) {
    let spec =
        level.map(str::to_owned).or_else(|| VARIABLES.iter().find_map(|name| variable(name)));
    let filter = spec.as_deref().map_or(Ok(Vec::new()), parse_filter);
    let _ = FORMAT.set(format);
    std::panic::set_hook(Box::new(log_panic));
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info);
    builder.target(env_logger::Target::Pipe(Box::new(Inlet(&LINES))));
    for (module, level) in filter.as_deref().unwrap_or_default() {
        builder.filter(module.as_deref(), *level);
    }
    let started = builder
        .format(move |out, record| {
            out.write_all(line(format, SystemTime::now(), record).as_bytes())
        })
        .try_init();
    if let (Ok(()), Err(problem)) = (started, filter) {
        log::warn!("log level: {problem}; using info");
    }
}

/// Starts the thread that writes. Until then the process has none but its first.
pub fn start() {
    start_writer();
}

/// Starts the thread that writes, unless it runs. Returns whether it runs.
fn start_writer() -> bool {
    let spawn = || {
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(|| LINES.write_all(io::stderr(), notice)).is_ok()
    };
    *WRITER.get_or_init(spawn)
}

/// Waits, a second at most, until what was logged is written: for the end of the process.
pub fn finish() {
    if start_writer() {
        LINES.finish(LAST_LINES);
    } else {
        LINES.write_once(io::stderr(), notice, LAST_LINES);
    }
}

/// The line in the place of lines that are missing.
fn notice(lost: u64) -> String {
    let noun = if lost == 1 { "line is" } else { "lines are" };
    let format = FORMAT.get().copied().unwrap_or_default();
    own_line(
        format,
        Level::Warn,
        &format!("{lost} {noun} missing here: standard error accepted no more"),
    )
}

/// The standard library would write to standard error itself, and the panicking thread would wait for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
    let what = panic.payload_as_str().unwrap_or("a value that is not text");
    log::error!("thread {name:?} panicked{place}: {what}");
    // Only if RUST_BACKTRACE asks for it.
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        trace.to_string().lines().for_each(|line| log::error!("{line}"));
    }
    if thread.name() == Some("main") {
        finish();
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a filter: `debug`, `evenly=debug`, or several of these with commas between them. The
/// levels are `off`, `error`, `warn`, `info`, `debug` and `trace`. A pair without a module is for all
/// modules that no other pair names.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn parse_filter(text: &str) -> Result<Vec<(Option<String>, LevelFilter)>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(directive).collect()
}

fn directive(part: &str) -> Result<(Option<String>, LevelFilter), String> {
    let (module, level) = match part.split_once('=') {
        Some((module, level)) => (Some(module.trim().to_owned()), level.trim()),
        None => (None, part),
    };
    let level = level.parse().map_err(|_| {
        let levels = "off, error, warn, info, debug or trace";
        format!("{level:?} is not a level; write {levels}, or module=level")
    })?;
    Ok((module, level))
}

/// One line for `record`, its line end included.
fn line(format: LogFormat, now: SystemTime, record: &Record<'_>) -> String {
    let (level, message) = (record.level(), record.args().to_string());
    match format {
        LogFormat::Human => human_line(&timestamp(now), level, &message),
        LogFormat::Json => json_line(&timestamp(now), level, record.target(), &message, WHOLE),
    }
}

/// A line that does not come from a log record.
fn own_line(format: LogFormat, level: Level, message: &str) -> String {
    let time = timestamp(SystemTime::now());
    match format {
        LogFormat::Human => human_line(&time, level, message),
        LogFormat::Json => json_line(&time, level, "evenly", message, WHOLE),
    }
}

/// What could forge a line or drive a terminal is escaped.
fn human_line(time: &str, level: Level, message: &str) -> String {
    let mut line = format!("{time} {level:<5} ");
    push_escaped(&mut line, message);
    line.push('\n');
    line
}

/// Appends `message` without its active characters, cut where the line would be longer than [`WHOLE`].
fn push_escaped(line: &mut String, message: &str) {
    for c in message.chars() {
        if line.len() > WHOLE - CUT.len() - LONGEST_ESCAPE - 1 {
            line.push_str(CUT);
            return;
        }
        if text::is_active(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
}

/// The longest line that says why the program ends, in bytes: a file may have many faults.
const LONGEST_END: usize = 64 * 1024;
/// Stands for what did not fit on a line.
const CUT: &str = " ...";
/// Bytes that a character can take: `\u{2028}`.
const LONGEST_ESCAPE: usize = 8;

/// A line of at most `most` bytes.
fn json_line(time: &str, level: Level, module: &str, message: &str, most: usize) -> String {
    #[derive(serde::Serialize)]
    struct Object<'a> {
        time: &'a str,
        level: &'a str,
        module: &'a str,
        message: &'a str,
    }
    let level = level.as_str().to_ascii_lowercase();
    let object = |message| {
        // Strings under fixed keys always serialize; an empty line would be the visible sign that they did not.
        let object = Object { time, level: &level, module, message };
        let mut line = text::quiet_json(serde_json::to_string(&object).unwrap_or_default());
        line.push('\n');
        line
    };
    let mut room = most - object("").len() - CUT.len();
    for (at, c) in message.char_indices() {
        let taken = if text::is_active(c) { 6 } else { c.len_utf8() };
        let taken = taken + usize::from(c == '"' || c == '\\');
        if taken > room {
            return object(&[&message[..at], CUT].concat());
        }
        room -= taken;
    }
    object(message)
}

/// `time` as RFC 3339 in UTC with milliseconds: `2026-11-22T13:04:05.123Z`. What lies before 1970 shows as 1970.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(24);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    );
    text
}

/// `time` as the common log format has it, in UTC: `22/Nov/2026:13:04:05 +0000`.
pub fn clf_timestamp(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let month = usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).unwrap_or(&"???");
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// Year, month and day of the day that is `days` after 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from 1 March of the year 0, so that the leap day is the last day of a year, and
/// repeat in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Whether lines are JSON objects: what [`init`] was called with.
pub fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Writes why the program ends to standard error: as it is, of several lines perhaps, or as one object if lines
/// are to be JSON. [`finish`] must follow.
pub fn fatal(text: &str) {
    if is_json() {
        let time = timestamp(SystemTime::now());
        LINES.push(
            json_line(&time, Level::Error, "evenly", text.trim_end(), LONGEST_END).as_bytes(),
        );
        return;
    }
    for part in text.lines() {
        let mut line = String::new();
        push_escaped(&mut line, part);
        line.push('\n');
        LINES.push(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<T>(message: &str, test: impl FnOnce(&Record<'_>) -> T) -> T {
        test(
            &Record::builder()
                .level(Level::Info)
                .target("evenly::health")
                .args(format_args!("{message}"))
                .build(),
        )
    }

    fn at(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)
    }

    #[test]
    fn timestamps_are_rfc_3339_in_utc_with_milliseconds() {
        let cases = [
            (at(0, 0), "1970-01-01T00:00:00.000Z"),
            (at(951_782_399, 999), "2000-02-28T23:59:59.999Z"),
            (at(951_782_400, 0), "2000-02-29T00:00:00.000Z"),
            (at(951_868_800, 0), "2000-03-01T00:00:00.000Z"),
            (at(1_709_164_800, 7), "2024-02-29T00:00:00.007Z"),
            (at(1_795_352_645, 123), "2026-11-22T13:04:05.123Z"),
            (at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z"),
            (at(253_402_300_799, 0), "9999-12-31T23:59:59.000Z"),
            (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00.000Z"),
        ];
        for (time, expected) in cases {
            assert_eq!(timestamp(time), expected);
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_one_before() {
        let every = |years, year: u64| year.is_multiple_of(years);
        let leap = |year| every(4, year) && (!every(100, year) || every(400, year));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..182_500 {
            assert_eq!(civil_from_days(days), (year, month, day));
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day = day % length + 1;
            month = if day == 1 { month % 12 + 1 } else { month };
            year += u64::from(day == 1 && month == 1);
        }
    }

    #[test]
    fn a_human_line_is_one_line_whatever_the_message_holds() {
        let text = record("a \"b\"\n2026 ERROR forged \u{1b}[31m ü", |record| {
            line(LogFormat::Human, at(0, 5), record)
        });
        assert_eq!(
            text,
            "1970-01-01T00:00:00.005Z INFO  a \"b\"\\n2026 ERROR forged \\u{1b}[31m ü\n"
        );
    }

    #[test]
    fn a_line_is_never_longer_than_a_pipe_takes_whole() {
        for part in ["x", "\u{e4}", "\u{1b}", "\u{2028}", "\"", "\u{1f600}"] {
            for count in [10, 1_000, 3_900, 3_970, 4_100, 50_000] {
                let message = part.repeat(count);
                for format in [LogFormat::Human, LogFormat::Json] {
                    let text = record(&message, |record| line(format, at(0, 5), record));
                    assert!(text.len() <= WHOLE && text.ends_with('\n'), "{}", text.len());
                    assert_eq!(text.matches('\n').count(), 1);
                    let cut = text.trim_end().trim_end_matches("\"}").ends_with(CUT);
                    assert!(cut == (count > 10) || !cut && text.len() > count, "{count}");
                    assert!(!cut || text.len() > WHOLE - 2 * LONGEST_ESCAPE, "{}", text.len());
                    if format == LogFormat::Json {
                        serde_json::from_str::<serde_json::Value>(&text).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_in_a_message_drives_a_terminal() {
        let message = "\u{9b}31m \u{7f} \u{202e}gnp.exe\u{2066} \u{2028} \u{1b}]0;title\u{7}";
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = record(message, |record| line(format, at(0, 5), record));
            assert!(!text.trim_end().contains(text::is_active), "{text}");
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_four_fields() {
        let message = "a \"b\"\n\\ \u{0} \u{1b} ü";
        let text = record(message, |record| line(LogFormat::Json, at(0, 5), record));
        assert_eq!(text.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.005Z",
            "level": "info",
            "module": "evenly::health",
            "message": message,
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn reads_levels_for_all_modules_and_for_one() {
        let cases = [
            ("debug", vec![(None, LevelFilter::Debug)]),
            ("WARN", vec![(None, LevelFilter::Warn)]),
            (
                "warn, evenly::health = trace,",
                vec![
                    (None, LevelFilter::Warn),
                    (Some("evenly::health".to_owned()), LevelFilter::Trace),
                ],
            ),
            ("off", vec![(None, LevelFilter::Off)]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_filter(text), Ok(expected));
        }
    }

    #[test]
    fn refuses_a_level_that_there_is_not() {
        for text in ["loud", "evenly", "evenly=loud", "evenly=", "info,x=y"] {
            assert!(parse_filter(text).unwrap_err().contains("off, error, warn"), "{text}");
        }
    }
}
