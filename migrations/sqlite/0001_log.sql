-- The log of events and the ledger's identity: what cannot be recomputed. Projections make their own tables.

CREATE TABLE events (
    -- Place in the whole log: from 1, gap-free, in commit order.
    position        INTEGER PRIMARY KEY CHECK (position > 0),
    -- UUID; deterministic, so that a repeated append is recognised.
    event_id        TEXT    NOT NULL,
    -- CATEGORY-ID.
    stream_id       TEXT    NOT NULL,
    -- Place in the stream: from 0, gap-free.
    stream_revision INTEGER NOT NULL CHECK (stream_revision >= 0),
    -- Stable name, kebab-case, past tense.
    type            TEXT    NOT NULL,
    -- Version of the data's schema, from 1.
    schema_version  INTEGER NOT NULL,
    -- UUID of the tenant.
    company_id      TEXT    NOT NULL,
    -- RFC 3339, UTC, six fractional digits, Z: sorts as time. Order by position, never by this.
    recorded_at     TEXT    NOT NULL,
    -- JSON texts, kept byte for byte.
    data            TEXT    NOT NULL,
    metadata        TEXT    NOT NULL,
    UNIQUE (stream_id, stream_revision)
) STRICT;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are never deleted');
END;

CREATE TABLE ledger (
    -- There is one ledger in a file.
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    -- UUIDv7: what the ledger's labels at a provider bear. Never changed.
    id             TEXT    NOT NULL,
    -- The format (PRAGMA user_version) that the file was made with.
    created_format INTEGER NOT NULL,
    -- RFC 3339, UTC, six fractional digits, Z.
    created_at     TEXT    NOT NULL
) STRICT;
