//! The demo's programs from outside: real processes on free ports of the loopback.
//!
//! | module | what |
//! | --- | --- |
//! | `harness` | starting a program and reading its lines; raw HTTP and DNS |
//! | `spells` | every status of the API, both storages, instances that share a file |
//! | `authority` | zone files served, and followed |
//! | `resolver` | hits and misses, TTLs, truncation, a server that is gone |
//! | `client` | exit codes, fields, bodies, lookup |
//! | `docker` | the files of the containers' set, without Docker |
//! | `stage` | all of them together, and the runner |

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

mod authority;
mod client;
mod docker;
mod harness;
mod resolver;
mod spells;
mod stage;
