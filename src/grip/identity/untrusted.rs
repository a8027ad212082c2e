//! Why a token is not believed.

use std::fmt;

/// Why a token is not believed. As a text it is one sentence that can be an `error_description` (RFC 6750): ASCII
/// without quotes and backslashes, and nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// It is no signed JWT at all, or its claims are no JSON object.
    Malformed,
    /// There are several, of which only one could be believed.
    Several,
    /// It is signed by another algorithm than the key is for.
    Algorithm,
    /// There is no key of the id that it names.
    UnknownKey,
    /// It is not signed with the key, or was changed.
    Signature,
    /// It does not say when it expires.
    NoExpiry,
    /// It has expired.
    Expired,
    /// It does not say in seconds from when it is valid.
    NotBefore,
    /// It is not valid yet.
    TooEarly,
    /// It is by another issuer.
    Issuer,
    /// It is for another audience.
    Audience,
    /// It has no claim that names the user.
    NoUser,
    /// The claim that names the user is neither a string nor a whole number.
    UserType,
    /// The user is empty, too long, or has control characters.
    User,
    /// The claim `channels` is no list of texts.
    Channels,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "The token is not a signed JWT",
            Self::Several => "The request has several tokens",
            Self::Algorithm => "The token is signed with an algorithm that does not match the key",
            Self::UnknownKey => "The token refers to an unknown key",
            Self::Signature => "The signature of the token is wrong",
            Self::NoExpiry => "The token has no claim exp, or it is not a number",
            Self::Expired => "The token has expired",
            Self::NotBefore => "The claim nbf of the token is not a number",
            Self::TooEarly => "The token is not valid yet",
            Self::Issuer => "The token is from another issuer",
            Self::Audience => "The token is for another audience",
            Self::NoUser => "The token has no claim that names the user",
            Self::UserType => "The claim that names the user is neither a string nor a whole number",
            Self::User => "The user name must have 1 to 255 bytes and no control characters",
            Self::Channels => "The claim channels is not a list of strings",
        })
    }
}

impl std::error::Error for Untrusted {}
