//! The identity of a client, as far as it follows from the client's request.

use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use crate::grip::Rights;
use crate::grip::identity::TokenError;
use crate::origin::{now, remove_where};
use crate::route::{BearerTokens, Route, UserIdentification, UserSource};
use crate::wire::PlainAnswer;
use hyper::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Response};

/// The reason why a request is refused: its token is missing or invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityError {
    /// The request has no token, although its route requires one.
    NoToken,
    /// The token of the request is not valid.
    Untrusted(TokenError),
}

/// Returns the rights of the client that sent a request. If the route learns the user from a header, that header is
/// removed unless a proxy that may set it, or a trusted GRIP proxy, has sent the request. `original` is the request as
/// the client sent it, if the one in `context` may differ from it.
pub(super) fn identify(
    context: &mut RequestContext,
    original: Option<&Parts>,
    route: &Route,
) -> Result<Rights, IdentityError> {
    if context.sender.is_trusted() {
        return Ok(Rights::default());
    }
    let Some(users) = route.users.as_deref() else { return Ok(Rights::default()) };
    match &users.source {
        // The origin names the user in its response.
        UserSource::Meta(_) => Ok(Rights::default()),
        UserSource::Header(name, proxies) => {
            let believed = context.peer.as_ref().is_some_and(|peer| proxies.contains(peer.address));
            // A JSON-P request may name headers in its query. They do not come from the proxy, so the original
            // headers are read.
            let said = &original.unwrap_or(&context.request).headers;
            let said = if believed { single_value(said, name).cloned() } else { None };
            set_trusted_header(&mut context.request.headers, name, said.as_ref());
            let user = said.as_ref().and_then(|user| std::str::from_utf8(user.as_bytes()).ok()).map(str::trim);
            Ok(user.filter(|user| !user.is_empty()).map(|user| users.rights_of(user)).unwrap_or_default())
        }
        UserSource::Token(bearer) => by_token(original.unwrap_or(&context.request), users, bearer),
    }
}

/// Returns the value of a header that occurs exactly once. If a proxy has added its own value to one that the
/// client sent, it is not known which of them is the proxy's.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        tracing::warn!(
            header = %name,
            "a request contains several headers that name its user; the user is treated as unknown"
        );
        return None;
    }
    first
}

/// Sets a header to `value`, or removes it. Headers whose names differ only in `-` and `_` are removed, because CGI
/// programs read them as the same header (RFC 3875 4.1.18).
fn set_trusted_header(headers: &mut HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) {
    remove_where(headers, |other| other.as_str().replace('_', "-") == name.as_str().replace('_', "-"));
    if let Some(value) = value {
        headers.insert(name, value.clone());
    }
}

fn by_token(request: &Parts, users: &UserIdentification, bearer: &BearerTokens) -> Result<Rights, IdentityError> {
    let query = request.uri.query();
    let mut shown = bearer.places.iter().map(|place| place.find(&request.headers, query));
    let Some(tokens) = shown.find(|tokens| !tokens.is_empty()) else {
        return match bearer.required {
            false => Ok(Rights::default()),
            // A browser sends no token in a preflight request. The request is forwarded, but its client may hold no
            // channel.
            true if is_preflight(request) => Ok(Rights { holds_nothing: true, ..Rights::default() }),
            true => Err(IdentityError::NoToken),
        };
    };
    let [token, others @ ..] = &tokens[..] else { return Err(IdentityError::NoToken) };
    if others.iter().any(|other| other != token) {
        // The origin could read another token than gripd does.
        return Err(IdentityError::Untrusted(TokenError::Several));
    }
    // A route is served only after its keys have been read, so there are keys.
    let Some(tokens) = &bearer.tokens else { return Err(IdentityError::Untrusted(TokenError::UnknownKey)) };
    let identity = tokens.verify(token, now()).map_err(IdentityError::Untrusted)?;
    let own = users.own(&identity.user);
    let until = bearer.close_at_expiry.then_some(identity.expires);
    Ok(Rights { user: Some(identity.user), own, channels: identity.channels, expires: until, holds_nothing: false })
}

/// Returns whether this is a CORS preflight request. A browser sends it without a token, and asks whether a page
/// may send the actual request.
fn is_preflight(request: &Parts) -> bool {
    let Parts { method, headers, .. } = request;
    *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && headers.contains_key(ORIGIN)
}

impl IdentityError {
    /// Returns the 401 response for the client.
    pub(super) fn answer(self) -> PlainAnswer {
        match self {
            Self::NoToken => PlainAnswer::new(401, "A token is required."),
            Self::Untrusted(why) => PlainAnswer::new(401, "").explained(format!("{why}.")),
        }
    }

    /// Adds a `WWW-Authenticate` header, which says that a bearer token is expected and why the given one was
    /// refused (RFC 6750 3).
    pub(super) fn challenge(self, response: &mut Response<ResponseBody>) {
        let challenge = match self {
            Self::NoToken => Ok(HeaderValue::from_static("Bearer")),
            Self::Untrusted(why) => {
                HeaderValue::try_from(format!("Bearer error=\"invalid_token\", error_description=\"{why}\""))
            }
        };
        if let Ok(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
}
