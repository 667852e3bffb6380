//! Core 0's books: the machine's memory, and which domain is where. No other core ever comes here.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;

use abi::control::hypercall::NO_DOMAIN;
use abi::xen::DomId;
use arrayvec::ArrayVec;
use boot::cores::MAX_CORES;
use ept::guest_walk::Features;

use crate::core::face::FACES;
use crate::core::power::Power;
use crate::domain::successor::Successor;
use crate::domain::{Domain, Home};
use crate::machine::Machine;
use crate::memory::frame_table::{self, FrameTable};

/// What core 0 knows of the domain on one core.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its id.
    pub id: DomId,
    /// Whether it has been started: then what is its home's is not ours.
    pub started: bool,
    /// Events that earlier domains on its cores were sent.
    pub events_in_before: u64,
    /// Events that they sent.
    pub events_out_before: u64,
}

/// Places for the domain whose home a core is. Their addresses go to its cores when it starts, and are ours again when
/// they have released it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// For what its cores share.
    pub domain: *mut MaybeUninit<Domain>,
    /// For what is its home's.
    pub home: *mut MaybeUninit<Home>,
}

/// The books.
#[derive(Debug)]
pub struct Registry {
    /// Who owns which frame.
    pub frames: FrameTable<'static>,
    /// By core: the domain there.
    pub records: ArrayVec<Option<Record>, MAX_CORES>,
    /// By core: where its domain lies, initialised where there is a record.
    pub slots: ArrayVec<Slot, MAX_CORES>,
    /// By core: its domain's memory that is not in use, while one kernel follows another.
    pub successors: ArrayVec<Option<Successor>, MAX_CORES>,
    /// What EPT can do.
    pub ept: ept::Settings,
    /// What CPUID tells guests of paging.
    pub paging: Features,
    /// How to start cores.
    pub power: Power,
    /// Whether full guests on EPT get a page for what their processors keep of their local APICs.
    pub virtualizes_apic: bool,
    next_id: DomId,
}

impl Registry {
    /// Books without domains.
    pub fn new(
        frames: FrameTable<'static>,
        slots: ArrayVec<Slot, MAX_CORES>,
        machine: &Machine,
        power: Power,
    ) -> Self {
        frame_table::publish(frames.words());
        let records = slots.iter().map(|_| None).collect();
        let successors = slots.iter().map(|_| None).collect();
        let (ept, paging) = (machine.ept, machine.cpuid.paging());
        let virtualizes_apic = machine.virtualizes_apic;
        Self { frames, records, slots, successors, ept, paging, virtualizes_apic, power, next_id: 0 }
    }

    /// The home core of a domain.
    pub fn core_of(&self, id: DomId) -> Option<usize> {
        self.records.iter().position(|record| record.is_some_and(|record| record.id == id))
    }

    /// The domain whose home that core is.
    pub fn domain(&self, core: usize) -> Option<&'static Domain> {
        (*self.records.get(core)?)?;
        // SAFETY: there is a record, so the slot is initialised. References to it are used no longer than the record is
        // there: its own cores give theirs up when they release it, and core 0's end with the handler.
        Some(unsafe { (*self.slots[core].domain).assume_init_ref() })
    }

    /// What is its home's, while it is ours: not started.
    pub fn building(&mut self, core: usize) -> Option<&'static mut Home> {
        let record = (*self.records.get(core)?)?;
        if record.started {
            return None;
        }
        // SAFETY: there is a record, so the slot is initialised, and it was not given to its core.
        Some(unsafe { (*self.slots[core].home).assume_init_mut() })
    }

    /// An id that no domain has, and none had for as long as there are ids.
    pub fn new_id(&mut self) -> DomId {
        loop {
            let id = self.next_id;
            self.next_id = if id + 1 >= abi::xen::DOMID_FIRST_RESERVED { 1 } else { id + 1 };
            if self.core_of(id).is_none() {
                return id;
            }
        }
    }
}

/// The home core of a domain, by the cores' faces: for any core to ask.
pub fn core_of(id: DomId) -> Option<usize> {
    FACES.iter().position(|face| {
        let domain = face.domain.load(Relaxed);
        domain != NO_DOMAIN && domain == u32::from(id)
    })
}

/// How many events were sent to `core` since start, by all cores' counts.
pub fn events_to(core: usize) -> u64 {
    FACES.iter().map(|face| face.sent[core].load(Relaxed)).sum()
}

/// How many events `core` sent since start.
pub fn events_from(core: usize) -> u64 {
    FACES[core].sent.iter().map(|counter| counter.load(Relaxed)).sum()
}
