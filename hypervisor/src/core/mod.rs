//! A core: its loop, what it owns, and how it asks another.
//!
//! ```text
//! loop
//!   no domain to run?  halt until kicked, serve the other cores; leave the processor where core 0 wants that ([`power`])
//!   enter the guest
//!     exit      handle it (`exits`)
//!     kicked    serve the other cores
//! ```
//!
//! A [`Core`] is reached by its own core alone; what others may see is its [`face::Face`].

pub mod callback;
pub mod face;
pub mod grants;
pub mod guest_state;
pub mod kept;
pub mod life;
pub mod message;
pub mod power;
pub mod serve;
pub mod start;
pub mod succession;
pub mod timer;
pub mod watchdog;

use abi::address::HostPhys;
use abi::control::hypercall::{CrashRecord, DomainState};
use abi::xen::errno::{Errno, HypercallResult};
use arrayvec::ArrayVec;
use boot::cores::MAX_CORES;
use io_rings::urpc::{Receiver, Sender};
use vmx::crossing::{self, Frame, Return};
use vmx::exit::{Exit, ReadExit, Reason, instruction_error};
use vmx::field;
use vmx::vmcs::Current;

use crate::devices::decode::LONGEST;
use crate::domain::{Domain, Home, Vcpu};
use crate::exits;
use crate::interrupts::{Registers, Sender as InterruptSender};
use crate::machine::{Machine, Patience};
use crate::memory::windows::Windows;
use crate::pc;
use crate::registry::Registry;
use face::{FACES, Face};
use message::{Incoming, Request};

/// The two channels with one other core.
#[derive(Debug)]
pub struct Peer {
    /// To it.
    pub outbox: Sender<'static>,
    /// From it.
    pub inbox: Receiver<'static>,
    /// A request of its that waits until this core is back in its loop.
    pub deferred: Option<Request>,
}

/// One core.
pub struct Core {
    /// The crossing; GS base points here.
    pub frame: Frame,
    /// Its number, by which FACES and all tables go.
    pub index: usize,
    /// What the others see of it.
    pub face: &'static Face,
    /// Where its guest's memory lies, as far as it remembers.
    pub windows: &'static Windows,
    /// The machine.
    pub machine: &'static Machine,
    /// This core's VMCS.
    pub vmcs: Current,
    /// Where the VMCS lies.
    pub vmcs_region: HostPhys,
    /// Where its other one lies: empty, or a kernel's whose successor is on trial.
    pub other_vmcs_region: HostPhys,
    /// What this core's VMX can do.
    pub capabilities: vmx::capabilities::Capabilities,
    /// The values of the VMCS's host fields that depend on this core's tables.
    pub host: guest_state::Host,
    /// The local APIC, for what goes to other cores.
    pub apic: InterruptSender,
    /// The local APIC, for what stays here.
    pub registers: Registers,
    /// The virtual CPU on this core.
    pub vcpu: Option<Vcpu>,
    /// Where this is its domain's home: what only home changes.
    pub home: Option<&'static mut Home>,
    /// Whether to enter the guest.
    pub running: bool,
    /// The kernel on it is a successor that has not taken over.
    pub on_trial: bool,
    /// It was told to leave its processor.
    pub leaving: bool,
    /// While it is off: what its guest had in the processor.
    pub kept: Option<kept::Kept>,
    /// The other cores, by number; `None` for this one.
    pub peers: ArrayVec<Option<Peer>, MAX_CORES>,
    /// Memory and domains: core 0's alone.
    pub registry: Option<&'static mut Registry>,
}

