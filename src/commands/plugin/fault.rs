//! Why nothing was done to a plugin.

use lease_events::failure::FailureClass;
use lease_events::id::LeaseId;

use crate::workers::registry::RegistryError;

/// Most leases that a sentence names: enough to begin with.
const LEASES_NAMED_MAX: usize = 5;

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// What is to be installed breaks rules: every fault, each a sentence.
    #[error("{}", .faults.join(" "))]
    Invalid {
        /// The field of the request that the first one is about.
        field: &'static str,
        /// One sentence a fault.
        faults: Vec<String>,
    },
    /// There is no such plugin.
    #[error("{0}")]
    Unknown(String),
    /// Another plugin, or the ledger itself, has what it declares.
    #[error("{0}")]
    Taken(String),
    /// Leases need it that are open, or may still hold something there.
    #[error(
        "The {what} is needed by {}; release or destroy what they hold first. A plugin that is disabled gives nothing \
         new, and still ends what it gave.",
        named(.leases)
    )]
    Needed {
        /// What they need, such as `plugin "boxes"`.
        what: String,
        /// Which leases, newest first.
        leases: Vec<LeaseId>,
    },
    /// The list of plugins cannot be read or written now, or this ledger has none.
    #[error("{0}")]
    Unavailable(String),
}

impl PluginFault {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Invalid { .. } => FailureClass::Invalid,
            Self::Unknown(_) => FailureClass::NotFound,
            Self::Taken(_) | Self::Needed { .. } => FailureClass::Conflict,
            Self::Unavailable(_) => FailureClass::Unavailable,
        }
    }

    /// A stable word for programs, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid-plugin",
            Self::Unknown(_) => "unknown-plugin",
            Self::Taken(_) => "driver-key-taken",
            Self::Needed { .. } => "plugin-needed",
            Self::Unavailable(_) => "plugins-unavailable",
        }
    }
}

impl From<RegistryError> for PluginFault {
    fn from(error: RegistryError) -> Self {
        let sentence = error.to_string();
        match error {
            // No command records a check.
            RegistryError::File { .. } | RegistryError::CheckedAnother { .. } => Self::Unavailable(sentence),
            RegistryError::Unknown { .. } => Self::Unknown(sentence),
            RegistryError::ProviderTaken { .. } | RegistryError::ProviderBuiltIn { .. } => Self::Taken(sentence),
            RegistryError::InvalidGrant { .. }
            | RegistryError::ForbiddenGrant { .. }
            | RegistryError::NotGrantable { .. } => Self::Invalid { field: "grants", faults: vec![sentence] },
        }
    }
}

fn named(leases: &[LeaseId]) -> String {
    let mut names: Vec<String> = leases.iter().take(LEASES_NAMED_MAX).map(LeaseId::to_string).collect();
    if leases.len() > LEASES_NAMED_MAX {
        names.push(format!("{} more", leases.len() - LEASES_NAMED_MAX));
    }
    let noun = if leases.len() == 1 { "lease" } else { "leases" };
    format!("{noun} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_are_named_as_far_as_a_sentence_can_bear() {
        let leases: Vec<LeaseId> = (0..7).map(|number| LeaseId::derived(&[&number.to_string()])).collect();
        let told = |leases: &[LeaseId]| {
            PluginFault::Needed { what: "plugin \"p\"".to_owned(), leases: leases.to_vec() }.to_string()
        };
        assert!(told(&leases[..1]).starts_with(&format!("The plugin \"p\" is needed by lease {};", leases[0])));
        let all = told(&leases);
        assert!(all.contains(&format!("{}, 2 more;", leases[4])) && !all.contains(&leases[5].to_string()), "{all}");
    }
}
