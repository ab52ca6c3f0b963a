//! The configuration from outside: what a file becomes, and the one line each mistake is answered with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenly::config::{self, Overrides};
use evenly::settings::{
    AccessFormat, AccessLog, AccessSink, Boot, ControlSocket, Dns, Ejection, HealthCheck, Limits,
    Lockdown, Plan, ProxyStatus, Retry, RunAs, Security, Settings, StatusRanges, Target,
    TargetAddress, TargetState, Tcp, Timeouts, Via, Workers,
};
use proptest::prelude::*;

const ONE_TARGET: &str = "[[targets]]\naddress = \"a:1\"\n";

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn named(host: &str, port: u16) -> TargetAddress {
    TargetAddress::Name { host: host.to_owned(), port }
}

/// The settings of `text` followed by one target.
fn with_target(text: &str) -> Settings {
    let text = format!("{text}\n{ONE_TARGET}");
    config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The errors of `text`, a line each, without the columns: those have tests of their own.
fn error(text: &str) -> String {
    let lines = match config::parse(text, "f.toml") {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.lines(),
    };
    let without_column = |line: String| match line.splitn(4, ':').collect::<Vec<_>>()[..] {
        [file, line, column, rest] if column.parse::<usize>().is_ok() => {
            format!("{file}:{line}:{rest}")
        }
        _ => line,
    };
    lines.into_iter().map(without_column).collect::<Vec<_>>().join("\n")
}

/// Asserts the error of each text, which stands before a valid target.
fn assert_errors(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(error(&format!("{text}\n{ONE_TARGET}")), *expected, "{text}");
    }
}

/// The settings of `--target` options alone.
fn from_targets(targets: &[String]) -> Result<Settings, config::ConfigError> {
    config::from_overrides(&Overrides { targets: targets.to_vec(), ..Overrides::default() })
}

#[test]
fn the_smallest_file_is_two_targets_and_the_defaults() {
    let target = |port| Target {
        address: TargetAddress::Ip(local(port)),
        health: HealthCheck { endpoint: Some("/healthz".into()), ..HealthCheck::default() },
        state: TargetState::Auto,
    };
    let plan = Plan { targets: vec![target(8001), target(8002)], ..Plan::default() };
    let expected = Settings { plan, ..Settings::default() };
    assert_eq!(config::load(&shipped("minimal.toml")), Ok(expected));
}

#[test]
fn the_reference_file_equals_the_defaults() {
    let address = TargetAddress::Ip(local(8001));
    let targets =
        vec![Target { address, health: HealthCheck::default(), state: TargetState::Auto }];
    let plan = Plan { targets, ..Plan::default() };
    let expected = Settings { plan, ..Settings::default() };
    assert_eq!(config::load(&shipped("reference.toml")), Ok(expected));
}

#[test]
fn the_commented_keys_of_the_reference_file_are_valid_too() {
    let text = std::fs::read_to_string(shipped("reference.toml")).unwrap();
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ")) {
            Some(key) => key,
            None => line,
        })
        .collect();
    let settings = config::parse(&uncommented.join("\n"), "reference.toml").unwrap();
    assert_eq!(settings.boot.admin, Some(local(9901)));
    assert_eq!(settings.plan.targets[0].health.endpoint.as_deref(), Some("/healthz"));
}

