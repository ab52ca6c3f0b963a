//! Each mistake in the files of the containers is found, and named.

use std::collections::BTreeSet;
use std::fs;

use super::{check, programs, root};

const COMPOSE: &str = "demo/docker-compose.yml";
const DOCKERFILE: &str = "demo/Dockerfile";
const ZONE: &str = "demo/docker/root.zone";
const EVENLY: &str = "demo/docker/evenly.toml";
const FILES: [&str; 5] = [".dockerignore", COMPOSE, DOCKERFILE, ZONE, EVENLY];

/// What the check says once `old` in `file` (everywhere) is `new`.
fn said_after(programs: &BTreeSet<String>, file: &str, old: &str, new: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("demo/docker")).unwrap();
    for name in FILES {
        let mut text = fs::read_to_string(root().join(name)).unwrap();
        if name == file {
            assert!(text.contains(old), "{file} has no `{old}`");
            text = text.replace(old, new);
        }
        fs::write(folder.path().join(name), text).unwrap();
    }
    check::problems(folder.path(), programs).join("\n")
}

#[track_caller]
fn finds(file: &str, cases: &[(&str, &str, &str)]) {
    let programs = programs();
    for (old, new, problem) in cases {
        let said = said_after(&programs, file, old, new);
        assert!(said.contains(problem), "`{old}` -> `{new}`: `{problem}` is not in:\n{said}");
    }
}

#[test]
fn nothing_is_wrong_with_a_mere_copy() {
    assert_eq!(said_after(&programs(), COMPOSE, "services:", "services:"), "");
}

#[test]
fn keys_and_values_that_compose_would_refuse() {
    finds(
        COMPOSE,
        &[
            ("services:\n", "service:\n", "service"),
            ("restart: \"no\"", "restart: no", "quoted"),
            ("restart: \"no\"", "restart: always", "restart is not \"no\""),
            ("read_only: true", "readonly: true", "readonly"),
            ("read_only: true", "read_only: false", "its image can be written to"),
            ("[ALL]", "[NET_RAW]", "it has capabilities"),
            ("no-new-privileges:true", "no-new-privileges:false", "it can gain privileges"),
            ("    init: true", "    image: x\n    init: true", "image"),
            ("service_healthy", "service_well", "service_well"),
            ("volumes:\n  spells: {}\n", "", "the volume `spells` is not declared"),
            ("networks:\n  demo:\n", "networks:\n  other:\n", "the network `demo` is not declared"),
            ("target: evenly}", "target: evenlyy}", "no stage `evenlyy`"),
            ("dockerfile: demo/Dockerfile", "dockerfile: Dockerfile", "Dockerfile: No such file"),
            ("context: ..,", "context: .,", "Dockerfile: No such file"),
            ("*spells-api", "*spells", "spells"),
            ("    init: true", "    init: true\n    init: true", "duplicate"),
            ("${SPELLS_DATABASE:-memory}", "${SPELLS_DATABASE}", "has no default"),
        ],
    );
}

#[test]
fn services_that_could_not_reach_one_another() {
    finds(
        COMPOSE,
        &[
            ("{dns-authority: {", "{authority: {", "`authority`, which is no service"),
            (
                "dns-authority: {condition: service_started",
                "dns-authority: {condition: service_healthy",
                "no HEALTHCHECK",
            ),
            ("{dns-authority: {", "{client: {", "`client`, which is in a profile"),
            ("{dns-authority: {", "{evenly: {", "in a circle"),
            (
                "ipv4_address: 10.53.80.12",
                "ipv4_address: 10.53.80.11",
                "10.53.80.11 is another's as well",
            ),
            (
                "ipv4_address: 10.53.80.12",
                "ipv4_address: 10.53.81.12",
                "is not in its network's subnet",
            ),
            ("ipv4_address: 10.53.80.12", "ipv4_address: 10.53.80.1", "is the network's own"),
            ("ipv4_address: 10.53.80.12", "ipv4_address: 10.53.80.130", "is in ip_range"),
            ("ip_range: 10.53.80.", "ip_range: 10.53.81.", "ip_range is not in its subnet"),
            ("subnet: 10.53.80.0/24", "subnet: 10.53.80.0/33", "subnet or ip_range is none"),
            (
                "ipv4_address: 10.53.80.12",
                "ipv4_address: 10.53.80.13",
                "http-api-2 10.53.80.12, which is nobody's",
            ),
            ("networks: {demo: {}}", "networks: {}", "it is in no network"),
            ("10.53.80.51:5301", "10.53.80.51:5300", "no service listens on 10.53.80.51:5300"),
            (
                "\"10.53.80.52:5302\"",
                "\"10.53.80.53:5302\"",
                "no service listens on 10.53.80.53:5302",
            ),
            ("0.0.0.0:8001", "0.0.0.0:8002", "it listens on 8002, which its image does not EXPOSE"),
            ("0.0.0.0:8001", "127.0.0.1:8001", "target http-api-1:8001 does not listen there"),
            ("127.0.0.1:8080:8080", "8080:8080", "published beyond this machine"),
            ("127.0.0.1:8080:8080", "127.0.0.1:8080:80", "nothing listens there"),
            ("./docker:", "./dockers:", "`./dockers` is not there"),
            ("/etc/demo:ro", "/etc/demo", "not mounted read-only"),
            ("/etc/demo:ro", "etc/demo:ro", "is not mounted at an absolute path"),
            (
                "/etc/demo/evenly.toml",
                "/etc/demo/even.toml",
                "`/etc/demo/even.toml` is in no volume",
            ),
            (
                "[ingress-client, --resolver",
                "[curl, --resolver",
                "its entrypoint `curl` is not in its image",
            ),
        ],
    );
}

