//! The keys of the configuration are data (`evenly::config::keys`), and everything that lists them says the same: the
//! program, `config/reference.toml`, `docs/configuration.md` and the README.
//!
//! `UPDATE=1 cargo test --test keys` writes the reference file and the tables of the pages again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use evenly::config;
use evenly::config::keys::{self, ConfigKey, Entry, TABLES, Table};
use evenly::settings::Settings;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect("a file of this repository")
}

/// Compares `expected` with the file of that name, or writes it there.
fn compare(name: &str, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file(name), expected).expect("a file that can be written");
        return;
    }
    let text = text(name);
    let differ = text.lines().zip(expected.lines()).find(|(is, should)| is != should);
    assert!(
        text == expected,
        "{name} is not what src/config/keys makes of it: {differ:?}\nUPDATE=1 cargo test --test keys writes it"
    );
}

/// A file in which `value` is written for the key, and whatever else a valid file needs.
fn with(entry: &Entry, value: &str) -> String {
    let line = format!("{} = {value}\n", entry.key.name);
    let target = "[[targets]]\naddress = \"a:1\"\n";
    match (entry.table.name, entry.key.name) {
        ("", _) => format!("{line}{target}"),
        ("targets", "address") => format!("[[targets]]\n{line}"),
        // Whatever the timeout is, the interval is not shorter.
        ("targets", "timeout") => format!("{target}interval = \"24h\"\n{line}"),
        ("targets", _) => format!("{target}{line}"),
        ("health", "timeout") => format!("{target}[health]\ninterval = \"24h\"\n{line}"),
        _ => format!("{target}{}\n{line}", entry.table.header),
    }
}

