//! What a request and an idle connection may cost, as figures that do not depend on how fast the
//! machine is: heap allocations, system calls, bytes of memory.
//!
//! Owns the limits. Time is measured elsewhere: `make bench` for parts, `make loadtest` for the whole.

mod allocations;
mod calls;
mod memory;
mod messages;
mod meter;
mod outside;
mod wire;
