//! What CPUID tells a guest: one table, filled once from the processor's answers, masked by name.
//!
//! A guest sees a processor with a core for each of its virtual CPUs, without what Atoll does not virtualize (VMX, XSAVE and the vector extensions
//! behind it, performance counters, thermal and power management, protection keys, SGX). A para guest finds
//! Xen's leaves; a full guest finds no trace of a hypervisor. The
//! table is computed at boot, since CPUID itself exits where the hypervisor is a guest.

use abi::xen::{DomId, cpuid};
use ept::guest_walk::Features;

use crate::bits;

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

/// Asks a processor: leaf and sub-leaf.
pub trait AskCpuid {
    /// The processor's answer.
    fn ask(&self, leaf: u32, subleaf: u32) -> Leaf;
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The domain.
    pub domain: DomId,
    /// The virtual CPU.
    pub vcpu: u32,
    /// How many virtual CPUs the domain has.
    pub vcpus: u32,
    /// Whether it is a full guest.
    pub is_full: bool,
    /// Whether shadow page tables translate its memory: they know of no PCIDs.
    pub is_shadowed: bool,
}

impl Asker {
    /// The virtual CPU's APIC id.
    pub const fn apic_id(self) -> u32 {
        apic_id(self.vcpu)
    }

    /// APIC ids set aside for the processor, a power of two: two for each virtual CPU, unless there is but one.
    const fn apic_ids(self) -> u32 {
        if self.vcpus <= 1 { 1 } else { (self.vcpus * 2).next_power_of_two() }
    }
}

/// The APIC id of a virtual CPU: two times its number, as on Xen.
#[inline]
pub const fn apic_id(vcpu: u32) -> u32 {
    vcpu * 2
}

/// Basic leaves that a guest may see.
const BASIC_LEAVES: usize = 0x17;
/// Extended leaves that a guest may see.
const EXTENDED_LEAVES: usize = 9;

/// The answers for any guest of this machine.
#[derive(Clone, Debug)]
pub struct CpuidTable {
    basic: [Leaf; BASIC_LEAVES],
    extended: [Leaf; EXTENDED_LEAVES],
    tsc_khz: u32,
}

/// CPUID.1:ECX bits that are taken away: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, FMA, xTPR, PDCM, DCA,
/// XSAVE, OSXSAVE, AVX, F16C.
const ONE_ECX_HIDDEN: u32 = bits([2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 18, 26, 27, 28, 29]) as u32;
/// CPUID.1:ECX bit that is given: x2APIC, emulated where the processor has none.
const ONE_ECX_GIVEN: u32 = 1 << 21;
/// CPUID.1:ECX bit that a para guest is given: hypervisor present.
const HYPERVISOR_PRESENT: u32 = 1 << 31;
/// CPUID.1:ECX bit that a shadowed guest does not get: PCID.
const PCID: u32 = 1 << 17;
/// CPUID.7:EBX bit that goes with it: INVPCID.
const INVPCID: u32 = 1 << 10;
/// CPUID.1:EDX bits that are taken away: MCE, MTRR, MCA, DS, ACPI, HTT, TM, PBE.
const ONE_EDX_HIDDEN: u32 = bits([7, 12, 14, 21, 22, 28, 29, 31]) as u32;
/// CPUID.7:EBX bits that are kept: FSGSBASE, BMI1, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const SEVEN_EBX_KEPT: u32 = bits([0, 3, 7, 8, 9, 10, 18, 19, 20, 23, 24, 29]) as u32;
/// CPUID.7:ECX bits that are kept: UMIP, RDPID.
const SEVEN_ECX_KEPT: u32 = bits([2, 22]) as u32;
/// CPUID.80000001:ECX bits that are kept: LAHF, LZCNT, PREFETCHW.
const EXTENDED_ONE_ECX_KEPT: u32 = bits([0, 5, 8]) as u32;

impl CpuidTable {
    /// The table for a processor whose TSC runs at `tsc_khz`. `invpcid`, `rdtscp`: VMX lets guests have them.
    pub fn new(processor: &impl AskCpuid, tsc_khz: u32, invpcid: bool, rdtscp: bool) -> Self {
        let mut basic = [[0; 4]; BASIC_LEAVES];
        let highest = processor.ask(0, 0)[0].min(BASIC_LEAVES as u32 - 1);
        for leaf in 0..=highest {
            basic[leaf as usize] = basic_leaf(leaf, processor.ask(leaf, 0), invpcid);
        }
        basic[0][0] = highest;
        let mut extended = [[0; 4]; EXTENDED_LEAVES];
        let highest = processor.ask(0x8000_0000, 0)[0].min(0x8000_0000 + EXTENDED_LEAVES as u32 - 1);
        for leaf in 0x8000_0000..=highest {
            let answer = processor.ask(leaf, 0);
            extended[(leaf - 0x8000_0000) as usize] = extended_leaf(leaf, answer, rdtscp);
        }
        extended[0][0] = highest;
        Self { basic, extended, tsc_khz }
    }

