-- Conversations and everything that belongs to one, the same in `posthouse.db` and in every
-- expiry bucket. Times are Unix milliseconds. Text ids are compared byte by byte.

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    until INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    unique_set BLOB,
    creator TEXT,
    attributes TEXT NOT NULL
);
CREATE INDEX conversation_app ON conversation (app, created_at);
CREATE UNIQUE INDEX conversation_unique ON conversation (app, unique_set) WHERE unique_set IS NOT NULL;

-- What changes with every message, apart from the wide row that changes seldom.
CREATE TABLE head (
    conversation INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    last_message INTEGER,
    last_message_at INTEGER,
    last_message_seq INTEGER,
    unread_at INTEGER NOT NULL DEFAULT 0,
    patched_at INTEGER NOT NULL DEFAULT 0,
    changed_at INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE member (
    conversation INTEGER NOT NULL,
    client TEXT NOT NULL,
    app INTEGER NOT NULL,
    joined INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    muted INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    read_seq INTEGER NOT NULL DEFAULT 0,
    read_total INTEGER NOT NULL DEFAULT 0,
    read_own INTEGER NOT NULL DEFAULT 0,
    read_at INTEGER,
    delivered_seq INTEGER NOT NULL DEFAULT 0,
    delivered_at INTEGER,
    unread_changed_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, client)
) WITHOUT ROWID;
CREATE INDEX member_client ON member (app, client, conversation);

-- The log: ids grow, so rows are only ever appended to its end.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    sender TEXT NOT NULL,
    kind INTEGER NOT NULL,
    custom INTEGER NOT NULL DEFAULT 0,
    receipt INTEGER NOT NULL DEFAULT 0,
    mention_all INTEGER NOT NULL DEFAULT 0,
    mentions TEXT,
    token TEXT,
    patched_at INTEGER,
    patched_seq INTEGER,
    delivered_at INTEGER,
    read_at INTEGER,
    summary TEXT,
    schema INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX message_history ON message (conversation, timestamp, id);
CREATE UNIQUE INDEX message_seq ON message (conversation, seq);
CREATE UNIQUE INDEX message_token ON message (conversation, sender, token) WHERE token IS NOT NULL;
CREATE INDEX message_recalled ON message (conversation, seq, sender) WHERE kind = 7;
CREATE INDEX message_receipt ON message (conversation, seq) WHERE receipt = 1;
CREATE INDEX message_patched ON message (conversation, patched_at) WHERE patched_at IS NOT NULL;

-- Whom a message calls; an empty client stands for everyone.
CREATE TABLE mention (
    conversation INTEGER NOT NULL,
    client TEXT NOT NULL,
    seq INTEGER NOT NULL,
    sender TEXT NOT NULL,
    PRIMARY KEY (conversation, client, seq)
) WITHOUT ROWID;

-- Entries of the timeline that are no messages. Kinds: 1 edited, 2 recalled, 3 members joined,
-- 4 members left, 5 attributes updated. How a conversation began (kind 3) has the place 0, which is
-- before the timeline.
CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    message INTEGER,
    data TEXT
);
CREATE UNIQUE INDEX change_seq ON change (conversation, seq);
CREATE INDEX change_at ON change (conversation, at) WHERE kind >= 3;
-- What still has contents to forget.
CREATE INDEX change_kept ON change (id) WHERE data IS NOT NULL;

-- What a client is told that belongs to no timeline. Kinds: 1 joined, 2 left, 3 message was read.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    client TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    by TEXT NOT NULL,
    message INTEGER
);
CREATE INDEX inbox_invitation ON inbox (app, client, at) WHERE kind < 3;
CREATE INDEX inbox_receipt ON inbox (app, client, at) WHERE kind = 3;
