#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ashlar_fuzz_targets::catalog::run(data));
