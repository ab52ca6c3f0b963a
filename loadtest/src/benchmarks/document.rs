//! The document: `benchmarks.md` and its charts, from the results alone.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::chart::{Group, bars, figure};
use super::contest::POOL;
use super::extras::AFTER_BURST;
use super::results::{Finding, Results, Row, Target};
use super::statistics::{DELAY, PACED_DELAY};
use super::{PACED_ROUNDS, PACED_SLICE, mixed};
use crate::Failure;

const CPU_CHART: &str = "benchmarks-cpu.svg";
const P99_CHART: &str = "benchmarks-p99.svg";
/// A chart small enough for the README, and the works on it.
const SMALL_CHART: &str = "benchmarks-small.svg";
const SMALL_WORKS: [&str; 2] = ["bare-64", "bare-1800"];
/// Written by hand, where it exists: why targets are missed.
const NOTES: &str = "benchmarks-notes.md";
const DOCUMENT: &str = "benchmarks.md";
const MIXED_CHART: &str = "benchmarks-mixed.svg";
/// What the section about mixed load begins with, and the one behind it.
const MIXED: &str = "## Mixed load\n";
const MEASURED: &str = "## What was measured\n";

/// Writes the document and its charts to a folder.
pub(super) fn write(results: &Results, folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let by_hand = match fs::read_to_string(folder.join(NOTES)) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        text => Some(text?),
    };
    fs::write(folder.join(DOCUMENT), markdown(results, by_hand.as_deref()))?;
    write_mixed_chart(results, folder)?;
    let saturated = |finding: &&Finding| finding.rate.is_none() && contests(finding);
    let cpu = groups(results.works.iter().filter(saturated), |row| row.cpu_micros);
    fs::write(
        folder.join(CPU_CHART),
        bars("CPU time per request (less is better; each group to its own scale)", "us", &cpu),
    )?;
    let few = results.works.iter().filter(|finding| SMALL_WORKS.contains(&&*finding.name));
    fs::write(
        folder.join(SMALL_CHART),
        bars("CPU time per request (less is better)", "us", &groups(few, |row| row.cpu_micros)),
    )?;
    let fixed = results.works.iter().filter(|finding| finding.rate.is_some());
    let p99 = groups(fixed, |row| row.p99);
    fs::write(
        folder.join(P99_CHART),
        bars("Latency p99 at a fixed rate (less is better)", "us", &p99),
    )?;
    Ok(())
}

/// Writes the section about mixed load into the document of an earlier run, and leaves all else as it is.
pub(super) fn write_mixed(results: &Results, folder: &Path) -> Result<(), Failure> {
    let file = folder.join(DOCUMENT);
    let Some(section) = &results.mixed else { return Err(Failure::new("nothing was measured")) };
    let document = spliced(&fs::read_to_string(&file)?, &mixed(section)).ok_or_else(|| {
        Failure::new(format!("{} has no section \"{}\"", file.display(), MEASURED.trim()))
    })?;
    fs::write(file, document)?;
    write_mixed_chart(results, folder)
}

/// The document with another section about mixed load, or with its first one.
fn spliced(document: &str, section: &str) -> Option<String> {
    let end = document.find(MEASURED)?;
    let begin = document[..end].find(MIXED).unwrap_or(end);
    Some(format!("{}{section}\n{}", &document[..begin], &document[end..]))
}

fn write_mixed_chart(results: &Results, folder: &Path) -> Result<(), Failure> {
    let Some(section) = &results.mixed else { return Ok(()) };
    let bar = |row: &mixed::Row| (row.subject.clone(), row.closed[1] / 1000.0);
    let group = |found: &mixed::Found| Group {
        title: format!("beside {}", found.title),
        bars: found.rows.iter().filter(|row| row.requests > 0).map(bar).collect(),
    };
    let groups: Vec<Group> = section.found.iter().map(group).collect();
    let title = "Latency p99 of a small GET beside other load (less is better; each group to its own scale)";
    Ok(fs::write(folder.join(MIXED_CHART), bars(title, "ms", &groups))?)
}

