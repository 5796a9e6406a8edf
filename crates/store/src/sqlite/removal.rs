//! Deletions: of messages by one member for itself, of conversations from lists, with or without what
//! was said, and the end of a conversation.
//!
//! Nothing is taken out of the log here. What is deleted up to a place is told by watermarks, single
//! messages by rows in `removed`, and every reading statement passes over both. Deleting moves the read
//! marks along, so that unread numbers stay right.

use posthouse_core::app::DeleteScope;
use posthouse_core::conversation::{
    Authority, Conversation, ConversationDeleted, DeleteConversation, Ended, Kind, Role,
};
use posthouse_core::error::Error;
use posthouse_core::id::{ClientId, DeviceId, MessageId};
use posthouse_core::listing::{REMOVED_AT_ONCE_MAX, Removal};
use rusqlite::Connection;
use serde_json::json;

use super::marks::{covered, own_until};
use super::notes::{
    NO_CONVERSATION, NOTE_CONVERSATION_DELETED, NOTE_ENDED, NOTE_MESSAGES_REMOVED, NewNote,
    conversation_deleted_data, messages_removed_data, note,
};
use super::positions::forget_queue;
use super::rows::{Place, Spot, Work, conversation_key, int, members, message_key, role_of};
use super::timeline::end_of_history;
use super::views::{ensure_member, not_deleted};
use super::writer::{Outcome, Tx};

/// Removes messages for one member, whose devices find a note of it if `tell` says so.
pub(super) fn remove(
    tx: &mut Tx<'_>,
    app: i64,
    place: &Place,
    client: &ClientId,
    device: Option<&DeviceId>,
    removal: Removal,
    tell: bool,
) -> Work<Outcome<()>> {
    let removed = match removal {
        Removal::Messages(messages) if messages.len() > REMOVED_AT_ONCE_MAX => {
            return Err(Error::TooManyAtOnce { max: REMOVED_AT_ONCE_MAX }.into());
        }
        Removal::Messages(messages) => {
            let removed = remove_each(tx, place, client, &messages)?;
            if removed.is_empty() {
                return Ok(Outcome::Unchanged(()));
            }
            Removal::Messages(removed)
        }
        Removal::Until(until) => {
            remove_until(tx, place, client, (until.0, i64::MAX))?;
            Removal::Until(until)
        }
    };
    if tell {
        let new = NewNote {
            data: Some(messages_removed_data(device, Some(&removed))),
            ..NewNote::of(NOTE_MESSAGES_REMOVED, place.id, client, tx.now)
        };
        note(tx.db, app, client, &new)?;
    }
    Ok(Outcome::Written(()))
}

/// Removes the messages among these that the member can see; returns them.
fn remove_each(
    tx: &Tx<'_>,
    place: &Place,
    client: &ClientId,
    messages: &[MessageId],
) -> Work<Vec<MessageId>> {
    let cleared = ensure_member(tx.db, place, client)?.cleared(place);
    let key = conversation_key(place.id);
    let mut removed = Vec::new();
    for message in messages {
        let added = tx
            .db
            .prepare_cached(concat!(
                "INSERT INTO removed (conversation, client, message) SELECT ?1, ?4, m.id FROM message m \
                 WHERE m.id = ?5 AND m.conversation = ?1 AND ",
                not_deleted!()
            ))?
            .execute((key, cleared.0, cleared.1, client.as_str(), message_key(*message)))?;
        if added == 1 {
            removed.push(*message);
        }
    }
    tx.db
        .prepare_cached(
            "UPDATE member SET unread_changed_at = max(unread_changed_at, ?3) WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((key, client.as_str(), tx.cursor_time().0))?;
    Ok(removed)
}

/// Removes everything up to a spot for one member, and moves its read mark there.
fn remove_until(tx: &Tx<'_>, place: &Place, client: &ClientId, until: Spot) -> Work<()> {
    let mut member = ensure_member(tx.db, place, client)?;
    // What is still to be said is not removed in advance.
    let until = until.min(end_of_history(tx, place)).max(member.cleared(place));
    if let Some(covered) = covered(tx.db, place, until)?.filter(|covered| covered.seq > member.read_seq) {
        let own = own_until(tx.db, place, &member, client, &covered)?;
        (member.read_seq, member.read_total, member.read_own) = (covered.seq, covered.ordinal, own);
    }
    let key = conversation_key(place.id);
    tx.db
        .prepare_cached(
            "UPDATE member SET cleared_at = ?3, cleared_id = ?4, read_seq = ?5, read_total = ?6, read_own = ?7, \
             unread_changed_at = max(unread_changed_at, ?8) WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((
            key,
            client.as_str(),
            until.0,
            until.1,
            int(member.read_seq),
            int(member.read_total),
            int(member.read_own),
            tx.cursor_time().0,
        ))?;
    // What the watermark covers need not be noted one by one.
    tx.db
        .prepare_cached(
            "DELETE FROM removed WHERE conversation = ?1 AND client = ?2 AND EXISTS (SELECT 1 FROM message m \
             WHERE m.id = removed.message AND (m.timestamp, m.id) <= (?3, ?4))",
        )?
        .execute((key, client.as_str(), until.0, until.1))?;
    Ok(())
}

