//! Commands, as far as the domain's types. What must hold is in `posthouse_fuzz::commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::commands(bytes);
});
