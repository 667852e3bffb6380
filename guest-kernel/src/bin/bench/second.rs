//! Rows with the domain's second virtual CPU, on a core of its own: it computes, sleeps, or serves a ring, as it is told.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use abi::xen::event_channel::Port;
use guest_kernel::events::SharedInfo;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, hypercall, second, shared_info, upcall};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

use crate::{print, rest, ring};

/// How long it gets to begin, or to answer.
const PATIENCE_MILLISECONDS: u64 = 200;
/// From the moment it says that it halts until it surely has.
const FALLING_ASLEEP_TICKS: u64 = 20_000;
/// Wake-ups that are measured: each takes so long.
const WAKES: usize = 200;

/// Counts, with interrupts on.
const COMPUTE: u64 = 1;
/// Halts until an upcall, again and again.
const SLEEP: u64 = 2;
/// Is the back end of a ring.
const SERVE: u64 = 3;

static ORDER: AtomicU64 = AtomicU64::new(COMPUTE);
/// What it is doing.
static DOING: AtomicU64 = AtomicU64::new(0);
/// The port whose events it has.
static THERE: AtomicU64 = AtomicU64::new(0);
/// Events taken, and what the last one kept it from.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// The second virtual CPU, started.
pub struct Second {
    /// The port whose events go to it.
    pub there: Port,
    /// The port whose events come back.
    pub back: Port,
    /// Ticks to wait for it.
    patience: u64,
}

impl Second {
    /// Starts it, where the domain has one.
    pub fn start(platform: &Atoll) -> Option<Self> {
        let (there, back) = (hypercall::bind_ipi(second::VCPU).ok()?, hypercall::bind_ipi(0).ok()?);
        THERE.store(there.into(), SeqCst);
        if let Err(error) = second::start(live) {
            say!("bench: the second virtual CPU does not start: {error:?}");
            return None;
        }
        let patience = PATIENCE_MILLISECONDS * platform.ticks_per_millisecond().max(10_000);
        let this = Self { there, back, patience };
        this.order(COMPUTE).map(|()| this)
    }

    /// Lets it do something else, and waits until it does.
    fn order(&self, order: u64) -> Option<()> {
        ORDER.store(order, SeqCst);
        self.within(|| {
            if DOING.load(SeqCst) == order {
                return true;
            }
            // It may sleep.
            let _ = hypercall::send(self.there);
            false
        })
    }

    /// Lets it be the back end of the ring that was handed over.
    pub fn serve(&self) -> Option<()> {
        self.order(SERVE)
    }

    /// Measures and prints: an event to it while it computes, and while it sleeps.
    pub fn measure(&self, empty: u64) {
        match self.order(COMPUTE).and_then(|()| self.computing(empty)) {
            Some(rows) => rows.into_iter().for_each(print),
            None => say!("bench: event_peer: the second virtual CPU does not hear"),
        }
        match self.order(SLEEP).and_then(|()| self.sleeping(empty)) {
            Some(row) => print(row),
            None => say!("bench: event_peer_wake: the second virtual CPU does not wake up"),
        }
    }

    /// What the sender's hypercall takes; and of what it keeps a receiver that computes, the upcall's handler included.
    fn computing(&self, empty: u64) -> Option<[Row; 2]> {
        let (mut sender, mut receiver) = (Row::new("event_peer"), Row::new("event_peer_receiver"));
        while !sender.is_complete() {
            let taken = TAKEN.load(SeqCst);
            let before = cpu::tsc();
            let _ = hypercall::send(self.there);
            sender.add(cpu::tsc().wrapping_sub(before).saturating_sub(empty), 1);
            self.within(|| TAKEN.load(SeqCst) != taken)?;
            receiver.add(LOST.load(SeqCst), 1);
        }
        Some([sender, receiver])
    }

    /// From before the hypercall to the first instruction of the handler on a core that was halted.
    fn sleeping(&self, empty: u64) -> Option<Row> {
        let mut row = Row::of("event_peer_wake", WAKES, WAKES / 10);
        while !row.is_complete() {
            rest(FALLING_ASLEEP_TICKS);
            let (taken, upcalls) = (TAKEN.load(SeqCst), upcall::last_of_second().1);
            let before = cpu::tsc();
            let _ = hypercall::send(self.there);
            self.within(|| upcall::last_of_second().1 != upcalls)?;
            row.add(upcall::last_of_second().0.wrapping_sub(before).saturating_sub(empty), 1);
            self.within(|| TAKEN.load(SeqCst) != taken)?;
        }
        Some(row)
    }

    /// Waits until `condition` holds, not for ever.
    fn within(&self, mut condition: impl FnMut() -> bool) -> Option<()> {
        let start = cpu::tsc();
        while !condition() {
            if cpu::tsc().wrapping_sub(start) > self.patience {
                return None;
            }
            core::hint::spin_loop();
        }
        Some(())
    }
}

/// Takes what came for the second one.
pub fn take(shared: &SharedInfo) {
    if shared.take_port(second::VCPU as usize, THERE.load(SeqCst) as Port) {
        TAKEN.fetch_add(1, SeqCst);
    }
}

/// Whether the second one is still to be a back end.
pub fn is_serving() -> bool {
    ORDER.load(SeqCst) == SERVE
}

/// The second one's life.
fn live() -> ! {
    let Some(shared) = shared_info() else { cpu::halt_for_ever() };
    loop {
        let order = ORDER.load(SeqCst);
        // An event that was not taken would keep the next from waking us.
        take(shared);
        DOING.store(order, SeqCst);
        match order {
            SLEEP => cpu::halt_until_interrupt(),
            SERVE => ring::serve(shared),
            _ => cpu::with_interrupts(|| compute(shared)),
        }
    }
}

/// Looks at the counter all the time. The longest time between two looks around an upcall, less the usual one, is what the
/// upcall took.
fn compute(shared: &SharedInfo) {
    let (mut last, mut longest, mut shortest) = (cpu::tsc(), 0, u64::MAX);
    let mut seen = upcall::last_of_second().1;
    while ORDER.load(SeqCst) == COMPUTE {
        let upcalls = upcall::last_of_second().1;
        let now = cpu::tsc();
        let passed = now.wrapping_sub(last);
        (longest, shortest, last) = (passed.max(longest), passed.min(shortest), now);
        if upcalls != seen {
            LOST.store(longest.saturating_sub(shortest), SeqCst);
            take(shared);
            (seen, last, longest) = (upcalls, cpu::tsc(), 0);
        }
    }
}
