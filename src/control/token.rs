//! Tokens: by what those who may use the control API are known.

use super::scope::{Need, Scope};
use crate::grip::signature::{self, Unfit, Verifier};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use serde::Deserialize;
use std::fmt;

/// Somebody who may use the control API, and for what.
#[derive(Clone)]
pub struct Token {
    name: String,
    proof: Proof,
    scopes: Vec<Scope>,
}

/// By what somebody is known.
#[derive(Clone)]
enum Proof {
    /// By a JWT (RFC 7519) of this issuer that is signed with this key.
    Signed { issuer: String, verifier: Box<Verifier> },
    /// By a secret. Of two hashes it does not matter how long it takes to tell them apart, nor how long the secrets are.
    Secret(Digest),
}

/// The claims of a JWT that decide whether it is valid.
#[derive(Deserialize)]
struct Claims {
    exp: Option<serde_json::Value>,
    nbf: Option<f64>,
    aud: Option<serde_json::Value>,
}

/// The subject of a JWT. It is read by itself: a JWT without a proper one is as good as any other.
#[derive(Deserialize)]
struct Named {
    sub: Option<String>,
}

/// The issuer of a JWT, as the JWT itself says.
#[derive(Deserialize)]
struct Issued {
    iss: Option<String>,
}

/// Why nobody is known by what was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It is no secret that is configured, and no JWT.
    Key,
    /// A JWT that names no issuer.
    NoIssuer,
    /// A JWT of an issuer that is not configured.
    Issuer,
    /// A JWT that is not signed with the issuer's key.
    Signature,
    /// A JWT that does not say until when it is valid.
    NoExpiry,
    /// A JWT that was valid once.
    Expired,
    /// A JWT that is not valid yet.
    Early,
    /// A JWT for somebody else.
    Audience,
}

impl Token {
    /// Returns a token for those who show a JWT of `issuer`, which `verifier` can verify.
    pub fn signed(name: &str, issuer: &str, verifier: Verifier, scopes: Vec<Scope>) -> Self {
        Self {
            name: name.to_owned(),
            proof: Proof::Signed { issuer: issuer.to_owned(), verifier: Box::new(verifier) },
            scopes,
        }
    }

    /// Returns a token for those who show `secret` itself.
    pub fn secret(name: &str, secret: &str, scopes: Vec<Scope>) -> Self {
        Self { name: name.to_owned(), proof: Proof::Secret(digest(&SHA256, secret.as_bytes())), scopes }
    }

    /// Returns the name of the token in logs and refusals.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether it may do this.
    pub(super) fn may(&self, need: Need<'_>) -> bool {
        self.scopes.iter().any(|scope| scope.covers(need))
    }

    /// Returns the scopes of the token as they are configured.
    pub(super) fn scopes(&self) -> String {
        self.scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(", ")
    }

    fn is_secret(&self, shown: &Digest) -> bool {
        matches!(&self.proof, Proof::Secret(own) if verify_slices_are_equal(own.as_ref(), shown.as_ref()).is_ok())
    }

    /// Returns the verifier of JWTs of this issuer, if the token is shown as such a JWT.
    fn verifier_of(&self, issuer: &str) -> Option<&Verifier> {
        match &self.proof {
            Proof::Signed { issuer: own, verifier } if own == issuer => Some(verifier),
            _ => None,
        }
    }
}

/// The one who has shown a token.
#[derive(Clone, Debug)]
pub(super) struct Identity<'a> {
    /// The configured token by which the one is known.
    pub(super) token: &'a Token,
    /// The subject of the JWT that was shown, if it names one as text.
    pub(super) subject: Option<String>,
}

