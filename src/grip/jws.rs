//! Signed tokens: JWTs (RFC 7519) in the compact form of JWS (RFC 7515), and the keys by which they are known.

use super::key::{InvalidKey, Key};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header};
use std::fmt;

/// A token that anybody may have signed. [`VerifyingKey::open`] returns its claims.
pub struct Token<'a> {
    header: Header,
    message: &'a str,
    signature: &'a str,
    payload: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. `None`: it is none, or is signed in a way that nobody knows or that needs an extension
    /// (`crit`), of which none is known here.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let header = jsonwebtoken::decode_header(text).ok().filter(|header| header.crit.is_none())?;
        Some(Self { header, message, signature, payload })
    }

    /// Returns the name of the key with which it is signed, as the token says.
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }
}

impl fmt::Debug for Token<'_> {
    /// Writes the token without the parts by which somebody could use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token signed by {:?}", self.header.alg)
    }
}

/// A key that tells whether a token is genuine, and the one algorithm that it is for: HS256, ES256 or RS256. The algorithm
/// that a token names decides nothing. Keys are equal if they accept the same tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
}

impl VerifyingKey {
    /// Returns the key for tokens signed with `key`: the same secret, or the public key.
    ///
    /// # Errors
    /// The key cannot verify.
    pub fn new(key: &Key) -> Result<Self, InvalidKey> {
        if key.is_empty() {
            return Err(InvalidKey::new("the secret is empty"));
        }
        // Whoever knows the public key could sign with it if it were a secret.
        if matches!(key, Key::Secret(secret) if secret.trim_ascii_start().starts_with(b"-----BEGIN")) {
            return Err(InvalidKey::new("the secret is a PEM key: give it as text or in a file, not as base64"));
        }
        let usable = match key {
            Key::Secret(secret) => Self::usable(DecodingKey::from_secret(secret), Algorithm::HS256),
            Key::Pem(pem) => Self::of_pem(pem.as_bytes()),
        };
        usable.ok_or_else(|| InvalidKey::new("the PEM holds no public EC (P-256) or RSA (2048 to 8192 bits) key"))
    }

    /// Returns the key of a JWK (RFC 7517). `None`: it is no secret, EC (P-256) or RSA (2048 to 8192 bits) key, or not for
    /// verifying signatures of the one algorithm that such keys are for here.
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

    /// Returns whether a token says that it is signed in this key's way.
    pub fn is_of_kind(&self, token: &Token<'_>) -> bool {
        token.header.alg == self.algorithm
    }

    /// Returns the claims of a token. `None`: it is not signed with this key.
    pub fn open<'a>(&self, token: &'a Token<'_>) -> Option<&'a [u8]> {
        let is_signed =
            || jsonwebtoken::crypto::verify(token.signature, token.message.as_bytes(), &self.key, self.algorithm);
        (self.is_of_kind(token) && is_signed().is_ok_and(|yes| yes)).then_some(&token.payload)
    }

    fn of_pem(pem: &[u8]) -> Option<Self> {
        let ec = DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
        let key = ec.or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)));
        key.ok().and_then(|(key, algorithm)| Self::usable(key, algorithm))
    }

    /// Returns the key if it can verify. Something that looks like a key may be none.
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

    /// Returns the parts of the key.
    fn bytes(&self) -> (&[u8], &[u8]) {
        match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => (bytes, &[]),
            DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
        }
    }
}

/// The purpose of RSA keys here.
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
