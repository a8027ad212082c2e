//! The query of a request, and names in its path.

use super::error::ApiError;
use crate::grip::form;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The number of rows in a page, unless the request sets another.
const DEFAULT_LIMIT: usize = 100;
/// The largest number of rows in a page.
const MAX_LIMIT: usize = 1000;

/// The parameters of a query.
pub(super) struct QueryParams(Vec<(&'static str, String)>);

impl QueryParams {
    /// Parses a query. Only the parameters in `known` are allowed.
    ///
    /// # Errors
    /// A parameter is unknown, or its value is not valid UTF-8.
    pub(super) fn read(query: Option<&str>, known: &[&'static str]) -> Result<Self, ApiError> {
        let mut parameters = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(value) = form::decode(value) else {
                return Err(ApiError::Malformed(format!("The query parameter '{name}' is not valid UTF-8.")));
            };
            match known.iter().find(|known| **known == name) {
                Some(known) => parameters.push((*known, value.into_owned())),
                None => {
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    return Err(ApiError::Malformed(format!(
                        "Unknown query parameter '{name}'. Valid parameters: {known}."
                    )));
                }
            }
        }
        Ok(Self(parameters))
    }

    /// Returns the last value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the number of rows that the request asks for.
    ///
    /// # Errors
    /// The parameter `limit` is not a number from 1 to 1000.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        match self.get("limit").map(str::parse) {
            None => Ok(DEFAULT_LIMIT),
            Some(Ok(limit @ 1..=MAX_LIMIT)) => Ok(limit),
            Some(_) => Err(ApiError::Malformed(format!("limit must be 1 to {MAX_LIMIT}."))),
        }
    }
}

/// Decodes a name in a path. The whole name is percent-encoded, including its slashes.
///
/// # Errors
/// The name is not valid UTF-8.
pub(super) fn name(text: &str) -> Result<String, ApiError> {
    let name = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    name.map_err(|_| ApiError::Malformed("The name in the path is not UTF-8.".to_owned()))
}
