//! A gripd that runs in the process of the test.

use super::{Client, Origin, eventually};
use gripd::config::{Config, Overrides};
use gripd::daemon::{Daemon, RemainingConnections};
use gripd::net::ListenAddress;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// The duration of a drain, unless a test sets another.
const DRAIN: Duration = Duration::from_millis(200);

/// Returns the settings of a command line with these routes, two shards, free ports and no log.
fn overrides(routes: &[String]) -> Overrides {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Overrides {
        routes: routes.to_vec(),
        listen: Some(any.into()),
        control: Some(any),
        shards: Some(2),
        log: Some(LevelFilter::OFF),
        ..Overrides::default()
    }
}

/// Turns off the explanations that clients get because the routes are those of a command line, and shortens the drain.
const fn as_in_production(config: &mut Config) {
    (config.front.debug, config.hold.debug) = (false, false);
    config.drain = DRAIN;
}

/// A gripd with two shards, unless a test sets another number. When it is dropped, it drains, and the test fails if
/// connections or channels are left.
pub(crate) struct Gripd {
    daemon: Option<Daemon>,
    /// The address at which gripd listens for clients.
    pub(crate) listen: ListenAddress,
    /// The same address if it is a TCP address. Otherwise, an address at which nobody listens.
    pub(crate) clients: SocketAddr,
    /// The address of the control API.
    pub(crate) control: SocketAddr,
}

impl Gripd {
    /// Starts a gripd with one route, to `origin`.
    pub(crate) fn start(origin: &Origin) -> Self {
        Self::with(origin, "", |_| {})
    }

    /// Starts a gripd with one route, to `origin`. The route has these options, each preceded by a comma, and `change`
    /// changes the settings.
    pub(crate) fn with(origin: &Origin, options: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::to(&[format!("*{options} {}", origin.address)], change)
    }

    /// Starts a gripd with these routes, or the demo if there are none. `change` changes the settings.
    pub(crate) fn to(routes: &[String], change: impl FnOnce(&mut Config)) -> Self {
        Self::by(None, &Overrides { demo: routes.is_empty(), ..overrides(routes) }, |config| {
            as_in_production(config);
            change(config);
        })
    }

