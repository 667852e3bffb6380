//! Changes of a domain's memory while it runs: its home core's work.

use abi::address::{GuestPhys, PAGE_SIZE, PageCount};
use abi::xen::errno::Errno;
use ept::{Invalidation, MapError, MemoryType, Permissions};

use super::{Domain, Home};

impl Home {
    /// Lets the `shared_info` page appear at frame `gfn`. It is at one place at a time. `true`: the domain's cores have to
    /// forget translations.
    pub fn place_shared_info(&mut self, domain: &Domain, gfn: u64) -> Result<bool, Errno> {
        let at = GuestPhys::new(gfn.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?);
        let (one, rights) = (PageCount::new(1), Permissions::READ | Permissions::WRITE);
        self.ept.map(&mut self.pool, at, domain.shared_info, one, rights, MemoryType::WriteBack).map_err(
            |error| match error {
                MapError::AlreadyMapped(_) => Errno::EEXIST,
                MapError::OutOfFrames => Errno::ENOMEM,
                _ => Errno::EINVAL,
            },
        )?;
        let Some(before) = self.shared_info_at.replace(at) else { return Ok(false) };
        let cleared = self.ept.clear(&mut self.pool, before, one).map_err(|_| Errno::ENOMEM)?;
        Ok(cleared == Invalidation::Needed)
    }
}
