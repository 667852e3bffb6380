//! One kernel after another in the same domain: the home core's part. Core 0's is in
//! [`hypercall::succession`](crate::hypercall).
//!
//! The old kernel waits in a hypercall, so what there is of it is its memory and the state of its virtual CPU. Memory is
//! exchanged for the successor's ([`crate::domain::successor`]). The state is set aside: its VMCS stays as it is, in one of
//! the core's two regions, while the other one is filled for the successor as for a domain that starts; beside it the
//! registers that a VMCS has no place for, what the processor keeps for a guest, timers and watchdogs ([`Aside`]).
//!
//! On trial a successor has few hypercalls ([`Core::on_trial`]): none that changes what the old kernel would come back to.
//! What a failing one did anyway, to its own memory and to the bits of events, is undone: the first goes, and each port is
//! raised once more.

use core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use abi::address::{GuestPhys, GuestVirt};
use abi::control::hypercall::DomainState;
use abi::control::succession::{HANDED_OVER, MAX_PACKAGE, Stage, Succession};
use abi::xen::errno::{Errno, HypercallResult};
use ept::Access;
use vmx::crossing::Registers;

use super::kept::Kept;
use super::{Core, guest_state};
use crate::checks::sched::Watchdogs;
use crate::checks::start::Start;
use crate::domain::successor::Successor;
use crate::domain::{Domain, Life, Vcpu, build};
use crate::memory::physical::pointer;
use crate::{events, interrupts};

/// What home knows of a kernel that hands over.
#[derive(Debug, Default)]
pub struct Handing {
    /// Where its package lies, and how many bytes it has.
    package: Option<(GuestVirt, u64)>,
    /// The kernel, while its successor is on trial.
    aside: Option<Aside>,
}

/// A virtual CPU that was set aside.
#[derive(Debug)]
struct Aside {
    vcpu: Vcpu,
    kept: Kept,
    registers: Registers,
    xmm: [u128; 16],
    watchdogs: Watchdogs,
}

/// What core 0 asks of home: to exchange one kernel for the other.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The memory that is not in use.
    pub other: &'a mut Successor,
    /// Which way.
    pub how: How,
}

/// Which way.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The successor begins.
    Forth {
        /// Where, by the PVH protocol.
        entry: u64,
        /// Its start info.
        start_info: u64,
        /// Where its package shall lie.
        package: GuestPhys,
    },
    /// The old kernel goes on; its call returns this.
    Back(u64),
}

impl Domain {
    /// How far its succession is.
    pub fn succession(&self) -> Succession {
        Succession::from_word(self.succession.load(Relaxed)).unwrap_or_default()
    }

    /// The guest hands over, or core 0 takes the successor's memory back: whoever comes first. `false`: it was the other.
    pub fn leave_prepared(&self, to: Succession) -> bool {
        let prepared = Succession { stage: Stage::Prepared, bytes: 0 };
        self.succession.compare_exchange(prepared.to_word(), to.to_word(), AcqRel, Relaxed).is_ok()
    }

    /// From now on it is so far.
    pub fn set_succession(&self, succession: Succession) {
        self.succession.store(succession.to_word(), Release);
    }
}

impl Core {
    /// `HAND_OVER`: the guest waits, until it is let go on or is no more.
    pub fn hand_over(&mut self, package: GuestVirt, bytes: u64) -> HypercallResult {
        let domain = self.domain()?;
        if domain.succession().stage != Stage::Prepared {
            return Err(Errno::ENOENT);
        }
        if bytes == 0 || bytes > MAX_PACKAGE {
            return Err(Errno::EINVAL);
        }
        self.at_home()?.1.handing.package = Some((package, bytes));
        self.walk_package(package, bytes, |_, _| Ok(()))?;
        if !domain.leave_prepared(Succession { stage: Stage::Offered, bytes }) {
            return Err(Errno::ENOENT);
        }
        self.stop_domain(DomainState::Shutdown, HANDED_OVER);
        // What it returns is put there when it goes on.
        Ok(0)
    }

    /// `TAKE_OVER`: there is no way back from here.
    pub fn take_over(&mut self) -> HypercallResult {
        if !core::mem::take(&mut self.on_trial) {
            return Err(Errno::EINVAL);
        }
        let (domain, home) = self.at_home()?;
        if let Some(aside) = home.handing.aside.take() {
            home.watchdogs = aside.watchdogs;
            home.watchdogs.runs(true, crate::machine::now());
        }
        let bytes = domain.succession().bytes;
        domain.set_succession(Succession { stage: Stage::Committed, bytes });
        self.arm();
        events::tell_control(self);
        Ok(0)
    }

