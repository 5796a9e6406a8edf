//! Messages to JSON and from what back ends post. What must hold is in `posthouse_fuzz::msync_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::msync_bodies(bytes);
});
