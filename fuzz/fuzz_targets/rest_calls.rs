//! Easemob's REST calls. What must hold is in `posthouse_fuzz::rest_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::rest_calls(bytes);
});
