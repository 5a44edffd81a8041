//! Settling an acquire by the provider's listing: what bears the label of ledger and lease is the lease's.

use chrono::TimeDelta;
use lease_events::failure::Fault;
use lease_events::lease::event::LeaseEffectUnknown;
use lease_events::lease::vocabulary::{Effect, Reason};
use lease_events::seam::crash::Step;
use serde_json::Map;

use super::acquire::{Settling, is_unsettled};
use crate::commands::acquire::{FIRST_TOKEN, recipe};
use crate::commands::effect::{scope, within};
use crate::commands::error::CommandError;
use crate::commands::owe::{self, Try};
use crate::commands::upkeep::{Did, Upkeep};
use crate::drivers::{Acquired, DriverTraits, EnvironmentDriver, Held, Listed, Outcome, ProbeScope, Resumed};

/// The fault of a lease that a listing did not show, once, after its visibility delay.
const NOT_LISTED: &str = "not-listed";

impl Settling<'_> {
    /// Looks for what bears the lease's label.
    pub(super) async fn look(
        self,
        driver: &dyn EnvironmentDriver,
        traits: &DriverTraits,
        wanted: bool,
    ) -> Result<Option<Upkeep>, CommandError> {
        let state = self.session.state()?;
        let probe = ProbeScope { company_id: state.company_id, environment_id: state.environment_id };
        let (ledger_id, lease_id) = (state.ledger_id, state.lease_id);
        let effect = within(traits.call_timeout, driver.list(&probe, &state.config));
        match self.context.step(Step::SettleEffect, effect).await {
            Outcome::Done(listed) => {
                let is_ours = |thing: &Listed| thing.ledger_id == Some(ledger_id) && thing.lease_id == Some(lease_id);
                match listed.into_iter().find(is_ours) {
                    Some(thing) => self.found_listed(driver, traits, thing.provider_lease_id, wanted).await,
                    None => self.not_listed(driver, traits).await,
                }
            }
            Outcome::Refused(fault) => self.cannot_tell(fault).await,
            Outcome::NotDone(fault) => self.try_later(&Try::failed(&fault)).await,
            Outcome::Unknown(fault) => self.try_later(&Try { fault, charged: true, hopeless: false }).await,
        }
    }

    /// A listing gives a name and no more. Where the provider can resume it, it says the rest; else it is of no use to
    /// anybody, and is destroyed.
    pub(super) async fn found_listed(
        mut self,
        driver: &dyn EnvironmentDriver,
        traits: &DriverTraits,
        provider_lease_id: String,
        wanted: bool,
    ) -> Result<Option<Upkeep>, CommandError> {
        let named = Held { provider_lease_id: Some(provider_lease_id.clone()), metadata: Map::new() };
        if wanted && traits.supports_reuse {
            let scope = scope(self.session.state()?, FIRST_TOKEN, 1);
            let effect = within(traits.call_timeout, driver.resume(&scope, &named));
            if let Outcome::Done(Resumed::Same(acquired)) = self.context.step(Step::SettleEffect, effect).await
                && acquired.provider_lease_id == named.provider_lease_id
            {
                return self.found(&acquired, true).await;
            }
        }
        let bare = Acquired { provider_lease_id: Some(provider_lease_id), ..Acquired::default() };
        self.found(&bare, false).await
    }

    async fn not_listed(
        mut self,
        driver: &dyn EnvironmentDriver,
        traits: &DriverTraits,
    ) -> Result<Option<Upkeep>, CommandError> {
        let (context, state) = (self.context, self.session.state()?);
        if !self.is_due {
            // Seen at once it would have been found; not seen, it may not show yet.
            return Ok(Some(Upkeep::new(Did::StillUnknown, format!("{}; it is not listed yet", self.because))));
        }
        let is_second = state.last_fault.as_ref().is_some_and(|fault| fault.code == NOT_LISTED);
        if is_second && traits.can_confirm_absence {
            return self.give_up(Did::GivenUp, Reason::RecoverySettled).await;
        }
        if is_second {
            let sentence = format!(
                "the {} driver's listing does not show it, and cannot prove that it is not there",
                driver.key()
            );
            return self.cannot_tell(Fault::new("cannot-tell", sentence)).await;
        }
        let delay = TimeDelta::from_std(traits.visibility_delay).unwrap_or_default();
        let record = self.session.append_outcome(|state| {
            if !is_unsettled(state) {
                return Vec::new();
            }
            let fault = Fault::new(NOT_LISTED, "the provider's listing does not show it");
            let (settle_by, settle_at) = (recipe(traits).to_owned(), context.clock.now() + delay);
            vec![LeaseEffectUnknown { effect: Effect::Acquire, fault, settle_by, settle_at, owner: None }.into()]
        });
        context.step(Step::SettleOutcome, record).await?;
        Ok(Some(Upkeep::new(Did::StillUnknown, "the provider's listing does not show it; it is looked for once more")))
    }

    /// The provider cannot tell: an operator's case, in which the ledger still looks daily.
    async fn cannot_tell(mut self, fault: Fault) -> Result<Option<Upkeep>, CommandError> {
        let context = self.context;
        let record = self.session.append_outcome(|state| {
            if is_unsettled(state) { vec![owe::escalated(context, state, fault.clone())] } else { Vec::new() }
        });
        context.step(Step::SettleOutcome, record).await?;
        Ok(Some(Upkeep::new(Did::Escalated, fault.message)))
    }
}