impl Core {
    /// The domain on this core.
    #[inline(always)]
    pub fn domain(&self) -> Result<&'static Domain, Errno> {
        self.vcpu.as_ref().map(|vcpu| vcpu.domain).ok_or(Errno::ESRCH)
    }

    /// What a full guest's virtual CPU has for itself, where this core has one.
    #[inline(always)]
    pub fn local(&mut self) -> Option<&mut pc::Local> {
        self.vcpu.as_mut()?.local.as_mut()
    }

    /// The guest's general register with this number.
    pub fn register(&self, number: u8) -> u64 {
        self.frame.registers.by_number(number).unwrap_or_else(|| self.vmcs.get(field::GUEST_RSP))
    }

    /// Sets it.
    pub fn set_register(&mut self, number: u8, value: u64) {
        match self.frame.registers.place(number) {
            Some(place) => *place = value,
            None => self.vmcs.write(field::GUEST_RSP, value),
        }
    }

    /// The core's life.
    pub fn run(&mut self) -> ! {
        loop {
            if self.vcpu.as_ref().is_some_and(|vcpu| vcpu.domain.is_full) {
                pc::run(self);
            }
            while self.running {
                // SAFETY: the VMCS was filled when the domain came to this core, by `guest_state::fill`, with this
                // frame; `self` never moves (see `start`), and interrupts are off in the host.
                match unsafe { crossing::enter(&raw mut self.frame) } {
                    Return::Exit => exits::handle(self),
                    Return::Kicked => self.serve(),
                    Return::Failed => self.entry_failed(),
                }
            }
            self.park();
            self.serve();
            if self.leaving {
                self.leave();
            }
        }
    }

    /// Asks another core, or this one, and waits for the answer, serving leaf requests meanwhile. `EAGAIN`: that core is off,
    /// and asked nothing.
    pub fn ask(&mut self, core: usize, request: Request) -> HypercallResult {
        if core == self.index {
            return self.carry_out(request);
        }
        if FACES.get(core).is_none_or(Face::is_off) {
            return Err(Errno::EAGAIN);
        }
        self.send(core, request.encode());
        let mut patience = Patience::default();
        loop {
            if let Some(result) = self.collect(core) {
                return result;
            }
            crate::stop::halt_if_stopping();
            patience.wait();
        }
    }

    /// Looks once through all channels: answers leaf requests, puts others off. Returns `core`'s reply, if it is here.
    fn collect(&mut self, core: usize) -> Option<HypercallResult> {
        let mut answer = None;
        for index in 0..self.peers.len() {
            while let Some(message) = self.receive(index) {
                match message {
                    Incoming::Reply(result) if index == core => answer = Some(result),
                    Incoming::Reply(_) => panic!("core {index} answered what nobody asked"),
                    Incoming::Request(request) if request.is_leaf() => {
                        let result = self.carry_out(request);
                        self.send(index, message::reply(result));
                    }
                    Incoming::Request(request) => {
                        if let Some(Some(peer)) = self.peers.get_mut(index) {
                            peer.deferred = Some(request);
                        }
                    }
                }
            }
        }
        answer
    }

    /// Serves every request that is there, the deferred ones too. Called from the loop only, where no handler is under
    /// way that could still use the domain.
    #[cold]
    #[inline(never)]
    pub fn serve(&mut self) {
        self.frame.clear_kick();
        crate::stop::halt_if_stopping();
        self.collect(usize::MAX);
        for index in 0..self.peers.len() {
            let deferred = self.peers[index].as_mut().and_then(|peer| peer.deferred.take());
            if let Some(request) = deferred {
                let result = self.carry_out(request);
                self.send(index, message::reply(result));
            }
        }
        self.follow();
        self.offer_callback();
    }

    fn receive(&mut self, index: usize) -> Option<Incoming> {
        let peer = self.peers.get_mut(index)?.as_mut()?;
        match peer.inbox.try_receive() {
            Ok(None) => None,
            Ok(Some(message)) => match message::decode(message) {
                Some(incoming) => Some(incoming),
                None => panic!("core {index} sent a message of unknown kind {:#x}", message[0]),
            },
            Err(broken) => panic!("the channel from core {index}: {broken:?}"),
        }
    }

    fn send(&mut self, index: usize, message: io_rings::urpc::Message) {
        let Some(Some(peer)) = self.peers.get_mut(index) else { return };
        if let Err(error) = peer.outbox.try_send(&message) {
            panic!("the channel to core {index}: {error:?}");
        }
        // SAFETY: an NMI to a core of ours; whatever it does, it takes note and looks at its channels.
        unsafe { self.apic.nmi(FACES[index].apic_id.load(core::sync::atomic::Ordering::Relaxed)) };
    }

    /// Stops this core's domain for what it did, and keeps the record.
    #[cold]
    #[inline(never)]
    pub fn crash(&mut self, exit: Exit) {
        let reason = Reason::new(self.vmcs.read(field::EXIT_REASON));
        log::warn!("core {}: {} ({exit:x?})", self.index, reason.text());
        self.stop_with_record(reason);
    }

    /// The processor refused to enter the guest at all. Whatever led to it, the others go on.
    #[cold]
    #[inline(never)]
    pub fn entry_failed(&mut self) {
        let error = self.vmcs.read(field::INSTRUCTION_ERROR);
        log::error!("core {}: the VM entry failed: {} ({error})", self.index, instruction_error(error));
        self.stop_with_record(Reason::INVALID_GUEST_STATE);
    }

    fn stop_with_record(&mut self, reason: Reason) {
        // With shadow page tables the guest's own registers are others than those it runs with.
        let believed = pc::shadow::shadows(self).map(|shadows| *shadows.tables.paging());
        let mut code = [0; LONGEST];
        let (code_bytes, code_bits) = pc::mmio::code(self, &mut code);
        let (registers, vmcs) = (&self.frame.registers, &self.vmcs);
        let record = CrashRecord {
            exit_reason: reason.field(),
            interruption: vmcs.read(field::EXIT_INTERRUPTION_INFO),
            qualification: vmcs.read(field::EXIT_QUALIFICATION),
            guest_physical: vmcs.read(field::GUEST_PHYSICAL_ADDRESS),
            rip: vmcs.get(field::GUEST_RIP),
            rsp: vmcs.get(field::GUEST_RSP),
            rflags: vmcs.get(field::GUEST_RFLAGS),
            cr0: believed.map_or_else(|| vmcs.get(field::GUEST_CR0), |paging| paging.cr0),
            cr3: believed.map_or_else(|| vmcs.get(field::GUEST_CR3), |paging| paging.cr3),
            cr4: believed.map_or_else(|| vmcs.get(field::GUEST_CR4), |paging| paging.cr4),
            registers: core::array::from_fn(|number| registers.by_number(number as u8).unwrap_or(0)),
            code,
            code_bytes: code_bytes as u8,
            code_bits: code_bits.into(),
        };
        if let Some(vcpu) = &self.vcpu {
            log::warn!("domain {} crashed at {:#x}, virtual CPU {}", vcpu.domain.id, record.rip, vcpu.id);
            vcpu.domain.crash.lock().get_or_insert(record);
        }
        self.stop_domain(DomainState::Crashed, 0);
    }
}
