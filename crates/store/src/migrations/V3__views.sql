-- What each member sees differently: deletions, lists, roles. The same in `posthouse.db` and in every
-- expiry bucket.

-- Whose it is now; nobody's in rooms without a creator.
ALTER TABLE conversation ADD COLUMN owner TEXT;
UPDATE conversation SET owner = creator;

-- The newest activity of any kind, the time of the newest message ever in the timeline (times never go
-- back, whatever is deleted), and up to where everything is deleted for everybody.
ALTER TABLE head ADD COLUMN touched_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN said_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE head ADD COLUMN cleared_at INTEGER;
ALTER TABLE head ADD COLUMN cleared_id INTEGER;
UPDATE head SET touched_at = max(coalesce(last_message_at, 0), patched_at, changed_at),
    said_at = coalesce(last_message_at, 0);

-- Roles: 0 member, 1 administrator (the owner stands in `conversation`). `joined_seq` is the end of
-- the timeline when the member came. Up to `cleared` everything is deleted for this member, the list
-- shows the conversation only for messages after `hidden`. `marks` holds one bit for each mark.
ALTER TABLE member ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN joined_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN cleared_at INTEGER;
ALTER TABLE member ADD COLUMN cleared_id INTEGER;
ALTER TABLE member ADD COLUMN hidden_at INTEGER;
ALTER TABLE member ADD COLUMN hidden_id INTEGER;
ALTER TABLE member ADD COLUMN pinned_at INTEGER;
ALTER TABLE member ADD COLUMN marks INTEGER NOT NULL DEFAULT 0;
CREATE INDEX member_pinned ON member (app, client, pinned_at) WHERE pinned_at IS NOT NULL;

-- The log anew, because a column behind the payload would be dear to read. `origin`: 0 a client,
-- 1 the server, 2 an import. `shown` is 0 for what only waits for devices and is no part of history.
-- `counted` is 0 for what is never unread; then `ordinal` is that of the message before. Imported
-- messages have the place 0, outside the timeline.
CREATE TABLE message_v3 (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    sender TEXT NOT NULL,
    kind INTEGER NOT NULL,
    custom INTEGER NOT NULL DEFAULT 0,
    origin INTEGER NOT NULL DEFAULT 0,
    shown INTEGER NOT NULL DEFAULT 1,
    counted INTEGER NOT NULL DEFAULT 1,
    receipt INTEGER NOT NULL DEFAULT 0,
    mention_all INTEGER NOT NULL DEFAULT 0,
    mentions TEXT,
    token TEXT,
    edits INTEGER NOT NULL DEFAULT 0,
    patched_at INTEGER,
    patched_seq INTEGER,
    patched_by TEXT,
    delivered_at INTEGER,
    read_at INTEGER,
    summary TEXT,
    schema INTEGER NOT NULL,
    payload BLOB NOT NULL
);
INSERT INTO message_v3 (id, conversation, seq, timestamp, ordinal, sender, kind, custom, receipt, mention_all,
    mentions, token, edits, patched_at, patched_seq, patched_by, delivered_at, read_at, summary, schema, payload)
SELECT id, conversation, seq, timestamp, ordinal, sender, kind, custom, receipt, mention_all,
    mentions, token, patched_at IS NOT NULL AND kind <> 7, patched_at, patched_seq,
    CASE WHEN patched_at IS NOT NULL THEN sender END, delivered_at, read_at, summary, schema, payload
FROM message;
DROP TABLE message;
ALTER TABLE message_v3 RENAME TO message;
CREATE INDEX message_history ON message (conversation, timestamp, id) WHERE shown = 1;
CREATE UNIQUE INDEX message_seq ON message (conversation, seq) WHERE seq > 0;
CREATE UNIQUE INDEX message_token ON message (conversation, sender, token) WHERE token IS NOT NULL;
CREATE INDEX message_recalled ON message (conversation, seq, sender, counted) WHERE kind = 7;
CREATE INDEX message_receipt ON message (conversation, seq) WHERE receipt = 1;
CREATE INDEX message_patched ON message (conversation, patched_at) WHERE patched_at IS NOT NULL;

-- Single messages that one member has removed for itself.
CREATE TABLE removed (
    conversation INTEGER NOT NULL,
    client TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (conversation, client, message)
) WITHOUT ROWID;

-- Who has read a message of a group, one by one.
CREATE TABLE reader (
    message INTEGER NOT NULL,
    client TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (message, client)
) WITHOUT ROWID;

-- Conversations whose messages up to a place are to be forgotten.
CREATE TABLE forgetting (
    conversation INTEGER PRIMARY KEY,
    until_at INTEGER NOT NULL,
    until_id INTEGER NOT NULL
);

-- The inbox anew: its numbers are places of devices, so none may be given twice. Kinds: 1 joined,
-- 2 left, 3 message was read, 4 message was delivered, 5 read on another device, 6 conversation
-- deleted, 7 messages removed, 8 list changed, 9 conversation ended, 10 role changed, 11 contact.
CREATE TABLE inbox_v3 (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL,
    client TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    by TEXT NOT NULL,
    message INTEGER,
    data TEXT
);
INSERT INTO inbox_v3 (id, app, client, at, kind, conversation, by, message)
SELECT id, app, client, at, kind, conversation, by, message FROM inbox;
DROP TABLE inbox;
ALTER TABLE inbox_v3 RENAME TO inbox;
CREATE INDEX inbox_invitation ON inbox (app, client, at) WHERE kind < 3;
CREATE INDEX inbox_receipt ON inbox (app, client, at) WHERE kind = 3;
CREATE INDEX inbox_notes ON inbox (app, client, id);
