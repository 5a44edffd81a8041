//! The PostgreSQL store: the contract, and what it promises beyond it.

mod contract {
    lease_stores::store_contract!(lease_stores::contract::postgres::PostgresPlace::new());
}

mod duties;
