//! The routes, from the command line, a routes file or tables of the configuration file, and the keys that they name.

use super::environment;
use super::error::{ConfigError, Problem};
use super::file::ConfigFile;
use super::file_path::{display_name, folder};
use super::places::SettingPlaces;
use super::{Overrides, keys};
use crate::grip::InvalidText;
use crate::grip::identity::TokenChecker;
use crate::grip::signature::Signer;
use crate::route::{InvalidLine, Route, RouteSigner, RouteTable, UserSource, parse_line, parse_lines};
use crate::wire::{ProxyHeader, TrustedProxies};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A route, and the place where it is written, which errors name.
struct PlacedRoute {
    place: String,
    /// The folder to which the paths of files in the route are relative.
    folder: PathBuf,
    route: Route,
}

/// The routes that could be read, and the problems of the others.
#[derive(Default)]
struct FoundRoutes {
    routes: Vec<PlacedRoute>,
    problems: Vec<Problem>,
}

/// Returns the path of the routes file, if the configuration file names one.
pub(super) fn routes_file(path: Option<&Path>, file: &ConfigFile) -> Option<PathBuf> {
    file.routes.as_ref().map(|name| folder(path).join(name))
}

/// Returns the routes of the command line if it has any, or else those of the environment, or else those of the routes
/// file and of the configuration file. Returns `None` for the demo, or if there is an error. It is an error if there
/// are no routes, or if there are any for the demo. All errors are added to `error`.
pub(super) fn load(
    path: Option<&Path>,
    file: &ConfigFile,
    places: &SettingPlaces,
    overrides: &Overrides,
    error: &mut ConfigError,
) -> Option<Arc<RouteTable>> {
    let mut found = FoundRoutes::default();
    let in_environment = environment::routes(&overrides.environment);
    // A line may contain a key, so it is not repeated.
    for (index, line) in overrides.routes.iter().enumerate() {
        found.add(parse_line(line), "", &format!("--route number {}: ", index + 1), PathBuf::new());
    }
    if overrides.routes.is_empty() {
        for (index, line) in in_environment.iter().enumerate() {
            let line_number = format!("line {}: ", index + 1);
            found.add(parse_line(line), "the environment variable GRIPD_ROUTE", &line_number, PathBuf::new());
        }
    }
    if overrides.routes.is_empty() && in_environment.is_empty() {
        if let Some(name) = routes_file(path, file) {
            found.read(&name);
        }
        for (index, route) in file.route.iter().enumerate() {
            let place = places.of_entry("route", index);
            found.add(parse_line(&route.line()), place, "", folder(path).to_path_buf());
        }
    }
    // A route with an error may be left out, so that no conclusion can be drawn from what is left.
    if found.problems.is_empty() && error.is_empty() {
        found.problems.extend(purpose_problem(path, file, overrides, !found.routes.is_empty()));
    }
    let written: Vec<String> = found.routes.iter().map(|placed| placed.place.clone()).collect();
    let table = RouteTable::new(found.finish(file));
    error.extend(found.problems);
    match table {
        Ok(table) => Some(Arc::new(table)).filter(|_| !overrides.demo && error.is_empty()),
        Err((index, invalid)) => {
            error.push(written.get(index).map_or("", |place| place), invalid.to_string());
            None
        }
    }
}

/// Returns the problem that there are no routes although gripd is not to run the demo, or that there are some for the
/// demo. The demo lets everybody kick everybody, so it must not run by accident in the place of the routes.
fn purpose_problem(path: Option<&Path>, file: &ConfigFile, overrides: &Overrides, routed: bool) -> Option<Problem> {
    let place = routes_file(path, file).filter(|_| overrides.routes.is_empty());
    let place = place.map_or_else(|| display_name(path), |place| place.display().to_string());
    match (routed, overrides.demo) {
        (true, true) => Some(Problem::new(
            &place,
            "the demo serves only its own chat: remove the routes, or run gripd without the word 'demo'",
        )),
        (false, false) => Some(Problem::new(
            &place,
            "there are no routes: add one, such as [[route]] with target = \"localhost:8000\" in the configuration \
             file, or --route '* localhost:8000' on the command line. To try gripd out, run 'gripd demo'",
        )),
        _ => None,
    }
}