/// Removes everything for one client, everywhere.
pub(super) fn remove_everything(
    tx: &mut Tx<'_>,
    app: i64,
    client: &ClientId,
    device: Option<&DeviceId>,
) -> Work<Outcome<()>> {
    clear_everything(tx, app, client)?;
    let new = NewNote {
        at: tx.now,
        kind: NOTE_MESSAGES_REMOVED,
        conversation: NO_CONVERSATION,
        by: client,
        message: None,
        data: Some(messages_removed_data(device, None)),
    };
    note(tx.db, app, client, &new)?;
    Ok(Outcome::Written(()))
}

/// Takes what was said until now in any conversation, and all lines of its list, away from one client.
pub(super) fn clear_everything(tx: &Tx<'_>, app: i64, client: &ClientId) -> Work<()> {
    // As `end_of_history` has it, for all conversations at once in which something was said since the
    // last time. What only waits for devices moves `said_at` and no last message.
    tx.db
        .prepare_cached(
            "UPDATE member SET cleared_at = e.at, cleared_id = e.id, hidden_at = e.at, hidden_id = e.id, \
             read_seq = max(read_seq, e.seq), read_total = e.total, read_own = sent, \
             unread_changed_at = max(unread_changed_at, ?4) \
             FROM (SELECT h.conversation, max(h.said_at, coalesce(h.last_message_at, 0), coalesce(h.cleared_at, 0)) AS at, \
             max(?3, coalesce(h.last_message, 0), coalesce(h.cleared_id, 0)) AS id, \
             coalesce(h.last_message_seq, 0) AS seq, h.total FROM member x CROSS JOIN head h ON h.conversation = x.conversation \
             WHERE x.app = ?1 AND x.client = ?2 AND (x.cleared_at IS NULL OR x.hidden_at IS NULL \
             OR h.said_at > x.cleared_at \
             OR (coalesce(h.last_message_at, 0), coalesce(h.last_message, 0)) > (x.cleared_at, x.cleared_id))) AS e \
             WHERE member.conversation = e.conversation AND member.client = ?2",
        )?
        .execute((app, client.as_str(), message_key(tx.next_id()), tx.cursor_time().0))?;
    tx.db
        .prepare_cached(
            "DELETE FROM removed WHERE client = ?2 AND conversation IN \
             (SELECT conversation FROM member WHERE app = ?1 AND client = ?2)",
        )?
        .execute((app, client.as_str()))?;
    Ok(())
}

