//! The memory store: the contract, and that it needs no time of its own.

mod contract {
    lease_stores::store_contract!(crate::support::MemoryPlace);
}
