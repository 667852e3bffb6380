//! The boot of the hypervisor: `atoll_main` is a list, to be read from top to bottom.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::Relaxed;

use abi::address::{HostPhys, PAGE_SIZE, PageCount};
use abi::control::transfer;
use abi::exit_code::ExitCode;
use arrayvec::ArrayVec;
use boot::cores::Topology;
use boot::handover::{Handover, Range};
use boot::hotplug::Block;
use boot::trampoline::{PageWords, WORDS_OFFSET};
use hypervisor::core::Core;
use hypervisor::core::face::{FACES, ON};
use hypervisor::core::power::Power;
use hypervisor::core::start::{self, Area, Order};
use hypervisor::cpuid_policy::CpuidTable;
use hypervisor::domain::{Domain, Home, Place, build, control};
use hypervisor::interrupts::{self, Registers};
use hypervisor::machine::{self, IoPorts, Machine};
use hypervisor::memory::arena::Arena;
use hypervisor::memory::early::{Early, pieces};
use hypervisor::memory::frame_table::{CHUNK_FRAMES, Frame, FrameTable};
use hypervisor::memory::paging::{Access, HostTables};
use hypervisor::memory::physical::pointer;
use hypervisor::msr_policy;
use hypervisor::registry::{Registry, Slot};
use hypervisor::stop::{allow_debug_exit, fail};
use hypervisor::{console, stop};
use vmx::controls::Secondary;

/// Called by `boot::entry` on the boot core.
#[unsafe(no_mangle)]
extern "C" fn atoll_main(magic: u32, information: u32) -> ! {
    let boot_tsc = machine::now();
    console::init();
    log::info!("Atoll {} starts", env!("CARGO_PKG_VERSION"));

    let handover = read_handover(magic, information);
    let archive = find_archive(&handover);
    let mut topology = find_topology(&handover);
    let (at_boot, hotplug) = places_to_come(&mut topology);
    let capabilities = machine::capabilities().unwrap_or_else(|unsupported| start::refuse(0, unsupported));

    let (mut early, mut tables) = memory(&handover, &topology, archive);
    let trampoline = trampoline(&handover, &mut early, &mut tables);
    let machine =
        describe(&topology, (at_boot, hotplug), &capabilities, &handover, &tables, &mut early, boot_tsc);
    let orders = orders(machine, &mut early, &mut tables);
    let registry = books(&handover, machine, &mut early, archive, Power::new(&orders, at_boot, trampoline));
    check_host_tables(&tables);
    // SAFETY: all RAM, the image with the boot stack, and the devices in use are mapped.
    unsafe { tables.load() };
    interrupts::mask_all(machine);
    hypervisor::devices::decode::prepare();

    let core = start::prepare(&orders[0]);
    core.registry = Some(registry);
    FACES[0].apic_id.store(machine.apic_ids[0], Relaxed);
    FACES[0].processor.store(0, Relaxed);
    FACES[0].power.store(ON, Relaxed);
    let others = &orders[1..at_boot];
    // They rest after INIT all at the same time.
    let reset_at = others.iter().map(|order| start::reset(core, order)).last().unwrap_or(0);
    for order in others {
        if !start::start_up(core, order, trampoline, reset_at) {
            fail(ExitCode::BadBoot, format_args!("core {} did not start", order.index));
        }
    }
    log::info!("{at_boot} cores, TSC at {} kHz", machine.tsc_khz);
    if machine.apic_ids.len() > at_boot {
        log::info!("{} more may come", machine.apic_ids.len() - at_boot);
    }

    start_control_domain(core, archive, &handover);
    core.run()
}

/// What the loader left.
fn read_handover(magic: u32, information: u32) -> Handover {
    // SAFETY: the values that the loader passed; nothing was overwritten yet.
    let handover = unsafe { boot::handover::read(magic, information) };
    let handover = handover.unwrap_or_else(|unusable| {
        fail(ExitCode::BadBoot, format_args!("what the loader left is of no use: {unusable:x?}"))
    });
    if handover.option("exit") == Some("debug") {
        allow_debug_exit();
    }
    handover
}

/// The boot archive, where the loader put it.
fn find_archive(handover: &Handover) -> &'static [u8] {
    let Some(Range { start, end }) = handover.module.filter(|module| module.end.as_u64() <= 1 << 32) else {
        fail(ExitCode::BadBoot, format_args!("there is no boot archive: give one as the loader's module"));
    };
    let bytes = end.offset_from(start).unwrap_or(0) as usize;
    // SAFETY: the loader put the module there, below 4 GiB; that memory is given to nobody (see `books`).
    unsafe { core::slice::from_raw_parts(pointer(start), bytes) }
}

