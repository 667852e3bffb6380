//! The guest on Atoll, or on Xen: alone on its core, with the core's own timer and interrupts.
//!
//! [`start`] is the way from the loader to a running kernel. All `unsafe` of the kernel is in this module: addresses
//! that hold what the hypervisor says they hold, instructions, and the interrupt handler.
#![allow(unsafe_code, reason = "this is the one module that touches the machine")]

mod apic;
pub mod console;
pub mod cpu;
pub mod crew;
pub mod grants;
pub mod ground;
pub mod hypercall;
pub mod interrupts;
pub mod memory;
#[cfg(not(test))]
mod panic;
pub mod pc;
pub mod second;
mod store;
pub mod upcall;

use core::arch::x86_64::{__cpuid_count, CpuidResult};
use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, Ordering};

use abi::address::PAGE_SIZE;
use abi::control::succession::Failure;
use abi::mesh::{MAX_SLOTS, MESH_BASE, MESH_MAGIC, MeshPage, window};
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;
use abi::xen::{DomId, cpuid, sched};
use boot::handover::{self, Handover};
use io_rings::bytes::XenstorePage;

use super::{Handed, Platform};
use crate::events::SharedInfo;
use crate::mesh::{Mesh, Window};

pub use apic::interrupt_self;

/// How long the end of a kernel waits for the last words to be read.
const LAST_WORDS_MILLISECONDS: u64 = 200;

static SHARED: AtomicPtr<SharedInfo> = AtomicPtr::new(core::ptr::null_mut());

/// What a kernel on a PC has for a page of events.
static NO_EVENTS: SharedInfo = SharedInfo::new();

/// The core and its hypervisor.
pub struct Atoll {
    shared: &'static SharedInfo,
    tsc_khz: u32,
    /// There is no hypervisor to talk to: the machine is a PC, or looks like one.
    on_pc: bool,
    /// What the timer is set to; 0: nothing.
    deadline: Cell<u64>,
}

/// What a program is given at its start.
pub struct Started {
    /// The platform to run on.
    pub platform: Atoll,
    /// What the loader handed over: command line, module, memory map.
    pub handover: Handover,
    /// Bytes of RAM that the heap was given.
    pub heap_bytes: u64,
    /// This virtual CPU's number in its domain, as the hypervisor tells it.
    pub vcpu: u32,
    /// This domain's number, where the hypervisor tells it.
    pub domain: Option<DomId>,
    /// The place in the mesh, on Atoll alone.
    pub mesh: Option<Mesh<'static>>,
    /// The ring with xenstore and its port, where somebody keeps a store for this domain.
    pub store: Option<(&'static XenstorePage, Port)>,
}

/// Brings the kernel up: memory, console, descriptor tables, local APIC, events, mesh. Called once, by [`crate::main!`].
///
/// # Safety
/// `magic` and `info` are what [`boot::entry`] passed to `atoll_main`, and nothing has run since.
pub unsafe fn start(magic: u32, info: u32) -> Started {
    let on_pc = hypervisor_leaf().is_none();
    if on_pc {
        pc::mask_interrupts();
        console::use_serial_port();
    }
    // SAFETY: the caller passes on what the loader gave, untouched.
    let mut handover = unsafe { handover::read(magic, info) }.unwrap_or_default();
    if handover.memory.is_empty() && !on_pc {
        memory::ask_for_map(&mut handover);
    }
    console::install_logger(match handover.option("log") {
        Some("debug") => log::LevelFilter::Debug,
        Some("trace") => log::LevelFilter::Trace,
        _ => log::LevelFilter::Info,
    });
    interrupts::load();
    let ring = if on_pc { None } else { console::find_ring() };
    if let Err(refused) = memory::load_page_tables(&handover) {
        panic!("page tables: {refused:?}");
    }
    if let Some((address, port)) = ring {
        // Already there where the ring lies in RAM.
        let _ = memory::map_window(address..address + PAGE_SIZE);
        // SAFETY: the hypervisor named the page, and it is mapped.
        unsafe { console::use_ring(address, port) };
    }
    let heap_bytes = memory::fill_heap(&handover);
    // A program that asks for it finds a PC's local APIC as it was at power-up, and goes on from there itself.
    if !on_pc || handover.option("apic") != Some("untouched") {
        apic::enable(interrupts::SPURIOUS_VECTOR, interrupts::TIMER_VECTOR);
    }
    let shared = if on_pc { &NO_EVENTS } else { attach_events() };
    let mesh = if handover.option("mesh") == Some("1") { attach_mesh() } else { None };
    let hvm =
        if on_pc { CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } } else { __cpuid_count(cpuid::HVM, 0) };
    let present = |flag| hvm.eax & flag != 0;
    Started {
        platform: Atoll {
            shared,
            tsc_khz: if on_pc { pc::tsc_khz() } else { __cpuid_count(cpuid::TIME, 0).ecx.max(1) },
            on_pc,
            deadline: Cell::new(0),
        },
        heap_bytes,
        vcpu: if present(cpuid::features::VCPU_ID_PRESENT) { hvm.ebx } else { 0 },
        domain: present(cpuid::features::DOMID_PRESENT).then_some(hvm.ecx as DomId),
        handover,
        mesh,
        store: if on_pc { None } else { store::find() },
    }
}

/// The module that the loader handed over, if any.
pub fn module(handover: &Handover) -> &'static [u8] {
    let Some(module) = &handover.module else { return &[] };
    let (start, end) = (module.start.as_u64(), module.end.as_u64());
    // SAFETY: the module lies in RAM, which is mapped, and the heap was given none of it; nobody writes there.
    unsafe { core::slice::from_raw_parts(start as *const u8, end.saturating_sub(start) as usize) }
}

