//! Arguments in, exit code out.

mod args;
mod publish;
mod reload;
mod run;
mod server;

use clap::Parser;
use std::process::ExitCode;

/// All went well; for the daemon: it drained.
const OK: u8 = 0;
/// Something failed.
const FAILURE: u8 = 1;
/// The arguments are wrong.
const USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG` of BSD's sysexits).
const CONFIG: u8 = 78;

/// Runs the program with the arguments of its process.
pub fn run() -> ExitCode {
    let args = args::Args::parse();
    let code = match &args.command {
        None => run::daemon(&args),
        Some(args::Command::Check) => run::check(&args),
        Some(args::Command::Publish(publish)) => publish::publish(publish),
        Some(args::Command::Close(close)) => publish::close(close),
    };
    ExitCode::from(code)
}
