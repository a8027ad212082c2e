//! The tokens by which the control API recognizes its callers.

use super::scope::{NeededScope, Scope};
use crate::grip::signature::{self, ClaimsError, ProxyVerifier};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use serde::Deserialize;
use std::fmt;

/// A configured token: its name, the proof that a caller must send, and the scopes that it grants.
#[derive(Clone)]
pub struct ControlToken {
    name: String,
    proof: TokenProof,
    scopes: Vec<Scope>,
}

/// The proof that a caller must send.
#[derive(Clone)]
enum TokenProof {
    /// A JWT (RFC 7519) of this issuer, signed with the key of the verifier.
    Signed { issuer: String, verifier: Box<ProxyVerifier> },
    /// A secret, of which the SHA-256 hash is kept. Hashes are compared in constant time, so that the time of a
    /// comparison reveals neither the secret nor its length.
    Secret(Digest),
}

/// The claims of a JWT that decide whether it is valid.
#[derive(Deserialize)]
struct ValidityClaims {
    exp: Option<serde_json::Value>,
    nbf: Option<f64>,
    aud: Option<serde_json::Value>,
}

/// The claim with the subject of a JWT. It is parsed separately from the other claims, because a JWT without a valid
/// subject is valid nevertheless.
#[derive(Deserialize)]
struct SubjectClaim {
    sub: Option<String>,
}

/// The claim with the issuer of a JWT. It is read before the signature is verified, to find the right key.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: Option<String>,
}

/// The reason why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownCaller {
    /// The token is neither a configured secret nor a JWT.
    Key,
    /// The JWT names no issuer.
    NoIssuer,
    /// The issuer of the JWT is not configured.
    Issuer,
    /// The JWT is not signed with a key of its issuer.
    Signature,
    /// The JWT has no valid claim `exp`, which says when it expires.
    NoExpiry,
    /// The JWT has expired.
    Expired,
    /// The JWT is not valid yet, by its claim `nbf`.
    Early,
    /// The JWT is meant for another audience: it has a claim `aud`.
    Audience,
}

impl ControlToken {
    /// Returns a token that accepts JWTs of `issuer`, verified by `verifier`.
    pub fn signed(name: &str, issuer: &str, verifier: ProxyVerifier, scopes: Vec<Scope>) -> Self {
        Self {
            name: name.to_owned(),
            proof: TokenProof::Signed { issuer: issuer.to_owned(), verifier: Box::new(verifier) },
            scopes,
        }
    }

    /// Returns a token that accepts the text `secret` itself.
    pub fn secret(name: &str, secret: &str, scopes: Vec<Scope>) -> Self {
        Self { name: name.to_owned(), proof: TokenProof::Secret(digest(&SHA256, secret.as_bytes())), scopes }
    }

    /// Returns the name of the token in logs and refusals.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a scope of the token covers a need.
    pub(super) fn may(&self, need: NeededScope<'_>) -> bool {
        self.scopes.iter().any(|scope| scope.covers(need))
    }

    /// Returns the scopes of the token as they are configured.
    pub(super) fn scopes(&self) -> String {
        self.scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(", ")
    }

    fn is_secret(&self, shown: &Digest) -> bool {
        matches!(&self.proof, TokenProof::Secret(own) if verify_slices_are_equal(own.as_ref(), shown.as_ref()).is_ok())
    }

    /// Returns the verifier of the token if it accepts JWTs of this issuer.
    fn verifier_of(&self, issuer: &str) -> Option<&ProxyVerifier> {
        match &self.proof {
            TokenProof::Signed { issuer: own, verifier } if own == issuer => Some(verifier),
            _ => None,
        }
    }
}

/// The identity of a caller that has sent a valid token.
#[derive(Clone, Debug)]
pub(super) struct CallerIdentity<'a> {
    /// The configured token that the caller has proved to have.
    pub(super) token: &'a ControlToken,
    /// The subject (`sub`) of the JWT that was sent, if it is a text.
    pub(super) subject: Option<String>,
}

