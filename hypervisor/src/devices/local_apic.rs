//! A local APIC (SDM 3A, "Advanced Programmable Interrupt Controller (APIC)"), in xAPIC and in x2APIC mode: one state,
//! reached by a page of registers or by MSRs.
//!
//! Its timer counts at the rate of the time-stamp counter ([`timer`]), so that is what CPUID has to call the core crystal
//! clock. Time is passed in as that counter. Messages for others are returned: this model knows no other processor.

pub mod timer;
pub mod vectors;

#[cfg(test)]
mod tests;

use super::message::{Address, Delivery, Destination, Message};
use timer::Timer;
pub use vectors::Vectors;

/// What a write asks of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// This is to be sent; the sender itself may be among those it is for.
    Send(Message),
    /// An interrupt that is an edge has ended.
    EndOfEdge,
    /// One that is a level has: the I/O APIC is told of its vector.
    EndOfLevel(u8),
    /// [`LocalApic::address`] has changed.
    Addressed,
}

/// An access that raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Registers, by their x2APIC MSR less 0x800, which is their xAPIC offset over 16.
pub mod register {
    #![allow(missing_docs, reason = "the SDM's names")]

    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const APR: u32 = 0x09;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const RRD: u32 = 0x0c;
    pub const LDR: u32 = 0x0d;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const TMR: u32 = 0x18;
    pub const IRR: u32 = 0x20;
    pub const ESR: u32 = 0x28;
    pub const ICR: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_TIMER: u32 = 0x32;
    pub const LVT_LAST: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;
}

/// Registers that a processor which keeps up a local APIC only shows: those of the model's that a guest can read there.
pub const SHOWN: [u32; 16] = [
    register::ID,
    register::VERSION,
    register::LDR,
    register::DFR,
    register::SVR,
    register::ESR,
    register::ICR,
    register::ICR_HIGH,
    register::LVT_TIMER,
    register::LVT_TIMER + 1,
    register::LVT_TIMER + 2,
    register::LVT_TIMER + 3,
    register::LVT_TIMER + 4,
    register::LVT_LAST,
    register::INITIAL_COUNT,
    register::DIVIDE,
];

/// Whether a processor that keeps up a local APIC has this register for itself: priorities, what is in service, what is
/// requested, and which of it are levels.
pub const fn is_kept_up(number: u32) -> bool {
    matches!(number, register::TPR | register::PPR | register::EOI | register::ISR..register::ESR)
}

/// The local vector table's entries in the order of their registers: timer, thermal, performance, LINT0, LINT1, error.
const LVT_ENTRIES: usize = 6;
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
/// Version 0x14, six entries, no suppression of EOI broadcasts.
const VERSION: u32 = 0x14 | (LVT_ENTRIES as u32 - 1) << 16;
const MASKED: u32 = 1 << 16;
const MODE: u32 = 7 << 8;
const MODE_NMI: u32 = 4 << 8;
const MODE_EXTERNAL: u32 = 7 << 8;
/// Bits that software can write, by entry: vector, mask, timer mode, delivery mode, polarity and trigger.
const LVT_WRITABLE: [u32; LVT_ENTRIES] = {
    let lint = 0xff | MODE | 1 << 13 | 1 << 15 | MASKED;
    [0xff | MASKED | 3 << 17, 0xff | MODE | MASKED, 0xff | MODE | MASKED, lint, lint, 0xff | MASKED]
};
/// Bits that are the APIC's to set: delivery status, remote IRR. Writing them is no error.
const LVT_READ_ONLY: u32 = 1 << 12 | 1 << 14;
const SVR_ENABLED: u32 = 1 << 8;
const SVR_WRITABLE: u32 = 0xff | SVR_ENABLED;
/// Bits of the ICR's lower half: vector, delivery mode, logical, level, trigger, shorthand.
const ICR_WRITABLE: u64 = 0x000c_cfff;
const ICR_LEVEL: u64 = 1 << 14;
const ICR_TRIGGER: u64 = 1 << 15;
/// ESR: an illegal vector was sent, was received; an illegal register was accessed.
const SEND_ILLEGAL: u32 = 1 << 5;
const RECEIVED_ILLEGAL: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;
/// IA32_APIC_BASE: boot processor, x2APIC mode, enabled.
const BASE_BOOT_PROCESSOR: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
/// Where the registers lie; a guest that wants to move them gets #GP.
pub const ADDRESS: u64 = 0xfee0_0000;
/// Vectors below are no interrupts' ("Valid Interrupt Vectors").
const FIRST_VECTOR: u8 = 16;

