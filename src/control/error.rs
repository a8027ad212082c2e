//! The errors with which the control API answers requests.

use super::reply::ApiReply;
use std::fmt;

/// The error of a request that was not carried out, or whose effect will not outlive the process.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The request cannot be understood.
    Malformed(String),
    /// The path, or a thing that the request names, does not exist.
    NotFound(String),
    /// The body of the request did not arrive in time.
    Slow,
    /// The request conflicts with the current state.
    Conflict(String),
    /// The body is larger than the limit, which is this number of bytes.
    TooLarge(usize),
    /// The request was carried out, but its effect could not be written to disk and will be lost when gripd stops.
    NotPersisted(String),
}

impl ApiError {
    /// Returns the error for a path that does not exist.
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
            Self::TooLarge(most) => write!(f, "Request body too large: the limit is {most} bytes."),
        }
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for ApiReply {
    fn from(error: ApiError) -> Self {
        Self::text(error.status(), error.to_string())
    }
}
