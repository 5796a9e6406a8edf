//! Groups: whose they are, who looks after them, and which there are.

use posthouse_core::conversation::{Authority, Conversation, GroupPage, RoleChange, RoleChanged};
use posthouse_core::error::Error;
use posthouse_core::id::{ClientId, ConversationId};
use posthouse_core::port::store::{PAGE_BYTES_MAX, attributes_size};
use rusqlite::{Connection, OptionalExtension as _, Params};

use super::notes::{NOTE_ROLE, NewNote, note, role_data};
use super::rows::{
    Place, Work, conversation_columns, conversation_key, conversation_row, count, is_member, load_members,
    maybe_client_of, role_of, uint,
};
use super::writer::{Outcome, Tx};

/// Whose a conversation is, whether that client is still in it or not.
pub(super) fn owner_of(db: &Connection, id: ConversationId) -> rusqlite::Result<Option<ClientId>> {
    let owner = db
        .prepare_cached("SELECT owner FROM conversation WHERE id = ?1")?
        .query_row([conversation_key(id)], |row| maybe_client_of(row, 0))
        .optional()?;
    Ok(owner.flatten())
}

/// Hands a conversation on, or changes who looks after it.
pub(super) fn change_role(
    tx: &mut Tx<'_>,
    app: i64,
    place: &Place,
    by: &ClientId,
    authority: Authority,
    change: &RoleChange,
) -> Work<Outcome<RoleChanged>> {
    let id = place.id;
    authority.ensure(place.kind, role_of(tx.db, id, by)?)?;
    place.kind.ensure_changeable()?;
    let client = change.client();
    if !is_member(tx.db, id, client)? {
        return Err(Error::NotAMember { client: client.clone() }.into());
    }
    let owner_before = owner_of(tx.db, id)?;
    if owner_before.as_ref() == Some(client) {
        return Err(Error::IsOwner.into());
    }
    let is_admin = matches!(change, RoleChange::Admin(_));
    let changed = tx
        .db
        .prepare_cached("UPDATE member SET role = ?3 WHERE conversation = ?1 AND client = ?2 AND role <> ?3")?
        .execute((conversation_key(id), client.as_str(), is_admin))?;
    let mut told = vec![client.clone()];
    match (change, &owner_before) {
        (RoleChange::Owner(_), before) => {
            tx.db
                .prepare_cached("UPDATE conversation SET owner = ?2 WHERE id = ?1")?
                .execute((conversation_key(id), client.as_str()))?;
            if let Some(before) = before
                && is_member(tx.db, id, before)?
            {
                told.push(before.clone());
            }
        }
        (RoleChange::Admin(_) | RoleChange::NoAdmin(_), _) if changed == 0 => {
            return Ok(Outcome::Unchanged(RoleChanged { owner_before, changed: false, told: Vec::new() }));
        }
        (RoleChange::Admin(_) | RoleChange::NoAdmin(_), _) => {}
    }
    let new = NewNote { data: Some(role_data(change)), ..NewNote::of(NOTE_ROLE, id, by, tx.now) };
    for client in &told {
        note(tx.db, app, client, &new)?;
    }
    Ok(Outcome::Written(RoleChanged { owner_before, changed: true, told }))
}

/// Groups, newest first: those that `member` is in, or all of the app.
pub(super) fn list(
    db: &Connection,
    app: i64,
    member: Option<&ClientId>,
    skip: usize,
    limit: usize,
) -> Work<GroupPage> {
    let (skip, limit) = (count(skip), count(limit));
    if let Some(member) = member {
        let total = counted(
            db,
            "SELECT count(*) FROM member x CROSS JOIN conversation c ON c.id = x.conversation \
             WHERE x.app = ?1 AND x.client = ?2 AND c.kind = 2",
            (app, member.as_str()),
        )?;
        let groups = page(
            db,
            concat!(
                "SELECT ",
                conversation_columns!(),
                " FROM member x CROSS JOIN conversation c ON c.id = x.conversation \
                 CROSS JOIN head h ON h.conversation = c.id WHERE x.app = ?1 AND x.client = ?2 AND c.kind = 2 \
                 ORDER BY c.created_at DESC, c.id DESC LIMIT ?3 OFFSET ?4"
            ),
            (app, member.as_str(), limit, skip),
        )?;
        return Ok(GroupPage { groups, total });
    }
    let total = counted(db, "SELECT count(*) FROM conversation WHERE app = ?1 AND kind = 2", [app])?;
    let groups = page(
        db,
        concat!(
            "SELECT ",
            conversation_columns!(),
            " FROM conversation c CROSS JOIN head h ON h.conversation = c.id WHERE c.app = ?1 AND c.kind = 2 \
             ORDER BY c.created_at DESC, c.id DESC LIMIT ?2 OFFSET ?3"
        ),
        (app, limit, skip),
    )?;
    Ok(GroupPage { groups, total })
}

fn counted(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<u64> {
    db.prepare_cached(sql)?.query_row(params, |row| row.get(0)).map(uint)
}

/// The conversations that `sql` finds, with their members, as many as fit into one answer.
fn page(db: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<Conversation>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut groups: Vec<Conversation> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let mut group = conversation_row(row)?;
        load_members(db, &mut group)?;
        let members: usize = group.members.iter().map(|member| member.as_str().len() + 3).sum();
        bytes += attributes_size(&group.attributes) + members;
        if bytes > PAGE_BYTES_MAX && !groups.is_empty() {
            break;
        }
        groups.push(group);
    }
    Ok(groups)
}
