//! A hostile guest: any hypercall with any arguments, words that mean something somewhere else, pointers that lead
//! nowhere or across the end of a page, stores to any of its memory at any time.

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::xen::hypercall as number;
use ept::Access;
use std::sync::atomic::Ordering::Relaxed;

use hypervisor::core::Core;
use hypervisor::core::face::FACES;
use hypervisor::exits;
use hypervisor::memory::physical::{Identity, pointer};

use crate::machine::CORES;
use crate::{processor, tally};

/// A generator of numbers: xorshift64*.
pub struct Dice(u64);

impl Dice {
    /// Never the same for two seeds.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const EXIT_REASON: u32 = 0x4402;
const INSTRUCTION_LENGTH: u32 = 0x440c;
const QUALIFICATION: u32 = 0x6400;
pub const GUEST_RIP: u32 = 0x681e;
pub const GUEST_CR0: u32 = 0x6800;
pub const GUEST_CR3: u32 = 0x6802;
const GUEST_SS_RIGHTS: u32 = 0x4818;
const GUEST_CS_RIGHTS: u32 = 0x4816;
const LONG_MODE_CODE: u64 = 1 << 13 | 0xc09b;
const PAGING: u64 = 1 << 31;

const TRIPLE_FAULT: u64 = 2;
const VMCALL: u64 = 18;
const CPUID: u64 = 10;
const CONTROL_REGISTER: u64 = 28;
const IO: u64 = 30;
const RDMSR: u64 = 31;
const WRMSR: u64 = 32;
const PREEMPTION_TIMER: u64 = 52;

/// The calls that do something, each as often as it has sides to try.
const CALLS: &[u64] = &[
    number::MEMORY_OP,
    number::MEMORY_OP,
    number::MEMORY_OP,
    number::MULTICALL,
    number::SET_TIMER_OP,
    number::XEN_VERSION,
    number::CONSOLE_IO,
    number::GRANT_TABLE_OP,
    number::GRANT_TABLE_OP,
    number::GRANT_TABLE_OP,
    number::GRANT_TABLE_OP,
    number::VM_ASSIST,
    number::VCPU_OP,
    number::VCPU_OP,
    number::SCHED_OP,
    number::EVENT_CHANNEL_OP,
    number::EVENT_CHANNEL_OP,
    number::EVENT_CHANNEL_OP,
    number::PHYSDEV_OP,
    number::HVM_OP,
    number::HVM_OP,
    number::ATOLL_CONTROL,
];

/// MSRs with a handler, and some without.
const MSRS: &[u32] = &[
    0x10,
    0x1b,
    0x3a,
    0x8b,
    0x140,
    0x1a0,
    0x277,
    0x6e0,
    0x802,
    0x808,
    0x80d,
    0x80b,
    0x80f,
    0x830,
    0x832,
    0x833,
    0x835,
    0x837,
    0x838,
    0x83f,
    0x4000_0000,
    0xc000_0080,
    0xc000_0082,
    0xc000_0102,
    0xffff_ffff,
];

/// A guest and what it knows.
pub struct Guest {
    pub dice: Dice,
    pub memory: u64,
    /// So often it looks yet whether it has a successor.
    pub looks: u32,
}

impl Guest {
    /// With `memory` bytes.
    pub fn new(seed: u64, memory: u64) -> Self {
        Self { dice: Dice::new(seed), memory, looks: 0 }
    }

    /// What it does next: some stores, and one exit.
    pub fn step(&mut self, core: &mut Core) {
        self.mode(core);
        if self.dice.below(3) == 0 {
            processor::nmi(core.index);
        }
        for _ in 0..self.dice.below(4) {
            let (at, word) = (self.address(), self.word());
            store(core, at, &word.to_le_bytes());
        }
        let reason = match self.dice.below(20) {
            0 if core.on_trial && self.dice.below(16) == 0 => TRIPLE_FAULT,
            0 => CPUID,
            1 => RDMSR,
            2 => WRMSR,
            3 => self.dice.pick(&[IO, CONTROL_REGISTER, PREEMPTION_TIMER]),
            _ => VMCALL,
        };
        match reason {
            VMCALL if self.succession_call(core) => {}
            VMCALL if self.dice.below(2) == 0 => self.sound_call(core),
            VMCALL => self.call(core),
            RDMSR | WRMSR => {
                let registers = &mut core.frame.registers;
                registers.rcx = self.dice.pick(MSRS).into();
                (registers.rax, registers.rdx) = (self.word(), self.word() & 7);
            }
            _ => {
                let registers = &mut core.frame.registers;
                (registers.rax, registers.rcx) =
                    (self.dice.pick(&[0, 1, 4, 7, 0xb, 0x4000_0003]), self.dice.below(3))
            }
        }
        processor::set_field(EXIT_REASON, reason);
        processor::set_field(INSTRUCTION_LENGTH, 3);
        // Ports and registers at random, but no string instructions' addresses to look up.
        processor::set_field(QUALIFICATION, self.dice.roll() & 0xffff_0f0f);
        if reason == VMCALL {
            hypercall(core);
        } else {
            exits::handle(core);
        }
    }

