//! Where a core's tasks meet its monitor.
//!
//! The monitor has a task of its own ([`Desk::work`]). What came over the mesh waits in its inbox and wakes it; what follows
//! wakes the tasks that wait for it: for the outcome of an operation, for a name, for a channel's line or room. A task that
//! asks the monitor for something calls it, as one calls a library: the work is the monitor's, and the task pays.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

mod carry;
mod doors;
mod memory;
mod queue;

use abi::mesh::PAGES;
use io_rings::urpc::Message;

use super::ledger::{Account, Ledger};
use super::wire::Far;
use super::{Crowded, Signal, Spawner, TaskId};
use crate::agreement::{CoreId, Refusal, Ticket};
use crate::mesh::{NotSent, SharedPage, Window};
use crate::monitor::channels::ChannelId;
use crate::monitor::{Monitor, News};
use crate::replica::names::Notice;
pub use carry::Carried;
use doors::Knock;
pub use doors::{Listener, NotOpen, Watch};
use queue::Queue;

/// Lines that the monitor takes in at a time, so that the other tasks have their turn.
const LINES_PER_TURN: usize = 64;

enum Outcome {
    Awaited(Option<Waker>),
    Known(Result<(), Refusal>),
}

/// The desk.
pub struct Desk {
    monitor: RefCell<Monitor>,
    account: Cell<Account>,
    ledger: Rc<Ledger>,
    /// Lines, and whose they are.
    inbox: RefCell<VecDeque<(usize, Message)>>,
    arrived: Signal,
    outcomes: RefCell<BTreeMap<Ticket, Outcome>>,
    channels: RefCell<BTreeMap<ChannelId, Rc<Far>>>,
    listeners: RefCell<BTreeMap<u64, Rc<Queue<Knock>>>>,
    watches: RefCell<BTreeMap<u32, Rc<Queue<Notice>>>>,
    events: Queue<News>,
    /// The pages that are shared with others, by their cores; and with nobody.
    windows: OnceCell<Vec<Option<&'static Window>>>,
    own: OnceCell<Box<[SharedPage; PAGES]>>,
    /// Who waits for a page to be free.
    wanted: RefCell<Vec<Waker>>,
    /// The tasks of a kernel that takes over are not all there.
    held: Cell<bool>,
}

impl Desk {
    /// Sets the monitor to work as a task.
    pub fn open_with(monitor: Monitor, spawner: &Spawner) -> Result<Rc<Self>, Crowded> {
        let ledger = spawner.ledger().clone();
        let desk = Rc::new(Self {
            monitor: RefCell::new(monitor),
            account: Cell::new(Account::task(0)),
            ledger,
            inbox: RefCell::default(),
            arrived: Signal::new(),
            outcomes: RefCell::default(),
            channels: RefCell::default(),
            listeners: RefCell::default(),
            watches: RefCell::default(),
            events: Queue::default(),
            windows: OnceCell::new(),
            own: OnceCell::new(),
            wanted: RefCell::default(),
            held: Cell::new(false),
        });
        let task: TaskId = spawner.spawn("monitor", desk.clone().work())?;
        desk.account.set(Account::task(task));
        Ok(desk)
    }

    /// The monitor's own account.
    pub fn account(&self) -> Account {
        self.account.get()
    }

    /// The core's accounts.
    pub fn ledger(&self) -> &Rc<Ledger> {
        &self.ledger
    }

    /// A line came over the mesh, for the monitor's task.
    pub fn line(&self, slot: usize, line: &Message) {
        self.inbox.borrow_mut().push_back((slot, *line));
        self.arrived.notify();
    }

    /// A place in the mesh was taken, or is empty. At once: what a former life has said, and what it had of this core's, is
    /// nothing to its next.
    pub fn peer(&self, slot: usize, up: bool) {
        self.inbox.borrow_mut().retain(|(from, _)| *from != slot);
        self.monitor(|monitor| monitor.peer(slot, up));
        self.arrived.notify();
    }

    /// Has the monitor look whether those answer who owe it something, if it is time to; when to come back.
    pub fn tick(&self, now: u64) -> u64 {
        self.monitor(|monitor| monitor.tick(now))
    }

