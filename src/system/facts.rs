//! Facts about the guest and the agent's own process. No Python guest answers `get_hwinfo` and `get_diagnostics`; names and
//! units are those of the client (trove/extensions/mgmt/instances/views.py, trove/tests/fakes/guestagent.py): kB everywhere.

use serde::Serialize;

use crate::error::{Error, Result, ResultExt};

/// The answer to `get_hwinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HwInfo {
    /// Memory of the guest, kB.
    pub mem_total: u64,
    /// Processors the guest may use.
    pub num_cpus: usize,
}

/// The answer to `get_diagnostics`: the agent's own process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// Version of the agent.
    pub version: String,
    /// Threads.
    pub threads: u64,
    /// File descriptor slots allocated.
    pub fd_size: u64,
    /// Virtual memory, kB.
    pub vm_size: u64,
    /// Most virtual memory ever, kB.
    pub vm_peak: u64,
    /// Resident memory, kB.
    pub vm_rss: u64,
    /// Most resident memory ever, kB.
    pub vm_hwm: u64,
}

/// What the guest has.
///
/// # Errors
/// The number of processors cannot be found out.
pub fn hwinfo() -> Result<HwInfo> {
    let mut system = sysinfo::System::new().map_err(|error| Error::guest(format!("the guest's memory cannot be read: {error}")))?;
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let num_cpus = std::thread::available_parallelism().action("count the processors")?.get();
    Ok(HwInfo { mem_total: system.total_memory() / 1024, num_cpus })
}

/// Bytes of memory that a program could have now without another one losing its own.
///
/// # Errors
/// The guest's memory cannot be read.
pub fn available_memory() -> Result<u64> {
    let mut system = sysinfo::System::new().map_err(|error| Error::guest(format!("the guest's memory cannot be read: {error}")))?;
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
    Ok(system.available_memory())
}

/// What the agent's process uses now.
///
/// # Errors
/// `/proc/self/status` cannot be read.
pub fn diagnostics() -> Result<Diagnostics> {
    // Peaks and descriptor slots are nowhere else, so that the rest is taken from the same snapshot.
    let path = "/proc/self/status";
    parse_status(&std::fs::read_to_string(path).action(format!("read {path}"))?)
}

fn parse_status(status: &str) -> Result<Diagnostics> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value
            .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
            .ok_or_else(|| Error::guest(format!("/proc/self/status has no {name}: is /proc mounted?")))
    };
    Ok(Diagnostics {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        threads: field("Threads")?,
        fd_size: field("FDSize")?,
        vm_size: field("VmSize")?,
        vm_peak: field("VmPeak")?,
        vm_rss: field("VmRSS")?,
        vm_hwm: field("VmHWM")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file() {
        let status =
            "Name:\tx\nFDSize:\t64\nVmPeak:\t   29160 kB\nVmSize:\t   29096 kB\nVmHWM:\t    2872 kB\nVmRSS:\t    2800 kB\nThreads:\t2\n";
        let facts = serde_json::to_value(parse_status(status).unwrap()).unwrap();
        let expected = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "threads": 2, "fd_size": 64,
            "vm_size": 29096, "vm_peak": 29160, "vm_rss": 2800, "vm_hwm": 2872});
        assert_eq!(facts, expected);
        assert!(parse_status("").unwrap_err().to_string().contains("Threads"));
    }

    #[test]
    fn this_machine_has_facts() {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total: u64 = meminfo.lines().next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(hwinfo().unwrap().mem_total, total);
        assert!(hwinfo().unwrap().num_cpus >= 1);
        let now = diagnostics().unwrap();
        assert!(now.vm_hwm >= now.vm_rss && now.vm_peak >= now.vm_size && now.threads >= 1);
    }
}
