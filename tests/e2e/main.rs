//! The program from outside: the binary as it is built, real sockets on free ports of the loopback, origins and
//! clients that do to the byte what a test tells them.
//!
//! | module | what |
//! | --- | --- |
//! | `harness` | starting the program, scripted origins, raw clients |
//! | `balancing` | who gets which request; how connections are shared out |
//! | `failover` | targets that die, and come back |
//! | `ejection` | targets that fail behind a healthy probe |
//! | `answers` | what clients are told when something is wrong |
//! | `bodies` | every framing both ways, pipelines, interim responses, old clients |
//! | `leaving` | clients that end early, or one side of their connection |
//! | `upgrade` | tunnels |
//! | `fields` | what is added to a head and taken from it |
//! | `ids` | how requests are called on their way: request IDs, traces, loops |
//! | `stalls` | targets that take requests and do not answer |
//! | `resources` | connections, descriptors, memory |
//! | `reasons` | every reason, provoked and seen wherever it is told |
//! | `agreement` | whatever goes wrong is told alike wherever it is told |
//! | `sharing` | connections to targets that clients share, or must not |
//! | `stopping` | signals and the drain |
//! | `draining` | the drain by a command, and how it is taken back |
//! | `recent` | the exchanges that ended last, and those that went wrong |
//! | `steering` | targets that are taken out and put back by hand, and what is told of them |
//! | `reload` | a changed file: what is applied, what is refused, and what nobody notices |
//! | `successor` | upgrades: one process takes the place of another |
//! | `alerts` | the alert rules and the dashboard of `config/` |
//! | `page` | the page of the admin listener in a browser |
//! | `guide` | the guide's commands, each on a machine of its section's own |
//! | `metrics` | what is counted of exchanges, and whether Prometheus reads it |
//! | `tokens` | commands over TCP |
//! | `top` | `evenly top` on a terminal |
//! | `unix` | targets that are Unix sockets |
//! | `names` | targets that are names, before a name server of the tests' own |
//! | `surface` | command line, listen addresses, logs |

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

mod agreement;
mod alerts;
mod answers;
mod balancing;
mod bodies;
mod draining;
mod ejection;
mod failover;
mod fields;
mod guide;
mod harness;
mod ids;
mod leaving;
mod metrics;
mod names;
#[path = "../nameserver/mod.rs"]
mod nameserver;
mod page;
mod reasons;
mod recent;
mod reload;
mod resources;
mod sharing;
mod stalls;
mod steering;
mod stopping;
mod successor;
mod surface;
mod tokens;
#[path = "../../loadtest/src/told.rs"]
mod told;
mod top;
mod unix;
mod upgrade;
