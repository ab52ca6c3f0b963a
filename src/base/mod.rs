//! Small tools every room may use: they know nothing of HTTP, sockets or threads.

pub mod address;
pub mod buffer;
pub mod log;
pub mod shortage;
pub mod slab;
pub mod sync;
pub mod tick;
pub mod wheel;
