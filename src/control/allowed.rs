//! `GET`, `PUT` and `DELETE /allowed`, and `PUT` and `DELETE /allowed/PATTERN`.

use super::Control;
use super::body;
use super::error::ApiError;
use super::query::{Query, name};
use super::reply::{Media, Reply};
use crate::cluster::Cluster;
use crate::grip::json;
use crate::hub::{Change, Rules, Unchanged};
use hyper::body::Incoming;
use hyper::{Method, Request};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// The reply with the lists of allowed channels of all routes.
#[derive(Serialize)]
struct All {
    routes: Vec<Rules>,
}

/// The request body that replaces the list of a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    channels: Vec<String>,
}

/// Returns the lists of allowed channels of all routes.
pub(super) fn list(cluster: &Cluster, query: Option<&str>) -> Result<Reply, ApiError> {
    Query::read(query, &[])?;
    Ok(Reply::json(&All { routes: cluster.rules() }))
}

/// Changes the list of allowed channels of a route: the whole list, or one pattern of it.
pub(super) async fn change(
    control: &Control,
    media: Media,
    pattern: Option<&str>,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let query = Query::read(request.uri().query(), &["route"])?;
    if pattern.is_none() && request.uri().path().ends_with('/') {
        return Err(ApiError::Malformed(
            "The path has no pattern after the slash. Use /allowed for the whole list.".to_owned(),
        ));
    }
    let pattern = pattern.map(name).transpose()?;
    let change = match (pattern, request.method()) {
        (Some(pattern), &Method::PUT) => Change::Add(pattern),
        (Some(pattern), _) => Change::Remove(pattern),
        (None, &Method::PUT) => Change::Replace(patterns(&body::read(control, request.into_body()).await?)?),
        (None, _) => Change::Reset,
    };
    let rules = control.cluster.change_rule(query.get("route"), &change).await.map_err(refusal)?;
    tracing::info!(route = rules.route, channels = ?rules.channels, "the allowed channels have changed");
    control
        .cluster
        .kept()
        .await
        .map_err(|why| ApiError::NotPersisted(format!("Changed, but only until gripd stops: {why}")))?;
    Ok(Reply::done(media, "Changed", &rules))
}

fn patterns(body: &[u8]) -> Result<Vec<String>, ApiError> {
    let wrong = |error: &dyn Display| ApiError::Malformed(format!("The body must be {{\"channels\": [...]}}: {error}"));
    let value = json::read(body).map_err(|error| wrong(&error))?;
    let list: List = serde_json::from_value(value).map_err(|error| wrong(&error))?;
    Ok(list.channels)
}

fn refusal(unchanged: Unchanged) -> ApiError {
    match unchanged {
        Unchanged::Route(known) => {
            ApiError::NotFound(format!("The query must name a route, as in ?route=NAME. The routes are {known}."))
        }
        Unchanged::Pattern(pattern) => ApiError::NotFound(format!("The pattern '{pattern}' is not in the list.")),
        Unchanged::Free(route) => ApiError::Conflict(format!(
            "The route '{route}' has no list of allowed channels. Adding one pattern would refuse all other channels. Create the list with PUT /allowed first."
        )),
        Unchanged::Invalid(error) => ApiError::Malformed(error.to_string()),
    }
}