    /// Starts a gripd with a configuration file of this text.
    pub(crate) fn configured(text: &str) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Relaxed);
        Self::configured_in(&super::folder(&format!("gripd-{}-{number}", std::process::id())), text)
    }

    /// Starts a gripd with the configuration file `gripd.toml` of this text in `folder`. gripd listens on a free port,
    /// unless the text begins with an address for clients (`listen = `).
    pub(crate) fn configured_in(folder: &Path, text: &str) -> Self {
        let file = folder.join("gripd.toml");
        std::fs::write(&file, text).unwrap();
        let drain = text.contains("drain = ");
        let mut overrides = overrides(&[]);
        if text.starts_with("listen = ") {
            overrides.listen = None;
        }
        Self::by(Some(&file), &overrides, |config| {
            if !drain {
                config.drain = DRAIN;
            }
        })
    }

    /// Returns the configuration of a gripd with these routes, which drains within [`DRAIN`], logs nothing, and gives
    /// clients no reasons of failures.
    pub(crate) fn config(routes: &[String]) -> Config {
        let mut config = Config::load(None, &overrides(routes)).unwrap_or_else(|error| panic!("{error}"));
        as_in_production(&mut config);
        config
    }

    fn by(file: Option<&Path>, overrides: &Overrides, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::load(file, overrides).unwrap_or_else(|error| panic!("{error}"));
        change(&mut config);
        let daemon = Daemon::start(config).unwrap();
        let (listen, control) = (daemon.listen().clone(), daemon.control_listen());
        let clients = listen.tcp().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 1)));
        Self { daemon: Some(daemon), listen, clients, control }
    }

    /// Connects a client that sends a `GET` for `path`.
    pub(crate) fn get(&self, path: &str) -> Client {
        Client::send_to(&self.listen, super::get(path))
    }

    /// Returns a client whose stream of `channels` has begun.
    pub(crate) fn stream(&self, channels: &str) -> Client {
        let mut client = self.get(&format!("/stream?{channels}"));
        let head = client.head();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        client.read_until("6\r\nhello\n\r\n");
        client
    }

    /// Returns a client whose long-poll of `channels` is held.
    pub(crate) fn poll(&self, channels: &str) -> Client {
        let channel = channels.split(',').next().unwrap();
        let before = self.connections(channel);
        let client = self.get(&format!("/poll?{channels}"));
        eventually("the long-poll is held", || self.connections(channel) > before);
        client
    }

    /// Sends a request to the control API. Returns the head, in lower case, and the body of the reply.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> (String, String) {
        Client::send(self.control, request).answer()
    }

    /// Sends a request without a body to the control API; returns status and body of the reply.
    pub(crate) fn control(&self, method: &str, path: &str) -> (u16, String) {
        self.control_with(method, path, "")
    }

    /// Sends a request with a body to the control API, and asks for JSON. Returns status and body of the reply.
    pub(crate) fn control_with(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let (head, reply) = self.ask(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), reply)
    }

    /// Sends a `GET` for `path` to the control API. Returns the JSON of the reply.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.control("GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Publishes with this request body, which need not be valid, and further header lines. Returns status and body of
    /// the reply.
    pub(crate) fn publish_body(&self, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request =
            format!("POST /publish/ HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        let (head, reply) = self.ask(request);
        (head.split(' ').nth(1).unwrap().parse().unwrap(), reply)
    }

    /// Publishes items. Returns their entries in the receipt.
    pub(crate) fn publish(&self, items: &Value) -> Value {
        let body = serde_json::json!({ "items": items }).to_string();
        let (status, reply) = self.publish_body("Accept: application/json\r\n", &body);
        assert_eq!(status, 200, "{reply}");
        let mut receipt: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(receipt["message"], "Published");
        receipt["items"].take()
    }

    /// Publishes the item `id`, which follows the item `prev` and whose content for streams and long-polls is its id.
    /// Returns its entry in the receipt.
    pub(crate) fn next(&self, channel: &str, id: &str, prev: &str) -> Value {
        let item = serde_json::json!([{ "channel": channel, "id": id, "prev-id": prev,
            "formats": { "http-stream": { "content": id }, "http-response": { "body": id } } }]);
        self.publish(&item)[0].clone()
    }

    /// Publishes content for streams to a channel. Returns the number of connections that got it.
    pub(crate) fn say(&self, channel: &str, content: &str) -> u64 {
        let item = serde_json::json!([{ "channel": channel, "formats": { "http-stream": { "content": content } } }]);
        self.publish(&item)[0]["delivered"].as_u64().unwrap()
    }

    /// Closes the connections of a channel. Returns how many were closed, and how many of them were cut.
    pub(crate) fn close(&self, channel: &str) -> (u64, u64) {
        let receipt = self.publish(&serde_json::json!([{ "channel": channel, "action": "close" }]));
        (receipt[0]["closed"].as_u64().unwrap(), receipt[0]["cut"].as_u64().unwrap())
    }

    /// Returns the number of connections that hold a channel.
    pub(crate) fn connections(&self, channel: &str) -> u64 {
        let (_, body) = self.ask(super::get(&format!("/channels/{channel}")));
        serde_json::from_str::<Value>(&body).unwrap()["connections"].as_u64().unwrap()
    }

    /// Returns the value of a metric, whose name is given without the prefix `gripd_`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, body) = self.ask(super::get("/metrics"));
        let value = body.lines().find_map(|l| l.strip_prefix(&format!("gripd_{name} ")));
        value.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// Replaces all routes with the one in `line`.
    pub(crate) fn reroute(&self, line: &str) {
        let table = gripd::route::RouteTable::new(gripd::route::parse_line(line).unwrap()).unwrap();
        self.daemon.as_ref().unwrap().reroute(table.into());
    }

    /// Returns the address at which only the health of gripd is served.
    pub(crate) fn health(&self) -> SocketAddr {
        self.daemon.as_ref().unwrap().health_listen().unwrap()
    }

    /// Begins to drain.
    pub(crate) fn drain(&self) {
        self.daemon.as_ref().unwrap().drain();
    }
}

impl Drop for Gripd {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        daemon.drain();
        let left = daemon.join();
        if !std::thread::panicking() {
            assert_eq!(left, RemainingConnections::default(), "connections or channels were left after the drain");
        }
    }
}