#[test]
fn every_key_reaches_its_setting() {
    let text = r#"
        listen = ["127.0.0.1:1", "[::1]:2"]
        workers = 3
        spin = 200
        watch = true
        user = "evenly:www"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        via = "all"
        max_hops = 2
        request_id = true
        trace = true
        proxy_status = "all"

        [[targets]]
        address = "A.example:1"
        state = "drain"

        [health]
        interval = "1m"
        timeout = "250ms"
        rise = 2
        fall = 3
        expect = ["200", "301-302", 404]
        host = "h:1"

        [timeouts]
        client_header = "1s"
        client_idle = "2s"
        client_body = "3s"
        client_gone = "10s"
        connect = "4s"
        response_header = "5s"
        response_body = "6s"
        tunnel_idle = "7s"
        upstream_idle = "8s"
        drain_delay = "8s"
        drain = "9s"
        upgrade = "11s"

        [limits]
        head = "8KiB"
        headers = 50
        connections = 1000
        requests_per_target = 77
        idle_per_target = 0
        memory = "48MiB"

        [retry]
        connect_attempts = 2
        replay = false
        budget = 5
        budget_floor = 0

        [ejection]
        connect_failures = 6
        resets = 7
        timeouts = 12
        errors = 8
        time = "9s"
        max_time = "10s"
        share = 11

        [tcp]
        congestion = "cubic"
        defer_accept = "5s"
        reuse_port = true

        [dns]
        servers = ["127.0.0.1", "[::1]:5353"]

        [admin]
        listen = "127.0.0.1:3"
        socket = "/run/a.sock"
        token_file = "/etc/evenly/token"
        [security]
        landlock = "auto"
        seccomp = "on"

        [log]
        access = "/var/log/evenly"
        format = "combined"
    "#;
    let second = Duration::from_secs;
    let settings = config::parse(text, "f").unwrap();
    let networks: Vec<(String, u8)> = settings
        .plan
        .trusted_proxies
        .iter()
        .map(|n| (n.addr().to_string(), n.prefix_len()))
        .collect();
    assert_eq!(networks, [("10.0.0.0".to_owned(), 8), ("::1".to_owned(), 128)]);
    let boot = Boot {
        workers: Workers::Count(3),
        spin: 200,
        watch: true,
        tcp: Tcp {
            congestion: Some("cubic".into()),
            defer_accept: Some(second(5)),
            reuse_port: true,
        },
        dns: Dns { servers: vec![local(53), "[::1]:5353".parse().unwrap()] },
        admin_hosts: Vec::new(),
        admin: Some(local(3)),
        socket: ControlSocket::Path("/run/a.sock".into()),
        token_file: Some("/etc/evenly/token".into()),
        user: Some(RunAs { user: "evenly".to_owned(), group: Some("www".to_owned()) }),
        security: Security { landlock: Lockdown::Auto, seccomp: Lockdown::On },
    };
    let plan = Plan {
        listen: vec![local(1), "[::1]:2".parse().unwrap()],
        targets: vec![Target {
            address: named("a.example", 1),
            health: HealthCheck {
                endpoint: None,
                interval: second(60),
                timeout: Duration::from_millis(250),
                rise: 2,
                fall: 3,
                expect: StatusRanges(vec![(200, 200), (301, 302), (404, 404)]),
                host: Some("h:1".into()),
            },
            state: TargetState::Drain,
        }],
        trusted_proxies: settings.plan.trusted_proxies.clone(),
        via: Via::All,
        max_hops: 2,
        request_id: true,
        trace: true,
        proxy_status: ProxyStatus::All,
        timeouts: Timeouts {
            client_header: second(1),
            client_idle: second(2),
            client_body: second(3),
            client_gone: Some(second(10)),
            connect: second(4),
            response_header: second(5),
            response_body: second(6),
            tunnel_idle: second(7),
            upstream_idle: second(8),
            drain_delay: second(8),
            drain: second(9),
            upgrade: second(11),
        },
        limits: Limits {
            head: 8192,
            headers: 50,
            connections: Some(1000),
            requests_per_target: Some(77),
            idle_per_target: 0,
            memory: Some(48 * 1024 * 1024),
        },
        retry: Retry { connect_attempts: 2, replay: false, budget: 5, budget_floor: 0 },
        ejection: Ejection {
            connect_failures: 6,
            resets: 7,
            timeouts: 12,
            errors: 8,
            time: second(9),
            max_time: second(10),
            share: 11,
        },
        log: AccessLog {
            access: AccessSink::File("/var/log/evenly".into()),
            format: AccessFormat::Combined,
        },
    };
    assert_eq!(settings, Settings { boot, plan });
}

#[test]
fn a_target_wins_over_the_health_table_key_by_key() {
    let text = r#"
        [health]
        interval = "10s"
        timeout = "3s"
        rise = 2
        expect = 204

        [[targets]]
        address = "a:1"
        interval = "20s"
        fall = 4
        expect = "200-399"
        host = "probe.example"

        [[targets]]
        address = "b:1"
    "#;
    let settings = config::parse(text, "f").unwrap();
    let base = HealthCheck {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(3),
        rise: 2,
        expect: StatusRanges(vec![(204, 204)]),
        ..HealthCheck::default()
    };
    let own = HealthCheck {
        interval: Duration::from_secs(20),
        fall: 4,
        expect: StatusRanges(vec![(200, 399)]),
        host: Some("probe.example".into()),
        ..base.clone()
    };
    assert_eq!(settings.plan.targets[0].health, own);
    assert_eq!(settings.plan.targets[1].health, base);
}

#[test]
fn a_default_timeout_gives_way_and_a_written_one_is_an_error() {
    let check = &with_target("[health]\ninterval = \"500ms\"").plan.targets[0].health;
    assert_eq!(check.timeout, Duration::from_millis(500));
    assert_errors(&[(
        "[health]\ninterval = \"1s\"\ntimeout = \"2s\"",
        "f.toml:3: health.timeout: \"2s\" is longer than the interval (health.interval); write at most \"1s\" or lengthen the interval",
    )]);
}

#[test]
fn a_default_ejection_time_gives_way_and_a_written_one_does_not() {
    let times = |text: &str| {
        let ejection = with_target(&format!("[ejection]\n{text}")).plan.ejection;
        (ejection.time, ejection.max_time)
    };
    let second = Duration::from_secs;
    assert_eq!(times("time = \"1h\""), (second(3600), second(3600)));
    assert_eq!(times("max_time = \"2s\""), (second(2), second(2)));
    assert_errors(&[(
        "[ejection]\ntime = \"2s\"\nmax_time = \"1s\"",
        "f.toml:2: ejection.time: \"2s\" is longer than ejection.max_time; write at most \"1s\" or lengthen that",
    )]);
}

#[test]
fn single_values_stand_for_lists_of_one() {
    assert_eq!(with_target("listen = \"127.0.0.1:0\"").plan.listen, [local(0)]);
    assert_eq!(with_target("trusted_proxies = \"::1\"").plan.trusted_proxies.len(), 1);
    assert_eq!(with_target("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]").plan.listen.len(), 2);
}

#[test]
fn unknown_keys_are_answered_with_the_nearest_known_one() {
    assert_errors(&[
        ("worker = 1", "f.toml:1: worker: unknown key; did you mean \"workers\"?"),
        (
            "[health]\n\nintervall = \"5s\"",
            "f.toml:3: health.intervall: unknown key; did you mean \"interval\"?",
        ),
        ("[timeout]", "f.toml:1: timeout: unknown key; did you mean \"timeouts\"?"),
        ("drain = \"1s\"", "f.toml:1: drain: unknown key; \"drain\" belongs in [timeouts]"),
        ("[log]\ncolour = 1", "f.toml:2: log.colour: unknown key; known keys here: access, format"),
        (
            "[[targets]]\naddress = \"b:1\"\n[[targets]]\nadress = \"c:1\"",
            "f.toml:4: targets[1].adress: unknown key; did you mean \"address\"?",
        ),
        (
            "\"a\\nb\" = 1",
            "f.toml:1: \"a\\nb\": unknown key; known keys here: listen, workers, spin, watch, user, trusted_proxies, via, max_hops, request_id, trace, proxy_status, targets, health, timeouts, limits, retry, ejection, tcp, dns, admin, security, log",
        ),
    ]);
}

