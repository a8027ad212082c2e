//! Messages to the service manager that has started gripd, such as systemd, in the protocol of `sd_notify(3)`.

use sd_notify::NotifyState;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The environment variable in which the service manager names the socket that receives the messages.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The time for which gripd may run after its drain has taken as long as it may.
const MARGIN: Duration = Duration::from_secs(10);

/// The service manager that waits for messages of gripd, if there is one.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<OsString>,
}

impl ServiceManager {
    /// Returns the service manager that the environment names.
    pub(super) fn of_environment() -> Self {
        Self { socket: env::var_os(SOCKET).filter(|socket| !socket.is_empty()) }
    }

    /// Tells that gripd serves. The status is a line for people.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reloads the configuration by `reload`, and tells when that begins and ends.
    pub(super) fn reload(&self, reload: impl FnOnce()) {
        // systemd ignores an end of a reload that was sent before the reload began, so it wants to know the time.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot read the clock to tell the service manager about a reload"),
        }
        reload();
        self.tell(&[NotifyState::Ready]);
    }

    /// Tells that gripd has begun a drain that takes at most `longest_drain`, so that the service manager does not kill
    /// gripd before that.
    pub(super) fn stopping(&self, longest_drain: Duration) {
        let timeout = u32::try_from((longest_drain + MARGIN).as_micros()).unwrap_or(u32::MAX);
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("Ending the connections"),
            NotifyState::ExtendTimeoutUsec(timeout),
        ]);
    }

    /// Sends a message that consists of these lines. A message that cannot be sent is logged.
    fn tell(&self, lines: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if let Err(error) = send(socket, message.as_bytes()) {
            tracing::warn!(%error, socket = %socket.display(), "cannot send a message to the service manager");
        }
    }
}

/// Sends a message to the socket, which is the path of a file, or `@` and an abstract name of Linux.
/// `sd_notify::notify` only supports paths.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::unix::ffi::OsStrExt::as_bytes(socket).strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        sender.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        return sender.send(message).map(drop);
    }
    sender.send_to(message, socket).map(drop)
}
