-- Accounts of clients, whom they know, and their devices, in `posthouse.db` only.

CREATE TABLE account (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL,
    client TEXT NOT NULL,
    secret TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    nickname TEXT,
    active INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX account_client ON account (app, client);
CREATE INDEX account_number ON account (app, number);

-- `state` holds bits: 1 the owner knows the peer, 2 the peer has asked the owner, 4 the owner has asked
-- the peer.
CREATE TABLE contact (
    app INTEGER NOT NULL,
    owner TEXT NOT NULL,
    peer TEXT NOT NULL,
    state INTEGER NOT NULL,
    remark TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (app, owner, peer)
) WITHOUT ROWID;

CREATE TABLE block (
    app INTEGER NOT NULL,
    owner TEXT NOT NULL,
    peer TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (app, owner, peer)
) WITHOUT ROWID;

-- Devices that read queues. `since` is how old what they get may be.
CREATE TABLE device (
    app INTEGER NOT NULL,
    client TEXT NOT NULL,
    device TEXT NOT NULL,
    since INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (app, client, device)
) WITHOUT ROWID;
CREATE INDEX device_seen ON device (seen_at);

-- How far a device has got; the queue is a conversation, or 0 for the inbox.
CREATE TABLE position (
    app INTEGER NOT NULL,
    client TEXT NOT NULL,
    device TEXT NOT NULL,
    queue INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (app, client, device, queue)
) WITHOUT ROWID;
