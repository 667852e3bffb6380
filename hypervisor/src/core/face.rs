//! What a core lets the others see, on lines of its own. The core alone writes it while it has a domain; core 0 does while
//! it builds one there.
//!
//! A sender of events reads them, and so does core 0 when domain 0 asks how things are. Nothing here is written on an
//! exit path but this core's own counters, by plain loads and stores.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};

use abi::control::hypercall::{DomainState, ExitKind, NO_DOMAIN};
use boot::cores::MAX_CORES;

/// One core's face.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Face {
    /// Local APIC id.
    pub apic_id: AtomicU32,
    /// The domain on this core, or `NO_DOMAIN`.
    pub domain: AtomicU32,
    /// Its `DomainState`.
    pub state: AtomicU32,
    /// Its `SHUTDOWN_*` reason.
    pub reason: AtomicU32,
    /// Its upcall vector; 0: none.
    pub vector: AtomicU32,
    /// Its `shared_info` page, host-physical; 0: none.
    pub shared_info: AtomicU64,
    /// The cores, a bit each, whose domains it has invited to bind to a port. Others need not ask.
    pub invited: AtomicU64,
    /// Its VM exits.
    pub exits: [AtomicU64; ExitKind::COUNT],
    /// Events it sent, by the core they went to.
    pub sent: [AtomicU64; MAX_CORES],
}

impl Face {
    const fn new() -> Self {
        Self {
            apic_id: AtomicU32::new(0),
            domain: AtomicU32::new(NO_DOMAIN),
            state: AtomicU32::new(DomainState::Building as u32),
            reason: AtomicU32::new(0),
            vector: AtomicU32::new(0),
            shared_info: AtomicU64::new(0),
            invited: AtomicU64::new(0),
            exits: [const { AtomicU64::new(0) }; ExitKind::COUNT],
            sent: [const { AtomicU64::new(0) }; MAX_CORES],
        }
    }

    /// Counts an exit. This core alone does.
    #[inline(always)]
    pub fn count(&self, kind: ExitKind) {
        add_one(&self.exits[kind as usize]);
    }

    /// Counts an event sent to `core`. This core alone does.
    #[inline(always)]
    pub fn count_sent(&self, core: usize) {
        if let Some(counter) = self.sent.get(core) {
            add_one(counter);
        }
    }

    /// Sets the domain's state. Who sees it sees what was written before: the crash record.
    pub fn set_state(&self, state: DomainState) {
        self.state.store(state as u32, Release);
    }

    /// Forgets the last domain's counts.
    pub fn reset_counts(&self) {
        for counter in self.exits.iter().chain(&self.sent) {
            counter.store(0, Relaxed);
        }
    }
}

/// A counter with one writer needs no locked instruction.
#[inline(always)]
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// All faces, by core.
pub static FACES: [Face; MAX_CORES] = [const { Face::new() }; MAX_CORES];
