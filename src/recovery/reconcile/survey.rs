//! Which listings are to be taken, and what the ledger says is held at each: from the environments, and from the records
//! of the leases themselves, so that an environment that is archived, or whose config is broken, leaves nothing unseen.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::environment::{EnvironmentState, EnvironmentStatus};
use lease_events::id::{EnvironmentId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::Position;
use lease_projections::projection::QueryError;
use lease_projections::read_model::{EnvironmentFilter, LeaseFilter, ROWS_MAX};
use serde_json::Value;

use crate::commands::Context;
use crate::drivers::{DriverTraits, ProbeScope};

/// How long an archived environment is still listed under its own config: what was made late shows up within a day.
const ARCHIVED_LISTED_FOR: TimeDelta = TimeDelta::days(1);

/// One listing that is to be taken.
pub(super) struct Listing {
    pub(super) driver: String,
    pub(super) provider: String,
    pub(super) config: Value,
    pub(super) scope: ProbeScope,
    pub(super) traits: DriverTraits,
    /// What leases are said to hold there.
    pub(super) held: Vec<Holding>,
}

/// What a lease is said to hold: a hint, which is looked at again on its stream.
pub(super) struct Holding {
    pub(super) lease_id: LeaseId,
    pub(super) provider_lease_id: String,
    /// When something last happened to the lease.
    pub(super) since: DateTime<Utc>,
}

/// The listings, of one environment or of all.
pub(super) async fn listings(
    context: &Context,
    environment: Option<EnvironmentId>,
) -> Result<Vec<Listing>, QueryError> {
    let mut listings = BTreeMap::new();
    let mut before = None;
    loop {
        let filter = EnvironmentFilter { before, limit: ROWS_MAX, ..EnvironmentFilter::default() };
        let page = match environment {
            Some(id) => context.read_model.environment(id).await?.into_iter().collect(),
            None => context.read_model.environments(&filter).await?,
        };
        for environment in &page {
            add_environment(context, environment, &mut listings);
            add_leases(context, environment, &mut listings).await?;
        }
        if environment.is_some() || page.len() < ROWS_MAX {
            return Ok(listings.into_values().collect());
        }
        before = page.last().map(|environment| environment.created_position);
    }
}

type Listings = BTreeMap<(String, String), Listing>;

fn add_environment(context: &Context, environment: &EnvironmentState, listings: &mut Listings) {
    let lately = |at: DateTime<Utc>| at + ARCHIVED_LISTED_FOR > context.clock.now();
    if environment.status == EnvironmentStatus::Active || environment.archived_at.is_some_and(lately) {
        let scope = ProbeScope { company_id: environment.company_id, environment_id: environment.environment_id };
        listing(context, &environment.driver, &environment.config, scope, listings);
    }
}

async fn add_leases(
    context: &Context,
    environment: &EnvironmentState,
    listings: &mut Listings,
) -> Result<(), QueryError> {
    let mut before: Option<Position> = None;
    loop {
        let filter = LeaseFilter {
            environment_id: Some(environment.environment_id),
            unsettled: true,
            before,
            limit: ROWS_MAX,
            ..LeaseFilter::default()
        };
        let page = context.read_model.leases(&filter).await?;
        for lease in &page {
            let scope = ProbeScope { company_id: lease.company_id, environment_id: lease.environment_id };
            let found = listing(context, &lease.driver, &lease.config, scope, listings);
            if let (Some(listing), Some(held)) = (found, holding(lease)) {
                listing.held.push(held);
            }
        }
        if page.len() < ROWS_MAX {
            return Ok(());
        }
        before = page.last().map(|lease| lease.created_position);
    }
}

/// What a lease holds that is settled: what is under way is for others to settle.
fn holding(lease: &LeaseState) -> Option<Holding> {
    let is_settled = lease.status == LeaseStatus::Active || (!lease.status.is_open() && lease.keeps_something());
    let provider_lease_id = lease.provider_lease_id().filter(|_| is_settled)?.to_owned();
    Some(Holding { lease_id: lease.lease_id, provider_lease_id, since: lease.updated_at })
}

/// The listing that covers this config; `None` where its provider cannot list.
fn listing<'l>(
    context: &Context,
    driver_key: &str,
    config: &Value,
    scope: ProbeScope,
    listings: &'l mut Listings,
) -> Option<&'l mut Listing> {
    let driver = context.drivers.get(driver_key)?;
    let traits = driver.traits(config);
    if !traits.can_list {
        return None;
    }
    let covers = driver.listing(config);
    let provider = config["provider"].as_str().or_else(|| config["driverKey"].as_str()).unwrap_or(driver_key);
    let covers = covers.unwrap_or_else(|| format!("{} {config}", scope.environment_id));
    Some(listings.entry((driver_key.to_owned(), covers)).or_insert_with(|| Listing {
        driver: driver_key.to_owned(),
        provider: provider.to_owned(),
        config: config.clone(),
        scope,
        traits,
        held: Vec::new(),
    }))
}
