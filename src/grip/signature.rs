//! `Grip-Sig`: the token by which an origin knows that a request came through gripd, and gripd a request of another
//! GRIP proxy.

use super::jws::{Token, VerifyingKey};
pub use super::key::{InvalidKey, Key};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Seconds for which a token is valid, as Pushpin has it.
pub const VALID_FOR: u64 = 3600;

/// Signs requests to an origin: a JWT (RFC 7519) with the claims `exp` and `iss`, and `aud` for what is not a client's.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    header: Header,
    issuer: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    exp: u64,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl Signer {
    /// Returns a signer for `issuer`. An empty issuer or secret means that requests are not signed: `None`.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn new(issuer: &str, key: &Key) -> Result<Option<Self>, InvalidKey> {
        if issuer.is_empty() || key.is_empty() {
            return Ok(None);
        }
        let (key, algorithm) = match key {
            Key::Secret(secret) => (EncodingKey::from_secret(secret), Algorithm::HS256),
            Key::Pem(pem) => signing_key(pem.as_bytes())?,
        };
        let signer = Self { key, header: Header::new(algorithm), issuer: issuer.to_owned() };
        // A key that looks like one may still not sign.
        signer.sign(0).ok_or_else(|| InvalidKey::new("the key cannot sign"))?;
        Ok(Some(signer))
    }

    /// Returns the token for a request sent at `now`, in seconds since 1970. `None`: the key does not sign after all.
    pub fn sign(&self, now: u64) -> Option<String> {
        self.sign_for(None, now)
    }

    /// Returns the same for an audience: who checks that does not take a client's request for one of gripd's own.
    pub fn sign_for(&self, audience: Option<&str>, now: u64) -> Option<String> {
        let claims = Claims { exp: now + VALID_FOR, iss: &self.issuer, aud: audience };
        jsonwebtoken::encode(&self.header, &claims, &self.key).ok()
    }
}

impl PartialEq for Signer {
    /// Compares the tokens that they sign. Those of ES256 differ each time, and so do their signers.
    fn eq(&self, other: &Self) -> bool {
        self.sign(0) == other.sign(0)
    }
}

impl Eq for Signer {}

fn signing_key(pem: &[u8]) -> Result<(EncodingKey, Algorithm), InvalidKey> {
    let ec = EncodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
    ec.or_else(|_| EncodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256))).map_err(|_| {
        InvalidKey::new("the PEM holds no private EC (P-256) or RSA key; an EC key must be in PKCS #8: openssl pkcs8 -topk8 -nocrypt")
    })
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Knows the tokens of another GRIP proxy.
#[derive(Clone)]
pub struct Verifier(VerifyingKey);

/// The claims that a token must have, or must not: the time until which it is valid, and no audience, as it would then be
/// for somebody else.
#[derive(Deserialize)]
struct Stated {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    aud: Option<serde_json::Value>,
}

impl Verifier {
    /// Returns a verifier of tokens signed with `key`: the same secret, or the public key. An empty secret knows nobody:
    /// `None`.
    ///
    /// # Errors
    /// The key cannot verify.
    pub fn new(key: &Key) -> Result<Option<Self>, InvalidKey> {
        if key.is_empty() { Ok(None) } else { VerifyingKey::new(key).map(|key| Some(Self(key))) }
    }

    /// Returns whether a token is good at `now`, in seconds since 1970.
    pub fn trusts(&self, token: &str, now: u64) -> bool {
        let token = Token::parse(token);
        let stated = token.and_then(|token| serde_json::from_slice::<Stated>(self.0.open(&token)?).ok());
        // A time may have a fraction (RFC 7519 2), and for ages to come a float has room for all of it.
        #[allow(clippy::cast_precision_loss, reason = "said above")]
        let now = now as f64;
        let has_begun = |from: f64| from <= now;
        stated.is_some_and(|stated| stated.exp > now && stated.aud.is_none() && stated.nbf.is_none_or(has_begun))
    }

    /// Returns the claims of a token, if it is signed with the key. The caller judges until when it is valid, and for whom.
    ///
    /// # Errors
    /// The claims are not to be believed. The error says why.
    pub fn claims<T: DeserializeOwned>(&self, token: &str) -> Result<T, Unfit> {
        let token = Token::parse(token).ok_or(Unfit::Malformed)?;
        let claims = self.0.open(&token).ok_or(Unfit::Signature)?;
        serde_json::from_slice(claims).map_err(|_| Unfit::Malformed)
    }
}

/// Why the claims of a token are not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no JWT, or its claims are not of the types that they must be.
    Malformed,
    /// It is signed with another key, or in another way.
    Signature,
}

/// Returns the claims of a token, whoever wrote it. They serve to find the key by which the token is to be verified, and
/// for nothing else. `None`: it is no JWT, or its claims are not of the types that they must be.
pub fn unverified_claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for these tests, by `openssl genpkey` and `openssl pkey -pubout`.
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
        // The signature is Python's: hmac.new(b"changeme", header_and_claims, hashlib.sha256)
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
            let verifier = Verifier::new(public).unwrap().unwrap();
            let token = signer.sign(1000).unwrap();
            assert!(verifier.trusts(&token, 1000) && verifier.trusts(&token, 1000 + VALID_FOR - 1), "{private:?}");
            assert!(!verifier.trusts(&token, 1000 + VALID_FOR), "{private:?}");
            assert!(!verifier.trusts(&format!("{token}x"), 1000), "{private:?}");
            // A token by another kind of key is not taken for one by this kind.
            for (other, _) in pairs.iter().filter(|(other, _)| other != private) {
                let token = Signer::new("i", other).unwrap().unwrap().sign(1000).unwrap();
                assert!(!verifier.trusts(&token, 1000), "{other:?} for {private:?}");
            }
        }
    }

    #[test]
    fn claims_are_told_to_who_has_the_key() {
        let token = Signer::new("me", &key("s")).unwrap().unwrap().sign(1000).unwrap();
        let claims = |key: &Key, token: &str| Verifier::new(key).unwrap().unwrap().claims::<serde_json::Value>(token);
        assert_eq!(claims(&key("s"), &token).unwrap()["iss"], "me");
        assert_eq!(claims(&key("other"), &token), Err(Unfit::Signature));
        assert_eq!(claims(&file(EC_PUBLIC).unwrap(), &token), Err(Unfit::Signature));
        assert_eq!(claims(&key("s"), "a.b.c"), Err(Unfit::Malformed));
        let issuer = |token| unverified_claims::<serde_json::Value>(token).map(|claims| claims["iss"].clone());
        assert_eq!((issuer(token.as_str()), issuer("a.b.c")), (Some("me".into()), None));
    }

    #[test]
    fn a_token_for_somebody_else_or_without_an_end_is_not_trusted() {
        let verifier = Verifier::new(&key("s")).unwrap().unwrap();
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
        assert!(Verifier::new(&key("")).unwrap().is_none());
        assert!(Signer::new("x", &file(EC_PUBLIC).unwrap()).is_err());
        for useless in ["-----BEGIN NONSENSE-----", EC, RSA] {
            assert!(Verifier::new(&file(useless).unwrap()).is_err(), "{useless}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let signer = Signer::new("pushpin", &key("changeme")).unwrap().unwrap();
        assert!(!format!("{signer:?} {:?}", key("changeme")).contains("changeme"));
    }
}
