//! `evenly`: an HTTP load balancer for the edge.

#![forbid(unsafe_code)]

pub mod balance;
pub mod demo;
pub mod settings;
