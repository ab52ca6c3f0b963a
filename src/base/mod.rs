//! What every room may use: the log line.

pub mod log;
