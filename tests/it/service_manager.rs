//! The messages to a service manager, such as systemd. The test is the service manager, with a socket of its own.

use crate::support::{Answer, Client, DEADLINE, Origin, Program, eventually, folder, get, gripd};
use sd_notify::NotifyState;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// A service manager that receives the messages of one gripd.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self::of(UnixDatagram::bind(path).unwrap())
    }

    /// Returns a service manager whose socket has an abstract name, without a file.
    fn abstract_socket(name: &str) -> Self {
        Self::of(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap())
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    /// Waits for the next message, and returns its lines.
    fn message(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("the next message");
        std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Starts a gripd that is told where its service manager is.
fn start(socket: &str, args: &[&str]) -> Program {
    let mut command = gripd(&[&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"], args].concat());
    command.env("NOTIFY_SOCKET", socket);
    Program::of(command)
}

/// Returns the time at which a reload begins, from a line such as `MONOTONIC_USEC=1`.
fn time_of(line: &str) -> u64 {
    line.strip_prefix("MONOTONIC_USEC=").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

/// Returns the current time of the clock that counts from the start of the machine, in microseconds.
fn monotonic_now() -> u64 {
    time_of(&NotifyState::monotonic_usec_now().unwrap().to_string())
}

#[test]
fn the_service_manager_hears_of_the_start_a_reload_and_the_stop() {
    let folder = folder("service-manager");
    let socket = folder.join("notify.sock");
    let manager = Manager::at(&socket);
    let answer = |text: &'static str| Origin::start(move |_| Answer::ok(text));
    let (one, other) = (answer("one"), answer("other"));
    let routes = folder.join("routes");
    std::fs::write(&routes, format!("* {}\n", one.address)).unwrap();
    let config = folder.join("gripd.toml");
    std::fs::write(&config, "routes = \"routes\"\ndrain = 60\n[delivery]\nclose_grace = 5\n").unwrap();
    let mut running = start(socket.to_str().unwrap(), &["--config", config.to_str().unwrap()]);
    // A program that gets the message can connect at once.
    let status = format!("STATUS=Clients connect to {}, publishers to {}", running.clients, running.control);
    assert_eq!(manager.message(), ["READY=1", &status]);
    let ask = |clients: &str| Client::send(clients.parse().unwrap(), get("/")).answer().1;
    assert_eq!(ask(&running.clients), "one");

    std::fs::write(&routes, format!("* {}\n", other.address)).unwrap();
    let before = monotonic_now();
    running.signal("HUP");
    let message = manager.message();
    let [reloading, time] = &message[..] else { panic!("{message:?}") };
    assert_eq!(reloading, "RELOADING=1");
    assert!((before..=monotonic_now()).contains(&time_of(time)), "{time} is not between {before} and now");
    assert_eq!(manager.message(), ["READY=1"]);
    eventually("the new routes are in use", || ask(&running.clients) == "other");

    running.signal("TERM");
    let status = "STATUS=Ending the connections";
    assert_eq!(manager.message(), ["STOPPING=1", status, "EXTEND_TIMEOUT_USEC=75000000"]);
    assert_eq!(running.wait().0, 0);
}

#[test]
fn the_socket_of_the_service_manager_may_have_an_abstract_name() {
    let name = format!("gripd-test-{}", std::process::id());
    let manager = Manager::abstract_socket(&name);
    let _running = start(&format!("@{name}"), &["--route", "* localhost:1"]);
    assert_eq!(manager.message()[0], "READY=1");
}

#[test]
fn a_service_manager_that_cannot_be_reached_is_logged_and_gripd_serves() {
    let mut running = start("/does/not/exist", &["--route", "* localhost:1"]);
    running.says("cannot send a message to the service manager");
    running.signal("TERM");
    assert_eq!(running.wait().0, 0);
}
