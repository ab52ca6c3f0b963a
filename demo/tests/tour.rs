//! The tour as a check, and its record: what demo/README.md shows is what happens.
//!
//! It needs `evenly` beside the demo's programs, where `cargo nextest run --workspace` has built it.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use evenly_demo::tour::Page;
use rustix::process::{Pid, Signal, kill_process};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn command() -> Command {
    let mut command = Command::new(DEMO);
    command.args(["tour", "--free-ports"]).stdin(Stdio::null());
    command
}

fn tour(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The first line in which they differ.
fn difference(readme: &str, played: &str) -> Option<String> {
    let ends = [readme, played].map(|text| text.lines().map(Some).chain([None]));
    let [one, other] = ends;
    let (at, (was, is)) = one.zip(other).enumerate().find(|(_, (was, is))| was != is)?;
    Some(format!("line {}:\n  README.md: {was:?}\n  the tour:  {is:?}", at + 1))
}

/// Everything that the tour says is checked by itself; here its record is.
#[test]
fn the_readme_shows_what_the_tour_shows() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("README.md");
    fs::copy(README, &copy).unwrap();
    let ended = tour(&["--write", copy.to_str().unwrap()]);
    let (out, errors) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{errors}\n{out}");
    assert!(!out.contains('\x1b'), "no colours where there is no terminal:\n{out}");
    let wide = out.lines().find(|line| line.chars().count() > 100);
    assert_eq!(wide, None, "no line is longer than 100 columns");
    let texts = [Path::new(README), &copy].map(|file| fs::read_to_string(file).unwrap());
    let [readme, played] = texts.each_ref();
    if let Some(difference) = difference(readme, played) {
        panic!(
            "demo/README.md is not what the tour shows; `make demo-tour-record` writes it. {difference}"
        );
    }
}

#[test]
fn a_tour_that_does_not_come_out_as_told_says_where_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = folder.path().join("evenly");
    // Another process writes it: a file that this one has open for writing cannot be run while any child holds it.
    let written = Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\\necho listening on http://127.0.0.1:9\\nexec sleep 600\\n' > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&stand_in)
        .status()
        .unwrap();
    assert!(written.success());
    let ended = tour(&["--evenly", stand_in.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    let why = text(&ended.stderr);
    assert!(
        why.starts_with("demo: the tour ends in step 1: the client gets a spell; but"),
        "{why}"
    );
    assert!(why.contains("could not connect to spells.test: 127.0.0.1:9"), "{why}");
    assert!(why.contains("evenly | listening on http://127.0.0.1:9"), "{why}");
}

#[test]
fn an_interrupted_tour_ends_at_once_with_all_that_it_has_started() {
    let mut tour = command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tour.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| {
        let (_, address) = line.split_once("http://spells.test:")?;
        Some(format!("127.0.0.1:{}", address.split_once('/')?.0))
    });
    let evenly: SocketAddr = url.unwrap().parse().unwrap();
    assert!(TcpStream::connect(evenly).is_ok());
    kill_process(Pid::from_child(&tour), Signal::INT).unwrap();
    // Its output ends with the last of its children.
    assert!(lines.all(|line| !line.starts_with("8. ")));
    let ended = tour.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(text(&ended.stderr), "demo: the tour was interrupted\n");
    assert!(TcpStream::connect(evenly).is_err());
}

#[test]
fn a_page_without_a_place_for_the_tour_is_refused_before_it_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(&page, "# Nothing\n").unwrap();
    let ended = tour(&["--write", page.to_str().unwrap()]);
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(1), ""));
    assert!(text(&ended.stderr).contains("page.md has no place for the tour"));
    assert_eq!(fs::read_to_string(&page).unwrap(), "# Nothing\n");
    assert!(Page::open(Path::new(README)).is_ok());
}
