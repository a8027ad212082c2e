//! The reasons why the control API does not carry out a request.

use super::reply::Reply;
use std::fmt;

/// The reason why a request is not carried out, or not wholly.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The request cannot be understood.
    Malformed(String),
    /// There is no such thing.
    NotFound(String),
    /// The request did not arrive in time.
    Slow,
    /// The request conflicts with the current state.
    Conflict(String),
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The request was carried out, and what it changed will be forgotten when gripd ends.
    NotPersisted(String),
}

impl ApiError {
    /// Returns an error for a path that names nothing.
    pub(super) fn no_such_place() -> Self {
        Self::NotFound("Not Found".to_owned())
    }

    const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotFound(_) => 404,
            Self::Slow => 408,
            Self::Conflict(_) => 409,
            Self::TooLarge(_) => 413,
            Self::NotPersisted(_) => 500,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::NotFound(why) | Self::Conflict(why) | Self::NotPersisted(why) => {
                f.write_str(why)
            }
            Self::Slow => f.write_str("The request body did not arrive in time."),
            Self::TooLarge(most) => write!(f, "Request body too large: it may have {most} bytes."),
        }
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self::text(error.status(), error.to_string())
    }
}
