//! libFuzzer's entry to [`koskit_fuzz::image`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| koskit_fuzz::image(data));