/// Whether all subjects took part, not configurations of evenly alone.
fn contests(finding: &Finding) -> bool {
    finding.rows.iter().any(|row| row.subject == "evenly")
}

fn groups<'a>(findings: impl Iterator<Item = &'a Finding>, of: fn(&Row) -> f64) -> Vec<Group> {
    let bar = |row: &Row| (row.subject.clone(), of(row));
    findings
        .map(|finding| Group {
            title: format!("{}: {}", finding.name, finding.title),
            bars: finding.rows.iter().filter(|row| row.requests > 0).map(bar).collect(),
        })
        .collect()
}

/// The whole document, with what was written by hand.
fn markdown(results: &Results, by_hand: Option<&str>) -> String {
    let mut text = String::from("# Benchmarks\n\n");
    let _ = writeln!(
        text,
        "Written by `{}` on {}, in {:.0} s. Nothing here was typed in{}: `make benchmarks` measures it again.\n",
        results.command,
        results.date,
        results.seconds,
        by_hand.map_or("", |_| ", but for \"What stands in the way\""),
    );
    text += "## Who and where\n\n| subject | version |\n| --- | --- |\n";
    for subject in &results.subjects {
        let said = subject.absent.as_ref().map_or(subject.version.clone(), |why| {
            format!("absent: {}", why.lines().next().unwrap_or_default())
        });
        let _ = writeln!(text, "| {} | {} |", subject.name, cell(&said));
    }
    text.push('\n');
    for (name, value) in &results.machine {
        let _ = writeln!(text, "- {name}: {value}");
    }
    how(results, &mut text);
    text += "\n## What was promised\n\n";
    text += &table_of_targets(results);
    if let Some(notes) = by_hand {
        let _ = write!(text, "\n## What stands in the way\n\n{}\n", notes.trim_end());
    }
    text.push('\n');
    if let Some(section) = &results.mixed {
        text += &mixed(section);
        text.push('\n');
    }
    let _ = write!(
        text,
        "{MEASURED}\n![CPU time per request]({CPU_CHART})\n\n![Latency p99 at a fixed rate]({P99_CHART})\n"
    );
    for finding in &results.works {
        work(finding, &mut text);
    }
    figures(results, &mut text);
    if !results.notes.is_empty() {
        text += "\n## Left out\n\n";
        for note in &results.notes {
            let _ = writeln!(text, "- {}", cell(note));
        }
    }
    text
}

fn how(results: &Results, text: &mut String) {
    let _ = write!(
        text,
        "\n## How\n\n\
         Every subject runs one worker on the first CPU. One thread of `loadtest` on the second is both the clients and the\n\
         server behind the subject, and checks status, length and content of every answer, and of every upload. `floor` is a\n\
         shuttle of bytes in Rust on the same event loop that parses nothing: the least that a proxy can cost here.\n\n\
         - {} rounds of slices that alternate (A B C C B A), {} ms each, on connections that are open and warm; the load runs\n\
         \x20 before a slice begins to count and goes on until it has ended.\n\
         - Ratios are medians of evenly's figure over the other's in the same round, with the least and the most. The machine's\n\
         \x20 speed changes by the minute: ratios say more than absolute figures.\n\
         - Rounds in which someone waited for its core more than {:.0} % of the time ({:.0} % at a fixed rate) are left out,\n\
         \x20 unless fewer than 5 are left; \"waited\" is that share, in the middle of the rounds that count. Where it is large, something else ran here.\n\
         - CPU is the time of all threads and processes of the subject (`/proc/PID/task/*/schedstat`) over the requests answered.\n\
         - Latency at a fixed rate counts from when the request was due, not from when it was sent. The generator's core is full\n\
         \x20 then: it asks for events without sleeping, to be on time. \"sent late\" is by how much it was not, 99th percentile: it\n\
         \x20 includes waiting for a connection that is free. These works have at least {PACED_ROUNDS} rounds of slices of at least {} s.\n\
         - Latencies in the tables are those of all requests of undisturbed rounds together; all else is the median of the rounds.\n\
         - A base of memory is that after 160 requests. Idle connections are opened a few at a time, those in flight all at once.\n\
         \x20 \"After the burst\" is read {:.1} s after the last answer, of everybody, so that buffers can have been returned.\n\
         - `floor` opens a connection to the server for each of its clients; the others keep theirs. evenly keeps up to {POOL}\n\
         \x20 for each target (`limits.idle_per_target`); everything else is as it comes.\n",
        results.rounds,
        results.slice_millis,
        DELAY * 100.0,
        PACED_DELAY * 100.0,
        PACED_SLICE.as_secs(),
        AFTER_BURST.as_secs_f64(),
    );
}

