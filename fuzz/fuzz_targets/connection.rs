//! Whatever bytes a client sends: HTTP/1, HTTP/2 after its preface, or neither.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|said: &[u8]| {
    bff_fuzz::Fuzzed::get().answers(said);
});
