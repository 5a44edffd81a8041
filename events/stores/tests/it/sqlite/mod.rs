//! The SQLite store: the contract, and what it promises beyond it.

mod contract {
    lease_stores::store_contract!(crate::support::SqlitePlace::new());
}
