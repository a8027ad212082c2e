//! `GET`, `PUT` and `DELETE /allowed`, and `PUT` and `DELETE /allowed/PATTERN`.

use super::ControlApi;
use super::body;
use super::error::ApiError;
use super::query::{QueryParams, name};
use super::reply::{ApiReply, MediaType};
use crate::cluster::Cluster;
use crate::grip::json;
use crate::hub::{RouteRule, RuleChange, RuleChangeError};
use hyper::body::Incoming;
use hyper::{Method, Request};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// The reply with the lists of allowed channels of all routes.
#[derive(Serialize)]
struct AllRules {
    routes: Vec<RouteRule>,
}

/// The request body that replaces the list of a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternList {
    channels: Vec<String>,
}

/// Returns the lists of allowed channels of all routes.
pub(super) fn list(cluster: &Cluster, query: Option<&str>) -> Result<ApiReply, ApiError> {
    QueryParams::read(query, &[])?;
    Ok(ApiReply::json(&AllRules { routes: cluster.rules() }))
}

/// Changes the list of allowed channels of a route: the whole list, or one pattern of it.
pub(super) async fn change(
    control: &ControlApi,
    media: MediaType,
    pattern: Option<&str>,
    request: Request<Incoming>,
) -> Result<ApiReply, ApiError> {
    let query = QueryParams::read(request.uri().query(), &["route"])?;
    if pattern.is_none() && request.uri().path().ends_with('/') {
        return Err(ApiError::Malformed(
            "The path has no pattern after the slash. Use /allowed for the whole list.".to_owned(),
        ));
    }
    let pattern = pattern.map(name).transpose()?;
    let change = match (pattern, request.method()) {
        (Some(pattern), &Method::PUT) => RuleChange::Add(pattern),
        (Some(pattern), _) => RuleChange::Remove(pattern),
        (None, &Method::PUT) => RuleChange::Replace(patterns(&body::read(control, request.into_body()).await?)?),
        (None, _) => RuleChange::Reset,
    };
    let rules = control.cluster.change_rule(query.get("route"), &change).await.map_err(refusal)?;
    tracing::info!(route = rules.route, channels = ?rules.channels, "the allowed channels have changed");
    control.cluster.wait_until_persisted().await.map_err(|why| {
        ApiError::NotPersisted(format!("Changed, but the change will be lost when gripd stops: {why}"))
    })?;
    Ok(ApiReply::done(media, "Changed", &rules))
}

fn patterns(body: &[u8]) -> Result<Vec<String>, ApiError> {
    let wrong = |error: &dyn Display| ApiError::Malformed(format!("The body must be {{\"channels\": [...]}}: {error}"));
    let value = json::read(body).map_err(|error| wrong(&error))?;
    let list: PatternList = serde_json::from_value(value).map_err(|error| wrong(&error))?;
    Ok(list.channels)
}

fn refusal(unchanged: RuleChangeError) -> ApiError {
    match unchanged {
        RuleChangeError::Route(known) => {
            ApiError::NotFound(format!("The query must name a route, as in ?route=NAME. The routes are {known}."))
        }
        RuleChangeError::Pattern(pattern) => ApiError::NotFound(format!("The pattern '{pattern}' is not in the list.")),
        RuleChangeError::NoRule(route) => ApiError::Conflict(format!(
            "The route '{route}' has no list of allowed channels. Adding one pattern would refuse all other \
             channels. Create the list with PUT /allowed first."
        )),
        RuleChangeError::Invalid(error) => ApiError::Malformed(error.to_string()),
    }
}
