//! Core 0's books: the machine's memory, and which domain is where. No other core ever comes here.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::PageCount;
use abi::control::hypercall::{CrashRecord, NO_DOMAIN};
use abi::xen::DomId;
use arrayvec::ArrayVec;
use boot::cores::MAX_CORES;

use crate::core::face::FACES;
use crate::domain::Domain;
use crate::memory::frame_table::FrameTable;
use crate::ports::Ports;

/// What core 0 knows of the domain on one core.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its id.
    pub id: DomId,
    /// Its memory.
    pub pages: PageCount,
    /// Whether it has been started: then it is its core's, not ours.
    pub started: bool,
    /// Events that earlier domains on this core were sent.
    pub events_in_before: u64,
}

/// A place for the domain of one core. Its address goes to that core when the domain starts, and is ours again when the
/// core has released it.
pub type Slot = *mut core::mem::MaybeUninit<Domain>;

/// A place for that domain's ports.
pub type PortsSlot = *mut core::mem::MaybeUninit<Ports>;

/// The books.
#[derive(Debug)]
pub struct Registry {
    /// Who owns which frame.
    pub frames: FrameTable<'static>,
    /// By core: the domain there.
    pub records: ArrayVec<Option<Record>, MAX_CORES>,
    /// By core: where its `Domain` lies, initialised where there is a record.
    pub slots: ArrayVec<Slot, MAX_CORES>,
    /// By core: where the ports of that domain lie.
    pub ports: ArrayVec<PortsSlot, MAX_CORES>,
    /// What EPT can do.
    pub ept: ept::Settings,
    next_id: DomId,
}

impl Registry {
    /// Books without domains.
    pub fn new(
        frames: FrameTable<'static>,
        slots: ArrayVec<Slot, MAX_CORES>,
        ports: ArrayVec<PortsSlot, MAX_CORES>,
        ept: ept::Settings,
    ) -> Self {
        let records = slots.iter().map(|_| None).collect();
        Self { frames, records, slots, ports, ept, next_id: 0 }
    }

    /// The core of a domain.
    pub fn core_of(&self, id: DomId) -> Option<usize> {
        self.records.iter().position(|record| record.is_some_and(|record| record.id == id))
    }

    /// The domain itself, while it is ours: not started.
    pub fn building(&mut self, core: usize) -> Option<&'static mut Domain> {
        let record = (*self.records.get(core)?)?;
        if record.started {
            return None;
        }
        // SAFETY: there is a record, so the slot is initialised, and the domain was not given to its core.
        Some(unsafe { (*self.slots[core]).assume_init_mut() })
    }

    /// The crash record of the domain there. Its core has said that it crashed, and writes the record no more.
    pub fn crash_record(&self, core: usize) -> Option<CrashRecord> {
        (*self.records.get(core)?)?;
        let domain = self.slots[core].cast::<Domain>();
        // SAFETY: there is a record, so the slot is initialised. A copy of this one field; the core may have the rest.
        unsafe { (&raw const (*domain).crash).read() }
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

/// The core that a domain is on, by the cores' faces: for any core to ask.
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
