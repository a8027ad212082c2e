//! The program `gripd`.

use std::process::ExitCode;

// Connections come and go by the thousand and leave holes: this allocator gives their pages back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gripd::cli::run()
}
