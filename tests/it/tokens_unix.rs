//! The control API on a Unix socket.

use crate::support::DEADLINE;
use crate::tokens::{gripd, write};
use gripd::config::{Config, Overrides};
use gripd::daemon::Daemon;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const TOKEN: &str = "[[control.token]]\nname = \"ops\"\nsecret = \"s3cret\"\nscopes = [\"admin\"]\n";

/// Returns the path of the socket of a test, and removes a file that an earlier run has left there. The path of a
/// socket may have at most 107 bytes.
fn place(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::remove_file(folder.join(name));
    folder.join(name)
}

/// Sends a `GET` for `path` over a socket, and returns the reply.
fn ask(socket: &Path, path: &str, headers: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn mode(socket: &Path) -> u32 {
    let file = std::fs::symlink_metadata(socket).unwrap();
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o777
}

/// Returns the error with which a gripd with this configuration fails to start.
fn error(name: &str, file: &str) -> String {
    let overrides =
        Overrides { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0)).into()), demo: true, ..Overrides::default() };
    let mut config = Config::load(Some(&write(name, file)), &overrides).unwrap();
    config.control_listen.set_port(0);
    Daemon::start(config).unwrap_err().to_string()
}

#[test]
fn the_socket_serves_and_needs_no_token() {
    let socket = place("serves.sock");
    let running = gripd("serves.toml", &format!("control.unix = \"serves.sock\"\n{TOKEN}"));
    assert_eq!(mode(&socket), 0o600);
    assert!(ask(&socket, "/channels", "Host: anything.example\r\n").starts_with("HTTP/1.1 200"));
    assert!(ask(&socket, "/channels", "Host: x\r\nOrigin: http://evil.example\r\n").starts_with("HTTP/1.1 403"));
    // Over TCP, a token is required.
    assert_eq!(running.publish_body("", "{\"items\":[]}").0, 401);
    drop(running);
    assert!(!socket.exists());
}

#[test]
fn the_socket_may_ask_for_tokens_and_have_another_mode() {
    let socket = place("asks.sock");
    let file = format!("[control]\nunix = \"asks.sock\"\nunix_mode = \"0660\"\nwithout_token = []\n{TOKEN}");
    let _running = gripd("asks.toml", &file);
    assert_eq!(mode(&socket), 0o660);
    assert!(ask(&socket, "/channels", "Host: x\r\n").starts_with("HTTP/1.1 401"));
    let with = "Host: x\r\nAuthorization: Bearer s3cret\r\n";
    assert!(ask(&socket, "/channels", with).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
    let socket = place("stale.sock");
    // Nobody listens on this socket any more.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(UnixStream::connect(&socket).is_err());
    let file = "control.unix = \"stale.sock\"\n";
    let running = gripd("stale.toml", file);
    assert!(ask(&socket, "/healthz", "Host: x\r\n").starts_with("HTTP/1.1 200"));
    let why = error("stale2.toml", file);
    assert!(why.contains(socket.to_str().unwrap()) && why.contains("in use"), "{why}");
    // The failed start has not harmed the gripd that runs.
    assert!(ask(&socket, "/healthz", "Host: x\r\n").starts_with("HTTP/1.1 200"));
    drop(running);
    assert!(!socket.exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_unchanged() {
    let file = write("no_socket", "something of somebody");
    let why = error("no_socket.toml", "control.unix = \"no_socket\"\n");
    assert!(why.contains(file.to_str().unwrap()) && why.contains("no socket"), "{why}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something of somebody");
    let why = error("no_folder.toml", "control.unix = \"no/such/folder/x.sock\"\n");
    assert!(why.contains("no/such/folder"), "{why}");
}

#[test]
fn a_socket_that_somebody_else_has_created_is_not_removed() {
    let socket = place("other.sock");
    let running = gripd("other.toml", "control.unix = \"other.sock\"\n");
    std::fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    drop(running);
    assert!(socket.exists());
}
