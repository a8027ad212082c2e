//! `Via` (RFC 9110 7.6.3): the proxies that a request has passed.

use hyper::Version;
use hyper::header::{HeaderMap, HeaderValue, VIA};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

/// The name of this process in `Via`, by which it recognizes its own requests when they come back. Each process has a
/// different name, so that two gripd processes in a row are not mistaken for a loop.
#[derive(Clone)]
pub struct Via {
    pseudonym: String,
    old: HeaderValue,
    usual: HeaderValue,
}

impl Via {
    /// Returns a `Via` with a random name.
    pub fn of_this_process() -> Self {
        // The keys of a `RandomState` are random.
        let pseudonym = format!("gripd-{:08x}", RandomState::new().hash_one("via") & 0xffff_ffff);
        let value = |version: &str| HeaderValue::try_from(format!("{version} {pseudonym}"));
        let usual = value("1.1").unwrap_or(HeaderValue::from_static("1.1 gripd"));
        let old = value("1.0").unwrap_or(HeaderValue::from_static("1.0 gripd"));
        Self { pseudonym, old, usual }
    }

    /// Returns whether a request has passed this process already.
    pub fn has_passed(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
        let mut passed = values.flat_map(|value| value.split(|byte| *byte == b','));
        passed.any(|hop| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1) == Some(self.pseudonym.as_bytes())
        })
    }

    /// Adds this process to the header `Via`. `version` is the HTTP version in which the request was received.
    pub(super) fn tell(&self, version: Version, to: &mut HeaderMap) {
        to.append(VIA, if version == Version::HTTP_10 { &self.old } else { &self.usual }.clone());
    }
}

impl fmt::Debug for Via {
    /// Leaves out the name, which is different in each process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Via").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_requests_and_no_others() {
        let (own, other) = (Via::of_this_process(), Via::of_this_process());
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 example.com (Apache)"));
        other.tell(Version::HTTP_11, &mut headers);
        assert!(!own.has_passed(&headers) && other.has_passed(&headers));
        own.tell(Version::HTTP_10, &mut headers);
        assert!(own.has_passed(&headers));
        // The name of a proxy is the second word of its element: a name in a comment does not count.
        let comment = HeaderValue::try_from(format!("1.1 x ({})", own.pseudonym)).unwrap();
        assert!(!own.has_passed(&HeaderMap::from_iter([(VIA, comment)])));
        let all: Vec<_> = headers.get_all(VIA).iter().map(|value| value.to_str().unwrap()).collect();
        assert!(all[1].starts_with("1.1 gripd-") && all[2].starts_with("1.0 gripd-"), "{all:?}");
    }
}