/// Returns the identity of a caller that has sent `shown` at `now`, in seconds since 1970. `shown` is a configured
/// secret, or a JWT. If several tokens have the issuer of the JWT, the first whose key verifies it is chosen.
///
/// # Errors
/// The token is not valid. The error says why.
pub(super) fn identify<'a>(
    tokens: &'a [ControlToken],
    shown: &[u8],
    now: u64,
) -> Result<CallerIdentity<'a>, UnknownCaller> {
    let hash = digest(&SHA256, shown);
    if let Some(token) = tokens.iter().find(|token| token.is_secret(&hash)) {
        return Ok(CallerIdentity { token, subject: None });
    }
    let jwt = std::str::from_utf8(shown).map_err(|_| UnknownCaller::Key)?;
    let IssuerClaim { iss } = signature::unverified_claims(jwt).ok_or(UnknownCaller::Key)?;
    let issuer = iss.ok_or(UnknownCaller::NoIssuer)?;
    let mut refusal = UnknownCaller::Issuer;
    for token in tokens {
        let Some(verifier) = token.verifier_of(&issuer) else { continue };
        match verifier.claims(jwt) {
            Ok(claims) => {
                timely(&claims, now)?;
                let named: Option<SubjectClaim> = signature::unverified_claims(jwt);
                return Ok(CallerIdentity { token, subject: named.and_then(|named| named.sub) });
            }
            Err(ClaimsError::Signature) => refusal = UnknownCaller::Signature,
            Err(ClaimsError::Malformed) => return Err(UnknownCaller::Key),
        }
    }
    Err(refusal)
}

/// Checks that a JWT is valid at `now`, in seconds since 1970, and is not meant for another audience.
///
/// # Errors
/// The JWT has expired or never expires, is not valid yet, or names an audience.
fn timely(claims: &ValidityClaims, now: u64) -> Result<(), UnknownCaller> {
    // Times may have a fraction (RFC 7519 2), so they are compared as floats. A float is exact for all seconds of the
    // next millions of years.
    #[allow(clippy::cast_precision_loss, reason = "said above")]
    let now = now as f64;
    let until = claims.exp.as_ref().and_then(serde_json::Value::as_f64).ok_or(UnknownCaller::NoExpiry)?;
    match claims {
        _ if until <= now => Err(UnknownCaller::Expired),
        ValidityClaims { nbf: Some(from), .. } if *from > now => Err(UnknownCaller::Early),
        ValidityClaims { aud: Some(_), .. } => Err(UnknownCaller::Audience),
        _ => Ok(()),
    }
}

