//! Environments on the wire.

use lease_events::environment::{EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{Moment, read, vocabulary as schema};
use crate::drivers;
pub use crate::drivers::Severity;

/// A named, configured place where agent work runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The environment.
    #[schema(value_type = Uuid)]
    pub id: EnvironmentId,
    /// The tenant.
    #[schema(value_type = Uuid)]
    pub company_id: CompanyId,
    /// Unique together with the driver among the company's active environments.
    pub name: String,
    /// The key of the driver.
    pub driver: String,
    /// Whether leases are given on it.
    #[schema(value_type = schema::EnvironmentStatus)]
    pub status: EnvironmentStatus,
    /// The driver's config in its normal form, secrets as references.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Which environment of this company, driver and name it is, from 0.
    pub generation: u32,
    /// The last probe.
    pub last_probe: Option<LastProbe>,
    /// When it was created.
    pub created_at: Moment,
    /// When it was archived.
    pub archived_at: Option<Moment>,
    /// When it last changed.
    pub updated_at: Moment,
    /// The revision of its last event: its ETag.
    pub revision: u64,
    /// The position of its last event in the log.
    pub position: u64,
}

/// What the last probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastProbe {
    /// Whether the environment would work.
    pub ok: bool,
    /// One line.
    pub summary: String,
    /// When.
    pub at: Moment,
}

/// Environments, newest created first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentList {
    /// The environments.
    pub environments: Vec<Environment>,
    /// What to give as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// An environment and what its probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbedEnvironment {
    /// The environment.
    pub environment: Environment,
    /// What was found.
    pub probe: Probe,
}

/// Whether an environment would work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Whether it would.
    pub ok: bool,
    /// One line.
    pub summary: String,
    /// The single findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad it is.
    #[schema(value_type = schema::Severity)]
    pub severity: Severity,
    /// A sentence.
    pub message: String,
    /// A stable word for programs.
    pub code: Option<String>,
}

/// A new environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateEnvironment {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// Unique together with the driver among the company's active environments; 1 to 100 bytes.
    pub name: String,
    /// The key of the driver, such as `local`.
    pub driver: String,
    /// The driver's config.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// A new config for an environment; leases that are there keep theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateEnvironment {
    /// The tenant, where the query does not say it.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The whole new config.
    pub config: Map<String, Value>,
}

/// The end of an environment: it gives no new leases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveEnvironment {
    /// The tenant, where the query does not say it.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The caller's own words, for the record.
    pub note: Option<String>,
}

/// A probe of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeEnvironment {
    /// The tenant, where the query does not say it.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
}

/// Whose environment is meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentScope {
    /// The tenant.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
}

/// Which environments are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentQuery {
    /// The tenant.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The name.
    pub name: Option<String>,
    /// The key of the driver.
    pub driver: Option<String>,
    /// The status.
    #[param(value_type = Option<schema::EnvironmentStatus>)]
    pub status: Option<EnvironmentStatus>,
    /// Most rows wanted: 1 to 1000; 100 where absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub limit: Option<usize>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

impl From<EnvironmentState> for Environment {
    fn from(state: EnvironmentState) -> Self {
        Self {
            id: state.environment_id,
            company_id: state.company_id,
            name: state.name,
            driver: state.driver,
            status: state.status,
            config: state.config,
            generation: state.generation,
            last_probe: state.last_probe.map(|probe| LastProbe {
                ok: probe.ok,
                summary: probe.summary,
                at: probe.at.into(),
            }),
            created_at: state.created_at.into(),
            archived_at: state.archived_at.map(Moment),
            updated_at: state.updated_at.into(),
            revision: state.revision,
            position: state.position.0,
        }
    }
}

impl From<drivers::ProbeReport> for Probe {
    fn from(report: drivers::ProbeReport) -> Self {
        let diagnostics = report.diagnostics.into_iter().map(|finding| Diagnostic {
            severity: finding.severity,
            message: finding.message,
            code: finding.code,
        });
        Self { ok: report.ok, summary: report.summary, diagnostics: diagnostics.collect() }
    }
}