/// Returns the one who has shown `shown` at `now`, in seconds since 1970: a secret, else a JWT. Of the tokens of its issuer
/// it is the first with whose key the JWT is signed.
pub(super) fn identify<'a>(tokens: &'a [Token], shown: &[u8], now: u64) -> Result<Identity<'a>, Unknown> {
    let hash = digest(&SHA256, shown);
    if let Some(token) = tokens.iter().find(|token| token.is_secret(&hash)) {
        return Ok(Identity { token, subject: None });
    }
    let jwt = std::str::from_utf8(shown).map_err(|_| Unknown::Key)?;
    let Issued { iss } = signature::unverified_claims(jwt).ok_or(Unknown::Key)?;
    let issuer = iss.ok_or(Unknown::NoIssuer)?;
    let mut refusal = Unknown::Issuer;
    for token in tokens {
        let Some(verifier) = token.verifier_of(&issuer) else { continue };
        match verifier.claims(jwt) {
            Ok(claims) => {
                timely(&claims, now)?;
                let named: Option<Named> = signature::unverified_claims(jwt);
                return Ok(Identity { token, subject: named.and_then(|named| named.sub) });
            }
            Err(Unfit::Signature) => refusal = Unknown::Signature,
            Err(Unfit::Malformed) => return Err(Unknown::Key),
        }
    }
    Err(refusal)
}

/// Returns whether a JWT is for now, and for whoever is asked.
fn timely(claims: &Claims, now: u64) -> Result<(), Unknown> {
    // A time may have a fraction (RFC 7519, section 2), and for ages to come a float has room for all of it.
    #[allow(clippy::cast_precision_loss, reason = "said above")]
    let now = now as f64;
    let until = claims.exp.as_ref().and_then(serde_json::Value::as_f64).ok_or(Unknown::NoExpiry)?;
    match claims {
        _ if until <= now => Err(Unknown::Expired),
        Claims { nbf: Some(from), .. } if *from > now => Err(Unknown::Early),
        Claims { aud: Some(_), .. } => Err(Unknown::Audience),
        _ => Ok(()),
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl fmt::Display for Unknown {
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

    fn verifier(key: &str) -> Verifier {
        Verifier::new(&Key::parse(key, |_| Err("no files".into())).unwrap()).unwrap().unwrap()
    }

    fn tokens() -> Vec<Token> {
        vec![
            Token::signed("old", "realm", verifier("first"), vec![Scope::Inspect]),
            Token::secret("static", "s3cret", vec![Scope::Admin]),
            Token::signed("new", "realm", verifier("second"), vec![Scope::Inspect]),
            Token::signed("other", "elsewhere", verifier("first"), vec![Scope::Inspect]),
        ]
    }

    fn name(shown: &str) -> Result<String, Unknown> {
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
        assert_eq!(libraries("elsewhere", "second"), Err(Unknown::Signature));
        assert_eq!(libraries("nobody", "first"), Err(Unknown::Issuer));
    }

    #[test]
    fn a_secret_is_a_token_and_nothing_like_it_is() {
        assert_eq!(name("s3cret"), Ok("static".into()));
        for wrong in ["", "s3cre", "s3cret ", "S3CRET", "a.b.c", "first", "\u{e9}"] {
            assert_eq!(name(wrong), Err(Unknown::Key), "{wrong}");
        }
        assert!(matches!(identify(&tokens(), b"\xff", NOW), Err(Unknown::Key)));
    }

    #[test]
    fn a_jwt_is_for_now_and_for_us() {
        let claiming = |claims: Value| name(&signed("first", &claims));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 1})), Ok("old".into()));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW as f64 + 0.5, "nbf": NOW, "x": 1})), Ok("old".into()));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW})), Err(Unknown::Expired));
        assert_eq!(claiming(json!({"iss": "realm"})), Err(Unknown::NoExpiry));
        assert_eq!(claiming(json!({"iss": "realm", "exp": "9999999999"})), Err(Unknown::NoExpiry));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 9, "nbf": NOW + 1})), Err(Unknown::Early));
        assert_eq!(claiming(json!({"iss": "realm", "exp": NOW + 9, "aud": "other"})), Err(Unknown::Audience));
        assert_eq!(claiming(json!({"exp": NOW + 1})), Err(Unknown::NoIssuer));
        assert_eq!(claiming(json!({"iss": 1, "exp": NOW + 1})), Err(Unknown::Key));
        // A JWT with a wrong signature is not told that its claims are wrong as well.
        assert_eq!(name(&signed("third", &json!({"iss": "realm"}))), Err(Unknown::Signature));
    }

    #[test]
    fn a_token_without_a_signature_is_none() {
        // {"alg":"none"} and what the claims above are.
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
            // The last letter has two bits that mean nothing, and may not be decoded at all.
            prop_assume!(changed != token && at + 1 < token.len());
            prop_assert!(name(&changed).is_err(), "{}", changed);
        }
    }
}
