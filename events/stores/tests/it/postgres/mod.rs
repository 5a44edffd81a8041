//! The PostgreSQL store: the contract, and what it promises beyond it.

mod faults;
mod hooking;
mod opening;
mod owners;
mod proxy;
mod readers;
mod restarts;
mod rights;

mod contract {
    lease_stores::store_contract!(lease_stores::contract::postgres::PostgresPlace::new());
}

mod duties;
