//! libFuzzer's entry to [`koskit_fuzz::dockerignore`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| koskit_fuzz::dockerignore(data));
