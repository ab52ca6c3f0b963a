//! The files of `evenly` whose protocols between threads are its own, built with loom's atomics: `make loom` runs the
//! models that stand in them. A crate apart, so that nothing else is built twice. Empty without `--cfg loom`.

#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(dead_code, missing_docs, unreachable_pub, reason = "only what the models use is used")]

#[path = "../../../src/base"]
mod base {
    pub mod address;
    pub mod ledger;
    pub mod ring;
    pub mod sync;
}

#[path = "../../../src/balance/mod.rs"]
mod balance;

#[path = "../../../src/http"]
mod http {
    mod fault;
    pub use fault::Fault;
    // The tests of `metrics` compare with it.
    #[cfg(test)]
    mod method;
    #[cfg(test)]
    pub use method::Method;
}

#[path = "../../../src/metrics/mod.rs"]
mod metrics;

#[path = "../../../src/reason.rs"]
mod reason;

#[path = "../../../src/settings.rs"]
mod settings;

#[path = "../../../src/health"]
mod health {
    mod handover;
    mod wake;
}

#[path = "../../../src/worker"]
mod worker {
    mod stage;
}
