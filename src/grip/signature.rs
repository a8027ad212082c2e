//! `Grip-Sig`: the token by which an origin knows that a request came through gripd.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Seconds for which a token is valid, as Pushpin has it.
pub const VALID_FOR: u64 = 3600;

/// Signs requests to an origin: a JWT (RFC 7519) with HS256 and exactly the claims `exp` and `iss`.
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
    issuer: String,
}

impl Signer {
    /// A signer for `issuer` with a secret: plain text, or `base64:` and its base64. An empty issuer or
    /// secret means that requests are not signed: `None`.
    ///
    /// # Errors
    /// What is wrong with the key, without the key.
    pub fn new(issuer: &str, key: &str) -> Result<Option<Self>, InvalidKey> {
        if issuer.is_empty() || key.is_empty() {
            return Ok(None);
        }
        let secret = secret(key)?;
        let key = Hmac::new_from_slice(&secret).map_err(|_| InvalidKey("it has an unusable length"))?;
        Ok(Some(Self { key, issuer: issuer.to_owned() }))
    }

    /// The token for a request sent at `now`, in seconds since 1970.
    pub fn sign(&self, now: u64) -> String {
        let claims = serde_json::json!({ "exp": now + VALID_FOR, "iss": self.issuer }).to_string();
        let mut token = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut mac = self.key.clone();
        mac.update(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut token);
        token
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why a key cannot be used. It never holds the key.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidKey(&'static str);

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidKey {}

fn secret(key: &str) -> Result<Vec<u8>, InvalidKey> {
    if let Some(encoded) = key.strip_prefix("base64:") {
        return STANDARD.decode(encoded).map_err(|_| InvalidKey("what follows 'base64:' is not base64"));
    }
    if key.starts_with("file:") {
        return Err(InvalidKey("keys in files are not supported yet: give the secret itself or 'base64:...'"));
    }
    Ok(key.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_any_jwt_library_expects() {
        let signer = Signer::new("pushpin", "changeme").unwrap().unwrap();
        // The signature is Python's: hmac.new(b"changeme", header_and_claims, hashlib.sha256)
        assert_eq!(
            signer.sign(1_700_000_000),
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDAwMDM2MDAsImlzcyI6InB1c2hwaW4ifQ.kLqQZD5BP5GyM4rxs4s7hNTebsh6irVi0yu8Uk7hRKo"
        );
    }

    #[test]
    fn a_base64_key_is_the_same_key() {
        let plain = Signer::new("i", "changeme").unwrap().unwrap();
        let encoded = Signer::new("i", "base64:Y2hhbmdlbWU=").unwrap().unwrap();
        assert_eq!(plain.sign(1), encoded.sign(1));
    }

    #[test]
    fn nothing_to_sign_with_is_no_signer_and_a_bad_key_an_error() {
        assert!(Signer::new("", "x").unwrap().is_none());
        assert!(Signer::new("x", "").unwrap().is_none());
        assert!(Signer::new("x", "base64:***").is_err());
        assert!(Signer::new("x", "file:key.pem").is_err());
    }

    #[test]
    fn the_key_is_not_printed() {
        let signer = Signer::new("pushpin", "changeme").unwrap().unwrap();
        assert!(!format!("{signer:?}").contains("changeme"));
    }
}
