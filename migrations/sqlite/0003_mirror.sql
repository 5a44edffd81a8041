-- Where the events here are those of a log elsewhere (a KurrentDB server), numbered in their order: how far they follow it.

CREATE TABLE mirror (
    -- There is one row, or none where the events here are the log itself.
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    -- UUID: the other log says which mirror is its own.
    id         TEXT    NOT NULL,
    -- The position in the other log up to which all that is ours is here.
    checkpoint INTEGER NOT NULL CHECK (checkpoint >= 0)
) STRICT;