    /// Sends what the monitor has to say; whether something waits still for room.
    pub fn flush(&self, send: impl FnMut(usize, &Message) -> Result<(), NotSent>) -> bool {
        if !self.monitor.borrow().has_words() {
            return false;
        }
        self.ledger.lend(self.account(), || self.monitor.borrow_mut().flush(send))
    }

    /// Has the monitor do something at the running task's cost. Whoever waits for what follows from it is woken.
    pub fn monitor<T>(&self, work: impl FnOnce(&mut Monitor) -> T) -> T {
        self.ledger.lend(self.account(), || {
            let result = work(&mut self.monitor.borrow_mut());
            self.hand_out();
            result
        })
    }

    /// Looks at the monitor.
    pub fn look<T>(&self, look: impl FnOnce(&Monitor) -> T) -> T {
        look(&self.monitor.borrow())
    }

    /// The monitor's task.
    async fn work(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                self.arrived.wait(context);
                if self.inbox.borrow().is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            self.take_in();
            self.hand_out();
            if !self.inbox.borrow().is_empty() {
                self.arrived.notify();
            }
        }
    }

    /// What others ask for, their cores pay.
    fn take_in(&self) {
        for _ in 0..LINES_PER_TURN {
            let Some((slot, line)) = self.inbox.borrow_mut().pop_front() else { break };
            self.ledger.serve(Account::core(slot as CoreId));
            self.ledger.received();
            self.monitor.borrow_mut().line(slot, &line);
        }
        self.ledger.serve_self();
    }

    /// Wakes whoever waits for what the monitor has to tell.
    fn hand_out(&self) {
        if self.held.get() {
            return;
        }
        let mut monitor = self.monitor.borrow_mut();
        while let Some(news) = monitor.take_news() {
            self.hand_one(&mut monitor, news);
        }
        while let Some(number) = monitor.take_moved() {
            self.tell(number, |_| {});
        }
        if monitor.take_freed() {
            self.tell_freed();
        }
        if monitor.system().names.has_notices() {
            for notice in monitor.system_mut().names.take_notices() {
                self.tell_watch(notice);
            }
        }
    }

    fn hand_one(&self, monitor: &mut Monitor, news: News) {
        match news {
            News::Done(ticket) => self.known(ticket, Ok(())),
            News::Refused(ticket, refusal) => self.known(ticket, Err(refusal)),
            News::Opened(number) => self.tell(number, |far| far.opened.set(true)),
            News::Closed(number) => self.tell(number, |far| far.closed.set(true)),
            News::Accepted(service, number, peer) => match self.listeners.borrow().get(&service) {
                Some(listener) => {
                    listener.push(Knock::Far(number, peer));
                    self.know(number);
                }
                None => monitor.close(number),
            },
            News::Epoch(..) | News::Silenced(_) | News::LeftOut(_) | News::Expelled => self.events.push(news),
        }
    }

    fn tell_watch(&self, notice: Notice) {
        if let Some(watch) = self.watches.borrow().get(&notice.watch) {
            watch.push(notice);
        }
    }

    fn known(&self, ticket: Ticket, result: Result<(), Refusal>) {
        // Who asked before this kernel took over its core comes for it yet.
        if let Some(Outcome::Awaited(Some(waker))) =
            self.outcomes.borrow_mut().insert(ticket, Outcome::Known(result))
        {
            waker.wake();
        }
    }

    /// What there is to know of a channel, from now on.
    fn know(&self, number: ChannelId) -> Rc<Far> {
        self.channels.borrow_mut().entry(number).or_default().clone()
    }

    fn tell(&self, number: ChannelId, what: impl FnOnce(&Far)) {
        if let Some(far) = self.channels.borrow().get(&number) {
            what(far);
            far.moved.notify();
        }
    }

    /// A channel's wire is gone.
    pub(super) fn forget(&self, number: ChannelId) {
        self.channels.borrow_mut().remove(&number);
        self.monitor(|monitor| monitor.close(number));
    }
}
