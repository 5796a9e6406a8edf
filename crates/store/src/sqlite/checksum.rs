//! What a message says is checked when it is read: SQLite believes every page that is well-formed, also one that
//! a disk has changed. A message that fails is passed over with a word to the operator, and the rest is served.

use crc32fast::Hasher;
use posthouse_core::message::Message;
use rusqlite::Error;

use super::rows::{body_kind_columns, conversation_key, int, mentions_text, message_key, origin_column};

/// The checksum of all of a message that only changes with a patch; marks are not in it.
pub(super) fn checksum(message: &Message) -> u32 {
    let mut sum = Hasher::new();
    let (kind, custom) = body_kind_columns(message.body.kind);
    let numbers = [
        message_key(message.id),
        conversation_key(message.conversation),
        int(message.seq.0),
        message.timestamp.0,
        kind,
        custom,
        origin_column(message.origin),
        i64::from(message.receipt),
        i64::from(message.mentions.all),
        i64::from(message.body.payload.schema.0),
        message.patched_at.map_or(-1, |at| at.0),
        i64::from(message.edits),
    ];
    for number in numbers {
        sum.update(&number.to_le_bytes());
    }
    let mentions = mentions_text(&message.mentions);
    let texts = [
        Some(message.sender.as_str().as_bytes()),
        message.patched_by.as_ref().map(|by| by.as_str().as_bytes()),
        message.body.summary.as_deref().map(str::as_bytes),
        mentions.as_deref().map(str::as_bytes),
        Some(&message.body.payload.bytes[..]),
    ];
    for text in texts {
        sum.update(&text.map_or(-1, |text| int(text.len() as u64)).to_le_bytes());
        sum.update(text.unwrap_or_default());
    }
    sum.finalize()
}

/// A message as it was read; `None` if its row is damaged, which the log is told. Other errors of the engine stay
/// errors.
pub(super) fn whole(read: rusqlite::Result<Message>) -> rusqlite::Result<Option<Message>> {
    match read {
        Ok(message) => Ok(Some(message)),
        Err(
            error @ (Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)),
        ) => {
            metrics::counter!("posthouse_store_failures_total", "kind" => "damaged").increment(1);
            tracing::error!(
                %error,
                "a message is damaged and was left out; restore the data directory from a backup, and have the disk checked"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use posthouse_core::id::{ClientId, ConversationId, MessageId, Seq};
    use posthouse_core::message::{Body, BodyKind, Mentions, Origin, Payload, SchemaTag};
    use posthouse_core::time::Timestamp;
    use rusqlite::types::Type;

    use super::*;

    fn message() -> Message {
        let payload = Payload { schema: SchemaTag(1), bytes: Bytes::from_static(b"words") };
        Message {
            id: MessageId::from_u64(100).unwrap(),
            conversation: ConversationId::from_u64(7).unwrap(),
            seq: Seq(3),
            timestamp: Timestamp(1_000),
            sender: ClientId::parse("tom").unwrap(),
            body: Body { kind: BodyKind::Text, summary: None, payload },
            mentions: Mentions::default(),
            receipt: false,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    #[test]
    fn whatever_a_message_says_is_in_its_checksum() {
        let with = |change: fn(&mut Message)| {
            let mut changed = message();
            change(&mut changed);
            checksum(&changed)
        };
        let all = [
            with(|_| ()),
            with(|message| message.id = MessageId::from_u64(101).unwrap()),
            with(|message| message.conversation = ConversationId::from_u64(8).unwrap()),
            with(|message| message.seq = Seq(4)),
            with(|message| message.timestamp = Timestamp(1_001)),
            with(|message| message.sender = ClientId::parse("tim").unwrap()),
            with(|message| message.body.kind = BodyKind::Image),
            with(|message| message.body.payload.schema = SchemaTag(2)),
            with(|message| message.body.payload.bytes = Bytes::from_static(b"word!")),
            with(|message| message.body.summary = Some("words".into())),
            with(|message| message.mentions.all = true),
            with(|message| message.mentions.clients = vec![ClientId::parse("jerry").unwrap()]),
            with(|message| message.receipt = true),
            with(|message| message.patched_at = Some(Timestamp(1_002))),
            with(|message| message.origin = Origin::Import),
            with(|message| message.edits = 1),
            with(|message| message.patched_by = Some(ClientId::parse("tom").unwrap())),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        let marked = with(|message| message.delivered_at = Some(Timestamp(1_003)));
        assert_eq!(marked, all[0], "marks change without it");
    }

    #[test]
    fn what_a_row_cannot_be_is_left_out_and_what_fails_stays_an_error() {
        assert_eq!(whole(Ok(message())).unwrap(), Some(message()));
        let damaged = [
            Error::FromSqlConversionFailure(4, Type::Text, "?".into()),
            Error::InvalidColumnType(8, "payload".to_owned(), Type::Integer),
            Error::IntegralValueOutOfRange(7, -1),
        ];
        for error in damaged {
            assert_eq!(whole(Err(error)).unwrap(), None);
        }
        assert!(matches!(whole(Err(Error::QueryReturnedNoRows)), Err(Error::QueryReturnedNoRows)));
    }
}
