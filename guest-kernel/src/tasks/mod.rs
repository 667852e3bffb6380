//! The CPU driver's tasks: one stack, one thing at a time, and whatever would wait is a continuation.
//!
//! A task is a future. It runs until it has to wait, and returns: so what it does between two waits is bounded, is not
//! interrupted by any other task, and needs no stack while it waits. Whatever it waited for wakes it with one atomic
//! instruction ([`io_rings::ready`]). A round of the [`Tasks`] polls each task that was woken, once, the same task never
//! first twice; nothing is allocated for that. When no task can go on, the kernel sleeps as its platform does.
//!
//! ```text
//! Kernel::round ── lines, events ──▶ inbox ──▶ wakes the monitor's task
//!       └─ Program::step ──▶ Tasks::run ──▶ monitor ──▶ wakes client, server, console ──▶ ...
//!                              └─ the time of each poll goes to the ledger
//! ```
//!
//! Whose time it is, the [`ledger`] says: a server's time is its client's while it works on the client's request. What
//! tasks say to each other goes over [`wire`]s, in the order that a type lays down ([`talk`]) or as [calls](rpc), and is
//! the same on one core and between two; the [`desk`] is where a core's tasks find its monitor.

pub mod desk;
pub mod ledger;
pub mod pages;
pub mod pipe;
pub mod rpc;
mod signal;
pub mod talk;
pub mod tell;
pub mod wire;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use io_rings::ready::{ReadySet, TASKS};
use ledger::{Account, Ledger};
pub use signal::Signal;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A task's number, for as long as it lives.
pub type TaskId = usize;

/// No place for another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// What a waker does.
struct Bell {
    task: TaskId,
    ready: Arc<ReadySet>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.wake(self.task);
    }
}

/// What tasks share with those who run them.
struct Shared {
    /// Tasks that were begun and have not been taken in.
    begun: RefCell<Vec<(TaskId, Work)>>,
    /// A bit for each number in use.
    used: Cell<u64>,
    /// A bit for each task that waits for a time.
    waiting: Cell<u64>,
    /// For each of these, when it wants to be woken at the latest.
    deadlines: [Cell<u64>; TASKS],
    running: Cell<TaskId>,
}

impl Shared {
    /// The running task wants to be woken at this tick at the latest.
    fn wait_until(&self, tick: u64) {
        let (task, waiting) = (self.running.get(), self.waiting.get());
        if let Some(deadline) = self.deadlines.get(task) {
            // A task is polled whole, so whatever it waits for it says anew each time.
            let first = if waiting >> task & 1 == 0 { tick } else { tick.min(deadline.get()) };
            deadline.set(first);
            self.waiting.set(waiting | 1 << task);
        }
    }

    /// The task waits for no time.
    fn forget(&self, task: TaskId) {
        self.waiting.set(self.waiting.get() & !(1 << task));
    }

    /// The tasks that wait for a time, and for which.
    fn times(&self) -> impl Iterator<Item = (TaskId, u64)> + '_ {
        let waiting = self.waiting.get();
        let times = (0..TASKS).zip(self.deadlines.iter().map(Cell::get));
        times.filter(move |(task, _)| waiting >> task & 1 != 0)
    }
}

/// What a task has of its core: to begin other tasks, to know the time and to wait for it.
#[derive(Clone)]
pub struct Spawner {
    shared: Rc<Shared>,
    ready: Arc<ReadySet>,
    ledger: Rc<Ledger>,
}

impl Spawner {
    /// Begins a task, with an account of this name.
    pub fn spawn(&self, name: &str, work: impl Future<Output = ()> + 'static) -> Result<TaskId, Crowded> {
        let free = !self.shared.used.get();
        if free == 0 {
            return Err(Crowded);
        }
        let task = free.trailing_zeros() as TaskId;
        self.shared.used.set(self.shared.used.get() | 1 << task);
        self.ledger.open(Account::task(task), String::from(name));
        self.shared.begun.borrow_mut().push((task, Box::pin(work)));
        self.ready.wake(task);
        Ok(task)
    }

