//! What happens on a VM exit: one match, a file per family, a counter per arm.

mod apic;
mod control_register;
mod cpuid;
pub mod exception;
mod io;
pub mod msr;

use core::sync::atomic::Ordering::Relaxed;

use abi::control::hypercall::{DomainState, ExitKind};
use abi::xen::hvm::param::TRIPLE_FAULT_REASON;
use abi::xen::sched::reason;
use vmx::capabilities::Capabilities;
use vmx::exit::{Exit, ReadExit, Reason};
use vmx::field;
use vmx::injection::Injection;

use crate::core::Core;
use crate::hypercall;

/// Handles the exit that has just happened; then the guest may be entered again, unless `core.running` says otherwise.
#[inline]
pub fn handle(core: &mut Core) {
    let face = core.face;
    match Exit::decode(&core.vmcs) {
        Exit::Hypercall => {
            face.count(ExitKind::Hypercall);
            hypercall::handle(core);
        }
        Exit::Cpuid => {
            face.count(ExitKind::Cpuid);
            cpuid::handle(core);
        }
        Exit::Rdmsr => {
            face.count(ExitKind::Rdmsr);
            msr::read(core);
        }
        Exit::Wrmsr => {
            face.count(ExitKind::Wrmsr);
            msr::write(core);
        }
        rare => handle_rare(core, rare),
    }
}

/// Handles an exit that a full guest causes and a para guest too.
pub fn handle_decoded(core: &mut Core, exit: Exit) {
    if exit == Exit::Cpuid {
        core.face.count(ExitKind::Cpuid);
        return cpuid::handle(core);
    }
    handle_rare(core, exit);
}

#[cold]
#[inline(never)]
fn handle_rare(core: &mut Core, exit: Exit) {
    let kind = carry_out_rare(core, exit);
    core.face.count(kind);
}

fn carry_out_rare(core: &mut Core, exit: Exit) -> ExitKind {
    match exit {
        Exit::Io(access) => {
            io::handle(core, access);
            ExitKind::Io
        }
        Exit::ControlRegister(access) => {
            control_register::handle(core, access);
            ExitKind::ControlRegister
        }
        Exit::DebugRegister => {
            core.give_debug_registers();
            ExitKind::Other
        }
        Exit::Nmi => {
            vmx::crossing::take_nmi();
            ExitKind::Kick
        }
        Exit::Other(Reason::NMI_WINDOW) => {
            core.give_nmi();
            ExitKind::Other
        }
        Exit::Other(Reason::INTERRUPT_WINDOW) => {
            core.interrupts_on();
            ExitKind::Other
        }
        Exit::PreemptionTimer => {
            core.timer_expired();
            ExitKind::Timer
        }
        // Caches are coherent; what a guest wants of WBINVD and INVD it has already.
        Exit::Wbinvd => {
            core.advance();
            ExitKind::Instruction
        }
        // VMX is hidden, and so is XSAVE with XSETBV; what else exits is not there either.
        Exit::Instruction(_) => {
            core.inject(Injection::INVALID_OPCODE);
            ExitKind::Instruction
        }
        Exit::EptViolation(..) => {
            core.crash(exit);
            ExitKind::EptViolation
        }
        Exit::Exception(interruption) => {
            exception::handle(core, interruption);
            ExitKind::Exception
        }
        Exit::EntryFailed(Reason::MACHINE_CHECK_ON_ENTRY) => panic!("machine check on core {}", core.index),
        Exit::TripleFault => {
            core.triple_fault(exit);
            ExitKind::TripleFault
        }
        Exit::Other(Reason::HLT) => {
            core.halted();
            ExitKind::Instruction
        }
        _ => {
            core.crash(exit);
            ExitKind::Other
        }
    }
}

impl Core {
    /// Moves the guest past the instruction that exited, which is done.
    #[inline(always)]
    pub fn advance(&mut self) {
        let length = self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
        self.advance_by(length as u8);
    }

