//! The alert rules and the dashboard of `config/`: every query parses and asks for what the program exports, and each alert fires in its
//! scenario and none while all is well.
//!
//! A scenario is played with the real program, and its metrics are scraped before and after. promtool is given what grew as growing by so
//! much each minute, and what did not as it was last, and says which alerts fire. What cannot be provoked from outside (a panic) is
//! written into the second scrape by hand.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    ADMIN, Client, Evenly, OpenOnDrop, Origin, Scrape, Start, Then, answer, promtool, until,
};

/// What Prometheus adds to each series.
const SCRAPED: &str = "job=\"evenly\",instance=\"lb:9901\"";

impl Scrape {
    /// Whether a request took longer than three quarters of a second since then.
    fn has_waited(&self, before: &Scrape) -> bool {
        let of = |limit: &str| {
            let sample = format!("evenly_request_duration_seconds_bucket{{le=\"{limit}\"}}");
            self.get(&sample) - before.get(&sample)
        };
        of("+Inf") > of("0.75")
    }

    /// With this value of a sample that is there.
    #[track_caller]
    fn with(mut self, sample: &str, value: f64) -> Scrape {
        *self.samples.get_mut(sample).expect(sample) = value;
        self
    }

    /// The series that promtool is given for an hour that went on as it did from `before` to this.
    fn series(&self, before: &Scrape) -> Vec<Value> {
        let series = self.samples.iter().map(|(sample, &now)| {
            let from = before.get(sample);
            let values = match self.counting.contains(sample) {
                true => format!("{from}+{}x60", now - from),
                false => format!("{now}+0x60"),
            };
            json!({ "series": labelled(sample), "values": values })
        });
        series.collect()
    }
}

/// A sample with the labels that a scrape adds.
fn labelled(sample: &str) -> String {
    match sample.strip_suffix('}') {
        Some(open) => format!("{open},{SCRAPED}}}"),
        None => format!("{sample}{{{SCRAPED}}}"),
    }
}

