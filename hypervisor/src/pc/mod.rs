//! A full guest's PC: it believes that it owns a machine, and what it does to devices exits and is emulated.
//!
//! A reader's path: [`run`] is the loop of a core with a full guest. Before each entry [`interrupts`] sees to what the
//! guest is to be interrupted by; after each exit [`handle`] finds the family: [`ports`], [`mmio`], [`msr`], [`shadow`], or
//! what a para guest's exit is too. The devices are [`crate::devices`]; those of a processor's own are in its [`Local`],
//! the others on the [`board`] of the domain's home core.

pub mod board;
mod console;
mod disk;
mod interrupts;
mod linear;
pub mod mmio;
mod msr;
pub mod ports;
pub mod posted;
pub mod shadow;
mod strings;
pub mod virtual_apic;

use core::sync::atomic::Ordering::Relaxed;

use abi::address::PAGE_SIZE;
use abi::control::hypercall::{DomainState, ExitKind};
use abi::xen::hvm::param;
use abi::xen::sched::reason;
use vmx::crossing::{self, Return};
use vmx::exit::{ControlRegister, Exit, Reason};
use vmx::injection::Injection;

use crate::core::Core;
use crate::devices::decode::memo::Memo;
use crate::devices::local_apic::{Effect, LocalApic};
use crate::domain::{Domain, Home};
use crate::events;
use crate::exits;
use crate::machine::Machine;
use board::{Board, Power};
use console::Console;
use disk::Disk;
use posted::POSTED;
use virtual_apic::VirtualApic;

/// What a full guest's virtual CPU has for itself.
#[derive(Debug)]
pub struct Local {
    /// Its local APIC.
    pub apic: LocalApic,
    /// What the processor keeps of it, where it does.
    pub virtual_apic: Option<VirtualApic>,
    /// Something has changed that an interrupt may follow from, or another deadline.
    pub attention: bool,
    /// Instructions on its devices.
    pub memo: Memo,
    /// Home: when something on the board is due next, by the time-stamp counter; `u64::MAX`: nothing.
    pub board_due: u64,
    /// Home: whether the board's 8259 pair offers an interrupt.
    pub is_offered_external: bool,
    /// When the VMX-preemption timer will end, by the time-stamp counter; `u64::MAX`: never.
    pub armed: u64,
}

impl Local {
    /// At power-up. The boot processor finds its LINT0 as firmware leaves it, wired to the 8259 pair.
    pub fn new(id: u32, is_boot_processor: bool) -> Self {
        let mut apic = LocalApic::new(id, is_boot_processor);
        if is_boot_processor {
            apic.wire_as_firmware_does();
        }
        Self {
            apic,
            virtual_apic: None,
            attention: true,
            memo: Memo::new(),
            board_due: 0,
            is_offered_external: false,
            armed: u64::MAX,
        }
    }

    /// What is pending and due is to be looked at after a write that had this effect, unless all it did was to end an
    /// interrupt with no other waiting.
    #[inline]
    fn note(&mut self, effect: Effect) {
        self.attention |= effect != Effect::EndOfEdge || self.apic.has_requests();
    }
}

/// Gives a full guest's home its board.
pub fn build(domain: &Domain, home: &mut Home, machine: &Machine) {
    let mut board = Board::new(machine.clock.epoch());
    board.console = Console::of(domain);
    board.disk = Disk::of(domain);
    let memory_end = domain.params[param::MEMORY_END_PFN as usize].load(Relaxed);
    if memory_end != 0 {
        board.describe(memory_end.saturating_mul(PAGE_SIZE), domain.cores.len() as u16);
    }
    home.board = Some(board);
}

/// Lets the guest run for as long as it may.
pub fn run(core: &mut Core) {
    while core.running {
        interrupts::prepare(core);
        // SAFETY: as in `Core::run`.
        match unsafe { crossing::enter(&raw mut core.frame) } {
            Return::Exit => handle(core),
            Return::Kicked => {
                core.serve();
                hear(core);
            }
            Return::Failed => core.entry_failed(),
        }
    }
}

/// Handles an exit.
#[inline]
fn handle(core: &mut Core) {
    let face = core.face;
    match Exit::decode(&core.vmcs) {
        Exit::Io(access) => {
            face.count(ExitKind::Io);
            ports::handle(core, access);
        }
        exit @ Exit::EptViolation(qualification, address) => {
            face.count(ExitKind::EptViolation);
            mmio::handle(core, qualification, address, exit);
        }
        Exit::Rdmsr => {
            face.count(ExitKind::Rdmsr);
            msr::read(core);
        }
        Exit::Wrmsr => {
            face.count(ExitKind::Wrmsr);
            msr::write(core);
        }
        Exit::ApicWrite(offset) => {
            face.count(ExitKind::Apic);
            virtual_apic::written(core, offset);
        }
        Exit::Other(Reason::INTERRUPT_WINDOW) => {
            face.count(ExitKind::Other);
            interrupts::window_opened(core);
        }
        Exit::Other(Reason::HLT) => {
            face.count(ExitKind::Instruction);
            interrupts::halted(core);
        }
        Exit::PreemptionTimer => {
            face.count(ExitKind::Timer);
            core.look_at_watchdogs();
            if let Some(local) = core.local() {
                // It stands at 0, and would end at once again.
                (local.attention, local.armed) = (true, 0);
            }
        }
        Exit::ControlRegister(access @ (ControlRegister::Read(8, _) | ControlRegister::Write(8, _))) => {
            face.count(ExitKind::ControlRegister);
            task_priority(core, access);
        }
        exit @ (Exit::Exception(_) | Exit::ControlRegister(_) | Exit::Invlpg(_)) => paging(core, exit),
        exit @ Exit::ApicAccess(access) => {
            face.count(ExitKind::Apic);
            virtual_apic::accessed(core, access, exit);
        }
        Exit::VirtualizedEoi(vector) => {
            face.count(ExitKind::Apic);
            virtual_apic::ended(core, vector);
        }
        // It was meant for a guest that this core had before.
        Exit::ExternalInterrupt(_) => {
            face.count(ExitKind::Other);
            core.registers.end_of_interrupt();
        }
        // There is no hypervisor to call.
        Exit::Hypercall => {
            face.count(ExitKind::Instruction);
            core.inject(Injection::INVALID_OPCODE);
        }
        Exit::TripleFault => {
            face.count(ExitKind::TripleFault);
            power(core, Power::Reset);
        }
        other => exits::handle_decoded(core, other),
    }
}

