//! The demo's origin, which runs in a thread of the daemon.

use super::local_runtime;
use crate::config::Config;
use crate::control::random_secret;
use crate::demo::{self, WebhookSecret};
use crate::notify::{EventKinds, Webhook, WebhookUrl};
use crate::route::{RouteTable, parse_line};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

/// The running origin of the demo, and the parts that gripd needs for it.
pub(super) struct DemoOrigin {
    /// The only route, which leads to the demo.
    pub(super) routes: Arc<RouteTable>,
    /// The token with which the demo publishes, if the control API asks for tokens.
    token: String,
    /// The webhook that tells the demo who is here.
    webhook: Webhook,
}

impl DemoOrigin {
    /// Starts the demo on a free port, in a thread of its own. It publishes to the control port `control`.
    ///
    /// # Errors
    /// No port or thread is free, or the system provides no random bytes.
    pub(super) fn start(control: SocketAddr) -> io::Result<Self> {
        let (token, secret) = (random_secret()?, WebhookSecret::random()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let target = listener.local_addr()?;
        let webhook = webhook(target, &secret)?;
        let shown = Some(token.clone());
        Builder::new().name("demo".into()).spawn(move || {
            let served = local_runtime().and_then(|runtime| {
                runtime.block_on(async {
                    demo::serve(tokio::net::TcpListener::from_std(listener)?, control, shown, secret).await
                })
            });
            if let Err(error) = served {
                tracing::error!(%error, "the demo ended");
            }
        })?;
        let route = parse_line(&format!("*,id=demo {target},over_http")).map_err(io::Error::other)?;
        let routes = RouteTable::new(route).map_err(|(_, invalid)| io::Error::other(invalid))?;
        Ok(Self { routes: Arc::new(routes), token, webhook })
    }

    /// Adds the token and the webhook of the demo, which are written in no file, to a configuration.
    pub(super) fn admit(&self, config: &mut Config) {
        config.control.access.admit_demo(&self.token);
        config.notify.hooks.push(self.webhook.clone());
    }
}

impl fmt::Debug for DemoOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token and the URL of the webhook are secret.
        f.debug_struct("DemoOrigin").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// Returns the webhook that tells the demo at `origin` which people have connections. Between two long-polls, and while
/// a page connects again, a person has none for a short time, and does not count as gone.
fn webhook(origin: SocketAddr, secret: &WebhookSecret) -> io::Result<Webhook> {
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
