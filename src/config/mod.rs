//! The configuration of gripd, from a TOML file, lines of routes and the command line.
//!
//! The module `file` has the keys as they are written, and [`Config`] has the settings that result from them. An
//! unknown key is an error.

mod control_api;
mod document;
mod environment;
mod error;
mod field_names;
mod file;
mod file_path;
mod keys;
mod listen;
mod places;
mod route_entry;
mod routes;
mod table_path;
mod toml_error;
mod units;
mod value;
mod webhook;
mod written;

pub use environment::{config_file, names_routes, unknown_variables};
pub use error::{ConfigError, Problem};
pub use units::parse_duration;
pub use written::{SettingChanges, WrittenSettings};

use crate::control;
use crate::control::ControlAccess;
use crate::front;
use crate::grip::InvalidText;
use crate::grip::signature::{ProxyVerifier, Signer};
use crate::hold;
use crate::hub;
use crate::net::{ListenAddress, PaceLimits, UnixAddress};
use crate::notify;
use crate::origin;
use crate::origin::{AcceptProto, ForwardedEdit, ForwardedFor, Forwarding};
use crate::route::RouteTable;
use crate::session;
use crate::shard;
use crate::wire::{Network, TrustedProxies, is_authority, without_port};
use document::ConfigDocument;
use file_path::folder;
use hyper::header::HeaderName;
use places::SettingPlaces;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// The port on which Pushpin serves clients.
const CLIENT_PORT: u16 = 7999;
/// The largest value of `client.body_buffer`, in bytes.
const MOST_BODY_BUFFER: usize = 1 << 20;
/// The maximum number of shards. It is greater than the number of cores of any current machine.
const MAX_SHARDS: usize = 1024;
/// The port on which Pushpin serves publishers.
const CONTROL_PORT: u16 = 5561;

/// The settings of a gripd process.
#[derive(Debug)]
pub struct Config {
    /// The address on which clients are served.
    pub listen: ListenAddress,
    /// The address on which publishers are served.
    pub control_listen: SocketAddr,
    /// The number of shards, which is the number of threads that hold connections. It is at least 1.
    pub shards: usize,
    /// The least severe level that is logged.
    pub log: LevelFilter,
    /// The time over which a drain spreads the ends of streams and WebSockets.
    pub drain: Duration,
    /// The routes, or `None` if none are configured, so that the demo runs.
    pub routes: Option<Arc<RouteTable>>,
    /// The files whose changes may change the routes: the configuration file, the routes file, and files with JSON
    /// Web Key Sets.
    pub sources: Vec<PathBuf>,
    /// The settings as they are written, by which two configurations are compared.
    pub written: WrittenSettings,
    /// The maximum number of concurrent requests of each kind that gripd itself sends to one origin, over all shards.
    /// The kinds are those of `origin::Lane`.
    pub own_requests: usize,
    /// The settings for requests of clients.
    pub front: front::Settings,
    /// The settings for held streams and long-polls.
    pub hold: hold::Settings,
    /// The settings for WebSockets.
    pub session: session::Settings,
    /// The settings for requests to origins.
    pub origin: origin::Settings,
    /// The settings for the acceptance and the order of items.
    pub hub: hub::Settings,
    /// The settings for the delivery of items.
    pub shard: shard::Settings,
    /// The settings of the control API.
    pub control: control::Settings,
    /// The settings of webhooks.
    pub notify: notify::Settings,
}

/// The settings of the command line, which take precedence over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The lines of routes. If there are any, they replace all routes of the file.
    pub routes: Vec<String>,
    /// The address on which clients are served.
    pub listen: Option<ListenAddress>,
    /// The address on which publishers are served.
    pub control: Option<SocketAddr>,
    /// The number of shards. 0 means one per core.
    pub shards: Option<usize>,
    /// The least severe level that is logged.
    pub log: Option<LevelFilter>,
    /// The number of shards of the gripd that runs already and reads the configuration again. Limits for all shards
    /// together are divided by this number, whatever number is configured now.
    pub shards_in_use: Option<usize>,
    /// Whether the demo runs, which needs no routes.
    pub demo: bool,
    /// The names and values of environment variables, of which those with the names of settings take precedence over
    /// the file.
    pub environment: Vec<(String, String)>,
}

