//! Which file a conversation lives in, and which files there are.
//!
//! `posthouse.db` holds apps and lasting conversations; `expiring/<bits>.db` holds what a temporary
//! conversation touches, one file for each [`Bucket`], so that it can be forgotten by unlinking.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use posthouse_core::expiry::Bucket;
use posthouse_core::id::ConversationId;
use posthouse_core::time::Timestamp;

use super::open::{OpenError, with_suffix};

/// A file of the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum FileKey {
    /// `posthouse.db`.
    Main,
    /// One expiry bucket.
    Bucket(Bucket),
}

impl FileKey {
    /// Where everything about `conversation` is.
    pub(super) fn of(conversation: ConversationId) -> Self {
        conversation.bucket().map_or(Self::Main, Self::Bucket)
    }
}

/// The data directory and the buckets in it.
#[derive(Debug)]
pub(super) struct Shards {
    dir: PathBuf,
    /// With a number for each making of a bucket's file: after the clock has stepped back, a bucket can
    /// be made anew while a reader still holds the old file.
    buckets: RwLock<BTreeMap<Bucket, u64>>,
    makings: AtomicU64,
}

/// The suffix of a bucket's file between being forgotten and being unlinked.
const OVER: &str = ".over";

impl Shards {
    /// Looks which buckets exist in `dir`.
    pub(super) fn find(dir: &Path) -> Result<Self, OpenError> {
        let shards = Self { dir: dir.to_owned(), buckets: RwLock::default(), makings: AtomicU64::new(0) };
        let expiring = shards.expiring();
        let io = |source| OpenError::Io { path: expiring.clone(), source };
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&expiring).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if let Some(bits) = bucket_bits(&path) {
                found.insert(Bucket::from_bits(bits), 0);
            }
        }
        *shards.buckets.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(shards)
    }

    /// Unlinks what a stop between [`Self::hide`] and unlinking has left.
    pub(super) fn sweep(&self) -> Result<(), OpenError> {
        let expiring = self.expiring();
        let io = |source| OpenError::Io { path: expiring.clone(), source };
        for entry in fs::read_dir(&expiring).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.as_os_str().as_encoded_bytes().ends_with(OVER.as_bytes()) {
                remove(&path);
            }
        }
        Ok(())
    }

    /// The directory of the buckets.
    pub(super) fn expiring(&self) -> PathBuf {
        self.dir.join("expiring")
    }

    /// A file's path.
    pub(super) fn path(&self, file: FileKey) -> PathBuf {
        match file {
            FileKey::Main => main_path(&self.dir),
            FileKey::Bucket(bucket) => self.expiring().join(format!("{}.db", bucket.bits())),
        }
    }

    /// Whether the bucket has a file.
    pub(super) fn has(&self, bucket: Bucket) -> bool {
        self.making(bucket).is_some()
    }

    /// Which making of the bucket's file is in use, if there is one.
    pub(super) fn making(&self, bucket: Bucket) -> Option<u64> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).get(&bucket).copied()
    }

    /// Notes that the bucket has a file now.
    pub(super) fn add(&self, bucket: Bucket) {
        let making = self.makings.fetch_add(1, Ordering::Relaxed) + 1;
        self.buckets.write().unwrap_or_else(PoisonError::into_inner).entry(bucket).or_insert(making);
    }

    /// The buckets that still hold something alive at `now`.
    pub(super) fn living(&self, now: Timestamp) -> Vec<Bucket> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.keys().copied().filter(|bucket| bucket.ends() > now).collect()
    }

    /// As [`Self::living`], with the makings.
    pub(super) fn making_of_living(&self, now: Timestamp) -> Vec<(Bucket, u64)> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets
            .iter()
            .map(|(bucket, making)| (*bucket, *making))
            .filter(|(bucket, _)| bucket.ends() > now)
            .collect()
    }

    /// The buckets in which everything is over at `now`.
    pub(super) fn over(&self, now: Timestamp) -> Vec<Bucket> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.keys().copied().filter(|bucket| bucket.ends() <= now).collect()
    }

    /// Takes the bucket out of sight in an instant. What is returned is to be unlinked, which takes
    /// long for a large file, by a thread that has the time.
    pub(super) fn hide(&self, bucket: Bucket) -> std::io::Result<PathBuf> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner).remove(&bucket);
        let path = self.path(FileKey::Bucket(bucket));
        let over = with_suffix(&path, OVER);
        fs::rename(&path, &over)?;
        remove(&with_suffix(&path, "-wal"));
        remove(&with_suffix(&path, "-shm"));
        Ok(over)
    }
}

/// Unlinks a file; one that is gone already is fine.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a forgotten file can't be removed");
    }
}

/// The main file of a data directory.
pub(super) fn main_path(dir: &Path) -> PathBuf {
    dir.join("posthouse.db")
}

fn bucket_bits(path: &Path) -> Option<u32> {
    if path.extension()? != "db" {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
