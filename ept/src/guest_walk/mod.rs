//! The guest's own page tables, walked as its processor would: the reference for all who act on a guest's behalf.
//!
//! The instruction emulator, the hypercalls that take pointers and the [shadow page tables](crate::shadow) ask [`walk`]
//! what a linear address means to the guest *now*. The answer is a guest-physical address with the page's rights, or
//! the page fault that the guest must see, with the error code that the processor would push. Accessed and dirty flags
//! are set as the processor sets them.
//!
//! The facts are those of SDM 3A, "Paging": 32-bit paging (with 4 MiB pages and PSE-36), PAE paging (through the four
//! PDPTE registers that [`load_pdptes`] fills at a load of CR3) and 4-level paging, with the reserved bits of each.
//! Absent, and to be hidden from such a guest by CPUID: 5-level paging, PCIDs, supervisor protection keys, shadow stacks.
//!
//! What a walk touches is an allegation: every entry is read once and used as read. Flags are set by
//! compare-and-exchange, so an entry that changed in between is never written over; then the walk begins anew, a bounded
//! number of times. Nothing here panics, whatever the tables and registers hold.
//!
//! Where to read on: the registers (`registers`), who asks for what (`request`), one entry (`entry`), the walk (`walk`),
//! what a page allows (`rights`).

mod entry;
mod memory;
mod pdpte;
mod registers;
mod request;
mod rights;
mod walk;

pub(crate) use entry::{ACCESSED, DIRTY, Format, Kind};
pub use memory::{EntryWidth, Exchange, GuestTables};
pub use pdpte::{PdpteError, load_pdptes};
pub use registers::{Features, Mode, Paging};
pub use request::{PageFaultCode, Privilege, Request};
pub use rights::Rights;
pub use walk::{Found, Refusal, Step, look, walk};
