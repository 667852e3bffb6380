//! What one core does at another's request.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::fence;

use abi::address::{GuestVirt, HostPhys};
use abi::control::hypercall::DomainState;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::MapGrantRef;
use abi::xen::sched::Watchdog;
use abi::xen::vcpu_time::RunstateInfo;
use abi::xen::{DOMID_XEN, DomId};
use arrayvec::ArrayVec;
use vmx::crossing::{self, Registers};

use super::face::FACES;
use super::grants::Unmaps;
use super::message::{Gone, Request};
use super::succession::Exchange;
use super::{Core, guest_state};
use crate::checks::start::Start;
use crate::domain::{Domain, Home, Life, Vcpu};
use crate::memory::frame_table::Owner;
use crate::pc::posted::POSTED;
use crate::{events, interrupts, machine, pc, stop};

impl Core {
    /// Carries out a request of another core's, or of this core's own.
    pub fn carry_out(&mut self, request: Request) -> HypercallResult {
        match request {
            Request::Run { domain, home, vcpu } => {
                // SAFETY: core 0 gave the domain away with this message, to its cores and, the home part, to this one
                // alone; the addresses are those of the slots it has for it, and they stay until `Release`.
                let (domain, home) = unsafe { (&*(domain as *const Domain), (home as *mut Home).as_mut()) };
                self.take(domain, home, vcpu as usize)
            }
            Request::Follow => {
                self.follow();
                Ok(0)
            }
            Request::Release => self.release(),
            Request::Off => {
                self.leaving = true;
                Ok(0)
            }
            Request::Exchange { order } => {
                // SAFETY: core 0's own, which waits for the answer.
                self.exchange(unsafe { &mut *(order as *mut Exchange<'_>) })
            }
            Request::Stop => {
                self.running = false;
                Ok(0)
            }
            Request::Fence => Ok(0),
            Request::Forget { gone } => {
                self.forget(gone);
                Ok(0)
            }
            Request::PlaceSharedInfo { gfn } => {
                let (Some(vcpu), Some(home)) = (&self.vcpu, self.home.as_deref_mut()) else {
                    return Err(Errno::ESRCH);
                };
                home.place_shared_info(vcpu.domain, gfn).map(u64::from)
            }
            Request::Place { gfn, frame } => {
                let (domain, home) = self.at_home()?;
                home.place(domain, gfn, frame).map(|()| 0)
            }
            Request::Displace { gfn, frame } => self.at_home()?.1.displace(gfn, frame).map(u64::from),
            Request::AddTable { frame } => {
                let (domain, home) = self.at_home()?;
                home.add_table(domain.max_pages.load(Relaxed), HostPhys::new(frame)).map(|()| 0)
            }
            Request::Watchdog { id, timeout } => self.set_watchdog(Watchdog { id, timeout }),
            Request::TakeFrame { domain } => {
                let is_table = domain == DOMID_XEN.into();
                self.take_frame(if is_table { Owner::Tables } else { Owner::Domain(domain as DomId) })
            }
            Request::LendFrame { domain } => self.take_frame(Owner::Lent(domain as DomId)),
            Request::MapGrant { op } => {
                // SAFETY: the asking core's own, which waits for the answer.
                let op = unsafe { &mut *(op as *mut MapGrantRef) };
                op.status = self.map_grant(op)?;
                Ok(0)
            }
            Request::UnmapGrants { unmaps } => {
                // SAFETY: the asking core's own, which waits for the answer.
                self.unmap_grants(unsafe { &mut *(unmaps as *mut Unmaps) })?;
                Ok(0)
            }
            Request::GiveBack { frame } => {
                self.registry.as_mut().ok_or(Errno::EPERM)?.frames.give_back(HostPhys::new(frame), false);
                Ok(0)
            }
            Request::Pin { gfn, frame } => {
                self.at_home()?.1.pin(gfn, HostPhys::new(frame))?;
                Ok(0)
            }
            Request::Unpin { frame } => {
                self.at_home()?.1.unpin(HostPhys::new(frame));
                Ok(0)
            }
            Request::SetPeriodic { period } => self.set_periodic(period),
            Request::Runstate { into } => {
                let info = self.runstate()?;
                // SAFETY: the asking core's own, which waits for the answer.
                unsafe { (into as *mut RunstateInfo).write_volatile(info) };
                Ok(0)
            }
            Request::WatchRunstate { into, area } => {
                let info = self.watch_runstate(GuestVirt::new(area))?;
                // SAFETY: the asking core's own, which waits for the answer.
                unsafe { (into as *mut RunstateInfo).write_volatile(info) };
                Ok(0)
            }
            Request::Init => self.init(),
            Request::StartUp { page } => self.start_up(page),
            Request::Initialise { start } => {
                // SAFETY: the asking core's own, which waits for the answer.
                let start = unsafe { *(start as *const Start) };
                self.initialise(start)
            }
            Request::Nmi => self.nmi(),
            Request::Port { access } => pc::ports::at_home(self, access),
            Request::IoApic { access } => pc::mmio::at_home(self, access),
            Request::Up => self.up(),
            Request::Down => self.down(),
        }
    }

    fn take_frame(&mut self, owner: Owner) -> HypercallResult {
        let frames = &mut self.registry.as_mut().ok_or(Errno::EPERM)?.frames;
        frames.collect();
        let (frame, clean) = frames.take_frame(owner).ok_or(Errno::ENOMEM)?;
        Ok(frame.as_u64() | u64::from(clean))
    }

    /// This core's domain, where this is its home, and what is home's alone.
    pub fn at_home(&mut self) -> Result<(&'static Domain, &mut Home), Errno> {
        let domain = self.domain()?;
        Ok((domain, self.home.as_deref_mut().ok_or(Errno::ESRCH)?))
    }

    /// Takes a domain that has never run, as its virtual CPU `id`.
    fn take(
        &mut self,
        domain: &'static Domain,
        home: Option<&'static mut Home>,
        id: usize,
    ) -> HypercallResult {
        let mut vcpu = Vcpu::new(id, domain, self.machine.system_time());
        if let Some(start) = home.as_deref().and_then(|home| home.start) {
            (vcpu.life, vcpu.start) = (Life::Up, Some(start));
        }
        self.vcpu = Some(vcpu);
        self.home = home;
        self.on_trial = false;
        if domain.is_full {
            self.furnish(domain);
        }
        self.publish_clock();
        interrupts::quiesce(self.registers, &self.host.bases);
        self.show_life();
        self.follow();
        Ok(0)
    }

    /// Gives a full guest that has never run what belongs to its PC.
    fn furnish(&mut self, domain: &Domain) {
        POSTED[self.index].reset();
        if let Some(home) = self.home.as_deref_mut() {
            pc::build(domain, home, self.machine);
            self.face.vector.store(events::NMI.into(), Relaxed);
        }
    }

    /// Lets the guest run, or not, by what its domain's state and its virtual CPU's life say. Called from the loop, where
    /// no handler is under way.
    pub(super) fn follow(&mut self) {
        let Some(vcpu) = self.vcpu.as_mut() else {
            self.running = false;
            return;
        };
        let wanted = vcpu.life == Life::Up && vcpu.domain.state() == DomainState::Running;
        if wanted
            && let Some(start) = vcpu.start.take()
            && let Err(failed) = self.begin(&start)
        {
            // A VMX instruction failed on this core: a bug of ours, said aloud, and the domain ends.
            log::error!("core {}: {failed}", self.index);
            self.stop_domain(DomainState::Crashed, 0);
            return;
        }
        if wanted && self.vcpu.as_mut().is_some_and(|vcpu| core::mem::take(&mut vcpu.nmi)) {
            self.offer_nmi();
        }
        self.running = wanted;
        self.account(wanted);
        self.arm();
    }

    /// Fills the VMCS for a virtual CPU that starts anew.
    fn begin(&mut self, start: &Start) -> Result<(), vmx::vmcs::Failed> {
        let Some(vcpu) = self.vcpu.as_mut() else { return Ok(()) };
        let domain = vcpu.domain;
        vcpu.time.forget_countdown();
        if let Some(local) = &mut vcpu.local {
            (local.attention, local.armed) = (true, u64::MAX);
        }
        self.frame.reset();
        // SAFETY: the region is this core's own, made at start.
        self.vmcs = unsafe { vmx::vmcs::make_current(self.vmcs_region) }?;
        guest_state::fill(self, domain, start)?;
        let [rax, rcx, rdx, rbx, rbp, rsi, rdi] = start.registers;
        self.frame.registers = Registers { rax, rcx, rdx, rbx, rbp, rsi, rdi, ..Registers::default() };
        guest_state::zero_registers();
        guest_state::forget_translations(self, domain);
        // What siblings sent before it was ready goes, but for the events that wait in its `vcpu_info`: it hears of them
        // when it switches its APIC on.
        interrupts::quiesce(self.registers, &self.host.bases);
        Ok(())
    }

    /// Leaves nothing of the domain on this core, and forgets it.
    fn release(&mut self) -> HypercallResult {
        self.running = false;
        if let Some(vcpu) = self.vcpu.take() {
            guest_state::forget_translations(self, vcpu.domain);
            guest_state::zero_registers();
            interrupts::quiesce(self.registers, &self.host.bases);
        }
        (self.home, self.on_trial) = (None, false);
        let face = self.face;
        face.up.store(0, Relaxed);
        face.vector.store(0, Relaxed);
        face.callback.store(0, Relaxed);
        Ok(0)
    }

    /// The other cores of this core's domain.
    pub fn siblings(&self) -> ArrayVec<u8, { abi::control::hypercall::MAX_VCPUS }> {
        let cores = self.vcpu.as_ref().map(|vcpu| &vcpu.domain.cores);
        cores.into_iter().flatten().copied().filter(|&core| usize::from(core) != self.index).collect()
    }

    /// Asks the same of each sibling. Their answers, all `Ok` for the requests this is for, are not looked at.
    pub fn ask_siblings(&mut self, request: Request) {
        for core in self.siblings() {
            let _ = self.ask(core.into(), request);
        }
    }

    /// Drops what this core holds of its domain's memory.
    fn forget(&self, gone: Gone) {
        let Ok(domain) = self.domain() else { return };
        match gone {
            Gone::Memory => guest_state::forget_translations(self, domain),
            Gone::Grants => guest_state::forget_in_tlb(self, domain),
        }
    }

    /// Lets every core of the domain drop what it holds of the domain's memory.
    pub fn forget_everywhere(&mut self, gone: Gone) {
        self.forget(gone);
        self.ask_awake_siblings(Request::Forget { gone });
    }

    /// Asks the domain's other cores what concerns their use of its memory. One that is parked uses none, and drops what it
    /// held when it is woken: either this sees that it is not parked any more, or it sees the page tables as they are now.
    pub fn ask_awake_siblings(&mut self, request: Request) {
        fence(SeqCst);
        for core in self.siblings() {
            if FACES[usize::from(core)].parked.load(Acquire) == 0 {
                let _ = self.ask(core.into(), request);
            }
        }
    }

    /// Waits for a kick, with no guest to run and no handler under way.
    pub(super) fn park(&mut self) {
        self.face.parked.store(1, Release);
        // SAFETY: `start` has set up GS base and vector 2.
        unsafe { crossing::wait_for_kick() };
        self.face.parked.store(0, Relaxed);
        fence(SeqCst);
        self.forget(Gone::Memory);
    }

    /// Waits until each of these cores, a bit each, is done with what it is doing now.
    pub fn fence(&mut self, cores: u64) {
        let asked = |core: &usize| cores & 1 << core != 0 && !FACES[*core].is_off();
        for core in (0..self.peers.len()).filter(asked) {
            let _ = self.ask(core, Request::Fence);
        }
    }

    /// Stops this core's domain, all of it, and lets domain 0 know.
    #[cold]
    #[inline(never)]
    pub fn stop_domain(&mut self, state: DomainState, reason: u32) {
        self.running = false;
        let Some(domain) = self.vcpu.as_ref().map(|vcpu| vcpu.domain) else { return };
        let stoppable = [DomainState::Running, DomainState::Paused];
        let now = machine::now();
        if !domain.face().change_state(&stoppable, state, reason) {
            return;
        }
        domain.face().stopped_at.store(now, Relaxed);
        if domain.is_privileged {
            stop::fail(
                abi::exit_code::ExitCode::ControlDomainLost,
                format_args!("domain 0 is gone: {state:?}, reason {reason}"),
            );
        }
        self.ask_siblings(Request::Stop);
        crate::events::tell_control(self);
    }

    /// Starts a domain that is built: gives it to its cores, home last. Core 0 alone does, with its books.
    pub fn start_domain(&mut self, home: usize) -> HypercallResult {
        let registry = self.registry.as_deref_mut().ok_or(Errno::EPERM)?;
        let domain = registry.domain(home).ok_or(Errno::ESRCH)?;
        let slot = registry.slots[home];
        if let Some(record) = &mut registry.records[home] {
            record.started = true;
        }
        domain.face().set_state(DomainState::Running);
        for (vcpu, &core) in domain.cores.iter().enumerate().rev() {
            let home = if vcpu == 0 { slot.home as u64 } else { 0 };
            let request = Request::Run { domain: slot.domain as u64, home, vcpu: vcpu as u64 };
            self.ask(core.into(), request)?;
        }
        Ok(0)
    }

    /// Takes a domain from its cores, and closes its channels: then nobody else can reach its memory. Core 0 alone does.
    pub fn recall_domain(&mut self, domain: &'static Domain) -> Result<(), Errno> {
        let face = domain.face();
        if face.change_state(&[DomainState::Running], DomainState::Paused, 0) {
            self.let_follow(domain)?;
        }
        for &core in &domain.cores {
            if FACES[usize::from(core)].is_off() {
                self.release_kept(core.into());
            } else {
                self.ask(core.into(), Request::Release)?;
            }
        }
        crate::events::close_all(self, domain);
        self.end_grants(domain);
        for &core in &domain.cores {
            let face = &FACES[usize::from(core)];
            face.shared_info.store(0, Relaxed);
            face.vcpu_info.store(0, Relaxed);
        }
        // Its frames go with the domain, pinned or not.
        let _ = domain.place.fifo.reset();
        self.fence(face.acquainted.load(Relaxed));
        domain.place.fifo.forget();
        Ok(())
    }

    /// Lets all cores of a domain see that its state has changed. One that is off sees it when it is on again.
    pub fn let_follow(&mut self, domain: &'static Domain) -> Result<(), Errno> {
        for &core in domain.cores.iter().filter(|&&core| !FACES[usize::from(core)].is_off()) {
            self.ask(core.into(), Request::Follow)?;
        }
        Ok(())
    }
}
