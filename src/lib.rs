//! `evenly`: an HTTP load balancer for the edge.

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod demo;
pub mod engine;
pub mod health;
pub mod http1;
pub mod metrics;
pub mod server;
pub mod session;
pub mod settings;
pub mod worker;
