//! What a check shows of a plugin, recorded without one, for the tests of the crate and of the whole ledger alike.

use chrono::DateTime;

use crate::workers::registry::Registry;
use crate::workers::trust::{self, Checked, Trust};

/// What a check shows of the example provider: it can do all but list.
pub(crate) fn of_the_example() -> Trust {
    Trust {
        idempotent_acquire: true,
        can_list: false,
        can_confirm_absence: true,
        supports_reuse: true,
        fencing: true,
        ownership: true,
        visibility_delay_ms: None,
    }
}

/// Records that a check has shown this of a driver.
pub(crate) fn record(registry: &Registry, plugin_key: &str, driver_key: &str, trust: Trust) {
    let digest = trust::digest(&registry.known(plugin_key).expect("it is installed"));
    let checked = Checked { digest, checked_at: DateTime::UNIX_EPOCH, failed: Vec::new(), trust };
    registry.record_check(plugin_key, driver_key, checked).expect("it is recorded");
}
