//! The program as an operator meets it: standard output, standard error and exit codes.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use evenly::base::log::LogFormat;
use evenly::cli::{Cli, CliCommand as Asked};
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
fn check_shows_each_mistake_with_its_place_and_exits_with_2() {
    let twice = format!("{ONE_TARGET}{}", ONE_TARGET.replace("a:1", "A:1"));
    let none =
        "targets: there is no target; add a [[targets]] block with address = \"host:port\"\n";
    let cases: [(&[u8], String); 8] = [
        (
            b"[health]\nintervall = \"5s\"\n[[targets]]\naddress = \"a:1\"\n",
            ":2:1: health.intervall: unknown key; did you mean \"interval\"?\n  \
             2 | intervall = \"5s\"\n    | ^^^^^^^^^\n"
                .into(),
        ),
        (
            b"[[targets]]\naddress = \"a:1\"\ninterval = \"5\"\n",
            ":3:12: targets[0].interval: \"5\" has no unit; write \"5s\", \"250ms\" or \"1m\"\n  \
             3 | interval = \"5\"\n    |            ^^^\n"
                .into(),
        ),
        (
            twice.as_bytes(),
            ":4:11: targets[1].address: \"A:1\" is the same target as targets[0].address (line 2); \
             remove one of the two\n  4 | address = \"A:1\"\n    |           ^^^^^\n"
                .into(),
        ),
        (b"targets = []\n", format!(":1:11: {none}  1 | targets = []\n    |           ^^\n")),
        (b"", format!(":1: {none}")),
        (
            b"[[targets]]\naddress = \"a:0\"\n",
            ":2:11: targets[0].address: \"a:0\" has port 0; write a port from 1 to 65535\n  \
             2 | address = \"a:0\"\n    |           ^^^^^\n"
                .into(),
        ),
        (b"\xff", ":1: is not UTF-8 text; save the file as UTF-8\n".into()),
        (
            b"[health\n",
            ":1:8: not valid TOML: the name of the table has no end; put ] after it\n  \
             1 | [health\n    |        ^\n"
                .into(),
        ),
    ];
    for (text, said) in cases {
        let (_file, name) = file(text);
        let output = evenly(&["check", "--config", &name]);
        assert_eq!(stderr(&output), format!("{name}{said}"));
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    }
}

#[test]
fn a_file_may_be_given_by_its_name_alone() {
    let output = evenly(&["check", "config/minimal.toml"]);
    assert_eq!(stdout(&output), "config/minimal.toml: valid, 2 targets\n");
    let (_file, name) = file(b"workers = 0\n");
    for arguments in [&["check", name.as_str()], &["run", name.as_str()]] {
        let output = evenly(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).starts_with(&format!("{name}:1:11: workers: 0 is")),
            "{arguments:?}"
        );
    }
    assert_eq!(evenly(&["check", &name, "--config", &name]).status.code(), Some(2));
}

#[test]
fn a_file_may_come_from_standard_input() {
    let check = |text: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenly"))
            .args(["check", "--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(text).expect("a reader");
        child.wait_with_output().expect("the binary ends")
    };
    assert_eq!(stdout(&check(ONE_TARGET.as_bytes())), "-: valid, 1 target\n");
    assert!(stderr(&check(b"workers = 0\n")).starts_with("<stdin>:1:11: workers: 0 is out"));
}

/// A named pipe, in a folder of its own.
fn pipe() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pipe").to_str().expect("a UTF-8 path").to_owned();
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    (folder, path)
}

#[test]
fn a_pipe_is_read_to_its_end_and_one_without_a_writer_is_no_file() {
    let (_folder, path) = pipe();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::write(path, ONE_TARGET)
    });
    assert_eq!(stdout(&evenly(&["check", &path])), format!("{path}: valid, 1 target\n"));
    writer.join().expect("no panic").expect("a reader");
    let output = evenly(&["check", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!("{path}: is a pipe that nobody wrote to for 5 s; pass a file\n")
    );
}

