//! What a domain has mapped of others, by handle. Its home core alone changes it; when the domain is taken apart, core 0.
//!
//! Three words a mapping, in memory that is all zeroes at first: handles that were used before are strung together, and
//! above those the rest was never used.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use abi::address::HostPhys;
use abi::xen::DomId;

/// Mappings that a domain may have at a time.
pub const MAPPINGS: usize = 8192;

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The granter.
    pub domain: DomId,
    /// Its home core, by which its grants are found.
    pub home: u8,
    /// Its entry.
    pub reference: u32,
    /// Not for writing.
    pub readonly: bool,
    /// The frame.
    pub frame: HostPhys,
    /// The guest frame number where it appears.
    pub gfn: u64,
}

/// The rest of the word with the reference: domain in bits 32 to 47, home 48 to 55, flags above. A free handle's word has
/// the next one's number plus one instead.
const USED: u64 = 1 << 56;
const READONLY: u64 = 1 << 57;

#[derive(Debug)]
struct Slot {
    grant: AtomicU64,
    frame: AtomicU64,
    gfn: AtomicU64,
}

/// All of one domain's. All zeroes: none.
#[derive(Debug)]
pub struct Maptrack {
    slots: [Slot; MAPPINGS],
    /// The first free handle plus one; 0: none below `used`.
    free: AtomicU32,
    /// Handles from here on were never used.
    used: AtomicU32,
}

impl Maptrack {
    /// A handle that is free. It stays so until [`Self::set`]. `None`: all are in use.
    #[inline]
    pub fn vacant(&self) -> Option<u32> {
        match self.free.load(Relaxed).checked_sub(1) {
            Some(handle) => Some(handle),
            None => {
                let handle = self.used.load(Relaxed);
                ((handle as usize) < MAPPINGS).then_some(handle)
            }
        }
    }

    /// Notes a mapping under the handle that [`Self::vacant`] has just named.
    #[inline]
    pub fn set(&self, handle: u32, mapping: &Mapping) {
        let Some(slot) = self.slots.get(handle as usize) else { return };
        if self.free.load(Relaxed) == handle + 1 {
            self.free.store(slot.grant.load(Relaxed) as u32, Relaxed);
        } else {
            self.used.store(handle + 1, Relaxed);
        }
        let Mapping { domain, home, reference, readonly, frame, gfn } = *mapping;
        let grant = u64::from(reference) | u64::from(domain) << 32 | u64::from(home) << 48 | USED;
        slot.frame.store(frame.as_u64(), Relaxed);
        slot.gfn.store(gfn, Relaxed);
        slot.grant.store(grant | if readonly { READONLY } else { 0 }, Relaxed);
    }

    /// A mapping. `None`: there is no such one.
    #[inline]
    pub fn get(&self, handle: u32) -> Option<Mapping> {
        let slot = self.slots.get(handle as usize)?;
        let grant = slot.grant.load(Relaxed);
        (grant & USED != 0).then(|| Mapping {
            domain: (grant >> 32) as DomId,
            home: (grant >> 48) as u8,
            reference: grant as u32,
            readonly: grant & READONLY != 0,
            frame: HostPhys::new(slot.frame.load(Relaxed)),
            gfn: slot.gfn.load(Relaxed),
        })
    }

    /// Frees the handle of a mapping.
    #[inline]
    pub fn remove(&self, handle: u32) {
        let Some(slot) = self.slots.get(handle as usize) else { return };
        slot.grant.store(self.free.load(Relaxed).into(), Relaxed);
        self.free.store(handle + 1, Relaxed);
    }

    /// All mappings.
    pub fn all(&self) -> impl Iterator<Item = Mapping> {
        (0..self.used.load(Relaxed)).filter_map(|handle| self.get(handle))
    }

    /// Forgets them.
    pub fn reset(&self) {
        for slot in self.slots.iter().take(self.used.load(Relaxed) as usize) {
            slot.grant.store(0, Relaxed);
        }
        self.free.store(0, Relaxed);
        self.used.store(0, Relaxed);
    }
}
