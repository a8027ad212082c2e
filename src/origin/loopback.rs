//! A hint about origins that listen on one of the loopback addresses only, `127.0.0.1` or `[::1]`, while the target of the
//! route is the other.

use super::Failure;
use crate::net::{connect, connect_to_one_of};
use crate::route::{Address, Route, TargetPlace};
use crate::telemetry::{Hint, RateLimitedLine};
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// How long the search for a server may take. On a loopback address, connections are accepted or refused at once.
const LIMIT: Duration = Duration::from_secs(1);

/// Looks for a server at the other loopback address, in the background, if `failure` says that a target of the route has
/// refused a connection. At most one search a second is begun, whatever the number of requests that fail.
pub(super) fn look_elsewhere(route: &Route, failure: &Failure) {
    static SEARCHES: RateLimitedLine = RateLimitedLine::new();
    let error = failure.source().and_then(|error| error.downcast_ref::<io::Error>());
    if error.is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused) {
        return;
    }
    let addresses = route.targets.iter().filter_map(|target| match &target.place {
        TargetPlace::Address(address) if may_be_loopback(address) => Some(address.clone()),
        _ => None,
    });
    let addresses: Vec<Address> = addresses.collect();
    if !addresses.is_empty() {
        let name = route.name.clone();
        SEARCHES.log(|_| drop(spawn_local(timeout(LIMIT, async move { search(&name, addresses).await }))));
    }
}

/// Returns whether an address is a loopback address, or a name that may stand for one.
fn may_be_loopback(address: &Address) -> bool {
    address.host.parse().map_or(true, |ip: IpAddr| ip.is_loopback())
}

/// Gives a hint for the first of the addresses in the place of which the other loopback address has a server.
async fn search(route: &str, addresses: Vec<Address>) {
    for address in addresses {
        let Ok(found) = lookup_host((address.host.as_str(), address.port)).await else { continue };
        let Some(other) = other_loopback(&found.map(|found| found.ip()).collect::<Vec<_>>()) else { continue };
        let other = SocketAddr::new(other, address.port);
        if connect_to_one_of(vec![other]).await.is_ok() && connect(&address.host, address.port).await.is_err() {
            let better = better_target(other).await;
            return Hint::OtherLoopback.log(Some(route), || {
                format!(
                    "The target {address} refuses connections, but a server listens on {other}. If it is the origin, \
                     write {better} as the target of the route."
                )
            });
        }
    }
}

/// Returns the loopback address that is not among the addresses of a host, or `None` if the host has both, or also
/// addresses of other machines.
fn other_loopback(addresses: &[IpAddr]) -> Option<IpAddr> {
    if !addresses.iter().all(IpAddr::is_loopback) {
        return None;
    }
    match (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6)) {
        (true, false) => Some(Ipv6Addr::LOCALHOST.into()),
        (false, true) => Some(Ipv4Addr::LOCALHOST.into()),
        _ => None,
    }
}

/// Returns the target by which gripd reaches a server at a loopback address: `localhost` if this name includes the
/// address, because gripd tries all addresses of a name, or else the address itself.
async fn better_target(server: SocketAddr) -> String {
    let named = lookup_host(("localhost", server.port())).await;
    if named.is_ok_and(|mut addresses| addresses.any(|address| address == server)) {
        return format!("localhost:{}", server.port());
    }
    server.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_loopback_address_is_the_one_that_a_host_lacks() {
        let other = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            other_loopback(&addresses).map(|other| other.to_string())
        };
        assert_eq!(other(&["127.0.0.1"]).unwrap(), "::1");
        assert_eq!(other(&["::1"]).unwrap(), "127.0.0.1");
        for both in [&["127.0.0.1", "::1"][..], &["127.0.0.1", "10.0.0.1"], &["10.0.0.1"], &[]] {
            assert_eq!(other(both), None, "{both:?}");
        }
    }
}
