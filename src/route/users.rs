//! The identification of the users of a route's clients.

use crate::grip::channel::MAX_NAME;
use crate::grip::identity::{ExpectedClaims, MAX_USER, TokenChecker, TokenPlace, is_user};
use crate::grip::naming::NameTemplate;
use crate::grip::{InvalidText, Meta, Rights, invalid};
use crate::wire::{Network, ProxyHeader, TrustedProxies};
use hyper::header::HeaderName;
use std::sync::Arc;

/// The options by which the users of a route's clients are identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIdentification {
    /// The source of the user's name.
    pub source: UserSource,
    /// The template for the name of a user's own channel, if each user has one.
    pub channel: Option<NameTemplate>,
}

impl UserIdentification {
    /// Returns the rights of a user whom the origin or a proxy has named. If the name is not valid, the user counts
    /// as unknown, and a warning is logged.
    pub fn rights_of(&self, user: &str) -> Rights {
        if !is_user(user) {
            tracing::warn!(
                "a user name is empty, too long or contains control characters; the user is treated as unknown"
            );
            return Rights::default();
        }
        Rights { user: Some(user.into()), own: self.own(user), ..Rights::default() }
    }

    /// Returns whether the origin names the user in the meta value `name`.
    pub fn are_named_by(&self, name: &str) -> bool {
        matches!(&self.source, UserSource::Meta(own) if own == name)
    }

    /// Returns the rights of a client whose user the origin names in its meta. Returns `None` if the route
    /// identifies users in another way, or if the meta names no user.
    pub fn rights_by(&self, meta: &Meta) -> Option<Rights> {
        match &self.source {
            UserSource::Meta(name) => meta.get(name).map(|user| self.rights_of(user)),
            UserSource::Token(_) | UserSource::Header(..) => None,
        }
    }

    /// Returns the name of a user's own channel, without the prefix of the route.
    pub fn own(&self, user: &str) -> Option<Arc<str>> {
        self.channel.as_ref().map(|template| template.fill(user).into())
    }
}

/// The source of a user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// A token in the request.
    Token(Box<BearerTokens>),
    /// The origin, which names the user in the meta value with this name.
    Meta(String),
    /// A header that one of these proxies sets. If there are none, the proxies in front of gripd are put here when
    /// the configuration is read.
    Header(HeaderName, TrustedProxies),
}

/// The options about the tokens of a route's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerTokens {
    /// The places where a request may have a token. The first place that has one counts.
    pub places: Vec<TokenPlace>,
    /// The key that verifies tokens, as it is written in the configuration.
    pub key: Option<String>,
    /// The file with a JWK Set (RFC 7517) that verifies tokens. After it was read, its path includes the folder to
    /// which it was relative.
    pub key_set: Option<String>,
    /// The claims that a token must have.
    pub expected: ExpectedClaims,
    /// Whether every request must have a token. CORS preflight requests need none.
    pub required: bool,
    /// Whether a connection ends when its client's token expires.
    pub close_at_expiry: bool,
    /// The verifier of tokens, once the keys have been read.
    pub tokens: Option<Arc<TokenChecker>>,
}

/// The options of a route about its users, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct UserOptions {
    places: Vec<TokenPlace>,
    key: Option<String>,
    key_set: Option<String>,
    expected: ExpectedClaims,
    required: bool,
    close_at_expiry: bool,
    meta: Option<String>,
    header: Option<HeaderName>,
    proxies: Vec<Network>,
    channel: Option<NameTemplate>,
    /// The name of an option that needs `user_jwt`, if one was read.
    of_token: Option<&'static str>,
}

