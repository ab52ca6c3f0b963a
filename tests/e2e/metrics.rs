//! What `/metrics` says of exchanges, and whether Prometheus can read it.

use rustix::process::Signal;

use crate::harness::{
    ADMIN, Client, Evenly, OpenOnDrop, Origin, Scrape, Start, Then, answer, promtool, until,
};

fn metrics(evenly: &Evenly, accept: &str) -> String {
    evenly.admin("/metrics", &format!("Accept: {accept}\r\n"))
}

/// Waits until a sample has this value.
#[track_caller]
fn counted(evenly: &Evenly, sample: &str, value: f64) {
    until(&format!("{sample} {value}"), || same(Scrape::of(evenly).get(sample), value));
}

fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

fn responses(method: &str, code: &str) -> String {
    format!("evenly_responses_total{{method=\"{method}\",code=\"{code}\"}}")
}

#[test]
fn exchanges_are_counted_by_method_and_code() {
    let origin = Origin::start(|wire, head| {
        let code = head.target().trim_start_matches('/').to_owned();
        match wire.send(format!("HTTP/1.1 {code} Some\r\nContent-Length: 0\r\n\r\n")) {
            Ok(()) => Then::Next,
            Err(_) => Then::Close,
        }
    });
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    let mut client = evenly.client();
    for (method, code) in
        [("GET", 200), ("GET", 200), ("GET", 404), ("DELETE", 204), ("BREW", 418), ("GET", 299)]
    {
        client.send(format!("{method} /{code} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().status, code);
    }
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    for (method, code, count) in [
        ("GET", "200", 2.0),
        ("GET", "404", 1.0),
        ("GET", "2xx", 1.0),
        ("DELETE", "204", 1.0),
        ("_OTHER", "418", 1.0),
        ("_OTHER", "400", 1.0),
    ] {
        counted(&evenly, &responses(method, code), count);
    }
    let scraped = Scrape::of(&evenly);
    assert!(same(scraped.get("evenly_request_duration_seconds_count"), 7.0));
    assert!(same(scraped.get("evenly_response_first_byte_seconds_count"), 7.0));
    assert!(same(scraped.get("evenly_requests_total"), 7.0));
}

#[test]
fn an_exchange_is_in_flight_until_it_ends_and_takes_as_long() {
    let (origin, gate) = Origin::gated();
    let _open = OpenOnDrop(&gate);
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    let mut clients: Vec<Client> = (0..3).map(|_| evenly.client()).collect();
    clients.iter_mut().for_each(|it| it.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    counted(&evenly, "evenly_requests_in_flight", 3.0);
    // One leaves before it was answered.
    drop(clients.pop());
    counted(&evenly, "evenly_requests_in_flight", 2.0);
    counted(&evenly, &responses("GET", "none"), 1.0);
    gate.open();
    clients.iter_mut().for_each(|it| assert_eq!(it.response().status, 200));
    counted(&evenly, "evenly_requests_in_flight", 0.0);
    let scraped = Scrape::of(&evenly);
    let count = |limit: &str| {
        scraped.get(&format!("evenly_request_duration_seconds_bucket{{le=\"{limit}\"}}"))
    };
    assert!(same(count("+Inf"), 3.0) && count("0.005") <= count("10.0"));
    assert!(scraped.get("evenly_request_duration_seconds_sum") > 0.0);
}

#[test]
fn bytes_are_counted_both_ways_to_the_last_one() {
    const LEN: usize = 300_000;
    let origin = Origin::start(|wire, head| {
        let Ok((body, _)) = crate::harness::body_of(wire, head) else { return Then::Close };
        answer(wire, body)
    });
    let evenly = Start::before(&[&origin]).config(ADMIN).start();
    let mut client = evenly.client();
    let asked = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\n\r\n");
    client.send(&asked);
    client.send("x".repeat(LEN));
    assert_eq!(client.response().body.len(), LEN);
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let sent = (asked.len() + LEN) as f64;
    counted(&evenly, "evenly_client_received_bytes_total", sent);
    let scraped = Scrape::of(&evenly);
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let (least, most) = (LEN as f64, (LEN + 1_000) as f64);
    for way in ["client_sent", "upstream_sent", "upstream_received"] {
        let bytes = scraped.get(&format!("evenly_{way}_bytes_total"));
        assert!(bytes > least && bytes < most, "{way}: {bytes}");
    }
}

/// Of one family, the sample of this endpoint, with these labels behind its own.
fn of(endpoint: &Origin, family: &str, more: &str) -> String {
    let at = endpoint.target();
    format!("evenly_endpoint_{family}{{target=\"{at}\",address=\"{at}\"{more}}}")
}

#[test]
fn an_endpoint_has_its_own_counts_also_while_it_is_out() {
    let (mut one, other) = (Origin::named("one"), Origin::named("other"));
    let start = Start::before(&[&one, &other]).watching(&one).workers(1).config(ADMIN);
    let evenly = start.start();
    let mut client = evenly.client();
    for _ in 0..6 {
        client.get("/");
    }
    for endpoint in [&one, &other] {
        counted(&evenly, &of(endpoint, "responses_total", ",class=\"2xx\""), 3.0);
        counted(&evenly, &of(endpoint, "connects_total", ""), 1.0);
        counted(&evenly, &of(endpoint, "connection_reuses_total", ""), 2.0);
        counted(&evenly, &of(endpoint, "request_duration_seconds_count", ""), 3.0);
        counted(&evenly, &of(endpoint, "requests_in_flight", ""), 0.0);
        counted(&evenly, &of(endpoint, "state", ",state=\"up\""), 1.0);
    }
    one.stop();
    counted(&evenly, &of(&one, "state", ",state=\"down\""), 1.0);
    let scraped = Scrape::of(&evenly);
    assert!(scraped.get(&of(&one, "checks_total", ",result=\"failed\"")) >= 2.0);
    assert!(scraped.get(&of(&one, "checks_total", ",result=\"passed\"")) >= 1.0);
    assert!(scraped.get(&of(&one, "check_duration_seconds_sum", "")) > 0.0);
    assert!(same(scraped.get(&of(&one, "responses_total", ",class=\"2xx\"")), 3.0));
    assert!(scraped.get(&of(&one, "state_since_timestamp_seconds", "")) > 1.6e9);
    one.restart();
    counted(&evenly, &of(&one, "state", ",state=\"up\""), 1.0);
    client.get("/");
    client.get("/");
    counted(&evenly, &of(&one, "responses_total", ",class=\"2xx\""), 4.0);
}

#[test]
fn what_an_endpoint_breaks_and_what_is_retried_is_counted_with_it() {
    let (broken, sound) = (Origin::saying("", Then::Close), Origin::named("sound"));
    let evenly = Start::before(&[&broken, &sound]).workers(1).config(ADMIN).start();
    assert_eq!(evenly.client().get("/").text(), "sound");
    assert_eq!(evenly.client().get("/").text(), "sound");
    let scraped = Scrape::of(&evenly);
    let why = ",reason=\"connection_terminated\"";
    let retries = scraped.get(&of(&broken, "retries_total", why));
    assert!(retries >= 1.0 && same(retries, scraped.get(&of(&broken, "failures_total", ""))));
    assert!(same(scraped.get(&of(&sound, "failures_total", "")), 0.0));
}

#[test]
fn a_listening_address_counts_what_it_accepts() {
    let origin = Origin::named("a");
    let start = Start::before(&[&origin]).listen(&["127.0.0.1:0", "127.0.0.1:0"]).config(ADMIN);
    let evenly = start.start();
    for (at, count) in [(0, 3), (1, 1)] {
        (0..count).for_each(|_| drop(Client::to(evenly.addresses[at]).get("/")));
        let listener = evenly.addresses[at];
        let sample = format!("evenly_listener_accepted_total{{listener=\"{listener}\"}}");
        counted(&evenly, &sample, f64::from(count));
    }
}

#[test]
fn a_reload_that_is_refused_shows_until_one_is_applied() {
    let origin = Origin::named("a");
    let at = origin.target();
    let text = format!("listen = \"127.0.0.1:0\"\n{ADMIN}\n[[targets]]\naddress = \"{at}\"\n");
    let evenly = Start::of(&text).start();
    let scraped = Scrape::of(&evenly);
    assert!(same(scraped.get("evenly_config_last_reload_successful"), 1.0));
    assert!(scraped.get("evenly_config_last_reload_success_timestamp_seconds") > 1.6e9);
    std::fs::write(evenly.file(), "nonsense").unwrap();
    evenly.signal(Signal::HUP);
    counted(&evenly, "evenly_config_last_reload_successful", 0.0);
    counted(&evenly, "evenly_config_reloads_refused_total", 1.0);
    std::fs::write(evenly.file(), &text).unwrap();
    evenly.signal(Signal::HUP);
    counted(&evenly, "evenly_config_last_reload_successful", 1.0);
    counted(&evenly, "evenly_config_reloads_applied_total", 1.0);
    counted(&evenly, "evenly_snapshot_generations_alive", 1.0);
}

/// One that has something to show in every family.
fn busy() -> (Evenly, [Origin; 2]) {
    let origins = [Origin::named("a"), Origin::saying("HTTP/1.1 500 No\r\n\r\n", Then::Close)];
    let evenly = Start::before(&[&origins[0], &origins[1]]).config(ADMIN).start();
    for _ in 0..6 {
        evenly.client().get("/");
    }
    (evenly, origins)
}

#[test]
fn promtool_finds_nothing_to_object_to() {
    let (evenly, _origins) = busy();
    let text = metrics(&evenly, "text/plain");
    if let Some((is_clean, said)) = promtool(&["check", "metrics"], &text) {
        assert!(is_clean && said.trim().is_empty(), "{said}\n{text}");
    }
}

#[test]
fn prometheus_reads_what_is_written_as_openmetrics() {
    let (evenly, _origins) = busy();
    let text = metrics(&evenly, "application/openmetrics-text; version=1.0.0, text/plain; q=0.5");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    // What makes a database of it wants a time for each sample, and has the parser that scrapes do.
    let timed: String = text
        .lines()
        .map(|line| match line.starts_with('#') {
            true => format!("{line}\n"),
            false => format!("{line} 1700000000\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, timed).unwrap();
    let blocks = folder.path().join("blocks");
    let (file, blocks) = (file.to_str().unwrap(), blocks.to_str().unwrap());
    let made = promtool(&["tsdb", "create-blocks-from", "openmetrics", file, blocks], "");
    if let Some((is_read, said)) = made {
        assert!(is_read, "{said}\n{text}");
    }
}

#[test]
fn both_forms_say_the_same() {
    let (evenly, _origins) = busy();
    let names = |accept| -> Vec<String> {
        let text = metrics(&evenly, accept);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(names("*/*"), names("application/openmetrics-text"));
}
