//! `evenly`: an HTTP/1.1 load balancer, to stand behind a TLS terminator.
//!
//! Worker threads share nothing on the request path but an immutable snapshot of the healthy endpoints and one
//! round-robin counter. This is the map; `docs/design.md` follows one request through it, file by file. A
//! room imports only rooms below it, and of those only the ones that `tests/architecture.rs` lists for it:
//!
//! ```text
//! main.rs      arguments -> settings -> run; error -> exit code
//! cli          the command line, as data
//! server       starts and stops everything in order; signals; reload; drain
//!
//! top/         `evenly top`: a running evenly on a terminal, again and again
//! remote       a running evenly from outside: its control socket, one question over it
//! admin/       the admin thread: /metrics, /status
//! worker/      one thread: poll -> mark readiness -> engine.turn(now); the only room that names mio
//! health/      the health thread: schedule, probes, verdicts, names, ejection; publishes snapshots
//! config/      the file -> validated settings; every error names file, line, key and remedy
//!
//! engine/      connections, pools and the pump of one worker; generic over its network
//! exchange/    PURE: one request and its response: what is decided; bytes and events in, steps out
//! access/      the access log: entries gathered by the engine, written by a thread of its own
//! balance/     snapshot, cursor, pick, retry budget
//! metrics/     counters with one writer each, summed on read
//! http1/       PURE: HTTP/1.1 as it is written (RFC 9112): heads, framing, bodies, rewriting
//! reason       PURE: why something did not go as asked: one closed set, one word each
//! http/        PURE: HTTP in every version (RFC 9110): methods, kinds and fates of fields, forwarding, faults
//! command      what can be asked of a running evenly, and what it says
//! token        what somebody must know who gives commands over TCP
//! settings     what the program runs by: what holds for the process (boot), what snapshots carry (plan); every default
//! base/        addresses, chunks, slab, tick, timer wheel, log line, atomics
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod balance;
pub mod base;
pub mod cli;
pub mod command;
pub mod config;
pub mod engine;
pub mod exchange;
pub mod health;
pub mod http;
pub mod http1;
pub mod metrics;
pub mod reason;
pub mod remote;
pub mod server;
pub mod settings;
pub mod token;
pub mod top;
pub mod worker;
