//! Which leases still need a plugin: those that are open, and those that may hold something there after their end.

use std::time::Duration;

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_projections::current_leases::TABLE;
use lease_projections::read_model::{LeaseFilter, ROWS_MAX};

use super::PluginFault;
use crate::commands::Context;
use crate::workers::manifest::{DriverDeclaration, DriverKind};
use crate::workers::registry::InstalledPlugin;

/// How long the projections may take to have seen all that was stored before.
const PROJECTED_WITHIN: Duration = Duration::from_secs(10);

/// That no lease needs one of the plugin's drivers that `among` picks.
pub(super) async fn nobody(
    context: &Context,
    plugin: &InstalledPlugin,
    among: impl Fn(&DriverDeclaration) -> bool,
) -> Result<(), PluginFault> {
    let unavailable = |cause: String| PluginFault::Unavailable(format!("Who needs the plugin is not known: {cause}"));
    let head = context.store.head().await.map_err(|error| unavailable(error.to_string()))?;
    let projected = context.read_model.wait_for(head, PROJECTED_WITHIN).await;
    projected.map_err(|error| unavailable(error.to_string()))?;
    let statuses = context.read_model.statuses().await.map_err(|error| unavailable(error.to_string()))?;
    if let Some(stalled) = statuses.iter().find(|one| one.name == TABLE.name && one.stalled.is_some()) {
        // It would name too few.
        let name = &stalled.name;
        return Err(unavailable(format!("the projection {name} stands still; `projection rebuild {name}` mends it.")));
    }
    let (mut leases, mut before): (Vec<LeaseId>, _) = (Vec::new(), None);
    loop {
        let filter = LeaseFilter { unsettled: true, before, limit: ROWS_MAX, ..LeaseFilter::default() };
        let page = context.read_model.leases(&filter).await.map_err(|error| unavailable(error.to_string()))?;
        let needing = page.iter().filter(|lease| driver_of(lease, plugin).is_some_and(&among));
        leases.extend(needing.map(|lease| lease.lease_id));
        before = page.last().map(|lease| lease.created_position);
        if page.len() < ROWS_MAX {
            break;
        }
    }
    if leases.is_empty() {
        return Ok(());
    }
    Err(PluginFault::Needed { what: format!("plugin \"{}\"", plugin.key()), leases })
}

/// The plugin's driver that the lease is of, by what it recorded, or where nothing was given yet, by its config.
fn driver_of<'a>(lease: &LeaseState, plugin: &'a InstalledPlugin) -> Option<&'a DriverDeclaration> {
    let held = lease.provider_lease.as_ref().map(|held| &held.metadata);
    let recorded = |key: &str| held.and_then(|metadata| metadata.get(key)?.as_str());
    let manifest = &plugin.manifest;
    match lease.driver.as_str() {
        "plugin" => {
            let word = |key: &str| recorded(key).or_else(|| lease.config.get(key)?.as_str());
            let driver_key = word("driverKey").filter(|_| word("pluginKey") == Some(plugin.key()))?;
            manifest.driver(driver_key, DriverKind::EnvironmentDriver)
        }
        "sandbox" if recorded("pluginKey").is_none_or(|key| key == plugin.key()) => {
            manifest.driver(&lease.provider, DriverKind::SandboxProvider)
        }
        _ => None,
    }
}
