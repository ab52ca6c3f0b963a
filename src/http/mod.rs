//! HTTP as RFC 9110 has it, whatever the version that carries it: methods, statuses, kinds and fates of fields,
//! forwarding, the faults of messages.
//!
//! Owns: what a message means to a proxy. Does not own: how it is written (`http1`), or when it is read and sent
//! (`exchange`). Imports no other room.
//!
//! Invariants: no socket, no clock, no lock, no allocation; no input panics.
//!
//! ```
//! use evenly::http::{Fault, Method};
//!
//! // What may be retried is a property of the method (RFC 9110 section 9.2.2); methods are case-sensitive.
//! assert!(Method::of("PUT").is_idempotent() && !Method::of("POST").is_idempotent());
//! assert_eq!(Method::of("get"), Method::Other);
//!
//! // A fault is a name for logs, a status, and a sentence for people.
//! let fault = Fault::LengthAndCoding;
//! assert_eq!((fault.name(), fault.status()), ("length-and-coding", 400));
//! assert_eq!(fault.why(), "Both Content-Length and Transfer-Encoding are present.");
//! ```

pub(crate) mod fate;
pub mod fault;
pub(crate) mod forwarding;
pub mod ids;
pub(crate) mod kind;
mod method;
mod status;
pub(crate) mod syntax;
pub mod trace;

pub use fault::Fault;
pub use forwarding::{ClientAddress, Pseudonym};
pub use ids::{IdSource, RequestId};
pub use method::Method;
pub(crate) use status::reason;
pub use trace::TraceParent;
