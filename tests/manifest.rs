//! What must be the same in several manifests and pages: the oldest Rust that builds evenly, and its licence.

use std::fs;
use std::path::Path;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn manifest(file: &str) -> toml::Table {
    read(file).parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn package(file: &str, key: &str) -> Option<String> {
    manifest(file)["package"].get(key).map(|value| value.as_str().expect("a string").to_owned())
}

/// Ours, those of the workspace, and the one that is built alone.
fn manifests() -> Vec<String> {
    let ours = manifest("Cargo.toml");
    let members = ours["workspace"]["members"].as_array().expect("a list");
    let members = members.iter().map(|member| member.as_str().expect("a folder"));
    let files = members.map(|member| format!("{member}/Cargo.toml"));
    let alone = ["Cargo.toml", "loadtest/peers/pingora/Cargo.toml"].map(str::to_owned);
    alone.into_iter().chain(files).collect()
}

#[test]
fn every_manifest_asks_for_the_same_rust() {
    let ours = package("Cargo.toml", "rust-version").expect("a rust-version");
    for file in manifests() {
        assert_eq!(package(&file, "rust-version").as_ref(), Some(&ours), "{file}");
    }
}

#[test]
fn pages_and_messages_name_the_rust_of_the_manifest() {
    let ours = package("Cargo.toml", "rust-version").expect("a rust-version");
    for (file, before) in
        [("README.md", "Rust "), ("Makefile", "needs Rust "), ("demo/Dockerfile", "FROM rust:")]
    {
        let text = read(file);
        let named: Vec<&str> = text
            .split(before)
            .skip(1)
            .filter(|rest| rest.starts_with("1."))
            .map(|rest| {
                let end =
                    rest[2..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |at| at + 2);
                &rest[..end]
            })
            .collect();
        assert!(!named.is_empty(), "{file} names no version after {before:?}");
        assert!(named.iter().all(|it| *it == ours), "{file}: {named:?}, not {ours}");
    }
}

#[test]
fn every_manifest_has_the_licence_whose_texts_are_here() {
    for file in manifests() {
        assert_eq!(package(&file, "license").as_deref(), Some("MIT OR Apache-2.0"), "{file}");
    }
    assert!(
        read("LICENSE-MIT").contains("MIT") && read("LICENSE-APACHE").contains("Apache License")
    );
}

#[test]
fn a_plain_build_is_of_the_product_and_what_is_checked_is_all_of_it() {
    let members = manifest("Cargo.toml")["workspace"]["default-members"].clone();
    assert_eq!(members, toml::Value::from(vec!["."]));
    let makefile = read("Makefile");
    for checked in ["$(CARGO) nextest run", "$(CARGO) test", "$(CARGO) clippy", "$(CARGO) doc"] {
        let lines = makefile.lines().filter(|line| line.contains(checked));
        let of_one_package = |line: &&str| line.contains(" -p ") || line.contains(" --test ");
        let lines: Vec<&str> = lines.filter(|line| !of_one_package(line)).collect();
        assert!(!lines.is_empty(), "the Makefile has no {checked}");
        for line in lines {
            assert!(line.contains("--workspace"), "{line}");
        }
    }
    assert!(read("Makefile").contains("$(CARGO) fmt --all --check"));
    assert!(read(".ci/run").contains("make --no-print-directory check"));
}