/// Highest leaf of a hypervisor that speaks Xen's ABI.
fn hypervisor_leaf() -> Option<u32> {
    let leaf = core::arch::x86_64::__cpuid(cpuid::BASE);
    ([leaf.ebx, leaf.ecx, leaf.edx] == cpuid::SIGNATURE).then_some(leaf.eax)
}

/// Maps the shared-info page and asks for events as an interrupt.
fn attach_events() -> &'static SharedInfo {
    let address = memory::SHARED_INFO_ADDRESS;
    // SAFETY: no RAM that the kernel uses lies there.
    let mapped = unsafe { hypercall::map_shared_info(address / PAGE_SIZE) };
    if let Err(error) = mapped {
        panic!("shared info: {error:?}");
    }
    if let Err(refused) = memory::map_window(address..address + PAGE_SIZE) {
        panic!("shared info: {refused:?}");
    }
    if let Err(error) = hypercall::set_upcall_vector(0, interrupts::UPCALL_VECTOR) {
        panic!("upcall vector: {error:?}");
    }
    // SAFETY: both sides of the mapping were just made.
    let shared = unsafe { memory::shared_info() };
    SHARED.store(core::ptr::from_ref(shared).cast_mut(), Ordering::Release);
    shared
}

/// The shared-info page once there is one, for programs that look at it themselves.
pub fn shared_info() -> Option<&'static SharedInfo> {
    // SAFETY: only `attach_events` stores here, a reference that lives for ever.
    unsafe { SHARED.load(Ordering::Acquire).as_ref() }
}

/// Finds this guest's place in the mesh.
fn attach_mesh() -> Option<Mesh<'static>> {
    let base = MESH_BASE.as_u64();
    memory::map_window(base..window(MAX_SLOTS).as_u64()).ok()?;
    // SAFETY: `mesh=1` on the command line says that domain 0 has put it there.
    let page: MeshPage = unsafe { memory::mesh_page() };
    if page.magic != MESH_MAGIC {
        log::warn!("the mesh page has no magic: no mesh");
        return None;
    }
    // SAFETY: domain 0 maps the pages of a window for each slot but the guest's own, which is never asked for; every
    // byte pattern is a valid page of atomics, and `Mesh` makes one end of each per life of the peer.
    let pages = |slot: usize| unsafe { &*(window(slot).as_u64() as *const Window) };
    Mesh::new(&page, pages)
}

impl Atoll {
    /// Whether the machine is a PC, or looks like one, on which there is nobody to call.
    pub const fn is_pc(&self) -> bool {
        self.on_pc
    }
}

impl Handed for Atoll {
    fn same_core(&self) -> Self {
        Self { shared: self.shared, tsc_khz: self.tsc_khz, on_pc: self.on_pc, deadline: Cell::new(0) }
    }
}

impl Platform for Atoll {
    fn now(&self) -> u64 {
        cpu::tsc()
    }

    fn ticks_per_millisecond(&self) -> u64 {
        u64::from(self.tsc_khz)
    }

    fn set_deadline(&self, tick: Option<u64>) {
        let tick = tick.map_or(0, |tick| tick.max(1));
        if self.deadline.replace(tick) != tick || tick != 0 {
            apic::set_deadline(tick);
        }
    }

    fn take_events(&self, each: &mut dyn FnMut(Port)) {
        self.shared.take(each);
    }

    fn take_interrupts(&self, each: &mut dyn FnMut(u8)) {
        interrupts::take_noted(each);
    }

    fn let_interrupts_in(&self) {
        cpu::interrupt_window();
    }

    fn halt_if(&self, may_halt: &mut dyn FnMut() -> bool) {
        if may_halt() && !self.shared.pending() && !interrupts::any_noted() {
            cpu::halt_until_interrupt();
        }
    }

    fn send_event(&self, port: Port) -> Result<(), Errno> {
        hypercall::send(port)
    }

    fn alloc_unbound(&self, domain: DomId) -> Result<Port, Errno> {
        hypercall::alloc_unbound(domain)
    }

    fn bind_interdomain(&self, domain: DomId, remote_port: Port) -> Result<Port, Errno> {
        hypercall::bind_interdomain(domain, remote_port)
    }

    fn close(&self, port: Port) {
        // A port that is closed already is what we want.
        let _ = hypercall::close(port);
        self.shared.clear(port);
    }

    fn console_write(&self, bytes: &[u8]) {
        console::write(bytes);
    }

    fn console_read(&self, into: &mut [u8]) -> usize {
        console::read(into)
    }

    fn console_flush(&self) -> bool {
        console::flush()
    }

    fn watchdog(&self, id: u32, seconds: u32) -> Result<u32, Errno> {
        if self.on_pc { Err(Errno::ENOSYS) } else { hypercall::watchdog(id, seconds) }
    }

    fn suspend(&self) {
        // In a new domain, as a real Xen may make one, no channel and no grant is there any more.
        if hypercall::suspend() == Ok(0) {
            hypercall::shutdown(sched::reason::CRASH);
        }
    }

    fn hand_over(&self, package: &[u8]) -> Result<Failure, Errno> {
        let why = hypercall::hand_over(package)?;
        // The other kernel may have printed.
        if let Some((address, port)) = console::find_ring() {
            // SAFETY: the page that `start` has found there, and mapped.
            unsafe { console::use_ring(address, port) };
        }
        u8::try_from(why).ok().and_then(Failure::from_u8).ok_or(Errno::ERANGE)
    }

    fn shutdown(&self, reason: u32) -> ! {
        console::drain(LAST_WORDS_MILLISECONDS * self.ticks_per_millisecond());
        if self.on_pc {
            pc::power_off();
        }
        hypercall::shutdown(reason)
    }
}
