#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| evenly_fuzz::body::check(input));