#[test]
fn wrong_units_are_answered_with_right_ones() {
    assert_errors(&[
        (
            "[health]\ninterval = \"5\"",
            "f.toml:2: health.interval: \"5\" has no unit; write \"5s\", \"250ms\" or \"1m\"",
        ),
        (
            "[health]\ninterval = 5",
            "f.toml:2: health.interval: 5 has no unit; write \"5s\", \"250ms\" or \"1m\"",
        ),
        (
            "[timeouts]\nconnect = \"30 s\"",
            "f.toml:2: timeouts.connect: \"30 s\" has a space in it; write \"30s\"",
        ),
        ("[limits]\nhead = 16384", "f.toml:2: limits.head: 16384 has no unit; write \"16KiB\""),
        (
            "[limits]\nhead = \"16KB\"",
            "f.toml:2: limits.head: \"16KB\" has the unknown unit \"KB\"; write \"16KiB\"",
        ),
        (
            "[timeouts]\ndrain = \"1d\"",
            "f.toml:2: timeouts.drain: \"1d\" has the unknown unit \"d\"; write \"24h\"",
        ),
    ]);
}

#[test]
fn a_word_that_turns_a_limit_off_is_part_of_the_remedy() {
    let durations = "\"off\", or a duration such as \"5s\", \"250ms\" or \"1m\"";
    let sizes = "\"auto\", or a size such as \"1MiB\"";
    let cases = [
        ("timeouts", "client_gone = false", format!("false is a boolean; write {durations}")),
        ("timeouts", "client_gone = 0", format!("0 has no unit; write {durations}")),
        (
            "timeouts",
            "client_gone = \"never\"",
            format!("\"never\" is not a whole number and a unit; write {durations}"),
        ),
        (
            "timeouts",
            "client_gone = \"25h\"",
            "\"25h\" is out of range; write \"off\", or \"0s\" to \"24h\"".to_owned(),
        ),
        ("limits", "memory = false", format!("false is a boolean; write {sizes}")),
        (
            "timeouts",
            "connect = false",
            "false is a boolean; write \"5s\", \"250ms\" or \"1m\"".to_owned(),
        ),
    ];
    for (table, line, expected) in cases {
        let key = line.split(' ').next().expect("a key");
        assert_errors(&[(
            &format!("[{table}]\n{line}"),
            &format!("f.toml:2: {table}.{key}: {expected}"),
        )]);
    }
}

