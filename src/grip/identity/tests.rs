use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

const EC: &str = include_str!("../../../tests/keys/ec.pem");
const EC_PUBLIC: &str = include_str!("../../../tests/keys/ec.public.pem");
const RSA: &str = include_str!("../../../tests/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/keys/rsa.public.pem");

const NOW: u64 = 1000;

/// The key and the algorithm with which a token is signed.
type Signing = (EncodingKey, Algorithm);

fn hs(secret: &str) -> Signing {
    (EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)
}

fn es() -> Signing {
    (EncodingKey::from_ec_pem(EC.as_bytes()).unwrap(), Algorithm::ES256)
}

fn rs() -> Signing {
    (EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), Algorithm::RS256)
}

fn sign(by: &Signing, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(by.1) };
    encode(&header, claims, &by.0).unwrap()
}

fn secret(text: &str) -> Key {
    Key::Secret(text.as_bytes().to_vec())
}

fn tokens(key: &Key) -> TokenChecker {
    TokenChecker::of_key(key, ExpectedClaims::default()).unwrap()
}

fn good() -> Value {
    json!({"sub": "ann", "exp": NOW + 1})
}

/// Verifies a token with these claims, whose signature is valid.
fn judge(expected: &ExpectedClaims, claims: &Value) -> Result<Identity, TokenError> {
    let tokens = TokenChecker::of_key(&secret("s"), expected.clone()).unwrap();
    tokens.verify(&sign(&hs("s"), None, claims), NOW)
}

fn refused(claims: Value) -> TokenError {
    judge(&ExpectedClaims::default(), &claims).unwrap_err()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Returns a public key as a JWK, with the members of `more` added.
fn jwk(pem: &str, more: Value) -> Value {
    let key = DecodingKey::from_ec_pem(pem.as_bytes()).or_else(|_| DecodingKey::from_rsa_pem(pem.as_bytes())).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None).unwrap()).unwrap();
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn oct(secret: &str, more: Value) -> Value {
    let mut jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)});
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn jwks(keys: &[Value]) -> Result<TokenChecker, InvalidKey> {
    TokenChecker::of_jwks(&json!({ "keys": keys }).to_string(), ExpectedClaims::default())
}

#[test]
fn a_token_says_who_a_client_is() {
    let signed =
        [(secret("s"), hs("s")), (Key::Pem(EC_PUBLIC.to_owned()), es()), (Key::Pem(RSA_PUBLIC.to_owned()), rs())];
    let ann = Identity { user: "ann".into(), channels: None, expires: NOW + 1 };
    for (at, (key, _)) in signed.iter().enumerate() {
        for (by, (_, signing)) in signed.iter().enumerate() {
            // A verifier with a single key ignores the key id of a token.
            for kid in [None, Some("k")] {
                let told = tokens(key).verify(&sign(signing, kid, &good()), NOW);
                assert_eq!(told, if at == by { Ok(ann.clone()) } else { Err(TokenError::Algorithm) });
            }
        }
    }
    assert_eq!(tokens(&secret("t")).verify(&sign(&hs("s"), None, &good()), NOW), Err(TokenError::Signature));
}

#[test]
fn what_was_changed_is_not_believed() {
    for (key, by) in [(secret("s"), hs("s")), (Key::Pem(EC_PUBLIC.to_owned()), es())] {
        let token = sign(&by, None, &good());
        let [header, claims, signature] = *token.split('.').collect::<Vec<_>>() else { panic!("three parts") };
        let other = part(&json!({"sub": "bob", "exp": NOW + 1}));
        let tokens = tokens(&key);
        let verify = |token: &str| tokens.verify(token, NOW).unwrap_err();
        assert_eq!(verify(&format!("{header}.{other}.{signature}")), TokenError::Signature);
        let other = part(&json!({"alg": by.1, "typ": "x"}));
        assert_eq!(verify(&format!("{other}.{claims}.{signature}")), TokenError::Signature);
        assert_eq!(verify(&format!("{header}.{claims}.{}", &signature[4..])), TokenError::Signature);
        assert_eq!(verify(&format!("{header}.{claims}.")), TokenError::Signature);
        for text in ["", ".", "..", "a.b.c", header, &token[..header.len() + 1 + claims.len()], "é.é.é", "\0.\0.\0"]
        {
            assert_eq!(verify(text), TokenError::Malformed, "{text}");
        }
        assert_eq!(verify(&format!(" {token}")), TokenError::Malformed);
        assert_eq!(verify(&format!("{token}.{signature}")), TokenError::Malformed);
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let tokens = tokens(&Key::Pem(RSA_PUBLIC.to_owned()));
    // Everybody knows the public key, so a token that was signed with it as a secret must be refused.
    assert_eq!(tokens.verify(&sign(&hs(RSA_PUBLIC), None, &good()), NOW), Err(TokenError::Algorithm));
    let other = (EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), Algorithm::RS512);
    assert_eq!(tokens.verify(&sign(&other, None, &good()), NOW), Err(TokenError::Algorithm));
    let header = |header: Value| format!("{}.{}.", part(&header), part(&good()));
    for alg in ["none", "None", "", "HS255"] {
        assert_eq!(tokens.verify(&header(json!({ "alg": alg })), NOW), Err(TokenError::Malformed));
    }
    assert_eq!(tokens.verify(&header(json!({})), NOW), Err(TokenError::Malformed));
}

