//! The contract suite: what every store must pass, as functions over a [`Place`]. Test support, not for production.
//!
//! A store's test file names its place and lists the suite:
//!
//! ```text
//! lease_stores::store_contract!(MyPlace::new());
//! ```
//!
//! Each case becomes a test of its own. A case about something that a store does not declare
//! ([`Capabilities`](lease_events::store::Capabilities)) asks nothing of it.

#![expect(clippy::missing_panics_doc, reason = "a case panics where the store breaks the contract: that is its use")]

mod fixture;

pub mod appending;
pub mod postgres;
pub mod postgres_server;
pub mod reading;
pub mod repeating;
pub mod several;
pub mod subscribing;
pub mod surviving;

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::store::EventStore;

pub use self::fixture::{append, event, ids_of, stream};

/// Where a store keeps its events: one place for each case.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store of this place. The first time it is empty. Where the store is durable, it then holds what was
    /// there before; where several processes may use it, it may be open more than once.
    async fn open(&self) -> Arc<dyn EventStore>;
}

/// Makes one test of each case of the suite. The argument makes a fresh [`Place`](crate::contract::Place).
#[macro_export]
macro_rules! store_contract {
    ($place:expr) => {
        $crate::store_contract! { @cases $place;
            appending: an_empty_store_holds_nothing, no_stream_succeeds_once, exact_follows_the_end,
                a_wrong_revision_is_refused_and_named, an_append_is_all_or_nothing, what_breaks_a_limit_is_refused,
                concurrent_appends_leave_no_gap, one_of_many_wins_a_stream, a_conflict_fails_only_itself,
                positions_are_in_commit_order;
            repeating: a_repetition_is_answered_with_what_is_stored, a_repetition_is_known_after_later_appends,
                a_repetition_in_flight_is_written_once, a_partial_repetition_is_refused,
                the_same_id_in_two_streams_is_two_events, a_repetition_is_known_after_reopening,
                a_repetition_is_known_to_a_second_handle;
            reading: a_stream_is_read_both_ways, the_log_is_read_both_ways, reads_are_bounded,
                bytes_are_kept_exactly, what_is_answered_is_what_is_read;
            subscribing: a_subscription_sees_everything_once, a_subscription_starts_where_it_is_told,
                a_slow_subscriber_misses_nothing, a_subscriber_ahead_of_the_log_waits,
                a_subscription_ends_when_the_store_closes, a_subscription_sees_what_another_handle_appends;
            several: two_handles_share_one_log, a_refusal_names_what_another_handle_wrote;
            surviving: acknowledged_events_survive_reopening, closing_finishes_what_waits, a_closed_store_refuses;
        }
    };
    (@cases $place:expr; $($topic:ident: $($case:ident),*;)*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::contract::$topic::$case(&$place).await;
        }
    )*)*};
}
