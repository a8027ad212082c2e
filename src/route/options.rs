//! The options of a route.

use super::section::{LineSection, unknown_option};
use super::{Protocol, Route, RouteCondition, UserIdentification, users};
use crate::grip::channel::{MAX_NAME, check_length};
use crate::grip::naming::ChannelRule;
use crate::grip::{InvalidText, invalid};
use crate::wire::{canonical_host, is_authority, without_port};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// The changes to the requests of a route before they are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The host that the origin gets instead of the one that the request names, with a port if one is to be named.
    /// The `host` of a target has precedence.
    pub as_host: Option<String>,
    /// The number of bytes that are removed from the beginning of the path.
    pub cut: usize,
    /// The text that is put before the remaining path.
    pub begin: String,
    /// The headers that are set, each with its value. `None` removes the header.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Whether each header is sent to the origin a second time, under a marked name.
    pub mark_originals: bool,
}

/// The options of a route about signing requests, as they are written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// The issuer that the signature names.
    pub issuer: Option<String>,
    /// The key: text, `base64:...`, `file:...` or `env:...`.
    pub key: Option<String>,
}

/// The options of a route for requests made by `<script>` elements (JSON-P).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonpOptions {
    /// Whether the script contains the status and the headers of the response besides its body.
    pub extended: bool,
    /// The query parameter that names the callback.
    pub callback: String,
    /// The query parameter that holds the body of the request. The body is then forwarded as JSON. `None` stands
    /// for the parameter `_body`, whose content type is left as it is.
    pub body: Option<String>,
    /// The callback of requests that name none. It is used only if `body` is set and the query has that parameter.
    pub default_callback: Option<String>,
    /// The method of requests that name none. `None` stands for `GET` in extended mode, and for `POST` in basic
    /// mode.
    pub default_method: Option<Method>,
}

impl Default for JsonpOptions {
    fn default() -> Self {
        Self { extended: true, callback: "callback".into(), body: None, default_callback: None, default_method: None }
    }
}

/// The names of all options, of which one is suggested for a misspelled one.
const NAMES: [&str; 35] = [
    "proto",
    "ssl",
    "path_beg",
    "as_host",
    "path_rem",
    "header",
    "orig_headers",
    "replace_beg",
    "jsonp_mode",
    "jsonp_cb",
    "jsonp_body",
    "jsonp_defcb",
    "jsonp_defmethod",
    "id",
    "prefix",
    "debug",
    "no_grip",
    "aco",
    "sig_iss",
    "sig_key",
    "response_timeout",
    "log_level",
    "channels",
    "user_jwt",
    "user_key",
    "user_jwks",
    "user_claim",
    "user_iss",
    "user_aud",
    "user_meta",
    "user_header",
    "user_proxies",
    "user_channel",
    "user_required",
    "close_at_expiry",
];

/// The options of a route, as far as they were read.
#[derive(Default)]
struct ReadOptions<'a> {
    route: Route,
    replace_beg: Option<&'a String>,
    users: users::UserOptions,
    channels: Vec<&'a String>,
}

/// Reads a condition and the options after it. As in Pushpin, a flag is on regardless of its value. If an option is
/// repeated, the last value counts. There are exceptions: of several headers with one name, the first counts, and
/// `channels`, `user_jwt` and `user_proxies` add to a list. All errors are added to `errors`.
pub(super) fn parse(section: &LineSection, errors: &mut Vec<InvalidText>) -> Route {
    let mut read = ReadOptions::default();
    match host(&section.value) {
        Ok(host) => read.route.condition.host = host,
        Err(error) => errors.push(error),
    }
    let before = errors.len();
    for (name, value) in &section.properties {
        if let Err(error) = read.option(name, value) {
            errors.push(error);
        }
    }
    let mut route = read.route;
    // A rule about several options can be checked only if all of them were read.
    if errors.len() == before
        && let Err(error) = finish(&mut route, read.replace_beg, read.users, &read.channels)
    {
        errors.push(error);
    }
    route
}

/// Reads the host of a condition. Returns `None` for any host.
fn host(text: &str) -> Result<Option<String>, InvalidText> {
    let host = Some(text).filter(|host| *host != "*");
    if let Some(host) = host.filter(|host| !host.is_empty())
        && (!is_authority(host.as_bytes()) || without_port(host) != host)
    {
        return invalid(format!("the condition '{host}' is not a valid host: give '*' or a host without a port"));
    }
    Ok(host.map(|host| canonical_host(host).into_owned()))
}

impl<'a> ReadOptions<'a> {
    fn option(&mut self, name: &str, value: &'a String) -> Result<(), InvalidText> {
        let route = &mut self.route;
        match name {
            "proto" | "ssl" | "path_beg" => condition(&mut route.condition, name, value)?,
            "as_host" | "path_rem" | "header" | "orig_headers" => rewrite(&mut route.rewrite, name, value)?,
            "replace_beg" => self.replace_beg = Some(value),
            "jsonp_mode" | "jsonp_cb" | "jsonp_body" | "jsonp_defcb" | "jsonp_defmethod" => {
                script(&mut route.jsonp, name, value)?;
            }
            "id" => route.id = Some(value.clone()),
            "prefix" => {
                check_length("prefix", value, MAX_NAME)?;
                value.clone_into(&mut route.prefix);
            }
            "debug" => route.debug = true,
            "no_grip" => route.no_grip = true,
            "aco" => route.cors = true,
            "sig_iss" => route.signing.issuer = Some(value.clone()),
            "sig_key" => route.signing.key = Some(value.clone()),
            "response_timeout" => route.response_timeout = Some(seconds(name, value)?),
            "log_level" => match value.parse() {
                Ok(level @ 0..=4) => route.log_level = Some(level),
                _ => return invalid("log_level must be a number from 0 to 4"),
            },
            "session" | "sockjs" | "sockjs_as_path" => {
                return invalid(format!("the route option '{name}' is not supported: remove it"));
            }
            "channels" => self.channels.push(value),
            _ if self.users.read(name, value)? => {}
            _ => return invalid(unknown_option("route", name, &NAMES)),
        }
        Ok(())
    }
}