impl Overrides {
    /// Returns the names of the settings whose values in the file have no effect.
    fn overridden(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("listen", self.listen.is_some()),
            ("control.listen", self.control.is_some()),
            ("shards", self.shards.is_some()),
            ("log", self.log.is_some()),
        ];
        all.into_iter().filter_map(|(name, is_overridden)| is_overridden.then_some(name))
    }
}

/// The settings that cannot be taken from the file as they are, because they are parsed, or read from other files.
#[derive(Default)]
struct ParsedSettings {
    signer: Option<Arc<Signer>>,
    trusted: Option<ProxyVerifier>,
    forwarding: Forwarding,
    access: ControlAccess,
    unix: Option<UnixAddress>,
    listen: Option<ListenAddress>,
}

impl ParsedSettings {
    fn of(path: Option<&Path>, file: &file::ConfigFile, places: &SettingPlaces, error: &mut ConfigError) -> Self {
        let folder = folder(path);
        let mut wrong = |name: &str, why: &dyn std::fmt::Display| {
            error.push(places.of_setting(name), format!("{name}: {why}"));
        };
        let mut parsed = Self::default();
        match keys::read(&file.origin.sig_key, folder).and_then(|key| Signer::new(&file.origin.sig_iss, &key)) {
            Ok(signer) => parsed.signer = signer.map(Arc::new),
            Err(invalid) => wrong("origin.sig_key", &invalid),
        }
        match keys::read(&file.client.upstream_key, folder).and_then(|key| ProxyVerifier::new(&key)) {
            Ok(verifier) => parsed.trusted = verifier,
            Err(invalid) => wrong("client.upstream_key", &invalid),
        }
        let forwarding = &mut parsed.forwarding;
        for (name, text, rule) in [
            ("origin.x_forwarded_for", &file.origin.x_forwarded_for, &mut forwarding.forwarded_for),
            (
                "origin.x_forwarded_for_trusted",
                &file.origin.x_forwarded_for_trusted,
                &mut forwarding.forwarded_for_trusted,
            ),
        ] {
            match forwarded_for(text) {
                Ok(read) => *rule = read,
                Err(why) => wrong(name, &why),
            }
        }
        for host in &file.control.hosts {
            if !is_authority(host.as_bytes()) || without_port(host) != host {
                wrong(
                    "control.hosts",
                    &format!("'{host}' is not a valid host: give a name or an address, without a port"),
                );
            }
        }
        match file.client.proxies.as_deref().map(networks).transpose() {
            Ok(networks) => {
                forwarding.proxies = networks.map(|all| TrustedProxies::new(all, file.client.proxy_header.0))
            }
            Err(invalid) => wrong("client.proxies", &invalid),
        }
        for name in &file.origin.orig_headers_need_mark {
            match HeaderName::try_from(name.as_str()) {
                Ok(name) => forwarding.need_mark.push(name),
                Err(_) => wrong("origin.orig_headers_need_mark", &format!("'{name}' is not a valid header name")),
            }
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&b);
        if !file.origin.cdn_loop.bytes().all(token) {
            wrong("origin.cdn_loop", &"must be a name without spaces or parameters (RFC 8586)");
        }
        forwarding.proto = file.origin.set_x_forwarded_protocol.0;
        forwarding.accept_proto = match (file.client.accept_x_forwarded_protocol, &file.client.proxies) {
            (Some(false), _) => AcceptProto::OfNone,
            (Some(true), None) => AcceptProto::OfAll,
            (Some(true), Some(_)) | (None, _) => AcceptProto::OfProxies,
        };
        forwarding.accept_route = file.client.accept_pushpin_route;
        if !file.origin.via {
            forwarding.via = None;
        }
        forwarding.cdn_loop = Some(file.origin.cdn_loop.clone()).filter(|name| !name.is_empty());
        parsed
    }
}

