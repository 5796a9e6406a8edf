//! Forgetting what is over, and closing.

use async_trait::async_trait;
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::port::store::Upkeep;
use posthouse_core::time::Timestamp;
use tokio::sync::oneshot;

use super::SqliteStore;
use super::shards::remove;
use super::writer::{Outcome, Request};

/// Entries forgotten in one transaction: a few milliseconds of the writer's time.
const FORGOTTEN_AT_ONCE: i64 = 500;

#[async_trait]
impl Upkeep for SqliteStore {
    async fn forget_expired(&self) -> Result<usize> {
        if self.shards.over(self.options.clock.now()).is_empty() {
            return Ok(0);
        }
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Forget(reply))?;
        let hidden = answer.await.map_err(|_| Error::Store(StoreFault::Closing))?;
        // Unlinking a large file takes long; a reading thread can spare the time, the writer can't.
        let dropped = hidden.len();
        for path in hidden {
            self.read(move |_| {
                remove(&path);
                Ok(())
            })
            .await?;
        }
        Ok(dropped)
    }

    async fn forget_missed(&self, before: Timestamp) -> Result<usize> {
        // Ids grow with time, so the oldest entries are found without an index of their times.
        self.write_main(move |tx| {
            let forgotten = tx
                .db
                .prepare_cached(
                    "DELETE FROM inbox WHERE at < ?1 AND id IN (SELECT id FROM inbox ORDER BY id LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            let emptied = tx
                .db
                .prepare_cached(
                    "UPDATE change SET data = NULL WHERE at < ?1 AND id IN \
                     (SELECT id FROM change INDEXED BY change_kept WHERE data IS NOT NULL ORDER BY id LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            Ok(Outcome::Written(forgotten + emptied))
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.writer.push_last(Request::Close(reply)) {
            metrics::gauge!("posthouse_writer_queue").increment(1.0);
            answer.await.map_err(|_| Error::Store(StoreFault::Failed))?;
        }
        Ok(())
    }
}
