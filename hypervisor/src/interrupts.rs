//! The local APIC as the hypervisor uses it, what a guest leaves behind in it, and the wires of the I/O APICs.
//!
//! External interrupts belong to guests: they never cause a VM exit. The hypervisor keeps them off while it runs, and
//! lets them in on one occasion only: to throw away what a domain that is gone has left pending ([`quiesce`]).

use core::arch::asm;

use boot::descriptors::{Bases, IST_INTERRUPT, InterruptFrame, interrupt_gate};
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x2apic::lapic::{LocalApic, LocalApicBuilder};
use x86::dtables::{DescriptorTablePointer, lidt};

use crate::machine::Machine;

/// Vector of the local APIC's spurious interrupts, until a guest chooses its own.
const SPURIOUS: usize = 0xff;

/// Sends interrupts from this core to others, and to itself.
pub struct Sender {
    apic: LocalApic,
    /// Where the interrupt command register has its destination: the crate puts it at bit 32, which is x2APIC's place;
    /// xAPIC has it at bit 56.
    destination_shift: u32,
}

impl Sender {
    /// What was written before is visible before the interrupt: in x2APIC mode a write of the command register does not
    /// wait for that by itself (SDM 3A, "MSR Access in x2APIC Mode"). In xAPIC mode the last command must have left.
    #[inline]
    fn settle(&self) {
        // SAFETY: fences.
        unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        if self.destination_shift != 0 {
            for _ in 0..ROUNDS {
                // SAFETY: reads the command register.
                if !unsafe { self.apic.get_ipi_delivery_status() } {
                    break;
                }
            }
        }
    }

    /// # Safety
    /// The core with `apic_id` runs Atoll, which takes an NMI as a kick.
    #[inline]
    pub unsafe fn nmi(&mut self, apic_id: u32) {
        self.settle();
        // SAFETY: by the caller.
        unsafe { self.apic.send_nmi(apic_id << self.destination_shift) };
    }

    /// # Safety
    /// The guest that owns the core with `apic_id` takes `vector`, which is above 15.
    #[inline]
    pub unsafe fn fixed(&mut self, vector: u8, apic_id: u32) {
        self.settle();
        // SAFETY: by the caller.
        unsafe { self.apic.send_ipi(vector, apic_id << self.destination_shift) };
    }

    /// # Safety
    /// The core with `apic_id` waits to be started, or may be reset.
    pub unsafe fn init(&mut self, apic_id: u32) {
        self.settle();
        // SAFETY: by the caller.
        unsafe { self.apic.send_init_ipi(apic_id << self.destination_shift) };
    }

    /// # Safety
    /// The core with `apic_id` may start at the page with this number.
    pub unsafe fn start_up(&mut self, page: u8, apic_id: u32) {
        self.settle();
        // SAFETY: by the caller.
        unsafe { self.apic.send_sipi(page, apic_id << self.destination_shift) };
    }
}

/// Turns this core's local APIC on: x2APIC mode where there is one, else xAPIC.
pub fn enable_local_apic() -> Result<Sender, &'static str> {
    // SAFETY: every x86-64 processor has IA32_APIC_BASE.
    let base = unsafe { x2apic::lapic::xapic_base() };
    let mut apic = LocalApicBuilder::new()
        .timer_vector(SPURIOUS)
        .error_vector(SPURIOUS)
        .spurious_vector(SPURIOUS)
        .set_xapic_base(base)
        .build()?;
    // SAFETY: interrupts are off, and the timer, which `enable` starts, goes off again at once.
    unsafe {
        apic.enable();
        apic.disable_timer();
    }
    let destination_shift = if Registers::new().is_x2apic() { 0 } else { 24 };
    Ok(Sender { apic, destination_shift })
}

/// Registers of the local APIC that [`quiesce`] needs and the crate does not offer, by x2APIC MSR.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// Where xAPIC registers lie, in a core without x2APIC.
    xapic: Option<u64>,
}

