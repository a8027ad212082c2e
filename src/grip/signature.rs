//! `Grip-Sig`: the signed token by which an origin recognizes requests that came through gripd, and by which gripd
//! recognizes requests that came through another GRIP proxy.

use super::jws::{SignedToken, VerifyingKey};
pub use super::key::{InvalidKey, Key};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The time for which a token is valid, in seconds, as in Pushpin.
pub const VALID_FOR: u64 = 3600;

/// A signer of requests. Its tokens are JWTs (RFC 7519) with the claims `exp` and `iss`, and with the claim `aud` if
/// the token is for a certain audience, such as webhooks.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    header: Header,
    issuer: String,
}

#[derive(Serialize)]
struct SignedClaims<'a> {
    exp: u64,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl Signer {
    /// Returns a signer whose tokens name `issuer`, or `None` if the issuer or the secret is empty, so that requests
    /// are not signed.
    ///
    /// # Errors
    /// The key cannot be used for signing.
    pub fn new(issuer: &str, key: &Key) -> Result<Option<Self>, InvalidKey> {
        if issuer.is_empty() || key.is_empty() {
            return Ok(None);
        }
        let (key, algorithm) = match key {
            Key::Secret(secret) => (EncodingKey::from_secret(secret), Algorithm::HS256),
            Key::Pem(pem) => signing_key(pem.as_bytes())?,
        };
        let signer = Self { key, header: Header::new(algorithm), issuer: issuer.to_owned() };
        // Some keys can be parsed and still cannot sign, so signing is tried once.
        signer.sign(0).ok_or_else(|| InvalidKey::new("the key can be read, but signing with it fails"))?;
        Ok(Some(signer))
    }

    /// Returns the token for a request that is sent at `now`, in seconds since 1970, or `None` if the key fails to
    /// sign.
    pub fn sign(&self, now: u64) -> Option<String> {
        self.sign_for(None, now)
    }

    /// Returns a token as [`sign`](Self::sign) does, with `audience` as its claim `aud`. A receiver that checks the
    /// audience does not take the request of a client for a request of gripd's own.
    pub fn sign_for(&self, audience: Option<&str>, now: u64) -> Option<String> {
        let claims = SignedClaims { exp: now + VALID_FOR, iss: &self.issuer, aud: audience };
        jsonwebtoken::encode(&self.header, &claims, &self.key).ok()
    }
}

impl PartialEq for Signer {
    /// Compares the tokens that both signers make. Signatures of ES256 are different each time, so signers with such
    /// keys are never equal.
    fn eq(&self, other: &Self) -> bool {
        self.sign(0) == other.sign(0)
    }
}

impl Eq for Signer {}

fn signing_key(pem: &[u8]) -> Result<(EncodingKey, Algorithm), InvalidKey> {
    let ec = EncodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
    ec.or_else(|_| EncodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256))).map_err(|_| {
        InvalidKey::new(
            "the PEM text contains no private key of type EC (P-256) or RSA; an EC key must be in \
            PKCS #8, to which 'openssl pkcs8 -topk8 -nocrypt' converts it",
        )
    })
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A verifier for the tokens of another GRIP proxy or of a caller of the control API.
#[derive(Clone)]
pub struct ProxyVerifier(VerifyingKey);

/// The claims that decide whether a token is trusted. The token must be valid at the current time (`exp`, `nbf`), and
/// must have no audience (`aud`), because it would then be meant for another receiver.
#[derive(Deserialize)]
struct RequiredClaims {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    aud: Option<serde_json::Value>,
}

impl ProxyVerifier {
    /// Returns a verifier for tokens that are signed with `key`, which is the shared secret or the public key.
    /// Returns `None` if the secret is empty, so that no token is trusted.
    ///
    /// # Errors
    /// The key cannot be used for verifying signatures.
    pub fn new(key: &Key) -> Result<Option<Self>, InvalidKey> {
        if key.is_empty() { Ok(None) } else { VerifyingKey::new(key).map(|key| Some(Self(key))) }
    }

    /// Returns whether a token is signed with the key, is valid at `now`, in seconds since 1970, and names no
    /// audience.
    pub fn trusts(&self, token: &str, now: u64) -> bool {
        let token = SignedToken::parse(token);
        let stated = token.and_then(|token| serde_json::from_slice::<RequiredClaims>(self.0.open(&token)?).ok());
        // A time may have a fraction (RFC 7519 2), so times are compared as floating-point numbers. An `f64` holds
        // every whole second exactly up to 2^53.
        #[allow(clippy::cast_precision_loss, reason = "said above")]
        let now = now as f64;
        let has_begun = |from: f64| from <= now;
        stated.is_some_and(|stated| stated.exp > now && stated.aud.is_none() && stated.nbf.is_none_or(has_begun))
    }

    /// Returns the claims of a token, if it is signed with the key. The caller must check for what time and for which
    /// audience the token is valid.
    ///
    /// # Errors
    /// The token is malformed, or it is not signed with the key.
    pub fn claims<T: DeserializeOwned>(&self, token: &str) -> Result<T, ClaimsError> {
        let token = SignedToken::parse(token).ok_or(ClaimsError::Malformed)?;
        let claims = self.0.open(&token).ok_or(ClaimsError::Signature)?;
        serde_json::from_slice(claims).map_err(|_| ClaimsError::Malformed)
    }
}

/// The reason why the claims of a token are not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsError {
    /// The text is not a signed JWT, or its claims do not have the required types.
    Malformed,
    /// The token is signed with another key or another algorithm.
    Signature,
}

/// Returns the claims of a token without verifying its signature. They must only be used to find the key that
/// verifies the token, or after the token was verified. Returns `None` if the text is not a JWT, or if its claims do
/// not have the required types.
pub fn unverified_claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

