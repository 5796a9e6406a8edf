-- The index of the log, apart from it: filled late and in sorted runs, because a message that is written
-- into each of them at once costs as many pages as it has indexes. What is not in it yet is the tail of its
-- conversation: the messages whose place is after `head.last_seq`.

-- History, by time; imported messages too, but not what only waits for devices.
CREATE TABLE history (
    conversation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (conversation, at, id)
) WITHOUT ROWID;
INSERT INTO history (conversation, at, id)
SELECT conversation, timestamp, id FROM message WHERE shown = 1 ORDER BY conversation, timestamp, id;

-- The timeline, by place; imported messages have none.
CREATE TABLE timeline (
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;
INSERT INTO timeline (conversation, seq, id)
SELECT conversation, seq, id FROM message WHERE seq > 0 ORDER BY conversation, seq;

-- What senders' SDKs call their messages.
CREATE TABLE token (
    conversation INTEGER NOT NULL,
    sender TEXT NOT NULL,
    token TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (conversation, sender, token)
) WITHOUT ROWID;
INSERT INTO token (conversation, sender, token, id)
SELECT conversation, sender, token, id FROM message WHERE token IS NOT NULL ORDER BY conversation, sender, token;

DROP INDEX message_history;
DROP INDEX message_seq;
DROP INDEX message_token;

-- One row: messages up to this id are all in the index, so that a start need not look further back.
CREATE TABLE indexed (until INTEGER NOT NULL);
INSERT INTO indexed (until) SELECT coalesce(max(id), 0) FROM message;