fn config(file: &str) -> String {
    format!("{}/config/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Has promtool say that these alerts fire after half an hour of these series, and no others.
#[track_caller]
fn fires(series: Vec<Value>, alerts: &[&str]) {
    let mut series = series;
    let has_up = series.iter().any(|it| it["series"].as_str().unwrap().starts_with("up{"));
    if !has_up {
        series.push(json!({ "series": format!("up{{{SCRAPED}}}"), "values": "1+0x60" }));
    }
    let firing = alerts
        .iter()
        .map(|name| json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": 1 }));
    let test = json!({
        "rule_files": [config("alerts.yml")],
        "evaluation_interval": "15s",
        "tests": [{
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [{
                "expr": "group by (alertname) (ALERTS{alertstate=\"firing\"})",
                "eval_time": "30m",
                "exp_samples": firing.collect::<Vec<_>>(),
            }],
        }],
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    // JSON is YAML.
    std::fs::write(&file, test.to_string()).unwrap();
    if let Some((passed, said)) = promtool(&["test", "rules", file.to_str().unwrap()], "") {
        assert!(passed, "{alerts:?}: {said}");
    }
}

/// Plays a scenario with a running program, and has these alerts fire.
#[track_caller]
fn scenario(
    evenly: &Evenly,
    play: impl FnOnce(),
    has_happened: impl Fn(&Scrape) -> bool,
    alerts: &[&str],
) {
    let before = Scrape::of(evenly);
    play();
    let mut after = Scrape::default();
    until("the scenario has happened", || {
        after = Scrape::of(evenly);
        // For a moment a worker may not have seen what has just changed.
        has_happened(&after) && after.get("evenly_snapshot_generations_alive") < 2.0
    });
    let mut series = after.series(&before);
    if !alerts.contains(&"EvenlySlow") && after.has_waited(&before) {
        // This machine stood still: that a request took long was not part of the scenario.
        let is_of_times = |it: &Value| it["series"].as_str().unwrap().contains("_duration_");
        series.retain(|it| !is_of_times(it));
    }
    fires(series, alerts);
}

fn get(evenly: &Evenly, count: usize) {
    (0..count).for_each(|_| drop(evenly.client().get("/")));
}

/// How many responses with this code GET has had.
fn responses(scrape: &Scrape, code: &str) -> f64 {
    scrape.get(&format!("evenly_responses_total{{method=\"GET\",code=\"{code}\"}}"))
}

fn state(scrape: &Scrape, at: &str, state: &str) -> bool {
    let labels = format!("target=\"{at}\",address=\"{at}\",state=\"{state}\"");
    scrape.get(&format!("evenly_endpoint_state{{{labels}}}")) > 0.0
}

#[test]
fn while_all_is_well_no_alert_fires() {
    let (one, other) = (Origin::named("one"), Origin::named("other"));
    let evenly = Start::before(&[&one, &other]).config(ADMIN).start();
    scenario(&evenly, || get(&evenly, 20), |now| responses(now, "200") >= 20.0, &[]);
    // Nobody asks for anything.
    scenario(&evenly, || {}, |_| true, &[]);
}

#[test]
fn a_target_that_is_down_is_an_alert_and_all_of_them_another() {
    let (mut one, mut other) = (Origin::named("one"), Origin::named("other"));
    let start = Start::before(&[&one, &other]).watching(&one).watching(&other).config(ADMIN);
    let evenly = start.start();
    let at = one.target();
    scenario(&evenly, || one.stop(), |now| state(now, &at, "down"), &["EvenlyEndpointOut"]);
    let all = ["EvenlyEndpointOut", "EvenlyManyErrors", "EvenlyNoEndpoint"];
    let stop = || {
        other.stop();
        until("both are down", || {
            get(&evenly, 1);
            responses(&Scrape::of(&evenly), "503") >= 1.0
        });
    };
    let is_none = |now: &Scrape| now.get("evenly_endpoints_healthy") < 1.0;
    scenario(&evenly, stop, is_none, &all);
}

#[test]
fn a_name_without_an_address_is_an_alert() {
    let origin = Origin::named("a");
    let at = origin.target();
    // No name server is there to ask.
    let text = format!(
        "listen = \"127.0.0.1:0\"\n{ADMIN}\n[dns]\nservers = [\"127.0.0.1:1\"]\n\
         [[targets]]\naddress = \"{at}\"\n[[targets]]\naddress = \"no.such.test:80\"\n"
    );
    let evenly = Start::of(&text).start();
    let is_there = |now: &Scrape| now.get("evenly_targets_unresolved") > 0.0;
    scenario(&evenly, || {}, is_there, &["EvenlyTargetUnresolved"]);
}

#[test]
fn server_errors_of_targets_are_an_alert() {
    let fails =
        Origin::start(|wire, _| match wire.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") {
            Ok(()) => Then::Next,
            Err(_) => Then::Close,
        });
    let evenly = Start::before(&[&fails]).config(ADMIN).start();
    scenario(
        &evenly,
        || get(&evenly, 5),
        |now| responses(now, "500") >= 5.0,
        &["EvenlyManyErrors"],
    );
}

#[test]
fn requests_that_take_long_are_an_alert() {
    let slow = Origin::start(|wire, _| {
        // That it takes so long is the scenario.
        std::thread::sleep(Duration::from_millis(1_100));
        answer(wire, "at last")
    });
    let evenly = Start::before(&[&slow]).config(ADMIN).start();
    scenario(&evenly, || get(&evenly, 1), |now| responses(now, "200") >= 1.0, &["EvenlySlow"]);
}

#[test]
fn responses_that_are_cut_are_an_alert() {
    let cuts = Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all", Then::Close);
    let evenly = Start::before(&[&cuts]).config(ADMIN).start();
    let play = || {
        let mut client = evenly.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_response().is_err());
    };
    scenario(&evenly, play, |now| responses(now, "200") >= 1.0, &["EvenlyResponsesCut"]);
}

#[test]
fn endpoints_that_have_all_they_may_have_are_an_alert() {
    let (origin, gate) = Origin::gated();
    let _open = OpenOnDrop(&gate);
    let limit = "[limits]\nrequests_per_target = 1";
    let evenly = Start::before(&[&origin]).config(ADMIN).config(limit).start();
    let mut first = evenly.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the first one is there", || origin.requests() == 1);
    let alerts = ["EvenlyManyErrors", "EvenlyTargetsSaturated"];
    scenario(&evenly, || get(&evenly, 1), |now| responses(now, "503") >= 1.0, &alerts);
    gate.open();
}

#[test]
fn as_many_connections_as_there_may_be_are_an_alert() {
    let origin = Origin::named("a");
    let limit = "[limits]\nconnections = 16";
    let evenly = Start::before(&[&origin]).config(ADMIN).config(limit).start();
    let mut clients: Vec<Client> = (0..16).map(|_| evenly.client()).collect();
    let play = || clients.iter_mut().for_each(|it| assert_eq!(it.get("/").status, 200));
    let are_open = |now: &Scrape| {
        let of = |worker| now.get(&format!("evenly_client_connections{{worker=\"{worker}\"}}"));
        of(0) + of(1) >= 15.0
    };
    scenario(&evenly, play, are_open, &["EvenlyNearConnectionsLimit"]);
}

#[test]
fn a_reload_that_is_refused_is_an_alert() {
    let origin = Origin::named("a");
    let at = origin.target();
    let text = format!("listen = \"127.0.0.1:0\"\n{ADMIN}\n[[targets]]\naddress = \"{at}\"\n");
    let evenly = Start::of(&text).start();
    let play = || {
        std::fs::write(evenly.file(), "nonsense").unwrap();
        evenly.signal(Signal::HUP);
    };
    let is_refused = |now: &Scrape| now.get("evenly_config_reloads_refused_total") >= 1.0;
    scenario(&evenly, play, is_refused, &["EvenlyReloadRefused"]);
}

#[test]
fn lines_that_a_full_disk_does_not_take_are_an_alert() {
    let origin = Origin::named("a");
    let log = "[log]\naccess = \"/dev/full\"";
    let evenly = Start::before(&[&origin]).config(ADMIN).config(log).start();
    let are_lost = |now: &Scrape| now.get("evenly_access_entries_lost_total") >= 3.0;
    scenario(&evenly, || get(&evenly, 3), are_lost, &["EvenlyLogLinesLost"]);
}

#[test]
fn what_cannot_be_provoked_from_outside_is_an_alert_too() {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    let quiet = Scrape::of(&evenly);
    let value = |sample: &str| quiet.get(sample);
    let cases = [
        ("EvenlyWorkerPanicked", "evenly_worker_panics_total", 1.0),
        ("EvenlyWorkerPanicked", "evenly_impossible_states_total", 1.0),
        ("EvenlyShortage", "evenly_own_shortages_total", 2.0),
        ("EvenlyWorkerStuck", "evenly_snapshot_generations_alive", 2.0),
        ("EvenlyFewDescriptors", "process_open_fds", value("process_max_fds")),
        ("EvenlyNearMemoryLimit", "evenly_buffer_bytes", value("evenly_buffer_bytes_limit") * 0.8),
    ];
    for (alert, sample, is) in cases {
        fires(quiet.clone().with(sample, is).series(&quiet), &[alert]);
    }
    let started = value("process_start_time_seconds");
    let restarts = json!({
        "series": labelled("process_start_time_seconds"),
        "values": format!("{started}+60x60"),
    });
    let mut series = quiet.series(&quiet);
    series.retain(|it| it["series"] != restarts["series"]);
    series.push(restarts);
    fires(series, &["EvenlyRestarts"]);
    let gone = json!({ "series": format!("up{{{SCRAPED}}}"), "values": "0+0x60" });
    fires(vec![gone], &["EvenlyGone"]);
}

/// The queries of the rules, with the alert that each is of.
fn rules() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(config("alerts.yml")).unwrap();
    let after = |mark: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(mark));
        lines.map(|rest| rest.trim().to_owned()).collect()
    };
    let (names, queries) = (after("- alert:"), after("expr:"));
    assert_eq!(names.len(), queries.len());
    names.into_iter().zip(queries).collect()
}

