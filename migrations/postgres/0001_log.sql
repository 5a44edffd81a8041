-- The log of events, where it ends, who writes to it, and the ledger's identity: what cannot be recomputed. Projections
-- make their own tables. Texts are compared byte for byte (COLLATE "C"), as SQLite does.

CREATE TABLE events (
    -- Place in the whole log: from 1, gap-free, in commit order. Given out under the lock of the row in head.
    position        bigint             PRIMARY KEY CHECK (position > 0),
    -- UUID; deterministic, so that a repeated append is recognised.
    event_id        text COLLATE "C"   NOT NULL,
    -- CATEGORY-ID.
    stream_id       text COLLATE "C"   NOT NULL,
    -- Place in the stream: from 0, gap-free.
    stream_revision bigint             NOT NULL CHECK (stream_revision >= 0),
    -- Stable name, kebab-case, past tense.
    type            text COLLATE "C"   NOT NULL,
    -- Version of the data's schema, from 1.
    schema_version  integer            NOT NULL,
    -- UUID of the tenant.
    company_id      text COLLATE "C"   NOT NULL,
    -- RFC 3339, UTC, six fractional digits, Z: sorts as time. Order by position, never by this.
    recorded_at     text COLLATE "C"   NOT NULL,
    -- JSON texts, kept byte for byte; jsonb would not.
    data            text COLLATE "C"   NOT NULL,
    metadata        text COLLATE "C"   NOT NULL,
    UNIQUE (stream_id, stream_revision)
);

CREATE FUNCTION events_stand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed or deleted';
END
$$;

-- Rights keep the writer from it; this keeps the owner from a mistake.
CREATE TRIGGER events_stand BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_stand();

CREATE TABLE head (
    -- There is one.
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- The last event's position. Whoever writes locks this row first, so positions are in commit order.
    position bigint  NOT NULL CHECK (position >= 0),
    -- Grows with each transaction of a writer: who finds what it left knows that nobody else has written.
    changes  bigint  NOT NULL
) WITH (fillfactor = 10);

INSERT INTO head (position, changes) VALUES (0, 0);

CREATE TABLE owners (
    -- A ledger process, as in-flight effects name it: unique to one start of one process.
    owner        text COLLATE "C" PRIMARY KEY,
    -- All by the clock of the database.
    started_at   timestamptz      NOT NULL,
    -- Until when it is taken to live, unless it says so again.
    alive_until  timestamptz      NOT NULL,
    -- Since when its appends are refused, for ever. Rows are kept: an owner without one is dead.
    fenced_at    timestamptz,
    -- Whether it takes its share of the duties.
    takes_duties boolean          NOT NULL DEFAULT false
);

CREATE INDEX owners_alive ON owners (alive_until) WHERE fenced_at IS NULL;

CREATE TABLE duties (
    -- A kind of background work, which one process does at a time.
    duty  text COLLATE "C" PRIMARY KEY,
    -- Whose it is; anybody's, where that owner is fenced.
    owner text COLLATE "C" NOT NULL
);

CREATE TABLE ledger (
    -- There is one ledger in a schema.
    one            boolean          PRIMARY KEY DEFAULT true CHECK (one),
    -- UUIDv7: what the ledger's labels at a provider bear. Never changed.
    id             text COLLATE "C" NOT NULL,
    -- How many migrations the schema has seen.
    format         integer          NOT NULL,
    -- The format that it was made with.
    created_format integer          NOT NULL,
    -- RFC 3339, UTC, six fractional digits, Z.
    created_at     text COLLATE "C" NOT NULL
);