    /// The answer to one CPUID instruction.
    #[inline]
    pub fn answer(&self, leaf: u32, subleaf: u32, asker: Asker) -> Leaf {
        match leaf {
            1 => {
                let [eax, ebx, ecx, edx] = self.basic[1];
                let threads = if asker.vcpus > 1 { 1 << 28 } else { 0 };
                let hypervisor = if asker.is_full { 0 } else { HYPERVISOR_PRESENT };
                let ecx = if asker.is_shadowed { ecx & !PCID } else { ecx };
                [eax, ebx | asker.apic_id() << 24 | asker.apic_ids() << 16, ecx | hypervisor, edx | threads]
            }
            // What a full guest knows the rate of its time-stamp counter from, and of its local APIC's timer: the crystal
            // of both is the counter itself.
            0x15 if asker.is_full && self.basic[0][0] >= 0x15 => [1, 1, self.tsc_khz.saturating_mul(1000), 0],
            0x16 if asker.is_full && self.basic[0][0] >= 0x16 => {
                let mhz = (self.tsc_khz / 1000).max(1);
                [mhz, mhz, mhz, 0]
            }
            4 if subleaf == 0 => {
                let [eax, ebx, ecx, edx] = self.basic[4];
                [eax | (asker.apic_ids() - 1) << 26, ebx, ecx, edx]
            }
            7 if subleaf == 0 && asker.is_shadowed => {
                let [eax, ebx, ecx, edx] = self.basic[7];
                [eax, ebx & !INVPCID, ecx, edx]
            }
            0xb if self.basic[0][0] >= 0xb => topology(subleaf, asker),
            0..0x4000_0000 => match self.basic.get(leaf as usize) {
                // Leaves with sub-leaves: only the first one is kept.
                Some(_) if subleaf != 0 && matches!(leaf, 4 | 7) => [0; 4],
                Some(answer) => *answer,
                None => [0; 4],
            },
            0x4000_0000..=0x4000_00ff if !asker.is_full => self.xen_leaf(leaf, subleaf, asker),
            0x8000_0000.. => self.extended.get((leaf - 0x8000_0000) as usize).copied().unwrap_or([0; 4]),
            _ => [0; 4],
        }
    }

    /// Family, model and stepping, which is what EDX holds after a reset.
    pub const fn signature(&self) -> u32 {
        self.basic[1][0]
    }

    /// What that tells guests of paging.
    pub const fn paging(&self) -> Features {
        const PSE36: u32 = 1 << 17;
        const GIGABYTE_PAGES: u32 = 1 << 26;
        let [_, _, _, one] = self.basic[1];
        let [_, _, _, extended_one] = self.extended[1];
        let [sizes, ..] = self.extended[8];
        Features {
            address_bits: sizes as u8,
            gigabyte_pages: extended_one & GIGABYTE_PAGES != 0,
            pse36: one & PSE36 != 0,
        }
    }

    fn xen_leaf(&self, leaf: u32, subleaf: u32, asker: Asker) -> Leaf {
        let [ebx, ecx, edx] = cpuid::SIGNATURE;
        match leaf {
            cpuid::BASE => [cpuid::MAX, ebx, ecx, edx],
            cpuid::VERSION => [abi::xen::hypercall::version::INTERFACE_VERSION as u32, 0, 0, 0],
            cpuid::HYPERCALL_PAGE => [1, cpuid::HYPERCALL_PAGE_MSR, 0, 0],
            cpuid::TIME if subleaf == 0 => [0, 0, self.tsc_khz, 0],
            cpuid::HVM => {
                let flags = cpuid::features::VCPU_ID_PRESENT
                    | cpuid::features::DOMID_PRESENT
                    | cpuid::features::UPCALL_VECTOR;
                [flags, asker.vcpu, u32::from(asker.domain), 0]
            }
            _ => [0; 4],
        }
    }
}

/// Leaf 0xb: one thread a core, which has two APIC ids; the cores of one package.
fn topology(subleaf: u32, asker: Asker) -> Leaf {
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    let id = asker.apic_id();
    match subleaf {
        0 => [1, 1, THREADS, id],
        1 => [asker.apic_ids().max(2).ilog2(), asker.vcpus, 1 | CORES, id],
        other => [0, 0, other & 0xff, id],
    }
}

fn basic_leaf(leaf: u32, [eax, ebx, ecx, edx]: Leaf, invpcid: bool) -> Leaf {
    match leaf {
        1 => [
            eax,
            ebx & 0x0000_ffff,
            ecx & !ONE_ECX_HIDDEN & !HYPERVISOR_PRESENT | ONE_ECX_GIVEN,
            edx & !ONE_EDX_HIDDEN,
        ],
        0 | 2 => [eax, ebx, ecx, edx],
        // One cache level, shared with nobody; the answer adds how many cores there are.
        4 => [eax & 0x0000_3fff, ebx, ecx, edx],
        7 => {
            let kept = if invpcid { SEVEN_EBX_KEPT } else { SEVEN_EBX_KEPT & !(1 << 10) };
            [0, ebx & kept, ecx & SEVEN_ECX_KEPT, 0]
        }
        // TSC and core crystal clock; processor frequency.
        0x15 | 0x16 => [eax, ebx, ecx, edx],
        _ => [0; 4],
    }
}

