//! The command line: its arguments, commands and exit codes.

mod args;
mod publish;
mod reload;
mod run;
mod server;

use clap::Parser;
use std::process::ExitCode;

/// The exit code for success. For the daemon, this means that it was drained completely.
const OK: u8 = 0;
/// The exit code for a failure while a command runs.
const FAILURE: u8 = 1;
/// The exit code for invalid arguments.
const USAGE: u8 = 2;
/// The exit code for an invalid configuration (`EX_CONFIG` of BSD's sysexits).
const CONFIG: u8 = 78;

/// Runs the command that the arguments of this process name, and returns its exit code.
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
