//! JSON-P: a request made by a `<script>` element is turned into the request that its query describes.

use crate::grip::{form, json};
use crate::origin::{RequestBody, is_reserved};
use crate::route::JsonpOptions as Rules;
use crate::wire::{JsonpWrapper, is_callback};
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Uri};
use serde_json::Value;
use std::borrow::Cow;

/// Turns the request of a `<script>` element into the one that its query describes, and returns how the response is
/// to be wrapped up. Returns `None`, and leaves the request as it is, if it is not a JSON-P request.
///
/// # Errors
/// A parameter is not valid. The message names the parameter, in Pushpin's words.
pub(super) fn rewrite(
    rules: &Rules,
    request: &mut Parts,
    upload: &mut RequestBody,
) -> Result<Option<JsonpWrapper>, &'static str> {
    if request.method != Method::GET {
        return Ok(None);
    }
    let query = request.uri.query().unwrap_or_default();
    let find = |name: &str| query.split('&').find_map(|pair| value_of(pair, name)).transpose();
    let body_name = rules.body.as_deref().unwrap_or("_body");
    let callback = match (find(&rules.callback), &rules.default_callback) {
        (Ok(Some(callback)), _) if is_callback(&callback) => callback,
        (Ok(Some(_)) | Err(NotUtf8), _) => return Err("Invalid callback parameter."),
        (Ok(None), Some(callback)) if rules.body.is_some() && !matches!(find(body_name), Ok(None)) => callback.clone(),
        (Ok(None), _) => return Ok(None),
    };
    let wrong_method = "Invalid _method parameter.";
    let method = match find("_method").map_err(|NotUtf8| wrong_method)? {
        Some(name) => match Method::try_from(name.as_str()) {
            Ok(Method::CONNECT) | Err(_) => return Err(wrong_method),
            Ok(method) => method,
        },
        None => rules.default_method.clone().unwrap_or(if rules.extended { Method::GET } else { Method::POST }),
    };
    let wrong_headers = "Invalid _headers parameter.";
    let headers = match find("_headers").map_err(|NotUtf8| wrong_headers)? {
        Some(json) => headers(&json).ok_or(wrong_headers)?,
        None => Vec::new(),
    };
    let wrong_body = if rules.body.is_some() { "Invalid body parameter." } else { "Invalid _body parameter." };
    let body = find(body_name).map_err(|NotUtf8| wrong_body)?;
    let consumed = [rules.callback.as_str(), "_method", "_headers", body_name];
    let kept: Vec<&str> = query.split('&').filter(|pair| !consumed.contains(&name_of(pair))).collect();
    let target = [request.uri.path(), if kept.is_empty() { "" } else { "?" }, &kept.join("&")].concat();
    let mut uri = std::mem::take(&mut request.uri).into_parts();
    uri.path_and_query = PathAndQuery::try_from(target).ok();
    request.uri = Uri::from_parts(uri).unwrap_or_default();
    request.method = method;
    for (name, value) in headers {
        // A query must not change a header that the request has itself, or that the proxy in front of gripd has set.
        request.headers.entry(name).or_insert(value);
    }
    if let Some(body) = body {
        if rules.body.is_some() {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        *upload = RequestBody::of(Bytes::from(body));
    }
    Ok(Some(JsonpWrapper { callback, extended: rules.extended }))
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// The error for a parameter whose value is not UTF-8.
struct NotUtf8;

/// Returns the decoded value of a parameter, or `None` if the pair has another name.
fn value_of(pair: &str, name: &str) -> Option<Result<String, NotUtf8>> {
    let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
    if own != name {
        return None;
    }
    Some(form::decode(value).map(Cow::into_owned).ok_or(NotUtf8))
}

/// Reads headers from a JSON object of strings. Headers that a query must not set are left out. Returns `None` if
/// the text is something else, or if a name or a value is not valid in a header.
fn headers(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Value::Object(object) = json::read(text.as_bytes()).ok()? else { return None };
    let pair = |(name, value): (String, Value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.as_str()?).ok()?))
    };
    let pairs: Option<Vec<_>> = object.into_iter().map(pair).collect();
    let is_free = |name: &HeaderName| *name == CONTENT_TYPE || (*name != ACCEPT && !is_reserved(name));
    pairs.map(|pairs| pairs.into_iter().filter(|(name, _)| is_free(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::parse_line;
    use hyper::Request;

    fn parse(options: &str, target: &str) -> Result<Option<(JsonpWrapper, String, Parts)>, &'static str> {
        let route = parse_line(&format!("*,aco{options} o:1")).unwrap().unwrap();
        let mut parts = Request::builder().uri(target).header("host", "h").body(()).unwrap().into_parts().0;
        let mut upload = RequestBody::of(Bytes::new());
        let jsonp = rewrite(&route.jsonp, &mut parts, &mut upload)?;
        let body = upload.kept().unwrap().concat();
        Ok(jsonp.map(|jsonp| (jsonp, String::from_utf8(body).unwrap(), parts)))
    }

    #[test]
    fn a_script_stands_for_any_request() {
        let target =
            "/a?x=1&callback=cb&_method=PUT&_headers=%7B%22X-A%22%3A%221%22%2C%22Host%22%3A%22evil%22%7D&_body=a+b&y";
        let (jsonp, body, parts) = parse("", target).unwrap().unwrap();
        assert_eq!((jsonp.callback.as_str(), jsonp.extended, body.as_str()), ("cb", true, "a b"));
        assert_eq!((parts.method, parts.uri.to_string()), (Method::PUT, "/a?x=1&y".to_owned()));
        assert_eq!((&parts.headers["x-a"], &parts.headers["host"]), (&"1".parse().unwrap(), &"h".parse().unwrap()));
    }

    #[test]
    fn defaults_are_those_of_the_route() {
        assert!(parse("", "/a?x").unwrap().is_none());
        let whole = parse("", "http://named/a?callback=c").unwrap().unwrap().2;
        assert_eq!(whole.uri.to_string(), "http://named/a");
        assert_eq!(parse("", "/a?callback=c").unwrap().unwrap().2.method, Method::GET);
        let options = ",jsonp_mode=basic,jsonp_body=b,jsonp_defcb=d,jsonp_cb=cb";
        let (jsonp, body, parts) = parse(options, "/a?b=%7B%7D").unwrap().unwrap();
        assert_eq!((jsonp.callback.as_str(), jsonp.extended, body.as_str()), ("d", false, "{}"));
        assert_eq!(
            (parts.method, &parts.headers["content-type"]),
            (Method::POST, &"application/json".parse().unwrap())
        );
        assert!(parse(options, "/a").unwrap().is_none());
    }

    #[test]
    fn wrong_parameters_are_named() {
        for wrong in ["", "%3Cscript%3E", "a%0d%0ab", "a(1)", "%ff"] {
            let error = parse("", &format!("/?callback={wrong}")).unwrap_err();
            assert_eq!(error, "Invalid callback parameter.", "{wrong}");
        }
        assert_eq!(parse("", "/?callback=c&_method=%20").unwrap_err(), "Invalid _method parameter.");
        assert_eq!(parse("", "/?callback=c&_method=CONNECT").unwrap_err(), "Invalid _method parameter.");
        assert_eq!(parse("", "/?callback=c&_headers=x").unwrap_err(), "Invalid _headers parameter.");
        assert_eq!(parse("", "/?callback=c&_body=%ff").unwrap_err(), "Invalid _body parameter.");
        assert_eq!(parse(",jsonp_body=b", "/?callback=c&b=%ff").unwrap_err(), "Invalid body parameter.");
    }
}
