//! `GET /metrics`, in the text format of Prometheus.

use super::reply::Reply;
use std::fmt::Write;

const MEDIA: &str = "text/plain; version=0.0.4";

/// A number that is shown to operators.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without `gripd_`. One that ends in `_total` only grows.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The number now.
    pub value: u64,
}

pub(super) fn render(metrics: &[Metric]) -> Reply {
    let mut text = String::new();
    for Metric { name, help, value } in metrics {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP gripd_{name} {help}\n# TYPE gripd_{name} {kind}\ngripd_{name} {value}\n");
    }
    Reply::other(MEDIA, text)
}
