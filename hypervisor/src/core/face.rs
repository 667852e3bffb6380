//! What a core lets the others see, on lines of its own. The cores of its domain write it while it has one; core 0 does
//! while it builds one there.
//!
//! A sender of events reads them, and so does core 0 when domain 0 asks how things are. Nothing here is written on an
//! exit path but this core's own counters, by plain loads and stores. What is about a domain as a whole (its state, who
//! knows it) is in the face of its home core.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

use abi::control::hypercall::{DomainState, ExitKind, NO_DOMAIN, NO_PROCESSOR};
use abi::xen::sched::reason;
use boot::cores::MAX_CORES;

/// The core has no processor.
pub const OFF: u32 = 0;
/// It is in its loop.
pub const ON: u32 = 1;

/// Where the state's word has the reason.
const REASON_SHIFT: u32 = 8;
/// Its bits with the state itself.
const STATE: u32 = (1 << REASON_SHIFT) - 1;

/// One core's face.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Face {
    /// Local APIC id of the processor it is on.
    pub apic_id: AtomicU32,
    /// The number of that processor, or [`NO_PROCESSOR`].
    pub processor: AtomicU32,
    /// [`OFF`] or [`ON`]. The core itself writes that it is off, and that it is on again; then it is core 0's, or not any more.
    pub power: AtomicU32,
    /// The domain on this core, or `NO_DOMAIN`.
    pub domain: AtomicU32,
    /// The virtual CPU's upcall vector; 0: none.
    pub vector: AtomicU32,
    /// The domain's callback vector, for want of that; 0: none (see [`super::callback`]).
    pub callback: AtomicU32,
    /// The `shared_info` page of the domain, host-physical; 0: none.
    pub shared_info: AtomicU64,
    /// The `vcpu_info` of the virtual CPU, host-physical; 0: none.
    pub vcpu_info: AtomicU64,
    /// Whether the virtual CPU is up, as `VCPUOP_is_up` tells: 1 or 0.
    pub up: AtomicU32,
    /// Whether this core waits for a kick, and uses nobody's memory: 1 or 0.
    pub parked: AtomicU32,
    /// Home: the domain's `DomainState`, and above [`REASON_SHIFT`] its `SHUTDOWN_*` reason.
    state: AtomicU32,
    /// Home: TSC when the domain stopped.
    pub stopped_at: AtomicU64,
    /// Home: its cores, a bit each.
    pub cores: AtomicU64,
    /// Home: the cores, a bit each, that may have had a channel with it, and so may be about to send to it.
    pub acquainted: AtomicU64,
    /// Its VM exits.
    pub exits: [AtomicU64; ExitKind::COUNT],
    /// Events it sent since the machine's start, by the core they went to.
    pub sent: [AtomicU64; MAX_CORES],
}

/// How the virtual CPU on a core is interrupted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Called {
    vector: u32,
    callback: u32,
}

impl Face {
    const fn new() -> Self {
        Self {
            apic_id: AtomicU32::new(0),
            processor: AtomicU32::new(NO_PROCESSOR),
            power: AtomicU32::new(OFF),
            domain: AtomicU32::new(NO_DOMAIN),
            up: AtomicU32::new(0),
            parked: AtomicU32::new(0),
            state: AtomicU32::new(DomainState::Building as u32),
            vector: AtomicU32::new(0),
            callback: AtomicU32::new(0),
            shared_info: AtomicU64::new(0),
            vcpu_info: AtomicU64::new(0),
            stopped_at: AtomicU64::new(0),
            cores: AtomicU64::new(0),
            acquainted: AtomicU64::new(0),
            exits: [const { AtomicU64::new(0) }; ExitKind::COUNT],
            sent: [const { AtomicU64::new(0) }; MAX_CORES],
        }
    }

    /// Nobody interrupts the virtual CPU from now on, but for who has looked up already how: a fence for those, then. How it
    /// was until now.
    pub fn silence(&self) -> Called {
        Called { vector: self.vector.swap(0, SeqCst), callback: self.callback.swap(0, SeqCst) }
    }

    /// It is interrupted like this again.
    pub fn call_again(&self, called: Called) {
        self.vector.store(called.vector, SeqCst);
        self.callback.store(called.callback, SeqCst);
    }

    /// Counts an exit. This core alone does.
    #[inline(always)]
    pub fn count(&self, kind: ExitKind) {
        add_one(&self.exits[kind as usize]);
    }

    /// Counts an event sent to `core`. This core alone does.
    #[inline(always)]
    pub fn count_sent(&self, core: usize) {
        if let Some(counter) = self.sent.get(core) {
            add_one(counter);
        }
    }

    /// Sets the domain's state.
    pub fn set_state(&self, state: DomainState) {
        self.state.store(state as u32, Release);
    }

    /// The state of the domain.
    #[inline]
    pub fn state(&self) -> DomainState {
        DomainState::from_u32(self.state.load(Acquire) & STATE).unwrap_or(DomainState::Crashed)
    }

    /// Why it is shut down.
    pub fn reason(&self) -> u32 {
        self.state.load(Acquire) >> REASON_SHIFT
    }

    /// Whether the core has no processor, and so answers nobody.
    pub fn is_off(&self) -> bool {
        self.power.load(Acquire) == OFF
    }

    /// Takes the domain from its own suspension back to running. `false`: it had not suspended itself.
    pub fn resume(&self) -> bool {
        let suspended = DomainState::Shutdown as u32 | reason::SUSPEND << REASON_SHIFT;
        self.state.compare_exchange(suspended, DomainState::Running as u32, AcqRel, Relaxed).is_ok()
    }

    /// Takes the domain from one of these states to another. `false`: it was in none of them. Who sees the new state
    /// sees what was written before: the crash record.
    pub fn change_state(&self, from: &[DomainState], to: DomainState, reason: u32) -> bool {
        let to = to as u32 | reason << REASON_SHIFT;
        from.iter().any(|&from| self.state.compare_exchange(from as u32, to, AcqRel, Relaxed).is_ok())
    }

    /// Forgets the last domain's exits. Its events stay counted: they are others' events too.
    pub fn reset_exits(&self) {
        for counter in &self.exits {
            counter.store(0, Relaxed);
        }
    }
}

/// A counter with one writer needs no locked instruction.
#[inline(always)]
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// All faces, by core.
pub static FACES: [Face; MAX_CORES] = [const { Face::new() }; MAX_CORES];
