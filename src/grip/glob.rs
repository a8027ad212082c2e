//! Patterns for names, such as `conversation*`.

use std::fmt;

/// A pattern in which each `*` stands for any text, including the empty text. Every other character stands for
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// Returns whether the pattern matches `name`. The time that this takes is bounded by the product of both
    /// lengths.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // The first occurrence of a part can be taken, because it leaves the most text for the parts after it.
        let rest = parts.try_fold(rest, |rest, part| rest.find(part).map(|at| &rest[at + part.len()..]));
        rest.is_some_and(|rest| rest.ends_with(last))
    }
}

impl From<&str> for Glob {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    fn matches(glob: &str, name: &str) -> bool {
        Glob::from(glob).matches(name)
    }

    #[test]
    fn a_star_is_any_text() {
        assert!(matches("a", "a") && !matches("a", "ab") && !matches("a", ""));
        assert!(matches("user*", "user") && matches("user*", "user4*") && !matches("user*", "use"));
        assert!(matches("*-user7", "c1-user7") && !matches("*-user7", "c1-user77"));
        assert!(matches("a*b*c", "abbc") && !matches("a*b*c", "acb") && matches("*", "") && matches("**", "x"));
        // The first part and the last part of the pattern do not share characters of the name.
        assert!(!matches("ab*bc", "abc") && matches("ab*bc", "abbc"));
        assert!(matches("", "") && !matches("", "x"));
    }

    /// Returns whether `glob` matches `name`, by the plain definition. It is slow and serves as the reference for the
    /// test.
    fn defined(glob: &[char], name: &[char]) -> bool {
        match (glob, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|n| defined(rest, &name[n..])),
            ([g, rest @ ..], [n, name @ ..]) if g == n => defined(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_it_is_defined_to_be(glob in "[ab*]{0,6}", name in "[ab]{0,8}") {
            let (chars, of_name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&glob, &name), defined(&chars, &of_name));
        }
    }
}
