//! `evenly`: an HTTP load balancer for the edge.

#![forbid(unsafe_code)]

pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod server;
pub mod settings;
