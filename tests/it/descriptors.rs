//! The limit of open files: a gripd that has only few file descriptors.

use crate::support::{Client, Origin, Program, eventually, get};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Starts a gripd with this limit of open files, in front of `origin`. Returns it with its addresses for clients and
/// for the control API.
fn limited(files: u32, origin: &Origin) -> (Program, SocketAddr, SocketAddr) {
    let mut command = Command::new("sh");
    let script = "ulimit -n \"$0\" && exec \"$@\"";
    let gripd = env!("CARGO_BIN_EXE_gripd");
    command.args(["-c", script, &files.to_string(), gripd, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    command.args(["--shards", "2", "--route", &format!("* {}", origin.address)]);
    let program = Program::of(command);
    let (clients, control) = (program.clients.parse().unwrap(), program.control.parse().unwrap());
    (program, clients, control)
}

fn publish(control: SocketAddr, items: &Value) -> Value {
    let body = json!({ "items": items }).to_string();
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (head, reply) = Client::send(control, request).answer();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    serde_json::from_str(&reply).unwrap()
}

fn metric(control: SocketAddr, name: &str) -> u64 {
    let (_, body) = Client::send(control, get("/metrics")).answer();
    let value = body.lines().find_map(|line| line.strip_prefix(&format!("gripd_{name} ")));
    value.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

#[test]
fn the_control_port_answers_when_clients_use_all_their_descriptors() {
    let origin = Origin::holding();
    let (mut program, clients, control) = limited(64, &origin);
    let mut held: Vec<Client> = (0..2).map(|_| Client::send(clients, get("/stream?user1"))).collect();
    for client in &mut held {
        client.read_until("hello\n\r\n");
    }
    // Half of these clients send nothing. The others send a request and stay connected.
    let crowd: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(clients).unwrap();
            stream.set_nonblocking(true).unwrap();
            if n % 2 == 0 {
                let _ = stream.write(get("/plain").as_bytes());
            }
            stream
        })
        .collect();
    eventually("more than 100 clients were closed or refused", || {
        metric(control, "connections_spared_total") + metric(control, "connections_refused_total") > 100
    });
    let begin = Instant::now();
    for _ in 0..20 {
        assert!(Client::send(control, get("/healthz")).head().starts_with("http/1.1 200"));
        let item = json!([{ "channel": "user1", "formats": { "http-stream": { "content": "x" } } }]);
        assert_eq!(publish(control, &item)["items"][0]["delivered"], 2);
    }
    assert_eq!(publish(control, &json!([{ "channel": "user1", "action": "close" }]))["items"][0]["closed"], 2);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(metric(control, "open_files_limit"), 64);
    assert!((10..=64).contains(&metric(control, "open_files")));
    drop(crowd);
    // New clients are served again as soon as there are enough descriptors.
    eventually("a new client is served", || {
        let mut stream = TcpStream::connect(clients).unwrap();
        stream.write_all(get("/plain").as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 200"
    });
    program.signal("TERM");
    let (code, log) = program.wait();
    assert_eq!(code, 0);
    let errors = log.lines().filter(|line| line.contains("ERROR")).count() as u64;
    assert!(errors <= 2 + begin.elapsed().as_secs(), "{log}");
}

#[test]
fn a_client_is_refused_with_503_if_no_descriptor_is_left() {
    let origin = Origin::holding();
    let (_program, clients, control) = limited(64, &origin);
    // Held connections do not count as idle, so none of them is closed to make room.
    let mut held = Vec::new();
    let refused = loop {
        let mut client = Client::send(clients, get("/stream?a"));
        let head = client.head();
        if !head.starts_with("http/1.1 200") {
            break head;
        }
        held.push(client);
    };
    assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(held.len() > 3 && metric(control, "connections_refused_total") > 0, "{}", held.len());
    assert_eq!(publish(control, &json!([{ "channel": "a", "action": "close" }]))["items"][0]["closed"], held.len());
}
