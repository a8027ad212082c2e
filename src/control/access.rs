//! The authorization of requests to the control API: the tokens that are required, and the requests that need none.

use super::reply::ApiReply;
use super::scope::{NeededScope, Scope, needs};
use super::token::{CallerIdentity, ControlToken, UnknownCaller, identify};
use crate::cluster::Publisher;
use crate::grip::Item;
use crate::hub::now;
use crate::net::Peer;
use aws_lc_rs::rand;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap};
use std::fmt;
use std::io;

/// The configured tokens, and the callers that need none.
#[derive(Clone, Debug)]
pub struct ControlAccess {
    /// The configured tokens. If there are none, no request needs one.
    pub tokens: Vec<ControlToken>,
    /// Whether requests over the Unix socket need no token.
    pub unix: bool,
    /// Whether requests from a loopback address need no token.
    pub loopback: bool,
}

impl Default for ControlAccess {
    fn default() -> Self {
        Self { tokens: Vec::new(), unix: true, loopback: false }
    }
}

/// The authorization that a request needs, as far as its path and method tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredPermission {
    /// No authorization. Everybody may ask whether gripd is running.
    Nothing,
    /// A valid token. Its scopes are compared with the items of the request once the body is read.
    Token,
    /// A valid token with a scope that covers this need.
    Scope(NeededScope<'static>),
}

impl RequiredPermission {
    /// Returns the authorization that a request to `path` needs. `path` must not end with a slash. An unknown path
    /// needs the scope `admin`.
    fn of(path: &str, method: &Method) -> Self {
        match path {
            "" | "/healthz" | "/readyz" => Self::Nothing,
            "/publish" => Self::Token,
            _ => match path.split('/').nth(1) {
                Some("allowed" | "channels" | "connections" | "denied" | "metrics")
                    if matches!(*method, Method::GET | Method::HEAD) =>
                {
                    Self::Scope(NeededScope::Inspect)
                }
                _ => Self::Scope(NeededScope::Admin),
            },
        }
    }
}

/// The authorization of one request.
#[derive(Debug)]
pub(super) struct Grant<'a> {
    caller: Peer,
    basis: GrantBasis<'a>,
}

/// The reason why a request was let in.
#[derive(Debug)]
enum GrantBasis<'a> {
    /// The request needs no authorization. A valid token that came with it is kept nevertheless.
    Public(Option<CallerIdentity<'a>>),
    /// The caller needs no token, because of where it connects from or because no tokens are configured. A valid
    /// token that came with the request is kept nevertheless.
    Exempt(Option<CallerIdentity<'a>>),
    /// The request came with a valid token, whose scopes decide what it may do.
    Token(CallerIdentity<'a>),
}

/// The refusal of a request, with its caller and its reason.
#[derive(Debug)]
pub(super) struct AccessRefusal {
    caller: Peer,
    why: RefusalReason,
}

#[derive(Debug)]
enum RefusalReason {
    NoToken,
    SeveralTokens,
    Unknown(UnknownCaller),
    /// The scopes of the token do not cover the request. The text names the token, the missing permission and the
    /// scopes.
    Forbidden(String),
}

impl ControlAccess {
    /// Returns whether tokens are configured, so that requests need one.
    pub const fn asks(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Returns the number of tokens that are configured.
    pub const fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a token for the demo, which publishes like any other backend. Does nothing if no tokens are configured.
    pub fn admit_demo(&mut self, secret: &str) {
        if self.asks() {
            self.tokens.push(ControlToken::secret("demo", secret, vec![Scope::Admin]));
        }
    }

    fn is_exempt(&self, caller: Peer) -> bool {
        !self.asks()
            || match caller {
                Peer::Unix | Peer::Memory => self.unix,
                Peer::Tcp { remote, .. } => self.loopback && remote.ip().to_canonical().is_loopback(),
            }
    }

    /// Decides whether a request to `path` is admitted. `path` must not end with a slash.
    ///
    /// # Errors
    /// The request needs a token and has none, its token is invalid, or the scopes of the token do not cover the
    /// request.
    pub(super) fn admit(
        &self,
        caller: Peer,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Grant<'_>, AccessRefusal> {
        let demand = RequiredPermission::of(path, method);
        let is_exempt = self.is_exempt(caller);
        let identity =
            bearer(headers).and_then(|shown| identify(&self.tokens, shown, now()).map_err(RefusalReason::Unknown));
        if is_exempt || demand == RequiredPermission::Nothing {
            let identity = identity.ok();
            let basis = if is_exempt { GrantBasis::Exempt(identity) } else { GrantBasis::Public(identity) };
            return Ok(Grant { caller, basis });
        }
        let identity = identity.map_err(|why| AccessRefusal { caller, why })?;
        let grant = Grant { caller, basis: GrantBasis::Token(identity) };
        if let RequiredPermission::Scope(need) = demand {
            grant.check(need)?;
        }
        Ok(grant)
    }
}

/// Returns a random secret for the demo's token.
///
/// # Errors
/// The system provides no random bytes.
pub fn random_secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("cannot get random bytes for the demo's token"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Grant<'_> {
    /// Returns whether the request came with a valid token.
    pub(super) const fn shows_token(&self) -> bool {
        self.identity().is_some()
    }

    const fn identity(&self) -> Option<&CallerIdentity<'_>> {
        match &self.basis {
            GrantBasis::Public(identity) | GrantBasis::Exempt(identity) => identity.as_ref(),
            GrantBasis::Token(identity) => Some(identity),
        }
    }

    /// Returns the publisher that has sent the request.
    pub(super) fn publisher(&self) -> Publisher<'_> {
        let token = self.identity().map(|identity| identity.token.name());
        let subject = self.identity().and_then(|identity| identity.subject.as_deref());
        Publisher { token, subject, address: self.caller }
    }

    /// Returns whether the request was authorized, so that its connection counts as proven. A request that anybody
    /// may make proves nothing.
    pub(super) const fn is_proof(&self) -> bool {
        !matches!(self.basis, GrantBasis::Public(_))
    }

    /// Checks that the caller may publish all of these items.
    ///
    /// # Errors
    /// The scopes of the token do not cover one of the items.
    pub(super) fn check_items(&self, items: &[Item]) -> Result<(), AccessRefusal> {
        items.iter().flat_map(needs).try_for_each(|need| self.check(need))
    }

    fn check(&self, need: NeededScope<'_>) -> Result<(), AccessRefusal> {
        let GrantBasis::Token(CallerIdentity { token, .. }) = &self.basis else { return Ok(()) };
        if token.may(need) {
            return Ok(());
        }
        let told = format!("the token '{}' may not {need}; it may: {}", token.name(), token.scopes());
        Err(AccessRefusal { caller: self.caller, why: RefusalReason::Forbidden(told) })
    }
}

/// Returns the token in the `Authorization` header of a request (RFC 6750 2.1).
///
/// # Errors
/// There is no bearer token, or more than one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<&[u8], RefusalReason> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (shown.next(), shown.next());
    if second.is_some() {
        return Err(RefusalReason::SeveralTokens);
    }
    let (scheme, token) = first.and_then(|value| value.as_bytes().split_at_checked(7)).ok_or(RefusalReason::NoToken)?;
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() {
        return Err(RefusalReason::NoToken);
    }
    Ok(token)
}