/// A local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u32,
    base: u64,
    task_priority: u8,
    logical: u32,
    format: u32,
    spurious: u32,
    requested: Vectors,
    in_service: Vectors,
    levels: Vectors,
    errors: u32,
    errors_shown: u32,
    command: u64,
    lvt: [u32; LVT_ENTRIES],
    timer: Timer,
}

impl LocalApic {
    /// As after power-up: xAPIC mode, software-disabled.
    pub const fn new(id: u32, is_boot_processor: bool) -> Self {
        let boot = if is_boot_processor { BASE_BOOT_PROCESSOR } else { 0 };
        Self {
            id,
            base: ADDRESS | BASE_ENABLED | boot,
            task_priority: 0,
            logical: 0,
            format: u32::MAX,
            spurious: 0xff,
            requested: Vectors::NONE,
            in_service: Vectors::NONE,
            levels: Vectors::NONE,
            errors: 0,
            errors_shown: 0,
            command: 0,
            lvt: [MASKED; LVT_ENTRIES],
            timer: Timer::new(),
        }
    }

    /// INIT: as after power-up, but for its id and its mode ("Local APIC State After It Receives an INIT-Deassert IPI").
    pub const fn init(&mut self) {
        let (id, base) = (self.id, self.base);
        *self = Self { base, ..Self::new(id, false) };
    }

    /// What firmware does for the boot processor: enabled, LINT0 is the 8259 pair's, LINT1 is NMI's (MultiProcessor
    /// Specification, "Virtual Wire Mode"). For guests that are started without firmware.
    pub const fn wire_as_firmware_does(&mut self) {
        self.spurious |= SVR_ENABLED;
        self.lvt[LVT_LINT0] = MODE_EXTERNAL;
        self.lvt[LVT_LINT1] = MODE_NMI;
    }

    /// IA32_APIC_BASE.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE: from off to xAPIC mode to x2APIC mode, and off again ("x2APIC State Transitions").
    pub const fn set_base(&mut self, value: u64) -> Result<(), Fault> {
        const STATE: u64 = BASE_ENABLED | BASE_X2APIC;
        let (before, after) = (self.base & STATE, value & STATE);
        let is_legal = match (before, after) {
            (_, BASE_X2APIC) | (0, STATE) | (STATE, BASE_ENABLED) => false,
            _ => value & !(STATE | BASE_BOOT_PROCESSOR) == ADDRESS,
        };
        if !is_legal {
            return Err(Fault);
        }
        if after == 0 && before != 0 {
            *self = Self::new(self.id, false);
        }
        self.base = value;
        Ok(())
    }

