//! `try-evenly`, which `make run` starts: evenly in front of two small origins, `blue` and `green`, as three processes;
//! and what becomes of each request, live. A key kills an origin and brings it back.
//!
//! | module | what |
//! | --- | --- |
//! | [`origin`] | the program that blue and green are: a small HTTP/1.1 server |
//! | [`children`] | evenly and the origins as processes that never outlive this one |
//! | [`watch`] | what evenly tells of itself: its log, its access log, its status |
//! | [`board`] | what is shown: pure, from what was seen to lines of text |
//! | [`terminal`] | the screen and the keys, where there is a terminal |
//! | [`traffic`] | requests of our own, for whoever has no hands free |
//! | [`show`] | all of it together, from the start to the end |

mod board;
mod children;
mod origin;
mod show;
mod terminal;
mod traffic;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::board::Colour;

/// Starts evenly in front of two small origins, blue and green, and shows each request.
#[derive(Parser)]
#[command(name = "try-evenly", version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The IP address and port that evenly listens on
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
    /// The program evenly; by default the one beside this one
    #[arg(long, value_name = "FILE")]
    evenly: Option<PathBuf>,
}

/// What this program is for its children.
#[derive(Subcommand)]
enum Role {
    /// Serves as an origin until the process PARENT ends
    #[command(hide = true)]
    Origin { colour: Colour, address: SocketAddr, parent: u32 },
    /// Becomes PROGRAM, which the kernel ends with the process PARENT
    #[command(hide = true)]
    Leash {
        parent: u32,
        program: PathBuf,
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Origin { colour, address, parent }) => origin::main(colour, address, parent),
        Some(Role::Leash { parent, program, arguments }) => {
            let why = children::exec_leashed(parent, &program, &arguments);
            eprintln!("cannot start {}: {why}", program.display());
            ExitCode::FAILURE
        }
        None => show::main(&arguments.listen, arguments.evenly),
    }
}
