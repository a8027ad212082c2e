//! The reload on SIGHUP: which settings it changes, and which need a restart.

use crate::support::{Answer, Client, HOLD_STREAM, Origin, Program, eventually, folder, gate, get};
use gripd::grip::signature::{Key, ProxyVerifier};
use gripd::origin::now;
use serde_json::Value;
use std::path::PathBuf;

/// A gripd with a configuration file, whose lines are replaced and reloaded.
struct Reloaded {
    program: Program,
    file: PathBuf,
    /// The lines of the configuration that stay as they are. They begin with tables.
    rest: String,
}

impl Reloaded {
    /// Starts gripd in a folder of this name, with one route to `origin` and these lines of settings.
    fn start(name: &str, origin: &Origin, settings: &str) -> Self {
        let file = folder(&format!("reload-{name}")).join("gripd.toml");
        let rest = format!("\n[[route]]\ntarget = \"{}\"\n", origin.address);
        std::fs::write(&file, format!("{settings}{rest}")).unwrap();
        let program = Program::start(&["--config", file.to_str().unwrap()]);
        Self { program, file, rest }
    }

    /// Replaces the settings, and makes gripd reload them.
    fn reload(&self, settings: &str) {
        std::fs::write(&self.file, format!("{settings}{}", self.rest)).unwrap();
        self.program.signal("HUP");
    }

    /// Replaces the settings, and waits until gripd says that those of these names have changed.
    fn change(&mut self, settings: &str, names: &str) {
        self.reload(settings);
        self.program.says(&format!("the settings have changed changed=\"{names}\""));
    }

    /// Connects to the control API, and sends a request for `path` with this token.
    fn ask(&self, path: &str, token: &str) -> Client {
        Client::send(self.program.control.parse().unwrap(), with_token("GET", path, token, ""))
    }

    fn get(&self, path: &str) -> Client {
        Client::send(self.program.clients.parse().unwrap(), get(path))
    }

    /// Returns a client whose stream of a channel has begun. The origin must be `Origin::holding`.
    fn stream(&self, channel: &str) -> Client {
        let mut client = self.get(&format!("/stream?{channel}"));
        client.read_until("6\r\nhello\n\r\n");
        client
    }

    /// Publishes an item to the channel `a`, and returns the reply. `ids` is the part of the item with its ids.
    fn publish(&self, ids: &str, content: &str) -> String {
        let item =
            format!(r#"{{"items":[{{"channel":"a"{ids},"formats":{{"http-stream":{{"content":"{content}"}}}}}}]}}"#);
        let request =
            with_token("POST", "/publish", "", &item).replace("\r\n\r\n", "\r\nAccept: application/json\r\n\r\n");
        Client::send(self.program.control.parse().unwrap(), request).answer().1
    }

    /// Ends gripd, and returns its log.
    fn log(mut self) -> String {
        self.program.signal("TERM");
        let (code, log) = self.program.wait();
        assert_eq!(code, 0, "{log}");
        log
    }
}

/// Returns a request to the control API.
fn with_token(method: &str, path: &str, token: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns the configuration of a token with the scope `admin` and this secret.
fn token(secret: &str) -> String {
    format!("[[control.token]]\nname = \"t\"\nsecret = \"{secret}\"\nscopes = [\"admin\"]\n")
}

/// Returns the status of the next answer that a client gets.
fn status(client: &mut Client) -> u16 {
    client.answer().0.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_restart_is_needed_for_some_settings() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("restart", &origin, "drain = 0\n");
    gripd.reload("drain = 0\nstate_dir = \"state\"\n[control]\nhealth = 1\n");
    gripd.program.says("needs a restart: control.health, state_dir");
    // As long as the file differs from what runs, each reload says so.
    gripd.reload("drain = 0\nstate_dir = \"state\"\n");
    gripd.program.says("needs a restart: state_dir");
    // The command line takes precedence, so these settings have no effect at all.
    gripd.change("drain = 0\nlog = \"debug\"\nlisten = 1\n[control]\nlisten = 2\n", "log");
    let log = gripd.log();
    assert_eq!(log.matches("needs a restart").count(), 2, "{log}");
}

#[test]
fn an_error_changes_nothing() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("error", &origin, "drain = 0\nlog = \"info\"\n");
    gripd.reload("drain = 0\nlog = \"warn\"\nnonsense = 1\n");
    gripd.program.says("nonsense");
    gripd.program.says("the reload failed; the current configuration remains in effect");
    gripd.get("/still").answer();
    gripd.program.says("/still");
}

#[test]
fn the_level_of_the_log_is_changed() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("log", &origin, "drain = 0\nlog = \"info\"\n");
    gripd.get("/first").answer();
    gripd.program.says("/first");
    // A second difference, which gripd complains about, shows that the reload is over.
    gripd.reload("drain = 0\nlog = \"warn\"\nstate_dir = \"a\"\n");
    gripd.program.says("needs a restart: state_dir");
    gripd.get("/second").answer();
    gripd.change("drain = 0\nlog = \"debug\"\n", "log");
    gripd.get("/third").answer();
    gripd.program.says("/third");
    drop(Client::send(gripd.program.control.parse().unwrap(), "GET / HT"));
    gripd.program.says("a connection to the control API ended with an error");
    let log = gripd.log();
    assert!(log.contains("/first") && !log.contains("/second") && log.contains("/third"), "{log}");
}