#[test]
fn wrong_types_are_answered_with_what_stands_there() {
    assert_errors(&[
        (
            "listen = 8080",
            "f.toml:1: listen: \"8080\" has no address; write \"127.0.0.1:8080\" for this machine alone, \
             or \"0.0.0.0:8080\" for every IPv4 address of it",
        ),
        (
            "listen = [\"127.0.0.1:1\",\n true]",
            "f.toml:2: listen[1]: true is a boolean; write \"0.0.0.0:8080\", or a list of such addresses",
        ),
        ("workers = \"4\"", "f.toml:1: workers: \"4\" is a string; write 4, without quotes"),
        ("health = true", "f.toml:1: health: true is a boolean; write a table: [health]"),
        (
            "[health]\nrise = 1.5",
            "f.toml:2: health.rise: 1.5 is a fraction; write a number from 1 to 1000",
        ),
        (
            "[health]\ninterval = 07:32:00",
            "f.toml:2: health.interval: 07:32:00 is a date or time; write \"5s\", \"250ms\" or \"1m\"",
        ),
        ("[health]\nhost = []", "f.toml:2: health.host: [...] is a list; write a host name"),
        (
            "[retry]\nreplay = \"yes\"",
            "f.toml:2: retry.replay: \"yes\" is a string; write true, without quotes",
        ),
        (
            "[log]\naccess = {}",
            "f.toml:2: log.access: {...} is a table; write \"off\", \"stdout\" or the path of a file",
        ),
    ]);
    let cases = [
        (
            "targets = [\"a:1\"]",
            "f.toml:1: targets[0]: \"a:1\" is a string; write a table: [[targets]]",
        ),
        (
            "[targets]\naddress = \"a:1\"",
            "f.toml:1: targets: {...} is a table; write [[targets]] in double brackets, once for each target",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn values_out_of_range_are_answered_with_the_range() {
    assert_errors(&[
        (
            "workers = 0",
            "f.toml:1: workers: 0 is out of range; write \"auto\" or a number from 1 to 1024",
        ),
        (
            "workers = 1025",
            "f.toml:1: workers: 1025 is out of range; write \"auto\" or a number from 1 to 1024",
        ),
        (
            "workers = -1",
            "f.toml:1: workers: -1 is out of range; write \"auto\" or a number from 1 to 1024",
        ),
        (
            "workers = 99999999999999999999999999999999999999999",
            "f.toml:1: workers: 99999999999999999999999999999999999999999 is out of range; write \"auto\" or a number from 1 to 1024",
        ),
        (
            "user = \"a b\"",
            "f.toml:1: user: \"a b\" is not a user; write the name of a user, such as \"evenly\", or \"user:group\"",
        ),
        (
            "user = \"a:\"",
            "f.toml:1: user: \"a:\" is not a user; write the name of a user, such as \"evenly\", or \"user:group\"",
        ),
        ("spin = 1001", "f.toml:1: spin: 1001 is out of range; write a number from 0 to 1000"),
        (
            "[health]\nfall = 0",
            "f.toml:2: health.fall: 0 is out of range; write a number from 1 to 1000",
        ),
        (
            "[health]\ninterval = \"1ms\"",
            "f.toml:2: health.interval: \"1ms\" is out of range; write \"10ms\" to \"24h\"",
        ),
        (
            "[health]\nexpect = [200, 600]",
            "f.toml:2: health.expect[1]: 600 is not a status or range within 100 to 599; write 200, \"200-299\" or [\"200\", \"301-302\"]",
        ),
        (
            "[health]\nexpect = \"299-200\"",
            "f.toml:2: health.expect: \"299-200\" is not a status or range within 100 to 599; write 200, \"200-299\" or [\"200\", \"301-302\"]",
        ),
        (
            "[health]\nexpect = []",
            "f.toml:2: health.expect: the list is empty; write 200, \"200-299\" or [\"200\", \"301-302\"]",
        ),
        (
            "[timeouts]\nconnect = \"0s\"",
            "f.toml:2: timeouts.connect: \"0s\" is out of range; write \"1ms\" to \"24h\"",
        ),
        (
            "[timeouts]\ntunnel_idle = \"25h\"",
            "f.toml:2: timeouts.tunnel_idle: \"25h\" is out of range; write \"1ms\" to \"24h\"",
        ),
        (
            "[limits]\nhead = \"65KiB\"",
            "f.toml:2: limits.head: \"65KiB\" is out of range; write \"1KiB\" to \"64KiB\"",
        ),
        (
            "[limits]\nmemory = \"1000KiB\"",
            "f.toml:2: limits.memory: \"1000KiB\" is out of range; write \"auto\", or \"1MiB\" to \"1024GiB\"",
        ),
        (
            "[limits]\nheaders = 257",
            "f.toml:2: limits.headers: 257 is out of range; write a number from 1 to 256",
        ),
        (
            "[retry]\nconnect_attempts = 0",
            "f.toml:2: retry.connect_attempts: 0 is out of range; write a number from 1 to 256",
        ),
        (
            "[ejection]\nresets = 1001",
            "f.toml:2: ejection.resets: 1001 is out of range; write a number from 0 to 1000",
        ),
        (
            "[ejection]\nshare = 101",
            "f.toml:2: ejection.share: 101 is out of range; write a number from 0 to 100",
        ),
        (
            "[ejection]\nmax_time = \"0s\"",
            "f.toml:2: ejection.max_time: \"0s\" is out of range; write \"1ms\" to \"24h\"",
        ),
        (
            "[log]\nformat = \"xml\"",
            "f.toml:2: log.format: \"xml\" is not a format; write \"json\", \"combined\", \"vhost-combined\" or a template such as \"{time} {client} {status}\"",
        ),
        (
            "[tcp]\ncongestion = \"cu bic\"",
            "f.toml:2: tcp.congestion: \"cu bic\" is not a congestion control name; write the kernel's name for one, such as \"cubic\"",
        ),
        (
            "[tcp]\ncongestion = \"sixteen_letters_\"",
            "f.toml:2: tcp.congestion: \"sixteen_letters_\" is not a congestion control name; write the kernel's name for one, such as \"cubic\"",
        ),
        (
            "[tcp]\ndefer_accept = \"1500ms\"",
            "f.toml:2: tcp.defer_accept: \"1500ms\" is not a number of whole seconds; write \"2s\"",
        ),
        (
            "[tcp]\ndefer_accept = \"2m\"",
            "f.toml:2: tcp.defer_accept: \"2m\" is out of range; write \"1s\" to \"1m\"",
        ),
        (
            "[tcp]\ndefer_accept = true",
            "f.toml:2: tcp.defer_accept: true is a boolean; write \"5s\" or \"1m\"",
        ),
        ("[log]\naccess = \"OFF\"", "f.toml:2: log.access: \"OFF\" is misspelt; write \"off\""),
        (
            "trusted_proxies = [\"10.1.2.3/8\"]",
            "f.toml:1: trusted_proxies[0]: \"10.1.2.3/8\" has host bits set; write \"10.0.0.0/8\"",
        ),
    ]);
}

#[test]
fn listen_addresses_are_addresses_and_not_there_twice() {
    assert_errors(&[
        (
            "listen = []",
            "f.toml:1: listen: the list is empty; write \"0.0.0.0:8080\", or a list of such addresses",
        ),
        (
            "listen = [\"[::1]:80\",\n\"[0::1]:80\"]",
            "f.toml:2: listen[1]: \"[0::1]:80\" repeats a listen address; remove one of the two",
        ),
        (
            "listen = \"localhost:80\"",
            "f.toml:1: listen: \"localhost:80\" is not an IP address and port; write \"127.0.0.1:80\"",
        ),
        (
            "listen = \"*:80\"",
            "f.toml:1: listen: \"*:80\" is not an IP address and port; write \"0.0.0.0:80\" for every IPv4 address of this machine, or \"[::]:80\" for those of IPv6 too",
        ),
        (
            "listen = \"::1:80\"",
            "f.toml:1: listen: \"::1:80\" is IPv6 without brackets; write \"[::1]:80\" or \"[::1:80]:8080\"",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:8080\"",
            "f.toml:2: admin.listen: 0.0.0.0:8080 is also a listen address; choose another port",
        ),
    ]);
}

#[test]
fn a_listener_shares_its_address_with_no_other() {
    let cases = [
        (
            "listen = [\"0.0.0.0:80\", \"127.0.0.1:80\"]",
            "1: listen[1]: \"0.0.0.0:80\" listens on \"127.0.0.1:80\" too; remove one of the two",
        ),
        (
            "listen = [\"[::1]:80\", \"[::]:80\"]",
            "1: listen[1]: \"[::]:80\" listens on \"[::1]:80\" too; remove one of the two",
        ),
        (
            "listen = \"0.0.0.0:80\"\n[admin]\nlisten = \"127.0.0.1:80\"",
            "3: admin.listen: 127.0.0.1:80 is part of the listen address 0.0.0.0:80; choose another port",
        ),
        (
            "listen = \"127.0.0.1:80\"\n[admin]\nlisten = \"0.0.0.0:80\"",
            "3: admin.listen: 0.0.0.0:80 includes the listen address 127.0.0.1:80; choose another port",
        ),
        (
            "listen = \"0.0.0.0:80\"\n[admin]\nlisten = \"[::]:80\"",
            "3: admin.listen: [::]:80 includes the listen address 0.0.0.0:80; choose another port",
        ),
        (
            "[admin]\nlisten = \":9901\"",
            "2: admin.listen: \":9901\" has no address; write \"127.0.0.1:9901\"",
        ),
        (
            "[admin]\nlisten = 9901",
            "2: admin.listen: \"9901\" has no address; write \"127.0.0.1:9901\"",
        ),
    ];
    for (text, expected) in cases {
        assert_errors(&[(text, &format!("f.toml:{expected}"))]);
    }
    assert_eq!(with_target("listen = [\"0.0.0.0:80\", \"[::]:80\"]").plan.listen.len(), 2);
}

/// An address of this machine that is not on loopback, where it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: the kernel chooses the address from which it would.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn a_target_that_leads_back_to_evenly_is_refused() {
    let refused = |listen: &str, target: &str| {
        let text = format!("listen = {listen}\n[[targets]]\naddress = \"{target}\"\n");
        match config::parse(&text, "f.toml") {
            Ok(_) => false,
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with("f.toml:3:11: targets[0].address: "), "{error}");
                assert!(
                    error.contains("leads back to evenly itself, which listens on "),
                    "{error}"
                );
                true
            }
        }
    };
    assert!(refused("\"127.0.0.1:80\"", "127.0.0.1:80"));
    assert!(refused("\"0.0.0.0:80\"", "127.0.0.1:80"));
    assert!(refused("\"0.0.0.0:80\"", "127.0.0.2:80"));
    assert!(refused("\"[::]:80\"", "127.0.0.1:80"));
    assert!(refused("\"[::]:80\"", "[::1]:80"));
    assert!(refused("[\"10.0.0.1:81\", \"0.0.0.0:80\"]", "localhost:80"));
    assert!(refused("\"10.0.0.1:80\"", "10.0.0.1:80"));
    if let Some(ip) = own_address() {
        assert!(refused("\"0.0.0.0:80\"", &SocketAddr::new(ip, 80).to_string()));
    }
    assert!(!refused("\"0.0.0.0:80\"", "127.0.0.1:81"));
    assert!(!refused("\"0.0.0.0:80\"", "[::1]:80"));
    assert!(!refused("\"0.0.0.0:80\"", "192.0.2.1:80"));
    assert!(!refused("\"127.0.0.1:80\"", "127.0.0.2:80"));
    assert!(!refused("\"127.0.0.1:0\"", "127.0.0.1:80"));

    let overrides = Overrides {
        listen: vec!["127.0.0.1:80".into()],
        targets: vec!["a:1".into(), "127.0.0.1:80".into()],
        ..Overrides::default()
    };
    let error = config::from_overrides(&overrides).unwrap_err();
    assert_eq!(error.key(), Some("--target"), "{error}");
    assert_errors(&[(
        "[admin]\nlisten = \"127.0.0.1:9\"\n[[targets]]\naddress = \"127.0.0.1:9\"",
        "f.toml:4: targets[0].address: \"127.0.0.1:9\" leads back to evenly itself, which has its admin \
         listener on 127.0.0.1:9; write the address of a server",
    )]);
}

