//! The counters stay right whichever way a connection ends.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use posthouse_transport::{Drain, Limits, run, send_queue};
use tokio::io::duplex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use support::Witness;

#[derive(Clone, Default)]
struct Ledger {
    cells: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

impl Ledger {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        let mut cells = self.cells.lock().unwrap();
        Arc::clone(cells.entry(name.trim().to_owned()).or_default())
    }

    fn read(&self, name: &str) -> u64 {
        let cells = self.cells.lock().unwrap();
        cells.get(name).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// A gauge keeps the bits of a float.
    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.read(name))
    }
}

impl Recorder for Ledger {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn a_panic_leaves_the_metrics_right() {
    let ledger = Ledger::default();
    metrics::set_global_recorder(ledger.clone()).unwrap();
    for last in ["quit", "panic"] {
        let (near, far) = duplex(4096);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (witness, _ends) = Witness::new();
        let (pusher, queue) = send_queue(8, 1024);
        let script = witness.script(pusher);
        let drain = Drain::new();
        let task = tokio::spawn(run(far, Bytes::new(), script, queue, Limits::default(), drain.signal()));
        client.send(Message::text("four")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("four"));
        assert!((ledger.gauge("posthouse_connections") - 1.0).abs() < 0.1);
        client.send(Message::text(last)).await.unwrap();
        while let Some(Ok(_)) = client.next().await {}
        drop(client);
        assert_eq!(task.await.is_err(), last == "panic");
        assert!(drain.finished(Duration::ZERO).await);
        assert!(ledger.gauge("posthouse_connections").abs() < 0.1);
    }
    assert_eq!(ledger.read("posthouse_connections_total"), 2);
    assert_eq!(ledger.read("posthouse_closes_total by_protocol"), 1);
    assert_eq!(ledger.read("posthouse_closes_total panic"), 1);
    assert_eq!(ledger.read("posthouse_frames_in_total"), 4);
    assert_eq!(ledger.read("posthouse_frames_out_total"), 3);
    assert_eq!(ledger.read("posthouse_bytes_in_total"), 4 + 4 + 4 + 5);
    assert_eq!(ledger.read("posthouse_bytes_out_total"), 4 + 4 + 10);
}
