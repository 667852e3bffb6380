//! What the kernel needs of the place it runs in, and nothing more.
//!
//! [`atoll`] is the guest on Atoll or on Xen, alone on a core. The rest of this crate is written against the trait, so
//! that it runs in host tests too.

use abi::control::succession::Failure;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;

#[cfg(feature = "bare")]
pub mod atoll;
#[cfg(test)]
pub mod fake;
#[cfg(any(test, feature = "hosted"))]
pub mod threads;

/// A core of the kernel's own. All methods run on that core, outside of interrupts.
///
/// Interrupts are off while the kernel works, and come in only where it lets them: in [`Platform::let_interrupts_in`]
/// and while halted. They do nothing but leave a note, which `take_events` and `take_interrupts` read.
pub trait Platform {
    /// Ticks of the time-stamp counter.
    fn now(&self) -> u64;

    /// Ticks in a millisecond.
    fn ticks_per_millisecond(&self) -> u64;

    /// Ends a halt at this tick, or at none. The past means at once.
    fn set_deadline(&self, tick: Option<u64>);

    /// Names each port that had an event since the last call.
    fn take_events(&self, each: &mut dyn FnMut(Port));

    /// Names each vector, other than those of events and deadline, that came since the last call.
    fn take_interrupts(&self, each: &mut dyn FnMut(u8));

    /// Takes what interrupts wait.
    fn let_interrupts_in(&self);

    /// Asks `may_halt` with interrupts off, looks for events and interrupts, and if there are none, halts until one
    /// comes: in one step, so that none can come between look and halt.
    fn halt_if(&self, may_halt: &mut dyn FnMut() -> bool);

    /// Sends an event to the other end of `port`.
    fn send_event(&self, port: Port) -> Result<(), Errno>;

    /// Makes a port that `domain` may bind to.
    fn alloc_unbound(&self, domain: DomId) -> Result<Port, Errno>;

    /// Makes a port that is joined to `remote_port` of `domain`.
    fn bind_interdomain(&self, domain: DomId, remote_port: Port) -> Result<Port, Errno>;

    /// Gives a port back. An event of it that was not taken is forgotten.
    fn close(&self, port: Port);

    /// Prints.
    fn console_write(&self, bytes: &[u8]);

    /// Reads what was typed: how many bytes of `into` were filled.
    fn console_read(&self, into: &mut [u8]) -> usize;

    /// Moves on what the console could not take at once; true while some is left.
    fn console_flush(&self) -> bool;

    /// Sets a watchdog: a new one if `id` is 0, and its number then. Unless it is set again within so many seconds this kernel
    /// is ended.
    fn watchdog(&self, id: u32, seconds: u32) -> Result<u32, Errno>;

    /// Leaves the core. Returns when somebody has this kernel go on, with all it had.
    fn suspend(&self);

    /// Hands this package to another kernel, which is to take this one's place, and waits. Returns only where it did not: why.
    fn hand_over(&self, package: &[u8]) -> Result<Failure, Errno> {
        let _ = package;
        Err(Errno::ENOSYS)
    }

    /// Ends this kernel with a [reason](abi::xen::sched::reason).
    fn shutdown(&self, reason: u32) -> !;
}

/// A platform that another kernel can have as well, which is to take this one's place.
pub trait Handed: Platform + Sized {
    /// The same core, as the other kernel has it.
    fn same_core(&self) -> Self;
}
