//! The identity of a client, as stated by the JWT (RFC 7519) in its request.

mod place;
mod untrusted;

pub use place::{TokenPlace, hide_tokens};
pub use untrusted::TokenError;

use super::Glob;
use super::jws::{SignedToken, VerifyingKey};
use super::signature::{InvalidKey, Key};
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The maximum length of a user name, in bytes.
pub const MAX_USER: usize = 255;

/// The claim that names the channels that a client may hold.
const CHANNELS_CLAIM: &str = "channels";

/// Returns whether a text is a valid user name: 1 to [`MAX_USER`] bytes without control characters.
pub fn is_user(text: &str) -> bool {
    (1..=MAX_USER).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The identity of a client, as stated by a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the user.
    pub user: Arc<str>,
    /// Patterns for the channels that the client may hold besides the user's own channel, by the names that the
    /// origin uses. With `None`, the token does not restrict the channels.
    pub channels: Option<Arc<[Glob]>>,
    /// The time at which the token expires, in seconds since 1970. There is no upper limit: a token may be valid
    /// forever.
    pub expires: u64,
}

/// The claims that a token must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedClaims {
    /// The name of the claim whose value is the user.
    pub claim: String,
    /// The required value of the claim `iss`. With `None`, the issuer is not checked.
    pub issuer: Option<String>,
    /// An audience that the claim `aud` must contain. With `None`, the audience is not checked.
    pub audience: Option<String>,
}

impl Default for ExpectedClaims {
    fn default() -> Self {
        Self { claim: "sub".to_owned(), issuer: None, audience: None }
    }
}

/// A verifier for the tokens of a route's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChecker {
    keys: TokenKeys,
    expected: ExpectedClaims,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TokenKeys {
    One(VerifyingKey),
    Several(Vec<NamedKey>),
}

/// A key of a JWKS, with the id (`kid`) by which tokens refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedKey {
    id: Option<String>,
    key: VerifyingKey,
}

impl TokenChecker {
    /// Returns a verifier for tokens that are signed with one key. `key` is the shared secret or the public key.
    ///
    /// # Errors
    /// `key` cannot be used for verifying signatures.
    pub fn of_key(key: &Key, expected: ExpectedClaims) -> Result<Self, InvalidKey> {
        Ok(Self { keys: TokenKeys::One(VerifyingKey::new(key)?), expected })
    }

    /// Returns a verifier for tokens that are signed with any key of a JWKS (RFC 7517), whose JSON text is `text`.
    /// Keys that cannot be used are skipped, as RFC 7517 5 recommends.
    ///
    /// # Errors
    /// `text` is not a JWKS, or none of its keys can be used.
    pub fn of_jwks(text: &str, expected: ExpectedClaims) -> Result<Self, InvalidKey> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<Value>,
        }
        let set: KeySet = serde_json::from_str(text).map_err(|_| {
            InvalidKey::new("the file is not a JSON Web Key Set, which is a JSON object with a list 'keys'")
        })?;
        let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let named = |jwk: Jwk| Some(NamedKey { key: VerifyingKey::of_jwk(&jwk)?, id: jwk.common.key_id });
        let keys: Vec<NamedKey> = jwks.filter_map(named).collect();
        if keys.is_empty() {
            return Err(InvalidKey::new("the JWKS has no signature key for HS256, ES256 or RS256"));
        }
        Ok(Self { keys: TokenKeys::Several(keys), expected })
    }

    /// Verifies a token and returns the identity that it states. `now` is the current time, in seconds since 1970.
    ///
    /// # Errors
    /// The token is not valid. The error says why.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let token = SignedToken::parse(token).ok_or(TokenError::Malformed)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(self.keys.open(&token)?).map_err(|_| TokenError::Malformed)?;
        let expires = in_time(&claims, now)?;
        self.expected.check(&claims)?;
        Ok(Identity {
            user: user(claims.get(&self.expected.claim))?,
            channels: channels(claims.get(CHANNELS_CLAIM))?,
            expires,
        })
    }
}

impl TokenKeys {
    /// Returns the claims of a token whose signature one of the keys verifies. Of several keys, only those with the
    /// token's key id are tried, if the token names one.
    fn open<'a>(&self, token: &'a SignedToken<'_>) -> Result<&'a [u8], TokenError> {
        let candidates: Vec<&VerifyingKey> = match self {
            Self::One(key) => vec![key],
            Self::Several(keys) => {
                let is_named = |key: &&NamedKey| token.key_id().is_none_or(|id| key.id.as_deref() == Some(id));
                keys.iter().filter(is_named).map(|named| &named.key).collect()
            }
        };
        if candidates.is_empty() {
            return Err(TokenError::UnknownKey);
        }
        if !candidates.iter().any(|key| key.is_of_kind(token)) {
            return Err(TokenError::Algorithm);
        }
        candidates.into_iter().find_map(|key| key.open(token)).ok_or(TokenError::Signature)
    }
}

impl ExpectedClaims {
    fn check(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let is = |value: &Value, expected: &str| value.as_str() == Some(expected);
        if let Some(issuer) = &self.issuer
            && !claims.get("iss").is_some_and(|value| is(value, issuer))
        {
            return Err(TokenError::Issuer);
        }
        let is_for = |audience: &str| match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|value| is(value, audience)),
            Some(value) => is(value, audience),
            None => false,
        };
        if self.audience.as_deref().is_none_or(is_for) { Ok(()) } else { Err(TokenError::Audience) }
    }
}

/// Checks that a token with these claims is valid at the time `now`, and returns the time at which it expires. All
/// times are in seconds since 1970.
fn in_time(claims: &Map<String, Value>, now: u64) -> Result<u64, TokenError> {
    // A time may have a fraction (RFC 7519 2). `exp` is rounded down and `nbf` is rounded up, so the token counts as
    // valid only in seconds that lie wholly within its time.
    let expires = claims.get("exp").and_then(|exp| seconds(exp, f64::floor)).ok_or(TokenError::NoExpiry)?;
    if expires <= now {
        return Err(TokenError::Expired);
    }
    match claims.get("nbf").map(|nbf| seconds(nbf, f64::ceil)) {
        Some(None) => Err(TokenError::NotBefore),
        Some(Some(start)) if start > now => Err(TokenError::TooEarly),
        _ => Ok(expires),
    }
}

/// Reads a time in seconds since 1970. `rounded` removes the fraction of a time that has one. A time before 1970
/// counts as 1970.
fn seconds(value: &Value, rounded: fn(f64) -> f64) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|seconds| rounded(seconds) as u64))
}

fn user(claim: Option<&Value>) -> Result<Arc<str>, TokenError> {
    let user = match claim.ok_or(TokenError::NoUser)? {
        Value::String(text) => text.clone(),
        // Other numbers may have lost digits when they were parsed, and could then equal another user.
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return Err(TokenError::UserType),
    };
    if is_user(&user) { Ok(user.into()) } else { Err(TokenError::User) }
}

fn channels(claim: Option<&Value>) -> Result<Option<Arc<[Glob]>>, TokenError> {
    let Some(claim) = claim else { return Ok(None) };
    let globs = claim.as_array().ok_or(TokenError::Channels)?.iter();
    globs.map(|glob| glob.as_str().map(Glob::from).ok_or(TokenError::Channels)).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;
