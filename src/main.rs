//! The binary `pvusb-agent`.
fn main() {}
