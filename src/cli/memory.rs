//! What the process has used of the machine, for benches.

use std::fs;

/// The most memory that the process has held, in MiB; 0 where the system does not say.
pub(super) fn peak_memory_mb() -> u64 {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let kibibytes = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
            kibibytes.trim().parse::<u64>().ok()
        })
        .unwrap_or(0)
        / 1024
}
