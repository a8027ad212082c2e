//! The arguments of `gripd publish` and `gripd close`.

use crate::config::parse_duration;
use clap::Args as ArgGroup;
use std::fmt;
use std::time::Duration;

/// The arguments of `gripd publish`, which takes the options of `pushpin-publish`.
#[derive(Debug, ArgGroup)]
pub(super) struct PublishArgs {
    /// The channel
    pub(super) channel: String,
    /// The content to publish; '@FILE' reads a file
    #[arg(required_unless_present_any = ["close", "hint"])]
    pub(super) content: Option<String>,
    /// The item's id; it is also the id of the server-sent event
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
    /// Publish a server-sent event only: the content is its data, and only event streams (EventSource) get it. Without
    /// this option, event streams get the content as an event as well, unless it is written as one ('data: ...')
    #[arg(long, conflicts_with_all = ["hint", "patch"])]
    pub(super) sse: bool,
    /// The type of the server-sent event
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["hint", "patch"])]
    pub(super) event: Option<String>,
    /// The time after which a browser that has lost the event stream connects again, such as 5s
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["hint", "patch"])]
    pub(super) retry: Option<Duration>,
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
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// The arguments of `gripd close`.
#[derive(Debug, ArgGroup)]
pub(super) struct CloseArgs {
    /// The channel
    pub(super) channel: String,
    /// The time for which nobody may hold the channel after the close, such as 60, 90s, 5m or 1h. With --with or
    /// --except, this applies only to the connections that they select
    #[arg(long, value_name = "TIME", value_parser = parse_denial)]
    pub(super) deny_for: Option<Duration>,
    /// The close code that WebSockets get, such as 4001
    #[arg(long, value_name = "CODE")]
    pub(super) code: Option<u16>,
    /// The reason that WebSockets get
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// The arguments that select some of the connections of a channel.
#[derive(Debug, ArgGroup)]
pub(super) struct SelectionArgs {
    /// Only the connections that also hold this channel; repeatable: they hold all of them
    #[arg(long, value_name = "CHANNEL")]
    pub(super) with: Vec<String>,
    /// Only the connections that do not hold this channel; repeatable: they hold none of them
    #[arg(long, value_name = "CHANNEL")]
    pub(super) except: Vec<String>,
}

/// The arguments that name the control API, and the credentials for it.
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

impl SelectionArgs {
    /// Returns whether the arguments select all connections of the channel.
    pub(super) const fn is_everybody(&self) -> bool {
        self.with.is_empty() && self.except.is_empty()
    }
}

impl fmt::Debug for ServerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL, the password and the token may be secret, so no field is shown.
        f.debug_struct("ServerArgs").finish_non_exhaustive()
    }
}

/// Parses the time of a denial, which is a whole number of seconds, because items are so precise.
fn parse_denial(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.as_secs() > 0 && time.subsec_nanos() == 0 {
        return Ok(time);
    }
    Err("give a whole number of seconds, at least 1".to_owned())
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
