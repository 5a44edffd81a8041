//! `recover`: one pass of recovery by hand, and what it did, row by row.

use serde_json::json;

use super::App;
use super::client::Call;
use super::exit::{CliError, Exit};
use super::render::{line, or_nothing, table};
use crate::http::wire::recovery::RecoveryPass;

/// Runs it. A row that failed, or a sweep that could not look, is told in the exit code: it is tried again.
pub async fn recover(app: &App) -> Result<u8, CliError> {
    let answer = Call::post("/v1/recovery/passes", &json!({})).send(&app.transport).await?;
    let pass: RecoveryPass = answer.parse()?;
    if app.json {
        line(answer.text()?)?;
    } else {
        show(&pass)?;
    }
    let failed =
        pass.sweeps.iter().any(|sweep| sweep.fault.is_some() || sweep.rows.iter().any(|row| row.did.is_none()));
    if failed {
        return Err(CliError::Unavailable(
            "Some of what is due could not be seen to; it is on record and is tried again.".to_owned(),
        ));
    }
    Ok(Exit::Ok as u8)
}

fn show(pass: &RecoveryPass) -> Result<(), CliError> {
    for sweep in &pass.sweeps {
        if let Some(fault) = &sweep.fault {
            line(&format!("{}: {}", sweep.sweep, super::render::harmless(fault)))?;
        }
    }
    let rows: Vec<[String; 4]> = pass
        .sweeps
        .iter()
        .flat_map(|sweep| {
            sweep.rows.iter().map(|row| {
                let about = row.lease_id.map(|id| id.to_string()).or_else(|| row.provider_lease_id.clone());
                let did = row.did.clone().unwrap_or_else(|| "failed".to_owned());
                [sweep.sweep.clone(), or_nothing(about), did, row.because.clone()]
            })
        })
        .collect();
    if rows.is_empty() {
        return line("Nothing was due.");
    }
    line(&table(["SWEEP", "LEASE", "DID", "BECAUSE"], rows))
}
