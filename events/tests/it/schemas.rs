//! The JSON Schemas in `events/schemas/` are those of the code, and never change so that an old reader breaks.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::compatibility::breaks;
use crate::generated::{compare, event_schemas, in_crate, names_in, updating};

#[test]
fn the_schemas_are_those_of_the_code() {
    for event in event_schemas() {
        let path = in_crate(&format!("schemas/{}.json", event.stem()));
        if let Ok(committed) = fs::read_to_string(&path) {
            let committed: Value = serde_json::from_str(&committed).expect("a committed schema is JSON");
            let faults = breaks(&committed, &event.schema);
            assert!(
                faults.is_empty(),
                "{} changed so that an old reader or old data breaks: {}. Raise its version and add an upcaster.",
                event.stem(),
                faults.join("; ")
            );
        } else {
            assert!(updating(), "{} has no schema yet; run `cargo xtask generate`", event.stem());
        }
        let text = serde_json::to_string_pretty(&event.schema).expect("a schema is JSON");
        compare(&path, &(text + "\n"));
    }
    // Every version that ever was keeps its schema, for whoever reads old data.
    let ever: BTreeSet<String> = event_schemas()
        .iter()
        .flat_map(|event| (1..=event.version).map(|version| format!("{}.v{version}.json", event.event_type)))
        .collect();
    assert_eq!(names_in(&in_crate("schemas")).into_iter().collect::<BTreeSet<_>>(), ever);
}
