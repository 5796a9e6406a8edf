//! Bringing what is late into the index, for those who must find it in the rows.

use posthouse_core::error::Result;
use posthouse_core::id::{ClientId, ConversationId};
use rusqlite::Connection;

use super::SqliteStore;
use super::rows::{Work, conversation_of, is_member};
use super::shards::FileKey;
use super::tail::{Tails, unindexed};
use super::writer::{Outcome, Touches};

/// Conversations indexed in one commit for a reader: some milliseconds of the writer's time.
const AT_ONCE: usize = 500;

/// Up to so many tails are looked up one by one; of more, those of a client are found in its list.
const FEW: usize = 32;

impl SqliteStore {
    /// Waits until everything that was said in these conversations is in the index.
    pub(super) async fn index(&self, conversations: impl IntoIterator<Item = ConversationId>) -> Result<()> {
        if self.tails.is_empty() {
            return Ok(());
        }
        let mut late = self.tails.among(conversations);
        late.sort_unstable_by_key(|id| (id.bucket().map(posthouse_core::expiry::Bucket::bits), *id));
        for file in late.chunk_by(|one, other| one.bucket() == other.bucket()) {
            for some in file.chunks(AT_ONCE) {
                let touches = Touches::Conversations(some.to_vec());
                let nothing = Box::new(|_: &()| ());
                self.write_touching(FileKey::of(some[0]), touches, nothing, |_| Ok(Outcome::Unchanged(())))
                    .await?;
            }
        }
        Ok(())
    }

    /// As [`Self::index`], of all conversations.
    pub(super) async fn index_all(&self) -> Result<()> {
        self.index(self.tails.conversations()).await
    }
}

/// Those of `late` that the client is a member of, as far as this file knows.
pub(super) fn of_client(
    db: &Connection,
    app: i64,
    client: &ClientId,
    mut late: Vec<ConversationId>,
) -> Work<Vec<ConversationId>> {
    if late.len() <= FEW {
        let mut mine = Vec::new();
        for id in late {
            if is_member(db, id, client)? {
                mine.push(id);
            }
        }
        return Ok(mine);
    }
    late.sort_unstable();
    let mut statement =
        db.prepare_cached("SELECT conversation FROM member WHERE app = ?1 AND client = ?2")?;
    let mut rows = statement.query((app, client.as_str()))?;
    let mut mine = Vec::new();
    while let Some(row) = rows.next()? {
        let id = conversation_of(row, 0)?;
        if late.binary_search(&id).is_ok() {
            mine.push(id);
        }
    }
    Ok(mine)
}

/// Fills the tails with what the log of a file holds and its index doesn't.
pub(super) fn load(db: &Connection, file: FileKey, tails: &Tails) -> rusqlite::Result<()> {
    tails.forget(match file {
        FileKey::Main => None,
        FileKey::Bucket(bucket) => Some(bucket),
    });
    for entry in unindexed(db)? {
        let conversation = entry.message.conversation;
        tails.push(entry, None);
        tails.committed(conversation);
    }
    Ok(())
}
