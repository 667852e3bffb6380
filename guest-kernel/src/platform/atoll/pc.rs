//! A PC, where there is no hypervisor that says so: on the bare machine, or as a full guest. The kernel prints to the first
//! serial port, gets no events, and can have its local APIC in xAPIC mode, which is a page of registers.

pub mod ata;

use core::sync::atomic::Ordering;

use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};
use x86::io::{inb, outb, outw};
use x86::msr::{IA32_APIC_BASE, rdmsr, wrmsr};

use super::{cpu, memory};

/// The first serial port.
const COM1: u16 = 0x3f8;
/// Its line status register.
const LINE_STATUS: u16 = COM1 + 5;
/// The first counter of the interval timer.
const INTERVAL_TIMER: u16 = 0x40;
/// ACPI's PM1 control block, where Atoll's full guests and QEMU's older machines have it, and "soft off" there.
const POWER_CONTROL: u16 = 0x604;
const SOFT_OFF: u16 = 1 << 13 | 5 << 10;
/// The page of a local APIC's registers.
const APIC_PAGE: u64 = 0xfee0_0000;
const APIC_ID: u64 = 0x20;
const APIC_EOI: u64 = 0xb0;
const APIC_COMMAND: u64 = 0x300;
const X2APIC_MODE: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;

/// Keeps the old interrupt controllers quiet, which firmware may have left at work.
pub(super) fn mask_interrupts() {
    // SAFETY: the mask registers of the 8259 pair.
    unsafe {
        outb(0x21, 0xff);
        outb(0xa1, 0xff);
    }
}

/// The first serial port, set up. `None`: there is none.
pub(super) fn serial_port() -> Option<Uart16550<PioBackend>> {
    // SAFETY: a PC has a serial port there or nothing, and nobody else uses it.
    let mut port = unsafe { Uart16550::new_port(COM1) }.ok()?;
    port.init(Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT }).ok()?;
    Some(port)
}

/// The time-stamp counter's rate, where the processor tells it (CPUID leaf 15h); else 1.
pub(super) fn tsc_khz() -> u32 {
    let [denominator, numerator, crystal] = {
        let leaf = core::arch::x86_64::__cpuid(0x15);
        [leaf.eax, leaf.ebx, leaf.ecx].map(u64::from)
    };
    let hz = (crystal * numerator).checked_div(denominator).unwrap_or(0);
    u32::try_from(hz / 1000).unwrap_or(0).max(1)
}

/// Reads the serial port's line status.
pub fn line_status() -> u8 {
    // SAFETY: reading it clears error flags that nobody looks at.
    unsafe { inb(LINE_STATUS) }
}

/// Reads a byte of the interval timer's count.
pub fn interval_timer() -> u8 {
    // SAFETY: reading the count changes nothing but which of its bytes comes next.
    unsafe { inb(INTERVAL_TIMER) }
}

/// Switches the PC off, where it can be.
pub fn power_off() -> ! {
    // SAFETY: nothing is to happen here any more.
    unsafe { outw(POWER_CONTROL, SOFT_OFF) };
    cpu::halt_for_ever()
}

/// A local APIC in xAPIC mode. Back to x2APIC mode when dropped.
pub struct XApic(());

impl XApic {
    /// Switches this core's. `None`: its page is in use for something else.
    pub fn enter(spurious: u8) -> Option<Self> {
        memory::map_window(APIC_PAGE..APIC_PAGE + 4096).ok()?;
        // SAFETY: the way back from x2APIC mode leads through "off" (SDM 3A, "x2APIC State Transitions"); interrupts are off.
        unsafe {
            let now = rdmsr(IA32_APIC_BASE);
            let off = now & !(ENABLED | X2APIC_MODE);
            if now & X2APIC_MODE != 0 {
                wrmsr(IA32_APIC_BASE, off);
            }
            wrmsr(IA32_APIC_BASE, off | ENABLED);
        }
        write(0xf0, 1 << 8 | u32::from(spurious));
        super::apic::END_BY_PAGE.store(true, Ordering::Relaxed);
        Some(Self(()))
    }

    /// Its id's register.
    pub fn id(&self) -> u32 {
        // SAFETY: the page is mapped, and the register is there.
        unsafe { ((APIC_PAGE + APIC_ID) as *const u32).read_volatile() }
    }

    /// Interrupts this core.
    pub fn interrupt_self(&self, vector: u8) {
        const TO_SELF: u32 = 1 << 18;
        write(APIC_COMMAND, TO_SELF | u32::from(vector));
    }
}

impl Drop for XApic {
    fn drop(&mut self) {
        super::apic::END_BY_PAGE.store(false, Ordering::Relaxed);
        super::apic::enable(super::interrupts::SPURIOUS_VECTOR, super::interrupts::TIMER_VECTOR);
    }
}

/// Says that the interrupt in service is done, in xAPIC mode.
pub(super) fn end_of_interrupt() {
    write(APIC_EOI, 0);
}

fn write(offset: u64, value: u32) {
    // SAFETY: the page is mapped, and the register is this core's own.
    unsafe { ((APIC_PAGE + offset) as *mut u32).write_volatile(value) }
}
