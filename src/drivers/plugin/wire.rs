//! What workers answer, read leniently: what is missing or strange where it does not matter is left out, never guessed.

use chrono::{DateTime, Utc};
use lease_events::id::{LeaseId, LedgerId};
use lease_events::lease::vocabulary::ReceiptState;
use serde_json::{Map, Value};

use crate::drivers::{Diagnostic, IDENTITY_FIELDS, Listed, ProbeReport, Severity};

/// Keys of lease metadata that are the host's own (B25): no provider writes them, and none gets them back (B12).
const HOST_KEYS: [&str; 12] = [
    "driver",
    "driverKey",
    "executionWorkspaceMode",
    IDENTITY_FIELDS,
    "leasePolicy",
    "plugin",
    "pluginId",
    "pluginKey",
    "policy",
    "provider",
    "providerMetadata",
    "sandboxProviderPlugin",
];

/// A lease, as a worker answers it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::drivers) struct ProviderLease {
    /// The provider's name of it.
    pub(in crate::drivers) id: Option<String>,
    /// What it says of it.
    pub(in crate::drivers) metadata: Map<String, Value>,
    /// Its end; an unreadable date is none (B23).
    pub(in crate::drivers) expires_at: Option<DateTime<Utc>>,
}

/// Reads a lease; `None` where it is no object.
pub(super) fn lease(answer: &Value) -> Option<ProviderLease> {
    let answer = answer.as_object()?;
    let text = |key: &str| answer.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(ProviderLease {
        id: text("providerLeaseId"),
        metadata: object(answer.get("metadata")),
        expires_at: text("expiresAt").and_then(|text| date(&text)),
    })
}

/// What a release or destroy left: `null` says that it was done, and no more.
pub(super) fn receipt_state(answer: &Value, keep: bool) -> ReceiptState {
    match answer["state"].as_str() {
        Some("stopped") => ReceiptState::Kept,
        Some("destroyed") => ReceiptState::Destroyed,
        _ if keep => ReceiptState::Kept,
        _ => ReceiptState::Destroyed,
    }
}

/// Reads a probe's report; `None` where it does not say whether it would work.
pub(super) fn probe_report(answer: &Value) -> Option<ProbeReport> {
    let ok = answer["ok"].as_bool()?;
    let otherwise = if ok { "The provider is there." } else { "The provider says that it would not work." };
    let summary = answer["summary"].as_str().unwrap_or(otherwise).to_owned();
    let diagnostics = answer["diagnostics"].as_array().into_iter().flatten().filter_map(|one| {
        let severity = match one["severity"].as_str()? {
            "error" => Severity::Error,
            "warning" => Severity::Warning,
            _ => Severity::Info,
        };
        let code = one["code"].as_str().map(str::to_owned);
        Some(Diagnostic { severity, message: one["message"].as_str()?.to_owned(), code })
    });
    Some(ProbeReport { ok, summary, diagnostics: diagnostics.collect() })
}

/// Reads a listing; `None` where it is none. A thing without a name cannot be asked for, and is left out.
pub(super) fn listing(answer: &Value) -> Option<Vec<Listed>> {
    let leases = answer["leases"].as_array()?;
    let listed = |one: &Value| {
        let label = |key: &str| one["metadata"][key].as_str().or_else(|| one[key].as_str());
        Some(Listed {
            provider_lease_id: one["providerLeaseId"].as_str()?.to_owned(),
            ledger_id: label("ledgerId").and_then(|text| text.parse::<LedgerId>().ok()),
            lease_id: label("leaseId").and_then(|text| text.parse::<LeaseId>().ok()),
            created_at: one["createdAt"].as_str().and_then(date),
        })
    };
    Some(leases.iter().filter_map(listed).collect())
}

/// The provider's own keys of lease metadata.
pub(in crate::drivers) fn without_host_keys(metadata: &Map<String, Value>) -> Map<String, Value> {
    let own = metadata.iter().filter(|(key, _)| !HOST_KEYS.contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An object, or an empty one.
pub(super) fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|date| date.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_is_read_as_given_and_a_bad_date_is_none() {
        let read =
            lease(&json!({ "providerLeaseId": "x", "expiresAt": "2026-02-30T00:00:00Z", "metadata": 7 })).unwrap();
        assert_eq!((read.id.as_deref(), read.expires_at, read.metadata.len()), (Some("x"), None, 0));
        let read = lease(&json!({ "providerLeaseId": null, "expiresAt": "2026-02-03T04:05:06+01:00" })).unwrap();
        assert_eq!(read.id, None);
        assert_eq!(read.expires_at.unwrap().to_rfc3339(), "2026-02-03T03:05:06+00:00");
        assert_eq!(lease(&Value::Null), None);
    }

    #[test]
    fn a_receipt_says_what_is_left() {
        let state = |answer: Value, keep| receipt_state(&answer, keep);
        assert_eq!(state(json!({ "state": "stopped" }), false), ReceiptState::Kept, "it was not removed");
        assert_eq!(state(json!({ "state": "destroyed" }), true), ReceiptState::Destroyed);
        assert_eq!(state(Value::Null, true), ReceiptState::Kept);
        assert_eq!(state(Value::Null, false), ReceiptState::Destroyed);
    }

    #[test]
    fn a_listing_shows_what_can_be_asked_for() {
        let answer = json!({ "leases": [
            { "providerLeaseId": "a", "createdAt": "2026-01-01T00:00:00Z",
              "metadata": { "leaseId": "0198c0de-0000-7000-8000-000000000001" } },
            { "runId": "r" },
        ] });
        let listed = listing(&answer).unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].lease_id.is_some() && listed[0].ledger_id.is_none() && listed[0].created_at.is_some());
        assert!(listing(&Value::Null).is_none());
    }
}