impl fmt::Debug for ControlToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlToken").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl fmt::Display for UnknownCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "unknown token: it is neither a configured secret nor a JWT",
            Self::NoIssuer => "the token has no claim 'iss'",
            Self::Issuer => "unknown issuer",
            Self::Signature => "wrong signature",
            Self::NoExpiry => "the token has no claim 'exp', or it is not a number of seconds since 1970",
            Self::Expired => "the token is expired",
            Self::Early => "the token is not valid yet",
            Self::Audience => "the token is for another audience (claim 'aud')",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grip::signature::{Key, Signer};
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: u64 = 1_700_000_000;

    fn verifier(key: &str) -> ProxyVerifier {
        ProxyVerifier::new(&Key::parse(key, |_| Err("no files".into())).unwrap()).unwrap().unwrap()
    }

    fn tokens() -> Vec<ControlToken> {
        vec![
            ControlToken::signed("old", "realm", verifier("first"), vec![Scope::Inspect]),
            ControlToken::secret("static", "s3cret", vec![Scope::Admin]),
            ControlToken::signed("new", "realm", verifier("second"), vec![Scope::Inspect]),
            ControlToken::signed("other", "elsewhere", verifier("first"), vec![Scope::Inspect]),
        ]
    }

    fn name(shown: &str) -> Result<String, UnknownCaller> {
        identify(&tokens(), shown.as_bytes(), NOW).map(|identity| identity.token.name().to_owned())
    }

    fn signed(key: &str, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
    }

    #[test]
    fn the_issuer_and_the_key_choose_the_token() {
        let libraries = |issuer: &str, key: &str| {
            let key = Key::parse(key, |_| Err("no files".into())).unwrap();
            name(&Signer::new(issuer, &key).unwrap().unwrap().sign(NOW).unwrap())
        };
        assert_eq!(libraries("realm", "first"), Ok("old".into()));
        assert_eq!(libraries("realm", "second"), Ok("new".into()));
        assert_eq!(libraries("elsewhere", "first"), Ok("other".into()));
        assert_eq!(libraries("elsewhere", "second"), Err(UnknownCaller::Signature));
        assert_eq!(libraries("nobody", "first"), Err(UnknownCaller::Issuer));
    }

    #[test]
    fn a_secret_is_a_token_and_nothing_like_it_is() {
        assert_eq!(name("s3cret"), Ok("static".into()));
        for wrong in ["", "s3cre", "s3cret ", "S3CRET", "a.b.c", "first", "\u{e9}"] {
            assert_eq!(name(wrong), Err(UnknownCaller::Key), "{wrong}");
        }
        assert!(matches!(identify(&tokens(), b"\xff", NOW), Err(UnknownCaller::Key)));
    }

    #[test]
    fn a_jwt_is_for_now_and_for_us() {
        let claiming = |claims: Value| name(&signed("first", &claims));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 1})), Ok("old".into()));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW as f64 + 0.5, "nbf": NOW, "x": 1})), Ok("old".into()));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW})), Err(UnknownCaller::Expired));
        assert_eq!(claiming(json!({"iss": "realm"})), Err(UnknownCaller::NoExpiry));
        assert_eq!(claiming(json!({"iss": "realm", "exp": "9999999999"})), Err(UnknownCaller::NoExpiry));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 9, "nbf": NOW + 1})), Err(UnknownCaller::Early));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 9, "aud": "other"})), Err(UnknownCaller::Audience));
        assert_eq!(claiming(json!({"exp": NOW + 1})), Err(UnknownCaller::NoIssuer));
        assert_eq!(claiming(json!({"iss": 1, "exp": NOW + 1})), Err(UnknownCaller::Key));
        // The signature is checked first, so a JWT with a wrong signature is not told that its claims are wrong as
        // well.
        assert_eq!(name(&signed("third", &json!({"iss": "realm"}))), Err(UnknownCaller::Signature));
    }

    #[test]
    fn a_token_without_a_signature_is_none() {
        // The first header is `{"alg":"none"}`, the second names HS256. The claims are those of a valid JWT.
        let claims = signed("first", &json!({"iss": "realm", "exp": NOW + 1}));
        let claims = claims.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"] {
            assert!(name(&format!("{header}.{claims}.")).is_err(), "{header}");
            assert!(name(&format!("{header}.{claims}")).is_err(), "{header}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", tokens()).contains("s3cret"));
    }

    proptest! {
        #[test]
        fn whoever_has_no_key_is_unknown(shown in prop::collection::vec(any::<u8>(), 0..60), at in any::<u64>()) {
            prop_assert!(identify(&tokens(), &shown, at).is_err());
        }

        #[test]
        fn a_changed_jwt_is_unknown(at in any::<prop::sample::Index>(), other in "[A-Za-z0-9_-]") {
            let token = signed("first", &json!({"iss": "realm", "exp": NOW + 1}));
            let mut changed = token.clone();
            let at = at.index(changed.len());
            changed.replace_range(at..=at, &other);
            // The last character is spared: some of its bits have no meaning, and changing them may leave the decoded
            // signature as it was.
            prop_assume!(changed != token && at + 1 < token.len());
            prop_assert!(name(&changed).is_err(), "{}", changed);
        }
    }
}
