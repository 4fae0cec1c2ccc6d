#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| golix_fuzz::rules(data));
