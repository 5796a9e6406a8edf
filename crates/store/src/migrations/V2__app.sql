-- Tenants, in `posthouse.db` only. Every other table names an app by its short key, which is never
-- used again.

CREATE TABLE app (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    keys TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

-- One row, counted up by every change of an app, so that other processes notice.
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision (number) VALUES (1);
