//! How cores lie to each other, as CPUID tells of it: which bits of an APIC id count threads of a core and cores of a
//! package, and how many share each cache (SDM 2A, "CPUID": leaves 4, 0BH and 1FH; on AMD's processors leaf 8000001DH).
//!
//! Asked on one core, and taken to hold for all: a machine of unequal cores is seen as if all were like the first.

use abi::control::topology::{Cache, CorePlace, IoApicPlace, MAX_CACHES, PciFunction, Topology};
use raw_cpuid::{CacheType, CpuId, CpuIdReader, TopologyType};

use crate::cores;

/// What CPUID says, without cores.
pub fn of_processor<R: CpuIdReader>(cpuid: &CpuId<R>) -> Topology {
    let mut topology = Topology { nodes: 1, ..Topology::default() };
    let caches = cpuid.get_cache_parameters().into_iter().flatten();
    for (place, cache) in topology.cache.iter_mut().zip(caches.take(MAX_CACHES)) {
        let bytes = cache.associativity() * cache.physical_line_partitions();
        let bytes = bytes.saturating_mul(cache.coherency_line_size()).saturating_mul(cache.sets());
        *place = Cache {
            level: cache.level(),
            kind: match cache.cache_type() {
                CacheType::Null | CacheType::Reserved => 0,
                CacheType::Data => 1,
                CacheType::Instruction => 2,
                CacheType::Unified => 3,
            },
            shift: bits_of(cache.max_cores_for_cache() as u32),
            reserved: 0,
            kib: (bytes / 1024) as u32,
            line_bytes: cache.coherency_line_size() as u32,
        };
        topology.caches += 1;
    }
    // Leaf 1FH knows more levels than 0BH; both end with the one whose shift leads to the package.
    let newer = cpuid.get_extended_topology_info_v2().map(|levels| levels.take(8));
    let older = cpuid.get_extended_topology_info().map(|levels| levels.take(8));
    let known = newer.into_iter().flatten().count() > 0;
    let newer = cpuid.get_extended_topology_info_v2().filter(|_| known);
    for level in newer.into_iter().flatten().chain(older.into_iter().flatten().filter(|_| !known)) {
        match level.level_type() {
            TopologyType::SMT => topology.core_shift = level.shift_right_for_next_apic_id(),
            TopologyType::Invalid => continue,
            _ => {}
        }
        topology.package_shift = topology.package_shift.max(level.shift_right_for_next_apic_id());
    }
    if topology.package_shift == 0 {
        // A processor from before those leaves: as many APIC ids as leaf 1 counts.
        let count = cpuid.get_feature_info().filter(|features| features.has_htt());
        topology.package_shift =
            count.map_or(0, |features| bits_of(features.max_logical_processor_ids().into()).into());
    }
    topology
}

/// The machine: what CPUID says, what ACPI says of cores, I/O APICs and nodes, and these PCI functions.
pub fn of_machine<R: CpuIdReader>(
    cpuid: &CpuId<R>,
    found: &cores::Topology,
    functions: &[PciFunction],
) -> Topology {
    let mut topology = of_processor(cpuid);
    for (place, &apic_id) in topology.core.iter_mut().zip(&found.apic_ids) {
        *place = CorePlace { apic_id, node: found.numa.node(apic_id) };
        topology.cores += 1;
    }
    for (place, io) in topology.io_apic.iter_mut().zip(&found.io_apics) {
        *place = IoApicPlace { address: io.address, first_gsi: io.first_gsi };
        topology.io_apics += 1;
    }
    for (place, function) in topology.pci.iter_mut().zip(functions) {
        *place = *function;
        topology.pci_functions += 1;
    }
    topology.nodes = found.numa.nodes();
    topology.distances = found.numa.distances();
    topology
}

/// How many bits number so many.
fn bits_of(count: u32) -> u8 {
    count.max(1).next_power_of_two().trailing_zeros() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use raw_cpuid::CpuIdResult;

    fn result(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuIdResult {
        CpuIdResult { eax, ebx, ecx, edx }
    }

    /// Two threads a core, eight cores a package; L1 and L2 of a core, L3 of the package.
    fn intel(leaf: u32, subleaf: u32) -> CpuIdResult {
        match (leaf, subleaf) {
            (0, _) => result(0xb, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
            (1, _) => result(0, 16 << 16, 0, 1 << 28),
            // 48 KiB data, 1 MiB, 32 MiB.
            (4, 0) => result(1 << 14 | 1 << 5 | 1, 11 << 22 | 63, 63, 0),
            (4, 1) => result(1 << 14 | 2 << 5 | 3, 15 << 22 | 63, 1023, 0),
            (4, 2) => result(15 << 14 | 3 << 5 | 3, 15 << 22 | 63, 32767, 0),
            (0xb, 0) => result(1, 2, 1 << 8, 0),
            (0xb, 1) => result(4, 16, 2 << 8 | 1, 0),
            _ => result(0, 0, 0, 0),
        }
    }

    #[test]
    fn shifts_and_caches() {
        let topology = of_processor(&CpuId::with_cpuid_fn(intel));
        assert_eq!((topology.core_shift, topology.package_shift), (1, 4));
        let told: std::vec::Vec<_> = topology
            .cache_kinds()
            .iter()
            .map(|cache| (cache.level, cache.kind, cache.shift, cache.kib))
            .collect();
        assert_eq!(told, [(1, 1, 1, 48), (2, 3, 1, 1024), (3, 3, 4, 32768)]);
    }

    #[test]
    fn an_old_processor_counts_in_leaf_1() {
        let old = |leaf, subleaf| if leaf == 0xb { result(0, 0, 0, 0) } else { intel(leaf, subleaf) };
        assert_eq!(of_processor(&CpuId::with_cpuid_fn(old)).package_shift, 4);
    }

    #[test]
    fn cores_come_in_the_order_of_the_tables() {
        let mut found = cores::Topology::default();
        found.apic_ids.extend([2, 0, 5]);
        let topology = of_machine(&CpuId::with_cpuid_fn(intel), &found, &[]);
        assert_eq!(
            topology.core_places().iter().map(|core| core.apic_id).collect::<std::vec::Vec<_>>(),
            [2, 0, 5]
        );
        assert_eq!((topology.nodes, topology.io_apics), (1, 0));
    }
}
