//! Metrics for operators, in the text format of Prometheus.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge as GaugeSample, Metric, MetricFamily, MetricType};
use prometheus::{HistogramOpts, Opts, TextEncoder};
use std::collections::HashMap;
use std::fmt;

pub use prometheus::{Histogram, IntCounter as Counter, IntCounterVec as CounterFamily, IntGauge as Gauge};

/// The media type of [`MetricsRegistry::render`].
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// The metrics of a gripd process. Each part registers its own metrics. Their names begin with `gripd_` when they
/// are shown.
///
/// Counting takes one atomic addition, so shards count on their own threads. The methods that register a metric
/// panic if its name is taken or is not a valid name in Prometheus, because that is a mistake in the program.
#[derive(Clone)]
pub struct MetricsRegistry(prometheus::Registry);

impl MetricsRegistry {
    /// Returns an empty registry.
    pub fn new() -> Self {
        Self(valid(prometheus::Registry::new_custom(Some("gripd".to_owned()), None)))
    }

    /// Registers a number that only grows. Its name must end in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(valid(Counter::new(name, help)))
    }

    /// Registers numbers that only grow, one for each combination of the values of these labels. Their name must end
    /// in `_total`.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterFamily {
        self.register(valid(CounterFamily::new(Opts::new(name, help), labels)))
    }

    /// Registers a number that grows and shrinks.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(valid(Gauge::new(name, help)))
    }

    /// Registers a gauge whose value is looked up by a call of `value` whenever the metrics are shown.
    pub fn look_up(&self, name: &str, help: &str, value: impl Fn() -> u64 + Send + Sync + 'static) {
        let desc = valid(Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new()));
        valid(self.0.register(Box::new(GaugeFn { desc, value })));
    }

    /// Registers a histogram. For each of the `bounds`, it shows how many values are at most that bound.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.register(valid(Histogram::with_opts(options)))
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        valid(self.0.register(Box::new(collector.clone())));
        collector
    }

    /// Returns all metrics in version 0.0.4 of the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = TextEncoder::new().encode_utf8(&self.0.gather(), &mut text);
        text
    }
}

impl Default for MetricsRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MetricsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsRegistry").finish_non_exhaustive()
    }
}

fn valid<T>(made: prometheus::Result<T>) -> T {
    made.unwrap_or_else(|error| panic!("internal error: a metric is not valid: {error}"))
}

/// A gauge whose value is looked up when the metrics are shown.
struct GaugeFn<F> {
    desc: Desc,
    value: F,
}

impl<F: Fn() -> u64 + Send + Sync> Collector for GaugeFn<F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut gauge = GaugeSample::default();
        gauge.set_value((self.value)() as f64);
        let mut metric = Metric::default();
        metric.set_gauge(gauge);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind_are_shown() {
        let registry = MetricsRegistry::new();
        registry.counter("a_total", "A counter.").inc_by(12_345_678_901);
        registry.gauge("b", "A gauge.").add(-3);
        registry.look_up("c", "A number that is looked up.", || 7);
        registry.counters("d_total", "Counters.", &["kind"]).with_label_values(&["x"]).inc();
        registry.histogram("e_seconds", "A histogram.", &[0.5, 1.0]).observe(0.75);
        let text = registry.render();
        for expected in [
            "# HELP gripd_a_total A counter.\n# TYPE gripd_a_total counter\ngripd_a_total 12345678901\n",
            "# TYPE gripd_b gauge\ngripd_b -3\n",
            "# TYPE gripd_c gauge\ngripd_c 7\n",
            "gripd_d_total{kind=\"x\"} 1\n",
            "gripd_e_seconds_bucket{le=\"0.5\"} 0\ngripd_e_seconds_bucket{le=\"1\"} 1\n",
            "gripd_e_seconds_sum 0.75\ngripd_e_seconds_count 1\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    #[should_panic(expected = "internal error: a metric is not valid")]
    fn a_name_is_registered_once() {
        let registry = MetricsRegistry::new();
        registry.counter("a_total", "One.");
        registry.counter("a_total", "Another.");
    }
}
