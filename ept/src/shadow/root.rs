//! Roots: what CR3 becomes; and what the guest loses.

use abi::address::{GuestPhys, GuestVirt, HostPhys};

use super::outcome::Flush;
use super::role::Role;
use super::store::{List, NO_SLOT};
use super::traits::{GuestSpace, ShadowTables};
use super::{LOW_ROOT, NOTHING, Shadow};
use crate::guest_walk::{Mode, Paging, Rights};

/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl<T: ShadowTables> Shadow<'_, T> {
    /// The guest loaded CR3, or changed a bit of CR0, CR4 or IA32_EFER that paging depends on. `paging`: all registers
    /// as the guest now sees them. What [`Shadow::root`] says afterwards is to be loaded.
    ///
    /// Also the architecture's flush of everything: nothing that the guest's tables no longer say survives it.
    pub fn load<G: GuestSpace>(&mut self, guest: &G, paging: &Paging) -> Flush {
        self.paging = *paging;
        self.role = Role::of(paging);
        self.unlink_unsync();
        self.root = NOTHING;
        self.drop_low_root();
        if paging.mode() == Mode::FourLevel {
            self.reserve(1);
            let cr3 = paging.cr3 & paging.features.address_mask() & ADDRESS;
            let root = self.memory_at(guest, cr3).and_then(|(gfn, _)| {
                let role = self.role.table(4, Rights::all(), 0);
                self.obtain(guest, gfn, role)
            });
            self.root = root.unwrap_or(NOTHING);
        } else {
            self.root = LOW_ROOT;
            self.hang_known();
        }
        self.flush = Flush::All;
        self.take_flush()
    }

    /// The table that the processor's CR3 must hold.
    pub fn root(&self) -> HostPhys {
        self.memory.pages[usize::from(self.root)].frame
    }

    /// The registers as they were last loaded.
    pub const fn paging(&self) -> &Paging {
        &self.paging
    }

    fn drop_low_root(&mut self) {
        for index in 0..4 {
            self.drop_entry(LOW_ROOT, index, Flush::All);
        }
    }

    /// Makes the four entries of the low root lead to what shadows there are.
    fn hang_known(&mut self) {
        for part in 0..4u8 {
            let (address, role) = match self.role.mode() {
                Mode::Off => (u64::from(part) << 30, self.role.piece(2, Rights::all(), 0, true)),
                Mode::TwoLevel => (self.paging.cr3 & 0xffff_f000, self.role.table(2, Rights::all(), part)),
                Mode::Pae | Mode::FourLevel => {
                    let register = self.paging.pdptes[usize::from(part)];
                    if register & 1 == 0 {
                        continue;
                    }
                    (register & ADDRESS, self.role.table(2, Rights::all(), 0))
                }
            };
            let gfn = address >> 12;
            if gfn < self.memory.frames.len() as u64
                && let Some(below) = self.find(gfn as u32, role)
            {
                self.touch(below);
                self.hang(LOW_ROOT, usize::from(part), below);
            }
        }
    }

    /// Takes a frame of memory away from the guest: no shadow maps it any more, and none stands for it. To be called
    /// when [`GuestSpace::frame`] already gives the new answer. The root may change.
    pub fn revoke(&mut self, gpa: GuestPhys) -> Flush {
        let gfn = gpa.as_u64() >> 12;
        if gfn < self.memory.frames.len() as u64 {
            let gfn = gfn as u32;
            self.drop_list(List::Frame(gfn));
            self.release_frame(gfn);
            let root = self.root;
            if root != LOW_ROOT && root != NOTHING && self.memory.page(root).gfn == gfn {
                self.release(root);
            }
        }
        self.take_flush()
    }

    /// Forgets all shadows. The root changes: [`Shadow::load`] is to follow before the guest goes on.
    pub fn revoke_all(&mut self) -> Flush {
        self.root = NOTHING;
        self.drop_low_root();
        while self.oldest != NO_SLOT {
            self.release(self.oldest);
        }
        self.flush = Flush::All;
        self.take_flush()
    }

    pub(crate) fn take_flush(&mut self) -> Flush {
        core::mem::replace(&mut self.flush, Flush::None)
    }

    /// Outside of 4-level paging linear addresses have 32 bits.
    pub(crate) fn cut(&self, address: GuestVirt) -> GuestVirt {
        match self.paging.mode() {
            Mode::FourLevel => address,
            _ => GuestVirt::new(address.as_u64() & 0xffff_ffff),
        }
    }
}