/// The cores and I/O APICs; the boot core comes first.
fn find_topology(handover: &Handover) -> Topology {
    // A PC without a pointer from the loader has one in the BIOS area; PVH and multiboot2 loaders pass it.
    let topology = handover.rsdp.and_then(|rsdp| {
        // SAFETY: the loader's pointer, and the boot's identity map.
        unsafe { boot::cores::find(rsdp) }
    });
    let Some(mut topology) = topology else {
        fail(ExitCode::BadBoot, format_args!("there are no ACPI tables with a MADT"));
    };
    if topology.unused > 0 {
        log::warn!("{} cores more than Atoll uses stay idle", topology.unused);
    }
    let own = own_apic_id();
    match topology.apic_ids.iter().position(|&id| id == own) {
        Some(at) => topology.apic_ids.swap(0, at),
        None => fail(ExitCode::BadBoot, format_args!("the MADT does not list the boot core, APIC id {own}")),
    }
    topology
}

/// Gives cores that may come a place behind those that are there. How many are, and what tells when others come.
fn places_to_come(topology: &mut Topology) -> (usize, Option<Block>) {
    let at_boot = topology.apic_ids.len();
    if topology.disabled.is_empty() {
        return (at_boot, None);
    }
    let block = Block::find(&mut IoPorts, topology.gpe0);
    if let Some(block) = block {
        for &apic_id in &topology.disabled {
            if block.knows(&mut IoPorts, apic_id) && !topology.apic_ids.contains(&apic_id) {
                let _ = topology.apic_ids.try_push(apic_id);
            }
        }
    }
    (at_boot, block)
}

fn own_apic_id() -> u32 {
    let cpuid = raw_cpuid::CpuId::new();
    // Leaf 0xb has all 32 bits of it, leaf 1 only eight.
    let extended = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let initial = || cpuid.get_feature_info().map_or(0, |features| features.initial_local_apic_id().into());
    extended.map_or_else(initial, |level| level.x2apic_id())
}

/// The hypervisor's own memory and page tables.
fn memory(handover: &Handover, topology: &Topology, archive: &[u8]) -> (Early, HostTables) {
    const WHAT: &str = "the hypervisor's own memory";
    let mut early = Early::find(handover, &used(archive)).unwrap_or_else(|| no_room(WHAT));
    let mut devices = ArrayVec::<u64, 9>::new();
    devices.extend(topology.io_apics.iter().map(|io| u64::from(io.address)));
    if !Registers::new().is_x2apic() {
        // SAFETY: every x86-64 processor has IA32_APIC_BASE.
        devices.push(unsafe { x2apic::lapic::xapic_base() });
    }
    let tables = start::map_host(&mut early, &handover.memory, &devices).unwrap_or_else(|| no_room(WHAT));
    (early, tables)
}

fn no_room(what: &str) -> ! {
    fail(ExitCode::BadBoot, format_args!("there is no room in memory for {what}"))
}

/// Nothing may be both writable and executable: counted in the tables themselves, at every boot.
fn check_host_tables(tables: &HostTables) {
    match tables.audit() {
        (pages, 0) => log::info!("host page tables: {pages} pages, none both writable and executable"),
        (_, both) => fail(ExitCode::Panic, format_args!("{both} pages are both writable and executable")),
    }
}

/// What lies in RAM already: image, archive.
fn used(archive: &[u8]) -> [Range; 2] {
    let image = boot::image::layout();
    let archive = archive.as_ptr_range();
    let range = |start: u64, end: u64| Range {
        start: HostPhys::new(start & !(PAGE_SIZE - 1)),
        end: HostPhys::new(end),
    };
    [
        range(image.text, image.end),
        range(archive.start as u64, (archive.end as u64).next_multiple_of(PAGE_SIZE)),
    ]
}

