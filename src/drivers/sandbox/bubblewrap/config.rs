//! The bubblewrap provider's config: the limits of each command, and whether it reaches the network. Pure.
//!
//! A limit counts for one command with everything that it starts. Sizes are in bytes, times in the unit of their name.

use serde_json::{Map, Value, json};

use crate::drivers::InvalidConfig;
use crate::drivers::config::Fields;

const MIB: u64 = 1_024 * 1_024;
const GIB: u64 = 1_024 * MIB;
/// Above what any machine has; below what a size can hold.
const BYTES_MAX: u64 = 1 << 50;

/// A parsed config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Config {
    /// `memoryBytesMax`: resident memory of all processes together, without files; default 2 GiB. Beyond it the
    /// command is killed (`memory`).
    pub(super) memory_bytes_max: u64,
    /// `processesMax`: processes and threads at once; default 512. Beyond it the command is killed (`processes`).
    pub(super) processes_max: u64,
    /// `outputBytesMax`: stdout and stderr together; default 64 MiB. Beyond it the command is killed (`output`).
    pub(super) output_bytes_max: u64,
    /// `fileBytesMax`: the size of one file; default 4 GiB. A process that writes beyond it is ended (`file-bytes`).
    pub(super) file_bytes_max: u64,
    /// `tmpBytesMax`: what fits into `/tmp`, and what into `/dev/shm`; default 512 MiB each. Both are memory.
    pub(super) tmp_bytes_max: u64,
    /// `cpuSecondsMax`: processor time of one process; default none. Beyond it the process is ended (`cpu`).
    pub(super) cpu_seconds_max: Option<u64>,
    /// `network`: whether commands share the host's network; default false: they have none, not even the host's loopback.
    pub(super) network: bool,
}

impl Config {
    pub(super) fn parse(config: &Map<String, Value>) -> Result<Self, InvalidConfig> {
        let mut fields = Fields::new("sandbox provider \"bubblewrap\"", config);
        let parsed = Self {
            memory_bytes_max: fields.integer("memoryBytesMax", 16 * MIB..=BYTES_MAX).unwrap_or(2 * GIB),
            processes_max: fields.integer("processesMax", 1..=65_536).unwrap_or(512),
            output_bytes_max: fields.integer("outputBytesMax", 1..=BYTES_MAX).unwrap_or(64 * MIB),
            file_bytes_max: fields.integer("fileBytesMax", 1..=BYTES_MAX).unwrap_or(4 * GIB),
            tmp_bytes_max: fields.integer("tmpBytesMax", MIB..=BYTES_MAX).unwrap_or(512 * MIB),
            cpu_seconds_max: fields.integer("cpuSecondsMax", 1..=31_536_000),
            network: fields.flag("network", false),
        };
        fields.finish().map(|()| parsed)
    }

    /// The normal form, defaults filled in.
    pub(super) fn normal_form(&self) -> Map<String, Value> {
        let mut normal = Map::from_iter([
            ("memoryBytesMax".to_owned(), json!(self.memory_bytes_max)),
            ("processesMax".to_owned(), json!(self.processes_max)),
            ("outputBytesMax".to_owned(), json!(self.output_bytes_max)),
            ("fileBytesMax".to_owned(), json!(self.file_bytes_max)),
            ("tmpBytesMax".to_owned(), json!(self.tmp_bytes_max)),
            ("network".to_owned(), json!(self.network)),
        ]);
        normal.extend(self.cpu_seconds_max.map(|seconds| ("cpuSecondsMax".to_owned(), json!(seconds))));
        normal
    }
}
