//! Builds a guest: memory, image, ramdisk, start info, console, its place in the mesh if it is a member; then lets it
//! run.
//!
//! A guest that cannot be finished is undone: its domain destroyed, our ends of its channels closed. So there are
//! guests that run and guests that were refused, and nothing between.

use alloc::vec::Vec;
use core::ops::Range;

use abi::address::{GuestPhys, PAGE_SIZE, PageCount};
use abi::control::hypercall::create;
use abi::control::topology::MeshPlace;
use abi::control::wire::{Paging, Refusal, Virt};
use abi::mesh::{MAX_SLOTS, MESH_BASE, MESH_MAGIC, MeshPage, PeerInfo, window};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;
use abi::xen::hvm::param;
use abi::xen::sched::reason;

use super::hypervisor::{Hypervisor, SharedRange};
use super::image::Image;
use super::pages::{Pages, Slot};
use super::pc;
use super::refusal::{hypercall_failed, refuse};
use super::start_info::{Facts, StartInfo, command_line};
use super::stores::Ports;
use super::unpack::unpack;
use crate::knowledge::Knowledge;

/// Where a guest finds its console rings: below the mesh, with a page between that guest kernels have another use
/// for (the shared-info page).
pub const CONSOLE_PAGE: GuestPhys = GuestPhys::new(MESH_BASE.as_u64() - 2 * PAGE_SIZE);
/// Where a guest finds its rings with xenstore.
pub const STORE_PAGE: GuestPhys = GuestPhys::new(MESH_BASE.as_u64() - 3 * PAGE_SIZE);
/// Where what domain 0 shares with a guest lies, mesh windows apart.
pub const SPECIAL_PAGES: Range<u64> = MESH_BASE.as_u64() - (1 << 16)..MESH_BASE.as_u64();
/// The most memory a guest can have: all below those.
pub const MAX_MEMORY_MIB: u32 = (SPECIAL_PAGES.start >> 20) as u32;
/// `PeerInfo::domain` of an empty slot.
const EMPTY: DomId = 0xffff;
/// Bytes of a disk's sector.
const SECTOR: u64 = 512;
/// Bytes of the image that one hypercall copies: a bound on how long domain 0 hears nothing.
const PIECE: usize = 256 * 1024;

/// What is to be built.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kernel: an ELF file, or Linux's bzImage around one.
    pub image: &'a [u8],
    /// That is a PC's firmware.
    pub firmware: bool,
    /// Its ramdisk; empty: it has none.
    pub ramdisk: &'a [u8],
    /// What its disk holds; empty: it has none.
    pub disk: &'a [u8],
    /// The configured command line.
    pub command_line: &'a str,
    /// Its memory.
    pub memory_mib: u32,
    /// The core that a person knows it to be on.
    pub core: u32,
    /// Seconds of its watchdog; 0: it has none.
    pub watchdog: u32,
    /// The hypervisor's cores for it, ascending.
    pub cores: &'a [u32],
    /// How it is virtualized.
    pub virt: Virt,
    /// Which tables translate its memory.
    pub paging: Paging,
    /// Whether a full guest's local APICs are emulated in any case.
    pub emulated_apic: bool,
    /// Whether it is a member of the mesh. Who is not gets ACPI tables instead, as a kernel of another make wants them.
    pub mesh: bool,
    /// Its place among the guests, and in the mesh.
    pub slot: Slot,
    /// The live guests it shall know, by slot; their channels with it are fresh.
    pub peers: &'a [(Slot, DomId)],
    /// Live guests it may be introduced to later: ports for them can only be made now, before it starts.
    pub strangers: &'a [(Slot, DomId)],
    /// Where cores are.
    pub knowledge: &'a Knowledge,
}

impl Plan<'_> {
    /// Bytes of its memory.
    fn memory(&self) -> u64 {
        memory_of(self.memory_mib)
    }

    /// Bytes of its firmware. That lies behind its memory until the hypervisor takes it from there.
    fn firmware_bytes(&self) -> u64 {
        if self.firmware { self.image.len() as u64 } else { 0 }
    }

    /// Where its disk lies, behind all other memory: what no guest is told of, and harms only itself with.
    fn disk_start(&self) -> u64 {
        self.memory() + self.firmware_bytes()
    }

    /// Sectors of its disk.
    fn disk_sectors(&self) -> u64 {
        (self.disk.len() as u64).div_ceil(SECTOR)
    }
}

