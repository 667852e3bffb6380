//! What a guest has in the processor itself, beside the VMCS and the frame: taken out when its core leaves the processor,
//! and put back when the core is on one again, the same or another.
//!
//! That are the MSRs that `msr_policy` marks, the x87 state, debug registers and CR2, and a para guest's local APIC
//! ([`crate::apic_state`]). The time-stamp counter is the same on all processors, and no guest has an offset: so
//! deadlines stay what they are, and time goes on meanwhile, as it does for a guest that is paused.

use core::arch::asm;

use arrayvec::ArrayVec;
use vmx::crossing::Frame;
use x86::msr;

use crate::apic_state::ApicState;
use crate::interrupts::{Registers, Sender};
use crate::msr_policy::RULES;
use boot::descriptors::Bases;

/// MSRs that the policy marks, at most.
const MSRS: usize = 8;

/// As FXSAVE leaves it. The vector registers in it are the host's scratch; the guest's are in the [`Frame`].
#[derive(Clone, Debug)]
#[repr(C, align(16))]
struct FxState([u8; 512]);

/// A guest's part of the processor.
#[derive(Clone, Debug)]
pub struct Kept {
    msrs: ArrayVec<(u32, u64), MSRS>,
    fx: FxState,
    /// DR0 to DR3, DR6; DR7 is in the VMCS.
    debug: [u64; 5],
    cr2: u64,
    apic: Option<ApicState>,
}

const _: () = assert!(align_of::<Frame>() >= 16);

impl Kept {
    /// Takes it out. `has_apic`: the processor's local APIC is the guest's.
    pub fn take(registers: Registers, has_apic: bool) -> Self {
        let mut fx = FxState([0; 512]);
        let mut debug = [0; 5];
        let cr2: u64;
        // SAFETY: FXSAVE fills 512 bytes at an address aligned to 16; the others are reads of registers that the guest has
        // and the host does not use.
        unsafe {
            asm!("fxsave64 [{0}]", in(reg) &raw mut fx, options(nostack));
            asm!("mov {0}, dr0", "mov {1}, dr1", "mov {2}, dr2", "mov {3}, dr3", "mov {4}, dr6", "mov {5}, cr2",
                 out(reg) debug[0], out(reg) debug[1], out(reg) debug[2], out(reg) debug[3], out(reg) debug[4],
                 out(reg) cr2, options(nostack, nomem, preserves_flags));
        }
        let marked = RULES.iter().filter(|rule| rule.zeroed).take(MSRS);
        // SAFETY: MSRs that the processor has, since guests are given them; reading changes nothing.
        let msrs = marked.map(|rule| (rule.first, unsafe { msr::rdmsr(rule.first) })).collect();
        Self { msrs, fx, debug, cr2, apic: has_apic.then(|| ApicState::take(registers)) }
    }

    /// Puts it back, on the processor with this APIC id, whose own APIC is on and has nothing pending.
    pub fn put_back(&self, sender: &mut Sender, apic_id: u32, registers: Registers, bases: &Bases) {
        for &(number, value) in &self.msrs {
            // SAFETY: MSRs that belong to the guest, with values that it had put there.
            unsafe { msr::wrmsr(number, value) };
        }
        let [dr0, dr1, dr2, dr3, dr6] = self.debug;
        // SAFETY: registers that belong to the guest, or to the compiler as scratch at this point; the image is what FXSAVE
        // wrote on a processor of the same kind.
        unsafe {
            asm!("fxrstor64 [{0}]", in(reg) &raw const self.fx,
                 out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                 out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                 out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack, readonly));
            asm!("mov dr0, {0}", "mov dr1, {1}", "mov dr2, {2}", "mov dr3, {3}", "mov dr6, {4}", "mov cr2, {5}",
                 in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3, in(reg) dr6, in(reg) self.cr2,
                 options(nostack, nomem, preserves_flags));
        }
        if let Some(apic) = &self.apic {
            apic.put_back(sender, apic_id, registers, bases);
        }
    }
}
