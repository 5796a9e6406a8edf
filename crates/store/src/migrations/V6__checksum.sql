-- A checksum over what a message says (`checksum.rs`), because a damaged page that is still well-formed is believed
-- by SQLite. What was written before has none and is believed as before.
ALTER TABLE message ADD COLUMN crc INTEGER;
