//! What the ends of a device stand on, here: grants and event channels, and what they cost.
//!
//! A domain has one grant table and one window for others' pages, whatever the number of its devices: each has a handle on
//! the same.

use abi::address::PAGE_SIZE;
use abi::xen::event_channel::Port;
use abi::xen::grant_table::{Copy, CopySide, copy_flag};
use abi::xen::{DOMID_SELF, DomId};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use arrayvec::ArrayVec;
use core::cell::RefCell;

use super::{cpu, grants, hypercall, memory as own_memory};
use crate::grants::{Access, Hypervisor, Mapped, Reference, Table, Window};
use crate::programs::echo::{Block, DEPTH, EchoPage, Figures, Ground, Move, Shared};

/// Where the grant table's first frame goes: a window above all RAM, below those of the mesh.
const TABLE: u64 = 0xe800_0000;
/// Where other domains' pages go.
const WINDOW: u64 = TABLE + 0x1_0000;
/// How many.
const WINDOW_PAGES: u64 = 64;

struct Inner {
    table: Table<'static>,
    window: Window,
    mapped: BTreeMap<(DomId, u32), Mapped>,
    figures: Figures,
}

/// The ground of one device: a handle on what the domain has.
#[derive(Clone)]
pub struct Grants(Rc<RefCell<Inner>>);

impl Grants {
    /// The ground, where the hypervisor gives this domain a grant table. To be asked for once.
    pub fn new() -> Option<Self> {
        own_memory::map_window(TABLE..WINDOW + WINDOW_PAGES * PAGE_SIZE).ok()?;
        let table = Table::new(grants::table(TABLE).ok()?);
        let window = Window::new(WINDOW, WINDOW_PAGES);
        let figures = Figures::default();
        Some(Self(Rc::new(RefCell::new(Inner { table, window, mapped: BTreeMap::new(), figures }))))
    }

    /// What was spent in hypercalls so far.
    pub fn figures(&self) -> Figures {
        self.0.borrow().figures
    }

    fn share(&self, domain: DomId, address: usize, access: Access) -> Option<u32> {
        let frame = u32::try_from(address as u64 / PAGE_SIZE).ok()?;
        let granted = self.0.borrow_mut().table.grant(domain, frame, access)?;
        Some(granted.0)
    }
}

/// Does a hypercall, and counts it.
fn counted<T>(figures: &mut Figures, call: impl FnOnce() -> T) -> T {
    let before = cpu::tsc();
    let result = call();
    figures.hypervisor += cpu::tsc().wrapping_sub(before);
    figures.calls += 1;
    result
}

impl Ground for Grants {
    fn share_ring(&mut self, domain: DomId, page: &'static EchoPage) -> Option<u32> {
        self.share(domain, core::ptr::from_ref(page).addr(), Access::Write)
    }

    fn share_block(&mut self, domain: DomId, page: &'static Block, shared: Shared) -> Option<u32> {
        let access = if shared == Shared::Writable { Access::Write } else { Access::Read };
        self.share(domain, core::ptr::from_ref(page).addr(), access)
    }

    fn unshare(&mut self, reference: u32) -> bool {
        self.0.borrow_mut().table.revoke(Reference(reference)).is_ok()
    }

    fn map(&mut self, domain: DomId, reference: u32) -> Option<&'static EchoPage> {
        let inner = &mut *self.0.borrow_mut();
        if inner.mapped.contains_key(&(domain, reference)) {
            return None;
        }
        let mapped = inner.window.map(&grants::Calls, domain, Reference(reference), Access::Write).ok()?;
        let address = mapped.address;
        inner.mapped.insert((domain, reference), mapped);
        // SAFETY: the page was just mapped there, and is a page of atomics; whoever uses the reference lets go of it before
        // `unmap`, as drivers do when they disconnect.
        Some(unsafe { &*(address as *const EchoPage) })
    }

    fn unmap(&mut self, domain: DomId, reference: u32) {
        let inner = &mut *self.0.borrow_mut();
        if let Some(mapped) = inner.mapped.remove(&(domain, reference)) {
            // A hypervisor that refuses leaves the page where it is, and its address is not used again.
            let _ = inner.window.unmap(&grants::Calls, mapped);
        }
    }

    fn copy(&mut self, domain: DomId, moves: &mut [Move<'_>]) {
        let figures = &mut self.0.borrow_mut().figures;
        for moves in moves.chunks_mut(DEPTH) {
            // Made where it stays: all of it is a thousand bytes.
            let mut operations = ArrayVec::<Copy, DEPTH>::new();
            operations.extend(moves.iter().map(|one| operation(domain, one)));
            // Where the call as such fails, each operation still says that it was not done.
            let _ = counted(figures, || grants::Calls.copy(&mut operations));
            for (one, operation) in moves.iter_mut().zip(&operations) {
                one.result = operation.status;
            }
        }
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
        // Nobody listens where the other end is gone, and xenstore will tell of that.
        let _ = counted(&mut self.0.borrow_mut().figures, || hypercall::send(port));
    }
}

fn operation(domain: DomId, one: &Move<'_>) -> Copy {
    let theirs =
        CopySide { page: one.reference.into(), domid: domain, offset: one.offset, ..CopySide::default() };
    let frame = core::ptr::from_ref(one.block).addr() as u64 / PAGE_SIZE;
    let ours = CopySide { page: frame, domid: DOMID_SELF, offset: one.offset, ..CopySide::default() };
    let (source, dest, flags) = match one.out {
        true => (ours, theirs, copy_flag::DEST_GREF),
        false => (theirs, ours, copy_flag::SOURCE_GREF),
    };
    Copy { source, dest, len: one.bytes, flags, status: one.result, pad: 0 }
}