#[test]
fn an_access_log_is_a_path_and_not_a_word() {
    let places = "write \"stdout\" or a path such as \"/var/log/evenly/access.log\"";
    let cases = [
        ("on", format!("\"on\" is not a destination; {places}")),
        ("true", format!("\"true\" is not a destination; {places}")),
        ("stderr", format!("\"stderr\" is where the program's own log goes; {places}")),
        ("syslog", "\"syslog\" is not supported; write \"stdout\", which systemd takes to the journal".into()),
        ("none", "\"none\" is not a destination; write \"off\"".into()),
        ("Stdout", "\"Stdout\" is misspelt; write \"stdout\"".into()),
        ("~/a.log", "\"~/a.log\" begins with \"~\", which only a shell expands; write the whole path".into()),
        ("${HOME}/a.log", "\"${HOME}/a.log\" has a variable, and these are not expanded; write the whole path".into()),
        ("/var/log/", "\"/var/log/\" is a folder; add the name of the file".into()),
        ("a.log", "\"a.log\" has no folder; write \"./a.log\" for the one evenly is started in, or the whole path".into()),
    ];
    for (word, expected) in cases {
        assert_errors(&[(
            &format!("[log]\naccess = \"{word}\""),
            &format!("f.toml:2: log.access: {expected}"),
        )]);
    }
    for path in ["./a.log", "logs/a.log", "/dev/stdout", "/var/log/evenly.log"] {
        let log = with_target(&format!("[log]\naccess = \"{path}\"")).plan.log;
        assert_eq!(log.access, AccessSink::File(path.into()));
    }
}