    /// The same where the exit does not tell the instruction's length.
    #[inline(always)]
    pub fn advance_by(&mut self, length: u8) {
        const BLOCKED_BY_STI_OR_MOV_SS: u32 = 3;
        let rip = self.vmcs.get(field::GUEST_RIP);
        self.vmcs.write(field::GUEST_RIP, rip.wrapping_add(u64::from(length)));
        let blocking = self.vmcs.get(field::GUEST_INTERRUPTIBILITY);
        if blocking & BLOCKED_BY_STI_OR_MOV_SS != 0 {
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, blocking & !BLOCKED_BY_STI_OR_MOV_SS);
        }
    }

    /// Lets the instruction that exited raise an exception.
    #[cold]
    #[inline(never)]
    pub fn inject(&mut self, event: Injection) {
        const PE: u64 = 1;
        let in_real_mode = self.vmcs.get(field::GUEST_CR0) & PE == 0;
        let event = if in_real_mode { event.without_error_code() } else { event };
        self.vmcs.write(field::ENTRY_EXCEPTION_ERROR_CODE, event.error_code);
        self.vmcs.write(field::ENTRY_INTERRUPTION_INFO, event.info);
    }

    /// HLT exits, or does not: it does while the virtual CPU's APIC is off, which is how one goes off for good. All others
    /// halt where they are.
    pub fn watch_halts(&mut self, exit: bool) {
        let primary = self.vmcs.get(field::PRIMARY_CONTROLS);
        self.vmcs.write(field::PRIMARY_CONTROLS, Capabilities::with_halts(primary, exit));
    }

    /// A virtual CPU that can take no interrupt halts: as on Xen it is down, and the domain is off with the last one.
    fn halted(&mut self) {
        const INTERRUPTS_ON: u64 = 1 << 9;
        const HALTED: u32 = 1;
        self.advance();
        if self.vmcs.get(field::GUEST_RFLAGS) & INTERRUPTS_ON != 0 {
            self.vmcs.write(field::GUEST_ACTIVITY, HALTED);
            return self.interrupts_on();
        }
        // Its own virtual CPU is there.
        let _ = self.go_down();
    }

    /// What a triple fault is to the domain is a parameter of its own: a crash, or, as guests know it from PCs, a way to
    /// restart.
    fn triple_fault(&mut self, exit: Exit) {
        let parameter = self.domain().ok().and_then(|domain| domain.params.get(TRIPLE_FAULT_REASON as usize));
        match parameter.map_or(reason::CRASH, |parameter| parameter.load(Relaxed) as u32) {
            reason::CRASH => self.crash(exit),
            other => self.stop_domain(DomainState::Shutdown, other),
        }
    }

    /// Lets the guest take an NMI as soon as it can. Where the processor can not tell when that is, there are none.
    pub fn offer_nmi(&mut self) {
        let primary = self.vmcs.get(field::PRIMARY_CONTROLS);
        if let Some(primary) = self.capabilities.with_nmi_window(primary, true) {
            self.vmcs.write(field::PRIMARY_CONTROLS, primary);
        }
    }

    /// The guest can take its NMI.
    fn give_nmi(&mut self) {
        let primary = self.vmcs.get(field::PRIMARY_CONTROLS);
        if let Some(primary) = self.capabilities.with_nmi_window(primary, false) {
            self.vmcs.write(field::PRIMARY_CONTROLS, primary);
            self.inject(Injection::NMI);
        }
    }

    /// The guest's first access to a debug register: it gets them, and does the access again.
    fn give_debug_registers(&mut self) {
        let vmcs = &mut self.vmcs;
        let (primary, exit, entry) = Capabilities::with_debug_registers(
            vmcs.get(field::PRIMARY_CONTROLS),
            vmcs.get(field::EXIT_CONTROLS),
            vmcs.get(field::ENTRY_CONTROLS),
        );
        vmcs.write(field::PRIMARY_CONTROLS, primary);
        vmcs.write(field::EXIT_CONTROLS, exit);
        vmcs.write(field::ENTRY_CONTROLS, entry);
    }
}
