//! Starting a core: descriptor tables, local APIC, VMX; then its loop.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use abi::exit_code::ExitCode;
use arrayvec::ArrayVec;
use boot::cores::MAX_CORES;
use boot::descriptors::{Bases, DescriptorTables, IST_COUNT, IST_NMI};
use boot::trampoline::CoreWords;
use io_rings::urpc::{ChannelPage, Receiver, Sender};
use vmx::capabilities::{Capabilities, FeatureControl, Unsupported, feature_control};
use vmx::crossing::{self, Frame};
use vmx::vmcs;
use x86::controlregs::{Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr;

use super::face::{FACES, ON};
use super::guest_state::Host;
use super::{Core, Peer};
use crate::interrupts::{self, Registers};
use crate::machine::{self, Machine, Patience};
use crate::memory::early::Early;
use crate::memory::paging::HostTables;
use crate::memory::physical::pointer;
use crate::memory::windows::WINDOWS;
use crate::stop;

/// Pages of a core's stack.
const STACK_PAGES: u64 = 32;
/// Pages of each interrupt stack.
const IST_PAGES: u64 = 4;

/// One core's memory, made by the boot core.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    core: *mut Core,
    tables: *mut DescriptorTables,
    stack_top: u64,
    ist_tops: [u64; IST_COUNT],
    vmxon: HostPhys,
    vmcs: HostPhys,
    other_vmcs: HostPhys,
}

impl Area {
    /// Takes it from `early`, with an unmapped page below each stack.
    pub fn new(early: &mut Early, tables: &mut HostTables) -> Option<Self> {
        let mut stack = |pages: u64| -> Option<u64> {
            let start = early.take(PageCount::new(pages + 1), PAGE_SIZE)?.as_u64();
            tables.unmap(early, start)?;
            Some(start + (pages + 1) * PAGE_SIZE)
        };
        let stack_top = stack(STACK_PAGES)?;
        let mut ist_tops = [0; IST_COUNT];
        for top in &mut ist_tops {
            *top = stack(IST_PAGES)?;
        }
        let core_pages = PageCount::covering(size_of::<Core>() as u64);
        let table_pages = PageCount::covering(size_of::<DescriptorTables>() as u64);
        Some(Self {
            core: pointer(early.take(core_pages, PAGE_SIZE)?),
            tables: pointer(early.take(table_pages, PAGE_SIZE)?),
            stack_top,
            ist_tops,
            vmxon: early.take(PageCount::new(1), PAGE_SIZE)?,
            vmcs: early.take(PageCount::new(1), PAGE_SIZE)?,
            other_vmcs: early.take(PageCount::new(1), PAGE_SIZE)?,
        })
    }

    /// Where the core's [`Core`] is, once it was started.
    pub const fn core(&self) -> *mut Core {
        self.core
    }
}

/// The channel pages between all pairs of cores: from, to.
pub type Channels = ArrayVec<ArrayVec<Option<&'static ChannelPage>, MAX_CORES>, MAX_CORES>;

/// Makes a channel page for each ordered pair.
pub fn channels(early: &mut Early, cores: usize) -> Option<Channels> {
    let mut all = Channels::new();
    for from in 0..cores {
        let mut row = ArrayVec::new();
        for to in 0..cores {
            let page = if from == to { None } else { Some(early.take(PageCount::new(1), PAGE_SIZE)?) };
            // SAFETY: a page of zeroes, which is a fresh channel, ours for good.
            row.push(page.map(|page| unsafe { &*pointer::<ChannelPage>(page) }));
        }
        all.push(row);
    }
    Some(all)
}

/// What a core needs to start, put together by the boot core.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Its number.
    pub index: usize,
    /// Its memory.
    pub area: Area,
    /// All channels.
    pub channels: *const Channels,
    /// The machine.
    pub machine: &'static Machine,
    /// It was started before: its [`Core`] is there.
    pub again: bool,
}

/// A processor that is ready for a core.
struct Processor {
    bases: Bases,
    apic: interrupts::Sender,
    capabilities: Capabilities,
}

/// Makes this core ready for the first time, its `Core` at the place that never moves. In VMX root operation.
pub fn prepare(order: &Order) -> &'static mut Core {
    let Processor { bases, apic, capabilities } = processor(order);
    let vmcs = start_vmx(order, &capabilities);
    let peers = connect(order);
    // SAFETY: memory of this core's own, large enough and aligned, which lives for ever; nobody else has a reference to it.
    let core = unsafe {
        order.area.core.write(core(order, bases, apic, capabilities, vmcs, peers));
        &mut *order.area.core
    };
    settle(core);
    core
}

/// Makes this processor ready for a core that has been on one before.
fn prepare_again(order: &Order) -> &'static mut Core {
    let Processor { bases, apic, capabilities } = processor(order);
    // SAFETY: `prepare` has made it, and it is this core's own again, since core 0 has started it.
    let core = unsafe { &mut *order.area.core };
    (core.apic, core.registers, core.capabilities) = (apic, Registers::new(), capabilities);
    core.host.bases = bases;
    settle(core);
    enter_vmx(order, &capabilities).unwrap_or_else(|failed| panic!("core {}: {failed}", order.index));
    core.come_back();
    core
}

