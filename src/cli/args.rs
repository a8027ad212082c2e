//! The arguments of the command line.

use super::publisher_args::{CloseArgs, PublishArgs};
use crate::config::{Config, ConfigError, Overrides, config_file, names_routes};
use crate::net::{ListenAddress, parse_address};
use clap::{Args as ArgGroup, Parser, Subcommand};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;

/// A GRIP reverse proxy: makes any web backend realtime. Without arguments it runs the demo, a chat
#[derive(Debug, Parser)]
#[command(name = "gripd", version, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the demo, a chat that is served to this machine only
    Demo(DemoArgs),
    /// Read the configuration, report all errors in it, try what it names, and sum up what would run
    Check(DaemonArgs),
    /// Print a configuration file with all settings, their defaults and their descriptions
    Config(ConfigArgs),
    /// Publish an item to a channel, and print how many connections got it
    Publish(Box<PublishArgs>),
    /// Close the connections of a channel, and print how many were closed
    Close(CloseArgs),
}

/// The arguments of the daemon, and of `gripd check`.
#[derive(Debug, ArgGroup)]
pub(super) struct DaemonArgs {
    /// A route, written as a line of a routes file, such as '* localhost:8000'; repeatable; replaces all configured
    /// routes; if clients connect to a loopback address (--listen), error pages tell them the reason, as with `debug`
    #[arg(long = "route", value_name = "LINE")]
    routes: Vec<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

/// The arguments of `gripd demo`.
#[derive(Debug, ArgGroup)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    process: ProcessArgs,
}

/// The arguments of `gripd config`.
#[derive(Debug, ArgGroup)]
pub(super) struct ConfigArgs {
    /// Print the file with the defaults
    #[arg(long, required = true)]
    defaults: bool,
}

/// The arguments that concern the whole process, whichever routes it serves.
#[derive(Debug, ArgGroup)]
struct ProcessArgs {
    /// The configuration file; by default, the one that the environment variable GRIPD_CONFIG names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address and the port on which clients connect, or unix:FILE
    #[arg(long, value_name = "ADDR", conflicts_with = "port")]
    listen: Option<ListenAddress>,
    /// The port on which clients connect, or ADDR:PORT (an option of Pushpin; like --listen)
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    port: Option<SocketAddr>,
    /// The address and the port on which publishers connect
    #[arg(long, value_name = "ADDR", value_parser = parse_control)]
    control: Option<SocketAddr>,
    /// The number of threads that hold connections, from 1 to 1024; by default, one per core
    #[arg(long, value_name = "N", value_parser = parse_shards)]
    shards: Option<usize>,
    /// The level of the log: error, warn, info, debug, trace or off; or Pushpin's 0 to 4
    #[arg(long, visible_alias = "loglevel", value_name = "LEVEL", value_parser = parse_level)]
    log: Option<LevelFilter>,
}

/// The configuration that the arguments describe: its file, and the settings that take precedence over the file.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigSource {
    /// The path of the configuration file, if there is one.
    pub(super) file: Option<PathBuf>,
    /// The settings of the command line.
    pub(super) overrides: Overrides,
}

impl ConfigSource {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All errors in the files and on the command line.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), &self.overrides)
    }

    /// Reads the configuration again for a gripd that runs with this number of shards.
    ///
    /// # Errors
    /// All errors in the files and on the command line.
    pub(super) fn load_again(&self, shards: usize) -> Result<Config, ConfigError> {
        let overrides = Overrides { shards_in_use: Some(shards), ..self.overrides.clone() };
        Config::load(self.file.as_deref(), &overrides)
    }
}

impl DaemonArgs {
    /// Returns the configuration of the daemon. Without a file and without routes, it is that of the demo.
    pub(super) fn source(&self) -> ConfigSource {
        let mut source = self.process.source();
        source.overrides.routes.clone_from(&self.routes);
        source.overrides.demo =
            source.file.is_none() && self.routes.is_empty() && !names_routes(&source.overrides.environment);
        source
    }
}

impl DemoArgs {
    /// Returns the configuration of the demo.
    pub(super) fn source(&self) -> ConfigSource {
        let mut source = self.process.source();
        source.overrides.demo = true;
        source
    }
}

impl ProcessArgs {
    fn source(&self) -> ConfigSource {
        let overrides = Overrides {
            listen: self.listen.clone().or_else(|| self.port.map(ListenAddress::from)),
            control: self.control,
            shards: self.shards,
            log: self.log,
            environment: std::env::vars_os().filter_map(utf8).collect(),
            ..Overrides::default()
        };
        let file = self.config.clone().or_else(|| config_file(&overrides.environment));
        ConfigSource { file, overrides }
    }
}

/// Returns a variable of the environment, unless it is not UTF-8 text. No setting is any other text.
fn utf8((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// Parses a port such as `7999`, which stands for all IPv4 addresses, or an address and a port such as
/// `127.0.0.1:7999`.
fn parse_port(text: &str) -> Result<SocketAddr, String> {
    parse_address(text, Ipv4Addr::UNSPECIFIED)
}

/// Parses the address for publishers. A port alone means the loopback address.
fn parse_control(text: &str) -> Result<SocketAddr, String> {
    parse_address(text, Ipv4Addr::LOCALHOST)
}

fn parse_shards(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| "give a number from 1 to 1024".to_owned())
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "0" => Ok(LevelFilter::ERROR),
        "1" => Ok(LevelFilter::WARN),
        "2" => Ok(LevelFilter::INFO),
        "3" => Ok(LevelFilter::DEBUG),
        "4" => Ok(LevelFilter::TRACE),
        _ if text.parse::<usize>().is_ok() => {
            Err("a log level given as a number must be from 0 to 4, as in Pushpin".to_owned())
        }
        _ => text.parse().map_err(|_| "give error, warn, info, debug, trace or off".to_owned()),
    }
}
