//! The configuration of the control API: the table `[control]` with its tokens `[[control.token]]`.

use super::error::ConfigError;
use super::file_path::folder;
use super::keys;
use super::places::SettingPlaces;
use super::value::{FileMode, PortAddress, Seconds, Size};
use crate::control::{self, ControlAccess, ControlToken, Scope};
use crate::grip::signature::{Key, ProxyVerifier};
use crate::grip::{InvalidText, invalid};
use crate::hub;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::path::Path;

/// The table `[control]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ControlTable {
    pub(super) listen: Option<PortAddress>,
    pub(super) max_body: Size<1>,
    pub(super) publish_wait: Seconds,
    pub(super) health: Option<PortAddress>,
    pub(super) hosts: Vec<String>,
    pub(super) unix: Option<String>,
    pub(super) unix_mode: Option<FileMode>,
    pub(super) without_token: Vec<SparedCallers>,
    pub(super) token: Vec<TokenTable>,
}

impl Default for ControlTable {
    fn default() -> Self {
        Self {
            listen: None,
            max_body: Size(control::Settings::default().max_body),
            publish_wait: Seconds(hub::Settings::default().publish_wait),
            health: None,
            hosts: Vec::new(),
            unix: None,
            unix_mode: None,
            without_token: vec![SparedCallers::Unix],
            token: Vec::new(),
        }
    }
}

/// A table `[[control.token]]`, as it is written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenTable {
    name: String,
    iss: Option<String>,
    key: Option<SecretText>,
    secret: Option<SecretText>,
    #[serde(default)]
    scopes: Vec<String>,
}

/// A text that errors and logs must not show, because it may be a secret.
pub(super) struct SecretText(String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("key and secret must be strings in quotes")),
        }
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

/// The callers that may be exempt from the need for a token.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum SparedCallers {
    Unix,
    Loopback,
}

/// The key or secret of a token, which is compared so that no two tokens have the same.
#[derive(PartialEq, Eq)]
enum ProofKey {
    Signed(String, Key),
    Secret(String),
}

/// Returns the access to the control API that the file configures. All errors are added to `error`.
pub(super) fn access(
    path: Option<&Path>,
    control: &ControlTable,
    places: &SettingPlaces,
    error: &mut ConfigError,
) -> ControlAccess {
    let spares = |who| control.without_token.contains(&who);
    let mut access = ControlAccess {
        tokens: Vec::new(),
        unix: spares(SparedCallers::Unix),
        loopback: spares(SparedCallers::Loopback),
    };
    let mut before: Vec<(&str, Option<ProofKey>)> = Vec::new();
    for (index, table) in control.token.iter().enumerate() {
        let place = places.of_entry("control.token", index);
        let mut wrong = |why: &dyn std::fmt::Display| {
            error.push(place, format!("[[control.token]] '{}': {why}", table.name));
        };
        if table.name.is_empty() || table.name.contains(char::is_control) {
            wrong(&"a name must have at least one character and no control characters");
        }
        if before.iter().any(|(name, _)| *name == table.name) {
            wrong(&"another token has the same name");
        }
        let scopes = scopes(table, &mut wrong);
        let proof = proof(table, folder(path)).map_err(|why| wrong(&why)).ok();
        let same = before.iter().find(|(_, other)| proof.is_some() && *other == proof);
        if let Some((other, _)) = same {
            wrong(&format!("the token has the same key or secret as '{other}': give each token its own"));
        }
        match proof.as_ref().map(|proof| token(&table.name, proof, scopes)) {
            Some(Ok(token)) => access.tokens.push(token),
            Some(Err(why)) => wrong(&why),
            None => {}
        }
        before.push((&table.name, proof));
    }
    access
}

fn scopes(table: &TokenTable, wrong: &mut dyn FnMut(&dyn std::fmt::Display)) -> Vec<Scope> {
    if table.scopes.is_empty() {
        wrong(&"the token has no scopes, so it could do nothing: add, for example, scopes = [\"inspect\"]");
    }
    let scopes = table.scopes.iter().map(|text| text.parse());
    scopes.filter_map(|scope| scope.map_err(|why: InvalidText| wrong(&format!("scopes: {why}"))).ok()).collect()
}

fn proof(table: &TokenTable, folder: &Path) -> Result<ProofKey, InvalidText> {
    let of = |name: &'static str| move |why: InvalidText| InvalidText::new(format!("{name}: {why}"));
    match (&table.key, &table.secret) {
        (Some(_), Some(_)) => invalid("the token has both a key and a secret: remove one of them"),
        (None, None) => invalid("the token has neither a key nor a secret: add one of them"),
        (None, Some(_)) if table.iss.is_some() => invalid("iss is valid only with a key, not with a secret"),
        (None, Some(secret)) => keys::read_secret(&secret.0, folder).map(ProofKey::Secret).map_err(of("secret")),
        (Some(key), None) => {
            let Some(issuer) = table.iss.as_ref().filter(|issuer| !issuer.is_empty()) else {
                return invalid("a token with a key must also have an iss");
            };
            let key = keys::read(&key.0, folder).map_err(|error| of("key")(InvalidText::new(error.to_string())))?;
            Ok(ProofKey::Signed(issuer.clone(), key))
        }
    }
}

fn token(name: &str, proof: &ProofKey, scopes: Vec<Scope>) -> Result<ControlToken, InvalidText> {
    match proof {
        ProofKey::Secret(secret) => Ok(ControlToken::secret(name, secret, scopes)),
        ProofKey::Signed(issuer, key) => match ProxyVerifier::new(key) {
            Ok(Some(verifier)) => Ok(ControlToken::signed(name, issuer, verifier, scopes)),
            Ok(None) => invalid("key: the value is empty"),
            Err(why) => invalid(format!("key: {why}")),
        },
    }
}
