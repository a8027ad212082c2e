//! Keys for signing and verifying tokens, as they are written in the configuration.

use std::fmt;

/// A configured key: a secret (HS256), or a PEM text with an EC key (ES256) or an RSA key (RS256).
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// A secret, which both the signer and the verifier know.
    Secret(Vec<u8>),
    /// The text of a PEM file.
    Pem(String),
}

impl Key {
    /// Parses a configured key. `text` is the secret or PEM text itself, `base64:` followed by a secret in Base64, or
    /// `file:` followed by a path. `read` returns the text of the file at that path, which is a PEM text or a secret
    /// in hexadecimal digits.
    ///
    /// # Errors
    /// The Base64 is invalid, the file holds neither a PEM text nor hexadecimal digits, or `read` fails. The error
    /// does not contain the key.
    pub fn parse(text: &str, read: impl FnOnce(&str) -> Result<String, String>) -> Result<Self, InvalidKey> {
        if let Some(encoded) = text.strip_prefix("base64:") {
            use base64::Engine;
            let secret = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
            return secret.map(Self::Secret).map_err(|_| InvalidKey::new("what follows 'base64:' is not base64"));
        }
        let Some(path) = text.strip_prefix("file:") else {
            // A PEM text must not become a secret: everybody who knows a public key could then sign tokens with it.
            let is_pem = text.trim_start().starts_with("-----BEGIN");
            return Ok(if is_pem { Self::Pem(text.to_owned()) } else { Self::Secret(text.as_bytes().to_vec()) });
        };
        let content = read(path).map_err(|error| InvalidKey(format!("{path}: {error}")))?;
        if content.trim_start().starts_with("-----BEGIN") {
            return Ok(Self::Pem(content));
        }
        unhex(content.trim())
            .map(Self::Secret)
            .ok_or_else(|| InvalidKey(format!("{path} holds neither a PEM key nor a secret in hexadecimal digits")))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Secret(secret) if secret.is_empty())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Secret(_)) { "a secret" } else { "a PEM key" })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|d| !d.is_empty() && d.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The reason why a key cannot be used. It never contains the key.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidKey(String);

impl InvalidKey {
    /// Returns an error with this reason, which must not contain the key.
    pub fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidKey {}
