#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mainstay_fuzz::http_face::http(data);
});
