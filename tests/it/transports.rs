//! The most important behaviour of connections, over every transport.

use crate::support::kinds::{self, item};
use crate::support::{Client, Gripd, KINDS, Kind, Member, get};
use gripd::config::{Config, Overrides};
use gripd::net::{ListenAddress, MemoryAddress, UnixAddress};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Returns the name of each transport, and an address for it. `name` is the file name of the Unix socket.
fn transports(name: &str) -> [(&'static str, ListenAddress); 3] {
    let unix = UnixAddress { path: socket(name), mode: 0o600 };
    [
        ("TCP", SocketAddr::from(([127, 0, 0, 1], 0)).into()),
        ("a Unix socket", ListenAddress::Unix(unix)),
        ("memory", ListenAddress::Memory(MemoryAddress::default())),
    ]
}

/// Returns the path of a socket, which may have at most 107 bytes, and removes a file that an earlier run has left
/// there.
fn socket(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}

/// Returns the two forms of a close: of all connections of a channel, and of those of one kind.
fn forms(channel: &str, kind: Kind) -> [Value; 2] {
    let format = match kind {
        Kind::Stream => "http-stream",
        Kind::Poll => "http-response",
        Kind::WebSocket => "ws-message",
    };
    [
        json!({ "channel": channel, "action": "close" }),
        json!({ "channel": channel, "formats": { format: { "action": "close" } } }),
    ]
}

#[test]
fn a_close_ends_exactly_the_connections_of_one_user() {
    let origin = kinds::origin();
    for (transport, listen) in transports("closes.sock") {
        let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |config| config.listen = listen);
        for kind in KINDS {
            for form in forms("user456", kind) {
                let scene = format!("{transport}, {kind:?}, {form}");
                let mut kicked: Vec<Member> =
                    ["user456,conversation123", "user456,conversation7"].map(|held| kind.held(&gripd, held)).into();
                let mut other = kind.held(&gripd, "user7,conversation123");
                let receipt = gripd.publish(&json!([form]));
                assert_eq!(receipt, json!([{ "channel": "user456", "closed": 2, "cut": 0 }]), "{scene}");
                let held = if kind == Kind::Poll { vec!["hello\n".to_owned()] } else { Vec::new() };
                for member in &mut kicked {
                    assert_eq!(member.ends(), held, "{scene}");
                }
                assert_eq!(gripd.connections("user456"), 0, "{scene}");
                assert_eq!(gripd.publish(&json!([item("conversation123", "on")]))[0]["delivered"], 1, "{scene}");
                assert_eq!(other.hears(), "on", "{scene}");
            }
        }
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let origin = kinds::origin();
    for (transport, listen) in transports("persists.sock") {
        let gripd = Gripd::with(&origin, "", |config| config.listen = listen);
        let mut client = gripd.get("/plain");
        assert_eq!(client.answer().1, "plain\n", "{transport}");
        for round in 0..3 {
            client.write(get("/poll?user456"));
            crate::support::eventually("the long-poll is held", || gripd.connections("user456") == 1);
            let text = round.to_string();
            assert_eq!(gripd.publish(&json!([item("user456", &text)]))[0]["delivered"], 1, "{transport}");
            assert_eq!(client.answer().1, text, "{transport}");
            client.write(get("/plain"));
            assert_eq!(client.answer().1, "plain\n", "{transport}");
        }
    }
}

#[test]
fn a_client_that_leaves_is_no_longer_held() {
    let origin = kinds::origin();
    for (transport, listen) in transports("goes.sock") {
        let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |config| config.listen = listen);
        for kind in KINDS {
            drop(kind.held(&gripd, "user456"));
            crate::support::eventually(&format!("{transport}: the client left"), || gripd.connections("user456") == 0);
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let origin = kinds::origin();
    for (transport, listen) in transports("cut.sock") {
        let gripd = Gripd::with(&origin, "", |config| {
            config.listen = listen;
            config.shard.client_buffer = 64 << 20;
        });
        let mut stalled = Kind::Stream.held(&gripd, "user456");
        for _ in 0..8 {
            assert_eq!(gripd.say("user456", &"x".repeat(900_000)), 1, "{transport}");
        }
        assert_eq!(gripd.close("user456"), (1, 1), "{transport}");
        let (got, _) = stalled.http().rest_and_end();
        assert!(got.len() < 8 * 900_000 && !got.ends_with(b"0\r\n\r\n"), "{transport}");
    }
}

#[test]
fn a_unix_socket_can_be_configured_and_its_clients_may_be_trusted_proxies() {
    let (origin, path) = (kinds::origin(), socket("configured.sock"));
    let text = format!(
        "listen = \"unix:configured.sock\"\nlisten_mode = \"0660\"\n[client]\nproxies = [\"127.0.0.1\"]\n[[route]]\ntarget = \"{}\"\n",
        origin.address
    );
    let gripd = Gripd::configured_in(Path::new(env!("CARGO_TARGET_TMPDIR")), &text);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!((mode & 0o777, gripd.listen.to_string()), (0o660, format!("unix:{}", path.display())));
    let ask = |headers: &str| format!("GET /stream?user456 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let mut direct = Client::send_to(&gripd.listen, ask(""));
    direct.read_until("hello\n\r\n");
    let mut proxied = Client::send_to(&gripd.listen, ask("X-Forwarded-For: 9.9.9.9\r\n"));
    proxied.read_until("hello\n\r\n");
    let told: Vec<String> = origin.asked().iter().flat_map(|asked| asked.all("x-forwarded-for")).collect();
    assert_eq!(told, ["127.0.0.1", "9.9.9.9, 127.0.0.1"]);
    let connections = gripd.json("/connections");
    let mut shown: Vec<(&Value, &Value)> =
        connections["connections"].as_array().unwrap().iter().map(|row| (&row["address"], &row["proxy"])).collect();
    shown.sort_by_key(|row| row.0.to_string());
    assert_eq!(shown, [(&json!("9.9.9.9"), &json!("unix")), (&json!("unix"), &Value::Null)]);
    drop((direct, proxied, gripd));
    assert!(!path.exists(), "the socket was not removed at the end");
}

#[test]
fn a_wrong_address_is_an_error_that_says_what_is_right() {
    let error = |text: &str| {
        let file = crate::support::folder("wrong-addresses").join("gripd.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), &Overrides::default()).unwrap_err().to_string()
    };
    let wrong = error("listen = \"localhost\"\n");
    assert!(wrong.contains("'localhost' is not a valid address") && wrong.contains("127.0.0.1:7999"), "{wrong}");
    let wrong = error("listen = \"unix:\"\n");
    assert!(wrong.contains("the path of the Unix socket is missing"), "{wrong}");
    let wrong = error("listen = \"127.0.0.1:0\"\nlisten_mode = \"0660\"\n");
    assert!(wrong.contains("listen_mode requires listen = \"unix:FILE\""), "{wrong}");
    let wrong = error("listen = \"unix:a.sock\"\nlisten_mode = \"rw\"\n");
    assert!(wrong.contains("give a mode of octal digits"), "{wrong}");
}

#[test]
fn a_unix_socket_passes_to_a_successor_while_its_predecessor_drains() {
    let origin = kinds::origin();
    let listen = ListenAddress::Unix(UnixAddress { path: socket("passes.sock"), mode: 0o600 });
    let start = || Gripd::with(&origin, "", |config| config.listen = listen.clone());
    let old = start();
    let mut held = Kind::Stream.held(&old, "user456");
    old.drain();
    // The first gripd no longer listens, and ends its streams one after another. Another gripd may use the address.
    crate::support::eventually("the socket is removed", || !Path::new(&listen.to_string()["unix:".len()..]).exists());
    let new = start();
    held.ends();
    drop(old);
    assert_eq!(new.get("/plain").answer().1, "plain\n");
}

#[test]
fn listen_mode_of_the_file_applies_to_a_socket_of_the_command_line() {
    let file = crate::support::folder("mode-of-another").join("gripd.toml");
    std::fs::write(&file, "listen = \"unix:a.sock\"\nlisten_mode = \"0600\"\n").unwrap();
    let load = |listen: &str| {
        let overrides = Overrides { listen: Some(listen.parse().unwrap()), demo: true, ..Overrides::default() };
        Config::load(Some(&file), &overrides).unwrap().listen
    };
    let expected = UnixAddress { path: "/run/b.sock".into(), mode: 0o600 };
    assert_eq!(load("unix:/run/b.sock"), ListenAddress::Unix(expected));
    assert_eq!(load("127.0.0.1:1").to_string(), "127.0.0.1:1");
}
