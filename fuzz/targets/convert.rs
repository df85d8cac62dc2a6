#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvusb_agent::fuzz::convert(bytes));
