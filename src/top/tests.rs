//! Whole screens, from what a running evenly says.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::draw::lines;
use super::watching::Pressed;
use super::{Readout, SortBy, ViewState, Watching, draw, page};

const SECOND: Duration = Duration::from_secs(1);

/// What an evenly with three targets says after it has served so many requests; `a` has most of them, `b` is down.
struct Said {
    pid: u64,
    predecessor: Option<u64>,
    uptime: f64,
    served: u64,
    names: [&'static str; 3],
}

impl Said {
    fn after(seconds: u64, served: u64) -> Said {
        let names = ["http-api-1:8001", "http-api-2:8001", "http-api-3:8001"];
        Said { pid: 4711, predecessor: None, uptime: 61.0 + seconds as f64, served, names }
    }

    fn status(&self) -> Value {
        json!({
            "version": "0.1.0", "pid": self.pid, "predecessor": self.predecessor, "stage": "running",
            "uptime_seconds": self.uptime, "generation": 12, "connections": 340, "connections_limit": 10000,
            "endpoints_healthy": 1, "endpoints": [{}, {}],
            "reasons": {
                "response": {"no_healthy_endpoint": 3},
                "cut": {},
                "retry": {"connection_refused": self.served / 10, "connection_reset": 1},
                "ejection": {},
                "check": {"unexpected_status": 40},
            },
        })
    }

    fn targets(&self) -> Value {
        let endpoint = |address: &str,
                        state: &str,
                        reason: Option<&str>,
                        served: u64,
                        failed: u64| {
            json!({
                "address": address, "state": state, "in_rotation": state == "up", "reason": reason,
                "for_seconds": 4000.0, "in_flight": 2, "override": null,
                "totals": {"responses": served, "connect_failures": failed, "failures": 0},
                "checks": [{"passed": false, "latency_ms": 9.0}, {"passed": state == "up", "latency_ms": 1.25}],
            })
        };
        let [a, b, c] = self.names;
        json!({"targets": [
            {"target": a, "unresolved": null, "endpoints": [endpoint("10.0.0.1:8001", "up", None, self.served, 0)]},
            {"target": b, "unresolved": null, "endpoints": [
                endpoint("10.0.0.2:8001", "down", Some("unexpected_status"), 7, self.served / 10)]},
            {"target": c, "unresolved": "the name does not exist", "endpoints": []},
        ]})
    }

    fn metrics(&self) -> String {
        let served = self.served;
        let a = format!("target=\"{}\",address=\"10.0.0.1:8001\"", self.names[0]);
        let times = |name: &str, labels: &str| {
            format!(
                "{name}_bucket{{{labels}le=\"0.1\"}} {}\n{name}_bucket{{{labels}le=\"0.2\"}} {served}\n\
                 {name}_bucket{{{labels}le=\"+Inf\"}} {served}\n{name}_sum 1\n",
                served / 2
            )
        };
        let (durations, first_bytes) =
            ("evenly_request_duration_seconds", "evenly_response_first_byte_seconds");
        format!(
            "evenly_requests_total {served}\nevenly_requests_in_flight 12\n\
             evenly_client_received_bytes_total {}\nevenly_client_sent_bytes_total {}\n\
             evenly_upstream_received_bytes_total {}\nevenly_upstream_sent_bytes_total {}\n\
             evenly_responses_total{{method=\"GET\",code=\"200\"}} {served}\n\
             evenly_responses_total{{method=\"GET\",code=\"503\"}} 3\n\
             evenly_endpoint_responses_total{{{a},class=\"5xx\"}} {}\n{}{}{}",
            served * 100,
            served * 40_000,
            served * 39_000,
            served * 150,
            served / 4,
            times(durations, ""),
            times(first_bytes, ""),
            times("evenly_endpoint_request_duration_seconds", &format!("{a},")),
        )
    }

    fn readout(&self, at: Duration) -> Readout {
        let (status, targets) = (self.status().to_string(), self.targets().to_string());
        Readout::new(at, (&status, &targets, &self.metrics())).unwrap()
    }
}

/// One that has served 200 requests within the two seconds that have been watched.
fn watched() -> Watching {
    let mut watching = Watching::new(2 * SECOND, Said::after(0, 100).readout(Duration::ZERO));
    watching.took(2 * SECOND, Ok(Said::after(2, 300).readout(2 * SECOND)));
    watching
}

/// The screen of this size at this second.
fn screen(watching: &Watching, size: (u16, u16), second: u32, view: &mut ViewState) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let drawn =
        |frame: &mut ratatui::Frame<'_>| draw(frame.buffer_mut(), watching, second * SECOND, view);
    terminal.draw(drawn).unwrap();
    lines(terminal.backend().buffer())
}

