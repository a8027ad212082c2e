//! The CORS headers that let web pages of other origins read a response, as Pushpin adds them.

use super::names_token;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, VARY};

/// The response headers that every page may read, so that they need not be exposed.
const SIMPLE: [&str; 6] = ["cache-control", "content-language", "content-type", "expires", "last-modified", "pragma"];

/// Adds the CORS headers that a response lacks. `request` holds the headers of the request.
pub fn allow(request: &HeaderMap, answer: &mut HeaderMap) {
    let asked = |name: &str| request.get(name).cloned();
    let methods = asked("access-control-request-method")
        .unwrap_or(HeaderValue::from_static("OPTIONS, HEAD, GET, POST, PUT, DELETE"));
    add(answer, "access-control-allow-methods", Some(methods));
    add(answer, "access-control-allow-headers", asked("access-control-request-headers"));
    let exposed: Vec<&str> = answer.keys().map(HeaderName::as_str).filter(|name| is_worth_exposing(name)).collect();
    let exposed = Some(exposed.join(", ")).filter(|names| !names.is_empty());
    add(answer, "access-control-expose-headers", exposed.and_then(|names| HeaderValue::try_from(names).ok()));
    add(answer, "access-control-allow-credentials", Some(HeaderValue::from_static("true")));
    let origin = asked("origin").unwrap_or(HeaderValue::from_static("*"));
    add(answer, "access-control-allow-origin", Some(origin));
    vary_by_origin(answer);
    add(answer, "access-control-max-age", Some(HeaderValue::from_static("3600")));
}

/// Adds `Vary: Origin`, unless `Vary` says this already. The response depends on the page's origin, so a cache must
/// not serve it to a page of another one.
fn vary_by_origin(answer: &mut HeaderMap) {
    if !names_token(answer, &VARY, "*") && !names_token(answer, &VARY, "origin") {
        answer.append(VARY, HeaderValue::from_static("Origin"));
    }
}

fn add(answer: &mut HeaderMap, name: &'static str, value: Option<HeaderValue>) {
    if let Some(value) = value
        && !answer.contains_key(name)
    {
        answer.insert(name, value);
    }
}

fn is_worth_exposing(name: &str) -> bool {
    !SIMPLE.contains(&name) && !name.starts_with("access-control-") && !name.starts_with("grip-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_is_missing_is_added_and_the_rest_stays() {
        let request = map(&[("origin", "http://page"), ("access-control-request-method", "PUT")]);
        let mut answer =
            map(&[("x-a", "1"), ("content-type", "t"), ("grip-hold", "x"), ("access-control-max-age", "5")]);
        allow(&request, &mut answer);
        let expected = map(&[
            ("x-a", "1"),
            ("content-type", "t"),
            ("grip-hold", "x"),
            ("access-control-max-age", "5"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-expose-headers", "x-a"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", "http://page"),
            ("vary", "Origin"),
        ]);
        assert_eq!(answer, expected);
    }

    #[test]
    fn it_varies_by_origin_once() {
        for (vary, expected) in [("Accept", 2), ("Accept, ORIGIN", 1), ("*", 1)] {
            let mut answer = map(&[("vary", vary)]);
            allow(&map(&[]), &mut answer);
            assert_eq!(answer.get_all("vary").iter().count(), expected, "{vary}");
        }
    }

    #[test]
    fn a_request_that_says_nothing_is_allowed_everything() {
        let mut answer = HeaderMap::new();
        allow(&map(&[("access-control-request-headers", "x-b")]), &mut answer);
        assert_eq!(answer["access-control-allow-origin"], "*");
        assert_eq!(answer["access-control-allow-headers"], "x-b");
        assert!(!answer.contains_key("access-control-expose-headers"));
    }
}
