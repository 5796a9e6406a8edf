//! MSYNC messages, plain and compressed. What must hold is in `posthouse_fuzz::msync_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::msync_frames(bytes);
});
