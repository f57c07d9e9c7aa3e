//! What the process uses and has used of the machine, for benches.

use std::fs;

/// What tells the kernel to forget the most memory so far, by `proc_pid_clear_refs(5)`.
const FORGET_PEAK: &str = "5";

/// The most memory that the process has held, in MiB; 0 where the system does not say.
pub(super) fn peak_memory_mb() -> u64 {
    status_mb("VmHWM:")
}

/// The memory that the process holds now, in MiB, from where on the peak counts again. Where the system does not let it,
/// the peak stays what it was, which is never too little.
pub(super) fn begin_peak_mb() -> u64 {
    let held = status_mb("VmRSS:");
    let _left_as_it_was = fs::write("/proc/self/clear_refs", FORGET_PEAK);
    held
}

fn status_mb(field: &str) -> u64 {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let kibibytes = line.strip_prefix(field)?.trim().strip_suffix("kB")?;
            kibibytes.trim().parse::<u64>().ok()
        })
        .unwrap_or(0)
        / 1024
}
