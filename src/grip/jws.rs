//! Signed tokens: JWTs (RFC 7519) in the compact serialization of JWS (RFC 7515), and the keys that verify them.

use super::key::{InvalidKey, Key};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header};
use std::fmt;

/// A parsed token whose signature has not been verified. [`VerifyingKey::open`] verifies it and returns the claims.
pub struct SignedToken<'a> {
    header: Header,
    message: &'a str,
    signature: &'a str,
    payload: Vec<u8>,
}

impl<'a> SignedToken<'a> {
    /// Splits a token into its parts. Returns `None` if `text` is not a signed JWT, if its algorithm is unknown, or
    /// if it requires an extension (`crit`), because no extension is supported.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let header = jsonwebtoken::decode_header(text).ok().filter(|header| header.crit.is_none())?;
        Some(Self { header, message, signature, payload })
    }

    /// Returns the id of the key (`kid`) with which the token claims to be signed, if it names one.
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }
}

impl fmt::Debug for SignedToken<'_> {
    /// Writes only the algorithm, because whoever reads the whole token could use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token signed with {:?}", self.header.alg)
    }
}

/// A key that verifies signatures of exactly one algorithm: HS256, ES256 or RS256. The key determines the algorithm,
/// and a token that names another one is refused. Keys that are equal accept the same tokens. An RSA key from a PEM
/// text does not equal the same key from a JWK.
#[derive(Clone)]
pub struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
}

impl VerifyingKey {
    /// Returns a key that verifies tokens signed with `key`, which is the shared secret or the public key.
    ///
    /// # Errors
    /// `key` is an empty secret, a PEM text that is given as a secret, or a PEM text without a usable public key.
    pub fn new(key: &Key) -> Result<Self, InvalidKey> {
        if key.is_empty() {
            return Err(InvalidKey::new("the secret is empty"));
        }
        // If a public key were used as a secret, everybody who knows it could sign tokens.
        if matches!(key, Key::Secret(secret) if secret.trim_ascii_start().starts_with(b"-----BEGIN")) {
            return Err(InvalidKey::new("the secret is a PEM key: give it as text or in a file, not as base64"));
        }
        let usable = match key {
            Key::Secret(secret) => Self::usable(DecodingKey::from_secret(secret), Algorithm::HS256),
            Key::Pem(pem) => Self::of_pem(pem.as_bytes()),
        };
        usable.ok_or_else(|| {
            InvalidKey::new("the PEM text contains no public key of type EC (P-256) or RSA (2048 to 8192 bits)")
        })
    }

    /// Returns the key of a JWK (RFC 7517). Returns `None` if the JWK is not a secret, an EC key (P-256) or an RSA
    /// key (2048 to 8192 bits), or if it is not meant for verifying signatures with the algorithm of that kind of
    /// key.
    pub fn of_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => return None,
        };
        let common = &jwk.common;
        let is_meant = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|can| can.contains(&KeyOperations::Verify))
            && common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(algorithm));
        if is_meant { Self::usable(DecodingKey::from_jwk(jwk).ok()?, algorithm) } else { None }
    }

    /// Returns whether a token names the algorithm of this key.
    pub fn is_of_kind(&self, token: &SignedToken<'_>) -> bool {
        token.header.alg == self.algorithm
    }

    /// Verifies the signature of a token and returns its claims as JSON. Returns `None` if the token is not signed
    /// with this key.
    pub fn open<'a>(&self, token: &'a SignedToken<'_>) -> Option<&'a [u8]> {
        let is_signed =
            || jsonwebtoken::crypto::verify(token.signature, token.message.as_bytes(), &self.key, self.algorithm);
        (self.is_of_kind(token) && is_signed().is_ok_and(|yes| yes)).then_some(&token.payload)
    }

    fn of_pem(pem: &[u8]) -> Option<Self> {
        let ec = DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
        let key = ec.or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)));
        key.ok().and_then(|(key, algorithm)| Self::usable(key, algorithm))
    }

    /// Returns the key if it can verify signatures. The parsers also accept some data that is not a valid key.
    fn usable(key: DecodingKey, algorithm: Algorithm) -> Option<Self> {
        let is_usable = match (key.kind(), algorithm) {
            (DecodingKeyKind::SecretOrDer(secret), Algorithm::HS256) => !secret.is_empty(),
            (DecodingKeyKind::SecretOrDer(point), Algorithm::ES256) => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok()
            }
            (DecodingKeyKind::SecretOrDer(der), _) => RsaParameters::public_modulus_len(der).is_ok_and(is_rsa_size),
            (DecodingKeyKind::RsaModulusExponent { n, e }, _) => {
                let size = u32::try_from(n.len()).unwrap_or(u32::MAX).saturating_mul(8);
                is_rsa_size(size) && RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA).is_ok()
            }
        };
        is_usable.then_some(Self { key, algorithm })
    }

    /// Returns the bytes that make up the key, for comparisons. Only an RSA key of a JWK has two parts, the modulus
    /// and the exponent.
    fn bytes(&self) -> (&[u8], &[u8]) {
        match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => (bytes, &[]),
            DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
        }
    }
}

/// The signature scheme and the sizes that are accepted for RSA keys.
static RSA: RsaParameters = RSA_PKCS1_2048_8192_SHA256;

fn is_rsa_size(bits: u32) -> bool {
    (RSA.min_modulus_len()..=RSA.max_modulus_len()).contains(&bits)
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes() == other.bytes()
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key for {:?}", self.algorithm)
    }
}