impl Registers {
    /// The registers of this core.
    pub fn new() -> Self {
        let x2apic = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|features| features.has_x2apic());
        // SAFETY: as above.
        Self { xapic: (!x2apic).then(|| unsafe { x2apic::lapic::xapic_base() }) }
    }

    /// Whether the processor has x2APIC mode.
    pub const fn is_x2apic(&self) -> bool {
        self.xapic.is_none()
    }

    /// Reads the register with this MSR number.
    pub fn read(&self, msr: u32) -> u64 {
        // SAFETY: reads of local APIC registers, which exist by the caller's choice of number.
        unsafe {
            match self.xapic {
                None => x86::msr::rdmsr(msr),
                Some(base) => u64::from(mmio(base, msr).read_volatile()),
            }
        }
    }

    /// Whether the APIC is on, by its spurious-interrupt vector register.
    pub fn is_on(&self) -> bool {
        self.read(SVR) & 1 << 8 != 0
    }

    /// Whether an interrupt waits for the guest to take it (SDM 3A, "Interrupt Acceptance for Fixed Interrupts": IRR).
    pub fn is_any_pending(&self) -> bool {
        self.bits(IRR).any()
    }

    /// A bit for each vector, from eight registers on.
    pub fn bits(&self, first: u32) -> Bits {
        Bits(core::array::from_fn(|index| self.read(first + index as u32) as u32))
    }

    /// Writes the register with this MSR number.
    ///
    /// # Safety
    /// The write reaches no other core: not the interrupt command register.
    pub unsafe fn write(&self, msr: u32, value: u64) {
        // SAFETY: by the caller.
        unsafe {
            match self.xapic {
                None => x86::msr::wrmsr(msr, value),
                Some(base) => mmio(base, msr).write_volatile(value as u32),
            }
        }
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

/// A bit for each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(pub [u32; 8]);

impl Bits {
    /// Whether one is set.
    pub fn any(&self) -> bool {
        self.0.iter().any(|&word| word != 0)
    }

    /// The vectors whose bits are set, that an interrupt can have: from 16 on.
    pub fn lowest_first(self) -> impl Iterator<Item = u8> {
        (16..=255u8).filter(move |&vector| self.0[usize::from(vector / 32)] & 1 << (vector % 32) != 0)
    }
}

/// The xAPIC register that x2APIC has as this MSR.
fn mmio(base: u64, msr: u32) -> *mut u32 {
    (base + u64::from(msr & 0x3f) * 16) as *mut u32
}

const VERSION: u32 = 0x803;
/// Task priority.
pub const TPR: u32 = 0x808;
const EOI: u32 = 0x80b;
/// Spurious-interrupt vector.
pub const SVR: u32 = 0x80f;
/// The first of eight: interrupts in service.
pub const ISR: u32 = 0x810;
/// The first of eight: interrupts that are pending.
pub const IRR: u32 = 0x820;
/// The timer's entry in the local vector table.
pub const LVT_TIMER: u32 = 0x832;
const LVT_THERMAL: u32 = 0x833;
const LVT_PERFORMANCE: u32 = 0x834;
/// The timer's initial count.
pub const INITIAL_COUNT: u32 = 0x838;
/// Its current count.
pub const CURRENT_COUNT: u32 = 0x839;
/// Its divider.
pub const DIVIDE: u32 = 0x83e;
/// In an entry of the local vector table: it is masked.
pub const MASKED: u64 = 1 << 16;
/// A vector that no interrupt can have: an EOI of the spurious vector itself may be ignored.
const QUIET_SPURIOUS: u64 = 0x0f;
/// More than enough rounds for 240 vectors, each in service and pending.
const ROUNDS: usize = 1024;

impl Registers {
    /// Ends the interrupt that was acknowledged last.
    pub fn end_of_interrupt(&self) {
        // SAFETY: it is this core's own matter.
        unsafe { self.write(EOI, 0) };
    }

    /// The entries of the local vector table that this APIC has: timer, LINT0, LINT1, error, and newer ones (SDM 3A,
    /// "Local APIC Version Register").
    pub fn local_vectors(&self) -> impl Iterator<Item = u32> {
        let highest = self.read(VERSION) >> 16 & 0xff;
        let performance = (highest >= 4).then_some(LVT_PERFORMANCE);
        let thermal = (highest >= 5).then_some(LVT_THERMAL);
        [LVT_TIMER, 0x835, 0x836, 0x837].into_iter().chain(performance).chain(thermal)
    }
}

/// Leaves nothing in this core's local APIC of who was here before: timers off, nothing in service, nothing pending.
/// `bases` are those of this core's tables.
pub fn quiesce(registers: Registers, bases: &Bases) {
    // SAFETY: masks and clears; nothing here reaches another core.
    unsafe {
        for entry in registers.local_vectors() {
            registers.write(entry, MASKED);
        }
        registers.write(INITIAL_COUNT, 0);
        registers.write(SVR, QUIET_SPURIOUS | 1 << 8);
        registers.write(TPR, 0);
    }
    let any = |first: u32| (first..first + 8).any(|register| registers.read(register) != 0);
    let end_all = || {
        for _ in 0..ROUNDS {
            if !any(ISR) {
                break;
            }
            // SAFETY: ends one interrupt of whoever was here.
            unsafe { registers.write(EOI, 0) };
        }
    };
    end_all();
    // SAFETY: the core's own table, all 256 gates of it, which is there for good.
    let gates = unsafe { &*(bases.idt as *const [u128; 256]) };
    let (normal, drain) = (DescriptorTablePointer::new_from_slice(gates), drain_gates(gates));
    // SAFETY: the gates of exceptions stay as they are. The others lead to code that returns at once; it takes no error
    // code, which is right for interrupts. The old table comes back with interrupts off.
    unsafe {
        lidt(&DescriptorTablePointer::new_from_slice(&drain));
        for _ in 0..ROUNDS {
            if !any(IRR) {
                break;
            }
            asm!("sti", "nop", "nop", "cli");
            end_all();
        }
        lidt(&normal);
    }
}

/// Has these interrupts in service at this core, whose APIC has this id, is on, and has nothing pending: the host takes each
/// once, and does not end it. They come lowest first, so that each goes before those that are in service already.
pub fn take_in_host(
    sender: &mut Sender,
    apic_id: u32,
    registers: Registers,
    bases: &Bases,
    vectors: impl Iterator<Item = u8>,
) {
    // SAFETY: as in `quiesce`.
    let gates = unsafe { &*(bases.idt as *const [u128; 256]) };
    let (normal, drain) = (DescriptorTablePointer::new_from_slice(gates), drain_gates(gates));
    // SAFETY: as in `quiesce`; the interrupts go to this core itself, and the gates that they find return at once.
    unsafe {
        lidt(&DescriptorTablePointer::new_from_slice(&drain));
        for vector in vectors {
            sender.fixed(vector, apic_id);
            for _ in 0..ROUNDS {
                if registers.bits(IRR).any() {
                    break;
                }
            }
            asm!("sti", "nop", "nop", "cli");
        }
        lidt(&normal);
    }
}

/// A table in which every vector that an interrupt can have returns at once. A guest may leave any from 16 up pending,
/// also those that are exceptions with an error code otherwise.
fn drain_gates(normal: &[u128; 256]) -> [u128; 256] {
    let mut gates = [interrupt_gate(drain_stub as *const () as u64, IST_INTERRUPT); 256];
    gates[..16].copy_from_slice(&normal[..16]);
    gates
}

/// Returns; the in-service bit is ended by [`quiesce`] itself.
#[unsafe(naked)]
extern "sysv64" fn drain_stub() {
    core::arch::naked_asm!("iretq")
}

/// What all gates of the hypervisor's own table lead to. Interrupts are off while it runs, so what comes here is an
/// exception: a bug of Atoll's own.
pub extern "C" fn unexpected(frame: &mut InterruptFrame) {
    // SAFETY: CR2 only tells where a page fault was.
    let cr2 = unsafe { x86::controlregs::cr2() };
    panic!(
        "vector {} error {:#x} at {:#x}, stack {:#x}, cr2 {cr2:#x}",
        frame.vector, frame.error_code, frame.rip, frame.rsp
    );
}

/// Wires interrupt `line`, edge-triggered, to `vector` of the core with `apic_id`; vector 0 masks it. A line is a global
/// system interrupt, or, below 16, an ISA interrupt, which the MADT may have wired elsewhere. `None`: there is no such
/// wire.
pub fn route(machine: &Machine, line: u32, vector: u8, apic_id: u32) -> Option<()> {
    let rewired = machine.overrides.iter().find(|wire| u32::from(wire.irq) == line);
    let gsi = rewired.map_or(line, |wire| wire.gsi);
    for chip in &machine.io_apics {
        // SAFETY: the MADT says that an I/O APIC is there, and boot has mapped it; only core 0 comes here.
        unsafe {
            let mut io = IoApic::new(u64::from(chip.address));
            let pins = u32::from(io.max_table_entry()) + 1;
            let Some(pin) = gsi.checked_sub(chip.first_gsi).filter(|&pin| pin < pins) else { continue };
            let mut entry = RedirectionTableEntry::default();
            entry.set_mode(IrqMode::Fixed);
            entry.set_vector(vector);
            entry.set_dest(u8::try_from(apic_id).ok()?);
            entry.set_flags(if vector == 0 { IrqFlags::MASKED } else { IrqFlags::empty() });
            io.set_table_entry(pin as u8, entry);
        }
        return Some(());
    }
    None
}

/// Masks every wire of every I/O APIC, and the old interrupt controllers.
pub fn mask_all(machine: &Machine) {
    // SAFETY: the 8259 pair's mask registers; nobody uses it.
    unsafe {
        x86::io::outb(0x21, 0xff);
        x86::io::outb(0xa1, 0xff);
    }
    for chip in &machine.io_apics {
        // SAFETY: as in `route`.
        unsafe {
            let mut io = IoApic::new(u64::from(chip.address));
            for pin in 0..=io.max_table_entry() {
                io.disable_irq(pin);
            }
        }
    }
}
