//! Under which user of the host a sandbox runs.
//!
//! **Invariant:** no command of a sandbox runs as the host's root. The kernel excuses root from limits on processes,
//! and lets it write where root may even without capabilities. So where this process is root, each lease has a
//! user of its own, from the range that no Linux system gives out.

use std::fs;

use lease_events::id::LeaseId;

/// First user id of the range that systemd's list of user ids calls unused: `0x7000_0000` to `0x7FFF_FFFF`.
const FIRST_UID: u32 = 0x7000_0000;
/// The bits of a lease id that choose in that range; the low ones of a UUID are random.
const UID_MASK: u128 = 0x0FFF_FFFF;
/// What changing the user and making mounts take: `CAP_CHOWN`, `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP`, `CAP_SYS_ADMIN`.
const CAPABILITIES: u64 = 1 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21;

/// Whose user sandboxes run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// This process's own: it is an ordinary user, or a root that cannot become another.
    Own,
    /// Each lease's: this process is root.
    PerLease,
}

impl Identity {
    /// What this process can do.
    pub(super) fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self::from_proc(rustix::process::geteuid().is_root(), &status, &uid_map)
    }

    fn from_proc(is_root: bool, status: &str, uid_map: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or_default();
        // In a container whose users are mapped, the range may not be there.
        let mapped = uid_map.lines().any(|line| {
            let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u64>().unwrap_or_default());
            let (first, count) = (numbers.next().unwrap_or_default(), numbers.nth(1).unwrap_or_default());
            first <= FIRST_UID.into() && first + count > 0x7FFF_FFFF
        });
        if is_root && capabilities & CAPABILITIES == CAPABILITIES && mapped { Self::PerLease } else { Self::Own }
    }

    /// The user, and group, of a lease's sandbox, where it has one of its own.
    pub(super) fn uid(self, lease: LeaseId) -> Option<u32> {
        let low = u32::try_from(lease.0.as_u128() & UID_MASK).unwrap_or_default();
        (self == Self::PerLease).then_some(FIRST_UID + low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_root_with_the_capabilities_and_the_users_gives_each_lease_its_own() {
        let (full, few) = ("CapEff:\t000001ffffffffff\n", "CapEff:\t00000000a80425fb\n");
        let (all, some) = ("         0          0 4294967295\n", "         0     100000      65536\n");
        assert_eq!(Identity::from_proc(true, full, all), Identity::PerLease);
        assert_eq!(Identity::from_proc(true, few, all), Identity::Own);
        assert_eq!(Identity::from_proc(true, full, some), Identity::Own);
        assert_eq!(Identity::from_proc(false, full, all), Identity::Own);
    }
}
