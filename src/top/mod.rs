//! `evenly top`: what a running evenly says, asked again and again, as a screen. All but `terminal` is pure: what is shown follows from
//! what was said, the time and the keys.
//!
//! Owns the screen and its keys. How a running evenly is reached is `remote`'s, what it says is `admin`'s.
//!
//! Invariants: however it ends, the terminal is as it was before; nothing that is not of this program reaches a terminal raw; what
//! was counted by two processes is not compared.
//!
//! | file | what |
//! | --- | --- |
//! | `readout` | what a running evenly has said at one moment |
//! | `interval` | two readouts: rates, percentiles, rows |
//! | `watching` | readouts as they come, their absence, and the keys |
//! | `numbers` | numbers for people |
//! | `columns` | tables in as much room as there is |
//! | `draw` | all of it on a screen of any size |
//! | `terminal` | the terminal, the clock and the asking |
//!
//! ```
//! use std::time::Duration;
//! use evenly::top::{Readout, Watching, page};
//!
//! let said = |requests| {
//!     let status = r#"{"version": "0.1.0", "pid": 7, "stage": "running", "uptime_seconds": 61, "generation": 3}"#;
//!     (status, r#"{"targets": []}"#, format!("evenly_requests_total {requests}\n"))
//! };
//! let readout = |seconds, (status, targets, metrics): (&str, &str, String)| {
//!     Readout::new(Duration::from_secs(seconds), (status, targets, &metrics)).unwrap()
//! };
//! let mut watching = Watching::new(Duration::from_secs(2), readout(0, said(100)));
//! watching.took(Duration::from_secs(2), Ok(readout(2, said(350))));
//! let page = page(&watching, Duration::from_secs(2));
//! assert!(page.starts_with("evenly 0.1.0, process 7, running for 1m 1s, generation 3\nrequests/s   125 "), "{page}");
//! ```

mod columns;
mod draw;
mod interval;
mod numbers;
mod readout;
mod terminal;
#[cfg(test)]
mod tests;
mod watching;

pub use draw::{draw, page};
pub use readout::Readout;
pub use terminal::{Asker, WatchError, once, watch};
pub use watching::{SortBy, ViewState, Watching};