#[test]
fn what_must_be_understood_is_not() {
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::default() };
    let token = encode(&header, &good(), &hs("s").0).unwrap();
    assert_eq!(tokens(&secret("s")).verify(&token, NOW), Err(TokenError::Malformed));
}

#[test]
fn tokens_are_valid_to_the_second() {
    let valid = |times: Value| {
        let mut claims = good();
        claims.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        judge(&ExpectedClaims::default(), &claims).map(|identity| identity.expires)
    };
    assert_eq!(valid(json!({})), Ok(NOW + 1));
    assert_eq!(valid(json!({"exp": NOW})), Err(TokenError::Expired));
    assert_eq!(valid(json!({"exp": NOW as f64 + 0.9})), Err(TokenError::Expired));
    assert_eq!(valid(json!({"exp": NOW as f64 + 1.9})), Ok(NOW + 1));
    assert_eq!(valid(json!({"exp": -1})), Err(TokenError::Expired));
    assert_eq!(valid(json!({"exp": 1e300})), Ok(u64::MAX));
    for exp in [json!("1001"), json!(null), json!([1001]), json!({})] {
        assert_eq!(valid(json!({ "exp": exp })), Err(TokenError::NoExpiry));
    }
    assert_eq!(refused(json!({"sub": "ann"})), TokenError::NoExpiry);
    assert_eq!(valid(json!({"nbf": NOW})), Ok(NOW + 1));
    assert_eq!(valid(json!({"nbf": -5.5})), Ok(NOW + 1));
    assert_eq!(valid(json!({"nbf": NOW + 1})), Err(TokenError::TooEarly));
    assert_eq!(valid(json!({"nbf": NOW as f64 + 0.1})), Err(TokenError::TooEarly));
    assert_eq!(valid(json!({"nbf": "1000"})), Err(TokenError::NotBefore));
}

#[test]
fn issuer_and_audience_count_if_they_are_expected() {
    let expected = ExpectedClaims { issuer: Some("i".into()), audience: Some("a".into()), ..ExpectedClaims::default() };
    let told = |iss: Value, aud: Value| {
        let claims = json!({"sub": "ann", "exp": NOW + 1, "iss": iss, "aud": aud});
        assert!(judge(&ExpectedClaims::default(), &claims).is_ok());
        judge(&expected, &claims).map(|_| ())
    };
    assert_eq!(told(json!("i"), json!("a")), Ok(()));
    assert_eq!(told(json!("i"), json!(["b", "a"])), Ok(()));
    for iss in [json!("I"), json!(null), json!(["i"]), json!(1)] {
        assert_eq!(told(iss, json!("a")), Err(TokenError::Issuer));
    }
    for aud in [json!("b"), json!([]), json!(["b", 1]), json!([["a"]]), json!(null), json!({"a": "a"})] {
        assert_eq!(told(json!("i"), aud), Err(TokenError::Audience));
    }
    assert_eq!(judge(&expected, &good()), Err(TokenError::Issuer));
}

