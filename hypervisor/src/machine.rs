//! What every core knows of the machine: found at boot, and not changed after.

use abi::address::HostPhys;
use abi::control::topology::{MAX_PCI, PciFunction};
use arrayvec::ArrayVec;
use boot::cores::{IoApic, MAX_CORES, Override};
use boot::hotplug::{Block, Ports};
use ept::Settings;
use spin::Once;
use vmx::capabilities::{Capabilities, ReadMsr, Unsupported};

use crate::cpuid_policy::{AskCpuid, CpuidTable, Leaf};
use crate::domain::Place;
use crate::time::pvclock::Clock;
use crate::time::rtc;
use crate::time::scale::Scale;

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// Local APIC ids of the cores, the boot core's first; behind them, of those that may come yet.
    pub apic_ids: ArrayVec<u32, MAX_CORES>,
    /// How many were there at boot.
    pub at_boot: usize,
    /// What tells of those that come.
    pub hotplug: Option<Block>,
    /// Where cores, caches and memory are, for domain 0.
    pub topology: abi::control::topology::Topology,
    /// I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// Interrupt source overrides.
    pub overrides: ArrayVec<Override, 16>,
    /// The time-stamp counter's rate.
    pub tsc_khz: u32,
    /// TSC at the hypervisor's first instruction.
    pub boot_tsc: u64,
    /// System time, and the time of day.
    pub clock: Clock,
    /// The hypervisor's page tables.
    pub host_cr3: u64,
    /// What guests see of the processor.
    pub cpuid: CpuidTable,
    /// What EPT can do.
    pub ept: Settings,
    /// By core: what is there for domains whose home it is.
    pub places: ArrayVec<&'static Place, MAX_CORES>,
    /// Frames from 0 to the end of RAM.
    pub ram_frames: u64,
    /// MSR bitmap of all para guests.
    pub msr_bitmap: HostPhys,
    /// MSR bitmap of all full guests.
    pub msr_bitmap_full: HostPhys,
    /// MSR bitmap of full guests whose local APIC the processor keeps up, in x2APIC mode.
    pub msr_bitmap_x2apic: HostPhys,
    /// Whether processors keep up full guests' local APICs.
    pub virtualizes_apic: bool,
    /// MSR bitmap of those that have shadow page tables.
    pub msr_bitmap_shadow: HostPhys,
    /// An I/O bitmap page in which every port exits.
    pub io_none: HostPhys,
    /// The lower I/O bitmap page of domain 0: the second serial port is its own.
    pub io_control: HostPhys,
}

static MACHINE: Once<Machine> = Once::new();

/// Sets the machine, once.
pub fn set(machine: Machine) -> &'static Machine {
    MACHINE.call_once(|| machine)
}

impl Machine {
    /// Nanoseconds since the hypervisor started.
    pub fn system_time(&self) -> u64 {
        self.clock.at(now())
    }
}

/// This processor's MSRs.
#[derive(Clone, Copy, Debug)]
pub struct Msrs;

impl ReadMsr for Msrs {
    fn read(&self, msr: u32) -> u64 {
        // SAFETY: the capability MSRs that VMX promises; reading them changes nothing.
        unsafe { x86::msr::rdmsr(msr) }
    }
}

/// The machine's I/O ports.
#[derive(Clone, Copy, Debug)]
pub struct IoPorts;

impl Ports for IoPorts {
    fn read8(&mut self, port: u16) -> u8 {
        // SAFETY: core 0 alone asks, for registers that nobody else has to do with and that reach no memory.
        unsafe { x86::io::inb(port) }
    }

    fn read32(&mut self, port: u16) -> u32 {
        // SAFETY: as above.
        unsafe { x86::io::inl(port) }
    }

    fn write8(&mut self, port: u16, value: u8) {
        // SAFETY: as above.
        unsafe { x86::io::outb(port, value) }
    }

    fn write16(&mut self, port: u16, value: u16) {
        // SAFETY: as above.
        unsafe { x86::io::outw(port, value) }
    }

    fn write32(&mut self, port: u16, value: u32) {
        // SAFETY: as above.
        unsafe { x86::io::outl(port, value) }
    }
}

/// This processor's CPUID.
#[derive(Clone, Copy, Debug)]
pub struct Processor;

