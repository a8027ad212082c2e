//! The targets of a route, to which its requests go.

use super::section::{LineSection, unknown_option};
use crate::grip::channel::{MAX_NAME, check_length};
use crate::grip::{InvalidText, invalid};
use crate::wire::is_authority;
use std::fmt;

/// One origin of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place where requests to this target are answered.
    pub place: TargetPlace,
    /// The value of `Host` in requests to this target, with a port if one is to be named. `None` stands for the
    /// host that the route sets, or else the one that the client named.
    pub host: Option<String>,
    /// Channels that every hold and session of this target holds in addition. The prefix of the route is not put
    /// before their names.
    pub channels: Vec<String>,
    /// Whether gripd refuses to connect to addresses of private networks for this target, and for links of its route to
    /// other hosts.
    pub untrusted: bool,
    /// Whether the target speaks WebSocket over HTTP.
    pub over_http: bool,
    /// Whether the target gets at most one WebSocket event in each request.
    pub one_event: bool,
}

/// The place where requests to a target are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPlace {
    /// A server with this address.
    Address(Address),
    /// gripd itself, which answers like Pushpin's `test` handler.
    Test,
}

/// A server's address: a host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            TargetPlace::Address(address) => address.fmt(f),
            TargetPlace::Test => f.write_str("test"),
        }
    }
}

/// Reads a target. The names of options that have no effect are added to `ignored`, and all errors to `errors`.
/// Returns `None` if the place has an error.
pub(super) fn parse(section: &LineSection, ignored: &mut Vec<String>, errors: &mut Vec<InvalidText>) -> Option<Target> {
    let place = parse_place(&section.value).map_err(|error| errors.push(error)).ok();
    let mut target = Target {
        place: place.clone().unwrap_or(TargetPlace::Test),
        host: None,
        channels: Vec::new(),
        untrusted: false,
        over_http: false,
        one_event: false,
    };
    for (name, value) in &section.properties {
        if let Err(error) = option(&mut target, ignored, name, value) {
            errors.push(error);
        }
    }
    place.map(|_| target)
}

fn option(target: &mut Target, ignored: &mut Vec<String>, name: &str, value: &str) -> Result<(), InvalidText> {
    match name {
        "host" if !is_authority(value.as_bytes()) => {
            return invalid("the target option 'host' must be a host, or host:port");
        }
        "host" => target.host = Some(value.to_owned()),
        "sub" => {
            check_length("sub", value, MAX_NAME)?;
            target.channels.push(value.to_owned());
        }
        "untrusted" => target.untrusted = true,
        "over_http" => target.over_http = true,
        "one_event" => target.one_event = true,
        // The option concerns ZeroMQ sockets, which gripd does not have.
        "ipc_file_mode" => ignored.push(name.to_owned()),
        "ssl" | "trust_connect_host" | "insecure" | "client_cert" | "client_key" => {
            return invalid(format!(
                "the target option '{name}' is not supported yet: gripd connects to origins without TLS"
            ));
        }
        _ => {
            let known = ["host", "sub", "untrusted", "over_http", "one_event"];
            return invalid(unknown_option("target", name, &known));
        }
    }
    Ok(())
}

fn parse_place(text: &str) -> Result<TargetPlace, InvalidText> {
    if text == "test" {
        return Ok(TargetPlace::Test);
    }
    if text.starts_with("zhttp") {
        return invalid(format!("the target '{text}' uses ZeroMQ, which is not supported: give host:port"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+'))),
        None => return invalid(format!("the target '{text}' has no port: give host:port")),
    };
    let Some(port) = port else { return invalid(format!("the port of the target '{text}' must be from 1 to 65535")) };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return invalid(format!("the target '{text}' has no host: give host:port"));
    }
    if !is_authority(text.as_bytes()) {
        return invalid(format!("the target '{text}' is not a host and a port: give host:port"));
    }
    Ok(TargetPlace::Address(Address { host: host.to_owned(), port }))
}
