//! Entries of shadows: what the processor is told.

use abi::address::HostPhys;

use super::role::Role;
use crate::entry::Permissions;
use crate::guest_walk::Rights;

pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Ignored by the processor: a user page in its supervisor turn (CR0.WP clear).
pub(crate) const FLIPPED: u64 = 1 << 9;
const EXECUTE_DISABLE: u64 = 1 << 63;
const KEY_SHIFT: u32 = 59;
/// Bits 51:12.
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that leads to a table. It allows all: what the guest's entries forbid on the way is in the leaves, since
/// with CR0.WP clear the product of the guest's rights is not that of the shadow's. `register`: it will be a PDPTE
/// register, where these bits are reserved.
pub(crate) const fn to_table(frame: HostPhys, register: bool) -> u64 {
    let flags = if register { PRESENT } else { PRESENT | WRITABLE | USER | ACCESSED };
    frame.as_u64() | flags
}

/// What the guest says of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) rights: Rights,
    pub(crate) key: u8,
    pub(crate) dirty: bool,
}

impl Leaf {
    /// Whether writes go through without a fault, as far as the guest's tables are concerned. Until the page is
    /// marked dirty they do not: that is how the mark comes to be set.
    const fn writable(self, role: Role) -> bool {
        let supervisor_only = !self.rights.contains(Rights::USER);
        let allowed = self.rights.contains(Rights::WRITE) || supervisor_only && !role.write_protect();
        allowed && self.dirty
    }

    /// The entry, without an address.
    pub(crate) fn flags(self, role: Role) -> u64 {
        let mut entry = PRESENT | ACCESSED | DIRTY;
        if self.rights.contains(Rights::USER) {
            entry |= USER | (self.key as u64) << KEY_SHIFT;
        }
        if self.writable(role) {
            entry |= WRITABLE;
        }
        if !self.rights.contains(Rights::EXECUTE) {
            entry |= EXECUTE_DISABLE;
        }
        entry
    }

    /// The entry for a supervisor's write to a user page that is read-only, while CR0.WP is clear: for the supervisor
    /// alone. `None`: there is none that would not allow too much.
    pub(crate) fn flipped(self, role: Role) -> Option<u64> {
        let no_execute = !self.rights.contains(Rights::EXECUTE) || role.smep();
        let execute_disable = if no_execute { EXECUTE_DISABLE } else { 0 };
        role.flips().then_some(PRESENT | WRITABLE | ACCESSED | DIRTY | FLIPPED | execute_disable)
    }
}

/// Takes from an entry what the frame that it maps does not give. `protected`: the frame is a table.
pub(crate) fn narrowed(mut entry: u64, permissions: Permissions, protected: bool) -> u64 {
    if protected || !permissions.contains(Permissions::WRITE) {
        entry &= !WRITABLE;
    }
    if !permissions.contains(Permissions::EXECUTE) {
        entry |= EXECUTE_DISABLE;
    }
    entry
}