impl fmt::Debug for ProxyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // These keys were made for the tests, with `openssl genpkey` and `openssl pkey -pubout`.
    const EC: &str = include_str!("../../tests/keys/ec.pem");
    const EC_PUBLIC: &str = include_str!("../../tests/keys/ec.public.pem");
    const RSA: &str = include_str!("../../tests/keys/rsa.pem");
    const RSA_PUBLIC: &str = include_str!("../../tests/keys/rsa.public.pem");

    fn key(text: &str) -> Key {
        Key::parse(text, |path| Err(format!("there is no {path}"))).unwrap()
    }

    fn file(content: &str) -> Result<Key, InvalidKey> {
        Key::parse("file:k", |_| Ok(content.to_owned()))
    }

    #[test]
    fn a_token_is_what_any_jwt_library_expects() {
        let signer = Signer::new("pushpin", &key("changeme")).unwrap().unwrap();
        // The signature was computed in Python: hmac.new(b"changeme", header_and_claims, hashlib.sha256)
        assert_eq!(
            signer.sign(1_700_000_000).unwrap(),
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDAwMDM2MDAsImlzcyI6InB1c2hwaW4ifQ.kLqQZD5BP5GyM4rxs4s7hNTebsh6irVi0yu8Uk7hRKo"
        );
    }

    #[test]
    fn keys_are_written_in_several_ways() {
        let expected = Key::Secret(b"changeme".to_vec());
        assert_eq!(key("base64:Y2hhbmdlbWU="), expected);
        assert_eq!(file("6368616e67656D65\n").unwrap(), expected);
        assert!(matches!(file(EC).unwrap(), Key::Pem(_)));
        assert!(matches!(key(EC_PUBLIC), Key::Pem(_)));
        assert!(file("not hex").unwrap_err().to_string().contains("neither a PEM key"));
        assert!(Key::parse("base64:***", |_| Ok(String::new())).is_err());
        let missing = Key::parse("file:k", |_| Err("no such file".into())).unwrap_err();
        assert_eq!(missing.to_string(), "k: no such file");
    }

    #[test]
    fn what_one_side_signs_the_other_trusts() {
        let pairs = [
            (key("s"), key("s")),
            (file(EC).unwrap(), file(EC_PUBLIC).unwrap()),
            (file(RSA).unwrap(), file(RSA_PUBLIC).unwrap()),
        ];
        for (private, public) in &pairs {
            let signer = Signer::new("i", private).unwrap().unwrap();
            let verifier = ProxyVerifier::new(public).unwrap().unwrap();
            let token = signer.sign(1000).unwrap();
            assert!(verifier.trusts(&token, 1000) && verifier.trusts(&token, 1000 + VALID_FOR - 1), "{private:?}");
            assert!(!verifier.trusts(&token, 1000 + VALID_FOR), "{private:?}");
            assert!(!verifier.trusts(&format!("{token}x"), 1000), "{private:?}");
            // A token that is signed with a key of one kind is not trusted by a verifier with a key of another kind.
            for (other, _) in pairs.iter().filter(|(other, _)| other != private) {
                let token = Signer::new("i", other).unwrap().unwrap().sign(1000).unwrap();
                assert!(!verifier.trusts(&token, 1000), "{other:?} for {private:?}");
            }
        }
    }

    #[test]
    fn claims_are_told_to_who_has_the_key() {
        let token = Signer::new("me", &key("s")).unwrap().unwrap().sign(1000).unwrap();
        let claims =
            |key: &Key, token: &str| ProxyVerifier::new(key).unwrap().unwrap().claims::<serde_json::Value>(token);
        assert_eq!(claims(&key("s"), &token).unwrap()["iss"], "me");
        assert_eq!(claims(&key("other"), &token), Err(ClaimsError::Signature));
        assert_eq!(claims(&file(EC_PUBLIC).unwrap(), &token), Err(ClaimsError::Signature));
        assert_eq!(claims(&key("s"), "a.b.c"), Err(ClaimsError::Malformed));
        let issuer = |token| unverified_claims::<serde_json::Value>(token).map(|claims| claims["iss"].clone());
        assert_eq!((issuer(token.as_str()), issuer("a.b.c")), (Some("me".into()), None));
    }

    #[test]
    fn a_token_for_somebody_else_or_without_an_end_is_not_trusted() {
        let verifier = ProxyVerifier::new(&key("s")).unwrap().unwrap();
        let trusts = |claims: serde_json::Value| {
            let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"s")).unwrap();
            verifier.trusts(&token, 5)
        };
        assert!(trusts(serde_json::json!({"exp": 6})));
        assert!(!trusts(serde_json::json!({"exp": 6, "aud": "x"})));
        assert!(!trusts(serde_json::json!({"iss": "x"})));
        assert!(!trusts(serde_json::json!({"exp": "6"})));
        assert!(!verifier.trusts("", 5) && !verifier.trusts("a.b.c", 5));
    }

    #[test]
    fn nothing_to_sign_with_is_no_signer_and_a_bad_key_an_error() {
        assert!(Signer::new("", &key("x")).unwrap().is_none());
        assert!(Signer::new("x", &key("")).unwrap().is_none());
        assert!(ProxyVerifier::new(&key("")).unwrap().is_none());
        assert!(Signer::new("x", &file(EC_PUBLIC).unwrap()).is_err());
        for useless in ["-----BEGIN NONSENSE-----", EC, RSA] {
            assert!(ProxyVerifier::new(&file(useless).unwrap()).is_err(), "{useless}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let signer = Signer::new("pushpin", &key("changeme")).unwrap().unwrap();
        assert!(!format!("{signer:?} {:?}", key("changeme")).contains("changeme"));
    }
}
