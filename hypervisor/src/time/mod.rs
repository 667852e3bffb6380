//! Time, as Xen's guests know it: the clock they read by themselves, the time of day, how long each virtual CPU ran, and
//! timers that end in `VIRQ_TIMER`.
//!
//! System time is nanoseconds since the hypervisor's first instruction, read off the time-stamp counter ([`scale`]). All
//! virtual CPUs get the same words for it ([`pvclock`]), once; the date comes from the PC's clock ([`rtc`]), once, at boot.
//! [`runstate`] and [`timers`] are each virtual CPU's own accounts, kept by its core. What all this does to a core, its
//! VMX-preemption timer and its guest's memory, is in [`crate::core::timer`].

pub mod pvclock;
pub mod rtc;
pub mod runstate;
pub mod scale;
pub mod timers;
