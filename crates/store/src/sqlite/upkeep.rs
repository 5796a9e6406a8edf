//! Forgetting what is over, and closing.

use async_trait::async_trait;
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::port::store::Upkeep;
use tokio::sync::oneshot;

use super::SqliteStore;
use super::shards::remove;
use super::writer::Request;

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

    async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.writer.push_last(Request::Close(reply)) {
            metrics::gauge!("posthouse_writer_queue").increment(1.0);
            answer.await.map_err(|_| Error::Store(StoreFault::Failed))?;
        }
        Ok(())
    }
}
