//! The configuration file, as it is written. `config/gripd.toml` documents every key.

use super::Error;
use super::control_api::{Control, Lines};
use super::toml_error::describe;
use super::value::{HeaderOfProxies, Level, Listen, Mode, ProtoMode, Seconds, Shards, Wait, limit};
use crate::wire::ProxyHeader;
use crate::{front, hub, origin, session, shard};
use serde::Deserialize;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<Listen>,
    pub(super) listen_mode: Option<Mode>,
    pub(super) shards: Shards,
    pub(super) log: Level,
    pub(super) debug: bool,
    pub(super) drain: Seconds,
    pub(super) routes: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) route: Vec<super::route_table::RouteTable>,
    pub(super) webhook: Vec<super::webhook::WebhookTable>,
    pub(super) client: Client,
    pub(super) origin: Origin,
    pub(super) websocket: WebSocket,
    pub(super) delivery: Delivery,
    pub(super) control: Control,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Client {
    pub(super) header_timeout: Wait,
    pub(super) idle_timeout: Wait,
    pub(super) body_timeout: Wait,
    pub(super) body_total: Seconds,
    pub(super) write_timeout: Wait,
    pub(super) least_rate: u64,
    pub(super) body_buffer: usize,
    pub(super) body_buffers_total: usize,
    pub(super) max_channels: NonZeroUsize,
    pub(super) upstream_key: String,
    pub(super) proxies: Option<Vec<String>>,
    pub(super) proxy_header: HeaderOfProxies,
    pub(super) accept_x_forwarded_protocol: Option<bool>,
    pub(super) accept_pushpin_route: bool,
    pub(super) auto_cross_origin: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Origin {
    pub(super) sig_iss: String,
    pub(super) sig_key: String,
    pub(super) connect_timeout: Wait,
    pub(super) response_timeout: Wait,
    pub(super) connection_wait: Wait,
    pub(super) idle_timeout: Seconds,
    pub(super) idle_connections: usize,
    pub(super) connections: NonZeroUsize,
    pub(super) websockets: NonZeroUsize,
    pub(super) own_requests: NonZeroUsize,
    pub(super) filter_timeout: Wait,
    pub(super) x_forwarded_for: String,
    pub(super) x_forwarded_for_trusted: String,
    pub(super) set_x_forwarded_protocol: ProtoMode,
    pub(super) orig_headers_need_mark: Vec<String>,
    pub(super) via: bool,
    pub(super) cdn_loop: String,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSocket {
    pub(super) compression: bool,
    pub(super) context_takeover: bool,
    pub(super) auto_pong: bool,
    pub(super) max_message: NonZeroUsize,
    pub(super) max_relayed_message: NonZeroU32,
    pub(super) unsent_total: NonZeroUsize,
    pub(super) close_timeout: Wait,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Delivery {
    pub(super) client_buffer: NonZeroUsize,
    pub(super) outlets_total: NonZeroUsize,
    pub(super) close_grace: Wait,
    pub(super) message_wait: Seconds,
    pub(super) id_cache_ttl: Seconds,
    pub(super) subscription_linger: Seconds,
    pub(super) update_on_first_subscription: bool,
}

// A key that is not in the file has the default of the part that it configures.

impl Default for File {
    fn default() -> Self {
        Self {
            listen: None,
            listen_mode: None,
            shards: Shards(0),
            log: Level(LevelFilter::INFO),
            debug: front::Settings::default().debug,
            drain: Seconds(Duration::from_secs(10)),
            routes: None,
            state_dir: None,
            route: Vec::new(),
            webhook: Vec::new(),
            client: Client::default(),
            origin: Origin::default(),
            websocket: WebSocket::default(),
            delivery: Delivery::default(),
            control: Control::default(),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        let front = front::Settings::default();
        Self {
            header_timeout: Wait(front.header_timeout),
            idle_timeout: Wait(front.idle_timeout),
            body_timeout: Wait(front.body_pace.grace),
            body_total: Seconds(front.body_pace.total.unwrap_or_default()),
            write_timeout: Wait(front.answer_pace.grace),
            least_rate: front.body_pace.rate,
            body_buffer: front.body_buffer,
            body_buffers_total: front.body_buffers,
            max_channels: limit(shard::Settings::default().max_channels),
            upstream_key: String::new(),
            proxies: None,
            proxy_header: HeaderOfProxies(ProxyHeader::default()),
            accept_x_forwarded_protocol: None,
            accept_pushpin_route: false,
            auto_cross_origin: false,
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        let origin = origin::Settings::default();
        Self {
            // These are Pushpin's defaults. Backends made for Pushpin recognize requests by a signature with this
            // key.
            sig_iss: "pushpin".into(),
            sig_key: "changeme".into(),
            connect_timeout: Wait(origin.connect_timeout),
            response_timeout: Wait(origin.response_timeout),
            connection_wait: Wait(origin.connection_wait),
            idle_timeout: Seconds(origin.idle_timeout),
            idle_connections: origin.idle_connections,
            connections: limit(origin.connections),
            websockets: limit(origin.websockets),
            own_requests: limit(32),
            filter_timeout: Wait(origin.filter_timeout),
            x_forwarded_for: "auto".into(),
            x_forwarded_for_trusted: String::new(),
            set_x_forwarded_protocol: ProtoMode(origin.forwarding.proto),
            orig_headers_need_mark: Vec::new(),
            via: true,
            cdn_loop: String::new(),
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        let session = session::Settings::default();
        Self {
            compression: session.compression,
            context_takeover: session.context_takeover,
            auto_pong: session.auto_pong,
            max_message: limit(session.max_message),
            max_relayed_message: limit(session.max_relayed_message).try_into().unwrap_or(NonZeroU32::MAX),
            unsent_total: limit(session.unsent_total),
            close_timeout: Wait(session.close_timeout),
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let shard::Settings { client_buffer, outlets_total, close_grace, .. } = shard::Settings::default();
        let (client_buffer, outlets_total) = (limit(client_buffer), limit(outlets_total));
        let hub = hub::Settings::default();
        Self {
            client_buffer,
            outlets_total,
            close_grace: Wait(close_grace),
            message_wait: Seconds(hub.message_wait),
            id_cache_ttl: Seconds(hub.id_cache_ttl),
            subscription_linger: Seconds(hub.subscription_linger),
            update_on_first_subscription: hub.update_on_first_subscription,
        }
    }
}

impl File {
    /// Reads and parses a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or is not valid. The error names the line.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Error::one(&place, format!("cannot be read: {e}")))?;
        let lines = Lines::new(&text);
        let mut file: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| lines.of(span.start));
            Error::one(&format!("{place}:{line}"), describe(&error, &text))
        })?;
        file.control.lines = lines;
        Ok(file)
    }
}
