//! The commands `gripd` and `gripd demo`, which run the daemon.

use super::args::ConfigSource;
use super::reload::{Reload, ReloadOccasion};
use super::service_manager::ServiceManager;
use super::{FAILURE, OK, demo, refuse};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::telemetry::log::{self, Log};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// The interval at which the files of the routes are checked for changes.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The interval at which it is checked whether a drain is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the daemon until a signal ends it. Returns the exit code.
pub(super) fn daemon(source: &ConfigSource) -> u8 {
    let reload = Reload::new(source);
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let log = log::start(config.log);
    raise_open_files();
    match run(config, reload, &log) {
        Ok(true) => OK,
        Ok(false) => FAILURE,
        Err(error) => {
            eprintln!("gripd: {error}");
            FAILURE
        }
    }
}

/// Raises the limit of open files to the highest value that is allowed, because each connection is an open file.
fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Runs the daemon until a signal, and drains it. Returns `true` when the drain is over, or `false` if a second
/// signal has interrupted it.
///
/// # Errors
/// The daemon could not be started.
fn run(config: Config, mut reload: Reload<'_>, log: &Log) -> io::Result<bool> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // The signal handlers are installed before anything is served, so that a signal that comes early is not
        // missed.
        let mut signals = Signals::new()?;
        let is_demo = config.routes.is_none();
        reload.started(&config);
        let daemon = Daemon::start(config)?;
        let manager = ServiceManager::of_environment();
        manager.ready(&format!("Clients connect to {}, publishers to {}", daemon.listen(), daemon.control_listen()));
        if is_demo {
            demo::introduce(&daemon);
        }
        let look = |occasion| match occasion {
            ReloadOccasion::Signal => manager.reload(|| reload.look(&daemon, log, occasion)),
            ReloadOccasion::Routine => reload.look(&daemon, log, occasion),
        };
        signals.terminated(look).await;
        manager.stopping(daemon.longest_drain());
        daemon.drain();
        let over = async {
            while !daemon.is_over() {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = over => {}
            () = signals.terminated(|_| {}) => return Ok(false),
        }
        let ending = std::thread::spawn(move || daemon.join());
        let over = async {
            while !ending.is_finished() {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = over => Ok(true),
            () = signals.terminated(|_| {}) => Ok(false),
        }
    })
}

/// The signals that gripd listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. Until then, `look` is called at regular intervals, and whenever a SIGHUP is
    /// received.
    async fn terminated(&mut self, mut look: impl FnMut(ReloadOccasion)) {
        let mut now_and_then = tokio::time::interval(WATCH_EVERY);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => look(ReloadOccasion::Signal),
                _ = self.user1.recv() => {
                    tracing::info!("SIGUSR1 ignored: the log goes to standard error, so there is no log file to reopen");
                }
                _ = self.user2.recv() => tracing::info!("SIGUSR2 is not supported and was ignored"),
                _ = now_and_then.tick() => look(ReloadOccasion::Routine),
            }
        }
    }
}
