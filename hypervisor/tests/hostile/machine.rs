//! A machine for the hypervisor's code: memory at a fixed place, so that its addresses are small enough for tables, and
//! the books of core 0.

use std::sync::atomic::{AtomicBool, Ordering};

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use arrayvec::ArrayVec;
use boot::descriptors::Bases;
use hypervisor::core::guest_state::Host;
use hypervisor::core::{
    Core, Peer,
    face::{FACES, ON},
    power::Power,
};
use hypervisor::cpuid_policy::CpuidTable;
use hypervisor::domain::Place;
use hypervisor::interrupts::{self, Registers};
use hypervisor::machine::{self, Machine, Processor};
use hypervisor::memory::frame_table::{CHUNK_FRAMES, Frame, FrameTable};
use hypervisor::memory::windows::WINDOWS;
use hypervisor::registry::{Registry, Slot};
use hypervisor::time::pvclock::Clock;
use hypervisor::time::scale::Scale;
use io_rings::urpc::{ChannelPage, Receiver, Sender};
use vmx::capabilities::{Capabilities, ReadMsr};

use crate::processor;

/// Where memory begins, which no other part of a process is near.
const MEMORY: u64 = 0x1000_0000;
/// How much of it there is.
const BYTES: u64 = 96 << 20;
/// Cores.
pub const CORES: usize = 5;
/// What Bochs's processors say of EPT and VPID.
const EPT_VPID: u64 = 0xf01_0633_4141;

/// VMX with every control there is.
struct Everything;

impl ReadMsr for Everything {
    fn read(&self, number: u32) -> u64 {
        const IA32_VMX_EPT_VPID_CAP: u32 = 0x48c;
        if number == IA32_VMX_EPT_VPID_CAP { EPT_VPID } else { 0xffff_ffff << 32 }
    }
}

/// What stays for the whole run.
pub struct Parts {
    machine: &'static Machine,
    /// From, to.
    channels: Vec<Vec<&'static ChannelPage>>,
}

/// Set when the run is at its end.
pub static OVER: AtomicBool = AtomicBool::new(false);

/// Whether it is.
pub fn over() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Memory of the hypervisor's own, zeroed and for good.
fn own<T>() -> *mut T {
    let layout = std::alloc::Layout::new::<T>().align_to(PAGE_SIZE as usize).expect("a page's alignment");
    // SAFETY: the layout has bytes.
    unsafe { std::alloc::alloc_zeroed(layout).cast() }
}

/// Makes the machine, and the books for core 0.
pub fn build() -> (Parts, Registry) {
    // SAFETY: fresh memory at an address that nobody has.
    let memory = unsafe {
        libc::mmap(
            MEMORY as *mut _,
            BYTES as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_eq!(memory as u64, MEMORY, "memory at a fixed place");
    let ept = ept::Capabilities::from_msr(EPT_VPID).settings(46);
    // SAFETY: zeroes are a place that is not used.
    let places = (0..CORES).map(|_| unsafe { &*own::<Place>() }).collect();
    let page = || HostPhys::new(own::<[u8; 4096]>() as u64);
    let machine = machine::set(Machine {
        topology: abi::control::topology::Topology::default(),
        apic_ids: (0..CORES as u32).collect(),
        at_boot: CORES,
        hotplug: None,
        io_apics: ArrayVec::new(),
        overrides: ArrayVec::new(),
        tsc_khz: 50_000,
        boot_tsc: machine::now(),
        clock: Clock {
            start: machine::now(),
            scale: Scale::from_khz(50_000),
            stable: true,
            wall: (1_700_000_000, 0),
        },
        host_cr3: 0,
        ram_frames: BYTES / PAGE_SIZE,
        cpuid: CpuidTable::new(&Processor, 50_000, true, true),
        ept,
        places,
        msr_bitmap: page(),
        msr_bitmap_full: page(),
        msr_bitmap_x2apic: page(),
        virtualizes_apic: false,
        msr_bitmap_shadow: page(),
        io_none: page(),
        io_control: page(),
    });
    for (core, face) in FACES.iter().enumerate().take(CORES) {
        face.apic_id.store(core as u32, Ordering::Relaxed);
        face.processor.store(core as u32, Ordering::Relaxed);
        face.power.store(ON, Ordering::Relaxed);
    }
    let frames = ((MEMORY + BYTES) / PAGE_SIZE) as usize;
    let entries = (0..frames).map(|_| Frame::reserved()).collect::<Vec<_>>().leak();
    let chunks = vec![0u16; frames.div_ceil(CHUNK_FRAMES)].leak();
    let mut table = FrameTable::new(entries, chunks);
    table.add(HostPhys::new(MEMORY), PageCount::new(BYTES / PAGE_SIZE));
    let slots = (0..CORES).map(|_| Slot { domain: own(), home: own() }).collect();
    // SAFETY: a page of zeroes is a fresh channel.
    let channel = || unsafe { &*own::<ChannelPage>() };
    let channels = (0..CORES).map(|_| (0..CORES).map(|_| channel()).collect()).collect();
    // Its threads cannot be sent start-up IPIs, so there is no order for one.
    let power = Power::new(&[], CORES, 0);
    (Parts { machine, channels }, Registry::new(table, slots, machine, power))
}

/// A core, on the thread that will be it.
pub fn core(parts: &Parts, index: usize) -> &'static mut Core {
    let peer = |other: usize| {
        (other != index).then(|| Peer {
            outbox: Sender::new(parts.channels[index][other]),
            inbox: Receiver::new(parts.channels[other][index]),
            deferred: None,
        })
    };
    let region = HostPhys::new(own::<[u8; 4096]>() as u64);
    // SAFETY: VMX as `processor` has it.
    let vmcs = unsafe { vmx::vmcs::make_current(region) }.expect("a VMCS");
    let core = Core {
        frame: vmx::crossing::Frame::new(),
        index,
        face: &FACES[index],
        windows: &WINDOWS[index],
        machine: parts.machine,
        vmcs,
        vmcs_region: region,
        other_vmcs_region: HostPhys::new(own::<[u8; 4096]>() as u64),
        capabilities: Capabilities::read(&Everything),
        host: Host { cr3: 0, bases: Bases { gdt: 0, idt: own::<[u128; 256]>() as u64, tss: 0 } },
        apic: interrupts::enable_local_apic().expect("a local APIC"),
        registers: Registers::new(),
        vcpu: None,
        home: None,
        running: false,
        on_trial: false,
        leaving: false,
        kept: None,
        peers: (0..CORES).map(peer).collect::<ArrayVec<_, _>>(),
        registry: None,
    };
    processor::take_nmis(Box::leak(Box::new(core)))
}