fn shown(watching: &Watching, second: u32) -> String {
    screen(watching, (120, 30), second, &mut ViewState::default()).join("\n")
}

fn press(watching: &mut Watching, view: &mut ViewState, code: KeyCode) -> Pressed {
    view.press(&KeyEvent::new(code, KeyModifiers::NONE), watching)
}

#[track_caller]
fn is(screen: &[String], expected: &str) {
    assert_eq!(screen.join("\n").trim_end(), expected.trim_start_matches('\n').trim_end());
}

#[test]
fn a_wide_screen_has_all_of_it() {
    let screen = screen(&watched(), (130, 20), 2, &mut ViewState::default());
    is(
        &screen,
        "
evenly 0.1.0, process 4711, running for 1m 3s, generation 12
requests/s   100     in flight 12    connections 340 of 10000  endpoints 1 of 2
duration     p50 100 ms    p90 180 ms    p99 198 ms
first byte   p50 100 ms    p90 180 ms    p99 198 ms
responses/s  1xx 0      2xx 100    3xx 0      4xx 0      5xx 0      none 0
bytes/s      clients sent 10.0 kB, got 4.0 MB; targets sent 3.9 MB, got 15.0 kB

target           address        state         for  rate/s  flight  fails/s  5xx/s     p99  last check     reason
http-api-1:8001  10.0.0.1:8001  up          1h 6m     100       2        0     25  198 ms  passed 1.2 ms
http-api-2:8001  10.0.0.2:8001  down        1h 6m       0       2       10      -       -  failed 1.2 ms  unexpected_status
http-api-3:8001  -              unresolved                                                                the name does not exist

event     reason               rate/s  total
retry     connection_refused       10     30
check     unexpected_status         0     40
response  no_healthy_endpoint       0      3
retry     connection_reset          0      1


q quit  ? help  p pause  s sort: file",
    );
}

#[test]
fn a_screen_of_80_columns_and_24_rows_has_what_matters() {
    let screen = screen(&watched(), (80, 24), 2, &mut ViewState::default());
    is(
        &screen,
        "
evenly 0.1.0, process 4711, running for 1m 3s, generation 12
requests/s   100     in flight 12    connections 340 of 10000  endpoints 1 of 2
duration     p50 100 ms    p90 180 ms    p99 198 ms
first byte   p50 100 ms    p90 180 ms    p99 198 ms
responses/s  1xx 0      2xx 100    3xx 0      4xx 0      5xx 0      none 0
bytes/s      clients sent 10.0 kB, got 4.0 MB; targets sent 3.9 MB, got 15.0 kB

target           state         for  rate/s  flight  fails/s     p99  reason
http-api-1:8001  up          1h 6m     100       2        0  198 ms
http-api-2:8001  down        1h 6m       0       2       10       -  unexpected…
http-api-3:8001  unresolved                                          the name d…

event     reason               rate/s  total
retry     connection_refused       10     30
check     unexpected_status         0     40
response  no_healthy_endpoint       0      3
retry     connection_reset          0      1






q quit  ? help  p pause  s sort: file",
    );
}

#[test]
fn a_small_screen_has_the_first_endpoints() {
    let screen = screen(&watched(), (40, 8), 2, &mut ViewState::default());
    is(
        &screen,
        "
evenly 0.1.0, process 4711, running for
requests/s   100     in flight 12    con
target           state       rate/s
http-api-1:8001  up             100
http-api-2:8001  down             0
http-api-3:8001  unresolved

q quit  ? help  p pause  s sort: file",
    );
}