/// Completes a route by what depends on several options.
fn finish(
    route: &mut Route,
    replace_beg: Option<&String>,
    users: users::UserOptions,
    channels: &[&String],
) -> Result<(), InvalidText> {
    if let Some(begin) = replace_beg {
        // The text replaces the beginning of the path that the condition demands.
        route.rewrite.cut = route.condition.path_beg.len();
        begin.clone_into(&mut route.rewrite.begin);
    }
    if route.condition.is_by_id_only() && route.id.is_none() {
        return invalid("a condition without a host requires an id: write '*' to match any host");
    }
    route.users = users.finish()?.map(Arc::new);
    route.channels = rule(channels, route.users.as_deref())?.map(Arc::new);
    route.name = route.id.clone().unwrap_or_else(|| route.condition.to_string()).into();
    Ok(())
}

/// Returns the rule for the names of channels, if there is one.
fn rule(patterns: &[&String], users: Option<&UserIdentification>) -> Result<Option<ChannelRule>, InvalidText> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let rule = ChannelRule::parse(patterns)?;
    if rule.names_users() && users.is_none() {
        return invalid("channels that contain {user} require one of user_jwt, user_meta and user_header");
    }
    Ok(Some(rule))
}

/// Reads a time in seconds, from 0.001 to a year of 365 days.
fn seconds(name: &str, value: &str) -> Result<Duration, InvalidText> {
    const YEAR: f64 = 365.0 * 24.0 * 3600.0;
    match value.parse() {
        Ok(seconds) if (0.001..=YEAR).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => invalid(format!("{name} must be a time in seconds, from 0.001 to {YEAR}")),
    }
}

fn condition(condition: &mut RouteCondition, name: &str, value: &str) -> Result<(), InvalidText> {
    match (name, value) {
        ("proto", "http") => condition.protocol = Some(Protocol::Http),
        ("proto", "ws") => condition.protocol = Some(Protocol::WebSocket),
        ("proto", _) => return invalid("proto must be set to either 'http' or 'ws'"),
        ("ssl", "yes") => condition.secure = Some(true),
        ("ssl", "no") => condition.secure = Some(false),
        ("ssl", _) => return invalid("ssl must be set to 'yes' or 'no'"),
        (_, "") => return invalid("path_beg cannot be empty"),
        (_, path) if !path.starts_with('/') => return invalid("path_beg must begin with '/'"),
        _ => value.clone_into(&mut condition.path_beg),
    }
    Ok(())
}

fn rewrite(rewrite: &mut Rewrite, name: &str, value: &str) -> Result<(), InvalidText> {
    match name {
        "as_host" if !is_authority(value.as_bytes()) => return invalid("as_host must be a host, or host:port"),
        "as_host" => rewrite.as_host = Some(value.to_owned()),
        "orig_headers" => rewrite.mark_originals = true,
        "path_rem" => match value.parse() {
            Ok(count) => rewrite.cut = count,
            Err(_) => return invalid("path_rem must be a number of bytes"),
        },
        _ => {
            let header = header(value)?;
            if rewrite.headers.iter().all(|(name, _)| *name != header.0) {
                rewrite.headers.push(header);
            }
        }
    }
    Ok(())
}

/// Reads `Name: value`. An empty value means that the header is removed.
fn header(text: &str) -> Result<(HeaderName, Option<HeaderValue>), InvalidText> {
    let Some((name, value)) = text.split_once(':') else { return invalid("header must be written as 'Name: value'") };
    let Ok(name) = HeaderName::try_from(name.trim()) else {
        return invalid(format!("header: '{name}' is not a valid header name"));
    };
    let value = value.trim();
    match HeaderValue::try_from(value) {
        Ok(_) if value.is_empty() => Ok((name, None)),
        Ok(parsed) => Ok((name, Some(parsed))),
        Err(_) => invalid(format!("header '{name}' has an invalid value")),
    }
}

fn script(jsonp: &mut JsonpOptions, name: &str, value: &str) -> Result<(), InvalidText> {
    let some = Some(value).filter(|v| !v.is_empty());
    match name {
        "jsonp_mode" => match value {
            "extended" => jsonp.extended = true,
            "basic" => jsonp.extended = false,
            _ => return invalid("jsonp_mode must be 'extended' or 'basic'"),
        },
        "jsonp_cb" => some.unwrap_or("callback").clone_into(&mut jsonp.callback),
        "jsonp_body" => jsonp.body = some.map(str::to_owned),
        "jsonp_defcb" => jsonp.default_callback = some.map(str::to_owned),
        _ => match Method::try_from(value) {
            Ok(Method::TRACE | Method::CONNECT) => return invalid("jsonp_defmethod cannot be TRACE or CONNECT"),
            Ok(method) => jsonp.default_method = Some(method),
            Err(_) => return invalid("jsonp_defmethod must be a valid HTTP method"),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_may_be_suggested_is_known() {
        for name in NAMES {
            let value = String::new();
            let read = ReadOptions::default().option(name, &value);
            assert!(!read.is_err_and(|error| error.to_string().contains("unknown")), "{name}");
        }
        let unknown = ReadOptions::default().option("pathbeg", &String::new());
        assert_eq!(unknown.unwrap_err().to_string(), "unknown route option 'pathbeg': did you mean 'path_beg'?");
    }
}