#[test]
fn what_was_meant_is_said_where_it_can_be_guessed() {
    let cases: [(&[&str], &str); 18] = [
        (
            &["config/minimal.toml"],
            "tip: evenly run config/minimal.toml, or evenly check config/minimal.toml",
        ),
        (&["-c", "config/minimal.toml"], "tip: evenly run config/minimal.toml, or"),
        (&["127.0.0.1:1"], "tip: evenly run --target 127.0.0.1:1"),
        (&["serve"], "tip: evenly run FILE"),
        (&["validate", "f.toml"], "tip: evenly check FILE"),
        (&["apply"], "tip: evenly reload FILE"),
        (&["stop"], "tip: evenly drain FILE, or send the process SIGTERM"),
        (&["demo"], "tip: make run, in evenly's source"),
        (&["-v"], "evenly --version prints the version"),
        (&["--port", "80"], "tip: --listen 127.0.0.1:8080 sets address and port"),
        (&["run", "--port", "80"], "tip: --listen 127.0.0.1:8080 sets address and port"),
        (&["run", "-p", "80"], "tip: --listen 127.0.0.1:8080 sets address and port"),
        (&["run", "--upstream=a:1"], "tip: --target HOST:PORT names a server"),
        (&["run", "-f", "f.toml"], "tip: --config FILE names the configuration"),
        (&["run", "--daemon"], "tip: evenly stays in the foreground"),
        (
            &["run", "--target", "a:1", "b:1"],
            "b:1: is not a file; write --target b:1, once for each server",
        ),
        (&["run", "--target", "a:1", "b:1", "c:1"], "tip: give --target once for each server"),
        (
            &["run", "--target", "a:1,b:1"],
            "is more than one address; write a [[targets]] block, or --target, for each",
        ),
    ];
    for (arguments, said) in cases {
        let output = evenly(arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn nothing_is_guessed_where_an_option_itself_is_wrong() {
    for arguments in [
        &["run", "--target", "a:1", "--log-level", "loud"][..],
        &["run", "--log-format", "xml", "--target", "a:1"],
        &["run", "--target", "a:1", "--config"],
    ] {
        let output = evenly(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(!stderr(&output).contains("tip:"), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_fatal_error_is_json_where_the_log_is() {
    let (_file, name) = file(b"workers = 0\nvia = 1\n[[targets]]\naddress = \"a:1\"\n");
    let output = evenly(&["run", &name, "--log-format", "json", "--log-level", "off"]);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<serde_json::Value> = stderr(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[0].starts_with(&format!("{name}:1:11: workers: 0 is")), "{messages:?}");
    assert!(lines.iter().all(|line| line["level"] == "ERROR" || line["level"] == "error"));
}

#[test]
fn check_names_a_file_it_cannot_read() {
    for (name, said) in [
        (
            "no/such.toml",
            "no/such.toml: cannot be read: No such file or directory (os error 2); check the path\n",
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
    let cases: [(&[&str], &str); 17] = [
        (&[], "Usage: evenly <COMMAND>"),
        (
            &["run"],
            "evenly run: needs something to balance; add --config FILE or --target HOST:PORT\n",
        ),
        (&["check"], "<FILE>"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["run", "--port", "1"], "unexpected argument '--port'"),
        (&["run", "--target", "a"], "--target: \"a\" has no port; write \"a:80\"\n"),
        (
            &["run", "--target", "a:1", "--workers", "none"],
            "--workers: \"none\" is not a worker count; use auto or 1 to 1024\n",
        ),
        (
            &["run", "--target", "a:1", "--workers", "-1"],
            "--workers: \"-1\" is not a worker count; use auto or 1 to 1024\n",
        ),
        (&["run", "--target", "a:1", "--log-level", "loud"], "\"loud\" is not a level"),
        (&["run", "--target", "a:1", "--log-format", "xml"], "[possible values: human, json]"),
        (&["run", "--config", "f", "--health-check-endpoint", "/"], "--target <ADDR>"),
        (
            &["reload", "--admin", "127.0.0.1:1", "--socket", "/s"],
            "'--admin <ADDR>' cannot be used",
        ),
        (&["drain", "--admin", "127.0.0.1:1", "f.toml"], "'--admin <ADDR>' cannot be used"),
        (&["undrain", "--token-file", "f"], "--admin <ADDR>"),
        (&["reload", "--admin", "http://a:1/"], "write host:port, such as 127.0.0.1:9901"),
        (
            &["rollback", "--admin", "127.0.0.1:1", "--token-file", "no/such"],
            "--token-file: no token can be read from no/such: No such file",
        ),
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
fn commands_over_tcp_need_a_token_before_anybody_is_asked() {
    let run = |token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenly"));
        command.args(["reload", "--admin", "127.0.0.1:1"]).stdin(Stdio::null());
        command.env_remove("EVENLY_ADMIN_TOKEN");
        command.envs(token.map(|token| ("EVENLY_ADMIN_TOKEN", token)));
        command.output().expect("the binary runs")
    };
    for (token, said) in [
        (None, "give --token-file PATH, or have EVENLY_ADMIN_TOKEN in the environment"),
        (Some(""), "EVENLY_ADMIN_TOKEN in the environment is not a token: it is empty"),
        (Some("t00-short"), "its 9 characters are too few; a token has 16 to 1024"),
    ] {
        let output = run(token);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!stderr(&output).contains("t00-short"), "{}", stderr(&output));
    }
}

#[test]
fn check_does_not_read_the_token() {
    for (value, code) in [("/no/such/token", 0), ("token", 2), ("~/token", 2), ("", 2)] {
        let text = format!("[admin]\ntoken_file = {value:?}\n{ONE_TARGET}");
        let (_file, name) = file(text.as_bytes());
        let output = evenly(&["check", "--config", &name]);
        assert_eq!(output.status.code(), Some(code), "{value}: {}", stderr(&output));
    }
}

#[test]
fn help_has_examples_exit_codes_and_signals() {
    let output = evenly(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let parts = [
        "Examples:",
        "evenly run --target",
        "evenly check /etc/evenly.toml",
        "[[targets]]",
        "Exit codes:",
        "Signals:",
        "SIGTERM, SIGINT",
        "EVENLY_LOG, RUST_LOG",
        "EVENLY_ADMIN_TOKEN",
    ];
    for part in parts {
        assert!(stdout(&output).contains(part), "{part}");
    }
}

#[test]
fn help_of_run_has_every_option_and_the_real_default() {
    let output = evenly(&["run", "--help"]);
    let listen = Settings::default().plan.listen[0];
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
    for word in ["--version", "-V", "version"] {
        let output = evenly(&[word]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stdout(&output), format!("evenly {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn help_is_a_command_too() {
    assert_eq!(stdout(&evenly(&["help"])), stdout(&evenly(&["--help"])));
    assert_eq!(stdout(&evenly(&["help", "run"])), stdout(&evenly(&["run", "--help"])));
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