#[test]
fn a_target_may_be_a_unix_socket() {
    let text = "[[targets]]\naddress = \"unix:/run/app.sock\"\nhealth_check_endpoint = \"/\"";
    let settings = config::parse(text, "f").unwrap();
    assert_eq!(settings.plan.targets[0].address, TargetAddress::Unix("/run/app.sock".into()));
    assert_eq!(settings.plan.targets[0].address.to_string(), "unix:/run/app.sock");
    let of_options = from_targets(&["unix:/run/app.sock".to_owned()]).unwrap();
    assert_eq!(of_options.plan.targets[0].address, settings.plan.targets[0].address);
}

#[test]
fn a_target_may_be_an_srv_name() {
    let text = "[[targets]]\naddress = \"_HTTP._tcp.Spells.test\"";
    let settings = config::parse(text, "f").unwrap();
    let expected = TargetAddress::Service("_http._tcp.spells.test".into());
    assert_eq!(settings.plan.targets[0].address, expected);
    assert_eq!(expected.to_string(), "_http._tcp.spells.test");
    assert_errors(&[(
        "[[targets]]\naddress = \"_http._tcp.a:80\"",
        "f.toml:2: targets[0].address: \"_http._tcp.a:80\" has a port, but SRV records supply the port; \
         write \"_http._tcp.a\"",
    )]);
}

#[test]
fn name_servers_are_a_few_addresses_and_not_there_twice() {
    assert_eq!(with_target("").boot.dns, Dns::default());
    assert_eq!(with_target("[dns]\nservers = \"::1\"").boot.dns.servers.len(), 1);
    assert_errors(&[
        (
            "[dns]\nservers = []",
            "f.toml:2: dns.servers: the list is empty; write [\"127.0.0.1:53\"], or leave the key out for the system's",
        ),
        (
            "[dns]\nservers = [\"127.0.0.1\",\n\"127.0.0.1:53\"]",
            "f.toml:3: dns.servers[1]: \"127.0.0.1:53\" repeats a server; remove one of the two",
        ),
        (
            "[dns]\nservers = \"ns.example\"",
            "f.toml:2: dns.servers: \"ns.example\" is not an IP address, with or without a port; \
             write \"127.0.0.1\", \"127.0.0.1:5353\" or \"[::1]:5353\"",
        ),
        (
            "[dns]\nservers = 53",
            "f.toml:2: dns.servers: 53 is a number; write [\"127.0.0.1:53\"], or leave the key out for the system's",
        ),
        (
            "[dns]\nservers = [\"::1\", \"::2\", \"::3\", \"::4\", \"::5\", \"::6\", \"::7\", \"::8\", \"::9\"]",
            "f.toml:2: dns.servers: has 9 servers; write at most 8",
        ),
        ("[dns]\nserver = \"::1\"", "f.toml:2: dns.server: unknown key; did you mean \"servers\"?"),
    ]);
}

#[test]
fn targets_are_there_and_not_there_twice() {
    let none = "there is no target; add a [[targets]] block with address = \"host:port\"";
    let target = |address: &str| format!("[[targets]]\naddress = \"{address}\"\n");
    let cases = [
        (String::new(), format!("f.toml:1: targets: {none}")),
        ("\n[health]\nrise = 2".to_owned(), format!("f.toml:1: targets: {none}")),
        ("\ntargets = []".to_owned(), format!("f.toml:2: targets: {none}")),
        (
            "[[targets]]\n\nrise = 1".to_owned(),
            "f.toml:1: targets[0]: has no address; write address = \"host:port\"".to_owned(),
        ),
        (
            target("a:0"),
            "f.toml:2: targets[0].address: \"a:0\" has port 0; write a port from 1 to 65535"
                .to_owned(),
        ),
        (target("a"), "f.toml:2: targets[0].address: \"a\" has no port; write \"a:80\"".to_owned()),
        (
            target("unix:run/a"),
            "f.toml:2: targets[0].address: \"unix:run/a\" has no absolute path; write \"unix:/run/app.sock\""
                .to_owned(),
        ),
        (
            target("/run/a"),
            "f.toml:2: targets[0].address: \"/run/a\" is a path; write \"unix:/run/a\" for a Unix socket"
                .to_owned(),
        ),
        (
            target("http://a:80/"),
            "f.toml:2: targets[0].address: \"http://a:80/\" has a scheme (http://); write \"a:80\""
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(&text), expected);
    }
    for (first, second) in [
        ("a:1", "A:1"),
        ("a:1", "a.:01"),
        ("[::1]:1", "[0:0::0:1]:1"),
        ("10.0.0.1:1", "[::ffff:a00:1]:1"),
        ("unix:/run/a", "unix:/run//./a/"),
    ] {
        let text = format!("{}{}{}", target("z:9"), target(first), target(second));
        let expected = format!(
            "f.toml:6: targets[2].address: \"{second}\" is the same target as targets[1].address (line 4); remove one of the two"
        );
        assert_eq!(error(&text), expected);
    }
}

