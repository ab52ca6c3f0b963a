#![no_main]
use evenly_fuzz::session::{Operation, check};

libfuzzer_sys::fuzz_target!(|operations: Vec<Operation>| check(&operations));
