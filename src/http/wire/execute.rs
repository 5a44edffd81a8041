//! Commands in a workspace on the wire.

use std::collections::BTreeMap;

use lease_events::id::CompanyId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lease::Lease;
use super::problem::Problem;
use super::{read, vocabulary as schema};
pub use crate::drivers::OutputStream;

/// A command to run in the workspace of a lease.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecuteCommand {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The holder's token.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub fencing_token: Option<u64>,
    /// An operator's reason, which goes on record.
    pub reason: Option<String>,
    /// The program.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Where it starts; the realized workspace where absent.
    pub cwd: Option<String>,
    /// Its environment: this, and nothing of the host's. Never stored.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its input. Never stored.
    pub stdin: Option<String>,
    /// Longest time that it may run, in milliseconds; the config's limit where absent.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub timeout_ms: Option<u64>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionResult {
    /// The lease as it was then.
    pub lease: Lease,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether its time ran out.
    pub timed_out: bool,
    /// The limit that ended it, such as `output` or `memory`.
    pub limit: Option<String>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutedCommand {
    /// The lease as it was then.
    pub lease: Lease,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether its time ran out.
    pub timed_out: bool,
    /// The limit that ended it, such as `output` or `memory`.
    pub limit: Option<String>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Its standard output; what is not UTF-8 is replaced. Stream it for the bytes.
    pub stdout: String,
    /// Its standard error; what is not UTF-8 is replaced. Stream it for the bytes.
    pub stderr: String,
    /// Whether `stdout` was cut at 1 MiB.
    pub stdout_truncated: bool,
    /// Whether `stderr` was cut at 1 MiB.
    pub stderr_truncated: bool,
}

/// One line of a streamed command: output as it comes, and a last line that says how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ExecutionLine {
    /// A piece of output.
    Output {
        /// Which of the two.
        #[schema(value_type = schema::OutputStream)]
        stream: OutputStream,
        /// The bytes, base64.
        data: String,
    },
    /// The last line: how it ended.
    Result {
        /// How it ended.
        result: Box<ExecutionResult>,
    },
    /// The last line: why it did not, or may not have, run.
    Problem {
        /// Why.
        problem: Problem,
    },
}