/// Bytes of so much memory.
pub(super) fn memory_of(mib: u32) -> u64 {
    PageCount::from_mib(mib).get() * PAGE_SIZE
}

/// A guest that runs.
#[derive(Debug)]
pub struct Built {
    /// Its domain id.
    pub domain: DomId,
    /// Our port for its console.
    pub console: Port,
    /// The ports of console and store.
    pub ports: Ports,
    /// Our port for its mesh channel with us, where it is a member.
    pub mesh: Option<Port>,
    /// For each of the plan's peers: the guest's port that waits for that peer to bind.
    pub waiting: Vec<(Slot, Port)>,
    /// The same for strangers, of whom the guest knows nothing yet.
    pub spare: Vec<(Slot, Port)>,
}

/// What must be undone if the rest fails.
#[derive(Default)]
struct Started {
    domain: Option<DomId>,
    ports: Vec<Port>,
}

/// Builds a guest and lets it run.
pub fn build<H: Hypervisor>(hypervisor: &mut H, pages: &Pages, plan: &Plan<'_>) -> Result<Built, Refusal> {
    let mut started = Started::default();
    let built = furnish(hypervisor, pages, plan, &mut started);
    if built.is_err() {
        for port in started.ports {
            hypervisor.close(port);
        }
        if let Some(domain) = started.domain {
            // It exists and belongs to us; an error here would be the hypervisor's bug, and its log tells.
            let _ = hypervisor.domain_destroy(domain);
        }
    }
    built
}

fn furnish<H: Hypervisor>(
    hypervisor: &mut H,
    pages: &Pages,
    plan: &Plan<'_>,
    started: &mut Started,
) -> Result<Built, Refusal> {
    let own = pages.guest(plan.slot).ok_or_else(no_slot)?;
    let domain = match plan.virt {
        Virt::Para => load_para(hypervisor, plan, started)?,
        Virt::Full => load_full(hypervisor, plan, started)?,
    };
    let share = of("sharing pages with the guest");
    hypervisor.domain_share(domain, CONSOLE_PAGE, SharedRange::of(own.console)).map_err(&share)?;
    hypervisor.domain_share(domain, STORE_PAGE, SharedRange::of(own.store)).map_err(&share)?;
    let (console, guests_console) = channel(hypervisor, domain, started)?;
    let (own_store, guests_store) = channel(hypervisor, domain, started)?;
    // Other kernels restart a PC that way, when all else fails; ours never mean it.
    let triple_fault = if plan.mesh { reason::CRASH } else { reason::REBOOT };
    for (index, value) in [
        (param::TRIPLE_FAULT_REASON, triple_fault.into()),
        (param::CONSOLE_PFN, CONSOLE_PAGE.as_u64() / PAGE_SIZE),
        (param::CONSOLE_EVTCHN, guests_console.into()),
        (param::STORE_PFN, STORE_PAGE.as_u64() / PAGE_SIZE),
        (param::STORE_EVTCHN, guests_store.into()),
    ] {
        hypervisor
            .set_param(domain, index, value)
            .map_err(of("telling the guest of its console and store"))?;
    }
    let ports = Ports { console: guests_console, store: guests_store, own_store };
    let mut built = Built { domain, console, ports, mesh: None, waiting: Vec::new(), spare: Vec::new() };
    if plan.mesh {
        join_mesh(hypervisor, pages, plan, started, &mut built)?;
    }
    hypervisor.domain_unpause(domain).map_err(of("starting the guest"))?;
    Ok(built)
}

/// Makes a domain that finds its image and Xen's start info. All that can be checked without the hypervisor comes first.
fn load_para<H: Hypervisor>(
    hypervisor: &mut H,
    plan: &Plan<'_>,
    started: &mut Started,
) -> Result<DomId, Refusal> {
    if plan.paging == Paging::Shadow {
        return Err(refuse(
            "shadow page tables are for full guests, and this is a para guest",
            "make it a full guest, or page it by EPT",
        ));
    }
    let memory = plan.memory();
    let kernel = unpack(plan.image)?;
    let image = Image::parse(&kernel, memory)?;
    let own_line;
    let (command_line, acpi) = if plan.mesh {
        own_line = command_line(plan.command_line, plan.name, plan.core, plan.watchdog);
        (own_line.as_str(), None)
    } else {
        (plan.command_line, Some(plan.cores.len() as u32))
    };
    let ramdisk = plan.ramdisk.len() as u64;
    let start_info = StartInfo::new(&image, &Facts { memory, command_line, ramdisk, acpi })?;

    let domain = create_domain(hypervisor, plan, 0, started)?;
    for segment in &image.segments {
        copy(hypervisor, domain, segment.address, segment.bytes)?;
    }
    copy(hypervisor, domain, start_info.ramdisk, plan.ramdisk)?;
    for (address, bytes) in &start_info.pieces {
        copy(hypervisor, domain, *address, bytes)?;
    }
    hypervisor
        .domain_entry(domain, image.entry, start_info.address)
        .map_err(of("setting the guest's entry point"))?;
    Ok(domain)
}

