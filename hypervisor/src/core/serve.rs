//! What one core does at another's request.

use core::sync::atomic::Ordering::Relaxed;

use abi::control::hypercall::{DomainState, NO_DOMAIN};
use abi::xen::errno::{Errno, HypercallResult};

use super::message::Request;
use super::{Core, guest_state};
use crate::domain::Domain;
use crate::interrupts;
use crate::ports::Port;

impl Core {
    /// Carries out a request of another core's, or of this core's own.
    pub fn carry_out(&mut self, request: Request) -> HypercallResult {
        match request {
            Request::Run(domain) => {
                // SAFETY: core 0 gave the domain away with this message, and the address is that of the one slot it has
                // for this core's domain.
                let domain = unsafe { &mut *(domain as *mut Domain) };
                self.take(domain)
            }
            Request::Pause => {
                self.running = false;
                if self.state() == DomainState::Running {
                    self.face.set_state(DomainState::Paused);
                }
                Ok(0)
            }
            Request::Unpause => {
                if self.state() == DomainState::Paused {
                    self.face.set_state(DomainState::Running);
                    self.running = true;
                }
                Ok(0)
            }
            Request::Release => self.release(),
            Request::Join { port, domain, of, remote_port } => {
                let remote_core = crate::registry::core_of(domain).ok_or(Errno::EINVAL)?;
                let own = self.domain.as_mut().filter(|own| own.id == of).ok_or(Errno::EINVAL)?;
                own.ports.join(port, domain, remote_core as u8, remote_port)?;
                Ok(0)
            }
            Request::Part { port, domain, remote_port } => {
                if let Some(own) = self.domain.as_mut() {
                    own.ports.part(port, domain, remote_port);
                }
                Ok(0)
            }
        }
    }

    /// The state of the domain on this core.
    pub fn state(&self) -> DomainState {
        DomainState::from_u32(self.face.state.load(Relaxed)).unwrap_or(DomainState::Crashed)
    }

    /// Takes a domain that has never run, fills the VMCS for it and lets it run.
    fn take(&mut self, domain: &'static mut Domain) -> HypercallResult {
        self.frame.reset();
        // SAFETY: the region is this core's own, made at start.
        self.vmcs = unsafe { vmx::vmcs::make_current(self.vmcs_region) }.map_err(broken)?;
        guest_state::fill(self, domain).map_err(broken)?;
        guest_state::zero_registers();
        interrupts::quiesce(self.registers);
        self.frame.registers.rbx = domain.start_info.as_u64();
        self.domain = Some(domain);
        self.face.set_state(DomainState::Running);
        self.running = true;
        Ok(0)
    }

    /// Closes the domain's channels, leaves nothing of it on this core, and forgets it.
    fn release(&mut self) -> HypercallResult {
        self.running = false;
        while let Some(port) = self.domain.as_ref().and_then(|domain| domain.ports.first_open()) {
            // The port is open, so closing it can not fail.
            let _ = self.close_port(port);
        }
        if self.domain.take().is_some() {
            guest_state::forget_translations(self);
            guest_state::zero_registers();
            interrupts::quiesce(self.registers);
        }
        let face = self.face;
        face.shared_info.store(0, Relaxed);
        face.vector.store(0, Relaxed);
        face.domain.store(NO_DOMAIN, Relaxed);
        Ok(0)
    }

    /// Closes a port of this core's domain, and parts from the peer.
    pub fn close_port(&mut self, port: u32) -> HypercallResult {
        let domain = self.domain.as_mut().ok_or(Errno::ESRCH)?;
        let id = domain.id;
        if let Port::Interdomain { core, port: remote, .. } = domain.ports.close(port)? {
            self.ask(
                usize::from(core),
                Request::Part { port: remote.into(), domain: id, remote_port: port },
            )?;
        }
        Ok(0)
    }
}

/// A VMX instruction failed on this core: a bug of ours, said aloud, and the domain does not start.
fn broken(failed: vmx::vmcs::Failed) -> Errno {
    log::error!("{failed}");
    Errno::EIO
}
