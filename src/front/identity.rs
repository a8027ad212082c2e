//! Who a client is, as far as its request says.

use super::body::Reply;
use super::visit::Visit;
use crate::grip::Rights;
use crate::grip::identity::Untrusted;
use crate::origin::now;
use crate::route::{Bearer, Route, UserSource, Users};
use crate::wire::Answer;
use hyper::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Response};

/// Why a request is not forwarded: nobody knows whose it is, or it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It has no token, and must have one.
    NoToken,
    /// It has a token that is not good.
    Untrusted(Untrusted),
}

/// What the client of a request may hold. Headers that only a proxy may set are removed if somebody else did.
/// `original`: the request as the client sent it, if it was changed.
pub(super) fn identify(visit: &mut Visit, original: Option<&Parts>, route: &Route) -> Result<Rights, Unknown> {
    let Some(users) = route.users.as_deref().filter(|_| !visit.trusted) else { return Ok(Rights::default()) };
    match &users.source {
        // Who it is is still to be said.
        UserSource::Meta(_) => Ok(Rights::default()),
        UserSource::Header(name, networks) => {
            let believed = visit.address.is_some_and(|address| networks.iter().any(|n| n.contains(address)));
            if !believed {
                visit.request.headers.remove(name);
            }
            Ok(named(visit, name).map(|user| users.rights_of(&user)).unwrap_or_default())
        }
        UserSource::Token(bearer) => by_token(original.unwrap_or(&visit.request), users, bearer),
    }
}

/// The user that a header names. As it is a proxy's, it is there once.
fn named(visit: &Visit, name: &HeaderName) -> Option<String> {
    let value = visit.request.headers.get(name).map(HeaderValue::as_bytes)?;
    std::str::from_utf8(value.trim_ascii()).ok().filter(|user| !user.is_empty()).map(str::to_owned)
}

fn by_token(request: &Parts, users: &Users, bearer: &Bearer) -> Result<Rights, Unknown> {
    // A page asks first, without a token, whether it may send one.
    let asks = request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let query = request.uri.query();
    let Some(token) = bearer.places.iter().find_map(|place| place.find(&request.headers, query)) else {
        return if bearer.required && !asks { Err(Unknown::NoToken) } else { Ok(Rights::default()) };
    };
    // A route is not served before its keys were read.
    let Some(tokens) = &bearer.tokens else { return Err(Unknown::Untrusted(Untrusted::UnknownKey)) };
    let identity = tokens.verify(&token, now()).map_err(Unknown::Untrusted)?;
    let own = users.own(&identity.user);
    let until = bearer.close_at_expiry.then_some(identity.expires);
    Ok(Rights { user: Some(identity.user), own, channels: identity.channels, until })
}

impl Unknown {
    /// What the client is told.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::NoToken => Answer::new(401, "A token is required."),
            Self::Untrusted(why) => Answer::new(401, "").explained(format!("{why}.")),
        }
    }

    /// Says in the answer which credentials would be accepted (RFC 6750 3).
    pub(super) fn challenge(self, response: &mut Response<Reply>) {
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
