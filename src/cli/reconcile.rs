//! `reconcile`: the ledger and its providers, compared, and what was done about where they disagree.

use clap::Args;

use super::App;
use super::client::Call;
use super::environment::resolve;
use super::exit::{CliError, Exit};
use super::render::{harmless, line, or_nothing, table};
use crate::http::wire::reconciliation::{Reconcile, Reconciliation};

/// `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Only what is listed for this environment, by name or id, and only what is its own
    #[arg(long, value_name = "NAME|ID")]
    environment: Option<String>,
    /// Change nothing: only tell where ledger and providers disagree
    #[arg(long)]
    dry_run: bool,
    /// Exit with 4 where ledger and providers disagreed, whatever was done about it
    #[arg(long)]
    fail_on_drift: bool,
    /// See to drift all the same that is more than mishaps explain; at most 20 things are destroyed at once
    #[arg(long)]
    accept_drift: bool,
}

/// Runs it. A listing that could not be taken, or a thing that could not be destroyed, is told in the exit code.
pub async fn reconcile(app: &App, args: &ReconcileArgs) -> Result<u8, CliError> {
    let mut body = Reconcile { dry_run: args.dry_run, accept_drift: args.accept_drift, ..Reconcile::default() };
    if let Some(called) = &args.environment {
        body.environment_id = Some(resolve(app, called).await?.id);
        body.company_id = Some(app.company);
    }
    let answer = Call::post("/v1/reconciliations", &body).send(&app.transport).await?;
    let report: Reconciliation = answer.parse()?;
    if app.json {
        line(answer.text()?)?;
    } else {
        show(&report)?;
    }
    verdict(&report, args.fail_on_drift)
}

fn verdict(report: &Reconciliation, fail_on_drift: bool) -> Result<u8, CliError> {
    if fail_on_drift && report.drift {
        return Err(CliError::Differences("The ledger and its providers disagree.".to_owned()));
    }
    let failed = |listing: &crate::http::wire::reconciliation::ListingReport| {
        listing.fault.is_some() || listing.findings.iter().any(|finding| finding.failed)
    };
    if report.fault.is_some() || report.listings.iter().any(failed) {
        let sentence = "Not everything could be compared or seen to; the next reconciliation tries again.";
        return Err(CliError::Unavailable(sentence.to_owned()));
    }
    Ok(Exit::Ok as u8)
}

fn show(report: &Reconciliation) -> Result<(), CliError> {
    if let Some(fault) = &report.fault {
        line(&harmless(fault))?;
    }
    if report.listings.is_empty() {
        return line("No provider of any environment can list what it holds.");
    }
    let summary = report.listings.iter().map(|listing| {
        [
            listing.driver.clone(),
            listing.provider.clone(),
            listing.listed.to_string(),
            listing.ours.to_string(),
            listing.foreign.to_string(),
            listing.held.to_string(),
        ]
    });
    line(&table(["DRIVER", "PROVIDER", "LISTED", "OURS", "FOREIGN", "HELD"], summary))?;
    for listing in &report.listings {
        for sentence in listing.fault.iter().chain(&listing.stopped) {
            line(&format!("{}: {}", listing.provider, harmless(sentence)))?;
        }
    }
    let findings: Vec<[String; 4]> = report
        .listings
        .iter()
        .flat_map(|listing| &listing.findings)
        .map(|finding| {
            let did = if finding.failed { Some("failed".to_owned()) } else { finding.did.clone() };
            [finding.kind.clone(), finding.provider_lease_id.clone(), or_nothing(did), finding.because.clone()]
        })
        .collect();
    if findings.is_empty() {
        return line("The ledger and its providers agree.");
    }
    line(&table(["FINDING", "THING", "DID", "BECAUSE"], findings))
}