/// Makes a domain that finds what a PC's firmware and boot loader leave.
fn load_full<H: Hypervisor>(
    hypervisor: &mut H,
    plan: &Plan<'_>,
    started: &mut Started,
) -> Result<DomId, Refusal> {
    let flags = match plan.paging {
        Paging::Ept => create::FULL,
        Paging::Shadow if plan.cores.len() == 1 => create::FULL | create::SHADOW,
        Paging::Shadow => {
            return Err(refuse(
                "shadow page tables are kept for one virtual CPU, and this guest has more",
                "give it one, or page it by EPT",
            ));
        }
    };
    let flags = if plan.emulated_apic { flags | create::EMULATED_APIC } else { flags };
    let facts = pc::Facts {
        kernel: plan.image,
        ramdisk: plan.ramdisk,
        command_line: plan.command_line,
        memory: plan.memory(),
        vcpus: plan.cores.len() as u32,
    };
    let layout = if plan.firmware {
        if plan.paging == Paging::Shadow {
            return Err(refuse(
                "firmware starts in real mode, and a guest on shadow page tables has none",
                "page it by EPT",
            ));
        }
        pc::Layout::of_firmware(&facts)?
    } else {
        pc::Layout::new(&facts)?
    };
    let domain = create_domain(hypervisor, plan, flags, started)?;
    for (address, bytes) in &layout.pieces {
        copy(hypervisor, domain, *address, bytes)?;
    }
    if !plan.disk.is_empty() {
        copy(hypervisor, domain, GuestPhys::new(plan.disk_start()), plan.disk)?;
        for (index, value) in
            [(param::DISK_PFN, plan.disk_start() / PAGE_SIZE), (param::DISK_SECTORS, plan.disk_sectors())]
        {
            hypervisor.set_param(domain, index, value).map_err(of("attaching the guest's disk"))?;
        }
    }
    match &layout.start {
        pc::Start::Context(context) => hypervisor.domain_context(domain, context),
        pc::Start::Reset => {
            let pages = plan.firmware_bytes() / PAGE_SIZE;
            hypervisor.domain_firmware(domain, plan.memory() / PAGE_SIZE, pages)
        }
    }
    .map_err(of("setting the guest's first state"))?;
    Ok(domain)
}

fn create_domain<H: Hypervisor>(
    hypervisor: &mut H,
    plan: &Plan<'_>,
    flags: u64,
    started: &mut Started,
) -> Result<DomId, Refusal> {
    let cores = plan.cores.iter().fold(0, |mask, core| mask | 1 << core);
    let pages = plan.disk_start() / PAGE_SIZE + (plan.disk_sectors() * SECTOR).div_ceil(PAGE_SIZE);
    let domain = hypervisor.domain_create(cores, pages, flags).map_err(of("making the domain"))?;
    started.domain = Some(domain);
    Ok(domain)
}

/// Gives the guest its windows, its channel with us and its ports for the others, and tells it of them.
fn join_mesh<H: Hypervisor>(
    hypervisor: &mut H,
    pages: &Pages,
    plan: &Plan<'_>,
    started: &mut Started,
    built: &mut Built,
) -> Result<(), Refusal> {
    let domain = built.domain;
    let own = pages.guest(plan.slot).ok_or_else(no_slot)?;
    let mut share = |there, here| {
        hypervisor.domain_share(domain, there, here).map_err(of("sharing pages with the guest"))
    };
    share(MESH_BASE, SharedRange::of(own.mesh))?;
    for other in 0..pages.slots() {
        if let Some(pair) = pages.pair(plan.slot, other) {
            share(window(other), SharedRange::of(pair))?;
        }
    }
    let (mesh, guests_port) = channel(hypervisor, domain, started)?;
    built.mesh = Some(mesh);
    let mut ports = |peers: &[(Slot, DomId)]| -> Result<Vec<(Slot, Port)>, Refusal> {
        let port = |&(slot, peer): &(Slot, DomId)| Ok((slot, hypervisor.alloc_unbound(domain, peer)?));
        peers.iter().map(port).collect::<Result<_, Errno>>().map_err(of("making a channel to a peer"))
    };
    (built.waiting, built.spare) = (ports(plan.peers)?, ports(plan.strangers)?);
    own.write_mesh(&mesh_page(pages.slots(), plan, domain, guests_port, &built.waiting));
    Ok(())
}