/// The section about mixed load: with its own date, since it can be measured alone.
fn mixed(section: &mixed::Section) -> String {
    let versions: Vec<String> =
        section.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = format!(
        "{MIXED}\n\
         Written by `{}` on {}, in {:.0} s; `--only mixed --write docs` measures this section alone and leaves the others as they\n\
         are. {}. Before other work on the machine: {}.\n\n\
         What an edge sees: how long a small GET waits beside other people's load, and how fast that load is. One worker on the first\n\
         CPU; one thread on the second is clients and server, and serves small answers before bulk, which it discards in the kernel but\n\
         for the first response of each connection, whose content is checked.\n\n\
         - {} clients ask, wait for the answer and ask again after 1 to 3 ms (p50, p99, max); {} requests per second are asked at fixed times\n\
         \x20 and count from these (\"at fixed times\": no request is left out because the one before it was slow). Those that wait when a\n\
         \x20 slice ends are waited for, under the same load.\n\
         - {} rounds of slices that alternate (A B C C B A), {} ms each. Latencies are those of all requests of undisturbed rounds together, all else\n\
         \x20 are medians of the rounds; ratios are medians of the ratios within rounds (least-most).\n\
         - Uploads are counted in bytes of the wire, of which one-byte chunks have six for each of content. CPU is the proxy's for a unit of\n\
         \x20 the load. \"no proxy\" is the generator before its own origin: what it adds to every figure by itself, when its own core is full.\n\
         - Counting begins when every connection of the small requests has had its first answer; \"warm\" is the longest that this took, with all\n\
         \x20 connections of the load opened at the same moment.\n\
         - \"waited\" is the share of time in which the proxy or the generator was ready and did not run, or the host had taken a CPU;\n\
         \x20 rounds above {:.0} % are disturbed, and left out unless fewer than 5 are left.\n\n",
        section.command,
        section.date,
        section.seconds,
        versions.join(", "),
        section.first,
        crate::mixed::ASKING,
        crate::mixed::ASKED,
        section.rounds,
        section.slice_millis,
        DELAY * 100.0,
    );
    text += TARGETS_HEAD;
    for target in &section.targets {
        text += &target_row(target);
    }
    let _ = write!(text, "\n![Latency p99 of a small GET beside other load]({MIXED_CHART})\n");
    for found in &section.found {
        mixed_table(found, &mut text);
    }
    text
}