fn parsed(entry: &Entry, value: &str) -> Settings {
    let text = with(entry, value);
    config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn plain() -> Settings {
    config::parse("[[targets]]\naddress = \"a:1\"\n", "f").expect("a valid file")
}

/// Keys with a range of numbers, durations or sizes: their least and most as they are written.
fn ranges() -> Vec<(Entry, String, String)> {
    let amount = |entry: &Entry| ["number", "duration", "size"].contains(&entry.key.kind());
    let ends = |entry: Entry| {
        let range = entry.key.range();
        let (least, most) = range.split_once(" to ").expect("a range");
        let least = least.rsplit(' ').next().unwrap_or_default().to_owned();
        let most = most.split([';', ',', ' ']).next().unwrap_or_default().to_owned();
        (entry, least, most)
    };
    keys::entries().into_iter().filter(amount).map(ends).collect()
}

#[test]
fn every_default_reads_back_as_the_default() {
    let mut seen = 0;
    for entry in keys::entries() {
        let Some(default) = entry.key.default() else { continue };
        let mut expected = plain();
        if entry.key.name == "timeout" {
            // What `with` writes beside it.
            expected.plan.targets[0].health.interval = std::time::Duration::from_hours(24);
        }
        assert_eq!(parsed(&entry, &default), expected, "{} = {default}", entry.path);
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn every_example_is_valid_and_not_the_default() {
    for entry in keys::entries() {
        let has_rules = entry.key.default().is_none() || !is_plain(entry.key);
        assert_eq!(!entry.key.example.is_empty(), has_rules, "{}", entry.path);
        if has_rules {
            assert_ne!(parsed(&entry, entry.key.example), plain(), "{}", entry.path);
        }
    }
}

/// Whether other values than the default can be made from its range.
fn is_plain(key: &ConfigKey) -> bool {
    ["number", "duration", "size", "boolean"].contains(&key.kind()) || is_word(key)
}

fn is_word(key: &ConfigKey) -> bool {
    key.kind() == "word"
}

/// A value that is not the default.
fn other(entry: &Entry) -> String {
    let key = entry.key;
    let default = key.default().unwrap_or_default();
    let range = key.range();
    let ends = ranges().into_iter().find(|(other, ..)| other.path == entry.path);
    let mut candidates: Vec<String> = match (ends, key.kind()) {
        (Some((_, least, most)), _) => vec![least, most],
        (None, "boolean") => vec!["true".to_owned(), "false".to_owned()],
        (None, "word") => range.split('"').skip(1).step_by(2).map(|it| format!("{it:?}")).collect(),
        (None, _) => vec![key.example.to_owned()],
    };
    candidates.retain(|value| *value != default);
    candidates.swap_remove(0)
}

#[test]
fn what_a_reload_may_change_is_the_plan_and_the_rest_is_the_boot() {
    for entry in keys::entries() {
        let (plain, changed) = (plain(), parsed(&entry, &other(&entry)));
        assert_eq!(changed.plan != plain.plan, entry.key.reload, "{}", entry.path);
        assert_eq!(changed.boot != plain.boot, !entry.key.reload, "{}", entry.path);
    }
}

/// What an error says to write, each as it stands in a file.
fn remedies(error: &str) -> Vec<String> {
    let remedy = error.rsplit("; ").next().unwrap_or_default();
    let mut values: Vec<String> =
        remedy.split('"').skip(1).step_by(2).map(|text| format!("\"{text}\"")).collect();
    if values.is_empty() || remedy.contains("a number from") {
        let is_number = |word: &&str| word.parse::<u64>().is_ok();
        values.extend(remedy.split([' ', ',']).filter(is_number).map(str::to_owned));
    }
    values
}

#[test]
fn what_an_error_says_to_write_is_valid_for_that_key() {
    let wrong = [
        "5",
        "16384",
        "true",
        "-1",
        "1.5",
        "[1]",
        "\"\"",
        "\"5\"",
        "\"-1s\"",
        "\"x\"",
        "\"1.5h\"",
        "\"16 %\"",
        "\"1500us\"",
        "\"1500 ms\"",
        "\"3 h\"",
        "\"2sec\"",
        "\"9d\"",
        "\"1h1ms\"",
        "\"1KiB1B\"",
        "\"1k\"",
        "\"2gb\"",
        "\"900TB\"",
        "\"30h\"",
        "\"70\"",
        "\"OFF\"",
        "99999999999999",
    ];
    for (entry, ..) in ranges() {
        let mut tried = 0;
        for value in wrong {
            let Err(error) = config::parse(&with(&entry, value), "f") else { continue };
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default();
            for remedy in remedies(line) {
                let valid = config::parse(&with(&entry, &remedy), "f");
                assert!(valid.is_ok(), "{line}\n{remedy} is wrong as well");
                tried += 1;
            }
        }
        assert!(tried >= wrong.len() / 2, "{}: {tried} remedies", entry.path);
    }
}

#[test]
fn a_range_holds_its_ends_and_nothing_beyond() {
    for (entry, least, most) in ranges() {
        for end in [&least, &most] {
            parsed(&entry, end);
        }
        let beyond = |end: &str, by: i64| {
            let bare = end.trim_matches('"');
            let digits = bare.trim_end_matches(|c: char| !c.is_ascii_digit());
            let number = digits.parse::<i64>().expect("a number") + by;
            end.replace(bare, &format!("{number}{}", &bare[digits.len()..]))
        };
        let mut outside = vec![beyond(&most, 1)];
        if !least.trim_matches('"').starts_with(['0', '1']) || least == "1" {
            outside.push(beyond(&least, -1));
        }
        for value in outside {
            let error = config::parse(&with(&entry, &value), "f").expect_err("out of range");
            let line = error.lines().swap_remove(0);
            let range = format!("{least} to {most}");
            assert!(line.contains("is out of range; write "), "{}: {line}", entry.path);
            assert!(line.ends_with(&range), "{}: {line}", entry.path);
        }
    }
}

#[test]
fn every_word_is_valid() {
    for entry in keys::entries().iter().filter(|entry| is_word(entry.key)) {
        let range = entry.key.range();
        let words: Vec<&str> = range.split('"').skip(1).step_by(2).collect();
        let read: Vec<Settings> =
            words.iter().map(|word| parsed(entry, &format!("{word:?}"))).collect();
        assert!(words.len() > 1 && read.windows(2).all(|two| two[0] != two[1]), "{words:?}");
    }
}

#[test]
fn paths_are_unique_and_help_is_one_line_without_a_full_stop() {
    let entries = keys::entries();
    let paths: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths.len(), entries.len());
    for entry in &entries {
        for part in [entry.key.short, entry.key.long] {
            assert!(!part.ends_with(['.', ' ']) && !part.contains(['\n', '|']), "{}", entry.path);
        }
        let length = entry.key.short.chars().count();
        assert!((10..=110).contains(&length), "{}: {length} characters", entry.path);
    }
}

/// `text` as comment lines of at most 100 characters.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.replace('`', "").split_whitespace() {
        let last = lines.last_mut().expect("a line");
        if last.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(format!("# {word}"));
        } else {
            let _ = write!(last, " {word}");
        }
    }
    lines.join("\n") + "\n"
}