#[test]
fn images_that_would_not_be_built_or_not_run() {
    finds(
        DOCKERFILE,
        &[
            ("USER 10001\n", "", "it runs as root"),
            ("USER 10001", "USER root", "it runs as root"),
            ("ENTRYPOINT [\"evenly\"]\n", "", "evenly: it has no ENTRYPOINT"),
            ("ENTRYPOINT [\"evenly\"]", "ENTRYPOINT evenly", "is not in exec form"),
            ("ENTRYPOINT [\"evenly\"]", "ENTRYPOINT [\"even\"]", "`even` is not in /usr/local/bin"),
            ("CMD [\"ingress-client\"", "CMD [\"curl\"", "`curl` is not in /usr/local/bin"),
            ("--interval=2s", "--every=2s", "no option `--every=2s`"),
            ("target/release/evenly ", "target/release/even ", "cargo builds no program `even`"),
            (
                "target/release/evenly ",
                "target/release/even ",
                "`/programs/evenly` is not made by the stage `build`",
            ),
            ("--from=build", "--from=builder", "no stage `builder` above"),
            (
                "COPY . .",
                "COPY demo/README.md .",
                "`demo/README.md` is not in the context, or ignored",
            ),
            ("COPY . .", "COPY Cargo.lock src .", "is not COPY"),
            ("FROM debian:trixie-slim", "FROM debian:bookworm-slim", "several releases of Debian"),
            ("FROM debian:trixie-slim", "FROM debian", "its tag names no release"),
            ("FROM runtime AS evenly", "FROM run AS evenly", "the base `run` is no stage above"),
            ("AS dns-resolver", "AS evenly", "two stages are called `evenly`"),
            ("EXPOSE 8080", "EXPOSE http", "`EXPOSE http` is no port"),
            ("EXPOSE 8080", "EXPOSED 8080", "`EXPOSED 8080` is not understood"),
            ("FROM rust:1.95-slim-trixie AS build\n", "", "before the first FROM"),
        ],
    );
}

#[test]
fn names_that_lead_nowhere() {
    finds(
        ZONE,
        &[
            ("http-api-1. A 10.53.80.11\n", "", "target http-api-1:8001 is not in the zone"),
            ("spells.test. A 10.53.80.80\n", "", "the zone has no spells.test"),
            ("10.53.80.80", "10.53.80.11", "calls http-api-1 (10.53.80.11) `spells.test`"),
            ("10.53.80.80", "10.53.80.800", "root.zone"),
        ],
    );
    finds(
        EVENLY,
        &[
            ("http-api-2:8001", "http-api-3:8001", "target http-api-3:8001 is not in the zone"),
            ("http-api-2:8001", "http-api-2:80", "target http-api-2:80 does not listen there"),
            ("10.53.80.52:5302", "10.53.80.52:53", "no service listens on 10.53.80.52:53"),
            ("servers", "server", "evenly is not told whom to ask"),
            ("0.0.0.0:8080", "0.0.0.0:8081", "which its image does not EXPOSE"),
            ("[dns]", "[dns", "evenly.toml"),
        ],
    );
}
