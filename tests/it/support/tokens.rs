//! JSON Web Tokens of users.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// The secret with which tests sign the tokens of users.
pub(crate) const SECRET: &str = "a secret for tests";

/// Returns the current time, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns a token of a user that is valid for an hour.
pub(crate) fn token(user: &str) -> String {
    claims(&serde_json::json!({ "sub": user, "exp": now() + 3600 }))
}

/// Returns a token with these claims, signed with [`SECRET`].
pub(crate) fn claims(claims: &Value) -> String {
    signed(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

/// Returns a token with these claims, signed with this key.
pub(crate) fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}
