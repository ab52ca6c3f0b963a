//! The story, end to end: the demo's programs and `evenly` as real processes on free ports of the loopback.
//!
//! | module | what |
//! | --- | --- |
//! | `play` | a story that is running: its client, connections, load, what each piece has logged |
//! | `balancing` | from the client to an API and back; turns, a death, a return, nobody left |
//! | `spells` | what is added through the balancer, for each API alone and for both |
//! | `names` | what is asked of DNS and when; addresses that come and go; DNS that is gone |
//! | `service` | ports, weights and a standby by SRV records |
//! | `runner` | the program `demo` |
//!
//! No test asks how fast something was. Where health checks are not its subject they are a minute apart and may take as long, so
//! that a busy machine takes no API out.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

mod balancing;
#[path = "../pieces/harness.rs"]
#[allow(dead_code, reason = "each of the two test programs uses a part of it")]
mod harness;
mod names;
mod play;
mod runner;
mod service;
mod spells;