    /// How it pages: mostly not at all, so that its pointers are physical.
    fn mode(&mut self, _core: &Core) {
        let (cr0, cr3, rights) = match self.dice.below(8) {
            0 => (PAGING, self.address() & !0xfff, LONG_MODE_CODE),
            1 => (PAGING, self.word(), 0xc09b),
            _ => (0, 0, 0xc09b),
        };
        processor::set_field(GUEST_CR0, cr0 | 1);
        processor::set_field(GUEST_CR3, cr3);
        processor::set_field(GUEST_CS_RIGHTS, rights);
        processor::set_field(GUEST_SS_RIGHTS, if self.dice.below(64) == 0 { 3 << 5 } else { 0xc093 });
    }

    /// A hypercall with a structure of telling words where its pointers point.
    fn call(&mut self, core: &mut Core) {
        let number = if self.dice.below(16) == 0 { self.dice.below(64) } else { self.dice.pick(CALLS) };
        let arguments: [u64; 5] = core::array::from_fn(|_| match self.dice.below(3) {
            0 => self.dice.below(32),
            1 => self.structure(core),
            _ => self.word(),
        });
        let first = if self.dice.below(8) == 0 { self.word() } else { self.dice.below(28) };
        let second = if self.dice.below(8) == 0 { self.word() } else { self.structure(core) };
        let registers = &mut core.frame.registers;
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8] = arguments;
        (registers.rdi, registers.rsi) = match number {
            // These have the vCPU, or the count, second and the pointer third, or the other way round.
            number::VCPU_OP => (first, self.dice.below(4)),
            number::MULTICALL => (second, self.dice.below(9)),
            _ => (first, second),
        };
        // What was not tried yet is.
        let missing = tally::missing();
        if self.dice.below(4) == 0 && !missing.is_empty() {
            let (number, operation) = self.dice.pick(&missing);
            (core.frame.registers.rax, core.frame.registers.rdi) = (number, operation);
        }
        let (number, registers) = (core.frame.registers.rax, &mut core.frame.registers);
        match number {
            number::GRANT_TABLE_OP => registers.rdx = self.dice.below(5),
            number::VCPU_OP => registers.rdx = second,
            // One that ends the domain is one in some hundreds, else nothing would last.
            number::SCHED_OP if matches!(registers.rdi, 2 | 5) && self.dice.below(64) != 0 => {
                registers.rdi = 0
            }
            _ => {}
        }
    }

    /// A domain that lives.
    pub fn living(&mut self) -> u64 {
        let core = 1 + self.dice.below(CORES as u64 - 1);
        FACES[core as usize].domain.load(Relaxed).into()
    }

    /// Writes a structure somewhere, and tells where.
    fn structure(&mut self, core: &Core) -> u64 {
        let at = self.address();
        let mut bytes = [0; 96];
        let mut used = 0;
        while used + 8 <= bytes.len() {
            let word = self.word();
            let width = self.dice.pick(&[2, 2, 4, 4, 8]);
            bytes[used..used + width].copy_from_slice(&word.to_le_bytes()[..width]);
            used += width;
        }
        store(core, at, &bytes);
        at
    }

    /// An address: mostly in its first pages, where what it wrote before lies too.
    pub fn address(&mut self) -> u64 {
        let near = self.dice.below(16) * PAGE_SIZE;
        match self.dice.below(10) {
            0 => near + PAGE_SIZE - 1 - self.dice.below(40),
            1 => self.dice.below(self.memory),
            2 => self.memory + self.dice.below(1 << 30),
            3 => self.dice.roll(),
            _ => near + self.dice.below(64) * 8,
        }
    }

    /// A word that may mean something: a domain, a port, a frame, a count, a flag, an address.
    pub fn word(&mut self) -> u64 {
        match self.dice.below(12) {
            0 => self.living(),
            1..3 => self.dice.below(8),
            3 => self.dice.below(64),
            4 => self.dice.pick(&[0x7ff0, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff, 0xffff_ffff, u64::MAX]),
            5 => self.address(),
            6 => self.memory / PAGE_SIZE + self.dice.below(8),
            7 => self.dice.below(self.memory / PAGE_SIZE),
            8 => 1 << self.dice.below(64),
            9 => (1 << self.dice.below(64)) - 1,
            10 => self.dice.pick(&[4095, 4096, 4097, 512, 511, 1023, 1024, 131_071, 131_072]),
            _ => self.dice.roll(),
        }
    }
}

/// A hypercall, and where it is left before its end, what the guest's core does then: it serves, and makes it again.
fn hypercall(core: &mut Core) {
    /// So often a wait may go on. A guest may wait for ever.
    const AGAIN: usize = 40;
    let (made, kernel) = (tally::Call::of(core), core.vmcs_region);
    processor::set_field(GUEST_RIP, 0);
    for _ in 0..AGAIN {
        exits::handle(core);
        if processor::field(GUEST_RIP) != 0 {
            break;
        }
        tally::LEFT.fetch_add(1, Relaxed);
        core.serve();
        // It may be another kernel that goes on.
        if !core.running || core.vmcs_region != kernel {
            return;
        }
    }
    made.note(core.frame.registers.rax);
}

/// What a guest's store does: through its EPT, where that lets it.
pub fn store(core: &Core, at: u64, bytes: &[u8]) {
    let Ok(domain) = core.domain() else { return };
    for (offset, &byte) in bytes.iter().enumerate() {
        let Some(address) = at.checked_add(offset as u64) else { return };
        if let Some(found) = domain.view.translate(&Identity, GuestPhys::new(address), Access::Write) {
            // SAFETY: by its EPT the guest's memory, on its own core, between two of that core's answers.
            unsafe { pointer::<u8>(found.hpa).write_volatile(byte) };
        }
    }
}