impl FoundRoutes {
    fn read(&mut self, path: &Path) {
        let place = path.display().to_string();
        let folder = folder(Some(path)).to_path_buf();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(Problem::new(&place, format!("cannot be read: {error}"))),
        };
        match parse_lines(&text) {
            Ok(routes) => {
                let placed =
                    |(line, route)| PlacedRoute { place: format!("{place}:{line}"), folder: folder.clone(), route };
                self.routes.extend(routes.into_iter().map(placed));
            }
            Err(errors) => {
                let located = |(line, invalid): (usize, InvalidText)| {
                    Problem::new(&format!("{place}:{line}"), invalid.to_string())
                };
                self.problems.extend(errors.into_iter().map(located));
            }
        }
    }

    fn add(&mut self, parsed: Result<Option<Route>, InvalidLine>, place: &str, what: &str, folder: PathBuf) {
        match parsed {
            Ok(None) => {}
            Ok(Some(route)) => self.routes.push(PlacedRoute { place: place.to_owned(), folder, route }),
            Err(InvalidLine(all)) => {
                let problem = |invalid| Problem::new(place, format!("{what}{invalid}"));
                self.problems.extend(all.iter().map(problem));
            }
        }
    }

    /// Returns the routes, completed by the keys that they name and by the settings that are common to all routes.
    /// Problems are added to the others.
    fn finish(&mut self, file: &ConfigFile) -> Vec<Route> {
        let mut routes = Vec::new();
        for PlacedRoute { place, folder, mut route } in self.routes.drain(..) {
            route.cors |= file.client.auto_cross_origin;
            if route.signing.key.is_some() || route.signing.issuer.is_some() {
                let key = route.signing.key.as_ref().map_or(&file.origin.sig_key, |own| own);
                let issuer = route.signing.issuer.as_ref().unwrap_or(&file.origin.sig_iss);
                let signer = keys::read(key, &folder).and_then(|key| Signer::new(issuer, &key));
                match signer {
                    Ok(Some(signer)) => route.signer = RouteSigner::Own(Arc::new(signer)),
                    Ok(None) => route.signer = RouteSigner::Nobody,
                    Err(invalid) => {
                        let what = format!("route '{}': sig_key: {invalid}", route.name);
                        self.problems.push(Problem::new(&place, what));
                    }
                }
            }
            let users = load_tokens(&mut route, &folder).and_then(|()| know_proxies(&mut route, file));
            if let Err(invalid) = users {
                let what = format!("route '{}': {invalid}", route.name);
                self.problems.push(Problem::new(&place, what));
            }
            routes.push(route);
        }
        routes
    }
}

/// Takes the list of proxies that may name the users of a route from `[client] proxies`, unless the route has a list
/// of its own.
///
/// # Errors
/// The route has no list, and `[client] proxies` is empty.
fn know_proxies(route: &mut Route, file: &ConfigFile) -> Result<(), String> {
    let Some(users) = &mut route.users else { return Ok(()) };
    let UserSource::Header(_, proxies) = &mut Arc::make_mut(users).source else { return Ok(()) };
    if !proxies.networks().is_empty() {
        return Ok(());
    }
    let all = file.client.proxies.as_deref().unwrap_or_default();
    if all.is_empty() {
        return Err(
            "user_header requires the list of proxies that may set it: set user_proxies or [client] proxies".into()
        );
    }
    // Invalid addresses in `[client] proxies` are reported as an error of that setting.
    *proxies = TrustedProxies::new(super::networks(all).unwrap_or_default(), ProxyHeader::default());
    Ok(())
}

/// Returns the paths of the JSON Web Key Sets that routes use.
pub(super) fn key_sets(routes: &RouteTable) -> impl Iterator<Item = PathBuf> {
    routes.routes().filter_map(|route| match &route.users.as_ref()?.source {
        UserSource::Token(bearer) => bearer.key_set.as_ref().map(PathBuf::from),
        UserSource::Meta(_) | UserSource::Header(..) => None,
    })
}

/// Reads the keys that verify the tokens of a route's clients. The paths of their files are relative to `folder`.
///
/// # Errors
/// The keys cannot be read, or cannot verify tokens.
fn load_tokens(route: &mut Route, folder: &Path) -> Result<(), String> {
    let Some(users) = &mut route.users else { return Ok(()) };
    let UserSource::Token(bearer) = &mut Arc::make_mut(users).source else { return Ok(()) };
    let expected = bearer.expected.clone();
    let tokens = if let Some(name) = &bearer.key_set {
        let path = folder.join(name);
        let wrong = |error: &dyn std::fmt::Display| format!("user_jwks: {}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
        let tokens = TokenChecker::of_jwks(&text, expected).map_err(|error| wrong(&error));
        bearer.key_set = path.to_str().map(str::to_owned);
        tokens
    } else {
        let key = bearer.key.as_deref().unwrap_or_default();
        let tokens = keys::read(key, folder).and_then(|key| TokenChecker::of_key(&key, expected));
        tokens.map_err(|error| format!("user_key: {error}"))
    };
    bearer.tokens = Some(Arc::new(tokens?));
    Ok(())
}
