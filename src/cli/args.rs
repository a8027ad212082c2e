//! The arguments of the command line.

use crate::config::Overrides;
use crate::net::ListenAddress;
use clap::{Args as ArgGroup, Parser, Subcommand};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;

/// A GRIP reverse proxy: makes any web backend realtime. Without routes it runs a chat as a demo.
#[derive(Debug, Parser)]
#[command(name = "gripd", version, args_conflicts_with_subcommands = false)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// A route, written as a line of a routes file, such as '* localhost:8000'; repeatable; replaces all configured
    /// routes
    #[arg(long = "route", value_name = "LINE")]
    pub(super) routes: Vec<String>,
    /// The address and the port on which clients connect, or unix:FILE
    #[arg(long, value_name = "ADDR", conflicts_with = "port")]
    listen: Option<ListenAddress>,
    /// The port on which clients connect, or ADDR:PORT (an option of Pushpin; like --listen)
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    port: Option<SocketAddr>,
    /// The address and the port on which publishers connect
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// The number of threads that hold connections, from 1 to 1024; by default, one per core
    #[arg(long, value_name = "N", value_parser = parse_shards)]
    shards: Option<usize>,
    /// The level of the log: error, warn, info, debug, trace or off; or Pushpin's 0 to 4
    #[arg(long, visible_alias = "loglevel", value_name = "LEVEL", value_parser = parse_level)]
    log: Option<LevelFilter>,
}

impl Args {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            routes: self.routes.clone(),
            listen: self.listen.clone().or_else(|| self.port.map(ListenAddress::from)),
            control: self.control,
            shards: self.shards,
            log: self.log,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read the configuration and report the errors in it
    Check,
    /// Publish an item to a channel
    Publish(Box<PublishArgs>),
    /// Close the connections of a channel, and print how many were closed
    Close(CloseArgs),
}

/// The arguments of `gripd publish`, which takes the options of `pushpin-publish`.
#[derive(Debug, ArgGroup)]
pub(super) struct PublishArgs {
    /// The channel
    pub(super) channel: String,
    /// The content to publish; '@FILE' reads a file
    #[arg(required_unless_present_any = ["close", "hint"])]
    pub(super) content: Option<String>,
    /// The item's id
    #[arg(long)]
    pub(super) id: Option<String>,
    /// The id of the item before this one in the channel
    #[arg(long)]
    pub(super) prev_id: Option<String>,
    /// The sender of the item; sets its meta 'sender'
    #[arg(long)]
    pub(super) sender: Option<String>,
    /// Meta of the item, for filters; repeatable
    #[arg(short = 'M', long, value_name = "NAME=VALUE", value_parser = parse_meta)]
    pub(super) meta: Vec<(String, String)>,
    /// The status code of the response to long-polls
    #[arg(long, default_value_t = 200)]
    pub(super) code: u16,
    /// A header of the response to long-polls; repeatable
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(super) header: Vec<(String, String)>,
    /// Make the connections of the channel ask their origin again
    #[arg(long, conflicts_with_all = ["close", "patch"])]
    pub(super) hint: bool,
    /// Close the channel's connections, after the content if there is any
    #[arg(long, conflicts_with = "patch")]
    pub(super) close: bool,
    /// Treat the content as a JSON patch of the body that is held for long-polls
    #[arg(long)]
    pub(super) patch: bool,
    /// Deliver the item at once, even if an item before it is missing
    #[arg(long)]
    pub(super) no_seq: bool,
    /// Add no newline to the content
    #[arg(long)]
    pub(super) no_eol: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, ArgGroup)]
pub(super) struct CloseArgs {
    /// The channel
    pub(super) channel: String,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(ArgGroup)]
pub(super) struct ServerArgs {
    /// The control API of gripd: http://HOST:PORT or unix:FILE. Append ?iss=NAME&key=KEY to authenticate with a JWT,
    /// as GRIP libraries do, or ?key=KEY to authenticate with the key itself
    #[arg(long, env = "GRIP_URL", hide_env_values = true, value_name = "URL", default_value = "http://localhost:5561")]
    pub(super) spec: String,
    /// A user name and a password for the control API
    #[arg(short, long, value_name = "USER:PASS", conflicts_with = "bearer")]
    pub(super) user: Option<String>,
    /// A bearer token for the control API
    #[arg(short = 'B', long, value_name = "TOKEN")]
    pub(super) bearer: Option<String>,
}

impl fmt::Debug for ServerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL, the password and the token may be secret, so no field is shown.
        f.debug_struct("ServerArgs").finish_non_exhaustive()
    }
}

/// Parses a port such as `7999`, which stands for all IPv4 addresses, or an address and a port such as
/// `127.0.0.1:7999`.
fn parse_port(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    text.parse().map_err(|_| "give a port, or an address and a port".to_owned())
}

fn parse_meta(text: &str) -> Result<(String, String), String> {
    split(text, '=').ok_or_else(|| "give a name, '=' and a value".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    split(text, ':').ok_or_else(|| "give a name, ':' and a value".to_owned())
}

fn split(text: &str, at: char) -> Option<(String, String)> {
    let (name, value) = text.split_once(at)?;
    let name = name.trim();
    if name.is_empty() { None } else { Some((name.to_owned(), value.trim().to_owned())) }
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
