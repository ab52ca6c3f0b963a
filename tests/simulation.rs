//! The whole engine on a fake network, against a shadow model: many small worlds, each from a seed.
//!
//! `SEED=7` runs that seed alone (with `TRACE=1` it tells what happens), `SEEDS=10000` runs so many
//! (from `SEED` on, if both are given), `STEPS=200` lets more happen in each, and `WORLD=pauses` makes each of that kind
//! (`simulation/hardship.rs` names them). `KEEP_GOING=1` does not stop at the first seed that fails. What is simulated is the production engine: see `simulation/run.rs` for how it is
//! driven, `simulation/net.rs` for what the network promises, `simulation/model.rs` for what must hold.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, but not in what tests are made of

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/cuts.rs"]
mod cuts;
#[path = "simulation/early.rs"]
mod early;
#[path = "simulation/hardship.rs"]
mod hardship;
#[path = "simulation/memory.rs"]
mod memory;
#[path = "simulation/message.rs"]
mod message;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/net.rs"]
mod net;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/scenes.rs"]
mod scenes;
#[path = "simulation/target.rs"]
mod target;
#[path = "simulation/turns.rs"]
mod turns;

use run::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// Things that happen in a world.
const STEPS: usize = 20;

fn knob(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn steps() -> usize {
    knob("STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap())
}

/// Says how to repeat a run that fails.
struct Repeat {
    seed: u64,
    steps: usize,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Repeat { seed, steps } = self;
            let world = std::env::var("WORLD").ok().filter(|names| !names.is_empty());
            let world = world.map(|names| format!(" WORLD={names}")).unwrap_or_default();
            eprintln!(
                "\nto repeat it: make sim SEED={seed} STEPS={steps}{world}   (TRACE=1 tells what happens)\n"
            );
        }
    }
}

fn run(seed: u64) -> u64 {
    let steps = steps();
    let _repeat = Repeat { seed, steps };
    World::new(seed, steps).run()
}

#[test]
fn every_seed_keeps_the_promises() {
    let (seed, seeds) = (knob("SEED"), knob("SEEDS"));
    let count = seeds.unwrap_or(if seed.is_some() { 1 } else { SEEDS });
    let first = seed.unwrap_or(0);
    if knob("KEEP_GOING").is_none() {
        return (first..first + count).for_each(|seed| _ = run(seed));
    }
    let fails = |seed: &u64| std::panic::catch_unwind(|| run(*seed)).is_err();
    let failed: Vec<u64> = (first..first + count).filter(fails).collect();
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let first = knob("SEED").unwrap_or(1);
    for seed in first..first + 3 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(first), run(first + 1));
}

#[test]
fn sequential_requests_alternate_exactly() {
    for hosts in 1..=4 {
        let world = World::sequential(hosts as u64, hosts, 3, 8);
        let order = &world.model.order;
        assert_eq!(order.len(), 24);
        assert!(order.iter().enumerate().all(|(at, &host)| host == at % hosts), "{order:?}");
    }
}
