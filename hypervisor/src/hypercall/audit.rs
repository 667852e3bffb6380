//! The isolation audit: walks every EPT and holds it against the frame table. No frame may be reachable that should not be,
//! and none may be lost: what a domain is counted to have is what it can reach, and what the hypervisor itself writes to
//! is the domain's still.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestVirt, HostPhys, PAGE_SIZE};
use abi::control::hypercall::{AuditReport, DomainState};
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};

use arrayvec::ArrayVec;
use ept::{Mapping, Permissions};

use crate::core::Core;
use crate::core::face::FACES;
use crate::domain::Domain;
use crate::domain::successor::Successor;
use crate::memory::frame_table::{FrameTable, Owner, words};
use crate::memory::physical::Identity;

/// Every running domain is paused for it, since a domain's own core may change its tables.
pub(super) fn handle(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let books = core.registry.as_ref().ok_or(Errno::EPERM)?;
    let mut held = ArrayVec::<&'static Domain, { boot::cores::MAX_CORES }>::new();
    for on in 1..books.records.len() {
        if let Some(domain) = books.domain(on)
            && domain.face().change_state(&[DomainState::Running], DomainState::Paused, 0)
        {
            held.push(domain);
        }
    }
    for domain in &held {
        core.let_follow(domain)?;
    }
    let report = walk(core);
    for domain in held {
        if domain.face().change_state(&[DomainState::Paused], DomainState::Running, 0) {
            core.let_follow(domain)?;
        }
    }
    core.guest_memory()?.write(at, &report?)?;
    Ok(0)
}

/// Whether a domain's own frame is seen where the domain has mapped it by a grant to itself: what is granted is never
/// executable, and what is its own always.
fn is_grant(mapping: &Mapping, frames: &FrameTable) -> bool {
    !mapping.permissions.contains(Permissions::EXECUTE) && frames.words().shares(mapping.hpa) > 0
}

/// Frames that the hypervisor writes to for a domain, and which the domain does not have any more.
fn written_and_not_its_own(domain: &Domain) -> u64 {
    let infos = domain.cores.iter().map(|&core| FACES[usize::from(core)].vcpu_info.load(Relaxed));
    let infos = infos.map(|info| HostPhys::new(info & !(PAGE_SIZE - 1)));
    let is_not_its_own = |frame: &HostPhys| words().owner(*frame) != Owner::Domain(domain.id);
    infos.chain(domain.place.fifo.frames()).filter(is_not_its_own).count() as u64
}

/// The same of the memory that a domain does not use while one kernel of its follows another: all of it is its own.
fn unused_memory(successor: &Successor, id: DomId, frames: &FrameTable, mappings: &mut u64) -> u64 {
    let (mut own, mut others) = (0u64, 0);
    successor.ept.for_each_mapping(&Identity, |mapping| {
        for offset in (0..mapping.size.bytes()).step_by(PAGE_SIZE as usize) {
            *mappings += 1;
            let frame = HostPhys::new(mapping.hpa.as_u64() + offset);
            *if frames.owner(frame) == Owner::Domain(id) { &mut own } else { &mut others } += 1;
        }
    });
    own.abs_diff(successor.pages) + others
}

fn walk(core: &mut Core) -> Result<AuditReport, Errno> {
    let registry = core.registry.as_deref_mut().ok_or(Errno::EPERM)?;
    registry.frames.collect();
    let mut report = AuditReport::default();
    for on in 0..registry.records.len() {
        let Some(id) = registry.records[on].map(|record| record.id) else { continue };
        report.domains += 1;
        // SAFETY: there is a record, so the slot is initialised; the domain is paused, ours, or, on core 0, in the
        // hypercall that is under way here, which does not change its tables. Only the tables are looked at.
        let ept = unsafe { &(*(*registry.slots[on].home).as_ptr()).ept };
        // SAFETY: as above; what of it changes while it runs is atomic.
        let domain = unsafe { (*registry.slots[on].domain).assume_init_ref() };
        let frames = &mut registry.frames;
        let mut own = 0;
        ept.for_each_mapping(&Identity, |mapping| {
            for offset in (0..mapping.size.bytes()).step_by(PAGE_SIZE as usize) {
                let frame = HostPhys::new(mapping.hpa.as_u64() + offset);
                report.mappings += 1;
                match frames.owner(frame) {
                    Owner::Domain(owner) | Owner::Lent(owner)
                        if owner == id && !is_grant(&mapping, frames) =>
                    {
                        let is_memory = matches!(frames.owner(frame), Owner::Domain(_));
                        own += u64::from(is_memory && frame != domain.shared_info);
                    }
                    Owner::Domain(_) | Owner::Orphan if frames.words().shares(frame) > 0 => {
                        report.shared += 1;
                        frames.mark_seen(frame);
                    }
                    Owner::Domain(_) | Owner::Orphan => report.leaked += 1,
                    Owner::Free { .. } => report.free += 1,
                    Owner::Tables | Owner::Reserved | Owner::Lent(_) => report.hypervisor += 1,
                }
            }
        });
        report.miscounted += own.abs_diff(domain.pages.load(Relaxed)) + written_and_not_its_own(domain);
        if let Some(successor) = &registry.successors[on] {
            report.miscounted += unused_memory(successor, id, frames, &mut report.mappings);
        }
    }
    report.miscounted += registry.frames.miscounted();
    Ok(report)
}
