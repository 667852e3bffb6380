//! What the ends of a device stand on, here: grants and event channels, one page of each kind at a time.
//!
//! A grant is one word of the grant table's first frame: flags, domain, frame number. The hypervisor changes its flags
//! while somebody has the page mapped, so it is taken back by compare-exchange; a page that is still mapped then stays
//! granted, and is never used for anything else.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::address::PAGE_SIZE;
use abi::mesh::MESH_BASE;
use abi::xen::event_channel::Port;
use abi::xen::grant_table::{
    self as op, MapGrantRef, RESERVED_ENTRIES, UnmapGrantRef, flag, map_flag, status,
};
use abi::xen::{DomId, hypercall as number};
use alloc::boxed::Box;

use super::{grants, hypercall, memory as own_memory};
use crate::programs::echo::{EchoPage, Ground};

/// Where the grant table's first frame goes, among the pages that are no RAM.
const TABLE: u64 = MESH_BASE.as_u64() - 5 * PAGE_SIZE;
/// Where the other domain's page goes.
const MAPPED: u64 = MESH_BASE.as_u64() - 6 * PAGE_SIZE;
/// Entries of version 1 in a frame.
const ENTRIES: usize = 512;
/// Flags that the hypervisor sets while a page is in use.
const IN_USE: u64 = (flag::READING | flag::WRITING) as u64;

/// The ground of one device.
pub struct Grants {
    table: &'static [AtomicU64; ENTRIES],
    /// The page that the other domain has had, to be shared again.
    spare: Option<&'static EchoPage>,
    /// Pages that were shared, by their references.
    shared: alloc::collections::BTreeMap<u32, &'static EchoPage>,
    mapped: Option<(u32, op::GrantHandle)>,
}

impl Grants {
    /// The ground, where the hypervisor gives this domain a grant table. To be asked for once.
    pub fn new() -> Option<Self> {
        grants::place(0, TABLE).ok()?;
        own_memory::map_window(TABLE..TABLE + PAGE_SIZE).ok()?;
        own_memory::map_window(MAPPED..MAPPED + PAGE_SIZE).ok()?;
        // SAFETY: both sides of the mapping were just made; every byte pattern is a valid page of atomics.
        let table = unsafe { &*(TABLE as *const [AtomicU64; ENTRIES]) };
        Some(Self { table, spare: None, shared: Default::default(), mapped: None })
    }
}

impl Ground for Grants {
    fn share(&mut self, domain: DomId) -> Option<(u32, &'static EchoPage)> {
        let free = |(_, entry): &(usize, &AtomicU64)| entry.load(Ordering::Relaxed) == 0;
        let mut entries = self.table.iter().enumerate().skip(RESERVED_ENTRIES as usize);
        let (reference, entry) = entries.find(free)?;
        let page = self.spare.take().unwrap_or_else(|| Box::leak(Box::default()));
        let frame = core::ptr::from_ref(page).addr() as u64 / PAGE_SIZE;
        entry
            .store(u64::from(flag::PERMIT_ACCESS) | u64::from(domain) << 16 | frame << 32, Ordering::Release);
        self.shared.insert(reference as u32, page);
        Some((reference as u32, page))
    }

    fn unshare(&mut self, reference: u32) {
        let Some(entry) = self.table.get(reference as usize) else { return };
        let word = entry.load(Ordering::Relaxed);
        let idle = word & IN_USE == 0;
        if idle && entry.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.spare = self.shared.remove(&reference);
        }
    }

    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage> {
        if self.mapped.is_some() {
            return None;
        }
        let mut map = MapGrantRef {
            host_addr: MAPPED,
            flags: map_flag::HOST_MAP,
            reference,
            dom: domain,
            ..Default::default()
        };
        let arguments = [op::MAP_GRANT_REF, core::ptr::from_mut(&mut map) as u64, 1, 0, 0];
        // SAFETY: the structure of that operation; nothing of the kernel's lies at that address.
        unsafe { hypercall::call(number::GRANT_TABLE_OP, arguments) }.ok()?;
        if map.status != status::OKAY {
            return None;
        }
        self.mapped = Some((reference, map.handle));
        // SAFETY: the page was just mapped there, and is a page of atomics; whoever uses the reference lets go of it before
        // `unmap`, as drivers do when they disconnect.
        Some(unsafe { &*(MAPPED as *const EchoPage) })
    }

    fn unmap(&mut self, _: DomId, reference: u32) {
        let Some((_, handle)) = self.mapped.take_if(|(mapped, _)| *mapped == reference) else { return };
        let mut unmap = UnmapGrantRef { host_addr: MAPPED, handle, ..Default::default() };
        let arguments = [op::UNMAP_GRANT_REF, core::ptr::from_mut(&mut unmap) as u64, 1, 0, 0];
        // SAFETY: the structure of that operation, and a mapping of ours that nobody uses any more. A hypervisor that
        // refuses leaves the page where it is.
        let _ = unsafe { hypercall::call(number::GRANT_TABLE_OP, arguments) };
    }

    fn listen(&mut self, domain: DomId) -> Option<Port> {
        hypercall::alloc_unbound(domain).ok()
    }

    fn bind(&mut self, domain: DomId, port: Port) -> Option<Port> {
        hypercall::bind_interdomain(domain, port).ok()
    }

    fn close(&mut self, port: Port) {
        let _ = hypercall::close(port);
    }

    fn notify(&mut self, port: Port) {
        let _ = hypercall::send(port);
    }
}