impl AskCpuid for Processor {
    fn ask(&self, leaf: u32, subleaf: u32) -> Leaf {
        let answer = raw_cpuid::cpuid!(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }
}

/// What this core's VMX offers, and whether that is enough.
pub fn capabilities() -> Result<Capabilities, Unsupported> {
    let cpuid = raw_cpuid::CpuId::new();
    if !cpuid.get_feature_info().is_some_and(|features| features.has_vmx()) {
        return Err(Unsupported::NoVmx);
    }
    let capabilities = Capabilities::read(&Msrs);
    capabilities.check()?;
    Ok(capabilities)
}

/// Where the fields of a local APIC id begin above the thread's: core, package (SDM 3A, "Hierarchical Mapping of CPUID
/// Extended Topology Leaf").
pub fn apic_id_fields() -> (u32, u32) {
    let cpuid = raw_cpuid::CpuId::new();
    let levels = cpuid.get_extended_topology_info().into_iter().flatten();
    let (thread, package) = levels.fold((0, 0), |(thread, package), level| match level.level_type() {
        raw_cpuid::TopologyType::SMT => (level.shift_right_for_next_apic_id(), package),
        _ => (thread, level.shift_right_for_next_apic_id()),
    });
    if package > 0 {
        return (thread, package.max(thread));
    }
    // Without that leaf only the number of ids in a package is known.
    let ids = cpuid.get_feature_info().map_or(1, |info| info.max_logical_processor_ids());
    (thread, u32::from(ids.max(1)).next_power_of_two().trailing_zeros().max(thread))
}

/// The width of a physical address.
pub fn physical_address_bits() -> u8 {
    let capacity = raw_cpuid::CpuId::new().get_processor_capacity_feature_info();
    capacity.map_or(36, |info| info.physical_address_bits())
}

/// What is on the PCI buses.
pub fn pci_functions() -> ArrayVec<PciFunction, MAX_PCI> {
    boot::pci::scan(|address| {
        IoPorts.write32(boot::pci::CONFIG_ADDRESS, address);
        IoPorts.read32(boot::pci::CONFIG_ADDRESS + 4)
    })
}

/// The rate of the time-stamp counter, measured against the interval timer (8254, channel 2): 10 ms, once at boot.
pub fn measure_tsc_khz() -> u32 {
    use x86::io::{inb, outb};
    const TICKS: u16 = 11_932; // 10 ms at 1.193182 MHz
    // SAFETY: channel 2 drives the speaker only, whose gate is kept off; nobody else uses it during boot.
    let elapsed = unsafe {
        outb(0x61, inb(0x61) & !2 | 1);
        outb(0x43, 0b1011_0000); // channel 2, both bytes, mode 0: output goes high at the end
        outb(0x42, TICKS as u8);
        outb(0x42, (TICKS >> 8) as u8);
        let start = now();
        let mut spins = 0u32;
        while inb(0x61) & 1 << 5 == 0 && spins < 50_000_000 {
            spins += 1;
        }
        now() - start
    };
    (elapsed / 10).clamp(1, u64::from(u32::MAX)) as u32
}

/// The clock that the time-stamp counter is, and the time of day; read on core 0, once at boot.
pub fn clock(boot_tsc: u64, tsc_khz: u32) -> Clock {
    let power = raw_cpuid::CpuId::new().get_advanced_power_mgmt_info();
    let stable = power.is_some_and(|info| info.has_invariant_tsc());
    let clock = Clock { start: boot_tsc, scale: Scale::from_khz(tsc_khz), stable, wall: (0, 0) };
    match rtc::read(&mut rtc::Cmos) {
        Some(seconds) => clock.with_time_of_day(seconds, now()),
        None => {
            log::warn!("there is no clock that tells the date: guests start in 1970");
            clock
        }
    }
}

/// The time-stamp counter.
pub fn now() -> u64 {
    // SAFETY: reading the counter has no side effect.
    unsafe { x86::time::rdtsc() }
}

/// What a core does in a loop that waits for another core.
///
/// Interrupts are off in the hypervisor. Where it is a guest itself, and the other core waits for the same processor, some
/// emulated processors then never leave it: Bochs 2.7 takes no external-interrupt exit from a guest with IF=0. CPUID
/// always exits, so now and then the outer hypervisor gets its chance; elsewhere that costs next to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    rounds: u32,
}

impl Patience {
    /// One round of the loop.
    pub fn wait(&mut self) {
        const ROUNDS_BETWEEN: u32 = 1024;
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ROUNDS_BETWEEN) {
            core::hint::black_box(raw_cpuid::cpuid!(0));
        }
        core::hint::spin_loop();
    }
}