fn reference() -> String {
    let mut text = String::from(
        "# Every key, with its range and its default as the value. Keys that are unset by default are\n\
         # commented out. docs/configuration.md says more about each, and so does evenly keys KEY.\n\
         #\n\
         # Durations are whole numbers with ms, s, m or h (\"250ms\", \"5s\", \"1m\", \"1h\"); sizes are whole\n\
         # numbers with B, KiB, MiB or GiB (\"16KiB\"). A number without its unit is an error.\n\
         #\n\
         # This file is written by UPDATE=1 cargo test --test keys from src/config/keys/table.rs.\n",
    );
    for table in TABLES {
        if !table.name.is_empty() {
            let _ = write!(text, "\n{}{}\n", comment(&format!("{}.", table.about)), table.header);
        }
        for key in table.keys {
            let _ =
                write!(text, "\n{}", comment(&format!("{}. Values: {}.", key.short, key.range())));
            let _ = match (key.default(), key.name) {
                (Some(default), _) => writeln!(text, "{} = {default}", key.name),
                (None, "address") => writeln!(text, "{} = {}", key.name, key.example),
                (None, _) => writeln!(text, "# {} = {}", key.name, key.example),
            };
        }
        if let Some(other) = table.overrides {
            let any = format!("Any key of {}, to override it for this target:", other.header);
            let _ = write!(text, "\n{}", comment(&any));
            for key in other.keys {
                let value = key.default().unwrap_or_else(|| key.example.to_owned());
                let _ = writeln!(text, "# {} = {value}", key.name);
            }
        }
    }
    text
}

#[test]
fn the_reference_file_is_made_of_the_keys() {
    compare("config/reference.toml", &reference());
}

/// What stands in quotes as code.
fn code(text: &str) -> String {
    let parts = text.split('"').enumerate();
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => part.to_owned(),
        _ => format!("`\"{part}\"`"),
    };
    parts.map(part).collect()
}

/// The rows of a table of the manual.
fn rows(table: &Table) -> String {
    let mut text = String::from(
        "| key | default | range | reload | what it does |\n| --- | --- | --- | --- | --- |\n",
    );
    for entry in keys::entries().iter().filter(|entry| entry.table.name == table.name) {
        let key = entry.key;
        if entry.overrides.is_some() {
            continue;
        }
        let default = match key.default() {
            Some(default) => format!("`{default}`"),
            None => entry.default(),
        };
        let long = if key.long.is_empty() { String::new() } else { format!(". {}", key.long) };
        // Sections of that page.
        let long = long.replace("(see Names)", "(see [Names](#names))");
        let long = long.replace("(see Memory)", "(see [Memory](#memory))");
        let example = match key.default() {
            None => format!(". Example: `{}`", key.example),
            Some(_) => String::new(),
        };
        let _ = writeln!(
            text,
            "| `{}` | {default} | {} | {} | {}{long}{example} |",
            entry.path,
            code(&key.range()),
            if key.reload { "yes" } else { "no" },
            key.short,
        );
    }
    if let Some(other) = table.overrides {
        let names: Vec<String> =
            other.keys.iter().map(|key| format!("`{}{}`", table.prefix(), key.name)).collect();
        let _ = writeln!(
            text,
            "| {} | as in `{}` | as there | yes | Each overrides the key of its name for this target |",
            names.join(", "),
            other.header,
        );
    }
    text
}