impl Config {
    /// Reads the configuration file, if `path` is given, and the files that it names. The command line takes
    /// precedence.
    ///
    /// # Errors
    /// All problems of the files and of the command line, each with its place.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let ConfigDocument { file, table, places } = ConfigDocument::read(path, &overrides.environment, &mut error)?;
        let routes = routes::load(path, &file, &places, overrides, &mut error);
        let mut parsed = ParsedSettings::of(path, &file, &places, &mut error);
        parsed.access = control_api::access(path, &file.control, &places, &mut error);
        parsed.unix = listen::unix(path, &file.control, &places, &mut error);
        parsed.listen = listen::listen(path, &file, overrides.listen.as_ref(), &places, &mut error);
        let notify = webhook::load(path, &file, routes.as_deref(), &places, &mut error);
        error.into_result()?;
        let state_dir = file.state_dir.as_ref().map(|dir| folder(path).join(dir));
        let mut config = Self::of(&file, routes, parsed, overrides);
        config.hub.state_dir = state_dir;
        config.notify = notify;
        config.written = WrittenSettings::new(table, overrides, folder(path));
        config.sources = path.map(Path::to_path_buf).into_iter().chain(routes::routes_file(path, &file)).collect();
        config.sources.extend(config.routes.iter().flat_map(|routes| routes::key_sets(routes)));
        Ok(config)
    }

    fn of(file: &file::ConfigFile, routes: Option<Arc<RouteTable>>, parsed: ParsedSettings, over: &Overrides) -> Self {
        // The demo has no access control, so by default it is served to this machine only.
        let everyone = if routes.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        // The demo prints instructions on the terminal, which lines about each request would push away.
        let usual_log = if routes.is_some() { LevelFilter::INFO } else { LevelFilter::WARN };
        let shards = over.shards.unwrap_or(file.shards.0);
        let shards = over.shards_in_use.unwrap_or_else(|| if shards > 0 { shards } else { cores() });
        let close_grace = file.delivery.close_grace.0;
        let listen = parsed.listen.unwrap_or_else(|| ListenAddress::Tcp((everyone, CLIENT_PORT).into()));
        let is_behind_proxies = file.client.proxies.as_ref().is_some_and(|proxies| !proxies.is_empty());
        let debug = file.debug.unwrap_or_else(|| !over.routes.is_empty() && is_loopback(&listen) && !is_behind_proxies);
        Self {
            listen,
            control_listen: over
                .control
                .or_else(|| file.control.listen.map(|address| address.0))
                .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, CONTROL_PORT).into()),
            shards,
            log: over.log.or_else(|| file.log.map(|level| level.0)).unwrap_or(usual_log),
            drain: file.drain.0,
            routes,
            front: front::Settings { debug, ..front_settings(file, parsed.trusted, shards) },
            hold: hold::Settings { answer_pace: answer_pace(file), debug, ..hold::Settings::default() },
            session: session::Settings {
                max_message: file.websocket.max_message.0,
                max_relayed_message: file.websocket.max_relayed_message.0,
                unsent_total: file.websocket.unsent_total.0.div_ceil(shards),
                compression: file.websocket.compression,
                context_takeover: file.websocket.context_takeover,
                auto_pong: file.websocket.auto_pong,
                close_timeout: file.websocket.close_timeout.0,
            },
            own_requests: file.origin.own_requests.get(),
            notify: notify::Settings::default(),
            sources: Vec::new(),
            written: WrittenSettings::default(),
            origin: origin::Settings {
                connect_timeout: file.origin.connect_timeout.0,
                response_timeout: file.origin.response_timeout.0,
                connection_wait: file.origin.connection_wait.0,
                idle_timeout: file.origin.idle_timeout.0,
                idle_connections: file.origin.idle_connections.div_ceil(shards),
                connections: file.origin.connections.get().div_ceil(shards),
                websockets: file.origin.websockets.get().div_ceil(shards),
                filter_timeout: file.origin.filter_timeout.0,
                max_events: file.websocket.max_message.0.saturating_mul(5),
                shortest_interval: origin::Settings::default().shortest_interval,
                signer: parsed.signer,
                forwarding: parsed.forwarding,
                memory: None,
            },
            hub: hub::Settings {
                publish_wait: file.control.publish_wait.0,
                message_wait: file.delivery.message_wait.0,
                id_cache_ttl: file.delivery.id_cache_ttl.0,
                subscription_linger: file.delivery.subscription_linger.0,
                update_on_first_subscription: file.delivery.update_on_first_subscription,
                compression: file.websocket.compression,
                state_dir: None,
            },
            shard: shard::Settings {
                client_buffer: file.delivery.client_buffer.0,
                outlets_total: file.delivery.outlets_total.0.div_ceil(shards),
                close_grace,
                event_keep_alive: file.delivery.event_keep_alive.0,
                max_channels: file.client.max_channels.get(),
                steps: shard::StepSizes::default(),
            },
            control: control::Settings {
                max_body: file.control.max_body.0,
                receipt_wait: close_grace + Duration::from_millis(100),
                access: parsed.access,
                unix: parsed.unix.map(ListenAddress::Unix),
                health: file.control.health.map(|address| address.0),
                hosts: file.control.hosts.clone(),
            },
        }
    }
}

