//! The command `gripd check`, which checks the configuration.

use super::args::ConfigSource;
use super::{CONFIG, OK, refuse, say};
use crate::config::{Config, unknown_variables};
use crate::daemon::{TrialFinding, try_out};
use crate::route::Route;

/// Runs `gripd check`, which reports all errors in the configuration, tries what it names, and sums up what would run.
/// Returns the exit code.
pub(super) fn check(source: &ConfigSource) -> u8 {
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    for finding in try_out(&config) {
        match finding {
            TrialFinding::Problem(text) => problems.push(text),
            TrialFinding::Note(text) => notes.push(text),
        }
    }
    let count = config.routes.as_ref().map_or(0, |table| table.routes().count());
    let plural = if count == 1 { "" } else { "s" };
    for name in unknown_variables(&source.overrides.environment) {
        notes.push(format!("the environment variable {name} is no setting, and has no effect"));
    }
    let verdict = format!("The configuration is valid: {count} route{plural}.\n");
    let notes: String = notes.iter().map(|note| format!("Note: {note}\n")).collect();
    say(&format!("{}{}{notes}", if problems.is_empty() { &verdict } else { "" }, summary(&config)));
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    if problems.is_empty() { OK } else { CONFIG }
}

/// Returns what would run with a configuration, one line for each part.
fn summary(config: &Config) -> String {
    let mut lines = vec![format!("clients     {}", config.listen)];
    let tokens = match config.control.access.tokens() {
        0 => "no token is needed".to_owned(),
        1 => "1 token".to_owned(),
        count => format!("{count} tokens"),
    };
    lines.push(format!("publishers  {} ({tokens})", config.control_listen));
    lines.extend(config.control.unix.iter().map(|unix| format!("publishers  {unix}")));
    lines.extend(config.control.health.iter().map(|health| format!("health      {health}")));
    lines.push(format!("threads     {}", config.shards));
    lines.extend(config.hub.state_dir.iter().map(|folder| format!("state       {}", folder.display())));
    if !config.notify.hooks.is_empty() {
        lines.push(format!("webhooks    {}", config.notify.hooks.len()));
    }
    match &config.routes {
        None => lines.push("route       the demo".to_owned()),
        Some(table) => lines.extend(table.routes().map(|route| format!("route       {}", route_line(route)))),
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

fn route_line(route: &Route) -> String {
    let targets: Vec<String> = route.targets.iter().map(ToString::to_string).collect();
    format!("{} -> {}", route.name, targets.join(" or "))
}
