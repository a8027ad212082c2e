//! The reasons for refusing a token.

use std::fmt;

/// The reason for refusing a token. Its text is one sentence that can serve as an `error_description` (RFC 6750 3):
/// it is ASCII without quotes and backslashes, and contains no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The text is not a signed JWT, its algorithm is unknown, it requires an extension (`crit`), or its claims are
    /// not a JSON object.
    Malformed,
    /// The request has several different tokens, so the origin could read another one than gripd.
    Several,
    /// The token is signed with an algorithm that none of the possible keys is for.
    Algorithm,
    /// No key has the id (`kid`) that the token names.
    UnknownKey,
    /// The token is not signed with any of the possible keys, or it was changed afterwards.
    Signature,
    /// The claim `exp` is missing or is not a number.
    NoExpiry,
    /// The token has expired.
    Expired,
    /// The claim `nbf` is not a number.
    NotBefore,
    /// The token is not valid yet.
    TooEarly,
    /// The claim `iss` does not name the expected issuer.
    Issuer,
    /// The claim `aud` does not contain the expected audience.
    Audience,
    /// The claim that names the user is missing.
    NoUser,
    /// The claim that names the user is neither a string nor a whole number of at most 64 bits.
    UserType,
    /// The user name is empty, is longer than 255 bytes, or contains control characters.
    User,
    /// The claim `channels` is not a list of strings.
    Channels,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "The token is not a signed JWT",
            Self::Several => "The request has several different tokens, but only one is allowed",
            Self::Algorithm => "The token is signed with an algorithm that does not match the key",
            Self::UnknownKey => "The token refers to an unknown key",
            Self::Signature => "The signature of the token is wrong",
            Self::NoExpiry => "The token has no claim 'exp', or the claim is not a number",
            Self::Expired => "The token has expired",
            Self::NotBefore => "The claim 'nbf' of the token is not a number",
            Self::TooEarly => "The token is not valid yet",
            Self::Issuer => "The token is not from the expected issuer (claim 'iss')",
            Self::Audience => "The token is not for the expected audience (claim 'aud')",
            Self::NoUser => "The token has no claim that names the user",
            Self::UserType => "The claim that names the user is neither a string nor a whole number",
            Self::User => "The user name must have 1 to 255 bytes and no control characters",
            Self::Channels => "The claim 'channels' of the token is not a list of strings",
        })
    }
}

impl std::error::Error for TokenError {}