/// Returns the settings for requests of clients. Limits for all clients together are divided among the shards.
fn front_settings(file: &file::ConfigFile, trusted: Option<ProxyVerifier>, shards: usize) -> front::Settings {
    front::Settings {
        header_timeout: file.client.header_timeout.0,
        idle_timeout: file.client.idle_timeout.0,
        body_pace: PaceLimits {
            grace: file.client.body_timeout.0,
            rate: file.client.least_rate.0 as u64,
            total: Some(file.client.body_total.0).filter(|total| !total.is_zero()),
        },
        answer_pace: answer_pace(file),
        body_buffer: file.client.body_buffer.0,
        body_buffers: file.client.body_buffers_total.0.div_ceil(shards),
        trusted,
        debug: front::Settings::default().debug,
    }
}

/// Returns whether only this machine can connect to an address. With a route of the command line, this means that a
/// developer is trying something out, who should see the reasons of errors.
fn is_loopback(listen: &ListenAddress) -> bool {
    listen.tcp().is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// Returns the slowest pace at which a client may read a response.
const fn answer_pace(file: &file::ConfigFile) -> PaceLimits {
    PaceLimits { grace: file.client.write_timeout.0, rate: file.client.least_rate.0 as u64, total: None }
}

/// Parses addresses and networks.
///
/// # Errors
/// One of the texts is neither an address nor a network.
fn networks(texts: &[String]) -> Result<Vec<Network>, InvalidText> {
    texts.iter().map(|text| Network::parse(text)).collect()
}

/// Parses the value of `x_forwarded_for`: `auto`, or Pushpin's list of `truncate:N` and `append`.
fn forwarded_for(text: &str) -> Result<ForwardedFor, String> {
    if text.trim() == "auto" {
        return Ok(ForwardedFor::Settled);
    }
    let mut edit = ForwardedEdit::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once(':') {
            None if part == "append" => edit.append = true,
            Some(("truncate", count)) => match count.parse() {
                Ok(count) => edit.truncate = Some(count),
                Err(_) => return Err(format!("'{count}' is not a valid number of addresses")),
            },
            _ => return Err(format!("'{part}' is not valid: use 'auto', 'truncate:N' or 'append'")),
        }
    }
    Ok(ForwardedFor::Edited(edit))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
