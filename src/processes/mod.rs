//! Processes of this machine: starting them without what this process inherited, finding all that they started, and
//! ending it. What drivers and the worker host both need; it knows neither. Also how a process proves that it lives, and
//! how a test ends it.

pub(crate) mod crash;
pub(crate) mod owner_files;
pub(crate) mod proc;
pub(crate) mod spawn;
pub(crate) mod tree;
