#![no_main]
use evenly_fuzz::exchange::{Operation, check};

libfuzzer_sys::fuzz_target!(|operations: Vec<Operation>| check(&operations));
