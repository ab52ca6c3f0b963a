//! Memory of idle connections. `make idle` asks the same of 5,000, in a run of its own.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::outside::{Clients, Origins, Program};

const IDLE: usize = 1_000;
/// Bytes of process memory for each of them.
const MAX_BYTES: u64 = 1_024;
/// Connections that were there before: what the first ones cost is not theirs alone.
const FIRST: usize = 16;

#[test]
fn an_idle_keep_alive_connection_costs_less_than_a_kilobyte() {
    allow_many_descriptors();
    let origins = Origins::start(FIRST);
    let program = Program::start(&origins, &[]);
    let mut first = Clients::connect(program.address, FIRST);
    first.warm_up();
    let before = pss(program.pid());
    let mut idle = Clients::connect(program.address, IDLE);
    idle.take_turns();
    let grown = pss(program.pid()).saturating_sub(before);
    let each = grown / IDLE as u64;
    println!(
        "{each} bytes for each of {IDLE} idle connections; {before} before them, text not counted"
    );
    assert!(each < MAX_BYTES, "{each} bytes for each of {IDLE} idle connections");
}

/// Both ends of all connections but the program's own are in this process.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a limit may be raised to the hard one");
}

/// The process's share of memory that no file is behind, in bytes (proc(5), `smaps_rollup`). Its share of
/// the program's text moves whenever another test starts or ends the same program.
fn pss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).expect("Linux 5.8");
    let count = line.trim().strip_suffix(" kB").expect("kilobytes");
    count.parse::<u64>().expect("a number") * 1024
}
