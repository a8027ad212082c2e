//! `orig_headers`: each header a second time, under a marked name, so that an origin behind several proxies sees what
//! the first of them got.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The prefix of marked names, as in Pushpin.
pub(super) const MARK: &str = "eb9bf0f5-";

/// Returns whether a name is marked.
pub(super) fn is_marked(name: &HeaderName) -> bool {
    name.as_str().starts_with(MARK)
}

/// Returns the marked headers of a request: those it came with, and those of its others that are not among `need_mark`,
/// whose originals only count if they came marked, and are kept.
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
