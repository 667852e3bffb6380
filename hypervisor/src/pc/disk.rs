//! A full guest's disk: a range of the domain's own memory, behind what the guest is told of. Domain 0 has filled it.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::xen::hvm::param;
use ept::{Access, View};

use crate::devices::ata::{Ata, MediumError, Request, SECTOR};
use crate::domain::Domain;
use crate::memory::physical::{Identity, pointer};

/// The drive and where its sectors are.
#[derive(Debug)]
pub struct Disk {
    ata: Ata,
    view: View,
    first: GuestPhys,
}

impl Disk {
    /// The disk that domain 0 has made for this domain. `None`: it has made none.
    pub fn of(domain: &Domain) -> Option<Self> {
        let parameter = |index: u32| domain.params.get(index as usize).map_or(0, |value| value.load(Relaxed));
        let first = GuestPhys::new(parameter(param::DISK_PFN).checked_mul(PAGE_SIZE)?);
        let sectors = parameter(param::DISK_SECTORS);
        (sectors > 0).then(|| Self { ata: Ata::new(sectors), view: domain.view, first })
    }

    /// Reads a port of the controller's.
    pub fn read(&mut self, port: u16, bytes: u8) -> u32 {
        let value = self.ata.read(port, bytes);
        self.serve();
        value
    }

    /// Reads the data port again and again: how often.
    pub fn read_run(&mut self, bytes: u8, into: &mut [u8]) -> usize {
        let moved = self.ata.read_run(bytes, into);
        self.serve();
        moved
    }

    /// Writes it again and again: how often.
    pub fn write_run(&mut self, bytes: u8, from: &[u8]) -> usize {
        let moved = self.ata.write_run(bytes, from);
        self.serve();
        moved
    }

    /// Writes one.
    pub fn write(&mut self, port: u16, bytes: u8, value: u32) {
        self.ata.write(port, bytes, value);
        self.serve();
    }

    /// Whether its interrupt line is up.
    pub fn interrupts(&self) -> bool {
        self.ata.interrupts()
    }

    /// Does what the drive asks for: memory answers at once.
    fn serve(&mut self) {
        match self.ata.request() {
            None => {}
            Some(Request::Flush) => self.ata.stored(Ok(())),
            Some(Request::Fetch(lba)) => {
                let mut sector = [0; SECTOR];
                let found = self.sector(lba, Access::Read).map(|from| {
                    // SAFETY: by its EPT the domain's memory, for as long as it lives; a sector does not cross a page. The
                    // guest may write there at the same time: then it reads a mixture, as from a disk so used.
                    unsafe { core::ptr::copy_nonoverlapping(from.cast_const(), sector.as_mut_ptr(), SECTOR) };
                });
                self.ata.fetched(found.map(|()| &sector));
            }
            Some(Request::Store(lba)) => {
                let found = self.sector(lba, Access::Write).map(|to| {
                    // SAFETY: as above.
                    unsafe { core::ptr::copy_nonoverlapping(self.ata.sector().as_ptr(), to, SECTOR) };
                });
                self.ata.stored(found);
            }
        }
    }

    fn sector(&self, lba: u64, access: Access) -> Result<*mut u8, MediumError> {
        let at = lba.checked_mul(SECTOR as u64).and_then(|offset| self.first.checked_add(offset));
        let found = at.and_then(|at| self.view.translate(&Identity, at, access)).ok_or(MediumError)?;
        Ok(pointer(found.hpa))
    }
}