fn extended_leaf(leaf: u32, [eax, ebx, ecx, edx]: Leaf, rdtscp: bool) -> Leaf {
    match leaf {
        0x8000_0001 => {
            let edx = edx & (bits([11, 20, 26, 27, 29]) as u32);
            [0, 0, ecx & EXTENDED_ONE_ECX_KEPT, if rdtscp { edx } else { edx & !(1 << 27) }]
        }
        0x8000_0000 | 0x8000_0002..=0x8000_0006 => [eax, ebx, ecx, edx],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, edx & 1 << 8],
        // Address sizes; one core.
        0x8000_0008 => [eax & 0xffff, 0, 0, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor that has everything.
    struct Everything;

    impl AskCpuid for Everything {
        fn ask(&self, leaf: u32, _subleaf: u32) -> Leaf {
            match leaf {
                0 => [0x20, 1, 2, 3],
                0x8000_0000 => [0x8000_0020, 0, 0, 0],
                _ => [u32::MAX; 4],
            }
        }
    }

    const ONE: Asker = Asker { domain: 0, vcpu: 0, vcpus: 1, is_full: false, is_shadowed: false };
    const SEVENTH: Asker = Asker { domain: 7, vcpu: 1, vcpus: 2, ..ONE };

    #[test]
    fn what_is_not_virtualized_is_hidden() {
        let table = CpuidTable::new(&Everything, 50_000, false, true);
        let [_, ebx, ecx, edx] = table.answer(1, 0, ONE);
        for hidden in [3, 5, 26, 27, 28] {
            assert_eq!(ecx & 1 << hidden, 0, "CPUID.1:ECX bit {hidden}");
        }
        assert_ne!(ecx & 1 << 31, 0);
        assert_eq!((ebx >> 24, ebx >> 16 & 0xff, edx & 1 << 28), (0, 1, 0));
        assert_eq!(table.answer(7, 0, ONE)[1] & 1 << 10, 0, "INVPCID");
        assert_eq!(table.answer(7, 1, ONE), [0; 4]);
        assert_eq!(table.answer(0xd, 0, ONE), [0; 4]);
        assert_ne!(table.answer(0x8000_0001, 0, ONE)[3] & 1 << 27, 0, "RDTSCP");
        assert_eq!(table.answer(0x8000_0000, 0, ONE)[0], 0x8000_0008);
    }

    #[test]
    fn xen_is_found() {
        let table = CpuidTable::new(&Everything, 50_000, true, true);
        assert_eq!(table.answer(cpuid::BASE, 0, SEVENTH)[0], cpuid::MAX);
        assert_eq!(table.answer(cpuid::TIME, 0, SEVENTH)[2], 50_000);
        assert_eq!(table.answer(cpuid::HVM, 0, SEVENTH), [0x58, 1, 7, 0]);
        assert_eq!(table.answer(0x4000_0100, 0, SEVENTH), [0; 4]);
    }

    #[test]
    fn a_full_guest_finds_no_hypervisor() {
        let table = CpuidTable::new(&Everything, 50_000, true, true);
        let full = Asker { is_full: true, ..SEVENTH };
        assert_eq!(table.answer(1, 0, full)[2] & 1 << 31, 0);
        for leaf in [cpuid::BASE, cpuid::HVM] {
            assert_eq!(table.answer(leaf, 0, full), [0; 4]);
        }
    }

    #[test]
    fn a_shadowed_guest_has_no_pcids() {
        let table = CpuidTable::new(&Everything, 50_000, true, true);
        let shadowed = Asker { is_full: true, is_shadowed: true, ..ONE };
        assert_ne!(table.answer(1, 0, ONE)[2] & PCID, 0);
        assert_eq!(table.answer(1, 0, shadowed)[2] & PCID, 0);
        assert_eq!(table.answer(7, 0, shadowed)[1], table.answer(7, 0, ONE)[1] & !INVPCID);
        assert_eq!(table.answer(7, 1, shadowed), [0; 4]);
    }

    #[test]
    fn each_virtual_cpu_finds_itself() {
        let table = CpuidTable::new(&Everything, 50_000, true, true);
        let [_, ebx, _, edx] = table.answer(1, 0, SEVENTH);
        assert_eq!((ebx >> 24, ebx >> 16 & 0xff, edx >> 28 & 1), (2, 4, 1));
        assert_eq!(table.answer(4, 0, SEVENTH)[0] >> 26, 3);
        assert_eq!(table.answer(0xb, 0, SEVENTH), [1, 1, 0x100, 2]);
        assert_eq!(table.answer(0xb, 1, SEVENTH), [2, 2, 0x201, 2]);
        assert_eq!(table.answer(0xb, 2, SEVENTH), [0, 0, 2, 2]);
        assert_eq!(table.answer(0xb, 1, ONE), [1, 1, 0x201, 0]);
    }
}
