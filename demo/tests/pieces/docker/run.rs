//! The programs take the arguments that the containers give them, and do with them what they should: they are started with those
//! very arguments, in which addresses and folders of the containers are replaced by some of this machine.

use std::process::Command;

use clap::Parser;
use evenly::cli::{self, Cli};
use hickory_proto::rr::RecordType;

use super::compose::{Compose, Service};
use super::dockerfile::Dockerfile;
use super::root;
use crate::harness::{Program, addresses, udp};

const AUTHORITY: &str = env!("CARGO_BIN_EXE_dns-authority");
const RESOLVER: &str = env!("CARGO_BIN_EXE_dns-resolver");
const API: &str = env!("CARGO_BIN_EXE_spells-api");
const CLIENT: &str = env!("CARGO_BIN_EXE_ingress-client");

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join("demo").join(file)).unwrap()
}

fn compose(variables: &[(&str, &str)]) -> Compose {
    Compose::parse(&read("docker-compose.yml"), variables).unwrap()
}

/// The arguments of a service, without where to listen, with `here` in the place of `there`.
fn arguments(service: &Service, there: &str, here: &str) -> Vec<String> {
    let mut arguments: Vec<String> = service.arguments().map(ToOwned::to_owned).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--listen") {
        arguments.drain(at..at + 2);
    }
    replaced(&arguments, there, here)
}

#[track_caller]
fn replaced(arguments: &[String], there: &str, here: &str) -> Vec<String> {
    assert!(there.is_empty() || arguments.iter().any(|text| text.contains(there)), "{arguments:?}");
    arguments.iter().map(|text| text.replacen(there, here, 1)).collect()
}

fn start(program: &str, arguments: &[String]) -> Program {
    Program::start(program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn authority_and_resolver_give_the_names_the_addresses_of_the_containers() {
    let compose = compose(&[]);
    let zones = root().join("demo/docker").display().to_string();
    let authority = arguments(&compose.services["dns-authority"], "/etc/demo", &zones);
    let authority = start(AUTHORITY, &authority);
    let here = authority.address.to_string();
    let resolver = arguments(&compose.services["dns-resolver"], "10.53.80.51:5301", &here);
    let resolver = start(RESOLVER, &resolver);
    for (name, service) in
        [("spells.test.", "evenly"), ("http-api-1.", "http-api-1"), ("http-api-2.", "http-api-2")]
    {
        let (_, address) = compose.services[service].addresses().next().unwrap();
        for server in [authority.address, resolver.address] {
            assert_eq!(addresses(&udp(server, name, RecordType::A)), [address.to_string()]);
        }
    }
}

#[test]
fn the_apis_keep_their_spells_as_the_variable_says_and_are_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let shared = [("SPELLS_DATABASE", "sqlite:/data/spells.db")];
    let volume = folder.path().display().to_string();
    let healthcheck = healthcheck("spells-api");
    for (variables, there) in [(&[][..], ""), (&shared, "/data")] {
        let compose = compose(variables);
        for name in ["http-api-1", "http-api-2"] {
            let here = if there.is_empty() { "" } else { &volume };
            let api = start(API, &arguments(&compose.services[name], there, here));
            api.wait_for_line(&format!("{name} listening on"));
            let asked = replaced(&healthcheck, "127.0.0.1:8001", &api.address.to_string());
            assert!(Command::new(CLIENT).args(asked).status().unwrap().success());
        }
    }
    assert!(folder.path().join("spells.db").is_file());
}

#[test]
fn the_client_takes_its_arguments() {
    let api = Program::start(API, &[]);
    let there = "spells.test:8080";
    let asked = arguments(&compose(&[]).services["client"], there, &api.address.to_string());
    let answer = Command::new(CLIENT).args(asked).output().unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Lumos"), "{answer}");
}

#[test]
fn evenly_takes_its_arguments_and_its_health_check_asks_its_admin_listener() {
    let compose = compose(&[]);
    let arguments = ["evenly"].into_iter().chain(compose.services["evenly"].arguments());
    let asked = Cli::try_parse_from(arguments).unwrap().command;
    assert!(matches!(asked, cli::CliCommand::Run(run) if run.config.is_some()));
    let settings: toml::Table = read("docker/evenly.toml").parse().unwrap();
    let admin = settings["admin"]["listen"].as_str().unwrap();
    let api = Program::start(API, &[]);
    let asked = replaced(&healthcheck("evenly"), admin, &api.address.to_string());
    assert!(Command::new(CLIENT).args(asked).status().unwrap().success());
}

/// What the HEALTHCHECK of an image gives the client.
fn healthcheck(image: &str) -> Vec<String> {
    let image = Dockerfile::parse(&read("Dockerfile")).unwrap().image(image).unwrap();
    let (program, arguments) = image.healthcheck.split_first().unwrap();
    assert_eq!(program, "ingress-client");
    arguments.to_vec()
}
