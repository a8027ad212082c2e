//! The program `gripd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gripd::cli::run()
}