fn mixed_table(found: &mixed::Found, text: &mut String) {
    let _ = write!(
        text,
        "\n### mixed, {}: a small GET beside {}\n\n\
         | subject | p50 ms | p99 ms | max ms | at fixed times: p50 | p99 | max | {} | evenly's over it | CPU us | their p99 ms | warm ms | its core | generator | waited | calm rounds | failed |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
        found.name, found.title, found.unit
    );
    let ms = |micros: f64| if micros > 0.0 { figure(micros / 1000.0) } else { String::new() };
    for row in &found.rows {
        let [p50, p99, most] = row.closed.map(ms);
        let [open_p50, open_p99, open_most] = row.open.map(ms);
        let ratio = found.ratios.iter().find(|ratios| ratios.subject == row.subject);
        let ratio = ratio.map_or(String::new(), |ratios| ratios.bulk.to_string());
        let theirs = ms(row.visits_p99);
        let _ = writeln!(
            text,
            "| {} | {p50} | {p99} | {most} | {open_p50} | {open_p99} | {open_most} | {} | {ratio} | {} | {theirs} | {} | {:.0} % | {:.0} % | {:.1} % | {} of {} | {} of {} |",
            row.subject,
            figure(row.bulk),
            figure(row.cpu_micros),
            ms(row.warm),
            row.busy * 100.0,
            row.generator_busy * 100.0,
            row.delay * 100.0,
            row.calm,
            row.rounds,
            row.failed,
            row.requests,
        );
    }
    for row in &found.rows {
        if row.failed > 0 {
            let _ = writeln!(text, "\n{} failed: {}.", row.subject, row.faults);
        }
        if let Some(trouble) = &row.trouble {
            let _ = writeln!(text, "\n{} sat out rounds: {}", row.subject, cell(trouble));
        }
    }
}

const TARGETS_HEAD: &str = "| what | target | reached | verdict | floor | command |\n| --- | --- | --- | --- | --- | --- |\n";

fn target_row(target: &Target) -> String {
    let verdict = match target.kept {
        Some(true) => "yes",
        Some(false) => "**no**",
        None if target.reached.is_empty() => "not measured",
        None => "by test",
    };
    let (what, reached) = (cell(&target.what), cell(&target.reached));
    let Target { bound, floor, command, .. } = target;
    let command = if command.is_empty() { String::new() } else { format!("`{command}`") };
    format!("| {what} | {bound} | {reached} | {verdict} | {floor} | {command} |\n")
}

fn table_of_targets(results: &Results) -> String {
    let mut text = String::from(
        "Figures are the median of the rounds (least-most); of a peer that is not named in the row, its name follows. The\n\
         floor's figure is by the same measure, over the same peer: where it misses the target as well, so would any proxy\n\
         that pays for the kernel's work alone. `--only NAME` stands for `target/release/loadtest benchmarks --only NAME`.\n\n",
    );
    text += TARGETS_HEAD;
    for target in &results.targets {
        text += &target_row(target);
    }
    let of = |kept| results.targets.iter().filter(|target| target.kept == kept).count();
    let (yes, no, unknown) = (of(Some(true)), of(Some(false)), of(None));
    let _ = writeln!(text, "\n{yes} of {} are reached; {unknown} are not measured here.", yes + no);
    text
}