/// An event channel between the guest and us: our port, and the guest's.
fn channel<H: Hypervisor>(
    hypervisor: &mut H,
    domain: DomId,
    started: &mut Started,
) -> Result<(Port, Port), Refusal> {
    let theirs = hypervisor.alloc_unbound(domain, 0).map_err(of("making a channel to the guest"))?;
    let ours = hypervisor.bind_interdomain(domain, theirs).map_err(of("binding a channel to the guest"))?;
    started.ports.push(ours);
    Ok((ours, theirs))
}

/// Copies into a guest that was never started, or into the memory of the next kernel of one that runs.
pub(super) fn copy<H: Hypervisor>(
    hypervisor: &mut H,
    domain: DomId,
    address: GuestPhys,
    bytes: &[u8],
) -> Result<(), Refusal> {
    for (index, piece) in bytes.chunks(PIECE).enumerate() {
        // The whole lies within the guest's memory, as `Image` and `StartInfo` have checked.
        let at = GuestPhys::new(address.as_u64() + (index * PIECE) as u64);
        hypervisor.domain_write(domain, at, piece).map_err(of("copying the image"))?;
    }
    Ok(())
}

fn mesh_page(
    slots: usize,
    plan: &Plan<'_>,
    own: DomId,
    port_to_us: Port,
    waiting: &[(Slot, Port)],
) -> MeshPage {
    let mut peers = [PeerInfo { domain: EMPTY, reserved: 0, port: 0 }; MAX_SLOTS];
    let mut tell = |slot: Slot, domain, port| {
        if let Some(peer) = peers.get_mut(slot) {
            *peer = PeerInfo { domain, reserved: 0, port };
        }
    };
    tell(0, 0, port_to_us);
    tell(plan.slot, own, 0);
    for (&(slot, domain), &(_, port)) in plan.peers.iter().zip(waiting) {
        tell(slot, domain, port);
    }
    let mut places = [MeshPlace::default(); MAX_SLOTS];
    // By the processor that each slot's core was on at the start: members make their trees of this, and all must make the
    // same, whenever they came and whatever has moved since.
    for (core, place) in (0..slots as u32).zip(&mut places) {
        *place = plan.knowledge.mesh_place(core);
    }
    MeshPage {
        magic: MESH_MAGIC,
        own_slot: plan.slot as u32,
        slots: slots as u32,
        strangers: plan.strangers.len() as u32,
        peers,
        places,
    }
}

fn of(call: &'static str) -> impl Fn(Errno) -> Refusal {
    move |error| hypercall_failed(call, error)
}

fn no_slot() -> Refusal {
    refuse("the mesh has no place for this guest", "choose a core that `atoll info` lists")
}

#[cfg(test)]
mod tests {
    use super::super::fake::{End, Fake};
    use super::super::sample;
    use super::*;
    use abi::control::hypercall::DomainState;
    use std::boxed::Box;
    use zerocopy::FromBytes;

    fn plan<'a>(image: &'a [u8], core: u32, peers: &'a [(Slot, DomId)]) -> Plan<'a> {
        Plan {
            name: "web",
            image,
            firmware: false,
            ramdisk: &[],
            disk: &[],
            command_line: "quiet",
            memory_mib: 4,
            core,
            watchdog: 0,
            cores: &[[0], [1], [2], [3]][core as usize],
            virt: Virt::Para,
            paging: Paging::Ept,
            emulated_apic: false,
            mesh: true,
            slot: core as usize,
            peers,
            strangers: &[],
            knowledge: Box::leak(Box::new(Knowledge::of_machine(&Fake::new(4).topology().unwrap()))),
        }
    }