#[test]
fn a_removed_token_is_refused_on_open_connections_too() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("tokens", &origin, &token("first"));
    let mut open = gripd.ask("/channels", "first");
    assert_eq!(status(&mut open), 200);
    assert_eq!(status(&mut gripd.ask("/channels", "second")), 401);
    gripd.change(&token("second"), "control.token");
    open.write(with_token("GET", "/channels", "first", ""));
    assert_eq!(status(&mut open), 401);
    assert_eq!(status(&mut gripd.ask("/channels", "second")), 200);
}

#[test]
fn a_secret_in_a_file_is_read_again() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let settings = token("file:secret");
    let folder = folder("reload-secret-file");
    let secret = folder.join("secret");
    std::fs::write(&secret, "first").unwrap();
    let settings = settings.replace("file:secret", &format!("file:{}", secret.display()));
    let mut gripd = Reloaded::start("secret", &origin, &settings);
    assert_eq!(status(&mut gripd.ask("/channels", "first")), 200);
    std::fs::write(&secret, "second").unwrap();
    gripd.change(&settings, "control.token");
    assert_eq!(status(&mut gripd.ask("/channels", "first")), 401);
    assert_eq!(status(&mut gripd.ask("/channels", "second")), 200);
}

#[test]
fn the_limits_and_hosts_of_the_control_api_are_changed() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("control", &origin, "[control]\nmax_body = 10\n");
    let control = gripd.program.control.parse().unwrap();
    let item = r#"{"items":[{"channel":"a","formats":{"http-stream":{"content":"x"}}}]}"#;
    let publish = || status(&mut Client::send(control, with_token("POST", "/publish", "", item)));
    let named = || status(&mut Client::send(control, "GET /channels HTTP/1.1\r\nHost: gripd.example\r\n\r\n"));
    assert_eq!((publish(), named()), (413, 403));
    gripd.change("[control]\nhosts = [\"gripd.example\"]\n", "control.hosts, control.max_body");
    assert_eq!((publish(), named()), (200, 200));
}

