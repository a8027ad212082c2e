//! What is configured: written in TOML, in lines of routes, and on the command line; and what it means.
//!
//! [`file`] is what was written; [`Config`] is what it means. An unknown key is an error.

mod error;
mod file;

pub use error::{Error, Problem};

use crate::control;
use crate::front;
use crate::grip::signature::Signer;
use crate::hub;
use crate::origin;
use crate::route::{Route, Table, parse_line, parse_lines};
use crate::shard;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Pushpin's port for clients.
const CLIENT_PORT: u16 = 7999;
/// More threads than any machine has cores.
const MAX_SHARDS: usize = 1024;
/// Pushpin's port for publishers.
const CONTROL_PORT: u16 = 5561;

/// Everything that gripd is told.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where publishers connect.
    pub control_listen: SocketAddr,
    /// Threads that hold connections.
    pub shards: usize,
    /// What is logged.
    pub log: LevelFilter,
    /// How long a drain takes to end all streams.
    pub drain: Duration,
    /// Where requests go. `None`: nothing is configured, and the demo runs.
    pub routes: Option<Arc<Table>>,
    /// The settings of each part.
    pub front: front::Settings,
    /// 〃
    pub origin: origin::Settings,
    /// 〃
    pub hub: hub::Settings,
    /// 〃
    pub shard: shard::Settings,
    /// 〃
    pub control: control::Settings,
}

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Lines of routes, in the place of all others.
    pub routes: Vec<String>,
    /// Where clients connect.
    pub listen: Option<SocketAddr>,
    /// Where publishers connect.
    pub control: Option<SocketAddr>,
    /// Threads that hold connections.
    pub shards: Option<usize>,
    /// What is logged.
    pub log: Option<LevelFilter>,
}

impl Config {
    /// Reads a file, if one is given, and applies what the command line says.
    ///
    /// # Errors
    /// All that is wrong with the file and the routes, each with its place.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        let file = path.map_or_else(|| Ok(file::File::default()), file::File::read)?;
        let mut error = Error::default();
        let routes = match routes(path, &file, overrides) {
            Ok(routes) => routes,
            Err(problems) => {
                error.extend(problems);
                None
            }
        };
        let place = path.map_or_else(String::new, |p| p.display().to_string());
        let signer = Signer::new(&file.origin.sig_iss, &file.origin.sig_key).unwrap_or_else(|invalid| {
            error.push(&place, format!("origin.sig_key: {invalid}"));
            None
        });
        error.into_result()?;
        Ok(Self::of(&file, routes, signer, overrides))
    }

    fn of(file: &file::File, routes: Option<Arc<Table>>, signer: Option<Signer>, over: &Overrides) -> Self {
        // The demo is for the machine it runs on.
        let everyone = if routes.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let shards = over.shards.unwrap_or(file.shards.0);
        let shards = if shards > 0 { shards } else { cores() };
        let close_grace = file.delivery.close_grace.0;
        Self {
            listen: over.listen.or(file.listen).unwrap_or_else(|| (everyone, CLIENT_PORT).into()),
            control_listen: over
                .control
                .or(file.control.listen)
                .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, CONTROL_PORT).into()),
            shards,
            log: over.log.unwrap_or(file.log.0),
            drain: file.drain.0,
            routes,
            front: front::Settings {
                header_timeout: file.client.header_timeout.0,
                max_channels: file.client.max_channels.get(),
                debug: file.debug,
            },
            origin: origin::Settings {
                connect_timeout: file.origin.connect_timeout.0,
                response_timeout: file.origin.response_timeout.0,
                idle_timeout: file.origin.idle_timeout.0,
                idle_connections: file.origin.idle_connections.div_ceil(shards),
                connections: file.origin.connections.get().div_ceil(shards),
                signer,
            },
            hub: hub::Settings { publish_wait: file.control.publish_wait.0 },
            shard: shard::Settings {
                client_buffer: file.delivery.client_buffer.get(),
                outlets_total: file.delivery.outlets_total.get().div_ceil(shards),
                close_grace,
            },
            control: control::Settings {
                max_body: file.control.max_body.get(),
                receipt_wait: close_grace + Duration::from_millis(100),
            },
        }
    }
}

/// Routes of the command line, else those of the file and the routes file it names.
fn routes(path: Option<&Path>, file: &file::File, overrides: &Overrides) -> Result<Option<Arc<Table>>, Vec<Problem>> {
    let mut found: Vec<Route> = Vec::new();
    let mut problems = Vec::new();
    if overrides.routes.is_empty() {
        let base = path.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        if let Some(name) = &file.routes {
            match read_routes(&base.join(name)) {
                Ok(routes) => found.extend(routes),
                Err(more) => problems.extend(more),
            }
        }
        let place = path.map_or_else(String::new, |p| p.display().to_string());
        for (index, route) in file.route.iter().enumerate() {
            match route.line().and_then(|line| parse_line(&line)) {
                Ok(route) => found.extend(route),
                Err(invalid) => problems.push(Problem::new(&place, format!("[[route]] {}: {invalid}", index + 1))),
            }
        }
    } else {
        for line in &overrides.routes {
            match parse_line(line) {
                Ok(route) => found.extend(route),
                Err(invalid) => problems.push(Problem::new("", format!("--route '{line}': {invalid}"))),
            }
        }
    }
    let configured = !found.is_empty() || file.routes.is_some();
    let place = path.filter(|_| overrides.routes.is_empty()).map_or_else(String::new, |p| p.display().to_string());
    let table = Table::new(found).map_err(|invalid| vec![Problem::new(&place, invalid.to_string())]);
    match table {
        Ok(table) if problems.is_empty() => Ok(configured.then(|| Arc::new(table))),
        Ok(_) => Err(problems),
        Err(more) => Err(problems.into_iter().chain(more).collect()),
    }
}

fn read_routes(path: &PathBuf) -> Result<Vec<Route>, Vec<Problem>> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| vec![Problem::new(&place, format!("cannot be read: {e}"))])?;
    let located =
        |(line, invalid): (usize, crate::grip::Invalid)| Problem::new(&format!("{place}:{line}"), invalid.to_string());
    parse_lines(&text).map_err(|errors| errors.into_iter().map(located).collect())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
