//! `evenly top` on a terminal: what it shows, how it ends, and what it leaves behind.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Evenly, Origin, Screen, Start, until};

const SIZE: (u16, u16) = (100, 30);

fn top(evenly: &Evenly) -> Screen {
    Screen::start(evenly.command(&["top", "--interval", "200ms"]), SIZE)
}

#[test]
fn targets_and_rates_are_shown_until_somebody_quits() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    for keys in ["q", "\x1b", "\x03"] {
        let mut screen = top(&evenly);
        let shown = screen.until_shown(&a.target());
        assert!(shown.starts_with("evenly ") && shown.contains("q quit  ? help"), "{shown}");
        evenly.under_load(|| {
            until("a rate", || {
                let shown = screen.shown();
                let rate = shown.split("requests/s ").nth(1).unwrap();
                rate.split_whitespace().next().unwrap().parse().is_ok_and(|rate: f64| rate > 0.0)
            });
        });
        screen.press(keys);
        assert_eq!(screen.ended().code(), Some(0));
        until("the terminal is as before", || screen.is_given_back());
    }
}

#[test]
fn a_signal_ends_it_as_any_program_but_the_terminal_is_given_back() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut screen = top(&evenly);
        screen.until_shown(&a.target());
        assert!(!screen.is_given_back());
        screen.signal(signal);
        assert_eq!(screen.ended().signal(), Some(signal.as_raw()));
        until("the terminal is as before", || screen.is_given_back());
    }
}

#[test]
fn it_can_be_suspended_and_continued() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let mut screen = top(&evenly);
    for _ in 0..2 {
        screen.until_shown(&a.target());
        screen.press("\x1a");
        until("it is stopped", || screen.is_stopped());
        until("the terminal is as before", || screen.is_given_back());
        screen.signal(Signal::CONT);
        until("it goes on", || !screen.is_stopped() && !screen.is_given_back());
    }
    // The shell has used the terminal meanwhile.
    screen.signal(Signal::STOP);
    until("it is stopped", || screen.is_stopped());
    screen.signal(Signal::CONT);
    screen.until_shown(&a.target());
    screen.press("q");
    assert_eq!(screen.ended().code(), Some(0));
    until("the terminal is as before", || screen.is_given_back());
}

#[test]
fn it_ends_with_its_terminal() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let mut screen = top(&evenly);
    screen.until_shown(&a.target());
    screen.hang_up();
    assert_eq!(screen.ended().code(), Some(1));
}

#[test]
fn keys_that_come_together_are_all_taken() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let screen = top(&evenly);
    screen.until_shown("s sort: file");
    screen.press("ss");
    screen.until_shown("s sort: rate");
    screen.press("\x1b[A\x1b[6~sss");
    screen.until_shown("s sort: file");
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let screen = top(&evenly);
    let row = |shown: String| shown.lines().position(|line| line.contains("q quit"));
    screen.until_shown("s sort: file");
    until("a row of keys at its end", || row(screen.shown()) == Some(29));
    screen.resize((60, 10));
    until("another size", || {
        let shown = screen.shown();
        let is_narrow = shown.lines().all(|line| line.chars().count() <= 60);
        is_narrow && row(shown) == Some(9)
    });
    screen.resize((1, 1));
    until("one character", || screen.shown() == "e");
    screen.resize(SIZE);
    screen.until_shown(&a.target());
}

#[test]
fn an_evenly_that_goes_and_comes_is_asked_on() {
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("evenly.sock");
    let start = || {
        let admin = format!("[admin]\nsocket = {socket:?}\n");
        Start::before(&[&a]).config(&admin).start()
    };
    let mut evenly = start();
    let mut screen = top(&evenly);
    screen.until_shown(&a.target());
    evenly.signal(Signal::TERM);
    assert_eq!(evenly.exit_code(), Some(0));
    let shown = screen.until_shown("asking on: cannot connect to ");
    assert!(shown.contains(&a.target()), "{shown}");
    let evenly = start();
    let shown = screen.until_shown("restarted: process ");
    assert!(!shown.contains("asking on"), "{shown}");
    evenly.signal(Signal::STOP);
    screen.until_shown("s, asking on");
    evenly.signal(Signal::CONT);
    until("an answer", || !screen.shown().contains("asking on"));
    screen.press("q");
    assert_eq!(screen.ended().code(), Some(0));
}

#[test]
fn without_a_terminal_it_says_what_to_do_and_once_needs_none() {
    let a = Origin::named("a");
    let evenly = Evenly::before(&[&a]);
    let (said, code) = evenly.ask(&["top"]);
    let hint = "standard output is no terminal: use evenly top --once, evenly status, or evenly status --json\n";
    assert_eq!((said.ends_with(hint), code), (true, Some(2)), "{said}");
    let top = evenly.command(&["top"]);
    let mut dumb = Command::new("sh");
    dumb.args(["-c", "TERM=dumb exec \"$0\" \"$@\""]).arg(top.get_program()).args(top.get_args());
    let mut screen = Screen::start(dumb, SIZE);
    screen.until_shown("TERM says that this terminal only prints lines: use evenly top --once");
    assert_eq!(screen.ended().code(), Some(2));
    let (said, code) = evenly.ask(&["top", "--once", "--interval", "100ms"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("evenly ") && said.contains(&a.target()), "{said}");
    assert!(said.contains("requests/s   0 ") && !said.contains('\x1b'), "{said}");
    for (interval, remedy) in
        [("99ms", "write 100ms to 1m"), ("61s", "write 100ms"), ("1", "with a unit")]
    {
        let (said, code) = evenly.ask(&["top", "--interval", interval]);
        assert!(code == Some(2) && said.contains(remedy), "{said}");
    }
}