#[test]
fn text_that_is_not_toml_is_answered_with_its_line_and_the_slip() {
    let cases = [
        (
            "listen = ",
            "1: not valid TOML: listen has no value; write listen = \"...\", or leave the line out",
        ),
        (
            "[[targets]]\naddress = 127.0.0.1:8001",
            "2: not valid TOML: a value that is no number needs quotes; write address = \"127.0.0.1:8001\"",
        ),
        (
            "[health]\ninterval = 5s # often",
            "2: not valid TOML: a value that is no number needs quotes; write interval = \"5s\"",
        ),
        (
            "[[targets]]\naddress = \"a:1\naddress",
            "2: not valid TOML: the string has no end; write address = \"a:1\"",
        ),
        (
            "listen = “127.0.0.1:1”",
            "1: not valid TOML: these quotes are not straight; write listen = \"127.0.0.1:1\"",
        ),
        ("via = True", "1: not valid TOML: \"True\" is not a boolean; write via = true"),
        (
            "[health]\nrise = 1\nrise = 2",
            "3: not valid TOML: \"rise\" is already there on line 2; remove one of the two",
        ),
        (
            "[health]\nrise = 1\n[log]\n[health]\nfall = 2",
            "4: not valid TOML: \"health\" is already there on line 1; remove one of the two",
        ),
        (
            "[health\nrise = 1",
            "1: not valid TOML: the name of the table has no end; put ] after it",
        ),
        (
            "listen = [\"127.0.0.1:1\" \"127.0.0.1:2\"]",
            "1: not valid TOML: two elements stand side by side; put a comma between them",
        ),
        (
            "listen = [\"127.0.0.1:1\"\n\n[[targets]]\naddress = \"a:1\"",
            "3: not valid TOML: the list above it has not ended; put ] at its end, or a comma between its elements",
        ),
        ("// ours", "1: not valid TOML: comments begin with #"),
        (
            "[[targets]]\naddress \"a:1\"",
            "2: not valid TOML: there is no \"=\" between key and value; write address = \"a:1\"",
        ),
        (
            "workers",
            "1: not valid TOML: \"workers\" has no value; write workers = ..., or [workers] for a table",
        ),
    ];
    for (text, expected) in cases {
        let first = error(text).lines().next().map(str::to_owned);
        assert_eq!(first, Some(format!("f.toml:{expected}")), "{text}");
    }
}

