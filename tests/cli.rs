//! The program as an operator meets it: standard output, standard error and exit codes.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use evenly::base::log::LogFormat;
use evenly::cli::{Cli, Command as Asked};
use evenly::settings::Settings;

const ONE_TARGET: &str = "[[targets]]\naddress = \"a:1\"\n";

fn evenly(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RUST_LOG")
        .env_remove("EVENLY_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// A file with `text`, which lasts as long as the value.
fn file(text: &[u8]) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("room on the disk");
    let name = file.path().to_str().expect("a UTF-8 path").to_owned();
    (file, name)
}

fn parsed(arguments: &[&str]) -> Asked {
    let arguments = ["evenly"].iter().chain(arguments);
    <Cli as clap::Parser>::try_parse_from(arguments).expect("valid arguments").command
}

#[test]
fn check_says_that_a_file_is_valid() {
    for (name, said) in [
        ("config/minimal.toml", "config/minimal.toml: valid, 2 targets\n"),
        ("config/reference.toml", "config/reference.toml: valid, 1 target\n"),
        ("demo/docker/evenly.toml", "demo/docker/evenly.toml: valid, 2 targets\n"),
    ] {
        let output = evenly(&["check", "--config", name]);
        assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(0), said, ""));
    }
}

#[test]
fn check_answers_each_kind_of_mistake_with_one_line_and_exit_code_2() {
    let twice = format!("{ONE_TARGET}{}", ONE_TARGET.replace("a:1", "A:1"));
    let cases: [(&[u8], &str); 10] = [
        (
            b"[health]\nintervall = \"5s\"\n",
            ":2: health.intervall: unknown key; did you mean \"interval\"?\n",
        ),
        (
            b"[health]\ninterval = \"5\"\n",
            ":2: health.interval: \"5\" has no unit; write \"5s\", \"250ms\" or \"1m\"\n",
        ),
        (
            b"workers = true\n",
            ":1: workers: true is a boolean; write \"auto\" or a number from 1 to 1024\n",
        ),
        (b"workers = 0\n", ":1: workers: 0 is out of range; write a number from 1 to 1024\n"),
        (
            twice.as_bytes(),
            ":4: targets[1].address: \"A:1\" is the same target as targets[0].address (line 2); remove one of the two\n",
        ),
        (
            b"targets = []\n",
            ":1: targets: there is no target; add a [[targets]] block with address = \"host:port\"\n",
        ),
        (
            b"",
            ":1: targets: there is no target; add a [[targets]] block with address = \"host:port\"\n",
        ),
        (
            b"[[targets]]\naddress = \"a:0\"\n",
            ":2: targets[0].address: \"a:0\" has port 0; write a port from 1 to 65535\n",
        ),
        (b"\xff", ":1: is not UTF-8 text; save the file as UTF-8\n"),
        (b"[health\n", ":1: not valid TOML: unclosed table, expected `]`; correct this line\n"),
    ];
    for (text, said) in cases {
        let (_file, name) = file(text);
        let output = evenly(&["check", "--config", &name]);
        assert_eq!(stderr(&output), format!("{name}{said}"));
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    }
}

#[test]
fn check_names_a_file_it_cannot_read() {
    for (name, said) in [
        (
            "no/such.toml",
            "no/such.toml: cannot be read: No such file or directory (os error 2); check the path given to --config\n",
        ),
        (
            "config",
            "config: cannot be read: Is a directory (os error 21); pass the TOML file itself\n",
        ),
    ] {
        let output = evenly(&["check", "--config", name]);
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), said));
    }
}

#[test]
fn check_never_binds() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (_file, name) = file(format!("listen = \"{address}\"\n{ONE_TARGET}").as_bytes());
    assert_eq!(evenly(&["check", "--config", &name]).status.code(), Some(0));
}

