//! A para guest's local APIC while its core is off: registers, timer, what is pending and what is in service.
//!
//! Pending interrupts come back as interrupts that the core sends itself. What is in service cannot be written (SDM 3A,
//! "Interrupt Acceptance for Fixed Interrupts"): those are sent first, lowest first, and taken once by the host, which
//! does not end them. So a guest that was stopped within an interrupt's handler ends it as if nothing had been.

use arrayvec::ArrayVec;
use boot::descriptors::Bases;

use crate::interrupts::{
    Bits, CURRENT_COUNT, DIVIDE, INITIAL_COUNT, IRR, ISR, LVT_TIMER, MASKED, Registers, SVR, Sender, TPR,
    take_in_host,
};
use crate::msr_policy::TSC_DEADLINE;

/// Bits of the timer's vector: which of its modes it is in.
const TIMER_MODE: u64 = 3 << 17;
const PERIODIC: u64 = 1 << 17;
const DEADLINE: u64 = 2 << 17;

/// The APIC of a guest whose core is off.
#[derive(Clone, Debug)]
pub struct ApicState {
    spurious: u64,
    task_priority: u64,
    divide: u64,
    /// The local vector table, by register.
    vectors: ArrayVec<(u32, u64), 8>,
    timer: Timer,
    pending: Bits,
    in_service: Bits,
}

/// What is left of the timer.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// Nothing, or nothing more.
    Off,
    /// The count to begin with.
    Count(u64),
    /// By the time-stamp counter, which all processors have in common.
    Deadline(u64),
}

impl ApicState {
    /// Takes it out, and leaves the timer silent. What fires meanwhile is found pending.
    pub fn take(registers: Registers) -> Self {
        let vectors: ArrayVec<_, 8> =
            registers.local_vectors().map(|register| (register, registers.read(register))).collect();
        let mode = registers.read(LVT_TIMER) & TIMER_MODE;
        let timer = match mode {
            // SAFETY: the timer is in a mode that the MSR belongs to, so it is there.
            DEADLINE => match unsafe { x86::msr::rdmsr(TSC_DEADLINE) } {
                0 => Timer::Off,
                deadline => Timer::Deadline(deadline),
            },
            _ => match (registers.read(INITIAL_COUNT), registers.read(CURRENT_COUNT)) {
                (0, _) | (_, 0) if mode != PERIODIC => Timer::Off,
                (initial, _) if mode == PERIODIC => Timer::Count(initial),
                (_, left) => Timer::Count(left),
            },
        };
        // SAFETY: masks this core's own timer.
        unsafe { registers.write(LVT_TIMER, MASKED) };
        Self {
            spurious: registers.read(SVR),
            task_priority: registers.read(TPR),
            divide: registers.read(DIVIDE),
            vectors,
            timer,
            pending: registers.bits(IRR),
            in_service: registers.bits(ISR),
        }
    }

    /// Puts it into this core's APIC, which is quiet.
    pub fn put_back(&self, sender: &mut Sender, apic_id: u32, registers: Registers, bases: &Bases) {
        take_in_host(sender, apic_id, registers, bases, self.in_service.lowest_first());
        for vector in self.pending.lowest_first() {
            // SAFETY: to this core itself, where the interrupt waits for the guest, whose vector it is.
            unsafe { sender.fixed(vector, apic_id) };
        }
        // SAFETY: registers of this core's own APIC, with values that the guest had there; nothing here reaches another
        // core.
        unsafe {
            registers.write(SVR, self.spurious);
            registers.write(DIVIDE, self.divide);
            for &(register, value) in &self.vectors {
                registers.write(register, value);
            }
            registers.write(TPR, self.task_priority);
            match self.timer {
                Timer::Off => {}
                Timer::Count(count) => registers.write(INITIAL_COUNT, count),
                Timer::Deadline(deadline) => {
                    // What was written to the vector table is to be there first, where it is memory.
                    core::arch::asm!("mfence", options(nostack, preserves_flags));
                    x86::msr::wrmsr(TSC_DEADLINE, deadline);
                }
            }
        }
    }
}
