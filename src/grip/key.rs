//! Keys, as they are configured.

use std::fmt;

/// A key as it is configured: a secret (HS256), or a PEM with an EC (ES256) or RSA (RS256) key.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// Bytes that both sides know.
    Secret(Vec<u8>),
    /// The text of a PEM file.
    Pem(String),
}

impl Key {
    /// Reads a key: plain text, `base64:` and its base64, or `file:` and a path, which `read` is asked for. A file
    /// holds a PEM, or a secret in hexadecimal digits.
    ///
    /// # Errors
    /// What is wrong with the key, without the key.
    pub fn parse(text: &str, read: impl FnOnce(&str) -> Result<String, String>) -> Result<Self, InvalidKey> {
        if let Some(encoded) = text.strip_prefix("base64:") {
            use base64::Engine;
            let secret = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
            return secret.map(Self::Secret).map_err(|_| InvalidKey::new("what follows 'base64:' is not base64"));
        }
        let Some(path) = text.strip_prefix("file:") else {
            // As a secret, a public key would let everybody sign who knows it.
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

/// Why a key cannot be used. It never holds the key.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidKey(String);

impl InvalidKey {
    /// Returns a reason, which must not tell the key.
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
