//! A body on its way: it has to keep a pace, and of one that is refused the rest is read, so that whoever
//! sends it reads the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// For how long nothing may come.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How much of a refused body is read, in bytes, and for how long.
const READ_ON_MAX: usize = 64 * 1024 * 1024;
const READ_ON_TIME_MAX: Duration = Duration::from_secs(10);

/// A body that several look at, one after the other.
#[derive(Clone)]
pub(super) struct Arrival {
    stream: Arc<Mutex<BodyDataStream>>,
    paused: Arc<AtomicBool>,
}

impl Arrival {
    pub(super) fn new(body: Body) -> Self {
        Self { stream: Arc::new(Mutex::new(body.into_data_stream())), paused: Arc::default() }
    }

    /// What has not come yet, as a body; it breaks off where nothing comes for too long.
    pub(super) fn body(&self) -> Body {
        Body::from_stream(stream::unfold(self.clone(), |arrival| async move {
            let chunk = arrival.next().await?;
            Some((chunk, arrival))
        }))
    }

    /// Whether nothing came for too long.
    pub(super) fn has_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Reads what has not come yet and keeps none of it.
    pub(super) async fn read_on(&self) {
        let reading = async {
            let mut read = 0;
            while let Some(Ok(chunk)) = self.next().await {
                read += chunk.len();
                if read > READ_ON_MAX {
                    break;
                }
            }
        };
        // What doesn't end in time is cut off by the answer.
        drop(timeout(READ_ON_TIME_MAX, reading).await);
    }

    async fn next(&self) -> Option<Result<Bytes, axum::Error>> {
        if self.has_paused() {
            return None;
        }
        match timeout(PAUSE_MAX, self.stream.lock().await.next()).await {
            Ok(chunk) => chunk,
            Err(elapsed) => {
                self.paused.store(true, Ordering::Relaxed);
                Some(Err(axum::Error::new(elapsed)))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn chunks(count: usize) -> Body {
        let chunk = || Ok::<_, axum::Error>(Bytes::from_static(b"12345678"));
        Body::from_stream(stream::iter((0..count).map(move |_| chunk())))
    }

    #[tokio::test]
    async fn what_one_leaves_the_next_reads() {
        let arrival = Arrival::new(chunks(3));
        let mut first = arrival.body().into_data_stream();
        assert_eq!(first.next().await.unwrap().unwrap().len(), 8);
        drop(first);
        assert_eq!(axum::body::to_bytes(arrival.body(), 100).await.unwrap().len(), 16);
        assert!(!arrival.has_paused());
    }

    #[tokio::test]
    async fn of_a_refused_body_the_rest_is_read() {
        let arrival = Arrival::new(chunks(1_000));
        drop(arrival.body().into_data_stream().next().await);
        arrival.read_on().await;
        assert!(arrival.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        let arrival = Arrival::new(silent);
        assert!(axum::body::to_bytes(arrival.body(), 100).await.is_err());
        assert!(arrival.has_paused());
        arrival.read_on().await;
    }
}