/// Copies the trampoline to a page below 1 MiB; its number is what a start-up IPI carries.
fn trampoline(handover: &Handover, early: &mut Early, tables: &mut HostTables) -> u8 {
    const CANDIDATES: core::ops::Range<u64> = 0x8..0x80;
    let free = |page: &u64| {
        let (start, end) = (page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
        handover.memory.iter().any(|ram| ram.start.as_u64() <= start && end <= ram.end.as_u64())
    };
    let Some(page) = CANDIDATES.clone().find(free) else {
        fail(
            ExitCode::BadBoot,
            format_args!("there is no RAM below 512 KiB for the other cores' first steps"),
        );
    };
    let start = page * PAGE_SIZE;
    let words = PageWords { cr3: tables.cr3(), core_words: start::words_address() };
    let code = boot::trampoline::code();
    // SAFETY: a page of RAM that the memory map calls free, still writable in the boot's own map; code and words fit.
    unsafe {
        core::ptr::copy_nonoverlapping(code.as_ptr(), start as *mut u8, code.len().min(WORDS_OFFSET));
        ((start + WORDS_OFFSET as u64) as *mut PageWords).write_unaligned(words);
    }
    if tables.map(early, start, start + PAGE_SIZE, Access::Code).is_none() {
        no_room("page tables");
    }
    page as u8
}

/// Where the last of the RAM ends.
fn end_of_ram(handover: &Handover) -> u64 {
    handover.memory.iter().map(|range| range.end.as_u64()).max().unwrap_or(0)
}

/// All that cores and handlers need to know of the machine.
fn describe(
    topology: &Topology,
    (at_boot, hotplug): (usize, Option<Block>),
    capabilities: &vmx::capabilities::Capabilities,
    handover: &Handover,
    tables: &HostTables,
    early: &mut Early,
    boot_tsc: u64,
) -> &'static Machine {
    let ept = ept::Capabilities::from_msr(capabilities.ept_vpid);
    if let Some(missing) = ept.missing() {
        fail(ExitCode::NoEpt, format_args!("this processor's EPT lacks {missing}"));
    }
    let mut page = || early.take(PageCount::new(1), PAGE_SIZE).unwrap_or_else(|| no_room("VMX's bitmaps"));
    let (msr_bitmap, msr_bitmap_full, msr_bitmap_shadow) = (page(), page(), page());
    let msr_bitmap_x2apic = page();
    let (io_none, io_control) = (page(), page());
    let rules: &[&[msr_policy::Rule]] = if Registers::new().is_x2apic() {
        &[msr_policy::RULES, msr_policy::EFER_RULES, msr_policy::TIMER_RULES, msr_policy::X2APIC_RULES]
    } else {
        &[msr_policy::RULES, msr_policy::EFER_RULES, msr_policy::TIMER_RULES]
    };
    const SECOND_SERIAL_PORT: usize = 0x2f8;
    let places = topology.apic_ids.iter().map(|_| {
        let pages = PageCount::covering(size_of::<Place>() as u64);
        let place = early.take(pages, PAGE_SIZE).unwrap_or_else(|| no_room("event channels"));
        // SAFETY: memory of our own for good, zeroed, which is a place that is not in use.
        unsafe { &*pointer::<Place>(place) }
    });
    let places = places.collect();
    // SAFETY: six pages of our own.
    unsafe {
        msr_policy::fill(&mut *pointer::<msr_policy::Bitmap>(msr_bitmap), rules);
        let full: &[&[msr_policy::Rule]] = &[msr_policy::RULES, msr_policy::EFER_RULES];
        msr_policy::fill(&mut *pointer::<msr_policy::Bitmap>(msr_bitmap_full), full);
        let x2apic = &[msr_policy::RULES, msr_policy::EFER_RULES, msr_policy::VIRTUAL_X2APIC_RULES];
        msr_policy::fill(&mut *pointer::<msr_policy::Bitmap>(msr_bitmap_x2apic), x2apic);
        msr_policy::fill(&mut *pointer::<msr_policy::Bitmap>(msr_bitmap_shadow), &[msr_policy::RULES]);
        pointer::<u8>(io_none).write_bytes(0xff, PAGE_SIZE as usize);
        pointer::<u8>(io_control).write_bytes(0xff, PAGE_SIZE as usize);
        for eight_ports in [SECOND_SERIAL_PORT, transfer::COMMAND_PORT.into()] {
            pointer::<u8>(io_control).add(eight_ports / 8).write(0);
        }
        let port = usize::from(transfer::CONTROL_PORT);
        pointer::<u8>(io_control).add(port / 8).write(!(1 << (port % 8)));
    }
    let tsc_khz = machine::measure_tsc_khz();
    let may = |control: Secondary| capabilities.secondary.may(control.bits());
    let (invpcid, rdtscp) = (may(Secondary::ENABLE_INVPCID), may(Secondary::ENABLE_RDTSCP));
    machine::set(Machine {
        apic_ids: topology.apic_ids.clone(),
        at_boot,
        hotplug,
        topology: boot::topology::of_machine(&raw_cpuid::CpuId::new(), topology, &machine::pci_functions()),
        io_apics: topology.io_apics.clone(),
        overrides: topology.overrides.clone(),
        tsc_khz,
        boot_tsc,
        clock: machine::clock(boot_tsc, tsc_khz),
        host_cr3: tables.cr3(),
        cpuid: CpuidTable::new(&machine::Processor, tsc_khz, invpcid, rdtscp),
        ept: ept.settings(machine::physical_address_bits()),
        places,
        ram_frames: end_of_ram(handover) / PAGE_SIZE,
        msr_bitmap,
        msr_bitmap_full,
        msr_bitmap_x2apic,
        virtualizes_apic: capabilities.virtualizes_apic()
            && !matches!(handover.option("apicv"), Some("0" | "no" | "off" | "false")),
        msr_bitmap_shadow,
        io_none,
        io_control,
    })
}

