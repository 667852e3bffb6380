//! What a domain has mapped of others': by handle, until it is unmapped. Pure; the home core's alone.

use abi::address::HostPhys;
use abi::xen::DomId;
use abi::xen::grant_table::{GrantHandle, GrantRef};

/// How many mappings a domain may have at a time.
pub const CAPACITY: usize = 1024;

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose page.
    pub owner: DomId,
    /// By which entry of its.
    pub reference: GrantRef,
    /// Whether it may be written.
    pub write: bool,
    /// The frame number it is at.
    pub gfn: u64,
    /// The frame.
    pub frame: HostPhys,
}

/// All mappings of a domain.
#[derive(Debug)]
pub struct Maptrack {
    entries: [Option<Mapping>; CAPACITY],
    /// Below it none is free.
    first_free: usize,
}

impl Maptrack {
    /// None yet.
    pub const fn new() -> Self {
        Self { entries: [None; CAPACITY], first_free: 0 }
    }

    /// Notes a mapping. `None`: there are too many.
    pub fn add(&mut self, mapping: Mapping) -> Option<GrantHandle> {
        let free = (self.first_free..CAPACITY).find(|&at| self.entries[at].is_none())?;
        self.entries[free] = Some(mapping);
        self.first_free = free + 1;
        Some(free as GrantHandle)
    }

    /// The mapping with this handle.
    pub fn get(&self, handle: GrantHandle) -> Option<Mapping> {
        *self.entries.get(handle as usize)?
    }

    /// Forgets it.
    pub fn remove(&mut self, handle: GrantHandle) -> Option<Mapping> {
        let mapping = self.entries.get_mut(handle as usize)?.take()?;
        self.first_free = self.first_free.min(handle as usize);
        Some(mapping)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.entries.iter().flatten()
    }

    /// Any one of them, to be removed.
    pub fn any(&self) -> Option<GrantHandle> {
        self.entries.iter().position(Option::is_some).map(|at| at as GrantHandle)
    }
}

impl Default for Maptrack {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn mapping(reference: GrantRef) -> Mapping {
        Mapping { owner: 3, reference, write: true, gfn: 9, frame: HostPhys::new(0x5000) }
    }

    proptest! {
        #[test]
        fn handles_name_what_they_were_given_for(steps in proptest::collection::vec(any::<(bool, u16)>(), 1..2000)) {
            let (mut track, mut model) = (Maptrack::new(), BTreeMap::new());
            for (add, number) in steps {
                if add {
                    match track.add(mapping(number.into())) {
                        Some(handle) => prop_assert!(model.insert(handle, number).is_none()),
                        None => prop_assert_eq!(model.len(), CAPACITY),
                    }
                } else {
                    let handles: Vec<_> = model.keys().copied().collect();
                    let handle = *handles.get(number as usize % (handles.len() + 1)).unwrap_or(&u32::from(number));
                    let expected = model.remove(&handle).map(|number| mapping(number.into()));
                    prop_assert_eq!(track.get(handle), expected);
                    prop_assert_eq!(track.remove(handle), expected);
                }
                prop_assert_eq!(track.any().is_some(), !model.is_empty());
            }
        }
    }
}