    /// Core 0 asks for it, and waits. In the loop, with no handler under way.
    pub(super) fn exchange(&mut self, exchange: &mut Exchange<'_>) -> HypercallResult {
        let domain = self.domain()?;
        match (exchange.how, domain.succession().stage) {
            (How::Forth { entry, start_info, package }, Stage::Offered) => {
                self.exchange_forth(exchange.other, Start::pvh(entry, start_info), package)
            }
            (How::Back(why), Stage::Offered) => {
                self.frame.registers.rax = why;
                Ok(0)
            }
            (How::Back(why), Stage::Trial) => self.exchange_back(exchange.other, why),
            _ => Err(Errno::EINVAL),
        }
    }

    fn exchange_forth(&mut self, other: &mut Successor, start: Start, at: GuestPhys) -> HypercallResult {
        let (domain, home) = self.at_home()?;
        let (package, bytes) = home.handing.package.ok_or(Errno::EINVAL)?;
        let mut to = at;
        self.walk_package(package, bytes, |from, count| {
            // SAFETY: so much from there on is the domain's memory, and nobody uses the other one.
            unsafe { build::write_from(other.ept.view(), to, from, count as usize)? };
            to = to.checked_add(count).ok_or(Errno::EFAULT)?;
            Ok(())
        })?;
        self.at_home()?.1.exchange(domain, other)?;
        let kept = Kept::take(self.registers, true);
        self.change_vmcs(false);
        let now = self.machine.system_time();
        let mut vcpu = Vcpu::new(0, domain, now);
        (vcpu.life, vcpu.start) = (Life::Up, Some(start));
        if let Some(old) = &self.vcpu {
            vcpu.time.runstate = old.time.runstate;
        }
        let Some(vcpu) = self.vcpu.replace(vcpu) else { return Err(Errno::ESRCH) };
        let (registers, xmm) = (self.frame.registers, self.frame.xmm);
        let (_, home) = self.at_home()?;
        let watchdogs = core::mem::take(&mut home.watchdogs);
        home.handing.aside = Some(Aside { vcpu, kept, registers, xmm, watchdogs });
        self.on_trial = true;
        domain.set_succession(Succession { stage: Stage::Trial, bytes });
        guest_state::forget_translations(self, domain);
        self.settle_guest();
        Ok(0)
    }

    fn exchange_back(&mut self, other: &mut Successor, why: u64) -> HypercallResult {
        let (domain, home) = self.at_home()?;
        if home.handing.aside.is_none() {
            return Err(Errno::EINVAL);
        }
        home.exchange(domain, other)?;
        let Some(aside) = home.handing.aside.take() else { return Err(Errno::EINVAL) };
        let Aside { mut vcpu, kept, registers, xmm, watchdogs } = aside;
        home.watchdogs = watchdogs;
        if let Some(new) = &self.vcpu {
            vcpu.time.runstate = new.time.runstate;
        }
        self.vcpu = Some(vcpu);
        self.on_trial = false;
        self.change_vmcs(true);
        self.frame.registers = Registers { rax: why, ..registers };
        self.frame.xmm = xmm;
        guest_state::forget_translations(self, domain);
        self.settle_guest();
        let apic_id = self.face.apic_id.load(Relaxed);
        kept.put_back(&mut self.apic, apic_id, self.registers, &self.host.bases);
        domain.set_succession(Succession { stage: Stage::Offered, bytes: 0 });
        Ok(0)
    }

    /// Leaves the VMCS as it is, and works with the core's other one: as that was left, or empty.
    fn change_vmcs(&mut self, was_used: bool) {
        // SAFETY: in VMX root operation; both regions are this core's own, made at its start, and the one that is taken up was
        // left here in the same way.
        let changed = unsafe {
            vmx::vmcs::clear(self.vmcs_region).and_then(|()| {
                core::mem::swap(&mut self.vmcs_region, &mut self.other_vmcs_region);
                if was_used {
                    vmx::vmcs::take_up(self.vmcs_region)
                } else {
                    vmx::vmcs::make_current(self.vmcs_region)
                }
            })
        };
        match changed {
            Ok(vmcs) => self.vmcs = vmcs,
            Err(failed) => panic!("core {}: {failed}", self.index),
        }
        self.frame.relaunch();
    }

    /// Leaves nothing of one kernel in the processor for the other.
    fn settle_guest(&mut self) {
        guest_state::zero_registers();
        interrupts::quiesce(self.registers, &self.host.bases);
        self.show_life();
    }

    /// Calls `each` with each piece of the package, in order: where it lies, and how long it is.
    fn walk_package(
        &self,
        package: GuestVirt,
        bytes: u64,
        mut each: impl FnMut(*const u8, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let memory = self.guest_memory()?;
        let mut done = 0;
        while done < bytes {
            let at = package.checked_add(done).ok_or(Errno::EFAULT)?;
            let (host, left) = memory.translate(at, Access::Read).ok_or(Errno::EFAULT)?;
            let count = left.min(bytes - done);
            if count == 0 {
                return Err(Errno::EFAULT);
            }
            each(pointer(host), count)?;
            done += count;
        }
        Ok(())
    }
}
