//! What appears where in a domain's memory, and frames that come and go: what of it takes several cores.
//!
//! A frame leaves a domain in three steps, and so that nobody can use it afterwards: home takes it out of the page
//! tables; each core of the domain forgets translations, which also means that none of them is in the middle of using
//! it; core 0 takes it back. The frame table knows who may use it still: a frame that others have mapped by a grant is
//! nobody's memory until they let go.

use core::sync::atomic::Ordering::{Relaxed, Release};

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DOMID_XEN;
use abi::xen::errno::{Errno, HypercallResult};
use ept::Access;

use crate::core::Core;
use crate::core::message::{Gone, Request};
use crate::domain::{Domain, physmap};
use crate::grants::Lent;
use crate::memory::frame_table::{Owner, words};
use crate::memory::physical::{Identity, scrub};

/// Frames for page tables that are asked for at a time: as many as one change may need.
const TABLES_AT_A_TIME: usize = 6;

/// The frame at a place; `None`: nothing is there.
pub(super) fn frame_at(domain: &Domain, gfn: u64) -> Option<HostPhys> {
    let at = physmap::address(gfn).ok()?;
    domain.view.translate(&Identity, at, Access::Read).map(|found| found.hpa)
}

/// Whether a frame that the domain can reach is its own memory, as against another's and the hypervisor's.
fn is_own(domain: &Domain, frame: HostPhys) -> bool {
    frame != domain.shared_info && words().owner(frame) == Owner::Domain(domain.id)
}

/// Whether it is the hypervisor's, for the domain to see.
fn is_lent(domain: &Domain, frame: HostPhys) -> bool {
    frame == domain.shared_info || words().owner(frame) == Owner::Lent(domain.id)
}

/// Asks home for a change that may need frames for page tables, and sees that it has some.
fn change(core: &mut Core, domain: &Domain, request: Request) -> HypercallResult {
    let home = domain.home();
    match core.ask(home, request) {
        Err(Errno::ENOMEM) => {}
        other => return other,
    }
    add_tables(core, domain)?;
    core.ask(home, request)
}

/// Gives home more frames for page tables.
pub(super) fn add_tables(core: &mut Core, domain: &Domain) -> Result<(), Errno> {
    let home = domain.home();
    for _ in 0..TABLES_AT_A_TIME {
        let frame = core.ask(0, Request::TakeFrame { domain: DOMID_XEN.into() })? & !(PAGE_SIZE - 1);
        if let Err(error) = core.ask(home, Request::AddTable { frame }) {
            core.ask(0, Request::GiveBack { frame })?;
            return Err(error);
        }
    }
    Ok(())
}

/// Lets a frame that the domain is lent appear at a place, and at no other.
pub(super) fn lent(core: &mut Core, domain: &'static Domain, lent: &Lent, gfn: u64) -> Result<(), Errno> {
    let frame = lent.frame().ok_or(Errno::EINVAL)?;
    if frame_at(domain, gfn) == Some(frame) {
        return Ok(());
    }
    physmap::address(gfn)?;
    clear(core, domain, gfn)?;
    withdraw(core, domain, lent)?;
    change(core, domain, Request::Place { gfn, frame: frame.as_u64() })?;
    lent.at.store(gfn + 1, Release);
    Ok(())
}

/// Takes a frame that the domain is lent from where it appears.
pub(super) fn withdraw(core: &mut Core, domain: &'static Domain, lent: &Lent) -> Result<(), Errno> {
    let (Some(frame), Some(gfn)) = (lent.frame(), lent.gfn()) else { return Ok(()) };
    lent.at.store(0, Release);
    if frame_at(domain, gfn) == Some(frame) { take_out(core, domain, gfn, frame) } else { Ok(()) }
}

/// Takes out what is at a place, and leaves it to the caller.
fn take_out(core: &mut Core, domain: &Domain, gfn: u64, frame: HostPhys) -> Result<(), Errno> {
    if change(core, domain, Request::Displace { gfn, frame: frame.as_u64() })? != 0 {
        core.forget_everywhere(Gone::Memory);
    }
    Ok(())
}

