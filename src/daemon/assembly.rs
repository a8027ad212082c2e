//! The assembly of a daemon's parts, before its threads are started.

use super::control_thread::ControlThread;
use super::listeners::{Addresses, Listeners};
use super::live::{Live, ShardSettings};
use super::metrics::{self, Counters};
use super::shard_thread::ShardThread;
use super::{configure, local, local_runtime, warn_of_ignored};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::control::{self, ControlApi};
use crate::demo::{self, WebhookSecret};
use crate::hub::Hub;
use crate::net::Descriptors;
use crate::notify::{self, EventKinds, Notifier, Webhook, WebhookUrl};
use crate::origin::Shield;
use crate::route::{RouteTable, parse_line};
use crate::telemetry::metrics::MetricsRegistry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The parts of a daemon. Its listeners are bound, but no thread serves them yet.
pub(super) struct Assembly {
    pub(super) addresses: Addresses,
    pub(super) control: Arc<ControlApi>,
    pub(super) hub: Arc<Hub>,
    /// The signal that begins the drain, when `true` is sent.
    pub(super) drain: watch::Sender<bool>,
    /// The routes and settings of the shards, which may be replaced.
    pub(super) live: watch::Sender<Live>,
    pub(super) shield: Arc<Shield>,
    pub(super) webhook_metrics: Arc<notify::Metrics>,
    /// The secret of the demo's token, if the demo runs.
    pub(super) demo_secret: Option<String>,
    /// The webhook of the demo, if the demo runs.
    pub(super) demo_webhook: Option<Webhook>,
    pub(super) shards: Vec<ShardThread>,
    pub(super) control_thread: ControlThread,
    /// The signal that ends the control thread. The duration is the time that webhooks have to send their remaining
    /// events.
    pub(super) stop_control: oneshot::Sender<Duration>,
}

impl Assembly {
    /// Binds the addresses and builds the parts.
    ///
    /// # Errors
    /// An address cannot be used, the state on disk cannot be read, or the demo cannot be started. The error says
    /// which.
    pub(super) fn new(mut config: Config) -> io::Result<Self> {
        let hub = Hub::new(config.hub.clone(), config.shards);
        hub.load()?;
        let Listeners { clients, control: listeners, addresses } = Listeners::bind(&config)?;
        let demo_secret = if config.routes.is_none() { Some(control::random_secret()?) } else { None };
        let (table, demo_webhook) = match &config.routes {
            Some(routes) => (Arc::clone(routes), None),
            None => {
                let (table, webhook) = start_demo(local(addresses.control), demo_secret.clone())?;
                (table, Some(webhook))
            }
        };
        config.notify.hooks.extend(demo_webhook.clone());
        config.control.access.admit_demo(demo_secret.as_deref());
        announce(&config, &addresses, &table);
        configure(&hub, &table);
        let registry = MetricsRegistry::new();
        let counters = Counters::new(&registry);
        let settings = Arc::new(ShardSettings::of(&config));
        let notifier = Notifier::new(config.notify, &counters.notify);
        let (live, current) = watch::channel(Live { routes: table, settings, notifier });
        let (drain, drained) = watch::channel(false);
        let shield = Shield::new(config.own_requests, &counters.origin);
        let descriptors = Descriptors::of_process(config.shards + 1);
        let shards = clients.into_iter().enumerate().map(|(index, listener)| ShardThread {
            index,
            listener,
            drained: drained.clone(),
            live: current.clone(),
            shield: Arc::clone(&shield),
            hub: Arc::clone(&hub),
            descriptors: Arc::clone(&descriptors),
            counters: counters.clone(),
        });
        let shards = shards.collect();
        metrics::register(&registry, &hub, &descriptors);
        let cluster = Cluster::alone(Arc::clone(&hub));
        let control = ControlApi::new(config.control, cluster, descriptors, counters.control, registry);
        let (stop_control, stopped) = oneshot::channel();
        let control_thread =
            ControlThread { control: Arc::clone(&control), hub: Arc::clone(&hub), live: current, listeners, stopped };
        Ok(Self {
            addresses,
            control,
            hub,
            drain,
            live,
            shield,
            webhook_metrics: counters.notify,
            demo_secret,
            demo_webhook,
            shards,
            control_thread,
            stop_control,
        })
    }
}

fn announce(config: &Config, addresses: &Addresses, routes: &RouteTable) {
    warn_of_ignored(routes);
    let version = env!("CARGO_PKG_VERSION");
    let routes = routes.routes().count();
    let Addresses { clients, control, control_unix, health } = addresses;
    let unix = control_unix.as_ref().map(tracing::field::display);
    let health = health.map(tracing::field::display);
    tracing::info!(version, %clients, %control, unix, health, shards = config.shards, routes, "started");
    if !config.control.access.asks() && !control.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "anyone who can reach {control} can publish messages and close connections: configure \
             [[control.token]], or listen on this machine only"
        );
    }
}

/// Starts the demo's origin on a free port, in a thread of its own. Returns a table whose only route leads to the demo,
/// and the webhook that tells the demo who is here.
fn start_demo(control: SocketAddr, token: Option<String>) -> io::Result<(Arc<RouteTable>, Webhook)> {
    let secret = WebhookSecret::random()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let target = listener.local_addr()?;
    let webhook = demo_webhook(target, &secret)?;
    Builder::new().name("demo".into()).spawn(move || {
        let served = local_runtime().and_then(|runtime| {
            runtime.block_on(async {
                demo::serve(tokio::net::TcpListener::from_std(listener)?, control, token, secret).await
            })
        });
        if let Err(error) = served {
            tracing::error!(%error, "the demo ended");
        }
    })?;
    let route = parse_line(&format!("*,id=demo {target},over_http")).map_err(io::Error::other)?;
    let table = RouteTable::new(route).map_err(|(_, invalid)| io::Error::other(invalid))?;
    Ok((Arc::new(table), webhook))
}

/// Returns the webhook that tells the demo at `origin` which people have connections. Between two long-polls, and while
/// a page connects again, a person has none for a short time, and does not count as gone.
fn demo_webhook(origin: SocketAddr, secret: &WebhookSecret) -> io::Result<Webhook> {
    let url = WebhookUrl::parse(&format!("http://{origin}{}", secret.target())).map_err(io::Error::other)?;
    let mut webhook = Webhook::new(url);
    webhook.route = Some("demo".to_owned());
    webhook.events = EventKinds { joined: true, left: true, ended: false };
    webhook.channels = vec!["conversation*-user-*".into()];
    webhook.users = false;
    webhook.grace = Duration::from_secs(2);
    webhook.batch_wait = Duration::from_millis(20);
    Ok(webhook)
}