#[test]
fn the_demo_keeps_its_token() {
    let file = folder("reload-demo").join("gripd.toml");
    std::fs::write(&file, "").unwrap();
    let mut demo = Program::demo(&["--config", file.to_str().unwrap()]);
    let kick = |demo: &Program, text: &str| {
        let body = format!(r#"{{"name": "{text}", "by": "amy", "conversation": "123"}}"#);
        let length = body.len();
        let request = format!(
            "POST /kick HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        status(&mut Client::send(demo.clients.parse().unwrap(), request))
    };
    let before = kick(&demo, "bob");
    std::fs::write(&file, token("s3cret")).unwrap();
    demo.signal("HUP");
    demo.says("the settings have changed changed=\"control.token\"");
    assert_eq!((before, kick(&demo, "eve")), (200, 200));
}

#[test]
fn the_times_of_items_are_changed() {
    let origin = Origin::holding();
    let mut gripd = Reloaded::start("items", &origin, "drain = 0\n[delivery]\nmessage_wait = \"1h\"\n");
    let mut client = gripd.stream("a");
    gripd.publish(r#","id":"1""#, "one;");
    client.read_until("one;");
    assert!(gripd.publish(r#","id":"1""#, "one;").contains("\"duplicate\":1"));
    // Item 2 is missing, so this item waits for it.
    gripd.publish(r#","id":"3","prev-id":"2""#, "three;");
    let changed = "drain = 0\n[delivery]\nmessage_wait = 0.001\nid_cache_ttl = 0\n";
    gripd.change(changed, "delivery.id_cache_ttl, delivery.message_wait");
    client.read_until("three;");
    assert!(!gripd.publish(r#","id":"3""#, "again;").contains("duplicate"));
    client.read_until("again;");
}

#[test]
fn the_limits_of_clients_are_changed() {
    let origin = Origin::holding();
    let mut gripd = Reloaded::start("clients", &origin, "[client]\nmax_channels = 1\n");
    let mut before = gripd.get("/");
    before.answer();
    assert_eq!(status(&mut gripd.get("/stream?a,b")), 502);
    gripd.change(
        "debug = true\n[client]\nmax_channels = 2\nidle_timeout = 0.1\n",
        "client.idle_timeout, client.max_channels, debug",
    );
    eventually("the larger limit is in use", || gripd.get("/stream?a,b").head().starts_with("http/1.1 200"));
    let refused = || gripd.get("/stream?a,b,c").answer().1;
    eventually("the refusal is explained", || refused().contains("names 3 channels, but max_channels is 2"));
    // New connections have the new timeout, and are closed. An open one keeps the timeout of its beginning.
    let mut after = gripd.get("/");
    after.answer();
    assert!(after.rest().is_empty());
    before.write(get("/"));
    before.answer();
}

#[test]
fn the_keys_of_proxies_and_origins_are_changed() {
    let origin = Origin::start(|_| Answer::ok("x"));
    let mut gripd = Reloaded::start("keys", &origin, "");
    gripd.change(
        "[origin]\nsig_key = \"new\"\n[client]\nupstream_key = \"proxy\"\n",
        "client.upstream_key, origin.sig_key",
    );
    let key = |text: &str| ProxyVerifier::new(&Key::parse(text, |_| Err(String::new())).unwrap()).unwrap().unwrap();
    let last_signature = || {
        gripd.get("/").answer();
        origin.asked().last().unwrap().header("grip-sig").unwrap().to_owned()
    };
    eventually("requests are signed with the new key", || key("new").trusts(&last_signature(), now()));
    let signer = gripd::grip::signature::Signer::new("proxy", &Key::parse("proxy", |_| Err(String::new())).unwrap());
    let token = signer.unwrap().unwrap().sign(now()).unwrap();
    eventually("the other proxy is trusted", || {
        Client::send(gripd.program.clients.parse().unwrap(), get_with(&format!("Grip-Sig: {token}\r\n"))).answer();
        // The signature of a trusted proxy is passed on.
        origin.asked().last().unwrap().header("grip-sig") == Some(&token)
    });
}

/// Returns a request with these header lines.
fn get_with(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

#[test]
fn a_request_that_waits_for_a_connection_gets_one_of_a_larger_number() {
    let (open, wait) = gate();
    let origin = Origin::start(move |_| {
        wait();
        Answer::ok("x")
    });
    let mut gripd = Reloaded::start("connections", &origin, "shards = 1\n[origin]\nconnections = 1\n");
    let mut first = gripd.get("/first");
    eventually("the first request is sent", || origin.asked().len() == 1);
    let mut second = gripd.get("/second");
    gripd.change("shards = 1\n[origin]\nconnections = 2\n", "origin.connections");
    eventually("the second request is sent", || origin.asked().len() == 2);
    assert!(!first.is_answered(), "the second request has waited for the first");
    drop(open);
    assert_eq!((status(&mut first), status(&mut second)), (200, 200));
}

#[test]
fn held_connections_get_the_new_keep_alive_and_the_new_drain() {
    let origin = Origin::start(|_| Answer::with(&format!("Content-Type: text/event-stream\r\n{HOLD_STREAM}"), ":hi\n"));
    let mut gripd = Reloaded::start("held", &origin, "drain = \"1h\"\n[delivery]\nevent_keep_alive = 0\n");
    let mut streams: Vec<Client> = (0..10).map(|_| gripd.get("/")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.read_until(":hi\n\r\n")));
    gripd.change("drain = 0.1\n[delivery]\nevent_keep_alive = 0.1\n", "delivery.event_keep_alive, drain");
    streams.iter_mut().for_each(|stream| drop(stream.read_until("2\r\n:\n\r\n")));
    // With the old setting, the drain would take an hour.
    gripd.log();
}

#[test]
fn webhooks_are_added_kept_and_removed() {
    let origin = Origin::holding();
    let receivers = [(); 2].map(|()| Origin::start(|_| Answer::Bytes("HTTP/1.1 204 No Content\r\n\r\n".into())));
    let [kept, other] = &receivers;
    let table = |receiver: &Origin| {
        let url = format!("http://{}/events", receiver.address);
        format!("[[webhook]]\nurl = \"{url}\"\nbatch_wait = 0.01\ngrace = 0\n")
    };
    // The events that a receiver has got: the name, and the channel if there is one.
    let events = |receiver: &Origin| {
        let of_body = |body: String| serde_json::from_str::<Value>(&body).unwrap()["events"].take();
        let events = receiver.asked().into_iter().flat_map(|asked| of_body(asked.body).as_array().unwrap().clone());
        let told = events.map(|event| format!("{} {}", event["event"], event["channel"]).replace('"', ""));
        told.collect::<Vec<_>>()
    };
    let mut gripd = Reloaded::start("webhooks", &origin, &format!("drain = 0\n{}", table(kept)));
    let (first, second) = (gripd.stream("a"), gripd.stream("a"));
    eventually("the channel is reported", || events(kept) == ["joined a"]);
    gripd.change(&format!("drain = 0\n{}{}", table(other), table(kept)), "webhook");
    // The new webhook is told of the channel that is held already, and counts both of its connections.
    eventually("the new webhook is told", || events(other) == ["joined a"]);
    drop(first);
    eventually("the first end is reported", || events(other).contains(&"ended null".to_owned()));
    assert_eq!(events(other), ["joined a", "ended null"]);
    drop(second);
    let all = ["joined a", "ended null", "left a", "ended null"];
    let sorted = |mut events: Vec<String>| {
        events.sort_unstable();
        events
    };
    let all = sorted(all.map(str::to_owned).to_vec());
    receivers.iter().for_each(|receiver| eventually("all events are sent", || sorted(events(receiver)) == all));
    // The removed webhook is told of nothing that comes later.
    gripd.change(&format!("drain = 0\n{}", table(kept)), "webhook");
    let _third = gripd.stream("b");
    eventually("the kept webhook is told", || events(kept).contains(&"joined b".to_owned()));
    drop(gripd.log());
    assert_eq!(events(other).len(), 4);
}
