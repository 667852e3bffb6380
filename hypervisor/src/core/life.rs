//! How a virtual CPU starts, stops and starts again: INIT and start-up IPIs, and `VCPUOP_initialise`, `up` and `down`.
//!
//! All of it happens on the virtual CPU's own core, at a sibling's leaf request. Such a request may be served while a
//! handler of this very core waits for an answer; so nothing here touches the VMCS. What is to be started is noted, and
//! begins when the core is back in its loop.

use core::sync::atomic::Ordering::Relaxed;

use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::sched::reason;

use super::Core;
use super::face::FACES;
use crate::checks::start::Start;
use crate::domain::{Life, Vcpu};
use crate::{interrupts, pc};

impl Core {
    /// The virtual CPU on this core.
    #[inline(always)]
    pub fn own_vcpu(&mut self) -> Result<&mut Vcpu, Errno> {
        self.vcpu.as_mut().ok_or(Errno::ESRCH)
    }

    /// Lets the others see whether the virtual CPU is up.
    pub(super) fn show_life(&self) {
        let up = self.vcpu.as_ref().is_some_and(|vcpu| vcpu.life == Life::Up);
        self.face.up.store(up.into(), Relaxed);
    }

    /// INIT: the virtual CPU stops and waits for a start-up IPI; its local APIC is as after reset.
    pub fn init(&mut self) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        (vcpu.life, vcpu.start) = (Life::Waiting, None);
        self.running = false;
        interrupts::quiesce(self.registers, &self.host.bases);
        pc::reset(self);
        self.show_life();
        Ok(0)
    }

    /// A start-up IPI: real mode, at the page it names. Goes nowhere unless the virtual CPU waits for one.
    pub fn start_up(&mut self, page: u8) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        if vcpu.life == Life::Waiting {
            (vcpu.life, vcpu.start) = (Life::Up, Some(Start::real_mode(page)));
        }
        self.show_life();
        Ok(0)
    }

    /// `VCPUOP_initialise`: a state to start from. `EEXIST`: it has one.
    pub fn initialise(&mut self, start: Start) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        if vcpu.life != Life::Waiting {
            return Err(Errno::EEXIST);
        }
        (vcpu.life, vcpu.start) = (Life::Down, Some(start));
        Ok(0)
    }

    /// `VCPUOP_up`: starts, or goes on where it was. `EINVAL`: it has no state yet.
    pub fn up(&mut self) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        if vcpu.life == Life::Waiting {
            return Err(Errno::EINVAL);
        }
        vcpu.life = Life::Up;
        self.show_life();
        Ok(0)
    }

    /// An NMI, which also wakes a virtual CPU that is down. One that waits to be started takes none.
    pub fn nmi(&mut self) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        if vcpu.life != Life::Waiting {
            (vcpu.life, vcpu.nmi) = (Life::Up, true);
        }
        self.show_life();
        Ok(0)
    }

    /// This core's virtual CPU goes down; the domain is off when it was the last that was up.
    pub fn go_down(&mut self) -> HypercallResult {
        let up = |core: &u8| FACES[usize::from(*core)].up.load(Relaxed) != 0;
        if self.siblings().iter().any(up) {
            return self.down();
        }
        self.stop_domain(DomainState::Shutdown, reason::POWEROFF);
        Ok(0)
    }

    /// `VCPUOP_down`: stops where it is.
    pub fn down(&mut self) -> HypercallResult {
        let vcpu = self.own_vcpu()?;
        if vcpu.life == Life::Up {
            vcpu.life = Life::Down;
        }
        self.running = false;
        self.show_life();
        Ok(0)
    }
}
