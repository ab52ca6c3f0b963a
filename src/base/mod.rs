//! Small tools every room may use: they know nothing of HTTP, sockets or threads.

pub mod address;
pub mod buffer;
pub mod lines;
pub mod log;
pub mod shortage;
pub mod slab;
pub mod stderr;
pub mod sync;
pub mod text;
pub mod thread;
pub mod tick;
pub mod wheel;
