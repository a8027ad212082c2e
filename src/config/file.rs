//! The configuration file, as it is written. `config/gripd.toml` documents every key.

use super::MOST_BODY_BUFFER;
use super::control_api::ControlTable;
use super::field_names::fields_of;
use super::value::{
    FileMode, HeaderOfProxies, ListenValue, LogLevel, ProtoMode, Seconds, ShardCount, Size, WaitTime, limit,
};
use crate::wire::ProxyHeader;
use crate::{front, hub, origin, session, shard};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) listen: Option<ListenValue>,
    pub(super) listen_mode: Option<FileMode>,
    pub(super) shards: ShardCount,
    pub(super) log: Option<LogLevel>,
    pub(super) debug: Option<bool>,
    pub(super) drain: Seconds,
    pub(super) routes: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) route: Vec<super::route_entry::RouteEntry>,
    pub(super) webhook: Vec<super::webhook::WebhookTable>,
    pub(super) client: ClientTable,
    pub(super) origin: OriginTable,
    pub(super) websocket: WebSocketTable,
    pub(super) delivery: DeliveryTable,
    pub(super) control: ControlTable,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientTable {
    pub(super) header_timeout: WaitTime,
    pub(super) idle_timeout: WaitTime,
    pub(super) body_timeout: WaitTime,
    pub(super) body_total: Seconds,
    pub(super) write_timeout: WaitTime,
    pub(super) least_rate: Size,
    pub(super) body_buffer: Size<0, { MOST_BODY_BUFFER as u64 }>,
    pub(super) body_buffers_total: Size<0, { u64::MAX }>,
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
pub(super) struct OriginTable {
    pub(super) sig_iss: String,
    pub(super) sig_key: String,
    pub(super) connect_timeout: WaitTime,
    pub(super) response_timeout: WaitTime,
    pub(super) connection_wait: WaitTime,
    pub(super) idle_timeout: Seconds,
    pub(super) idle_connections: usize,
    pub(super) connections: NonZeroUsize,
    pub(super) websockets: NonZeroUsize,
    pub(super) own_requests: NonZeroUsize,
    pub(super) filter_timeout: WaitTime,
    pub(super) x_forwarded_for: String,
    pub(super) x_forwarded_for_trusted: String,
    pub(super) set_x_forwarded_protocol: ProtoMode,
    pub(super) orig_headers_need_mark: Vec<String>,
    pub(super) via: bool,
    pub(super) cdn_loop: String,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSocketTable {
    pub(super) compression: bool,
    pub(super) context_takeover: bool,
    pub(super) auto_pong: bool,
    pub(super) max_message: Size<1>,
    pub(super) max_relayed_message: Size<1>,
    pub(super) unsent_total: Size<1, { u64::MAX }>,
    pub(super) close_timeout: WaitTime,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeliveryTable {
    pub(super) client_buffer: Size<1>,
    pub(super) outlets_total: Size<1, { u64::MAX }>,
    pub(super) close_grace: WaitTime,
    pub(super) event_keep_alive: Seconds,
    pub(super) message_wait: Seconds,
    pub(super) id_cache_ttl: Seconds,
    pub(super) subscription_linger: Seconds,
    pub(super) update_on_first_subscription: bool,
}

// A key that is not in the file has the default of the part that it configures.

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            listen: None,
            listen_mode: None,
            shards: ShardCount(0),
            log: None,
            debug: None,
            drain: Seconds(Duration::from_secs(10)),
            routes: None,
            state_dir: None,
            route: Vec::new(),
            webhook: Vec::new(),
            client: ClientTable::default(),
            origin: OriginTable::default(),
            websocket: WebSocketTable::default(),
            delivery: DeliveryTable::default(),
            control: ControlTable::default(),
        }
    }
}

impl Default for ClientTable {
    fn default() -> Self {
        let front = front::Settings::default();
        Self {
            header_timeout: WaitTime(front.header_timeout),
            idle_timeout: WaitTime(front.idle_timeout),
            body_timeout: WaitTime(front.body_pace.grace),
            body_total: Seconds(front.body_pace.total.unwrap_or_default()),
            write_timeout: WaitTime(front.answer_pace.grace),
            least_rate: Size(usize::try_from(front.body_pace.rate).unwrap_or(usize::MAX)),
            body_buffer: Size(front.body_buffer),
            body_buffers_total: Size(front.body_buffers),
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

impl Default for OriginTable {
    fn default() -> Self {
        let origin = origin::Settings::default();
        Self {
            // These are Pushpin's defaults. Backends made for Pushpin recognize requests by a signature with this
            // key.
            sig_iss: "pushpin".into(),
            sig_key: "changeme".into(),
            connect_timeout: WaitTime(origin.connect_timeout),
            response_timeout: WaitTime(origin.response_timeout),
            connection_wait: WaitTime(origin.connection_wait),
            idle_timeout: Seconds(origin.idle_timeout),
            idle_connections: origin.idle_connections,
            connections: limit(origin.connections),
            websockets: limit(origin.websockets),
            own_requests: limit(32),
            filter_timeout: WaitTime(origin.filter_timeout),
            x_forwarded_for: "auto".into(),
            x_forwarded_for_trusted: String::new(),
            set_x_forwarded_protocol: ProtoMode(origin.forwarding.proto),
            orig_headers_need_mark: Vec::new(),
            via: true,
            cdn_loop: String::new(),
        }
    }
}

impl Default for WebSocketTable {
    fn default() -> Self {
        let session = session::Settings::default();
        Self {
            compression: session.compression,
            context_takeover: session.context_takeover,
            auto_pong: session.auto_pong,
            max_message: Size(session.max_message),
            max_relayed_message: Size(session.max_relayed_message),
            unsent_total: Size(session.unsent_total),
            close_timeout: WaitTime(session.close_timeout),
        }
    }
}

impl Default for DeliveryTable {
    fn default() -> Self {
        let shard = shard::Settings::default();
        let hub = hub::Settings::default();
        Self {
            client_buffer: Size(shard.client_buffer),
            outlets_total: Size(shard.outlets_total),
            close_grace: WaitTime(shard.close_grace),
            event_keep_alive: Seconds(shard.event_keep_alive),
            message_wait: Seconds(hub.message_wait),
            id_cache_ttl: Seconds(hub.id_cache_ttl),
            subscription_linger: Seconds(hub.subscription_linger),
            update_on_first_subscription: hub.update_on_first_subscription,
        }
    }
}

/// Returns the tables of the file that hold settings, each with the names of its settings.
pub(super) fn tables() -> [(&'static str, &'static [&'static str]); 5] {
    [
        ("client", fields_of::<ClientTable>()),
        ("origin", fields_of::<OriginTable>()),
        ("websocket", fields_of::<WebSocketTable>()),
        ("delivery", fields_of::<DeliveryTable>()),
        ("control", fields_of::<ControlTable>()),
    ]
}
