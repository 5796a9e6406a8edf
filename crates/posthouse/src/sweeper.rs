//! The sweeper: does what must happen unasked, because the domain has no timers.

use std::sync::Arc;
use std::time::Duration;

use posthouse_core::Posthouse;
use tokio::time::{MissedTickBehavior, interval};

/// Wills and offline notices may be this late.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// What devices have acknowledged is written down this often; a power cut takes the rest.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// Apps made or changed by another process take effect within this time, and a little.
const APPS_EVERY: Duration = Duration::from_millis(400);
/// What is over is refused on access already; this only frees the disk.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Histograms collect samples until somebody sorts them in.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Runs for ever; the owner aborts it.
pub async fn run(posthouse: Arc<Posthouse>) {
    let every = |period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut sweep, mut apps, mut forget, mut upkeep) =
        (every(SWEEP_EVERY), every(APPS_EVERY), every(FORGET_EVERY), every(METRICS_EVERY));
    // Writing may take seconds when the disk is slow; wills don't wait for it.
    let mut flush = every(FLUSH_EVERY);
    let flushing = async {
        loop {
            flush.tick().await;
            if let Err(error) = posthouse.flush_positions().await {
                tracing::warn!(%error, "how far devices have got can't be written yet");
            }
        }
    };
    let forgetting = async {
        loop {
            forget.tick().await;
            forget_all(&posthouse).await;
        }
    };
    tokio::pin!(forgetting, flushing);
    loop {
        tokio::select! {
            () = &mut forgetting => {}
            () = &mut flushing => {}
            _ = sweep.tick() => posthouse.sweep().await,
            _ = apps.tick() => match posthouse.reload_apps().await {
                Ok(true) => tracing::info!("apps were reloaded"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "apps can't be reloaded; the old ones stay in force"),
            },
            _ = upkeep.tick() => crate::adapter::metrics::recorder().run_upkeep(),
        }
    }
}

async fn forget_all(posthouse: &Posthouse) {
    posthouse.forget_rested();
    match posthouse.forget_expired().await {
        Ok(0) => {}
        Ok(buckets) => tracing::info!(buckets, "forgot expired temporary conversations"),
        Err(error) => tracing::warn!(%error, "expired temporary conversations can't be forgotten yet"),
    }
    forget_slices("old notifications", || posthouse.forget_notifications()).await;
    forget_slices("deleted messages", || posthouse.forget_deleted()).await;
    forget_slices("devices long gone", || posthouse.forget_devices()).await;
}

/// Slice by slice until none is left, each in a commit that live traffic shares.
async fn forget_slices<F>(what: &str, mut forget: impl FnMut() -> F)
where
    F: Future<Output = posthouse_core::Result<usize>>,
{
    loop {
        match forget().await {
            Ok(0) => return,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, what, "can't be forgotten yet");
                return;
            }
        }
    }
}
