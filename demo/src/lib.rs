//! The small system that `evenly` was first imagined for, on one machine: spells APIs, a DNS authority and a resolver,
//! a client, and the runner that starts them all with `evenly` in the middle.
//!
//! ```text
//! ingress-client --name?--> dns-resolver --name?--> dns-authority (zone file)
//!       |                        ^
//!       | GET /spells            | http-api-1? http-api-2?
//!       v                        |
//!     evenly --------------------+
//!       |  in turn
//!       +--> spells-api http-api-1
//!       +--> spells-api http-api-2
//! ```
//!
//! | module | what | its program |
//! | --- | --- | --- |
//! | [`spells`] | the HTTP API and its two storages | `spells-api` |
//! | [`dns`] | zone files served; answers cached and forwarded | `dns-authority`, `dns-resolver` |
//! | [`ingress`] | one HTTP request, like curl | `ingress-client` |
//! | [`stage`] | all programs as children: start, stop, edit the zone | `demo` |
//! | [`tour`] | the story told and checked on a stage, and its record | `demo tour` |
//! | [`repeats`] | which lines say nothing new | `demo` |
//! | [`paint`] | colours, where there is a terminal | `demo` |
//! | [`process`] | what every program here needs: lines, signals, exit codes | all |
//!
//! The programs know one another only by what crosses the network; `stage` alone knows them all, by path and by the line
//! `... listening on ADDR` that each of them prints.

pub mod dns;
pub mod ingress;
pub mod paint;
pub mod process;
pub mod repeats;
pub mod spells;
pub mod stage;
pub mod tour;