/// `text` with `rows` between the marks of that name.
fn between(text: &str, name: &str, rows: &str) -> String {
    let (begin, end) = (format!("<!-- keys: {name} -->\n"), "<!-- end of keys -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
    let (_, after) = rest.split_once(end).expect("a mark of the end");
    format!("{before}{begin}{rows}{end}{after}")
}

#[test]
fn the_manual_has_a_row_for_each_key() {
    let mut expected = text("docs/configuration.md");
    for table in TABLES {
        let name = if table.name.is_empty() { "top level" } else { table.name };
        expected = between(&expected, name, &rows(table));
    }
    compare("docs/configuration.md", &expected);
}

#[test]
fn the_readme_names_every_key() {
    let mut rows = String::from("| table | keys | |\n| --- | --- | --- |\n");
    for table in TABLES {
        let names: Vec<String> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
        let others = table
            .overrides
            .map(|other| format!("; any `{}` key, to override it for this target", other.header));
        let name = match table.header {
            "" => "top level".to_owned(),
            header => format!("`{header}`"),
        };
        let _ = writeln!(
            rows,
            "| {name} | {}{} | {} |",
            names.join(", "),
            others.unwrap_or_default(),
            table.about
        );
    }
    compare("README.md", &between(&text("README.md"), "all", &rows));
}

fn evenly_keys(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
    command.arg("keys").args(arguments).output().expect("the binary runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn evenly_keys_lists_every_key_in_columns() {
    let output = evenly_keys(&[]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines[0].starts_with("key "), "{}", lines[0]);
    let entries = keys::entries();
    assert_eq!(lines.len(), 1 + entries.len());
    let column = |title: &str| lines[0].find(title).expect("a column");
    for (line, entry) in lines[1..].iter().zip(&entries) {
        let cell = |title: &str| line[column(title)..].split("  ").next().expect("a cell");
        assert_eq!(cell("key"), entry.path);
        assert_eq!(cell("type"), entry.key.kind());
        assert_eq!(cell("default"), entry.default());
        assert_eq!(cell("range"), entry.key.range());
        assert_eq!(cell("reload"), if entry.key.reload { "yes" } else { "no" });
        assert_eq!(cell("what it is"), entry.short().replace('`', ""));
    }
}

#[test]
fn evenly_keys_explains_one_key_and_lists_a_table() {
    let one = evenly_keys(&["limits.memory"]);
    for part in ["limits.memory\n", "16 MiB", "\"1MiB\" to \"1024GiB\"", "default  \"auto\""] {
        assert!(stdout(&one).contains(part), "{}", stdout(&one));
    }
    assert!(stdout(&one).lines().all(|line| line.chars().count() <= 80), "{}", stdout(&one));
    assert_eq!(
        stdout(&evenly_keys(&["targets[1].address"])),
        stdout(&evenly_keys(&["targets.address"]))
    );
    for name in ["retry", "[retry]"] {
        let table = evenly_keys(&[name]);
        assert_eq!(stdout(&table).lines().count(), 5, "{}", stdout(&table));
    }
}

#[test]
fn evenly_keys_says_what_was_meant_and_exits_with_2() {
    let output = evenly_keys(&["health.intervall"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "evenly keys: \"health.intervall\" is not a key; did you mean \"health.interval\"?\n"
    );
}

#[test]
fn evenly_keys_in_json_has_all_that_is_known() {
    let read = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(stdout(&evenly_keys(arguments))).expect("JSON")
    };
    let all = read(&["--json"]);
    let list = all.as_array().expect("a list");
    assert_eq!(list.len(), keys::entries().len());
    let one = read(&["timeouts.connect", "--json"]);
    assert!(list.contains(&one));
    assert_eq!((&one["default"], &one["range"]), (&"\"4s\"".into(), &"\"1ms\" to \"24h\"".into()));
    assert_eq!(read(&["targets.interval", "--json"])["overrides"], "health.interval");
    assert_eq!(read(&["retry", "--json"]).as_array().map(Vec::len), Some(4));
}

#[test]
fn completions_know_the_keys() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["completions", "bash"])
        .output()
        .expect("the binary runs");
    assert!(stdout(&output).contains("timeouts.client_gone"));
}
