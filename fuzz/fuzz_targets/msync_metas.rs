//! Metas from their sender to a receiver. What must hold is in `posthouse_fuzz::msync_metas`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::msync_metas(bytes);
});
