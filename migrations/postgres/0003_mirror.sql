-- Where the events here are those of a log elsewhere (a KurrentDB server), numbered in their order: how far they follow it.

CREATE TABLE mirror (
    -- There is one row, or none where the events here are the log itself.
    one        boolean          PRIMARY KEY DEFAULT true CHECK (one),
    -- UUID: the other log says which mirror is its own.
    id         text COLLATE "C" NOT NULL,
    -- The position in the other log up to which all that is ours is here.
    checkpoint bigint           NOT NULL CHECK (checkpoint >= 0)
);
