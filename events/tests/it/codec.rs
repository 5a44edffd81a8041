//! What the codec takes from an older or newer ledger, and what it refuses.

use lease_events::codec::{DecodeFailure, DomainEvent, decode, decode_metadata};
use lease_events::fold::StreamState;
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::StreamId;

use crate::samples::{acquired, lease, one_of_each, recorded, requested};

#[test]
fn every_event_is_read_back_from_its_bytes() {
    for event in one_of_each() {
        let bytes = event.data();
        let back = LeaseEvent::decode(event.event_type(), event.schema_version(), &bytes);
        assert_eq!(back.as_ref(), Ok(&event));
    }
}

#[test]
fn fields_that_a_newer_ledger_added_are_passed_over() {
    for event in one_of_each() {
        let data = event.data().replacen('{', "{\"addedLater\":{\"a\":[1]},", 1);
        assert_eq!(LeaseEvent::decode(event.event_type(), event.schema_version(), &data).as_ref(), Ok(&event));
    }
}

#[test]
fn a_newer_version_is_refused_in_a_sentence() {
    let failure = LeaseEvent::decode("lease-requested", 2, "{}").expect_err("version 2 is not known");
    let newer = DecodeFailure::NewerVersion { event_type: "lease-requested".to_owned(), version: 2, known: 1 };
    assert_eq!(failure, newer);
    assert_eq!(
        failure.to_string(),
        "version 2 of \"lease-requested\" is newer than this lease-ledger, which reads up to 1"
    );
}

#[test]
fn a_version_before_the_first_is_refused() {
    let failure = LeaseEvent::decode("lease-requested", 0, "{}").expect_err("versions start at 1");
    assert!(failure.to_string().contains("nothing upcasts version 0"), "{failure}");
}

#[test]
fn an_unknown_type_is_refused_in_a_sentence() {
    let failure = LeaseEvent::decode("lease-teleported", 1, "{}").expect_err("no such type");
    assert!(failure.to_string().starts_with("the type \"lease-teleported\" is not known"), "{failure}");
}

#[test]
fn malformed_data_says_where_it_stands_and_what_is_wrong() {
    let mut event = recorded(&LeaseEvent::from(requested()), &StreamId::lease(lease("lease")), 0, 9);
    event.data = event.data.replace("\"leaseId\"", "\"lease\"").into();
    let sentence = decode::<LeaseEvent>(&event).expect_err("a field is missing").to_string();
    for part in ["event 0 of stream lease-", "(position 9)", "lease-requested", "missing field `leaseId`"] {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
    event.metadata = "{}".into();
    let sentence = decode_metadata(&event).expect_err("the metadata is empty").to_string();
    assert!(sentence.contains("metadata of lease-requested"), "{sentence}");
}

#[test]
fn a_corrupt_stream_says_where_and_why() {
    let stream = StreamId::lease(lease("lease"));
    let history = [recorded(&LeaseEvent::from(acquired()), &stream, 0, 1)];
    let sentence = LeaseState::fold(&history).expect_err("nothing was requested").to_string();
    let because = "a lease-provider-acquired may not follow in a lease that is not there";
    assert_eq!(sentence, format!("stream {stream} is corrupt at revision 0: {because}"));
    assert_eq!(LeaseState::fold(&[]), Ok(None));
}