impl UserOptions {
    /// Reads an option. Returns `false` if it is not an option about users.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<bool, InvalidText> {
        let some = || if value.is_empty() { invalid(format!("{name} is empty")) } else { Ok(value.to_owned()) };
        match name {
            "user_jwt" => self.places.push(TokenPlace::parse(value)?),
            "user_meta" => self.meta = Some(some()?),
            "user_header" => match HeaderName::try_from(value) {
                Ok(header) => self.header = Some(header),
                Err(_) => return invalid(format!("user_header: '{value}' is not a valid header name")),
            },
            "user_proxies" => self.proxies.push(Network::parse(value)?),
            // A user name of up to 255 bytes is filled into the template.
            "user_channel" if value.len() + MAX_USER > MAX_NAME => {
                return invalid(format!("user_channel has more than {} bytes", MAX_NAME - MAX_USER));
            }
            "user_channel" => self.channel = Some(NameTemplate::parse(value)?),
            _ => return self.read_of_token(name, some),
        }
        Ok(true)
    }

    fn read_of_token(
        &mut self,
        name: &str,
        some: impl Fn() -> Result<String, InvalidText>,
    ) -> Result<bool, InvalidText> {
        let (option, value): (&'static str, _) = match name {
            "user_key" => ("user_key", &mut self.key),
            "user_jwks" => ("user_jwks", &mut self.key_set),
            "user_iss" => ("user_iss", &mut self.expected.issuer),
            "user_aud" => ("user_aud", &mut self.expected.audience),
            "user_claim" => {
                self.expected.claim = some()?;
                self.of_token = Some("user_claim");
                return Ok(true);
            }
            "user_required" => {
                (self.required, self.of_token) = (true, Some("user_required"));
                return Ok(true);
            }
            "close_at_expiry" => {
                (self.close_at_expiry, self.of_token) = (true, Some("close_at_expiry"));
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *value = Some(some()?);
        self.of_token = Some(option);
        Ok(true)
    }

    /// Returns the options about users, or `None` if there were none.
    pub(super) fn finish(self) -> Result<Option<UserIdentification>, InvalidText> {
        let sources = [!self.places.is_empty(), self.meta.is_some(), self.header.is_some()];
        if sources.iter().filter(|is| **is).count() > 1 {
            return invalid("only one of user_jwt, user_meta and user_header may be set");
        }
        if let Some(option) = self.of_token
            && self.places.is_empty()
        {
            return invalid(format!("{option} needs user_jwt"));
        }
        if self.header.is_none() && !self.proxies.is_empty() {
            return invalid("user_proxies requires user_header: set user_header or remove user_proxies");
        }
        let channel = self.channel;
        let source = match (self.meta, self.header) {
            (Some(meta), _) => UserSource::Meta(meta),
            (_, Some(header)) => UserSource::Header(header, TrustedProxies::new(self.proxies, ProxyHeader::default())),
            _ if self.places.is_empty() => {
                return match channel {
                    None => Ok(None),
                    Some(_) => invalid("user_channel needs one of user_jwt, user_meta and user_header"),
                };
            }
            _ if self.key.is_some() == self.key_set.is_some() => {
                return invalid("user_jwt requires exactly one of user_key and user_jwks");
            }
            _ => UserSource::Token(Box::new(BearerTokens {
                places: self.places,
                key: self.key,
                key_set: self.key_set,
                expected: self.expected,
                required: self.required,
                close_at_expiry: self.close_at_expiry,
                tokens: None,
            })),
        };
        Ok(Some(UserIdentification { source, channel }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Route, parse_line};
    use super::*;

    fn parse(options: &str) -> Result<Route, String> {
        parse_line(&format!("*{options} o:1")).map(Option::unwrap).map_err(|error| error.to_string())
    }

    fn users(options: &str) -> UserIdentification {
        Arc::unwrap_or_clone(parse(options).unwrap().users.unwrap())
    }

    #[test]
    fn users_are_known_in_one_of_three_ways() {
        let by_token = users(
            ",user_jwt=header:Authorization,user_jwt=cookie:t,user_key=k,user_claim=id,user_iss=i,user_aud=a,\
             user_required,close_at_expiry,user_channel=u-{user}",
        );
        let UserSource::Token(bearer) = by_token.source else { panic!("no token") };
        assert_eq!(
            bearer.places.iter().map(TokenPlace::to_string).collect::<Vec<_>>(),
            ["header:authorization", "cookie:t"]
        );
        assert_eq!((bearer.key.as_deref(), bearer.key_set), (Some("k"), None));
        assert_eq!((bearer.expected.claim.as_str(), bearer.expected.issuer.as_deref()), ("id", Some("i")));
        assert!(bearer.required && bearer.close_at_expiry);
        assert_eq!(by_token.channel.unwrap().fill("7"), "u-7");
        assert_eq!(users(",user_meta=user").source, UserSource::Meta("user".into()));
        let UserSource::Header(name, networks) =
            users(",user_header=X-User,user_proxies=10.0.0.0/8,user_proxies=::1").source
        else {
            panic!("no header")
        };
        assert_eq!((name.as_str(), networks.networks().len()), ("x-user", 2));
        assert_eq!(parse("").unwrap().users, None);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (options, why) in [
            (",user_meta=user,user_header=X-User,user_proxies=::1", "only one of"),
            (",user_meta=user,user_key=k", "user_key needs user_jwt"),
            (",close_at_expiry", "close_at_expiry needs user_jwt"),
            (",user_proxies=::1", "requires user_header"),
            (",user_channel=u{user}", "user_channel needs one of"),
            (",user_jwt=cookie:t", "exactly one of user_key and user_jwks"),
            (",user_jwt=cookie:t,user_key=k,user_jwks=f", "exactly one of user_key and user_jwks"),
            (",user_jwt=body:t,user_key=k", "'body:t'"),
            (",user_meta=", "user_meta is empty"),
            (",user_meta=u,user_channel=u{id}", "{user}"),
            (",channels=u{user}", "{user}"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.contains(why), "{options}: {error}");
        }
    }

    #[test]
    fn channels_are_a_rule() {
        let route = parse(",user_meta=user,channels=c{id},channels=\"u{user}\"").unwrap();
        assert_eq!(route.channels.unwrap().patterns().collect::<Vec<_>>(), ["c{id}", "u{user}"]);
        assert!(parse("").unwrap().channels.is_none());
    }
}
