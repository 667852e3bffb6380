//! The use of one entry: it begins with [`acquire`] and ends with [`release`].
//!
//! The order is Xen's (`xen/common/grant_table.c`): number, domain and counts, the entry's own words, the frame. An entry
//! that is in use stands as it was when that began, whatever the granter writes over it.

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::DomId;
use abi::xen::grant_table::{flag, status};

use super::Grants;
use super::entry::{Entry, Target, Wish};
use super::pin::State;

/// The granter's memory.
pub trait Memory {
    /// The frame that the granter has at this number, if it is its own memory.
    fn frame(&self, gfn: u64, write: bool) -> Option<HostPhys>;

    /// Notes one more use of that frame, which lasts until `unshare`. `false`: it is not the granter's own.
    fn share(&self, frame: HostPhys) -> bool;
}

/// What one may use from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Bytes of a frame, whose use is noted in the frame table.
    Bytes {
        /// The frame.
        frame: HostPhys,
        /// First byte.
        start: u32,
        /// Bytes.
        length: u32,
    },
    /// What another domain grants to the granter. Nothing is noted but in the entry.
    Through {
        /// That domain.
        domain: DomId,
        /// Its entry.
        reference: u32,
    },
}

/// Begins to use an entry.
pub fn acquire(grants: &Grants, reference: u32, wish: Wish, memory: &impl Memory) -> Result<Granted, i16> {
    let (entry, pin) = grants.entry(reference).ok_or(status::BAD_GNTREF)?;
    let mut latch = pin.latch();
    let before = latch.state();
    let is_strange =
        |user: DomId| user != wish.domain || before.is_full() || wish.mapping && before.is_part();
    if before.user().is_some_and(is_strange) {
        return Err(status::GENERAL_ERROR);
    }
    let pinned = before.is_used();
    if !pinned || wish.write && before.writers() == 0 {
        entry.begin(wish, pinned)?;
    }
    let target = entry.target();
    let found = match target {
        Target::Through { domain, reference } if !wish.mapping => Ok(Granted::Through { domain, reference }),
        _ if pinned => Ok(bytes(HostPhys::new(latch.frame()), target)),
        Target::Page { gfn } | Target::Part { gfn, .. } => match memory.frame(gfn, wish.write) {
            Some(frame) => Ok(bytes(frame, target)),
            None => Err(status::BAD_PAGE),
        },
        // It has become one since it was looked at.
        Target::Through { .. } => Err(status::GENERAL_ERROR),
    };
    let found = found.and_then(|granted| match granted {
        Granted::Bytes { frame, .. } if !memory.share(frame) => {
            Err(if pinned { status::GENERAL_ERROR } else { status::BAD_PAGE })
        }
        granted => Ok(granted),
    });
    match found {
        Ok(granted) => {
            let part = !matches!(target, Target::Page { .. });
            if !pinned {
                let frame = if let Granted::Bytes { frame, .. } = granted { frame.as_u64() } else { 0 };
                latch.set_frame(frame);
            }
            latch.set(before.with(wish.domain, wish.write, part));
        }
        Err(_) => take_back(&entry, before, wish.write),
    }
    found
}

fn bytes(frame: HostPhys, target: Target) -> Granted {
    match target {
        Target::Part { start, length, .. } => {
            Granted::Bytes { frame, start: start.into(), length: length.into() }
        }
        _ => Granted::Bytes { frame, start: 0, length: PAGE_SIZE as u32 },
    }
}

/// Takes back the flags of uses that are over.
fn take_back(entry: &Entry, left: State, write: bool) {
    let writing = if write && left.writers() == 0 { flag::WRITING } else { 0 };
    let reading = if left.is_used() { 0 } else { flag::READING };
    entry.end(writing | reading);
}

/// Ends a use. Whose entries were forgotten meanwhile has forgotten the use as well.
pub fn release(grants: &Grants, reference: u32, domain: DomId, write: bool) {
    let Some((entry, pin)) = grants.entry(reference) else { return };
    let mut latch = pin.latch();
    if let Some(left) = latch.state().without(domain, write) {
        // Before the latch is let go, so that nobody's new flags are taken for the old.
        take_back(&entry, left, write);
        latch.set(left);
    }
}
