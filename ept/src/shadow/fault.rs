//! Page faults: the guest's own, and those that only fill the shadow.

use abi::address::GuestVirt;

use super::leaf::{ADDRESS, Leaf, PRESENT, narrowed};
use super::outcome::{Answer, Flush, Outcome};
use super::role::Role;
use super::traits::{Backing, GuestSpace, ShadowTables};
use super::{LOW_ROOT, NOTHING, Shadow};
use crate::entry::Permissions;
use crate::frames::ENTRIES;
use crate::guest_walk::{Found, Mode, PageFaultCode, Privilege, Refusal, Request, Rights, walk};
use crate::translate::Access;

/// The most pages that one fault may need: a table for each level below the root.
const MOST_NEW: u16 = 3;
/// How many neighbours one fault maps with the page that is asked for, where a large page is in pieces.
const NEIGHBOURS: usize = 8;

impl<T: ShadowTables> Shadow<'_, T> {
    /// A page fault of the processor, at `address`, for `request` (see [`Request::from_fault`]). `pkru` is the guest's,
    /// and only looked at while CR4.PKE is set.
    pub fn fault<G: GuestSpace>(
        &mut self,
        guest: &G,
        address: GuestVirt,
        request: Request,
        pkru: u32,
    ) -> Answer {
        self.paging.pkru = pkru;
        let paging = self.paging;
        let address = self.cut(address);
        self.changed = false;
        let outcome = match walk(guest, &paging, address, request) {
            Ok(found) => self.admit(guest, address, request, &found),
            Err(Refusal::Fault(code)) => Outcome::Inject(code),
            Err(Refusal::Contended) => Outcome::Fixed,
            Err(refusal) => Outcome::Stop(refusal),
        };
        Answer { outcome, flush: self.take_flush() }
    }

    /// The guest's tables allow it.
    fn admit<G: GuestSpace>(
        &mut self,
        guest: &G,
        address: GuestVirt,
        request: Request,
        found: &Found,
    ) -> Outcome {
        let Some((gfn, backing)) = self.memory_at(guest, found.gpa.as_u64()) else {
            return Outcome::Mmio(found.gpa);
        };
        let needs = match request.access {
            Access::Read => Permissions::READ,
            Access::Write => Permissions::WRITE,
            Access::Execute => Permissions::EXECUTE,
        };
        if !(backing.permissions | Permissions::READ).contains(needs) {
            return Outcome::Mmio(found.gpa);
        }
        // First of all, since a table that is made on the way may be this very frame.
        let Some((slot, index)) = self.descend(guest, address, found) else {
            return Outcome::Emulate(found.gpa);
        };
        let outcome = self.allow(guest, slot, index, request, found, (gfn, backing), address);
        self.trim_path();
        outcome
    }

    /// Puts the entry for `request` into its place.
    #[expect(clippy::too_many_arguments, reason = "all of one fault")]
    fn allow<G: GuestSpace>(
        &mut self,
        guest: &G,
        slot: u16,
        index: usize,
        request: Request,
        found: &Found,
        (gfn, backing): (u32, Backing),
        at: GuestVirt,
    ) -> Outcome {
        let frame = self.memory.frame(gfn);
        if request.access == Access::Write && frame.protectors > 0 {
            if frame.upper > 0 {
                return Outcome::WriteToTable(found.gpa);
            }
            self.open(guest, gfn);
        }
        let leaf = Leaf { rights: found.rights, key: found.key, dirty: found.dirty };
        let Some(flags) = self.flags_for(found, leaf, request) else {
            return Outcome::Emulate(found.gpa);
        };
        let entry = self.leaf_entry(flags, gfn, backing);
        self.place(slot, index, gfn, entry, at);
        if !self.changed {
            return self.unchanged(request, found, at);
        }
        self.suspect = None;
        if self.memory.page(slot).role.is_piece() {
            self.neighbours(guest, slot, index, leaf);
        }
        Outcome::Fixed
    }

    /// The frame that an address lies in, and where that is, if it is memory.
    pub(crate) fn memory_at<G: GuestSpace>(&self, guest: &G, gpa: u64) -> Option<(u32, Backing)> {
        let gfn = u32::try_from(gpa >> 12).ok()?;
        if gfn as usize >= self.memory.frames.len() {
            return None;
        }
        guest.frame(gfn).map(|backing| (gfn, backing))
    }

    /// The flags of an entry that lets `request` through; `None`: there is no such entry.
    fn flags_for(&self, found: &Found, leaf: Leaf, request: Request) -> Option<u64> {
        if self.role.write_protect() || !found.rights.contains(Rights::USER) {
            return Some(leaf.flags(self.role));
        }
        // The processor runs with CR0.WP set: what it would refuse to the supervisor for that reason alone.
        match found.permits(request, &self.paging.with_write_protect()) {
            Ok(()) => Some(leaf.flags(self.role)),
            Err(_) => leaf.flipped(self.role),
        }
    }

    pub(crate) fn leaf_entry(&mut self, flags: u64, gfn: u32, backing: Backing) -> u64 {
        let protected = self.memory.frame(gfn).protectors > 0;
        narrowed(flags, backing.permissions, protected) | backing.hpa.as_u64() & ADDRESS
    }

    /// Goes down to the page that holds the entry for `address`, and makes what is missing on the way.
    fn descend<G: GuestSpace>(
        &mut self,
        guest: &G,
        address: GuestVirt,
        found: &Found,
    ) -> Option<(u16, usize)> {
        self.reserve(MOST_NEW);
        let format = self.role.format(self.paging.features);
        let mut rights = Rights::all();
        let mut slot = self.root;
        let mut level = if slot == LOW_ROOT { 3 } else { 4 };
        self.path = [NOTHING; 3];
        while level > 1 {
            let index = index(address, level);
            let here = &found.steps[usize::from(level - 1) & 3];
            if here.entry & PRESENT != 0 {
                rights &= format.rights(here.entry);
            }
            let (gfn, role) = self.below(address, found, level, rights);
            slot = self.child(guest, slot, index, gfn, role)?;
            self.path[usize::from(level - 2)] = slot;
            level -= 1;
        }
        Some((slot, index(address, 1)))
    }

    /// What the page stands for that an entry at `level` leads to.
    fn below(&self, address: GuestVirt, found: &Found, level: u8, rights: Rights) -> (u32, Role) {
        if found.level != 0 && found.level < level {
            let table = found.steps[usize::from(level - 2) & 3].at;
            let part = match self.role.mode() {
                // 1,024 entries to a table: a quarter for each GiB, a half for each 2 MiB.
                Mode::TwoLevel if level == 3 => address.as_u64() >> 30 & 3,
                Mode::TwoLevel => address.as_u64() >> 21 & 1,
                _ => 0,
            };
            ((table.as_u64() >> 12) as u32, self.role.table(level - 1, rights, part as u8))
        } else {
            let covered = 1u64 << shift(level);
            let start = found.gpa.align_down(covered).as_u64() >> 12;
            (start as u32, self.role.piece(level - 1, found.rights, found.key, found.dirty))
        }
    }

    /// The page below entry `index`, which shall be the shadow of `gfn` in `role`.
    fn child<G: GuestSpace>(
        &mut self,
        guest: &G,
        slot: u16,
        index: usize,
        gfn: u32,
        role: Role,
    ) -> Option<u16> {
        if self.entry(slot, index) & PRESENT != 0 {
            let below = self.target(slot, index) as u16;
            let page = self.memory.page(below);
            if page.gfn == gfn && page.role == role {
                self.touch(below);
                return Some(below);
            }
            self.drop_present(slot, index, Flush::All);
        }
        if gfn as usize >= self.memory.frames.len() {
            return None;
        }
        let below = self.obtain(guest, gfn, role)?;
        if self.memory.page(below).unsync {
            self.sync(guest, below);
        }
        self.hang(slot, index, below);
        Some(below)
    }

    /// Puts the entry in place, if it is not there already.
    fn place(&mut self, slot: u16, index: usize, gfn: u32, entry: u64, at: GuestVirt) {
        let old = self.entry(slot, index);
        if old == entry {
            return;
        }
        if old & PRESENT != 0 {
            self.drop_present(slot, index, Flush::Address(at));
        }
        self.map(slot, index, gfn, entry);
    }

    /// The shadow allows the access already. Either the processor still holds what another address of the same page
    /// widened; then a flush helps. Or it goes on faulting: the processor's own accesses to descriptor tables at CPL 0 to
    /// 2 look like explicit ones, and RFLAGS.AC does not lift SMAP for these.
    fn unchanged(&mut self, request: Request, found: &Found, at: GuestVirt) -> Outcome {
        let lifted = self.paging.smap()
            && found.level != 0
            && found.rights.contains(Rights::USER)
            && request.privilege == Privilege::Supervisor { alignment_check: true }
            && request.access != Access::Execute;
        if lifted && self.suspect == Some(at) {
            self.suspect = None;
            return Outcome::Inject(request.code(&self.paging) | PageFaultCode::PRESENT);
        }
        self.suspect = Some(at);
        self.flush = self.flush.and(Flush::Address(at));
        Outcome::Fixed
    }

    /// Maps what lies around `index` in the same page.
    fn neighbours<G: GuestSpace>(&mut self, guest: &G, slot: u16, index: usize, leaf: Leaf) {
        let start = self.memory.page(slot).gfn;
        let first = index & !(NEIGHBOURS - 1);
        let flags = leaf.flags(self.role);
        for index in first..first + NEIGHBOURS {
            if self.entry(slot, index) & PRESENT != 0 {
                continue;
            }
            let gpa = (u64::from(start) + index as u64) << 12;
            if let Some((gfn, backing)) = self.memory_at(guest, gpa) {
                let entry = self.leaf_entry(flags, gfn, backing);
                self.map(slot, index, gfn, entry);
            }
        }
    }
}

/// The lowest bit of an address that selects an entry at `level` of a shadow.
const fn shift(level: u8) -> u32 {
    3 + 9 * level as u32
}

pub(crate) const fn index(address: GuestVirt, level: u8) -> usize {
    (address.as_u64() >> shift(level)) as usize % ENTRIES
}
