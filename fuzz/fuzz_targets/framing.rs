#![no_main]
use evenly_fuzz::framing::{Message, check};

libfuzzer_sys::fuzz_target!(|message: Message| check(&message));
