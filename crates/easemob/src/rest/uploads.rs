//! Whose turn it is to upload a file.
//!
//! Files on their way are held in memory, so there are few at a time; and one uploader has only some of
//! these places, so that nobody stops the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use posthouse_core::id::{AppId, ClientId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Files on their way at a time.
const AT_ONCE: usize = 8;
/// Those of one user, and those of an app's back end.
const OF_USER: usize = 2;
const OF_SERVER: usize = 4;
/// Uploaders remembered beyond those who upload or wait.
const REMEMBERED_MAX: usize = 64;

/// Who uploads: a user of an app, or its back end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Uploader {
    /// The app.
    pub(crate) app: AppId,
    /// The user; `None` for the back end.
    pub(crate) client: Option<ClientId>,
}

/// The places for files on their way.
pub(crate) struct Uploads {
    all: Arc<Semaphore>,
    by_uploader: Mutex<HashMap<Uploader, Arc<Semaphore>>>,
}

/// A place, as long as it is held.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), by_uploader: Mutex::default() }
    }

    /// Waits for a place; `None` if there will be none any more. Who waits for one of its own keeps none
    /// of the others' from them.
    pub(crate) async fn turn(&self, uploader: Uploader) -> Option<Turn> {
        let own = self.own(uploader).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _own: own, _of_all: of_all })
    }

    fn own(&self, uploader: Uploader) -> Arc<Semaphore> {
        let mut by_uploader = self.by_uploader.lock().unwrap_or_else(PoisonError::into_inner);
        if by_uploader.len() >= REMEMBERED_MAX {
            // Whoever uploads or waits has a hand on it.
            by_uploader.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = if uploader.client.is_some() { OF_USER } else { OF_SERVER };
        Arc::clone(by_uploader.entry(uploader).or_insert_with(|| Arc::new(Semaphore::new(places))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn uploader(client: Option<&str>) -> Uploader {
        let client = client.map(|client| ClientId::parse(client).unwrap());
        Uploader { app: AppId::parse("a1").unwrap(), client }
    }

    async fn turn(uploads: &Uploads, client: Option<&str>) -> Option<Turn> {
        timeout(Duration::from_millis(1), uploads.turn(uploader(client))).await.ok().flatten()
    }

    #[tokio::test]
    async fn nobody_has_all_the_places() {
        let uploads = Uploads::new();
        let mut held = Vec::new();
        for (client, places) in [(Some("alice"), 2), (None, 4), (Some("bob"), 2)] {
            for _ in 0..places {
                held.push(turn(&uploads, client).await.unwrap());
            }
            assert!(turn(&uploads, client).await.is_none(), "{client:?}");
        }
        assert!(turn(&uploads, Some("carol")).await.is_none());
        held.remove(0);
        assert!(turn(&uploads, Some("bob")).await.is_none());
        assert!(turn(&uploads, Some("carol")).await.is_some());
        assert!(turn(&uploads, Some("alice")).await.is_some());
    }

    #[tokio::test]
    async fn uploaders_are_forgotten() {
        let uploads = Uploads::new();
        let held = turn(&uploads, Some("alice")).await.unwrap();
        for n in 0..1_000 {
            assert!(turn(&uploads, Some(&format!("u{n}"))).await.is_some());
        }
        assert!(uploads.by_uploader.lock().unwrap().len() <= REMEMBERED_MAX);
        assert!(uploads.by_uploader.lock().unwrap().contains_key(&uploader(Some("alice"))));
        drop(held);
    }
}
