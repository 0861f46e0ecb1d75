//! Reading, lowering, planning and running any graph: ends in an error or an output.
#![no_main]

#[path = "../../tests/common/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::bytes(data));