/// The queries of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    fn find(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| find(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(config("grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    find(&serde_json::from_str(&text).unwrap(), &mut found);
    let filled = |it: String| it.replace("$__rate_interval", "5m").replace("$instance", ".*");
    found.into_iter().map(filled).collect()
}

/// Has promtool parse these queries.
#[track_caller]
pub(crate) fn can_be_parsed(queries: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    let record = |(at, query)| json!({ "record": format!("q:{at}"), "expr": query });
    let rules: Vec<Value> = queries.iter().enumerate().map(record).collect();
    let groups = json!({ "groups": [{ "name": "queries", "rules": rules }] });
    std::fs::write(&file, groups.to_string()).unwrap();
    are_sound(&file);
}

/// Has promtool say that a file of rules is.
#[track_caller]
fn are_sound(file: &Path) {
    if let Some((is_sound, said)) = promtool(&["check", "rules", file.to_str().unwrap()], "") {
        assert!(is_sound, "{said}");
    }
}

#[test]
fn every_query_can_be_parsed() {
    let queries = queries();
    assert!(queries.len() > 40);
    can_be_parsed(&queries.iter().map(String::as_str).collect::<Vec<_>>());
    are_sound(Path::new(&config("alerts.yml")));
}

/// Names and label names of what is exported, those that a scrape adds included.
fn exported() -> (BTreeSet<String>, BTreeSet<String>) {
    let origin = Origin::named("a");
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    get(&evenly, 1);
    let mut scrape = Scrape::default();
    until("it is counted", || {
        scrape = Scrape::of(&evenly);
        responses(&scrape, "200") > 0.0
    });
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for sample in scrape.samples.keys().map(|it| labelled(it)).chain([format!("up{{{SCRAPED}}}")]) {
        let (name, rest) = sample.split_once('{').unwrap();
        names.insert(name.to_owned());
        let parts = rest.split("\",").filter_map(|part| part.split_once("=\""));
        labels.extend(parts.map(|(label, _)| label.to_owned()));
    }
    (names, labels)
}

