//! The settings of how gripd learns about the way that a request has come, and how it tells origins.

use super::rewrite::{ForwardedFor, ForwardedProto, Via, says_secure};
use crate::wire::{Proxies, ProxyHeader, Sender, Way};
use hyper::header::{HeaderMap, HeaderName};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How origins learn about the way of a request. By default they are told the client's address and whether it uses TLS.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The proxies in front of gripd. `None`: nobody has said whether there are any.
    pub proxies: Option<Proxies>,
    /// Whether it was logged that a proxy seems to be in front that is not listed; shared by all shards.
    pub hinted: Arc<AtomicBool>,
    /// How `X-Forwarded-For` of clients and of proxies is rewritten.
    pub forwarded_for: ForwardedFor,
    /// How `X-Forwarded-For` of a trusted GRIP proxy is rewritten.
    pub forwarded_for_trusted: ForwardedFor,
    /// The headers that tell the origin about TLS.
    pub proto: ForwardedProto,
    /// The senders whose `X-Forwarded-Proto` is believed.
    pub accept_proto: AcceptProto,
    /// Whether `Pushpin-Route` of clients chooses a route.
    pub accept_route: bool,
    /// Headers whose originals only count when they come marked.
    pub need_mark: Vec<HeaderName>,
    /// The name of this process for `Via`, if origins are told of it.
    pub via: Option<Via>,
    /// The name of this proxy for `CDN-Loop`.
    pub cdn_loop: Option<String>,
}

/// The senders whose `X-Forwarded-Proto` is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptProto {
    /// That of the listed proxies.
    #[default]
    OfProxies,
    /// Everybody's.
    OfAll,
    /// Nobody's.
    OfNone,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            proxies: None,
            hinted: Arc::default(),
            forwarded_for: ForwardedFor::Settled,
            forwarded_for_trusted: ForwardedFor::UNCHANGED,
            proto: ForwardedProto::default(),
            accept_proto: AcceptProto::default(),
            accept_route: false,
            need_mark: Vec::new(),
            via: Some(Via::of_this_process()),
            cdn_loop: None,
        }
    }
}

impl Forwarding {
    /// Follows a request back to its client.
    pub fn follow(&self, peer: IpAddr, headers: &HeaderMap, sender: Sender) -> Way {
        const NONE: &Proxies = &Proxies::new(Vec::new(), ProxyHeader::Either);
        self.proxies.as_ref().unwrap_or(NONE).follow(peer, headers, sender)
    }

    /// Returns whether a peer is believed about the way of a request: it is a listed proxy, or a trusted GRIP proxy.
    pub fn believes(&self, peer: Option<IpAddr>, sender: Sender) -> bool {
        sender.is_trusted() || self.proxies.as_ref().zip(peer).is_some_and(|(proxies, peer)| proxies.contain(peer))
    }

    /// Returns whether the client's request arrived over TLS, according to a trusted proxy. `way` is the trusted part of
    /// the request's forwarding information.
    pub fn is_secure(&self, headers: &HeaderMap, peer: Option<IpAddr>, sender: Sender, way: Option<&Way>) -> bool {
        let believed = match self.accept_proto {
            AcceptProto::OfNone => false,
            AcceptProto::OfAll => true,
            AcceptProto::OfProxies => self.believes(peer, sender),
        };
        believed && says_secure(headers).unwrap_or_else(|| way.is_some_and(Way::is_secure))
    }
}