/// Takes out the page at a place. Memory of the domain's own goes back. `ENOENT`: nothing is there; `ENXIO`: it is not the
/// domain's to give.
pub(super) fn give(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<(), Errno> {
    let frame = frame_at(domain, gfn).ok_or(Errno::ENOENT)?;
    if is_lent(domain, frame) {
        return take_out(core, domain, gfn, frame);
    }
    if !is_own(domain, frame) {
        return Err(Errno::ENXIO);
    }
    take_out(core, domain, gfn, frame)?;
    core.ask(0, Request::GiveBack { frame: frame.as_u64() })?;
    domain.pages.fetch_sub(1, Relaxed);
    Ok(())
}

/// Makes room at a place: what is there goes back, as it does on Xen.
pub(super) fn clear(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<(), Errno> {
    match give(core, domain, gfn) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the domain one more page, of zeroes, at a place.
pub(super) fn populate(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<(), Errno> {
    let limit = domain.max_pages.load(Relaxed);
    let more = |pages: u64| (pages < limit).then_some(pages + 1);
    domain.pages.fetch_update(Relaxed, Relaxed, more).map_err(|_| Errno::ENOMEM)?;
    let placed = populate_counted(core, domain, gfn);
    if placed.is_err() {
        domain.pages.fetch_sub(1, Relaxed);
    }
    placed
}

fn populate_counted(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<(), Errno> {
    physmap::address(gfn)?;
    let taken = core.ask(0, Request::TakeFrame { domain: domain.id.into() })?;
    let frame = taken & !(PAGE_SIZE - 1);
    if taken == frame {
        // SAFETY: it was free and is the domain's now, and nobody can reach it yet.
        unsafe { scrub(HostPhys::new(frame), PAGE_SIZE) };
    }
    let placed =
        clear(core, domain, gfn).and_then(|()| change(core, domain, Request::Place { gfn, frame }).map(drop));
    if placed.is_err() {
        core.ask(0, Request::GiveBack { frame })?;
    }
    placed
}

/// Lets the `shared_info` page appear at a place, and at no other.
pub(super) fn shared_info(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<(), Errno> {
    if frame_at(domain, gfn) == Some(domain.shared_info) {
        return Ok(());
    }
    clear(core, domain, gfn)?;
    if change(core, domain, Request::PlaceSharedInfo { gfn })? != 0 {
        core.forget_everywhere(Gone::Memory);
    }
    Ok(())
}

/// Moves a page of the domain's own from one place to another.
pub(super) fn move_page(core: &mut Core, domain: &'static Domain, from: u64, to: u64) -> Result<(), Errno> {
    let frame = frame_at(domain, from).ok_or(Errno::EINVAL)?;
    if frame == domain.shared_info {
        return shared_info(core, domain, to);
    }
    if !is_own(domain, frame) {
        return Err(Errno::EINVAL);
    }
    if from == to {
        return Ok(());
    }
    physmap::address(to)?;
    clear(core, domain, to)?;
    take_out(core, domain, from, frame)?;
    let frame = frame.as_u64();
    let placed = change(core, domain, Request::Place { gfn: to, frame });
    if placed.is_err() && core.ask(domain.home(), Request::Place { gfn: from, frame }).is_err() {
        // Siblings have filled both places meanwhile, so the page is nowhere: then it is the domain's no more.
        core.ask(0, Request::GiveBack { frame })?;
        domain.pages.fetch_sub(1, Relaxed);
    }
    placed.map(drop)
}

/// Keeps the frame at a place where it is as long as the domain lives, since the hypervisor itself writes there. `EINVAL`:
/// nothing is there, or nothing of the domain's own.
pub(super) fn pin(core: &mut Core, domain: &'static Domain, gfn: u64) -> Result<HostPhys, Errno> {
    let frame = frame_at(domain, gfn).ok_or(Errno::EINVAL)?;
    let frame = HostPhys::new(frame.as_u64() & !(PAGE_SIZE - 1));
    core.ask(domain.home(), Request::Pin { gfn, frame: frame.as_u64() })?;
    if !is_own(domain, frame) {
        unpin(core, domain, frame);
        return Err(Errno::EINVAL);
    }
    Ok(frame)
}

/// The hypervisor does not write there any more, or not for this reason.
pub(super) fn unpin(core: &mut Core, domain: &'static Domain, frame: HostPhys) {
    // Home does it, whatever it finds.
    let _ = core.ask(domain.home(), Request::Unpin { frame: frame.as_u64() });
}
