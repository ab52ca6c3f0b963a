//! HTTP as RFC 9110 has it, whatever the version that carries it: methods, statuses, kinds and fates of fields,
//! forwarding, the faults of messages.
//!
//! Owns: what a message means to a proxy. Does not own: how it is written (`http1`), or when it is read and sent
//! (`session`). Imports no other room.
//!
//! Invariants: no socket, no clock, no lock, no allocation; no input panics.

pub(crate) mod fate;
pub mod fault;
pub(crate) mod forwarding;
pub(crate) mod kind;
mod method;
mod status;
pub(crate) mod syntax;

pub use fault::Fault;
pub use forwarding::Pseudonym;
pub use method::Method;
pub(crate) use status::reason;
