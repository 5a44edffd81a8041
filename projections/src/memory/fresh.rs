//! Rebuild and verify in memory: a fresh fold of the log, swapped in or compared.

use lease_events::record::Position;
use lease_events::store::{Direction, READ_EVENTS_MAX};
use tokio::sync::mpsc;

use super::{MemoryFold, MemoryReadModel, find};
use crate::projection::{QueryError, Row, Table};
use crate::read_model::{DIFFERENCES_MAX, Difference, DifferenceKind, RebuildProgress, RebuildReport, VerifyReport};

impl MemoryReadModel {
    pub(super) async fn rebuild_fold(
        &self,
        name: &str,
        progress: &mpsc::Sender<RebuildProgress>,
    ) -> Result<RebuildReport, QueryError> {
        let (at, mut fresh) = self.fresh(name)?;
        loop {
            let more = self.extend(&mut fresh, u64::MAX).await?;
            // A slow reader of the progress loses some of it; the work does not wait.
            let _ = progress
                .try_send(RebuildProgress { position: Position(fresh.position), head: self.store.head().await? });
            let mut folds = self.projections.folds();
            // An append may have come behind the last page: the swap must not take the live fold back.
            if !more && folds[at].position <= fresh.position {
                let report = RebuildReport {
                    tables: fresh.projection.tables().iter().map(|table| table.name.to_owned()).collect(),
                    position: Position(fresh.position),
                    rows: fresh.rows(0).len() as u64,
                };
                folds[at] = fresh;
                self.projections.seen.send_replace(super::seen(&folds));
                return Ok(report);
            }
        }
    }

    pub(super) async fn verify_table(&self, name: &str) -> Result<VerifyReport, QueryError> {
        let (at, mut fresh) = self.fresh(name)?;
        let (_, view) = find(&self.projections.folds(), name)?;
        loop {
            let until = self.projections.folds()[at].position;
            while self.extend(&mut fresh, until).await? {}
            let folds = self.projections.folds();
            if folds[at].position == fresh.position {
                let table = fresh.projection.tables()[view];
                let live = folds[at].rows(view);
                return Ok(VerifyReport {
                    table: table.name.to_owned(),
                    position: Position(fresh.position),
                    rows: live.len() as u64,
                    differences: differences(table, &live, &fresh.rows(view)),
                });
            }
        }
    }

    fn fresh(&self, name: &str) -> Result<(usize, MemoryFold), QueryError> {
        let folds = self.projections.folds();
        let (at, _) = find(&folds, name)?;
        Ok((at, MemoryFold::new(folds[at].projection.clone())))
    }

    /// Folds one page of the log, up to `until`; answers whether there may be more.
    async fn extend(&self, fresh: &mut MemoryFold, until: u64) -> Result<bool, QueryError> {
        let mut events = self.store.read_all(Position(fresh.position), Direction::Forwards, READ_EVENTS_MAX).await?;
        events.retain(|event| event.position.0 <= until);
        for event in &events {
            fresh.step(event).map_err(|error| QueryError::Stalled {
                name: error.table.to_owned(),
                position: fresh.position,
                cause: error.cause,
            })?;
        }
        Ok(!events.is_empty())
    }
}

fn differences(table: &Table, live: &[Row], fresh: &[Row]) -> Vec<Difference> {
    let key = |row: &Row| match row.first() {
        Some(crate::projection::Value::Text(key)) => key.to_string(),
        _ => String::new(),
    };
    let of = |rows: &[Row], wanted: &str| rows.iter().find(|row| key(row) == wanted).cloned();
    let changed = live.iter().filter_map(|row| {
        let key = key(row);
        let kind = match of(fresh, &key) {
            None => DifferenceKind::Surplus,
            Some(other) if other == *row => return None,
            Some(other) => DifferenceKind::Columns(
                table
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| row[*at] != other[*at])
                    .map(|(_, it)| it.name)
                    .collect(),
            ),
        };
        Some(Difference { key, kind })
    });
    let missing = fresh
        .iter()
        .map(key)
        .filter(|key| of(live, key).is_none())
        .map(|key| Difference { key, kind: DifferenceKind::Missing });
    changed.chain(missing).take(DIFFERENCES_MAX).collect()
}
