//! Small tools every room may use: they know nothing of HTTP, sockets or threads.
//!
//! ```
//! use std::time::Duration;
//!
//! use evenly::base::slab::Slab;
//! use evenly::base::tick::Tick;
//! use evenly::base::wheel::{Due, Wheel};
//!
//! // A key that outlived its value finds nothing, even when the place is taken again.
//! let mut slab: Slab<&str> = Slab::with_room(4);
//! let old = slab.insert("a client");
//! slab.remove(old);
//! let new = slab.insert("another client");
//! assert_eq!((slab.get(old), slab.get(new)), (None, Some(&"another client")));
//!
//! // A wheel says when to look again: never early, at most a slot (33 ms) late.
//! let mut wheel = Wheel::with_room(4);
//! let deadline = Tick::default().after(Duration::from_secs(1));
//! wheel.set(new, Due::at(deadline));
//! let mut fired = Vec::new();
//! wheel.advance(Tick(deadline.0 - 1), &mut fired);
//! assert!(fired.is_empty());
//! wheel.advance(deadline.after(Duration::from_millis(33)), &mut fired);
//! assert_eq!(fired[0].key, new);
//! ```

pub mod address;
pub mod buffer;
pub mod decimal;
pub mod ledger;
pub mod lines;
pub mod log;
pub mod ring;
pub mod shortage;
pub mod slab;
mod span;
pub mod stderr;
pub mod sync;
pub mod text;
pub mod thread;
pub mod tick;
pub mod wheel;