/// Takes a conversation off lists, and its messages away if asked to.
pub(super) fn delete_conversation(
    tx: &mut Tx<'_>,
    app: i64,
    place: &Place,
    delete: &DeleteConversation,
) -> Work<Outcome<ConversationDeleted>> {
    ensure_member(tx.db, place, &delete.by)?;
    let role = role_of(tx.db, place.id, &delete.by)?;
    let may_for_everyone = match place.kind {
        Kind::Group => !delete.group_needs_moderator || role >= Some(Role::Admin),
        Kind::Direct | Kind::Room | Kind::Temporary { .. } => true,
    };
    let for_everyone = delete.scope == DeleteScope::Everyone && may_for_everyone;
    let end = end_of_history(tx, place);
    let told = if for_everyone {
        if delete.with_messages {
            clear_for_all(tx.db, place, end)?;
        }
        members(tx.db, place.id)?
    } else {
        if delete.with_messages {
            remove_until(tx, place, &delete.by, end)?;
        }
        vec![delete.by.clone()]
    };
    hide(tx, place, end, (!for_everyone).then_some(&delete.by))?;
    let new = NewNote {
        data: Some(conversation_deleted_data(delete.device.as_ref(), delete.with_messages)),
        ..NewNote::of(NOTE_CONVERSATION_DELETED, place.id, &delete.by, tx.now)
    };
    for client in &told {
        note(tx.db, app, client, &new)?;
    }
    Ok(Outcome::Written(ConversationDeleted { told, for_everyone }))
}

/// Hides a conversation from the list of one member, or of all; nothing is unread there any more.
fn hide(tx: &Tx<'_>, place: &Place, end: Spot, client: Option<&ClientId>) -> Work<()> {
    tx.db
        .prepare_cached(
            "UPDATE member SET hidden_at = ?3, hidden_id = ?4, read_seq = max(read_seq, ?5), read_total = ?6, \
             read_own = sent, unread_changed_at = max(unread_changed_at, ?7) \
             WHERE conversation = ?1 AND (?2 IS NULL OR client = ?2)",
        )?
        .execute((
            conversation_key(place.id),
            client.map(ClientId::as_str),
            end.0,
            end.1,
            int(place.newest_seq),
            int(place.total),
            tx.cursor_time().0,
        ))?;
    Ok(())
}

/// Deletes everything up to a spot for everybody. The rows themselves are forgotten later.
fn clear_for_all(db: &Connection, place: &Place, end: Spot) -> Work<()> {
    let key = conversation_key(place.id);
    db.prepare_cached(
        "UPDATE head SET cleared_at = ?2, cleared_id = ?3, last_message = NULL, last_message_at = NULL \
         WHERE conversation = ?1",
    )?
    .execute((key, end.0, end.1))?;
    db.prepare_cached("DELETE FROM removed WHERE conversation = ?1")?.execute([key])?;
    forget_until(db, key, end)
}

fn forget_until(db: &Connection, conversation: i64, end: Spot) -> Work<()> {
    db.prepare_cached(
        "INSERT INTO forgetting (conversation, until_at, until_id) VALUES (?1, ?2, ?3) \
         ON CONFLICT (conversation) DO UPDATE SET until_at = excluded.until_at, until_id = excluded.until_id",
    )?
    .execute((conversation, end.0, end.1))?;
    Ok(())
}

/// Ends a conversation for everybody.
pub(super) fn end(
    tx: &mut Tx<'_>,
    app: i64,
    place: &Place,
    by: &ClientId,
    authority: Authority,
    conversation: Conversation,
) -> Work<Outcome<Ended>> {
    authority.ensure(place.kind, role_of(tx.db, place.id, by)?)?;
    place.kind.ensure_changeable()?;
    let name = conversation.attributes.get("name").and_then(|name| name.as_str()).unwrap_or_default();
    let new =
        NewNote { data: Some(json!({ "name": name })), ..NewNote::of(NOTE_ENDED, place.id, by, tx.now) };
    for client in &conversation.members {
        forget_queue(tx.db, app, client, place.id)?;
        note(tx.db, app, client, &new)?;
    }
    let key = conversation_key(place.id);
    for sql in [
        "DELETE FROM member WHERE conversation = ?1",
        "DELETE FROM head WHERE conversation = ?1",
        "DELETE FROM conversation WHERE id = ?1",
    ] {
        tx.db.prepare_cached(sql)?.execute([key])?;
    }
    forget_until(tx.db, key, (i64::MAX, i64::MAX))?;
    Ok(Outcome::Written(Ended { conversation }))
}
