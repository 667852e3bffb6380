//! Grants: what a core does for others that use its domain's pages, or for its own domain that uses theirs.

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::status;
use ept::Access;

use super::Core;
use super::message::Request;
use crate::domain::{Domain, build, physmap};
use crate::grants::Use;
use crate::grants::entry::{Refused, Window};
use crate::grants::maptrack::Mapping;
use crate::memory::frame_table::Owner;
use crate::memory::physical::Identity;
use crate::registry::core_of;

impl Core {
    /// Carries out the requests that are about grants.
    pub(super) fn serve_grants(&mut self, request: Request) -> HypercallResult {
        match request {
            Request::Acquire { wanted } => {
                let domain = self.at_home()?.0;
                // SAFETY: the asking core's own, which waits for the answer.
                let wanted = unsafe { &mut *(wanted as *mut Use) };
                wanted.found = acquire(domain, wanted);
                Ok(0)
            }
            Request::ReleaseGrant { owner, reference, write } => {
                let domain = self.at_home()?.0;
                if domain.id == owner {
                    domain.place.grants.release(reference, write);
                }
                Ok(0)
            }
            Request::Share { domain, frame } => {
                let frames = &mut self.registry.as_mut().ok_or(Errno::EPERM)?.frames;
                let frame = HostPhys::new(frame);
                let owned = frames.owner(frame) == Owner::Domain(domain as DomId);
                if owned && frames.share(frame) { Ok(0) } else { Err(Errno::EINVAL) }
            }
            Request::Unshare { frame } => {
                let frames = &mut self.registry.as_mut().ok_or(Errno::EPERM)?.frames;
                build::unshare(frames, HostPhys::new(frame));
                Ok(0)
            }
            Request::PlaceGranted { mapping } => {
                // SAFETY: the asking core's own, which waits for the answer.
                let mapping = unsafe { *(mapping as *const Mapping) };
                self.at_home()?.1.place_granted(mapping).map(u64::from)
            }
            Request::TakeGranted { handle, gfn, into } => {
                let (mapping, forget) = self.at_home()?.1.take_granted(handle, gfn)?;
                // SAFETY: the asking core's own, which waits for the answer.
                unsafe { (into as *mut Option<Mapping>).write(Some(mapping)) };
                Ok(forget.into())
            }
            Request::GrowGrants { frame, pins } => {
                let table = &self.at_home()?.0.place.grants;
                table.add(HostPhys::new(frame), HostPhys::new(pins)).map(|()| 0)
            }
            Request::GrowMarks { frame } => {
                self.at_home()?.0.place.grants.add_status(HostPhys::new(frame)).map(|()| 0)
            }
            Request::PlaceTable { index, marks, gfn } => {
                let (domain, home) = self.at_home()?;
                home.place_table(domain, index, marks, gfn).map(u64::from)
            }
            Request::TableAt { index, marks } => {
                let (domain, home) = self.at_home()?;
                Ok(home.table_at(domain, index, marks).unwrap_or(u64::MAX))
            }
            Request::SetGrantVersion { version } => {
                self.at_home()?.0.place.grants.set_version(version).map(|()| 0)
            }
            Request::SwapGrants { one, other } => {
                Ok(self.at_home()?.0.place.grants.swap(one, other) as u16 as u64)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// One use of a grant has ended: its owner's entry is told, where that domain is there still.
    pub fn release_grant(&mut self, owner: DomId, reference: u32, write: bool) {
        if let Some(home) = core_of(owner) {
            // A core whose domain is on its way out has nothing to be told.
            let _ = self.ask(home, Request::ReleaseGrant { owner, reference, write });
        }
    }
}

impl Core {
    /// Ends every use that a domain, which no core has any more, makes of others' grants. Its mappings go with its page
    /// tables. Core 0 alone does.
    pub fn return_grants(&mut self, home: usize) {
        while let Some(mapping) = self.registry.as_deref_mut().and_then(|books| books.any_mapping(home)) {
            self.release_grant(mapping.owner, mapping.reference, mapping.write);
        }
    }
}

/// Takes an entry of this core's domain into use.
fn acquire(domain: &Domain, wanted: &Use) -> Result<(HostPhys, Window), Refused> {
    if domain.id != wanted.owner {
        return Err(status::BAD_DOMAIN);
    }
    let table = &domain.place.grants;
    let window = table.acquire(wanted.reference, wanted.wish)?;
    let access = if wanted.wish.write { Access::Write } else { Access::Read };
    let page = physmap::address(window.gfn).ok().and_then(|at| domain.view.translate(&Identity, at, access));
    match page {
        Some(found) if found.hpa != domain.shared_info => {
            Ok((HostPhys::new(found.hpa.as_u64() & !(PAGE_SIZE - 1)), window))
        }
        _ => {
            table.release(wanted.reference, wanted.wish.write);
            Err(status::BAD_PAGE)
        }
    }
}
