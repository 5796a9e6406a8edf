//! WebSocket messages. What must hold is in `posthouse_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::frames(bytes);
});
