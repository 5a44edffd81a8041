//! Any sequence of appends, alone or several at once, ends as a tiny model says: for the memory and the SQLite store.
