//! Whose time it is.
//!
//! Each tick of a core's tasks is written down twice: for the task that *worked*, and for the account that *pays*. They
//! are the same while a task does its own work. While a server works on a request they are not: the request brings its
//! client's account with it, and pays until it is answered. So a task that lets others work is as visible as one that
//! works, and what all have worked is what all have paid.
//!
//! There is an account for each task, and one for each other core: a client there pays by its core's account here.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use io_rings::ready::TASKS;

use super::TaskId;
use crate::agreement::CoreId;

/// Who works or pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u8);

impl Account {
    /// A task of this core.
    pub fn task(task: TaskId) -> Self {
        Self((task % TASKS) as u8)
    }

    /// All tasks of another core.
    pub fn core(core: CoreId) -> Self {
        Self(TASKS as u8 + core % TASKS as u8)
    }

    /// The task's number, or the core's and so many more as there may be tasks.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// The core, if it is a core's.
    pub fn core_number(self) -> Option<CoreId> {
        self.0.checked_sub(TASKS as u8)
    }

    /// What it is called, where its task is called so.
    pub fn label(self, task: &str) -> String {
        match self.core_number() {
            Some(core) => alloc::format!("core{core}"),
            None => alloc::format!("{task}{}", self.0),
        }
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What an account has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Ticks that the task ran, whoever paid.
    pub worked: u64,
    /// Ticks that this account paid, whoever worked.
    pub paid: u64,
    /// How often the task was polled.
    pub polls: u64,
    /// Messages that the task has sent.
    pub sent: u64,
    /// Messages that the task has received.
    pub received: u64,
}

#[derive(Debug, Default)]
struct Entry {
    name: RefCell<String>,
    sums: Cell<Sums>,
}

impl Entry {
    fn change(&self, change: impl FnOnce(&mut Sums)) {
        let mut sums = self.sums.get();
        change(&mut sums);
        self.sums.set(sums);
    }
}

/// The accounts of one core.
pub struct Ledger {
    clock: Box<dyn Fn() -> u64>,
    entries: Vec<Entry>,
    /// Who pays for each task until it says otherwise.
    payers: [Cell<Account>; TASKS],
    /// Who works, and who pays; none between rounds.
    now: Cell<Option<(Account, Account)>>,
    since: Cell<u64>,
}

impl Ledger {
    pub(super) fn new(clock: impl Fn() -> u64 + 'static) -> Self {
        let entries = (0..2 * TASKS).map(|_| Entry::default()).collect();
        let payers = core::array::from_fn(|task| Cell::new(Account::task(task)));
        Self { clock: Box::new(clock), entries, payers, now: Cell::new(None), since: Cell::new(0) }
    }

    /// The time.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// A new task has this account.
    pub(super) fn open(&self, account: Account, name: String) {
        if let Some(entry) = self.entries.get(account.index()) {
            entry.name.replace(name);
            entry.sums.set(Sums::default());
        }
        if let Some(payer) = self.payers.get(account.index()) {
            payer.set(account);
        }
    }

    /// From now on somebody else works or pays.
    fn turn(&self, next: Option<(Account, Account)>) {
        if self.now.get() == next {
            return;
        }
        let tick = self.now();
        let spent = tick.saturating_sub(self.since.replace(tick));
        if let Some((worker, payer)) = self.now.replace(next) {
            self.change(worker, |sums| sums.worked += spent);
            self.change(payer, |sums| sums.paid += spent);
        }
    }

    fn change(&self, account: Account, change: impl FnOnce(&mut Sums)) {
        if let Some(entry) = self.entries.get(account.index()) {
            entry.change(change);
        }
    }

    /// A task is polled.
    pub(super) fn run(&self, task: TaskId) {
        let worker = Account::task(task);
        let payer = self.payers.get(task).map_or(worker, Cell::get);
        self.change(worker, |sums| sums.polls += 1);
        self.turn(Some((worker, payer)));
    }

    /// No task runs.
    pub(super) fn rest(&self) {
        self.turn(None);
    }

    /// The running task's own account; none where none runs.
    pub fn worker(&self) -> Option<Account> {
        self.now.get().map(|(worker, _)| worker)
    }

    /// Who pays for what the running task does.
    pub fn payer(&self) -> Option<Account> {
        self.now.get().map(|(_, payer)| payer)
    }

    /// The running task works for somebody else until it says otherwise, over all of its waits.
    pub fn serve(&self, payer: Account) {
        if let Some((worker, _)) = self.now.get() {
            if let Some(cell) = self.payers.get(worker.index()) {
                cell.set(payer);
            }
            self.turn(Some((worker, payer)));
        }
    }

    /// The running task works for itself again.
    pub fn serve_self(&self) {
        if let Some(worker) = self.worker() {
            self.serve(worker);
        }
    }

    /// Does `work` as that task's work, which whoever pays now goes on to pay: a part of a server that its clients call.
    pub fn lend<T>(&self, worker: Account, work: impl FnOnce() -> T) -> T {
        let before = self.now.get();
        self.turn(Some((worker, before.map_or(worker, |(_, payer)| payer))));
        let result = work();
        self.turn(before);
        result
    }

    /// The running task has sent a message.
    pub fn sent(&self) {
        if let Some(worker) = self.worker() {
            self.change(worker, |sums| sums.sent += 1);
        }
    }

    /// The running task has received one.
    pub fn received(&self) {
        if let Some(worker) = self.worker() {
            self.change(worker, |sums| sums.received += 1);
        }
    }

    /// What an account has come to by now.
    pub fn sums(&self, account: Account) -> Sums {
        // Whoever asks is at work, and sees that too.
        let now = self.now.get();
        self.turn(None);
        self.turn(now);
        self.entries.get(account.index()).map(|entry| entry.sums.get()).unwrap_or_default()
    }

    /// All accounts that have come to anything.
    pub fn each(&self, mut each: impl FnMut(Account, &str, Sums)) {
        for index in 0..self.entries.len() {
            let account = Account(index as u8);
            let sums = self.sums(account);
            if sums != Sums::default() {
                let name = self.entries.get(index).map(|entry| entry.name.borrow());
                each(account, name.as_deref().map_or("", String::as_str), sums);
            }
        }
    }
}
