//! libFuzzer's entry to [`koskit_fuzz::wire`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| koskit_fuzz::wire(data));
