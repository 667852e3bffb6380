//! The machine: which cores to use, and what to say about it beside a figure.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first two cores that this process may use.
pub fn two_cores() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Some([cores.next()?, cores.next()?])
}

/// Keeps the calling thread on one core.
pub fn pin(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    if let Err(error) = sched_setaffinity(None, &only) {
        panic!("cannot stay on core {core}: {error}");
    }
}

/// How often the system has taken the core from the calling thread; without `/proc`, always the same.
pub fn preemptions() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// One line: the processor, how many, whether it is a virtual machine, and the cores used.
pub fn description(cores: [usize; 2]) -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim())
    };
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = field("flags").split(' ').any(|flag| flag == "hypervisor");
    format!(
        "{}, family {} model {}, {count} processors{}, cores {} and {}",
        field("model name"),
        field("cpu family"),
        field("model"),
        if virtual_machine { " of a virtual machine" } else { "" },
        cores[0],
        cores[1]
    )
}
