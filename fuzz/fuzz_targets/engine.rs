#![no_main]
use evenly_fuzz::engine::{Operation, check};

libfuzzer_sys::fuzz_target!(|operations: Vec<Operation>| check(&operations));
