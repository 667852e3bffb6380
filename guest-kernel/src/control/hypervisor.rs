//! What the control program needs of the world below it: one trait, so that all of it runs on the host too.

use alloc::{string::String, vec::Vec};

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::hypercall::{AuditReport, CoreInfo, CrashRecord, DomainInfo, MachineInfo};
use abi::control::succession::{Failure, Succession};
use abi::control::topology::Topology;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;
use abi::xen::vcpu::HvmContext;

/// Whole pages of domain 0's own memory, to be shared with a guest.
///
/// Made from a `'static` reference to a page-sized type of atomics, so that nobody frees or borrows mutably what
/// a guest can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRange {
    /// Where domain 0 sees the first page.
    pub address: usize,
    /// How many there are.
    pub pages: u64,
}

impl SharedRange {
    /// The pages that `place` fills.
    pub fn of<T: Sync>(place: &'static T) -> Self {
        const {
            assert!(align_of::<T>().is_multiple_of(PAGE_SIZE as usize), "sharing starts at a page");
            assert!(size_of::<T>().is_multiple_of(PAGE_SIZE as usize), "sharing ends at a page");
        }
        Self { address: core::ptr::from_ref(place).addr(), pages: size_of::<T>() as u64 / PAGE_SIZE }
    }
}

/// The hypercalls of domain 0, and its clock. Each method is one call; see [`abi::control::hypercall`] for what
/// they do and which errors they return.
pub trait Hypervisor {
    /// `MACHINE_INFO`
    fn machine_info(&mut self) -> Result<MachineInfo, Errno>;
    /// `TOPOLOGY`
    fn topology(&mut self) -> Result<Topology, Errno>;

    /// `CORE_INFO`
    fn core_info(&mut self, core: u32) -> Result<CoreInfo, Errno>;
    /// `DOMAIN_CREATE`, a bit for each core
    fn domain_create(&mut self, cores: u64, pages: u64, flags: u64) -> Result<DomId, Errno>;
    /// `DOMAIN_WRITE`
    fn domain_write(&mut self, domain: DomId, at: GuestPhys, bytes: &[u8]) -> Result<(), Errno>;
    /// `DOMAIN_SHARE`
    fn domain_share(&mut self, domain: DomId, there: GuestPhys, here: SharedRange) -> Result<(), Errno>;
    /// `DOMAIN_ENTRY`
    fn domain_entry(&mut self, domain: DomId, entry: GuestPhys, start_info: GuestPhys) -> Result<(), Errno>;
    /// `DOMAIN_CONTEXT`
    fn domain_context(&mut self, domain: DomId, start: &HvmContext) -> Result<(), Errno>;
    /// `DOMAIN_FIRMWARE`
    fn domain_firmware(&mut self, domain: DomId, first_frame: u64, pages: u64) -> Result<(), Errno>;
    /// `DOMAIN_UNPAUSE`
    fn domain_unpause(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `DOMAIN_PAUSE`
    fn domain_pause(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `DOMAIN_RESUME`
    fn domain_resume(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `CORE_OFF`
    fn core_off(&mut self, core: u32) -> Result<(), Errno>;
    /// `CORE_ON`
    fn core_on(&mut self, core: u32, processor: u32) -> Result<(), Errno>;
    /// `SUCCESSOR_CREATE`
    fn successor_create(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `SUCCESSOR_START`
    fn successor_start(
        &mut self,
        domain: DomId,
        entry: GuestPhys,
        start_info: GuestPhys,
        package: GuestPhys,
    ) -> Result<(), Errno>;
    /// `SUCCESSOR_FAILED`
    fn successor_failed(&mut self, domain: DomId, why: Failure) -> Result<(), Errno>;
    /// `SUCCESSOR_END`
    fn successor_end(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `SUCCESSION`
    fn succession(&mut self, domain: DomId) -> Result<Succession, Errno>;
    /// `DOMAIN_DESTROY`
    fn domain_destroy(&mut self, domain: DomId) -> Result<(), Errno>;
    /// `DOMAIN_INFO`
    fn domain_info(&mut self, from: DomId) -> Result<DomainInfo, Errno>;
    /// `DOMAIN_CRASH`
    fn domain_crash(&mut self, domain: DomId) -> Result<CrashRecord, Errno>;
    /// `LOG_READ`
    fn log_read(&mut self, position: u64, into: &mut [u8]) -> Result<usize, Errno>;
    /// `AUDIT`
    fn audit(&mut self) -> Result<AuditReport, Errno>;
    /// `MACHINE_STOP`; where it returns at all, it failed.
    fn machine_stop(&mut self, code: u8);

    /// `EVTCHNOP_alloc_unbound`: a port of `domain`'s that `remote` may bind.
    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno>;
    /// `EVTCHNOP_bind_interdomain`: an own port, joined to that one.
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno>;
    /// `EVTCHNOP_close`. Closing what is closed already is no error worth a name.
    fn close(&mut self, port: Port);
    /// `EVTCHNOP_send`. A peer that is gone hears nothing; its end is told another way.
    fn send(&mut self, port: Port);
    /// `HVMOP_set_param`
    fn set_param(&mut self, domain: DomId, index: u32, value: u64) -> Result<(), Errno>;

    /// `CONSOLEIO_write`: the machine's first serial port.
    fn console_write(&mut self, bytes: &[u8]);
    /// So many bytes from the [transfer disk](super::transfer); `None`: there is none, or it failed.
    fn transfer(&mut self, _bytes: usize) -> Option<Vec<u8>> {
        None
    }
    /// The time-stamp counter.
    fn ticks(&mut self) -> u64;
    /// The processor's name and features, a line each.
    fn features(&mut self) -> Vec<String>;
}
