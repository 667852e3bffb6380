//! A local APIC (SDM 3A, "Advanced Programmable Interrupt Controller (APIC)"), in xAPIC and in x2APIC mode: one state,
//! reached by a page of registers or by MSRs.
//!
//! Its timer counts at the rate of the time-stamp counter, which is what CPUID tells a full guest that its core crystal
//! clock is. Time is passed in as that counter. Interrupts for others are returned as commands: this model knows no
//! other processor.

pub mod timer;

use timer::Timer;

/// A bit for each vector.
pub type Vectors = [u64; 4];

/// What a write asks of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// This interrupt command, with the destination in its upper half: in the highest byte, or, in x2APIC mode, all of it.
    Command(u64),
    /// An interrupt that is a level has ended: the I/O APICs are told of its vector.
    EndOfInterrupt(u8),
    /// The logical destination has changed.
    Addressed,
}

/// An access that raises #GP in x2APIC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Registers, by their x2APIC MSR less 0x800, which is their xAPIC offset over 16.
mod register {
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

/// Entries of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the entries are named as in the SDM")]
pub enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

const LVT_ENTRIES: usize = 6;
/// Version 0x14, six entries, no suppression of EOI broadcasts.
const VERSION: u32 = 0x14 | (LVT_ENTRIES as u32 - 1) << 16;
const MASKED: u32 = 1 << 16;
/// Bits that software can write, by entry: vector and mask; timer mode; delivery mode; polarity and trigger.
const LVT_WRITABLE: [u32; LVT_ENTRIES] = [
    0xff | MASKED | 3 << 17,
    0xff | 7 << 8 | MASKED,
    0xff | 7 << 8 | MASKED,
    0xff | 7 << 8 | 1 << 13 | 1 << 15 | MASKED,
    0xff | 7 << 8 | 1 << 13 | 1 << 15 | MASKED,
    0xff | MASKED,
];
const SVR_ENABLED: u32 = 1 << 8;
/// ICR bits that software can write in its lower half.
const ICR_WRITABLE: u64 = 0x000c_cfff;
/// ESR: an illegal vector was sent, was received; an illegal register was accessed.
const SEND_ILLEGAL: u32 = 1 << 5;
const RECEIVED_ILLEGAL: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;
/// IA32_APIC_BASE: boot processor, x2APIC mode, enabled.
const BASE_BOOT_PROCESSOR: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
/// Where the registers lie; they can not be moved.
pub const ADDRESS: u64 = 0xfee0_0000;

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
    vectors: [u32; LVT_ENTRIES],
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
            requested: [0; 4],
            in_service: [0; 4],
            levels: [0; 4],
            errors: 0,
            errors_shown: 0,
            command: 0,
            vectors: [MASKED; LVT_ENTRIES],
            timer: Timer::new(),
        }
    }

    /// INIT: as after power-up, but for its id and its mode ("Local APIC State After It Receives an INIT-Deassert IPI").
    pub fn init(&mut self) {
        let (id, base) = (self.id, self.base);
        *self = Self { base, ..Self::new(id, false) };
    }

    /// As a PC's firmware leaves the boot processor's: on, with LINT0 wired to the 8259 pair ("virtual wire mode").
    pub const fn wire_external(&mut self) {
        const EXTERNAL: u32 = 7 << 8;
        self.spurious |= SVR_ENABLED;
        self.vectors[Lvt::Lint0 as usize] = EXTERNAL;
    }

    /// IA32_APIC_BASE.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE: from off to xAPIC mode to x2APIC mode, and off again ("x2APIC State Transitions").
    pub fn set_base(&mut self, value: u64) -> Result<(), Fault> {
        const MODE: u64 = BASE_ENABLED | BASE_X2APIC;
        let (before, after) = (self.base & MODE, value & MODE);
        let is_legal = !matches!((before, after), (_, BASE_X2APIC) | (0, MODE) | (MODE, BASE_ENABLED));
        if value & !MODE != self.base & !MODE || !is_legal {
            return Err(Fault);
        }
        if after != before {
            let id = self.id;
            if after == 0 || before == 0 {
                *self = Self::new(id, false);
            }
            self.base = value;
        }
        Ok(())
    }

    /// Whether it is in x2APIC mode.
    pub const fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// Whether it takes part in anything: globally enabled.
    pub const fn is_on(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    /// Whether it delivers interrupts: enabled by software too.
    const fn is_enabled(&self) -> bool {
        self.is_on() && self.spurious & SVR_ENABLED != 0
    }

    /// Logical destination register, and its format: all ones in x2APIC mode, which has but one.
    pub const fn address(&self) -> (u32, u32) {
        if self.is_x2apic() { (logical_id(self.id), u32::MAX) } else { (self.logical, self.format) }
    }

    /// An interrupt for this processor. The first 16 vectors are errors.
    pub fn request(&mut self, vector: u8, is_level: bool) {
        if vector < 16 {
            self.error(RECEIVED_ILLEGAL);
        } else if self.is_enabled() {
            set(&mut self.requested, vector);
            if is_level {
                set(&mut self.levels, vector)
            } else {
                clear(&mut self.levels, vector)
            };
        }
    }

    /// The vector to be delivered next: the highest that is requested, if its priority is above the processor's.
    pub fn pending(&self) -> Option<u8> {
        let vector = highest(&self.requested)?;
        (vector >> 4 > self.processor_priority() >> 4 && self.is_enabled()).then_some(vector)
    }

    /// The processor takes this vector.
    pub fn accept(&mut self, vector: u8) {
        clear(&mut self.requested, vector);
        set(&mut self.in_service, vector);
    }

    /// Whether LINT0 passes the interrupts of an 8259 on: it is wired that way, or the APIC is off and out of the way.
    pub const fn passes_external(&self) -> bool {
        const EXTERNAL: u32 = 7 << 8;
        let lint0 = self.vectors[Lvt::Lint0 as usize];
        !self.is_on() || lint0 & MASKED == 0 && lint0 & 7 << 8 == EXTERNAL
    }

    /// "Processor Priority Register (PPR)".
    fn processor_priority(&self) -> u8 {
        let in_service = highest(&self.in_service).unwrap_or(0);
        if self.task_priority >> 4 >= in_service >> 4 { self.task_priority } else { in_service & 0xf0 }
    }

    /// CR8: the task priority's class.
    pub const fn task_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Writes CR8.
    pub const fn set_task_class(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// When the timer fires next, by the time-stamp counter.
    pub fn deadline(&self) -> Option<u64> {
        self.timer.deadline()
    }

    /// Lets the timer fire, if it is time.
    pub fn advance(&mut self, now: u64) {
        if self.timer.expire(now) {
            let entry = self.vectors[Lvt::Timer as usize];
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

    /// Reads 32 bits at this offset of the registers' page.
    pub fn read_page(&mut self, offset: u32, now: u64) -> u32 {
        let number = offset >> 4;
        match number {
            register::ID => self.id << 24,
            register::ICR => self.command as u32,
            register::ICR_HIGH => (self.command >> 32) as u32,
            register::LDR => self.logical,
            register::DFR => self.format,
            register::APR | register::RRD => 0,
            _ => self.read(number, now).unwrap_or_else(|Fault| {
                self.error(ILLEGAL_REGISTER);
                0
            }),
        }
    }

    /// Writes 32 bits at this offset of the registers' page.
    pub fn write_page(&mut self, offset: u32, value: u32, now: u64) -> Effect {
        match offset >> 4 {
            register::ICR => {
                self.command = self.command & !0xffff_ffff | u64::from(value) & ICR_WRITABLE;
                self.send(self.command)
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
            // Writing the id is allowed by some processors, and ignored by the newer ones.
            register::ID => Effect::None,
            number => self.write(number, value, now).unwrap_or_else(|Fault| {
                self.error(ILLEGAL_REGISTER);
                Effect::None
            }),
        }
    }

    /// RDMSR of register `number`, in x2APIC mode.
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

    /// WRMSR of register `number`, in x2APIC mode.
    pub fn write_msr(&mut self, number: u32, value: u64, now: u64) -> Result<Effect, Fault> {
        const RESERVED: u64 = !(ICR_WRITABLE & !(1 << 12) | 0xffff_ffff << 32);
        if !self.is_x2apic() || number != register::ICR && value >> 32 != 0 {
            return Err(Fault);
        }
        match number {
            register::ICR if value & RESERVED == 0 => {
                self.command = value;
                Ok(self.send(value))
            }
            register::SELF_IPI if value <= 0xff => {
                if value < 16 {
                    self.error(SEND_ILLEGAL);
                }
                self.request(value as u8, false);
                Ok(Effect::None)
            }
            register::EOI | register::ESR if value != 0 => Err(Fault),
            register::ICR | register::SELF_IPI | register::LDR | register::DFR | register::ID => Err(Fault),
            register::TPR if value > 0xff => Err(Fault),
            _ => self.write(number, value as u32, now),
        }
    }

    fn read(&self, number: u32, now: u64) -> Result<u32, Fault> {
        let part = |vectors: &Vectors, first: u32| {
            let index = number - first;
            (vectors[index as usize / 2] >> (index % 2 * 32)) as u32
        };
        Ok(match number {
            register::VERSION => VERSION,
            register::TPR => self.task_priority.into(),
            register::PPR => self.processor_priority().into(),
            register::SVR => self.spurious,
            register::ISR..register::TMR => part(&self.in_service, register::ISR),
            register::TMR..register::IRR => part(&self.levels, register::TMR),
            register::IRR..register::ESR => part(&self.requested, register::IRR),
            register::ESR => self.errors_shown,
            register::LVT_TIMER..=register::LVT_LAST => self.vectors[(number - register::LVT_TIMER) as usize],
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
                self.spurious = value & (0xff | SVR_ENABLED);
                if !self.is_enabled() {
                    self.vectors.iter_mut().for_each(|entry| *entry |= MASKED);
                }
            }
            // Each write shows what has gathered since the last.
            register::ESR => (self.errors_shown, self.errors) = (self.errors, 0),
            register::LVT_TIMER..=register::LVT_LAST => {
                let index = (number - register::LVT_TIMER) as usize;
                let off = if self.is_enabled() { 0 } else { MASKED };
                self.vectors[index] = value & LVT_WRITABLE[index] | off;
                if index == Lvt::Timer as usize {
                    self.timer.set_mode(value >> 17 & 3, now);
                }
            }
            register::INITIAL_COUNT => self.timer.start(value, now),
            register::DIVIDE => self.timer.set_divide(value, now),
            _ => return Err(Fault),
        }
        Ok(Effect::None)
    }

    fn send(&mut self, command: u64) -> Effect {
        const FIXED_OR_LOWEST: u64 = 0x600;
        if command & FIXED_OR_LOWEST == 0 && (command as u8) < 16 {
            self.error(SEND_ILLEGAL);
            return Effect::None;
        }
        Effect::Command(command)
    }

    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = highest(&self.in_service) else { return Effect::None };
        clear(&mut self.in_service, vector);
        if is_set(&self.levels, vector) { Effect::EndOfInterrupt(vector) } else { Effect::None }
    }

    fn error(&mut self, error: u32) {
        let was = self.errors;
        self.errors |= error;
        let entry = self.vectors[Lvt::Error as usize];
        if was == 0 && entry & MASKED == 0 && entry as u8 >= 16 {
            self.request(entry as u8, false);
        }
    }
}

/// The logical id that follows from an APIC id in x2APIC mode: cluster, and a bit in it.
const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

fn highest(vectors: &Vectors) -> Option<u8> {
    let word = (0..4).rev().find(|&word| vectors[word] != 0)?;
    Some((word * 64) as u8 + 63 - vectors[word].leading_zeros() as u8)
}

fn set(vectors: &mut Vectors, vector: u8) {
    vectors[usize::from(vector >> 6)] |= 1 << (vector & 63);
}

fn clear(vectors: &mut Vectors, vector: u8) {
    vectors[usize::from(vector >> 6)] &= !(1 << (vector & 63));
}

fn is_set(vectors: &Vectors, vector: u8) -> bool {
    vectors[usize::from(vector >> 6)] & 1 << (vector & 63) != 0
}