/// The words of a query outside its strings.
fn words(query: &str) -> Vec<String> {
    let outside: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = outside.split(|c| !is_part(c)).filter(|it| it.starts_with(char::is_alphabetic));
    words.map(str::to_owned).collect()
}

/// Checks that evenly exports what these queries ask for.
#[track_caller]
pub(crate) fn are_exported(queries: &[&str]) {
    let (names, labels) = exported();
    let language = [
        "by",
        "without",
        "on",
        "group_right",
        "sum",
        "min",
        "max",
        "count",
        "rate",
        "increase",
        "changes",
        "time",
        "or",
        "histogram_quantile",
    ];
    for query in queries {
        for word in words(query) {
            let is_duration = ["m", "s", "h"].iter().any(|unit| word.ends_with(unit))
                && word.starts_with(|c: char| c.is_ascii_digit());
            let is_known = names.contains(&word)
                || labels.contains(&word)
                // Events that have a reason have it as labels.
                || ["reason", "party"].contains(&word.as_str())
                || language.contains(&word.as_str());
            assert!(is_known || is_duration, "{word} is not exported: {query}");
        }
    }
}

#[test]
fn queries_ask_only_for_what_the_program_exports() {
    let queries = queries().into_iter().chain(rules().into_iter().map(|(_, query)| query));
    let queries: Vec<String> = queries.collect();
    are_exported(&queries.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_alert_has_a_scenario_and_says_which_command_shows_more() {
    let here = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/alerts.rs"));
    let (here, text) = (here.unwrap(), std::fs::read_to_string(config("alerts.yml")).unwrap());
    for (alert, _) in rules() {
        assert!(here.contains(&format!("\"{alert}\"")), "{alert} has no scenario");
    }
    let mut said = 0;
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("description: ")) {
        let commands: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let of_evenly = commands.iter().filter_map(|command| command.strip_prefix("evenly "));
        let mut any = false;
        for command in of_evenly {
            let first = command.split(' ').next().unwrap();
            let arguments =
                if first.starts_with("--") { vec![first] } else { vec![first, "--help"] };
            let output = Command::new(env!("CARGO_BIN_EXE_evenly")).args(arguments).output();
            assert!(output.unwrap().status.success(), "evenly {command}");
            any = true;
        }
        assert!(any, "{line}");
        said += 1;
    }
    assert_eq!(said, rules().len());
}
