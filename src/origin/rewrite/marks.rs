//! The route option `orig_headers`: each header is sent a second time under a marked name, so that an origin behind
//! several proxies sees the headers that the first proxy received.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The prefix of marked names, as in Pushpin.
pub(super) const MARK: &str = "eb9bf0f5-";

/// Returns whether a name is marked.
pub(super) fn is_marked(name: &HeaderName) -> bool {
    name.as_str().starts_with(MARK)
}

/// Returns the headers that are sent under marked names. Headers that have come under a marked name are returned as
/// they are. Of the other headers a marked copy is returned, unless `need_mark` lists the header, `is_kept` returns
/// `false` for it, or its marked name has come with the request.
pub(super) fn originals(
    headers: &HeaderMap,
    need_mark: &[HeaderName],
    is_kept: impl Fn(&HeaderName) -> bool,
) -> Vec<(HeaderName, HeaderValue)> {
    let came = headers.iter().filter(|(name, _)| is_marked(name)).map(|(n, v)| (n.clone(), v.clone()));
    let others = headers.iter().filter(|(name, _)| !is_marked(name) && !need_mark.contains(name) && is_kept(name));
    let marked = others.filter_map(|(name, value)| {
        let twin = HeaderName::try_from([MARK, name.as_str()].concat()).ok()?;
        if headers.contains_key(&twin) { None } else { Some((twin, value.clone())) }
    });
    came.chain(marked).collect()
}
