//! What a guest may do with each model-specific register: one table.
//!
//! What is not listed raises #GP, for reading and for writing, as an MSR that is not there does.

use bitflags::bitflags;
use x86::msr;

bitflags! {
    /// What reaches the processor's own register without an exit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Direct: u8 {
        /// RDMSR.
        const READ = 1;
        /// WRMSR.
        const WRITE = 2;
    }
}

/// A range of MSRs, the last one included.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// First of the range.
    pub first: u32,
    /// Last of the range.
    pub last: u32,
    /// What goes straight to the processor.
    pub direct: Direct,
    /// The register keeps its value over VM exits and is not in the VMCS: a new guest on the core gets it zeroed.
    pub zeroed: bool,
}

const BOTH: Direct = Direct::READ.union(Direct::WRITE);

const fn rule(first: u32, last: u32, direct: Direct) -> Rule {
    Rule { first, last, direct, zeroed: false }
}

const fn kept(number: u32) -> Rule {
    Rule { first: number, last: number, direct: BOTH, zeroed: true }
}

/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// First MSR of the local APIC in x2APIC mode; register at MMIO offset `x` is MSR `0x800 + x / 16`.
pub const X2APIC_FIRST: u32 = 0x800;
/// Last one.
pub const X2APIC_LAST: u32 = 0x83f;

/// The rules for the register files that every guest has to itself: with [`EFER_RULES`] all that a full guest gets, whose local APIC is not
/// the processor's.
pub const RULES: &[Rule] = &[
    rule(msr::IA32_TIME_STAMP_COUNTER, msr::IA32_TIME_STAMP_COUNTER, Direct::READ),
    // In the VMCS: each guest has its own.
    rule(msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_EIP, BOTH),
    rule(msr::IA32_FS_BASE, msr::IA32_GS_BASE, BOTH),
    // In the processor, used by nobody else while the guest has the core.
    kept(msr::IA32_KERNEL_GSBASE),
    kept(msr::IA32_STAR),
    kept(msr::IA32_LSTAR),
    kept(msr::IA32_CSTAR),
    kept(msr::IA32_FMASK),
    kept(msr::IA32_TSC_AUX),
];

/// EFER, where EPT translates. Writes exit, since they decide whether it is switched. With shadow page tables a guest runs
/// with another than it believes.
pub const EFER_RULES: &[Rule] = &[rule(msr::IA32_EFER, msr::IA32_EFER, Direct::READ)];

/// What a para guest has of the local APIC's timer with any processor. Where it has no such timer the fault is the guest's
/// own.
pub const TIMER_RULES: &[Rule] = &[rule(TSC_DEADLINE, TSC_DEADLINE, BOTH)];

/// The rules for the local APIC where the processor has x2APIC. What could reach another core, the interrupt command
/// register, and what selects how a pin interrupts, exits instead and is judged (see `exits::msr`). So does the
/// spurious-interrupt vector register: who switches the APIC on must not miss what came before.
pub const X2APIC_RULES: &[Rule] = &[
    // All but the id and what follows from it, which are the virtual CPU's own, and the interrupt command register, which
    // would tell of the hypervisor's.
    rule(X2APIC_FIRST + 3, 0x80c, Direct::READ),
    rule(0x80e, 0x82f, Direct::READ),
    rule(0x831, X2APIC_LAST - 1, Direct::READ),
    rule(0x808, 0x808, Direct::WRITE), // TPR
    rule(0x80b, 0x80b, Direct::WRITE), // EOI
    rule(0x828, 0x828, Direct::WRITE), // error status
    rule(0x832, 0x832, Direct::WRITE), // LVT timer
    rule(0x838, 0x838, Direct::WRITE), // timer's initial count
    rule(0x83e, 0x83e, Direct::WRITE), // timer's divide configuration
    rule(0x83f, 0x83f, Direct::WRITE), // self IPI
];

/// What a full guest has of a local APIC in x2APIC mode that the processor keeps up: what it reads from the virtual-APIC page,
/// and the three writes that it carries out (SDM 3C, "Virtualizing MSR-Based APIC Accesses"). Others exit to the model.
pub const VIRTUAL_X2APIC_RULES: &[Rule] = &[
    rule(0x802, 0x803, Direct::READ),  // id, version
    rule(0x808, 0x808, BOTH),          // TPR
    rule(0x80a, 0x80a, Direct::READ),  // PPR
    rule(0x80b, 0x80b, Direct::WRITE), // EOI
    rule(0x80d, 0x80d, Direct::READ),  // LDR
    rule(0x80f, 0x828, Direct::READ),  // SVR, ISR, TMR, IRR, error status
    rule(0x830, 0x830, Direct::READ),  // interrupt command
    rule(0x832, 0x838, Direct::READ),  // LVT, timer's initial count
    rule(0x83e, 0x83e, Direct::READ),  // timer's divide configuration
    rule(0x83f, 0x83f, Direct::WRITE), // self IPI
];

/// A 4 KiB MSR bitmap: a set bit exits (SDM 3C, "MSR-Bitmap Address").
pub type Bitmap = [u8; 4096];

/// Fills `bitmap` so that what `rules` name reaches the processor and everything else exits.
pub fn fill(bitmap: &mut Bitmap, rules: &[&[Rule]]) {
    bitmap.fill(0xff);
    for rule in rules.iter().copied().flatten() {
        for number in rule.first..=rule.last {
            if rule.direct.contains(Direct::READ) {
                pass(bitmap, number, 0);
            }
            if rule.direct.contains(Direct::WRITE) {
                pass(bitmap, number, 2048);
            }
        }
    }
}

/// Clears one MSR's bit. `half`: byte 0 for reads, 2048 for writes; each half has 1 KiB for low and 1 KiB for high MSRs.
fn pass(bitmap: &mut Bitmap, number: u32, half: usize) {
    let (quarter, index) = match number {
        0..=0x1fff => (0, number as usize),
        0xc000_0000..=0xc000_1fff => (1024, (number - 0xc000_0000) as usize),
        _ => return,
    };
    bitmap[half + quarter + index / 8] &= !(1 << (index % 8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(bitmap: &Bitmap, number: u32, write: bool) -> bool {
        let quarter = if number >= 0xc000_0000 { 1024 } else { 0 };
        let index = (number & 0x1fff) as usize;
        bitmap[usize::from(write) * 2048 + quarter + index / 8] & 1 << (index % 8) != 0
    }

    #[test]
    fn only_what_is_listed_passes() {
        let mut bitmap = [0; 4096];
        fill(&mut bitmap, &[RULES, EFER_RULES, TIMER_RULES, X2APIC_RULES]);
        for (number, read, write) in [
            (0x10, false, true),
            (msr::IA32_APIC_BASE, true, true),
            (msr::IA32_EFER, false, true),
            (msr::IA32_LSTAR, false, false),
            (0x830, true, true),
            (0x83f, true, false),
            (0x80b, false, false),
            (0x802, true, true),
            (0x80f, false, true),
            (0x80d, true, true),
            (TSC_DEADLINE, false, false),
            (0x3a, true, true),
            (0xc000_0015, true, true),
        ] {
            assert_eq!(
                (exits(&bitmap, number, false), exits(&bitmap, number, true)),
                (read, write),
                "{number:#x}"
            );
        }
    }

    #[test]
    fn without_x2apic_its_registers_exit() {
        let mut bitmap = [0; 4096];
        fill(&mut bitmap, &[RULES]);
        assert!(
            (X2APIC_FIRST..=X2APIC_LAST)
                .all(|number| exits(&bitmap, number, false) && exits(&bitmap, number, true))
        );
    }
}