/// The targets for a terminal.
pub(super) fn targets(results: &Results) -> String {
    let mixed = results.mixed.iter().flat_map(|section| &section.targets);
    let targets: Vec<&Target> = results.targets.iter().chain(mixed).collect();
    let width = targets.iter().map(|target| target.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for target in targets {
        let verdict = match target.kept {
            Some(true) => "ok    ",
            Some(false) => "MISSED",
            None if target.reached.is_empty() => "absent",
            None => "test  ",
        };
        let floor = match target.floor.as_str() {
            "" => String::new(),
            floor => format!("  [floor {floor}]"),
        };
        let _ = writeln!(
            text,
            "{verdict} {:width$}  {:10} {}{floor}",
            target.what, target.bound, target.reached
        );
    }
    for note in &results.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn work(finding: &Finding, text: &mut String) {
    let rate = finding.rate.map_or(String::new(), |rate| format!(" ({} requests/s)", figure(rate)));
    let _ = write!(
        text,
        "\n### {}: {}{rate}\n\n\
         | subject | CPU us/request | evenly's CPU over it | requests/s | p50 us | p99 us | p99.9 us | {}its core | generator's core | waited | failed |\n\
         | --- | --: | --: | --: | --: | --: | --: | {}--: | --: | --: | --: |\n",
        finding.name,
        finding.title,
        if finding.rate.is_some() { "sent late us | " } else { "" },
        if finding.rate.is_some() { "--: | " } else { "" },
    );
    let evenly_first = contests(finding);
    for row in &finding.rows {
        let ratio = finding.ratios.iter().find(|ratio| ratio.subject == row.subject);
        let ratio = ratio.map_or("1".to_owned(), |ratio| ratio.cpu.to_string());
        let late = finding.rate.map_or(String::new(), |_| format!("{} | ", figure(row.late)));
        let _ = writeln!(
            text,
            "| {} | {} | {ratio} | {} | {} | {} | {} | {late}{:.0} % | {:.0} % | {:.0} % | {} of {} |",
            row.subject,
            figure(row.cpu_micros),
            figure(row.per_second),
            figure(row.p50),
            figure(row.p99),
            figure(row.p999),
            row.busy * 100.0,
            row.generator_busy * 100.0,
            row.delay * 100.0,
            row.failed,
            row.requests
        );
    }
    if !evenly_first {
        text.push_str("\nHere the ratio is of each row over the first one of the same program.\n");
    }
    for row in finding.rows.iter().filter(|row| row.failed > 0) {
        let _ = writeln!(text, "\n{} failed: {}.", row.subject, row.faults);
    }
    for row in &finding.rows {
        if let Some(trouble) = &row.trouble {
            let _ = writeln!(text, "\n{} sat out rounds: {}", row.subject, cell(trouble));
        }
    }
    let limited = |row: &&Row| finding.rate.is_none() && row.is_limited_by_generator();
    if let Some(row) = finding.rows.iter().find(limited) {
        let _ = writeln!(
            text,
            "\nThe generator, not {}, was at its end here: requests/s say less than CPU.",
            row.subject
        );
    }
}

impl Row {
    /// Whether the generator's core was full while the subject's was not.
    pub(super) fn is_limited_by_generator(&self) -> bool {
        self.generator_busy > 0.97 && self.busy < 0.93 && self.requests > 0
    }
}

fn figures(results: &Results, text: &mut String) {
    let mut groups: Vec<&str> = Vec::new();
    for figure in &results.figures {
        if !groups.contains(&&*figure.group) {
            groups.push(&figure.group);
        }
    }
    for group in groups {
        let _ = write!(text, "\n### {group}\n\n| subject | what | |\n| --- | --- | --: |\n");
        for one in results.figures.iter().filter(|one| one.group == group) {
            let value = format!("{} {}", figure(one.value), one.unit);
            let _ = writeln!(text, "| {} | {} | {} |", one.subject, one.what, value.trim_end());
        }
    }
}

/// Text that stays within its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::results::{Figure, Participant, Target};

    fn results() -> Results {
        let row = Row { subject: "evenly".to_owned(), requests: 10, failed: 1, ..Row::default() };
        Results {
            command: "loadtest benchmarks".to_owned(),
            subjects: vec![Participant {
                name: "envoy".to_owned(),
                version: String::new(),
                absent: Some("not | here".to_owned()),
            }],
            works: vec![Finding {
                name: "bare-32".to_owned(),
                title: "GET".to_owned(),
                rate: None,
                rows: vec![row],
                ratios: Vec::new(),
                floors: Vec::new(),
            }],
            figures: vec![Figure {
                group: "Memory".to_owned(),
                subject: "evenly".to_owned(),
                what: "base".to_owned(),
                value: 1.5,
                unit: "MiB".to_owned(),
            }],
            targets: vec![
                Target::at_most("base", 1.5, 4.0, " MiB").by("memory"),
                Target {
                    floor: "1.70".to_owned(),
                    ..Target::at_least("throughput", 1.5, 1.8, "x")
                },
            ],
            ..Results::default()
        }
    }

    #[test]
    fn shows_what_was_reached_beside_what_was_promised() {
        let mut results = results();
        results.refer_to_tests();
        let text = markdown(&results, None);
        let has = |line: &str| assert!(text.contains(line), "{line} in {text}");
        has("| base | <= 4 MiB | 1.50 MiB | yes |  | `--only memory` |");
        has("| throughput | >= 1.8x | 1.50x | **no** | 1.70 |  |");
        has("| allocations: a bare GET | 0 | `a_bare_get_allocates_nothing` | by test |  | `cargo");
        assert!(text.lines().all(|line| line.len() < 300), "{text}");
        assert!(text.contains("1 of 2 are reached"));
        assert!(text.contains("| envoy | absent: not \\| here |"));
        assert!(text.contains("| evenly | base | 1.50 MiB |"));
        assert!(text.contains("1 of 10 |"));
    }

    #[test]
    fn takes_in_what_was_written_by_hand_where_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let written = || fs::read_to_string(folder.path().join("benchmarks.md")).unwrap();
        write(&results(), folder.path()).unwrap();
        assert!(!written().contains("stands in the way"));
        fs::write(folder.path().join(NOTES), "- the **kernel**\n").unwrap();
        write(&results(), folder.path()).unwrap();
        assert!(
            written().contains("\n## What stands in the way\n\n- the **kernel**\n\n## What was")
        );
    }

    fn measured_mixed(date: &str) -> Results {
        let row = mixed::Row { subject: "evenly".to_owned(), requests: 9, ..mixed::Row::default() };
        let found = mixed::Found {
            name: "downloads".to_owned(),
            title: "32 downloads".to_owned(),
            unit: "MiB/s".to_owned(),
            rows: vec![mixed::Row { closed: [1000.0, 2000.0, 3000.0], ..row }],
            ratios: Vec::new(),
        };
        let section = mixed::Section {
            date: date.to_owned(),
            found: vec![found],
            targets: vec![Target::at_most("downloads: p99", 0.5, 1.0, "x").by("mixed")],
            ..mixed::Section::default()
        };
        Results { mixed: Some(section), ..results() }
    }

    #[test]
    fn mixed_load_is_measured_alone_and_all_else_keeps_its_figures_and_date() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DOCUMENT);
        write(&results(), folder.path()).unwrap();
        let without = fs::read_to_string(&file).unwrap();
        write_mixed(&measured_mixed("Monday"), folder.path()).unwrap();
        let first = fs::read_to_string(&file).unwrap();
        assert!(first.contains("| downloads: p99 | <= 1x | 0.50x | yes |  | `--only mixed` |"));
        assert!(first.contains("| evenly | 1.00 | 2.00 | 3.00 |"), "{first}");
        write_mixed(&measured_mixed("Tuesday"), folder.path()).unwrap();
        let second = fs::read_to_string(&file).unwrap();
        assert_eq!(second, first.replace("Monday", "Tuesday"));
        let (before, after) = without.split_once(MEASURED).unwrap();
        assert!(second.starts_with(before) && second.ends_with(after), "{second}");
        // A run of everything writes the same section.
        write(&measured_mixed("Tuesday"), folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), second);
    }

    #[test]
    fn mixed_load_is_not_written_into_a_document_that_has_no_place_for_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DOCUMENT), "# Benchmarks\n").unwrap();
        let error = write_mixed(&measured_mixed("Monday"), folder.path()).unwrap_err();
        assert!(error.to_string().contains("no section \"## What was measured\""), "{error}");
    }

    #[test]
    fn writes_the_document_and_both_charts() {
        let folder = tempfile::tempdir().unwrap();
        write(&results(), folder.path()).unwrap();
        for file in ["benchmarks.md", CPU_CHART, P99_CHART] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