#[test]
fn usage_errors_exit_with_2_and_say_what_is_missing() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "Usage: evenly <COMMAND>"),
        (
            &["run"],
            "evenly run: needs something to balance; add --config FILE or --target HOST:PORT\n",
        ),
        (&["check"], "--config <FILE>"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["run", "--port", "1"], "unexpected argument '--port'"),
        (&["run", "--target", "a"], "--target: \"a\" has no port; write \"a:80\"\n"),
        (
            &["run", "--target", "a:1", "--workers", "none"],
            "--workers: \"none\" is no such number; write auto or 1 to 1024\n",
        ),
        (&["run", "--target", "a:1", "--log-level", "loud"], "\"loud\" is not a level"),
        (&["run", "--target", "a:1", "--log-format", "xml"], "[possible values: human, json]"),
        (&["run", "--config", "f", "--health-check-endpoint", "/"], "--target <ADDR>"),
        (&["completions", "tcsh"], "[possible values: bash, elvish, fish, powershell, zsh]"),
    ];
    for (arguments, said) in cases {
        let output = evenly(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn help_has_examples_exit_codes_and_signals() {
    let output = evenly(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let parts = [
        "Examples:",
        "evenly run --target",
        "evenly check --config",
        "[[targets]]",
        "Exit codes:",
        "Signals:",
        "SIGTERM, SIGINT",
        "EVENLY_LOG, RUST_LOG",
    ];
    for part in parts {
        assert!(stdout(&output).contains(part), "{part}");
    }
}

#[test]
fn help_of_run_has_every_option_and_the_real_default() {
    let output = evenly(&["run", "--help"]);
    let listen = Settings::default().listen[0];
    let parts = [
        "--config <FILE>",
        "--workers <N>",
        "--listen <ADDR>",
        "--target <ADDR>",
        "--health-check-endpoint <PATH>",
        "--log-format <FORMAT>",
        "--log-level <LEVEL>",
        "takes the place of all [[targets]]",
        "Exit codes: 0 clean stop",
        &format!("[default: {listen}]"),
    ];
    for part in parts {
        assert!(stdout(&output).contains(part), "{part}");
    }
}

#[test]
fn prints_its_version() {
    let output = evenly(&["--version"]);
    assert_eq!(stdout(&output), format!("evenly {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_options_of_run() {
    for shell in ["bash", "zsh", "fish"] {
        let output = evenly(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("health-check-endpoint"), "{shell}");
    }
}

#[test]
fn the_man_page_describes_every_subcommand_and_option() {
    let output = evenly(&["man"]);
    assert_eq!(output.status.code(), Some(0));
    let page = stdout(&output).replace("\\-", "-");
    assert!(page.contains(".TH evenly 1"));
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    for subcommand in command.get_subcommands() {
        assert!(page.contains(&format!(".SH \"evenly {}\"", subcommand.get_name())), "{page}");
        for option in subcommand.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{option}")), "{option}");
        }
    }
    assert!(page.contains("Exit codes:"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .arg("man")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn a_full_standard_output_is_a_failure_with_exit_code_1() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_evenly")).arg("man").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("standard output: "), "{}", stderr(&output));
}

#[test]
fn a_closed_standard_error_does_not_change_the_exit_code() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["check", "--config", "no/such.toml"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn options_may_be_repeated_and_shortened() {
    let Asked::Run(run) =
        parsed(&["run", "-t", "a:1", "--target", "b:1", "-l", "[::]:1", "-w", "2"])
    else {
        panic!("not run")
    };
    assert_eq!((run.target.len(), run.listen.len(), run.workers.as_deref()), (2, 1, Some("2")));
    assert_eq!((run.log_format, run.log_level), (LogFormat::Human, None));
    let Asked::Run(run) =
        parsed(&["run", "-c", "f", "--log-format", "json", "--log-level", "evenly=debug,warn"])
    else {
        panic!("not run")
    };
    assert_eq!(run.log_format, LogFormat::Json);
    assert_eq!(run.log_level.as_deref(), Some("evenly=debug,warn"));
}

#[test]
fn the_demo_listens_on_this_machine_only_unless_told_otherwise() {
    let Asked::Demo(demo) = parsed(&["demo"]) else { panic!("not demo") };
    let settings = evenly::cli::demo_settings(&demo).unwrap();
    assert!(settings.listen.iter().all(|address| address.ip().is_loopback()));
    assert!(settings.targets.is_empty());
    let Asked::Demo(demo) = parsed(&["demo", "--listen", "0.0.0.0:0"]) else { panic!("not demo") };
    let settings = evenly::cli::demo_settings(&demo).unwrap();
    assert_eq!(settings.listen, ["0.0.0.0:0".parse().unwrap()]);
}
