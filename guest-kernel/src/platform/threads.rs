//! A core as a thread of the host, for tests and labs: real caches and real races between kernels that poll.
//!
//! Whoever polls needs no event, so there are none; and when there is nothing to do, the host may run another thread.

use std::sync::Mutex;
use std::time::Instant;
use std::vec::Vec;

use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;

use super::{Handed, Platform};

/// The platform of one thread.
pub struct Thread {
    begun: Instant,
    /// What was printed, until somebody looks.
    pub printed: Mutex<Vec<u8>>,
}

impl Thread {
    /// A core that begins now.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), printed: Mutex::default() }
    }

    /// What [`Platform::now`] says, for those who have no platform at hand.
    pub fn clock(&self) -> impl Fn() -> u64 + 'static {
        let begun = self.begun;
        move || begun.elapsed().as_nanos() as u64
    }
}

impl Handed for Thread {
    fn same_core(&self) -> Self {
        Self { begun: self.begun, printed: Mutex::default() }
    }
}

impl Platform for Thread {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn ticks_per_millisecond(&self) -> u64 {
        1_000_000
    }

    fn set_deadline(&self, _: Option<u64>) {}

    fn take_events(&self, _: &mut dyn FnMut(Port)) {}

    fn take_interrupts(&self, _: &mut dyn FnMut(u8)) {}

    fn let_interrupts_in(&self) {}

    fn halt_if(&self, may_halt: &mut dyn FnMut() -> bool) {
        if may_halt() {
            std::thread::yield_now();
        }
    }

    fn send_event(&self, _: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn alloc_unbound(&self, _: DomId) -> Result<Port, Errno> {
        Err(Errno::ENOSYS)
    }

    fn bind_interdomain(&self, _: DomId, port: Port) -> Result<Port, Errno> {
        // No event goes over it.
        Ok(port)
    }

    fn close(&self, _: Port) {}

    fn console_write(&self, bytes: &[u8]) {
        if let Ok(mut printed) = self.printed.lock() {
            printed.extend_from_slice(bytes);
        }
    }

    fn console_read(&self, _: &mut [u8]) -> usize {
        0
    }

    fn console_flush(&self) -> bool {
        false
    }

    fn watchdog(&self, _: u32, _: u32) -> Result<u32, Errno> {
        Err(Errno::ENOSYS)
    }

    fn suspend(&self) {}

    fn shutdown(&self, reason: u32) -> ! {
        panic!("shut down with reason {reason}");
    }
}
