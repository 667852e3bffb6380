//! Spin locks: those of Anderson, *The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors* (1990), and
//! of Mellor-Crummey and Scott, *Algorithms for Scalable Synchronization on Shared-Memory Multiprocessors* (1991).
//!
//! Atoll itself has none on a path that matters; these are here to be measured. Each guards nothing but the caller's
//! patience: who holds it is told by a token, which goes back with the release.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Padded;
use super::sync::{AtomicBool, AtomicUsize, Ordering, pause, pauses};

/// A lock for a fixed number of cores, counted from 0.
pub trait Lock: Send + Sync {
    /// Waits until the lock is `core`'s.
    fn acquire(&self, core: usize) -> usize;

    /// Gives it on; `token` is what `acquire` said.
    fn release(&self, core: usize, token: usize);
}

/// Makes a lock for so many cores.
pub type Make = fn(usize) -> Box<dyn Lock>;

/// All of them, by the papers' names.
pub const ALL: [(&str, Make); 7] = [
    ("test-and-set", |_| Box::<TestAndSet>::default()),
    ("test-and-test-and-set", |_| Box::<TestAndTestAndSet>::default()),
    ("delay", |_| Box::<Delay>::default()),
    ("backoff", |_| Box::<Backoff>::default()),
    ("ticket", |_| Box::<Ticket>::default()),
    ("anderson", |cores| Box::new(Anderson::new(cores))),
    ("mcs", |cores| Box::new(Mcs::new(cores))),
];

/// Everybody writes until one was the first.
#[derive(Debug, Default)]
pub struct TestAndSet(Padded<AtomicBool>);

impl Lock for TestAndSet {
    fn acquire(&self, _: usize) -> usize {
        while self.0.0.swap(true, Ordering::Acquire) {
            pause();
        }
        0
    }

    fn release(&self, _: usize, _: usize) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Everybody reads, which all caches can at once, and writes only when there is a chance.
#[derive(Debug, Default)]
pub struct TestAndTestAndSet(Padded<AtomicBool>);

impl Lock for TestAndTestAndSet {
    fn acquire(&self, _: usize) -> usize {
        while self.0.0.load(Ordering::Relaxed) || self.0.0.swap(true, Ordering::Acquire) {
            pause();
        }
        0
    }

    fn release(&self, _: usize, _: usize) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Whoever sees the lock free waits for its own while before it tries, so that not all try at once.
#[derive(Debug, Default)]
pub struct Delay(Padded<AtomicBool>);

/// Pauses that two cores' whiles differ by.
const UNIT: usize = 8;

impl Lock for Delay {
    fn acquire(&self, core: usize) -> usize {
        loop {
            while self.0.0.load(Ordering::Relaxed) {
                pause();
            }
            pauses(core * UNIT);
            if !self.0.0.load(Ordering::Relaxed) && !self.0.0.swap(true, Ordering::Acquire) {
                return 0;
            }
            pause();
        }
    }

    fn release(&self, _: usize, _: usize) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Whoever was not the first waits twice as long as the last time.
#[derive(Debug, Default)]
pub struct Backoff(Padded<AtomicBool>);

/// The longest wait.
const MOST_PAUSES: usize = 1024;

impl Lock for Backoff {
    fn acquire(&self, _: usize) -> usize {
        let mut wait = 1;
        while self.0.0.swap(true, Ordering::Acquire) {
            pauses(wait);
            wait = (wait * 2).min(MOST_PAUSES);
        }
        0
    }

    fn release(&self, _: usize, _: usize) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Everybody draws a number and waits until it is called: first come, first served.
#[derive(Debug, Default)]
pub struct Ticket {
    next: Padded<AtomicUsize>,
    serving: Padded<AtomicUsize>,
}

impl Lock for Ticket {
    fn acquire(&self, _: usize) -> usize {
        let mine = self.next.0.fetch_add(1, Ordering::Relaxed);
        while self.serving.0.load(Ordering::Acquire) != mine {
            pause();
        }
        mine
    }

    fn release(&self, _: usize, mine: usize) {
        self.serving.0.store(mine.wrapping_add(1), Ordering::Release);
    }
}

/// The same, but each number is called on a line of its own: an array of flags.
#[derive(Debug)]
pub struct Anderson {
    next: Padded<AtomicUsize>,
    called: Vec<Padded<AtomicBool>>,
}

impl Anderson {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        // A power of two, so that the numbers go round without a seam.
        let flag = |place| Padded(AtomicBool::new(place == 0));
        Self {
            next: Padded(AtomicUsize::new(0)),
            called: (0..cores.max(1).next_power_of_two()).map(flag).collect(),
        }
    }

    fn flag(&self, number: usize) -> &AtomicBool {
        &self.called[number % self.called.len()].0
    }
}

impl Lock for Anderson {
    fn acquire(&self, _: usize) -> usize {
        let mine = self.next.0.fetch_add(1, Ordering::Relaxed);
        while !self.flag(mine).load(Ordering::Acquire) {
            pause();
        }
        self.flag(mine).store(false, Ordering::Relaxed);
        mine
    }

    fn release(&self, _: usize, mine: usize) {
        self.flag(mine.wrapping_add(1)).store(true, Ordering::Release);
    }
}

/// A queue: each waits on a line of its own, and is told by the one before it.
#[derive(Debug)]
pub struct Mcs {
    /// The last in the queue, counted from 1; 0: the lock is free.
    tail: Padded<AtomicUsize>,
    places: Vec<Padded<Place>>,
}

/// A core's place in the queue.
#[derive(Debug, Default)]
struct Place {
    waits: AtomicBool,
    /// Who comes after it, counted from 1.
    next: AtomicUsize,
}

impl Mcs {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        Self { tail: Padded::default(), places: (0..cores.max(1)).map(|_| Padded::default()).collect() }
    }

    fn place(&self, core: usize) -> &Place {
        &self.places[core].0
    }
}

impl Lock for Mcs {
    fn acquire(&self, core: usize) -> usize {
        let own = self.place(core);
        own.next.store(0, Ordering::Relaxed);
        own.waits.store(true, Ordering::Relaxed);
        let before = self.tail.0.swap(core + 1, Ordering::AcqRel);
        if before != 0 {
            self.place(before - 1).next.store(core + 1, Ordering::Release);
            while own.waits.load(Ordering::Acquire) {
                pause();
            }
        }
        0
    }

    fn release(&self, core: usize, _: usize) {
        let own = self.place(core);
        if own.next.load(Ordering::Acquire) == 0 {
            let last = self.tail.0.compare_exchange(core + 1, 0, Ordering::AcqRel, Ordering::Relaxed);
            if last.is_ok() {
                return;
            }
            // Somebody is in the queue and has yet to say so.
            while own.next.load(Ordering::Acquire) == 0 {
                pause();
            }
        }
        let next = own.next.load(Ordering::Acquire);
        self.place(next - 1).waits.store(false, Ordering::Release);
    }
}
