//! `lease why`: the reuse decisions of a lease as a table, and in one sentence.

use lease_events::id::LeaseId;

use super::story::verdict_words;
use crate::cli::App;
use crate::cli::client::Call;
use crate::cli::duration::absolute;
use crate::cli::exit::CliError;
use crate::cli::render::{harmless, line, or_nothing, table};
use crate::http::wire::lease::{LeaseScope, LeaseWhy};

pub(super) async fn why(app: &App, id: LeaseId) -> Result<(), CliError> {
    let scope = LeaseScope { company_id: Some(app.company) };
    let answer = Call::get(format!("/v1/leases/{id}/why")).query(&scope).send(&app.transport).await?;
    if app.json {
        return line(answer.text()?);
    }
    let why: LeaseWhy = answer.parse()?;
    let rows: Vec<[String; 5]> = why
        .decisions
        .iter()
        .flat_map(|decision| {
            decision.candidates.iter().map(|candidate| {
                [
                    absolute(decision.at.0),
                    candidate.lease_id.to_string(),
                    or_nothing(candidate.provider_lease_id.as_ref()),
                    verdict_words(candidate.verdict).to_owned(),
                    or_nothing(candidate.detail.as_ref()),
                ]
            })
        })
        .collect();
    if !rows.is_empty() {
        line(&table(["WHEN", "LEFT BY LEASE", "SANDBOX", "VERDICT", "DETAIL"], rows))?;
    }
    line(&harmless(&in_words(&why)))
}

fn in_words(why: &LeaseWhy) -> String {
    let lease = &why.lease;
    let candidates: usize = why.decisions.iter().map(|decision| decision.candidates.len()).sum();
    let looked = match candidates {
        0 => "no lease had left any".to_owned(),
        1 => "the one that was looked at was not to be had".to_owned(),
        count => format!("none of the {count} that were looked at was to be had"),
    };
    let got = lease.provider_lease_id.as_deref().unwrap_or("nothing");
    match (lease.resumed_from, why.decisions.is_empty()) {
        (Some(from), _) => format!("Lease {} resumed {got}, which lease {from} had left.", lease.id),
        (None, true) if lease.acquired_at.is_none() => {
            format!("Lease {} is {}, and nothing was decided on reuse.", lease.id, lease.status)
        }
        (None, true) => {
            format!("Lease {} got {got}, a fresh one, because its policy ({}) reuses nothing.", lease.id, lease.policy)
        }
        (None, false) if lease.acquired_at.is_none() => {
            format!("Lease {} is {}, and found nothing to reuse: {looked}.", lease.id, lease.status)
        }
        (None, false) => format!("Lease {} got {got}, a fresh one, because {looked}.", lease.id),
    }
}
