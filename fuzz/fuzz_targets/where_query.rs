//! Conversation queries. What must hold is in `posthouse_fuzz::where_query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    posthouse_fuzz::where_query(bytes);
});