/// A place for each core, and what it needs to start.
fn orders(
    machine: &'static Machine,
    early: &mut Early,
    tables: &mut HostTables,
) -> ArrayVec<Order, { boot::cores::MAX_CORES }> {
    const WHAT: &str = "the cores' stacks and channels";
    let cores = machine.apic_ids.len();
    let pages = PageCount::covering(size_of::<start::Channels>() as u64);
    let channels: *mut start::Channels =
        pointer(early.take(pages, PAGE_SIZE).unwrap_or_else(|| no_room(WHAT)));
    // SAFETY: memory of our own, large enough and aligned.
    unsafe { channels.write(start::channels(early, cores).unwrap_or_else(|| no_room(WHAT))) };
    let order = |index| {
        let area = Area::new(early, tables).unwrap_or_else(|| no_room(WHAT));
        Order { index, area, channels, machine, again: false }
    };
    (0..cores).map(order).collect()
}

/// Core 0's books: all RAM that is left is free.
fn books(
    handover: &Handover,
    machine: &Machine,
    early: &mut Early,
    archive: &[u8],
    power: Power,
) -> &'static mut Registry {
    let mut take = |bytes: usize| {
        let pages = PageCount::covering(bytes as u64);
        early.take(pages, PAGE_SIZE).unwrap_or_else(|| no_room("the frame table"))
    };
    let mut slot =
        || Slot { domain: pointer(take(size_of::<Domain>())), home: pointer(take(size_of::<Home>())) };
    let slots: ArrayVec<Slot, { boot::cores::MAX_CORES }> = machine.apic_ids.iter().map(|_| slot()).collect();
    let frames = (end_of_ram(handover) / PAGE_SIZE) as usize;
    let chunks = frames.div_ceil(CHUNK_FRAMES);
    let frame_entries = pointer::<Frame>(take(frames * size_of::<Frame>()));
    let chunk_entries = pointer::<u16>(take(chunks * size_of::<u16>()));
    let registry = pointer::<Registry>(take(size_of::<Registry>()));
    // SAFETY: memory of our own, zeroed, which is a value of both types, and long enough.
    let (frame_entries, chunk_entries) = unsafe {
        (
            core::slice::from_raw_parts(frame_entries, frames),
            core::slice::from_raw_parts_mut(chunk_entries, chunks),
        )
    };
    let mut table = FrameTable::new(frame_entries, chunk_entries);
    // Free is what the memory map calls RAM, above 1 MiB, less the image, the archive, and what `early` gave out, which
    // gives nothing out from here on.
    let [image, archive] = used(archive);
    let used = [image, archive, early.taken()];
    for &ram in &handover.memory {
        for piece in pieces(ram, 1 << 20..u64::MAX, &used) {
            table.add(HostPhys::new(piece.start), PageCount::covering(piece.end - piece.start));
        }
    }
    log::info!("{} MiB of memory for guests", table.free() / 256);
    // SAFETY: memory of our own, large enough and aligned.
    unsafe {
        registry.write(Registry::new(table, slots, machine, power));
        &mut *registry
    }
}

/// Domain 0, on this core.
fn start_control_domain(core: &mut Core, archive: &[u8], handover: &Handover) {
    let Some(registry) = core.registry.as_mut() else { return };
    let pages = control::memory(handover.option("dom0_mem"), archive.len() as u64);
    if let Err(error) = build::create(registry, &core.machine.places, 1, pages, build::Kind::Control) {
        fail(
            ExitCode::BadBoot,
            format_args!("no memory for domain 0 ({error:?}): it wants {} pages", pages.get()),
        );
    }
    let Some(domain) = registry.domain(0) else { return };
    let start = match control::load(domain, archive, handover.option("dom0").unwrap_or("")) {
        Ok(start) => start,
        Err(bad) => fail(
            ExitCode::BadBoot,
            format_args!("domain 0's image in the boot archive is of no use: {bad:?}"),
        ),
    };
    if let Some(home) = registry.building(0) {
        home.start = Some(start);
    }
    if let Err(error) = core.start_domain(0) {
        fail(ExitCode::Panic, format_args!("domain 0 does not start: {error:?}"));
    }
}

/// The heap, such as it is.
struct Heap(Arena);

// SAFETY: the arena gives each byte out once.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.take(layout)
    }

    unsafe fn dealloc(&self, _memory: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static HEAP: Heap = Heap(Arena::new());

/// An epitaph: what, where; then the machine ends.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    use core::fmt::Write;
    // The console's own writing can not fail.
    let _ = writeln!(console::lock_for_the_end(), "atoll: the hypervisor has failed: {info}");
    stop::stop(ExitCode::Panic)
}