#[test]
fn a_file_in_another_language_is_recognised() {
    let cases = [
        ("listen: 8080\ntargets:\n  - a:1\n", "YAML", 1),
        ("---\nlisten: 8080\n", "YAML", 1),
        ("# ours\n\ntargets:\n  - address: a:1\n", "YAML", 3),
        ("{\n  \"listen\": \"127.0.0.1:1\"\n}\n", "JSON", 1),
        ("[{\"address\": \"a:1\"}]", "JSON", 1),
        (":8080 {\n  reverse_proxy a:1 b:1\n}\n", "a Caddyfile", 1),
        ("{\n  admin off\n}\nexample.org {\n}\n", "a Caddyfile", 1),
        ("upstream api {\n  server a:1;\n}\n", "an nginx configuration", 1),
        ("worker_processes auto;\nhttp {\n}\n", "an nginx configuration", 1),
        ("global\n  maxconn 10\nfrontend web\n  bind *:80\n", "a HAProxy configuration", 1),
        ("<VirtualHost *:80>\n</VirtualHost>\n", "XML or HTML", 1),
    ];
    for (text, language, line) in cases {
        let expected = format!(
            "f.toml:{line}: this looks like {language}, and evenly reads TOML; \
             write a [[targets]] block with address = \"host:port\" for each server"
        );
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn all_errors_are_shown_at_once_each_with_its_line_and_place() {
    let text = "\
workers = 0
[[targets]]
address = \"http://a:1\"
intervall = \"5s\"

[[targets]]
address = \"a:1\"
[health]
interval = \"5\"
";
    let expected = "\
f.toml:1:11: workers: 0 is out of range; write \"auto\" or a number from 1 to 1024
  1 | workers = 0
    |           ^
f.toml:3:11: targets[0].address: \"http://a:1\" has a scheme (http://); write \"a:1\"
  3 | address = \"http://a:1\"
    |           ^^^^^^^^^^^^
f.toml:4:1: targets[0].intervall: unknown key; did you mean \"interval\"?
  4 | intervall = \"5s\"
    | ^^^^^^^^^
f.toml:9:12: health.interval: \"5\" has no unit; write \"5s\", \"250ms\" or \"1m\"
  9 | interval = \"5\"
    |            ^^^
f.toml: 4 errors";
    let error = config::parse(text, "f.toml").unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!((error.line(), error.key()), (Some(1), Some("workers")));
    let text = "workers = 4x\nvia = yes\n[[targets]]\naddress = \"a:1\"\n";
    let error = config::parse(text, "f.toml").unwrap_err();
    assert_eq!(error.lines().len(), 3, "{error}");
}

#[test]
fn one_mistake_is_one_error() {
    for text in [
        "[health]\ninterval = \"1x\"\ntimeout = \"3s\"\n[[targets]]\naddress = \"a:1\"\n[[targets]]\naddress = \"b:1\"\n",
        "[[target]]\naddress = \"a:1\"\n",
        "[[targets]]\nadress = \"a:1\"\n",
        "[[targets]]\naddress = \"a\"\n",
        "targets = [\"a:1\"]\n",
        "[targets]\naddress = \"a:1\"\n",
        "[ejection]\ntime = \"x\"\nmax_time = \"1s\"\n[[targets]]\naddress = \"a:1\"\n",
        "[[targets]]\naddress = \"a:1\nrise = 5\n",
    ] {
        assert_eq!(error(text).lines().count(), 1, "{}", error(text));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_answered_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    let shown = |path: &Path| config::load(path).unwrap_err().to_string();

    assert_eq!(
        shown(&file),
        format!(
            "{}: cannot be read: No such file or directory (os error 2); check the path",
            file.display()
        )
    );
    assert_eq!(
        shown(folder.path()),
        format!(
            "{}: cannot be read: Is a directory (os error 21); pass the TOML file itself",
            folder.path().display()
        )
    );
    std::fs::write(&file, b"# \xc3\xa4\n\n# \xff").unwrap();
    assert_eq!(
        shown(&file),
        format!("{}:3: is not UTF-8 text; save the file as UTF-8", file.display())
    );
    assert!(shown(Path::new("/dev/zero")).contains("larger than 16 MiB"));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let text = format!("\u{feff}{}", ONE_TARGET.replace('\n', "\r\n"));
    assert_eq!(config::parse(&text, "f"), config::parse(ONE_TARGET, "f"));
}

#[test]
fn targets_need_no_file() {
    let texts = ["a:1".to_owned(), "[::1]:2".to_owned()];
    let target =
        |address| Target { address, health: HealthCheck::default(), state: TargetState::Auto };
    let address = TargetAddress::Ip("[::1]:2".parse().unwrap());
    let plan = Plan { targets: vec![target(named("a", 1)), target(address)], ..Plan::default() };
    assert_eq!(from_targets(&texts), Ok(Settings { plan, ..Settings::default() }));
    let cases = [
        (vec![], "evenly run: needs something to balance; add --config FILE or --target HOST:PORT"),
        (vec!["a"], "--target: \"a\" has no port; write \"a:80\""),
        (
            vec!["a:1", "A:1"],
            "--target: \"A:1\" is the same target as \"a:1\"; remove one of the two",
        ),
    ];
    for (texts, expected) in cases {
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        assert_eq!(from_targets(&texts).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(
        &file,
        format!("listen = \"127.0.0.1:1\"\nworkers = 2\n[health]\nrise = 7\n{ONE_TARGET}"),
    )
    .unwrap();
    let overrides = Overrides {
        listen: vec!["127.0.0.1:5".into(), "[::1]:5".into()],
        workers: Some("auto".into()),
        targets: vec!["b:2".into()],
        health_check_endpoint: Some("/up".into()),
    };
    let settings = config::load_with(&file, &overrides).unwrap();
    assert_eq!(settings.plan.listen, [local(5), "[::1]:5".parse().unwrap()]);
    assert_eq!(settings.boot.workers, Workers::Auto);
    let health = HealthCheck { endpoint: Some("/up".into()), rise: 7, ..HealthCheck::default() };
    assert_eq!(
        settings.plan.targets,
        [Target { address: named("b", 2), health, state: TargetState::Auto }]
    );

    std::fs::write(&file, "workers = 2").unwrap();
    assert!(config::load(&file).is_err());
    assert!(config::load_with(&file, &overrides).is_ok(), "targets of the command line suffice");
    std::fs::write(&file, "workers = 0").unwrap();
    assert!(config::load_with(&file, &overrides).is_err(), "what is overridden must be valid too");
}

#[test]
fn faults_of_the_command_line_name_the_option() {
    let good = Overrides { targets: vec!["a:1".into()], ..Overrides::default() };
    let cases = [
        (Overrides { workers: Some("0".into()), ..good.clone() }, "--workers: "),
        (Overrides { workers: Some("+1".into()), ..good.clone() }, "--workers: "),
        (Overrides { workers: Some(String::new()), ..good.clone() }, "--workers: "),
        (Overrides { listen: vec![":80".into()], ..good.clone() }, "--listen: "),
        (Overrides { listen: vec!["[::]:80".into(); 2], ..good.clone() }, "--listen: "),
        (
            Overrides { health_check_endpoint: Some("up".into()), ..good },
            "--health-check-endpoint: ",
        ),
    ];
    for (overrides, start) in cases {
        let error = config::from_overrides(&overrides).unwrap_err();
        assert!(error.to_string().starts_with(start), "{error}");
        assert_eq!((error.line(), error.key()), (None, start.strip_suffix(": ")));
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_every_error_is_lines_without_controls(text in "(?s).{0,200}") {
        if let Err(error) = config::parse(&text, "f\n.toml") {
            prop_assert!(!error.to_string().replace('\n', "").contains(char::is_control));
            prop_assert!(!error.lines().concat().contains(char::is_control));
        }
    }

    #[test]
    fn no_value_panics_and_every_error_names_its_line(key in "[a-z_]{1,20}", value in "[-\\[\\]{}\"'a-z0-9:/., =]{0,40}") {
        for table in ["", "[[targets]]", "[health]", "[timeouts]", "[limits]"] {
            let text = format!("{table}\n{key} = {value}\n");
            let error = config::parse(&text, "f.toml").expect_err("it has no address");
            let line = error.line();
            prop_assert!(line.is_some_and(|line| (1..=3).contains(&line)), "{}", error);
        }
    }

    #[test]
    fn no_target_address_panics_and_what_is_shown_reads_back(text in ".{0,60}|[a-z0-9.:\\[\\]%-]{0,30}:[0-9]{1,5}") {
        if let Ok(settings) = from_targets(std::slice::from_ref(&text)) {
            let shown = settings.plan.targets[0].address.to_string();
            prop_assert_eq!(from_targets(&[shown]), Ok(settings));
        }
    }
}
