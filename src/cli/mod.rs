//! The command line: its arguments, commands and exit codes.

mod args;
mod check;
mod defaults;
mod demo;
mod item;
mod outcome;
#[cfg(test)]
mod pages;
mod publish;
mod publisher_args;
mod reload;
mod run;
mod server;
mod service_manager;

use crate::config::ConfigError;
use args::{Args, Command};
use clap::Parser;
use std::io::{self, Write};
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
    let args = Args::parse();
    let code = match &args.command {
        None => run::daemon(&args.daemon.source()),
        Some(Command::Demo(demo)) => run::daemon(&demo.source()),
        Some(Command::Check(daemon)) => check::check(&daemon.source()),
        Some(Command::Config(_)) => defaults::print(),
        Some(Command::Publish(publish)) => publish::publish(publish),
        Some(Command::Close(close)) => publish::close(close),
    };
    ExitCode::from(code)
}

/// Writes to standard output. An error, such as a closed pipe, is ignored: what the text tells has happened already,
/// and the exit code must say so.
fn say(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// Prints all errors in the configuration. Returns the exit code.
fn refuse(error: &ConfigError) -> u8 {
    eprintln!("{error}");
    if error.is_usage() { USAGE } else { CONFIG }
}
