//! Second-level page tables: what a guest believes to be memory, turned into the frames it was really given.
//!
//! One [`Ept`] is one guest's whole view of the machine: an address that is not in it does not exist for that guest.
//! This room builds, changes and walks such tables; it is pure over the traits [`Tables`] and [`Frames`], so the
//! same code runs in the hypervisor over its identity map and on the host under a reference model.
//!
//! Four rules hold everywhere:
//!
//! - **All or nothing.** A change first takes every frame it will need and looks at everything that could refuse it;
//!   only then does it write the first entry. A failed call has written nothing, so it needs no undoing and no
//!   INVEPT, not even while the tables are in use.
//! - **No empty tables.** Except for the root, a table holds at least one entry; `unmap` gives back those it empties.
//!   What the tables cost is therefore a function of what is mapped. `clear` breaks the rule on purpose: where several
//!   cores run on one table set, a table that is gone could still be under somebody's walk.
//! - **The answer says whether to invalidate.** Calls that may leave the processor with stale translations return an
//!   [`Invalidation`]; `map` never does, since not-present entries are not cached.
//! - **Nothing panics**, whatever addresses and lengths come in.
//!
//! It never executes an instruction on behalf of anybody: INVEPT, INVVPID and the EPTP field belong to `vmx`. It
//! also knows no owner of a frame: whether a guest *may* have what is mapped is for `hypervisor` to decide, and to
//! audit with [`Ept::for_each_mapping`].
//!
//! The caller's part: one core at a time changes a table set. Where the answer is [`Invalidation::Needed`], INVEPT runs on
//! each core that runs on it before that core's guest goes on. Only then are unmapped pages out of its reach.
//! Table frames that the call freed are covered by the same promise.
//!
//! Where to read on: [`Tables`] and [`Frames`] (`frames`), one entry (`entry`), the tables as a whole (`table`), then
//! `map`, `change` (unmap and protect), `page` (single ones), `merge`, `exchange` (two sets, of one guest), and the hot path, `translate`. `capabilities` says what the
//! processor can do, `violation` what it reports. [`guest_walk`] walks the guest's own tables, for whoever acts on its
//! behalf, and [`shadow`] keeps shadow page tables for guests without EPT. Next room:
//! `hypervisor`, which gives each domain its `Ept`.
#![no_std]
#![forbid(unsafe_code)]

mod capabilities;
mod change;
mod entry;
mod error;
mod exchange;
mod frames;
pub mod guest_walk;
mod level;
mod map;
mod merge;
mod page;
mod reserve;
pub mod shadow;
mod table;
mod translate;
mod violation;
mod vpid;
mod walk;

pub use capabilities::Capabilities;
pub use entry::{MemoryType, Permissions};
pub use error::{Invalidation, MapError};
pub use exchange::STEP;
pub use frames::{ENTRIES, Frames, Tables};
pub use level::{GUEST_ADDRESS_BITS, PageSize};
pub use page::{NoPlace, Place};
pub use table::{Ept, Settings, View};
pub use translate::{Access, Translation};
pub use violation::Violation;
pub use vpid::Vpid;
pub use walk::Mapping;
