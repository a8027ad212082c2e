//! Running the daemon, and checking what it would run with.

use super::args::Args;
use super::{CONFIG, FAILURE, OK, USAGE};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::telemetry::log;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// How often to look whether a drain is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `gripd`: runs until a signal.
pub(super) fn daemon(args: &Args) -> u8 {
    let config = match load(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let _log = log::start(config.log);
    let is_demo = config.routes.is_none();
    let daemon = match Daemon::start(config) {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("gripd: {error}");
            return FAILURE;
        }
    };
    if is_demo {
        introduce(&daemon);
    }
    match until_over(&daemon) {
        Ok(true) => {
            daemon.join();
            OK
        }
        Ok(false) => FAILURE,
        Err(error) => {
            eprintln!("gripd: cannot wait for signals: {error}");
            FAILURE
        }
    }
}

/// `gripd check`: tells all that is wrong with the configuration.
pub(super) fn check(args: &Args) -> u8 {
    match load(args) {
        Ok(config) => {
            let routes = config.routes.map_or(0, |table| table.routes().count());
            println!("The configuration is good: {routes} routes.");
            OK
        }
        Err(code) => code,
    }
}

fn load(args: &Args) -> Result<Config, u8> {
    Config::load(args.config.as_deref(), &args.overrides()).map_err(|error| {
        eprintln!("{error}");
        if args.config.is_some() { CONFIG } else { USAGE }
    })
}

/// Waits for a signal, then drains. `false`: a second signal ended the wait.
fn until_over(daemon: &Daemon) -> io::Result<bool> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::warn!("SIGHUP has no effect yet: restart gripd to change its routes"),
            }
        }
        daemon.drain();
        let over = async {
            while !daemon.is_over() {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = over => Ok(true),
            _ = terminate.recv() => Ok(false),
            _ = interrupt.recv() => Ok(false),
        }
    })
}

/// Tells a newcomer what to do.
fn introduce(daemon: &Daemon) {
    let (client, control) = (daemon.listen(), daemon.control_listen());
    println!(
        r#"
  The demo chat is on  http://localhost:{}/  - open it in two tabs.

  Say something in it from here:
    curl http://{control}/publish -d '{{"items":[{{"channel":"conversation123","formats":{{"http-stream":{{"content":"\nevent: message\ndata: {{\"from\":\"curl\",\"text\":\"hello\"}}\n\n"}}}}}}]}}'

  Kick whoever joined as bob, and be told how many connections that ended:
    curl http://{control}/publish -H 'Accept: application/json' -d '{{"items":[{{"channel":"user-bob","action":"close"}}]}}'

  Put your own backend behind it:
    gripd --route '* localhost:8000'
"#,
        client.port()
    );
}
