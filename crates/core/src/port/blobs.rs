//! The blobs port: files that clients upload and messages point to.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::id::AppId;
use crate::time::Timestamp;

/// A stored file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Its id: 32 lower-case hex digits of chance, so that nobody guesses it.
    pub id: String,
    /// What the uploader called it.
    pub name: String,
    /// Its media type, as the uploader said.
    pub media_type: String,
    /// What opens it; `None` for a file that its id alone opens.
    pub secret: Option<String>,
    /// When it was uploaded.
    pub at: Timestamp,
}

/// A place for files.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a file; it is on disk when this returns. Its id must be new. Fails with a
    /// [`crate::error::StoreFault`].
    async fn put(&self, app: &AppId, blob: Blob, bytes: Bytes) -> Result<()>;

    /// A file of the app, if there is one with this id.
    async fn get(&self, app: &AppId, id: &str) -> Result<Option<(Blob, Bytes)>>;
}