/// What exits so often with shadow page tables alone. By itself, so that other exits do not save registers for it.
#[inline(never)]
fn paging(core: &mut Core, exit: Exit) {
    let face = core.face;
    match exit {
        Exit::Exception(exception) if exception.vector() == shadow::PAGE_FAULT => {
            face.count(ExitKind::Exception);
            shadow::page_fault(core, exception);
        }
        Exit::ControlRegister(access) if shadow::shadows(core).is_some() => {
            face.count(ExitKind::ControlRegister);
            shadow::registers::handle(core, access);
        }
        Exit::Invlpg(linear) => {
            face.count(ExitKind::Instruction);
            shadow::invalidate(core, linear);
        }
        other => exits::handle_decoded(core, other),
    }
}

/// A kick may have been for the console.
#[cold]
fn hear(core: &mut Core) {
    let Ok(domain) = core.domain() else { return };
    let port = core.home.as_ref().and_then(|home| Some(home.board.as_ref()?.console.as_ref()?.port));
    if port.is_some_and(|port| events::take(core, domain, port)) {
        at_board(core, |board, _| board.pump());
    }
    attend(core);
}

/// Something has changed: what follows from it is seen to before the guest is entered.
fn attend(core: &mut Core) {
    if let Some(local) = core.local() {
        local.attention = true;
    }
}

/// Works at the board, which is this core's, and does what follows from it: interrupts posted, domain 0 told of what was
/// printed. The answer is `None` where there is no board.
fn at_board<R>(core: &mut Core, work: impl FnOnce(&mut Board, u64) -> R) -> Option<R> {
    let now = core.machine.system_time();
    let board = core.home.as_mut()?.board.as_mut()?;
    let answer = work(board, now);
    if board.has_changed {
        follow_board(core);
    }
    Some(answer)
}

/// Does what follows from a change at the board.
#[inline(never)]
fn follow_board(core: &mut Core) {
    let Some(board) = core.home.as_mut().and_then(|home| home.board.as_mut()) else { return };
    let messages = (!board.outbox.is_empty()).then(|| core::mem::take(&mut board.outbox));
    let printed = core::mem::take(&mut board.has_printed);
    let port = board.console.as_ref().map(|console| console.port);
    board.has_changed = false;
    let offers = board.offers_external();
    let due = core::mem::take(&mut board.is_retimed)
        .then(|| board.deadline().map_or(u64::MAX, |due| core.machine.clock.tsc(due)));
    if let Some(local) = core.local() {
        (local.is_offered_external, local.attention) = (offers, true);
        local.board_due = due.unwrap_or(local.board_due);
    }
    for message in messages.into_iter().flatten() {
        interrupts::send(core, message, false);
    }
    if let Some(port) = port.filter(|_| printed) {
        // A console that domain 0 has closed is one that nobody looks at.
        let _ = events::send(core, port);
    }
}

/// Carries out what a guest has done to its PC.
fn power(core: &mut Core, power: Power) {
    match power {
        Power::Stays => {}
        Power::Reset => core.stop_domain(DomainState::Shutdown, reason::REBOOT),
        Power::Off => core.stop_domain(DomainState::Shutdown, reason::POWEROFF),
    }
}

/// MOV to and from CR8.
fn task_priority(core: &mut Core, access: ControlRegister) {
    let (ControlRegister::Read(_, register) | ControlRegister::Write(_, register)) = access else { return };
    if matches!(access, ControlRegister::Read(..)) {
        let class = core.local().map_or(0, |local| local.apic.task_class());
        core.set_register(register, class.into());
    } else {
        let value = core.register(register);
        if value > 0xf {
            core.inject(Injection::GENERAL_PROTECTION);
            return;
        }
        if let Some(local) = core.local() {
            local.apic.set_task_class(value as u8);
            local.attention = true;
        }
    }
    core.advance();
}

/// A virtual CPU of a full guest is about to start anew: its local APIC is as after INIT.
pub fn reset(core: &mut Core) {
    POSTED[core.index].reset();
    if let Some(local) = core.local() {
        local.apic.init();
        (local.attention, local.armed) = (true, u64::MAX);
        let address = local.apic.address();
        POSTED[core.index].set_address(address);
    }
}
