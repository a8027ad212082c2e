//! The settings that say which proxies in front of gripd are trusted, and what origins are told about the proxies
//! through which a request has come.

use super::rewrite::{ForwardedFor, ForwardedProto, Via, says_secure};
use crate::wire::{ProxyHeader, RequestPath, RequestSender, TrustedProxies};
use hyper::header::{HeaderMap, HeaderName};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The settings of the headers that tell origins through which proxies a request has come. By default, origins are
/// told the client's address and whether the client uses TLS.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The trusted proxies in front of gripd. `None` means that nothing is configured: gripd then logs a hint if a
    /// proxy seems to be there.
    pub proxies: Option<TrustedProxies>,
    /// Whether the hint about a proxy that is not listed was logged already. All shards share this flag.
    pub hinted: Arc<AtomicBool>,
    /// The rule for `X-Forwarded-For` in requests of clients, and of proxies that are not trusted GRIP proxies.
    pub forwarded_for: ForwardedFor,
    /// The rule for `X-Forwarded-For` in requests of trusted GRIP proxies.
    pub forwarded_for_trusted: ForwardedFor,
    /// The headers that tell the origin about TLS.
    pub proto: ForwardedProto,
    /// The senders whose `X-Forwarded-Proto` is believed.
    pub accept_proto: AcceptProto,
    /// Whether the header `Pushpin-Route` of a request chooses its route.
    pub accept_route: bool,
    /// The headers that `orig_headers` sends under a marked name only if they have come under a marked name.
    pub need_mark: Vec<HeaderName>,
    /// The name of this process for `Via`. `None` if requests get no `Via`.
    pub via: Option<Via>,
    /// The name of this proxy for `CDN-Loop` (RFC 8586). `None` if requests get no `CDN-Loop`.
    pub cdn_loop: Option<String>,
}

/// The senders whose `X-Forwarded-Proto` is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptProto {
    /// Only the listed proxies and trusted GRIP proxies are believed.
    #[default]
    OfProxies,
    /// All senders are believed.
    OfAll,
    /// No sender is believed.
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
    /// Returns the addresses from which a request has come, from the client to gripd, as far as trusted proxies
    /// report them.
    pub fn follow(&self, peer: IpAddr, headers: &HeaderMap, sender: RequestSender) -> RequestPath {
        const NONE: &TrustedProxies = &TrustedProxies::new(Vec::new(), ProxyHeader::Either);
        self.proxies.as_ref().unwrap_or(NONE).follow(peer, headers, sender)
    }

    /// Returns whether a peer is believed about the proxies through which a request has come: it is a listed proxy,
    /// or a trusted GRIP proxy.
    pub fn believes(&self, peer: Option<IpAddr>, sender: RequestSender) -> bool {
        sender.is_trusted() || self.proxies.as_ref().zip(peer).is_some_and(|(proxies, peer)| proxies.contains(peer))
    }

    /// Returns whether the client's request came over TLS, according to `X-Forwarded-Proto` or `X-Forwarded-Protocol`,
    /// or else to the trusted elements of `Forwarded` in `way`. Returns `false` if `accept_proto` does not trust the
    /// sender.
    pub fn is_secure(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        sender: RequestSender,
        way: Option<&RequestPath>,
    ) -> bool {
        let believed = match self.accept_proto {
            AcceptProto::OfNone => false,
            AcceptProto::OfAll => true,
            AcceptProto::OfProxies => self.believes(peer, sender),
        };
        believed && says_secure(headers).unwrap_or_else(|| way.is_some_and(RequestPath::is_secure))
    }
}
