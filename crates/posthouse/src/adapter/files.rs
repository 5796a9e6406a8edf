//! Files that clients upload, in the data directory: `files/<app>/<xx>/<id>` with what is known of each
//! beside it in `<id>.json`, readable by the server's user only.
//!
//! A file is written under another name, flushed and then renamed, its description before it: what
//! has its name is whole and described, whenever the power fails.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use posthouse_core::Result;
use posthouse_core::error::{Error, StoreFault};
use posthouse_core::id::AppId;
use posthouse_core::port::blobs::{Blob, Blobs};
use posthouse_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Files read or written at a time: each is held in memory meanwhile.
const AT_ONCE: usize = 16;
/// Hex digits of an id.
const ID_DIGITS: usize = 32;

/// A place for files in the data directory.
#[derive(Debug)]
pub struct FileBlobs {
    root: PathBuf,
    turns: Arc<Semaphore>,
}

/// What is known of a file.
#[derive(Serialize, Deserialize)]
struct Description {
    name: String,
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    at: i64,
}

impl FileBlobs {
    /// Files below `data`, the server's data directory. Directories are made as they are needed.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { root: data.join("files"), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does `work` on the disk, beside the threads that serve everybody.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Error::Store(StoreFault::Closing))?;
        let working = tokio::task::spawn_blocking(move || {
            // Held by the work itself, which goes on when nobody waits for it any more.
            let _turn = turn;
            work()
        });
        let outcome = working.await.map_err(|_| Error::Store(StoreFault::Failed))?;
        outcome.map_err(|error| {
            let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            tracing::error!(%error, "a file could not be kept or read");
            Error::Store(if full { StoreFault::Full } else { StoreFault::Failed })
        })
    }

    /// Where a file of the app is or would be; `None` for what can be no file's address.
    fn path(&self, app: &AppId, id: &str) -> Option<PathBuf> {
        let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_plain = app.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_id && is_plain).then(|| self.root.join(app.as_str()).join(&id[..2]).join(id))
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, app: &AppId, blob: Blob, bytes: Bytes) -> Result<()> {
        let Some(path) = self.path(app, &blob.id) else { return Err(Error::Store(StoreFault::Failed)) };
        let root = self.root.clone();
        self.on_disk(move || keep(&root, &path, blob, &bytes)).await
    }

    async fn get(&self, app: &AppId, id: &str) -> Result<Option<(Blob, Bytes)>> {
        let Some(path) = self.path(app, id) else { return Ok(None) };
        let id = id.to_owned();
        self.on_disk(move || fetch(&path, id)).await
    }
}

fn keep(root: &Path, path: &Path, blob: Blob, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    make_folder(root, folder)?;
    if path.try_exists()? {
        return Err(std::io::Error::new(ErrorKind::AlreadyExists, "there is a file with this id already"));
    }
    let Blob { id: _, name, media_type, secret, at } = blob;
    let description = serde_json::to_vec(&Description { name, media_type, secret, at: at.0 })?;
    write_whole(&described_at(path), &description)?;
    write_whole(path, bytes)?;
    // The names are on disk only when their folder is.
    File::open(folder)?.sync_all()
}

fn fetch(path: &Path, id: String) -> std::io::Result<Option<(Blob, Bytes)>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let described = match std::fs::read(described_at(path)) {
        Ok(described) => described,
        // Names may come to the disk in any order: a power cut has come before the upload was answered.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Description { name, media_type, secret, at } = serde_json::from_slice(&described)?;
    Ok(Some((Blob { id, name, media_type, secret, at: Timestamp(at) }, bytes.into())))
}

fn described_at(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Makes `folder`, which lies below `root`, and brings its name and those above it to the disk, also if
/// it was there: whoever made it may not have got so far.
fn make_folder(root: &Path, folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(root)).chain(root.parent());
    for above in above {
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// Writes a file that nobody sees before it is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension(if path.extension().is_some() { "json.new" } else { "new" });
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        // Nothing is lost with it, and the first error is the one to tell.
        drop(std::fs::remove_file(&unfinished));
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn app(id: &str) -> AppId {
        AppId::parse(id).unwrap()
    }

    fn blob(id: &str) -> Blob {
        Blob {
            id: id.to_owned(),
            name: "汤.png".to_owned(),
            media_type: "image/png".to_owned(),
            secret: Some("s".to_owned()),
            at: Timestamp(5),
        }
    }

    #[tokio::test]
    async fn a_file_comes_back_and_is_the_servers_alone() {
        let data = tempfile::tempdir().unwrap();
        let files = FileBlobs::new(data.path());
        files.put(&app("a1"), blob(ID), Bytes::from_static(b"png")).await.unwrap();
        let found = files.get(&app("a1"), ID).await.unwrap();
        assert_eq!(found, Some((blob(ID), Bytes::from_static(b"png"))));
        let folder = data.path().join("files/a1/01");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(ID))), (0o700, 0o600));
        let names = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(names, 2, "nothing unfinished stays");
    }

    #[tokio::test]
    async fn apps_see_their_own_files_only() {
        let data = tempfile::tempdir().unwrap();
        let files = FileBlobs::new(data.path());
        files.put(&app("a1"), blob(ID), Bytes::new()).await.unwrap();
        assert_eq!(files.get(&app("a2"), ID).await, Ok(None));
        assert_eq!(files.get(&app("a1"), &"f".repeat(32)).await, Ok(None));
    }

    #[tokio::test]
    async fn no_id_leads_out_of_the_directory() {
        let data = tempfile::tempdir().unwrap();
        let files = FileBlobs::new(data.path());
        for odd in
            ["", "..", "../../../../etc/passwd", "0123456789ABCDEF0123456789ABCDEF", "猫猫猫猫猫猫猫猫猫猫ab"]
        {
            assert_eq!(files.get(&app("a1"), odd).await, Ok(None), "{odd}");
            assert!(files.put(&app("a1"), blob(odd), Bytes::new()).await.is_err(), "{odd}");
        }
        for odd in ["..", "a/b", "a\\b", "."] {
            assert_eq!(files.get(&app(odd), ID).await, Ok(None), "{odd}");
            assert!(files.put(&app(odd), blob(ID), Bytes::new()).await.is_err(), "{odd}");
        }
        assert!(!data.path().join("files").exists());
    }

    #[tokio::test]
    async fn an_id_is_given_once() {
        let data = tempfile::tempdir().unwrap();
        let files = FileBlobs::new(data.path());
        files.put(&app("a1"), blob(ID), Bytes::from_static(b"one")).await.unwrap();
        assert!(files.put(&app("a1"), blob(ID), Bytes::from_static(b"two")).await.is_err());
        assert_eq!(files.get(&app("a1"), ID).await.unwrap().unwrap().1, Bytes::from_static(b"one"));
    }
}