impl AccessRefusal {
    /// Returns whether the refused token may be a guess. A token with a valid signature is no guess, and neither is a
    /// request without a token.
    pub(super) const fn may_be_a_guess(&self) -> bool {
        matches!(
            self.why,
            RefusalReason::Unknown(UnknownCaller::Key | UnknownCaller::Issuer | UnknownCaller::Signature)
        )
    }

    /// Logs the refusal and returns the reply. Neither contains the token that was sent.
    pub(super) fn into_reply(self) -> ApiReply {
        let Self { caller, why } = self;
        let status = if matches!(why, RefusalReason::Forbidden(_)) { 403 } else { 401 };
        tracing::warn!(remote = %caller, status, "control request refused: {why}");
        ApiReply::text(status, format!("Refused: {why}.")).challenge(&why.challenge())
    }
}

impl RefusalReason {
    /// Returns the value of `WWW-Authenticate` (RFC 6750 3). It names no error if the request had no token.
    fn challenge(&self) -> String {
        let (error, description) = match self {
            Self::NoToken => return r#"Bearer realm="gripd""#.to_owned(),
            Self::SeveralTokens => ("invalid_request", self.to_string()),
            Self::Unknown(unknown) => ("invalid_token", unknown.to_string()),
            // The names of the token and of the channel may contain characters that a header must not contain, so
            // they are left out.
            Self::Forbidden(_) => ("insufficient_scope", "the token may not do this".to_owned()),
        };
        format!(r#"Bearer realm="gripd", error="{error}", error_description="{description}""#)
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("no token: send one as 'Authorization: Bearer TOKEN'"),
            Self::SeveralTokens => f.write_str("there is more than one Authorization header"),
            Self::Unknown(unknown) => unknown.fmt(f),
            Self::Forbidden(told) => f.write_str(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grip::item::parse_batch;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn tcp(remote: &str) -> Peer {
        let remote: SocketAddr = remote.parse().unwrap();
        Peer::Tcp { local: "10.0.0.1:5561".parse().unwrap(), remote }
    }

    fn access(scopes: &[&str]) -> ControlAccess {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        ControlAccess { tokens: vec![ControlToken::secret("t", "s3cret", scopes)], ..ControlAccess::default() }
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    /// Returns `yes` if a request is admitted, and otherwise the reason of the refusal.
    fn admitted(access: &ControlAccess, caller: Peer, path: &str, method: &Method, shown: &[&'static str]) -> String {
        let admitted = access.admit(caller, path, method, &headers(shown));
        admitted.map_or_else(|refusal| refusal.why.to_string(), |_| "yes".to_owned())
    }

    #[test]
    fn what_a_request_asks_for() {
        let (get, post) = (&Method::GET, &Method::POST);
        for path in ["", "/healthz", "/readyz"] {
            assert_eq!(RequiredPermission::of(path, post), RequiredPermission::Nothing, "{path}");
        }
        assert_eq!(RequiredPermission::of("/publish", post), RequiredPermission::Token);
        for path in ["/channels", "/channels/a/b", "/metrics", "/connections/1", "/allowed", "/denied"] {
            assert_eq!(RequiredPermission::of(path, get), RequiredPermission::Scope(NeededScope::Inspect), "{path}");
            assert_eq!(
                RequiredPermission::of(path, &Method::DELETE),
                RequiredPermission::Scope(NeededScope::Admin),
                "{path}"
            );
        }
        for path in
            ["/recover", "/nothing", "/channelsx", "//channels", "/healthz/x", "*", "x", "/PUBLISH", "/publish/"]
        {
            assert_eq!(RequiredPermission::of(path, get), RequiredPermission::Scope(NeededScope::Admin), "{path}");
        }
    }

    #[test]
    fn a_token_is_shown_in_one_header() {
        let (access, caller, get) = (access(&["inspect"]), tcp("127.0.0.1:1"), &Method::GET);
        for shown in ["Bearer s3cret", "bearer  s3cret ", "BEARER s3cret"] {
            assert_eq!(admitted(&access, caller, "/metrics", get, &[shown]), "yes", "{shown}");
        }
        for shown in [&[][..], &["Bearer"], &["Bearer "], &["Basic czNjcmV0"], &["s3cret"], &["Bearers3cret"]] {
            let refused = admitted(&access, caller, "/metrics", get, shown);
            assert!(refused.starts_with("no token"), "{shown:?}: {refused}");
        }
        let refused = admitted(&access, caller, "/metrics", get, &["Bearer s3cret", "Bearer s3cret"]);
        assert!(refused.contains("more than one"), "{refused}");
        assert!(admitted(&access, caller, "/metrics", get, &["Bearer other"]).starts_with("unknown token"));
        assert_eq!(
            admitted(&access, caller, "/recover", &Method::POST, &["Bearer s3cret"]),
            "the token 't' may not do this, which requires 'admin'; it may: inspect"
        );
    }

    #[test]
    fn some_need_no_token() {
        let (local, remote) = (["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"], "10.0.0.2:1");
        let mut access = access(&["inspect"]);
        let admits = |access: &ControlAccess, caller| admitted(access, caller, "/recover", &Method::POST, &[]) == "yes";
        assert!(admits(&access, Peer::Unix) && !admits(&access, tcp(local[0])));
        (access.unix, access.loopback) = (false, true);
        assert!(!admits(&access, Peer::Unix) && !admits(&access, tcp(remote)));
        assert!(local.iter().all(|remote| admits(&access, tcp(remote))));
        access.tokens.clear();
        assert!(admits(&access, Peer::Unix) && admits(&access, tcp(remote)));
    }

    #[test]
    fn challenges_hold_nothing_that_they_must_not() {
        let forbidden = RefusalReason::Forbidden("\"é\n\\".into());
        let unknown = [
            UnknownCaller::Key,
            UnknownCaller::NoIssuer,
            UnknownCaller::Issuer,
            UnknownCaller::Signature,
            UnknownCaller::NoExpiry,
        ];
        let unknown =
            unknown.into_iter().chain([UnknownCaller::Expired, UnknownCaller::Early, UnknownCaller::Audience]);
        for why in unknown.map(RefusalReason::Unknown).chain([RefusalReason::SeveralTokens, forbidden]) {
            let challenge = why.challenge();
            assert_eq!(challenge.matches('"').count(), 6, "{challenge}");
            assert!(challenge.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\'), "{challenge}");
        }
    }

    proptest! {
        #[test]
        fn a_batch_is_let_in_if_each_of_its_items_is(
            scopes in prop::collection::vec("(publish|close) [ab*]{1,2}", 0..3),
            items in prop::collection::vec(("[ab]{1,2}", any::<bool>(), any::<bool>()), 0..4),
        ) {
            let json = |(channel, says, closes): &(String, bool, bool)| {
                let formats = if *says || !closes { r#","http-stream":{"content":""}"# } else { "" };
                let action = if *closes { r#","action":"close""# } else { "" };
                format!(r#"{{"channel":"{channel}"{formats}{action}}}"#)
            };
            let body = format!(r#"{{"items":[{}]}}"#, items.iter().map(json).collect::<Vec<_>>().join(","));
            let batch = parse_batch(body.as_bytes()).unwrap().items;
            let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
            let token = ControlToken::secret("t", "s3cret", scopes.clone());
            let grant = Grant { caller: Peer::Unix, basis: GrantBasis::Token(CallerIdentity { token: &token, subject: None }) };
            let may = |need: NeededScope<'_>| scopes.iter().any(|scope| scope.covers(need));
            let expected = items.iter().all(|(channel, says, closes)| {
                let publishes = *says || !*closes;
                (!publishes || may(NeededScope::Publish(channel))) && (!*closes || may(NeededScope::Close(channel)))
            });
            prop_assert_eq!(grant.check_items(&batch).is_ok(), expected);
        }
    }
}
