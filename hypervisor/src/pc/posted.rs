//! Interrupts for a virtual local APIC from other cores.
//!
//! A virtual local APIC is its own core's alone. Who wants to interrupt it leaves the vector here and kicks the core,
//! which takes it in before it enters the guest again: what the SDM's posted-interrupt descriptor is to processors that
//! have one (SDM 3C, "Posted-Interrupt Processing"). Nobody waits for anybody.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use boot::cores::MAX_CORES;

use crate::devices::message::Address;

/// A bit for each vector.
pub type Vectors = [u64; 4];

/// What one core is posted, and what others may know of its virtual local APIC.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Posted {
    requests: [AtomicU64; 4],
    /// Of the requests, those whose interrupt is a level: their end is the I/O APIC's to know.
    levels: [AtomicU64; 4],
    outstanding: AtomicBool,
    /// Logical destination register, as the guest has written it.
    logical_id: AtomicU32,
    /// Destination format register, the same; all ones also in x2APIC mode, where there is none.
    format: AtomicU32,
    /// Whether the virtual local APIC is in x2APIC mode.
    is_x2apic: AtomicBool,
}

impl Posted {
    const fn new() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; 4],
            levels: [const { AtomicU64::new(0) }; 4],
            outstanding: AtomicBool::new(false),
            logical_id: AtomicU32::new(0),
            format: AtomicU32::new(u32::MAX),
            is_x2apic: AtomicBool::new(false),
        }
    }

    /// Leaves a vector. `true`: the core has to be kicked, as it was not since it last looked.
    pub fn post(&self, vector: u8, is_level: bool) -> bool {
        let (word, bit) = (usize::from(vector >> 6), 1 << (vector & 63));
        if is_level {
            self.levels[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.levels[word].fetch_and(!bit, Ordering::Relaxed);
        }
        self.requests[word].fetch_or(bit, Ordering::Release);
        !self.outstanding.swap(true, Ordering::AcqRel)
    }

    /// Takes all vectors there are, and which of them are levels. This core alone does.
    #[inline(always)]
    pub fn take(&self) -> Option<(Vectors, Vectors)> {
        if !self.outstanding.load(Ordering::Relaxed) {
            return None;
        }
        self.outstanding.swap(false, Ordering::AcqRel);
        let requests = core::array::from_fn(|word| self.requests[word].swap(0, Ordering::AcqRel));
        Some((requests, core::array::from_fn(|word| self.levels[word].load(Ordering::Relaxed))))
    }

    /// What the virtual local APIC with this id answers to.
    pub fn address(&self, id: u32) -> Address {
        Address {
            id,
            logical: self.logical_id.load(Ordering::Relaxed),
            format: self.format.load(Ordering::Relaxed),
            is_x2apic: self.is_x2apic.load(Ordering::Relaxed),
        }
    }

    /// It answers to this from now on.
    pub fn set_address(&self, address: Address) {
        self.logical_id.store(address.logical, Ordering::Relaxed);
        self.format.store(address.format, Ordering::Relaxed);
        self.is_x2apic.store(address.is_x2apic, Ordering::Relaxed);
    }

    /// As for a virtual CPU that starts: nothing is posted.
    pub fn reset(&self) {
        self.outstanding.store(false, Ordering::Relaxed);
        for word in &self.requests {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// By core.
pub static POSTED: [Posted; MAX_CORES] = [const { Posted::new() }; MAX_CORES];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_is_taken_once() {
        let posted = Posted::new();
        assert_eq!(posted.take(), None);
        assert!(posted.post(0x31, false), "the first needs a kick");
        assert!(!posted.post(0xef, true), "the kick is under way");
        let (requests, levels) = posted.take().unwrap();
        assert_eq!(requests, [1 << 0x31, 0, 0, 1 << (0xef & 63)]);
        assert_eq!(levels[3], 1 << (0xef & 63));
        assert_eq!(posted.take(), None);
        assert!(posted.post(0xef, false), "an edge now");
        assert_eq!(posted.take().unwrap().1[3], 0);
    }
}
