//! Several handles on one store, as several processes have them.

use std::sync::Arc;

use lease_events::store::{AppendError, Expected};

use super::Place;
use super::fixture::{append, append_from_many, stream, whole_log};

/// Two that append at once leave one log: no gap, nothing lost, the same for both.
pub async fn two_handles_share_one_log(place: &dyn Place) {
    let first = place.open().await;
    if !first.capabilities().several_processes {
        return;
    }
    let second = place.open().await;
    append_from_many(&[Arc::clone(&first), Arc::clone(&second)], 32, 8).await;
    let log = whole_log(&*first).await;
    assert_eq!(log.len(), 32 * 8);
    assert_eq!(whole_log(&*second).await, log);
}

/// What one handle remembers of a stream never stands against what another has written.
pub async fn a_refusal_names_what_another_handle_wrote(place: &dyn Place) {
    let first = place.open().await;
    if !first.capabilities().several_processes {
        return;
    }
    let second = place.open().await;
    let mut handles = [&first, &second].into_iter().cycle();
    for round in 0..10_u64 {
        let (Some(ahead), Some(behind)) = (handles.next(), handles.next()) else { unreachable!("it is a cycle") };
        handles.next();
        let expected = Expected::after(round.checked_sub(1));
        let won = ahead.append(append("a", expected, &[&format!("won{round}")])).await;
        assert!(won.is_ok(), "{won:?}");
        assert_eq!(
            behind.append(append("a", expected, &[&format!("lost{round}")])).await,
            Err(AppendError::WrongExpectedRevision { stream: stream("a"), expected, actual: Some(round) })
        );
    }
    assert_eq!(whole_log(&*first).await.len(), 10);
}
