//! The binary `pvusb-agent`: parses, sets up logging, dispatches. No logic.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pvusb_agent::cli::main(std::env::args_os()))
}
