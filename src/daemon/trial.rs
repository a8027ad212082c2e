//! The trial of a configuration, for `gripd check`: whether the addresses, the folders and the origins can be used.

use super::local_runtime;
use crate::config::Config;
use crate::hub::Hub;
use crate::net::{BoundListeners, ListenAddress, connect};
use crate::route::TargetPlace;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// The time for which an origin may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of targets that are tried, so that a trial does not take minutes.
const MAX_TARGETS: usize = 20;

/// A finding of the trial of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialFinding {
    /// gripd could not start with this.
    Problem(String),
    /// gripd could start, but the operator may not expect this.
    Note(String),
}

/// Tries what a configuration names, without changing anything. Sockets are bound for a moment, so an address that a
/// running gripd uses is a note.
pub fn try_out(config: &Config) -> Vec<TrialFinding> {
    let mut findings = Vec::new();
    let control = ListenAddress::from(config.control_listen);
    let health = config.control.health.map(ListenAddress::from);
    let addresses = [(Some(&config.listen), "clients"), (Some(&control), "publishers")];
    let more = [(config.control.unix.as_ref(), "publishers"), (health.as_ref(), "health probes")];
    let mut bound = Vec::new();
    let mut files = Vec::new();
    for (address, whom) in addresses.into_iter().chain(more) {
        let Some(address) = address else { continue };
        let tried = match address {
            ListenAddress::Tcp(_) => try_port(address, whom, &mut bound),
            ListenAddress::Unix(unix) => {
                try_socket(&unix.path, &mut files).err().map(|why| unusable(address, whom, &why))
            }
            ListenAddress::Memory(_) => None,
        };
        findings.extend(tried);
    }
    findings.extend(config.hub.state_dir.as_deref().and_then(|folder| try_state(config, folder)));
    findings.extend(try_targets(config));
    findings
}

/// Binds a port, and keeps it bound in `bound`, so that no other address can be the same.
fn try_port(address: &ListenAddress, whom: &str, bound: &mut Vec<BoundListeners>) -> Option<TrialFinding> {
    let is_taken = |other: &BoundListeners| other.address == *address;
    match address.bind(whom, 1) {
        Ok(listeners) => bound.push(listeners),
        Err(error) if error.kind() == ErrorKind::AddrInUse && bound.iter().any(is_taken) => {
            return Some(unusable(address, whom, &io::Error::other("another setting has the same address")));
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let why = "is in use, which is to be expected while gripd runs";
            return Some(TrialFinding::Note(format!("the address {address} for {whom} {why}")));
        }
        Err(error) => return Some(unusable(address, whom, &error)),
    }
    None
}

/// Checks whether the file of a Unix socket could be created, and notes it in `files`. The socket is not bound, because
/// a running gripd may have it.
fn try_socket<'a>(path: &'a Path, files: &mut Vec<&'a Path>) -> io::Result<()> {
    // This checks the length of the path.
    SocketAddr::from_pathname(path)?;
    if files.contains(&path) {
        return Err(io::Error::other("another setting has the same address"));
    }
    files.push(path);
    if fs::metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::other("the path is taken by a file that is no socket"));
    }
    try_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))
}

fn unusable(address: &ListenAddress, whom: &str, error: &io::Error) -> TrialFinding {
    TrialFinding::Problem(format!("the address {address} for {whom} cannot be used: {error}"))
}

/// Checks whether gripd could keep its state in a folder, which it creates if it is missing.
fn try_state(config: &Config, folder: &Path) -> Option<TrialFinding> {
    let tried = if folder.exists() {
        try_folder(folder).and_then(|()| Hub::new(config.hub.clone(), config.shards).load())
    } else {
        let parent = folder.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or_else(|| Path::new("."));
        try_folder(parent)
    };
    let error = tried.err()?;
    Some(TrialFinding::Problem(format!("state_dir: the folder {} cannot be used: {error}", folder.display())))
}

/// Checks whether a file can be created in a folder.
fn try_folder(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".gripd-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(file)
}

/// Connects to the origins. One that does not answer is a note, because it may be started after gripd.
fn try_targets(config: &Config) -> Vec<TrialFinding> {
    let targets = config.routes.iter().flat_map(|routes| routes.routes()).flat_map(|route| &route.targets);
    let addresses: BTreeSet<_> = targets
        .filter_map(|target| match &target.place {
            TargetPlace::Address(address) => Some((address.host.clone(), address.port, address.to_string())),
            TargetPlace::Test => None,
        })
        .take(MAX_TARGETS)
        .collect();
    let Ok(runtime) = local_runtime() else { return Vec::new() };
    runtime.block_on(async {
        let mut findings = Vec::new();
        for (host, port, address) in addresses {
            let why = match timeout(CONNECT_TIMEOUT, connect(&host, port)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
            };
            findings.push(TrialFinding::Note(format!("the origin {address} cannot be reached now: {why}")));
        }
        findings
    })
}