/// Descriptor tables, local APIC, and what VMX needs.
fn processor(order: &Order) -> Processor {
    // SAFETY: the area is this core's alone, and lives for ever.
    let tables = unsafe { &mut *order.area.tables };
    tables.prepare(&order.area.ist_tops);
    tables.override_gate(2, crossing::nmi_handler as *const () as u64, IST_NMI);
    // SAFETY: in 64-bit mode at ring 0; tables and stacks are mapped, and this core's own; vector 2 ends in IRETQ.
    let bases = unsafe { tables.load(interrupts::unexpected) };
    let apic = match interrupts::enable_local_apic() {
        Ok(apic) => apic,
        Err(why) => stop::fail(ExitCode::BadBoot, format_args!("core {}: local APIC: {why}", order.index)),
    };
    let capabilities = match machine::capabilities()
        .and_then(|capabilities| turn_on(&capabilities).map(|()| capabilities))
    {
        Ok(capabilities) => capabilities,
        Err(unsupported) => refuse(order.index, unsupported),
    };
    Processor { bases, apic, capabilities }
}

fn core(
    order: &Order,
    bases: Bases,
    apic: interrupts::Sender,
    capabilities: Capabilities,
    vmcs: vmcs::Current,
    peers: ArrayVec<Option<Peer>, MAX_CORES>,
) -> Core {
    Core {
        frame: Frame::new(),
        index: order.index,
        face: &FACES[order.index],
        windows: &WINDOWS[order.index],
        machine: order.machine,
        vmcs,
        vmcs_region: order.area.vmcs,
        other_vmcs_region: order.area.other_vmcs,
        capabilities,
        host: Host { cr3: order.machine.host_cr3, bases },
        apic,
        registers: Registers::new(),
        vcpu: None,
        home: None,
        running: false,
        on_trial: false,
        leaving: false,
        kept: None,
        peers,
        registry: None,
    }
}

fn connect(order: &Order) -> ArrayVec<Option<Peer>, MAX_CORES> {
    // SAFETY: the boot core made them, and they live for ever.
    let channels = unsafe { &*order.channels };
    let one = |other: usize| {
        let (to, from) = (channels[order.index][other]?, channels[other][order.index]?);
        Some(Peer { outbox: Sender::new(to), inbox: Receiver::new(from), deferred: None })
    };
    (0..channels.len()).map(one).collect()
}

/// Lets this core's GS base point to its frame: from here on NMIs are understood.
fn settle(core: &mut Core) {
    let frame = &raw mut core.frame;
    // SAFETY: GS base is the hypervisor's own while it runs, and `core` stays where it is.
    unsafe { msr::wrmsr(msr::IA32_GS_BASE, frame as u64) };
}

/// Turns VMX on in CR0, CR4 and IA32_FEATURE_CONTROL.
fn turn_on(capabilities: &Capabilities) -> Result<(), Unsupported> {
    // All choices that a domain's VMCS will ask for, so that what is missing is said now.
    capabilities.pin_based()?;
    capabilities.primary()?;
    capabilities.secondary()?;
    capabilities.exit()?;
    capabilities.entry()?;
    // SAFETY: the MSR is there where VMX is; writing it is what the SDM asks for before VMXON.
    unsafe {
        if let FeatureControl::Write(value) = feature_control(msr::rdmsr(msr::IA32_FEATURE_CONTROL))? {
            msr::wrmsr(msr::IA32_FEATURE_CONTROL, value);
        }
    }
    // SAFETY: the bits that VMX operation fixes, by the capability MSRs; none changes how this code runs.
    unsafe {
        let fixed = capabilities.cr0(cr0().bits() as u64, false) as usize;
        cr0_write(x86::controlregs::Cr0::from_bits_truncate(fixed));
        let fixed = capabilities.cr4(cr4().bits() as u64) as usize;
        cr4_write(Cr4::from_bits_truncate(fixed) | Cr4::CR4_ENABLE_VMX | Cr4::CR4_ENABLE_MACHINE_CHECK);
    }
    Ok(())
}

fn start_vmx(order: &Order, capabilities: &Capabilities) -> vmcs::Current {
    for region in [order.area.vmcs, order.area.other_vmcs] {
        // SAFETY: this core's own page; a region begins with the revision.
        unsafe { pointer::<u32>(region).write_volatile(capabilities.revision) };
    }
    // SAFETY: the region is this core's own.
    let started =
        enter_vmx(order, capabilities).and_then(|()| unsafe { vmcs::make_current(order.area.vmcs) });
    started.unwrap_or_else(|failed| panic!("core {}: {failed}", order.index))
}

fn enter_vmx(order: &Order, capabilities: &Capabilities) -> Result<(), vmcs::Failed> {
    // SAFETY: this core's own page; a region begins with the revision.
    unsafe { pointer::<u32>(order.area.vmxon).write_volatile(capabilities.revision) };
    // SAFETY: `turn_on` has done what VMXON needs, and the region is this core's own.
    unsafe { vmcs::vmxon(order.area.vmxon) }
}