#[test]
fn no_size_of_a_screen_is_too_small() {
    let (mut watching, mut view) = (watched(), ViewState::default());
    watching.took(3 * SECOND, Err("nobody listens there".to_owned()));
    for width in (1..90).step_by(4) {
        for height in 1..26 {
            view.help = !view.help;
            view.first = usize::from(width);
            screen(&watching, (width, height), 3, &mut view);
        }
    }
    view = ViewState::default();
    is(&screen(&watching, (12, 1), 3, &mut view), "no answer fo");
    is(&screen(&watched(), (9, 1), 2, &mut view), "evenly 0.");
    is(&screen(&watched(), (9, 2), 2, &mut view), "evenly 0.\nq quit  ?");
    is(&screen(&watched(), (1, 1), 2, &mut view), "e");
}

#[test]
fn a_page_is_as_wide_and_long_as_what_is_on_it() {
    let page = page(&watched(), 2 * SECOND);
    let wide = screen(&watched(), (200, 30), 2, &mut ViewState::default()).join("\n");
    assert_eq!(page.trim_end(), wide[..wide.find("q quit").unwrap()].trim_end());
    assert!(page.ends_with("\n") && !page.contains(" \n"), "{page}");
}

#[test]
fn a_first_readout_has_no_rates() {
    let watching = Watching::new(SECOND, Said::after(0, 900).readout(Duration::ZERO));
    let shown = shown(&watching, 0);
    for part in ["requests/s   -", "in flight 12", "p50 -", "2xx -", "clients sent -, got -"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn what_two_processes_have_counted_is_not_compared() {
    let next = |said: Said| {
        let mut watching = watched();
        watching.took(3 * SECOND, Ok(said.readout(3 * SECOND)));
        shown(&watching, 3)
    };
    let restarted = next(Said { pid: 4712, uptime: 0.5, ..Said::after(0, 1_000) });
    assert!(restarted.contains("requests/s   -"), "{restarted}");
    assert!(restarted.contains("restarted: process 4712 answers now"), "{restarted}");
    // In a container it is number 1 each time.
    let again = next(Said { uptime: 0.5, ..Said::after(0, 1_000) });
    assert!(again.contains("requests/s   -") && again.contains("restarted: "), "{again}");
    let upgraded =
        next(Said { pid: 4712, predecessor: Some(4711), uptime: 0.5, ..Said::after(0, 310) });
    assert!(upgraded.contains("requests/s   10 "), "{upgraded}");
    assert!(upgraded.contains("upgraded: process 4712 has taken its place"), "{upgraded}");
}

#[test]
fn a_count_that_goes_back_has_no_rate() {
    let mut watching = watched();
    watching.took(3 * SECOND, Ok(Said::after(3, 100).readout(3 * SECOND)));
    let shown = shown(&watching, 3);
    assert!(shown.contains("requests/s   -") && shown.contains("p50 -"), "{shown}");
    assert!(!shown.contains("restarted"), "{shown}");
}

#[test]
fn one_that_does_not_answer_is_said_to_be_silent_until_it_does() {
    let mut watching = watched();
    assert!(!shown(&watching, 7).contains("no answer"));
    assert!(shown(&watching, 9).ends_with("\nno answer for 7s, asking on"));
    watching.took(9 * SECOND, Err("cannot connect\u{1b}[31m".to_owned()));
    let silent = shown(&watching, 9);
    assert!(
        silent.ends_with("\nno answer for 7s, asking on: cannot connect\u{fffd}[31m"),
        "{silent}"
    );
    assert!(silent.contains("10.0.0.1:8001"), "{silent}");
    watching.took(10 * SECOND, Ok(Said::after(10, 400).readout(10 * SECOND)));
    assert!(!shown(&watching, 10).contains("no answer"));
}

#[test]
fn names_do_not_drive_the_terminal() {
    let mut said = Said::after(0, 100);
    said.names = ["a\u{1b}]0;x\u{7}:1", "b\u{9b}31m:1", "c\u{202e}\n:1"];
    let watching = Watching::new(SECOND, said.readout(Duration::ZERO));
    for text in [shown(&watching, 0), page(&watching, Duration::ZERO)] {
        let active = |c: char| c != '\n' && crate::base::text::is_active(c);
        assert!(text.contains("a\u{fffd}]0;x\u{fffd}:1") && !text.contains(active), "{text}");
    }
}

#[test]
fn paused_it_stays_as_it_is_and_then_shows_the_last_interval() {
    let (mut watching, mut view) = (watched(), ViewState::default());
    press(&mut watching, &mut view, KeyCode::Char('p'));
    watching.took(3 * SECOND, Ok(Said::after(3, 310).readout(3 * SECOND)));
    watching.took(4 * SECOND, Ok(Said::after(4, 330).readout(4 * SECOND)));
    let paused = shown(&watching, 4);
    assert!(paused.contains("requests/s   100 "), "{paused}");
    assert!(paused.ends_with("\npaused, 2s old: p goes on, q quits"), "{paused}");
    press(&mut watching, &mut view, KeyCode::Char('p'));
    let on = shown(&watching, 4);
    assert!(on.contains("requests/s   20 ") && !on.contains("paused"), "{on}");
}

#[test]
fn keys_sort_and_scroll_endpoints() {
    let (mut watching, mut view) = (watched(), ViewState::default());
    // The process, titles, two endpoints, the keys.
    let first = |watching: &Watching, view: &mut ViewState| {
        let screen = screen(watching, (80, 5), 2, view);
        (screen[2].split_whitespace().next().unwrap().to_owned(), screen[4].clone())
    };
    let (name, keys) = first(&watching, &mut view);
    assert_eq!(name, "http-api-1:8001");
    assert_eq!(keys, "q quit  ? help  p pause  s sort: file  endpoints 1 to 2 of 3");
    press(&mut watching, &mut view, KeyCode::Down);
    assert_eq!(first(&watching, &mut view).0, "http-api-2:8001");
    press(&mut watching, &mut view, KeyCode::End);
    assert_eq!(first(&watching, &mut view).0, "http-api-2:8001");
    press(&mut watching, &mut view, KeyCode::Up);
    assert_eq!(first(&watching, &mut view).0, "http-api-1:8001");
    press(&mut watching, &mut view, KeyCode::PageDown);
    press(&mut watching, &mut view, KeyCode::PageUp);
    press(&mut watching, &mut view, KeyCode::Char('s'));
    let (name, keys) = first(&watching, &mut view);
    assert_eq!((name.as_str(), view.sort), ("http-api-2:8001", SortBy::State));
    assert!(keys.contains("s sort: state"), "{keys}");
    for sort in [SortBy::Rate, SortBy::Errors, SortBy::Slowness, SortBy::File] {
        press(&mut watching, &mut view, KeyCode::Char('s'));
        assert_eq!(view.sort, sort);
        assert_eq!(first(&watching, &mut view).0, "http-api-1:8001");
    }
}

#[test]
fn keys_end_it_and_help_tells_them() {
    let (mut watching, mut view) = (watched(), ViewState::default());
    press(&mut watching, &mut view, KeyCode::Char('?'));
    let help = screen(&watching, (80, 24), 2, &mut view).join("\n");
    assert!(help.contains("q, Esc, Ctrl-C   quit") && !help.contains("10.0.0.1"), "{help}");
    assert!(help.contains("evenly why TARGET says what it means"), "{help}");
    assert_eq!(press(&mut watching, &mut view, KeyCode::Esc), Pressed::Stay);
    assert!(!view.help);
    for code in [KeyCode::Esc, KeyCode::Char('q')] {
        assert_eq!(press(&mut watching, &mut view, code), Pressed::Quit);
    }
    let mut control =
        |c| view.press(&KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL), &mut watching);
    assert_eq!(control('c'), Pressed::Quit);
    assert_eq!(control('z'), Pressed::Suspend);
    assert_eq!(control('q'), Pressed::Stay);
}

#[test]
fn colors_add_to_words_and_can_be_left_out() {
    let colors = |has_colors| {
        let mut view = ViewState { has_colors, ..ViewState::default() };
        let mut watching = watched();
        watching.took(3 * SECOND, Err("x".to_owned()));
        let mut terminal = Terminal::new(TestBackend::new(120, 30)).unwrap();
        let drawn = |frame: &mut ratatui::Frame<'_>| {
            draw(frame.buffer_mut(), &watching, 3 * SECOND, &mut view);
        };
        terminal.draw(drawn).unwrap();
        let cells = terminal.backend().buffer().content().iter();
        let last = terminal.backend().buffer().content().last().unwrap();
        assert!(last.modifier.contains(Modifier::REVERSED));
        cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert_eq!(colors(false), 0);
    assert!(colors(true) > 120);
}
