//! The SQLite store: the contract, and what it promises beyond it.

mod failing;
mod hooking;
mod moving;
mod opening;
mod processes;
mod rows;

mod contract {
    lease_stores::store_contract!(crate::support::SqlitePlace::new());
}