/// Ends the run: this processor will not do, and why.
pub fn refuse(core: usize, unsupported: Unsupported) -> ! {
    match unsupported {
        Unsupported::NoVmx => stop::fail(
            ExitCode::NoVmx,
            format_args!("core {core}: this processor has no VMX (CPUID.1:ECX bit 5 is 0)"),
        ),
        Unsupported::LockedByFirmware => stop::fail(
            ExitCode::VmxLocked,
            format_args!("core {core}: firmware has locked VMX off (IA32_FEATURE_CONTROL)"),
        ),
        Unsupported::NoEpt => stop::fail(
            ExitCode::NoEpt,
            format_args!("core {core}: this processor's VMX has no extended page tables (EPT)"),
        ),
        Unsupported::NoUnrestrictedGuest => stop::fail(
            ExitCode::NoUnrestrictedGuest,
            format_args!("core {core}: this processor's VMX has no unrestricted guest"),
        ),
        Unsupported::MissingControl(field, bits) => stop::fail(
            ExitCode::MissingControl,
            format_args!("core {core}: VMX lacks {field} controls {bits:#x}"),
        ),
    }
}

/// The words that the woken core's trampoline reads.
static WORDS: [AtomicU64; size_of::<CoreWords>() / 8] = [const { AtomicU64::new(0) }; 3];
/// The woken core is in its loop.
static ONLINE: AtomicBool = AtomicBool::new(false);

/// Where the trampoline finds its words.
pub fn words_address() -> u64 {
    WORDS.as_ptr() as u64
}

/// Milliseconds that INIT has before the start-up IPI.
const INIT_MS: u64 = 10;

/// Sends INIT to the processor of a core's number, on which the core is to be started for the first time. When that was.
pub fn reset(core: &mut Core, order: &Order) -> u64 {
    let apic_id = order.machine.apic_ids[order.index];
    let face = &FACES[order.index];
    face.apic_id.store(apic_id, Ordering::Relaxed);
    face.processor.store(order.index as u32, Ordering::Relaxed);
    // SAFETY: INIT (SDM 3A, "Typical BSP Initialization Sequence") to a processor that runs nothing yet.
    unsafe { core.apic.init(apic_id) };
    machine::now()
}

/// Starts a core on the processor that its face names, which was sent INIT at `reset_at`, and waits until it is in its loop.
/// `false`: it never came.
pub fn start_up(core: &mut Core, order: &Order, trampoline_page: u8, reset_at: u64) -> bool {
    WORDS[0].store(order.area.stack_top, Ordering::Relaxed);
    WORDS[1].store(woken as *const () as u64, Ordering::Relaxed);
    WORDS[2].store(&raw const *order as u64, Ordering::Relaxed);
    ONLINE.store(false, Ordering::SeqCst);
    let apic_id = FACES[order.index].apic_id.load(Ordering::Relaxed);
    let ticks_per_ms = u64::from(order.machine.tsc_khz);
    wait_until(reset_at.saturating_add(ticks_per_ms * INIT_MS));
    // SAFETY: start-up IPIs to a processor that waits for one since INIT. The second is for processors that miss the first;
    // a core that runs already ignores it.
    unsafe {
        core.apic.start_up(trampoline_page, apic_id);
        if !came_online(ticks_per_ms) {
            core.apic.start_up(trampoline_page, apic_id);
        }
    }
    came_online(ticks_per_ms * 5_000)
}

fn wait_until(tick: u64) {
    let mut patience = Patience::default();
    while machine::now() < tick {
        patience.wait();
    }
}

fn came_online(within_ticks: u64) -> bool {
    let start = machine::now();
    let mut patience = Patience::default();
    while !ONLINE.load(Ordering::Acquire) {
        if machine::now() - start > within_ticks {
            return false;
        }
        patience.wait();
    }
    true
}

/// Where a woken core enters Rust.
extern "sysv64" fn woken(order: &Order) -> ! {
    let order = *order;
    let core = if order.again { prepare_again(&order) } else { prepare(&order) };
    core.face.power.store(ON, Ordering::Release);
    ONLINE.store(true, Ordering::Release);
    core.run()
}

/// Lets nothing be both writable and executable, from here on: maps all RAM as data, the image by its parts.
#[cfg(feature = "bare")]
pub fn map_host(early: &mut Early, ram: &[boot::handover::Range], devices: &[u64]) -> Option<HostTables> {
    use crate::memory::paging::Access;

    let mut tables = HostTables::new(early)?;
    for region in ram {
        tables.map(early, region.start.as_u64(), region.end.as_u64(), Access::Data)?;
    }
    let image = boot::image::layout();
    tables.map(early, image.text, image.rodata, Access::Code)?;
    tables.map(early, image.rodata, image.data, Access::Constant)?;
    tables.unmap(early, image.stack_guard)?;
    for &device in devices {
        tables.map(early, device, device + PAGE_SIZE, Access::Device)?;
    }
    Some(tables)
}
