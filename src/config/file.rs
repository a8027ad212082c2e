//! The configuration file, as it is written. `config/gripd.toml` documents every key.

use super::Error;
use crate::grip::{Invalid, invalid};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) shards: usize,
    pub(super) log: Level,
    pub(super) debug: bool,
    pub(super) drain: Seconds,
    pub(super) routes: Option<String>,
    pub(super) route: Vec<RouteTable>,
    pub(super) client: Client,
    pub(super) origin: Origin,
    pub(super) delivery: Delivery,
    pub(super) control: Control,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Client {
    pub(super) header_timeout: Seconds,
    pub(super) max_channels: usize,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Origin {
    pub(super) sig_iss: String,
    pub(super) sig_key: String,
    pub(super) connect_timeout: Seconds,
    pub(super) response_timeout: Seconds,
    pub(super) idle_timeout: Seconds,
    pub(super) idle_connections: usize,
    pub(super) connections: usize,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Delivery {
    pub(super) client_buffer: usize,
    pub(super) outlets_total: usize,
    pub(super) close_grace: Seconds,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Control {
    pub(super) listen: Option<SocketAddr>,
    pub(super) max_body: usize,
    pub(super) publish_wait: Seconds,
}

/// A route as a table: the same words as in a line of a routes file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTable {
    #[serde(default = "any_host")]
    host: String,
    target: String,
    proto: Option<String>,
    ssl: Option<bool>,
    path_beg: Option<String>,
    id: Option<String>,
    prefix: Option<String>,
    #[serde(default)]
    debug: bool,
}

fn any_host() -> String {
    "*".into()
}

/// A time in seconds, whole or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|e| D::Error::custom(format!("seconds: {e}")))
    }
}

/// How much is logged, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level(pub(super) LevelFilter);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level = name.parse().map_err(|_| D::Error::custom("log is one of error, warn, info, debug, trace, off"));
        level.map(Self)
    }
}

const fn seconds(seconds: u64) -> Seconds {
    Seconds(Duration::from_secs(seconds))
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: None,
            shards: 0,
            log: Level(LevelFilter::INFO),
            debug: false,
            drain: seconds(10),
            routes: None,
            route: Vec::new(),
            client: Client::default(),
            origin: Origin::default(),
            delivery: Delivery::default(),
            control: Control::default(),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self { header_timeout: seconds(60), max_channels: 100 }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            sig_iss: "pushpin".into(),
            sig_key: "changeme".into(),
            connect_timeout: seconds(10),
            response_timeout: seconds(60),
            idle_timeout: seconds(55),
            idle_connections: 128,
            connections: 1024,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self { client_buffer: 256 << 10, outlets_total: 512 << 20, close_grace: seconds(1) }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { listen: None, max_body: 1_000_000, publish_wait: seconds(5) }
    }
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Error::one(&place, format!("cannot be read: {e}")))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Error::one(&format!("{place}:{line}"), error.message())
        })
    }

    /// Notes the values that cannot work.
    pub(super) fn check(&self, place: &str, error: &mut Error) {
        let positive = [
            ("client.max_channels", self.client.max_channels),
            ("origin.connections", self.origin.connections),
            ("delivery.client_buffer", self.delivery.client_buffer),
            ("delivery.outlets_total", self.delivery.outlets_total),
            ("control.max_body", self.control.max_body),
        ];
        for (name, _) in positive.into_iter().filter(|(_, value)| *value == 0) {
            error.push(place, format!("{name} must be more than 0"));
        }
        let waits = [
            ("client.header_timeout", self.client.header_timeout),
            ("origin.connect_timeout", self.origin.connect_timeout),
            ("origin.response_timeout", self.origin.response_timeout),
        ];
        for (name, _) in waits.into_iter().filter(|(_, value)| value.0.is_zero()) {
            error.push(place, format!("{name} must be more than 0"));
        }
    }
}

impl RouteTable {
    /// The line of a routes file that says the same.
    pub(super) fn line(&self) -> Result<String, Invalid> {
        let ssl = self.ssl.map(|ssl| if ssl { "yes" } else { "no" }.to_owned());
        let debug = self.debug.then(|| "true".to_owned());
        let properties = [
            ("proto", &self.proto),
            ("ssl", &ssl),
            ("path_beg", &self.path_beg),
            ("id", &self.id),
            ("prefix", &self.prefix),
            ("debug", &debug),
        ];
        if self.target.contains([' ', '\t']) {
            return invalid("several targets for one route are not supported yet");
        }
        let mut line = quote(&self.host);
        for (name, value) in properties {
            if let Some(value) = value {
                line.push_str(&format!(",{name}={}", quote(value)));
            }
        }
        // A target may bring its options, as in a routes file.
        Ok(format!("{line} {}", self.target))
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
