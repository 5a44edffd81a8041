//! Secrets in variables of the ledger's own process, which the operator sets.
//!
//! **Invariant:** a company reads only the variables that bear its id: what is another's cannot be named. The variable
//! of name `NAME` is `PREFIX`, the company's id without hyphens in capitals, `_`, and `NAME`.

use std::ffi::OsString;
use std::sync::Arc;

use async_trait::async_trait;
use lease_events::id::{CompanyId, SecretId};
use lease_events::secret::SecretProviderKind;
use secrecy::SecretString;

use super::{Place, SecretFault, SecretProvider, check_value};

/// The beginning of the variables that are granted where the operator says nothing else.
pub const PREFIX_DEFAULT: &str = "LEASE_SECRET_";

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Looks a variable up.
pub type Lookup = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Secrets in variables.
pub struct EnvironmentSecrets {
    prefix: String,
    lookup: Lookup,
}

impl EnvironmentSecrets {
    /// Those whose variables begin with `prefix`, as `lookup` finds them.
    #[must_use]
    pub fn new(prefix: String, lookup: Lookup) -> Self {
        Self { prefix, lookup }
    }

    fn variable(&self, company: CompanyId, name: &str) -> Result<String, SecretFault> {
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name {
            let company = company.0.simple().to_string().to_uppercase();
            return Ok(format!("{}{company}_{name}", self.prefix));
        }
        Err(SecretFault::invalid(format!(
            "a variable is named by 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9 and _, such as DEPLOY_KEY"
        )))
    }
}

#[async_trait]
impl SecretProvider for EnvironmentSecrets {
    fn kind(&self) -> SecretProviderKind {
        SecretProviderKind::Environment
    }

    async fn keep(&self, _: Place, _: &str, _: &SecretString) -> Result<(), SecretFault> {
        Err(SecretFault::invalid("the environment keeps no value; set the variable, then name it"))
    }

    async fn read(&self, place: Place, locator: &str) -> Result<SecretString, SecretFault> {
        let variable = self.variable(place.company_id, locator)?;
        let Some(value) = (self.lookup)(&variable) else {
            let clause = format!("the variable {variable} is not set where the ledger runs");
            return Err(SecretFault::Missing { clause });
        };
        let no_text = |_| SecretFault::invalid(format!("the variable {variable} is not UTF-8"));
        let value = value.into_string().map_err(no_text)?.into();
        check_value(&value)?;
        Ok(value)
    }

    async fn discard(&self, _: &str) -> Result<(), SecretFault> {
        Ok(())
    }

    async fn discard_secret(&self, _: SecretId) -> Result<(), SecretFault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn place(company: &str) -> Place {
        Place { company_id: CompanyId::derived(&[company]), secret_id: SecretId::derived(&["x"]), version: 1 }
    }

    #[tokio::test]
    async fn a_company_reads_its_own_granted_variables_and_no_others() {
        let own = place("own");
        let name = format!("LEASE_SECRET_{}_DEPLOY_KEY", own.company_id.0.simple().to_string().to_uppercase());
        let variables = move |asked: &str| match asked {
            asked if asked == name => Some(OsString::from("correct horse")),
            "PATH" | "LEASE_LEDGER_SECRET_KEY" => Some(OsString::from("not to be read")),
            _ => None,
        };
        let secrets = EnvironmentSecrets::new(PREFIX_DEFAULT.to_owned(), Arc::new(variables));
        let read = secrets.read(own, "DEPLOY_KEY").await.expect("it is set");
        assert_eq!(read.expose_secret(), "correct horse");
        let other = secrets.read(place("other"), "DEPLOY_KEY").await.expect_err("it is another's").to_string();
        assert!(other.starts_with("the variable LEASE_SECRET_") && other.contains("is not set"), "{other}");
        for name in ["PATH", "LEASE_LEDGER_SECRET_KEY"] {
            assert!(matches!(secrets.read(own, name).await, Err(SecretFault::Missing { .. })), "{name}");
        }
        for name in ["", "A=B", "../X", "A B", "ü", &"A".repeat(101)] {
            assert!(matches!(secrets.read(own, name).await, Err(SecretFault::Invalid { .. })), "{name}");
        }
        assert!(secrets.keep(own, "X", &"correct horse".to_owned().into()).await.is_err());
    }
}