    /// Whether it is in x2APIC mode.
    pub const fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// Whether it is there at all: globally enabled.
    pub const fn is_on(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    /// Whether it accepts interrupts: enabled by software too.
    const fn is_enabled(&self) -> bool {
        self.is_on() && self.spurious & SVR_ENABLED != 0
    }

    /// What messages it answers to.
    pub const fn address(&self) -> Address {
        let is_x2apic = self.is_x2apic();
        let logical = if is_x2apic { logical_id(self.id) } else { self.logical };
        Address { id: self.id, logical, format: self.format, is_x2apic }
    }

    /// An interrupt for this processor. The first 16 vectors are errors; while it is disabled it accepts none.
    #[inline]
    pub fn request(&mut self, vector: u8, is_level: bool) {
        if !self.is_enabled() {
            return;
        }
        if vector < FIRST_VECTOR {
            self.error(RECEIVED_ILLEGAL);
        } else {
            self.requested.insert(vector);
            self.levels.assign(vector, is_level);
        }
    }

    /// Takes the vectors that are requested, for a processor that delivers them by itself.
    pub const fn take_requests(&mut self) -> Vectors {
        core::mem::replace(&mut self.requested, Vectors::NONE)
    }

    /// The vectors that were levels when they were requested last.
    pub const fn levels(&self) -> Vectors {
        self.levels
    }

    /// The vector to be delivered next: the highest that is requested, if its class is above the processor's. What was
    /// requested before software disabled it is held, and delivered ("Local APIC State After It Has Been Software
    /// Disabled").
    #[inline]
    pub const fn pending(&self) -> Option<u8> {
        match self.requested.highest() {
            Some(vector) if vector >> 4 > self.processor_priority() >> 4 && self.is_on() => Some(vector),
            _ => None,
        }
    }

    /// Whether any interrupt waits.
    #[inline]
    pub const fn has_requests(&self) -> bool {
        self.requested.highest().is_some()
    }

    /// The processor takes this vector, which was pending.
    #[inline]
    pub const fn accept(&mut self, vector: u8) {
        self.requested.remove(vector);
        self.in_service.insert(vector);
    }

    /// Whether LINT0 passes the interrupts of an 8259 on: it is wired that way, or the APIC is off and out of the way.
    pub const fn passes_external(&self) -> bool {
        !self.is_on() || self.lvt[LVT_LINT0] & (MASKED | MODE) == MODE_EXTERNAL
    }

    /// "Processor Priority Register (PPR)".
    const fn processor_priority(&self) -> u8 {
        let in_service = match self.in_service.highest() {
            Some(vector) => vector,
            None => 0,
        };
        if self.task_priority >> 4 >= in_service >> 4 { self.task_priority } else { in_service & 0xf0 }
    }

    /// CR8: the task priority's class.
    pub const fn task_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Writes CR8, of which four bits count.
    pub const fn set_task_class(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// When the timer expires, by the time-stamp counter.
    #[inline]
    pub const fn deadline(&self) -> Option<u64> {
        self.timer.deadline()
    }

    /// Lets the timer expire, if it is time.
    #[inline]
    pub fn advance(&mut self, now: u64) {
        if self.timer.expire(now) {
            let entry = self.lvt[LVT_TIMER];
            if entry & MASKED == 0 {
                self.request(entry as u8, false);
            }
        }
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE; nothing in any other mode of the timer.
    pub fn set_tsc_deadline(&mut self, value: u64) {
        self.timer.set_tsc_deadline(value);
    }

    /// Reads 32 bits at this offset of the registers' page. In x2APIC mode, or off, there is no such page: the caller
    /// has none mapped.
    #[inline]
    pub fn read_page(&mut self, offset: u32, now: u64) -> u32 {
        if offset & 0xf != 0 {
            // "Local APIC Register Address Map": what is not aligned is undefined, and here nothing.
            return 0;
        }
        match offset >> 4 {
            register::ID => self.id << 24,
            register::ICR => self.command as u32,
            register::ICR_HIGH => (self.command >> 32) as u32,
            register::LDR => self.logical,
            register::DFR => self.format,
            // Write-only, and two that newer processors do not have.
            register::EOI | register::APR | register::RRD => 0,
            number => self.read(number, now).unwrap_or_else(|Fault| {
                self.error(ILLEGAL_REGISTER);
                0
            }),
        }
    }

    /// Writes 32 bits at this offset of the registers' page.
    #[inline]
    pub fn write_page(&mut self, offset: u32, value: u32, now: u64) -> Effect {
        if offset & 0xf != 0 {
            return Effect::None;
        }
        match offset >> 4 {
            register::ICR => {
                self.command = self.command & !0xffff_ffff | u64::from(value) & ICR_WRITABLE;
                self.send(Destination::narrow((self.command >> 56) as u8, self.command & 1 << 11 != 0))
            }
            register::ICR_HIGH => {
                self.command = self.command & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32;
                Effect::None
            }
            register::LDR => {
                self.logical = value & 0xff00_0000;
                Effect::Addressed
            }
            register::DFR => {
                self.format = value | 0x0fff_ffff;
                Effect::Addressed
            }
            // Read-only: a write is lost.
            register::ID | register::VERSION | register::APR | register::PPR | register::RRD => Effect::None,
            register::ISR..register::ESR | register::CURRENT_COUNT => Effect::None,
            number => self.write(number, value, now).unwrap_or_else(|Fault| {
                self.error(ILLEGAL_REGISTER);
                Effect::None
            }),
        }
    }

    /// RDMSR of register `number`, the MSR less 0x800: #GP but in x2APIC mode.
    pub fn read_msr(&mut self, number: u32, now: u64) -> Result<u64, Fault> {
        if !self.is_x2apic() {
            return Err(Fault);
        }
        match number {
            register::ID => Ok(self.id.into()),
            register::LDR => Ok(logical_id(self.id).into()),
            register::ICR => Ok(self.command),
            _ => self.read(number, now).map(u64::from),
        }
    }

    /// WRMSR of register `number`. Reserved bits, too, are #GP ("x2APIC Register Address Space").
    #[inline]
    pub fn write_msr(&mut self, number: u32, value: u64, now: u64) -> Result<Effect, Fault> {
        if !self.is_x2apic() {
            return Err(Fault);
        }
        let writable = match number {
            register::ICR => ICR_WRITABLE | !0xffff_ffff,
            register::SELF_IPI | register::TPR => 0xff,
            register::EOI | register::ESR => 0,
            register::SVR => SVR_WRITABLE.into(),
            register::LVT_TIMER..=register::LVT_LAST => {
                (LVT_WRITABLE[(number - register::LVT_TIMER) as usize] | LVT_READ_ONLY).into()
            }
            register::INITIAL_COUNT => 0xffff_ffff,
            register::DIVIDE => 0b1011,
            _ => return Err(Fault),
        };
        if value & !writable != 0 {
            return Err(Fault);
        }
        match number {
            register::ICR => {
                self.command = value;
                Ok(self.send(Destination::wide((value >> 32) as u32, value & 1 << 11 != 0)))
            }
            register::SELF_IPI => {
                self.send_to_self(value as u8);
                Ok(Effect::None)
            }
            _ => self.write(number, value as u32, now),
        }
    }

    fn read(&self, number: u32, now: u64) -> Result<u32, Fault> {
        Ok(match number {
            register::VERSION => VERSION,
            register::TPR => self.task_priority.into(),
            register::PPR => self.processor_priority().into(),
            register::SVR => self.spurious,
            register::ISR..register::TMR => self.in_service.part(number - register::ISR),
            register::TMR..register::IRR => self.levels.part(number - register::TMR),
            register::IRR..register::ESR => self.requested.part(number - register::IRR),
            register::ESR => self.errors_shown,
            register::LVT_TIMER..=register::LVT_LAST => self.lvt[(number - register::LVT_TIMER) as usize],
            register::INITIAL_COUNT => self.timer.initial_count(),
            register::CURRENT_COUNT => self.timer.current_count(now),
            register::DIVIDE => self.timer.divide(),
            _ => return Err(Fault),
        })
    }

    fn write(&mut self, number: u32, value: u32, now: u64) -> Result<Effect, Fault> {
        match number {
            register::TPR => self.task_priority = value as u8,
            register::EOI => return Ok(self.end_of_interrupt()),
            register::SVR => {
                self.spurious = value & SVR_WRITABLE;
                if !self.is_enabled() {
                    self.lvt.iter_mut().for_each(|entry| *entry |= MASKED);
                }
            }
            // Each write shows what has gathered since the last.
            register::ESR => (self.errors_shown, self.errors) = (self.errors, 0),
            register::LVT_TIMER..=register::LVT_LAST => {
                let index = (number - register::LVT_TIMER) as usize;
                let mask = if self.is_enabled() { 0 } else { MASKED };
                self.lvt[index] = value & LVT_WRITABLE[index] | mask;
                if index == LVT_TIMER {
                    self.timer.set_mode(value >> 17);
                }
            }
            register::INITIAL_COUNT => self.timer.start(value, now),
            register::DIVIDE => self.timer.set_divide(value, now),
            _ => return Err(Fault),
        }
        Ok(Effect::None)
    }

    /// The command in the ICR, whose destination field is `to`.
    #[inline]
    fn send(&mut self, to: Destination) -> Effect {
        let command = self.command;
        let to = match command >> 18 & 3 {
            0 => to,
            1 => Destination::Itself,
            2 => Destination::All,
            _ => Destination::Others,
        };
        let vector = command as u8;
        let Some(delivery) = Delivery::from_mode((command >> 8) as u8, vector) else { return Effect::None };
        match delivery {
            Delivery::Fixed(vector) | Delivery::LowestPriority(vector) if vector < FIRST_VECTOR => {
                self.error(SEND_ILLEGAL);
                return Effect::None;
            }
            // "INIT Level De-assert" is of processors before the Pentium 4; later ones do not know it.
            Delivery::Init if command & (ICR_LEVEL | ICR_TRIGGER) == ICR_TRIGGER => return Effect::None,
            Delivery::External => return Effect::None,
            Delivery::Fixed(vector) if to == Destination::Itself => {
                self.request(vector, false);
                return Effect::None;
            }
            _ => {}
        }
        // Interrupts between processors are edges ("Interrupt Command Register": the trigger mode is INIT's alone).
        Effect::Send(Message { to, delivery, is_level: false })
    }

    fn send_to_self(&mut self, vector: u8) {
        if vector < FIRST_VECTOR {
            self.error(SEND_ILLEGAL);
        } else {
            self.request(vector, false);
        }
    }

    #[inline]
    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.in_service.highest() else { return Effect::None };
        self.in_service.remove(vector);
        if self.levels.contains(vector) { Effect::EndOfLevel(vector) } else { Effect::EndOfEdge }
    }

    /// The first error since the ESR was written interrupts.
    #[cold]
    fn error(&mut self, error: u32) {
        let was = self.errors;
        self.errors |= error;
        let entry = self.lvt[LVT_ERROR];
        if was == 0 && entry & MASKED == 0 {
            if (entry as u8) < FIRST_VECTOR {
                self.errors |= RECEIVED_ILLEGAL;
            } else {
                self.request(entry as u8, false);
            }
        }
    }
}

/// The logical id that follows from an APIC id in x2APIC mode: cluster, and a bit in it.
const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}
