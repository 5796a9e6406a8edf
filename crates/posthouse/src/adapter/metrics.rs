//! The Prometheus side of `/metrics`.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds; a commit is one fsync and more.
const COMMIT_BUCKETS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
/// Jobs in a batch and items in a queue.
const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// The recorder of this process, installed on first use. All servers of one process (there is only
/// ever one, outside tests) count into it.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), COMMIT_BUCKETS)
            .and_then(|builder| {
                builder
                    .set_buckets_for_metric(Matcher::Full("posthouse_commit_jobs".to_owned()), COUNT_BUCKETS)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_depth".to_owned()), COUNT_BUCKETS)
            })
            .expect("the bucket lists are not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        describe();
        handle
    })
}

fn describe() {
    metrics::describe_gauge!("posthouse_connections", "Open WebSocket connections");
    metrics::describe_gauge!("posthouse_sessions", "Logged-in clients, each device counted");
    metrics::describe_counter!("posthouse_messages_in_total", "Messages accepted from clients");
    metrics::describe_counter!("posthouse_messages_out_total", "Messages pushed to clients");
    metrics::describe_histogram!("posthouse_commit_seconds", "Time of one durable commit");
    metrics::describe_histogram!("posthouse_commit_jobs", "Requests written by one commit");
    metrics::describe_gauge!("posthouse_writer_queue", "Requests waiting for the store's writer");
    metrics::describe_counter!("posthouse_closes_total", "Connections closed, by reason");
    metrics::describe_counter!("posthouse_errors_total", "Refusals told to clients, by code");
    metrics::describe_gauge!("posthouse_resident_bytes", "Memory of this process");
    metrics::gauge!("posthouse_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The page that Prometheus reads.
#[must_use]
pub fn render() -> String {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("posthouse_resident_bytes").set(bytes);
    }
    recorder().render()
}

/// Resident memory as Linux tells it; `None` elsewhere.
fn resident_bytes() -> Option<f64> {
    const PAGE_BYTES: f64 = 4_096.0;
    let pages: f64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}