#[test]
fn a_user_is_a_text_or_a_whole_number() {
    let expected = ExpectedClaims { claim: "uid".into(), ..ExpectedClaims::default() };
    let user = |uid: Value| judge(&expected, &json!({"uid": uid, "exp": NOW + 1})).map(|identity| identity.user);
    assert_eq!(user(json!("{user}*")).as_deref(), Ok("{user}*"));
    assert_eq!(user(json!(456)).as_deref(), Ok("456"));
    assert_eq!(user(json!(-1)).as_deref(), Ok("-1"));
    assert_eq!(user(json!(u64::MAX)).as_deref(), Ok("18446744073709551615"));
    for uid in [json!(1.5), json!(1.0), json!(1e30), json!(null), json!(true), json!(["ann"]), json!({"a": 1})] {
        assert_eq!(user(uid), Err(TokenError::UserType));
    }
    for uid in ["", "a\nb", "a\0", "\u{85}", &"é".repeat(128)] {
        assert_eq!(user(json!(uid)), Err(TokenError::User));
    }
    assert_eq!(judge(&expected, &good()), Err(TokenError::NoUser));
    // A user id that the JSON parser cannot represent exactly must not be taken for another user.
    let token = format!(
        "{}.{}",
        part(&json!({"alg": "HS256"})),
        URL_SAFE_NO_PAD.encode(r#"{"uid":18446744073709551616,"exp":1001}"#)
    );
    let signature = jsonwebtoken::crypto::sign(token.as_bytes(), &hs("s").0, Algorithm::HS256).unwrap();
    let tokens = TokenChecker::of_key(&secret("s"), expected).unwrap();
    assert_eq!(tokens.verify(&format!("{token}.{signature}"), NOW), Err(TokenError::UserType));
}

#[test]
fn users_have_a_length() {
    assert!(is_user("a") && is_user(&"a".repeat(255)) && is_user("a b") && is_user("é"));
    assert!(!is_user("") && !is_user(&"a".repeat(256)) && !is_user("\t") && !is_user("\u{7f}"));
}

#[test]
fn a_token_may_name_what_its_client_may_hold() {
    let channels =
        |value: Value| judge(&ExpectedClaims::default(), &json!({"sub": "a", "exp": NOW + 1, "channels": value}));
    let patterns = |identity: Result<Identity, TokenError>| {
        identity.unwrap().channels.map(|globs| globs.iter().map(Glob::to_string).collect::<Vec<_>>())
    };
    assert_eq!(patterns(channels(json!(["conversation*", "news"]))).unwrap(), ["conversation*", "news"]);
    assert_eq!(patterns(channels(json!([]))).unwrap(), [""; 0]);
    assert_eq!(patterns(judge(&ExpectedClaims::default(), &good())), None);
    for value in [json!("news"), json!(null), json!(["news", 1]), json!({}), json!(true)] {
        assert_eq!(channels(value), Err(TokenError::Channels));
    }
}

#[test]
fn claims_that_are_no_object_are_nothing() {
    for claims in [json!([1, 2]), json!("a"), json!(null)] {
        assert_eq!(refused(claims), TokenError::Malformed);
    }
}

#[test]
fn a_jwks_has_keys_by_their_ids() {
    let set = jwks(&[
        oct("one", json!({"kid": "1"})),
        oct("two", json!({"kid": "2", "use": "sig", "alg": "HS256"})),
        oct("three", json!({})),
        jwk(EC_PUBLIC, json!({"kid": "ec", "key_ops": ["verify"]})),
        jwk(RSA_PUBLIC, json!({"use": "sig"})),
    ]);
    let set = set.unwrap();
    let told = |by: &Signing, kid: Option<&str>| set.verify(&sign(by, kid, &good()), NOW).map(|_| ());
    for (by, kid) in [(hs("one"), "1"), (hs("two"), "2"), (es(), "ec")] {
        assert_eq!(told(&by, Some(kid)), Ok(()), "{kid}");
    }
    for by in [hs("one"), hs("two"), hs("three"), es(), rs()] {
        assert_eq!(told(&by, None), Ok(()));
        assert_eq!(told(&by, Some("other")), Err(TokenError::UnknownKey));
    }
    assert_eq!(told(&hs("two"), Some("1")), Err(TokenError::Signature));
    assert_eq!(told(&hs("four"), None), Err(TokenError::Signature));
    assert_eq!(told(&es(), Some("1")), Err(TokenError::Algorithm));
    assert_eq!(told(&hs(EC_PUBLIC), Some("ec")), Err(TokenError::Algorithm));
    // A key does not verify a token that names another algorithm, even if the signature was made with that key.
    let message = format!("{}.{}", part(&json!({"alg": "RS256"})), part(&good()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &hs("one").0, Algorithm::HS256).unwrap();
    assert_eq!(set.verify(&format!("{message}.{signature}"), NOW), Err(TokenError::Signature));
}

#[test]
fn keys_that_cannot_be_used_are_skipped() {
    let useless = [
        oct("s", json!({"use": "enc"})),
        oct("s", json!({"alg": "HS512"})),
        oct("s", json!({"key_ops": ["sign"]})),
        oct("s", json!({"k": "***"})),
        oct("", json!({})),
        jwk(EC_PUBLIC, json!({"crv": "P-384"})),
        jwk(EC_PUBLIC, json!({"crv": "secp256k1"})),
        jwk(EC_PUBLIC, json!({"x": "AAAA"})),
        jwk(RSA_PUBLIC, json!({"alg": "PS256"})),
        jwk(RSA_PUBLIC, json!({"alg": "RSA-OAEP"})),
        jwk(RSA_PUBLIC, json!({"n": "AQAB"})),
        json!({"kty": "RSA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!({"kty": "new", "k": "cw"}),
        json!({"kty": "oct", "k": "cw", "kid": 1}),
        json!("cw"),
    ];
    for key in &useless {
        assert!(jwks(std::slice::from_ref(key)).is_err(), "{key}");
    }
    let set = jwks(&[&useless[..], &[oct("good", json!({}))]].concat()).unwrap();
    assert!(set.verify(&sign(&hs("good"), None, &good()), NOW).is_ok());
    assert_eq!(set.verify(&sign(&hs("s"), None, &good()), NOW), Err(TokenError::Signature));
    for text in ["", "{}", "[]", "{\"keys\":1}", "{\"keys\":[]}", "-----BEGIN PUBLIC KEY-----"] {
        assert!(TokenChecker::of_jwks(text, ExpectedClaims::default()).is_err(), "{text}");
    }
}

#[test]
fn a_key_that_knows_nobody_or_everybody_is_an_error() {
    let useless = [secret(""), secret(RSA_PUBLIC), secret("\n-----BEGIN"), Key::Pem(RSA.into()), Key::Pem(EC.into())];
    for key in useless {
        assert!(TokenChecker::of_key(&key, ExpectedClaims::default()).is_err(), "{key:?}");
    }
}

#[test]
fn tokens_of_the_same_keys_and_terms_are_the_same() {
    let expected = ExpectedClaims { claim: "uid".into(), ..ExpectedClaims::default() };
    assert_eq!(tokens(&secret("s")), tokens(&secret("s")));
    assert_ne!(tokens(&secret("s")), tokens(&secret("t")));
    assert_ne!(tokens(&secret("s")), TokenChecker::of_key(&secret("s"), expected).unwrap());
    let (ec, rsa) = (jwk(EC_PUBLIC, json!({})), jwk(RSA_PUBLIC, json!({})));
    assert_eq!(jwks(&[ec.clone(), rsa.clone()]), jwks(&[ec.clone(), rsa.clone()]));
    assert_ne!(jwks(&[ec.clone(), rsa]), jwks(std::slice::from_ref(&ec)));
    assert_ne!(jwks(&[ec]), jwks(&[jwk(EC_PUBLIC, json!({"kid": "1"}))]));
}

#[test]
fn no_key_is_printed() {
    let all = format!("{:?} {:?}", tokens(&secret("changeme")), jwks(&[oct("changeme", json!({"kid": "a"}))]));
    let bytes = format!("{:?}", b"changeme");
    assert!(!all.contains("changeme") && !all.contains(&bytes) && !all.contains(&URL_SAFE_NO_PAD.encode("changeme")));
}

#[test]
fn reasons_fit_into_a_header() {
    use TokenError::*;
    let all = [
        Malformed, Algorithm, UnknownKey, Signature, NoExpiry, Expired, NotBefore, TooEarly, Issuer, Audience, NoUser,
        UserType, User, Channels,
    ];
    for reason in all {
        let text = reason.to_string();
        assert!(text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\'), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_judged(token in ".{0,40}|[A-Za-z0-9_-]{0,20}(\\.[A-Za-z0-9_-]{0,20}){0,4}") {
        prop_assert!(tokens(&secret("s")).verify(&token, NOW).is_err());
    }

    #[test]
    fn any_claims_are_judged(header in ".{0,20}", claims in "\\{\"(sub|exp)\":([0-9]{1,30}|\"[a-z]{0,3}\"|1e999|\\[\\])\\}|.{0,20}") {
        for header in [header, json!({"alg": "HS256"}).to_string()] {
            let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&claims));
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &hs("s").0, Algorithm::HS256).unwrap();
            let token = format!("{message}.{signature}");
            prop_assert!(tokens(&secret("s")).verify(&token, NOW).is_err());
        }
    }

    #[test]
    fn a_changed_byte_is_noticed(at in 0..200_usize, byte in 0x21..0x7f_u8) {
        let token = sign(&hs("s"), None, &good());
        let mut changed = token.clone().into_bytes();
        let at = at % changed.len();
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(tokens(&secret("s")).verify(&changed, NOW).is_ok(), changed == token);
    }
}