    /// The core's accounts.
    pub fn ledger(&self) -> &Rc<Ledger> {
        &self.ledger
    }

    /// Waits until this tick.
    pub async fn sleep_until(&self, tick: u64) {
        core::future::poll_fn(|_| {
            if self.ledger.now() >= tick {
                return Poll::Ready(());
            }
            self.shared.wait_until(tick);
            Poll::Pending
        })
        .await;
    }

    /// Lets the others have their turn.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        core::future::poll_fn(|context| {
            if core::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A place for a task.
struct Place {
    work: Option<Work>,
    waker: Waker,
}

/// The tasks of one core.
pub struct Tasks {
    places: Vec<Place>,
    spawner: Spawner,
    /// The task that is first to be polled in the next round.
    first: u32,
}

impl Tasks {
    /// None yet. `clock` gives the ticks that the accounts are kept in.
    pub fn new(clock: impl Fn() -> u64 + 'static) -> Self {
        let ready = Arc::new(ReadySet::new());
        let place =
            |task| Place { work: None, waker: Waker::from(Arc::new(Bell { task, ready: ready.clone() })) };
        let places = (0..TASKS).map(place).collect();
        let shared = Shared {
            begun: RefCell::default(),
            used: Cell::new(0),
            waiting: Cell::new(0),
            deadlines: [const { Cell::new(0) }; TASKS],
            running: Cell::new(0),
        };
        let spawner = Spawner { shared: Rc::new(shared), ready, ledger: Rc::new(Ledger::new(clock)) };
        Self { places, spawner, first: 0 }
    }

    /// What tasks have of their core.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Polls each task that was woken or whose time has come, once. False if there was none.
    pub fn run(&mut self) -> bool {
        self.take_in();
        let ready = self.spawner.ready.take() | self.due();
        if ready == 0 {
            return false;
        }
        let mut left = ready.rotate_right(self.first);
        while left != 0 {
            let task = (left.trailing_zeros() + self.first) as usize % TASKS;
            left &= left - 1;
            self.poll(task);
        }
        self.spawner.ledger.rest();
        self.first = (self.first + 1) % TASKS as u32;
        true
    }

    fn poll(&mut self, task: TaskId) {
        let Spawner { shared, ledger, .. } = &self.spawner;
        // Whoever was woken and is over meanwhile is nobody.
        let Some(Place { work: Some(work), waker }) = self.places.get_mut(task) else { return };
        shared.running.set(task);
        shared.forget(task);
        ledger.run(task);
        if work.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            self.end(task);
        }
    }

    fn end(&mut self, task: TaskId) {
        if let Some(place) = self.places.get_mut(task) {
            // Before its number is free: what it let go may be a task's end of something.
            place.work = None;
        }
        let shared = &self.spawner.shared;
        shared.used.set(shared.used.get() & !(1 << task));
        shared.forget(task);
    }

    fn take_in(&mut self) {
        while let Some((task, work)) = self.spawner.shared.begun.borrow_mut().pop() {
            if let Some(place) = self.places.get_mut(task) {
                place.work = Some(work);
            }
        }
    }

    /// Those whose time has come.
    fn due(&self) -> u64 {
        // Most of the time nobody waits for a time, and the clock is not asked.
        if self.spawner.shared.waiting.get() == 0 {
            return 0;
        }
        let now = self.spawner.ledger.now();
        self.spawner.shared.times().filter(|&(_, at)| at <= now).fold(0, |due, (task, _)| due | 1 << task)
    }

    /// Whether no task can go on before something happens.
    pub fn is_idle(&self) -> bool {
        self.spawner.ready.is_empty()
    }

    /// When a task wants to be woken at the latest.
    pub fn deadline(&self) -> Option<u64> {
        self.spawner.shared.times().map(|(_, at)| at).min()
    }
}

#[cfg(test)]
mod tests;