    #[test]
    fn a_guest_finds_all_it_needs() {
        let (mut fake, pages, image) = (Fake::new(4), Pages::new(4), sample::elf());
        let elder = build(&mut fake, &pages, &plan(&image, 1, &[])).unwrap();
        let built = build(&mut fake, &pages, &plan(&image, 3, &[(1, elder.domain)])).unwrap();
        let guest = &fake.domains[&built.domain];
        assert_eq!(guest.state, DomainState::Running);
        assert_eq!(&guest.memory[0x10_0000..][..sample::TEXT.len()], sample::TEXT);

        let (entry, start_info) = guest.entry.unwrap();
        assert_eq!(entry.as_u64(), sample::ENTRY);
        let block = &guest.memory[start_info.as_u64() as usize..];
        assert_eq!(&block[..4], &0x336e_c578u32.to_le_bytes());
        let line = b"mesh=1 name=web core=3 quiet\0";
        assert!(block[..256].windows(line.len()).any(|window| window == line));

        let shared: Vec<u64> = guest.shares.iter().map(|(at, _)| at.as_u64()).collect();
        let windows = [0, 1, 2].map(|slot| window(slot).as_u64());
        assert_eq!(shared, [&[0xefff_e000, 0xefff_d000, 0xf000_0000][..], &windows].concat());
        assert_eq!(guest.shares[4].1, SharedRange::of(pages.pair(1, 3).unwrap()));

        let mesh = MeshPage::read_from_prefix(&pages.guest(3).unwrap().mesh.bytes()).unwrap().0;
        assert_eq!((mesh.magic, mesh.own_slot, mesh.slots), (MESH_MAGIC, 3, 4));
        assert_eq!(mesh.peers.map(|peer| peer.domain)[..4], [0, elder.domain, EMPTY, built.domain]);
        assert_eq!(mesh.places.map(|place| place.package)[..5], [0, 1, 0, 1, 0]);
        let port = |slot: usize| fake.ports[&(built.domain, mesh.peers[slot].port)];
        assert_eq!(port(0), End::Bound(0, built.mesh.unwrap()));
        assert_eq!(port(1), End::Unbound(elder.domain));
        assert_eq!(built.waiting, [(1, mesh.peers[1].port)]);
        let console = guest.params[&param::CONSOLE_EVTCHN] as Port;
        assert_eq!(fake.ports[&(built.domain, console)], End::Bound(0, built.console));
        assert_eq!(guest.params[&param::CONSOLE_PFN], 0xe_fffe);
        let store = guest.params[&param::STORE_EVTCHN] as Port;
        assert_eq!(fake.ports[&(built.domain, store)], End::Bound(0, built.ports.own_store));
        assert_eq!((store, guest.params[&param::STORE_PFN]), (built.ports.store, 0xe_fffd));
    }

    #[test]
    fn whatever_fails_is_undone() {
        let (pages, image) = (Pages::new(4), sample::elf());
        let mut calls = 0;
        loop {
            let mut fake = Fake::new(4);
            let elder = build(&mut fake, &pages, &plan(&image, 1, &[])).unwrap().domain;
            let (domains, ports, frames) = (fake.domains.len(), fake.ports.len(), fake.frames_free);
            fake.calls_left = Some(calls);
            let built = build(&mut fake, &pages, &plan(&image, 2, &[(1, elder)]));
            if built.is_ok() {
                break;
            }
            assert_eq!((fake.domains.len(), fake.ports.len(), fake.frames_free), (domains, ports, frames));
            calls += 1;
        }
        assert!(calls > 10, "each of the calls has failed once");
    }

    #[test]
    fn what_cannot_be_loaded_makes_no_domain() {
        let (mut fake, pages) = (Fake::new(2), Pages::new(2));
        fake.calls_left = Some(0);
        assert!(build(&mut fake, &pages, &plan(b"no image", 1, &[])).unwrap_err().what.contains("ELF"));
        let image = sample::elf();
        assert!(build(&mut fake, &pages, &plan(&image, 2, &[])).unwrap_err().what.contains("no place"));
    }

    #[test]
    fn images_larger_than_a_piece_arrive_whole() {
        let mut fake = Fake::new(2);
        fake.domain_create(1 << 1, 1024, 0).unwrap();
        let bytes: Vec<u8> = (0..PIECE * 2 + 5).map(|at| (at / 7) as u8).collect();
        copy(&mut fake, 1, GuestPhys::new(0x5000), &bytes).unwrap();
        assert_eq!(fake.domains[&1].memory[0x5000..][..bytes.len()], bytes);
    }
}
