//! Requests that hyper refuses by itself, before any code of gripd sees them.

use super::Front;
use super::connection_slot::ClientAddress;
use crate::telemetry::Hint;
use crate::wire::{ForeignProtocol, PlainAnswer, answer};

/// Returns gripd's own response to a request that hyper cannot parse. `written` is what hyper would send instead.
/// Returns `None` if `written` is something else than such a refusal.
pub(super) fn refusal(written: &[u8]) -> Option<PlainAnswer> {
    // The version may be 1.0 or 1.1, because hyper writes the one of the last request.
    match written.strip_prefix(b"HTTP/1.")?.get(2..5)? {
        b"400" => Some(answer::MALFORMED),
        b"431" => Some(answer::HEAD_TOO_LARGE),
        _ => None,
    }
}

/// Counts and logs a request that could not be read. `begin` is the beginning of what the client has sent.
pub(super) fn note(front: &Front, peer: Option<&ClientAddress>, error: &hyper::Error, begin: &[u8]) {
    let counter = if error.is_parse_too_large() { &front.metrics.large_heads } else { &front.metrics.malformed };
    counter.inc();
    tracing::info!(client = client(peer), %error, "a request was refused: it could not be parsed");
    hint(peer, begin);
}

/// Gives a hint if the client speaks TLS.
fn hint(peer: Option<&ClientAddress>, begin: &[u8]) {
    if ForeignProtocol::of(begin) == Some(ForeignProtocol::Tls) {
        Hint::TlsToClients.log(None, || {
            format!(
                "A client at {} speaks TLS to the address for clients, where gripd speaks HTTP without TLS. Use http:// \
                 and ws:// in the place of https:// and wss://, or put a proxy with TLS in front of gripd.",
                client(peer)
            )
        });
    }
}

/// Counts and logs a request whose head took too long.
pub(super) fn note_slow(front: &Front, peer: Option<&ClientAddress>) {
    front.metrics.slow_heads.inc();
    tracing::info!(
        client = client(peer),
        "a connection was closed: the head of its request took longer than header_timeout"
    );
}

fn client(peer: Option<&ClientAddress>) -> &str {
    peer.and_then(|peer| peer.text.to_str().ok()).unwrap_or("-")
}
