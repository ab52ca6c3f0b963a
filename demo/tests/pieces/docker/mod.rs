//! The set of containers, checked without Docker: what its files say (`check`), that the check finds what is wrong
//! (`broken`), and that the programs take the arguments that they are given there (`run`). No image is built.
//!
//! | module | what |
//! | --- | --- |
//! | `compose` | `docker-compose.yml` as data |
//! | `dockerfile` | `Dockerfile` as data, and its own rules |
//! | `context` | `.dockerignore`: what Docker is sent |
//! | `check` | whether they fit one another, the zone and the configuration of `evenly` |

mod broken;
mod check;
mod compose;
mod context;
mod dockerfile;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use context::Context;

/// The folder of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What cargo says of the workspace in `folder`; it reads all manifests, and looks for the files that they name.
fn metadata(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The programs that cargo builds for the packages of the images.
fn programs() -> BTreeSet<String> {
    let metadata = metadata(&root());
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| ["evenly", "evenly-demo"].contains(&package["name"].as_str().unwrap()))
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_files_of_the_containers_fit_one_another() {
    assert_eq!(check::problems(&root(), &programs()), [""; 0]);
}

#[test]
fn what_docker_is_sent_is_a_workspace_that_cargo_can_read() {
    let sent = copy_of_what_is_sent();
    let targets = |folder: &Path| -> Vec<String> {
        let metadata = metadata(folder);
        let packages = metadata["packages"].as_array().unwrap().iter();
        let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
        let programs = targets.filter(|target| target["kind"][0] == "bin");
        programs.map(|program| program["name"].to_string()).collect()
    };
    assert_eq!(targets(sent.path()), targets(&root()));
}

#[test]
fn what_docker_is_sent_has_all_source_and_nothing_that_is_no_part_of_it() {
    let files = Context::open(&root()).unwrap().files();
    for wanted in ["Cargo.lock", "src/main.rs", "demo/src/bin/spells-api.rs"] {
        assert!(files.iter().any(|file| file == wanted), "{wanted}");
    }
    for file in files {
        let first = file.split('/').next().unwrap();
        assert!(!["target", ".git", "fuzz", "docs"].contains(&first), "{file}");
        let kind = Path::new(&file).extension().and_then(|kind| kind.to_str());
        assert!(matches!(kind, Some("rs" | "toml" | "lock" | "html" | "css" | "js")), "{file}");
    }
}

fn copy_of_what_is_sent() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in Context::open(&root()).unwrap().files() {
        let copy = folder.path().join(&file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(root().join(&file), copy).unwrap();
    }
    folder
}
