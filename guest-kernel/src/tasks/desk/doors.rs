//! What a task gets at the desk: operations, channels, services, names.

use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::{Context, Poll};

use super::super::pipe::{PipeEnd, pipe};
use super::super::wire::{Parcel, Wire};
use super::{Desk, Outcome, Queue};
use crate::agreement::{CoreId, Refusal, Ticket};
use crate::monitor::News;
use crate::monitor::channels::{ChannelId, WINDOW};
use crate::replica::Op;
use crate::replica::names::Notice;

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpen {
    /// Nobody goes by this name.
    NoSuchName,
    /// Whoever does, does not want it.
    Refused,
}

/// A client at a service's door.
pub(super) enum Knock {
    Near(PipeEnd<Parcel, Parcel>),
    Far(ChannelId, CoreId),
}

impl Desk {
    /// Asks for an operation; its ticket, for [`Desk::outcome`].
    pub fn ask(&self, op: Op) -> Ticket {
        self.monitor(|monitor| monitor.request(op))
    }

    /// How it went. One that another has asked for, before this kernel took over its core, is waited for as well.
    pub async fn outcome(&self, ticket: Ticket) -> Result<(), Refusal> {
        poll_fn(|context| self.poll_outcome(ticket, context)).await
    }

    /// The same for several at once: whether it went, and if not, the task of this context is woken when it does.
    pub fn poll_outcome(&self, ticket: Ticket, context: &Context<'_>) -> Poll<Result<(), Refusal>> {
        let mut outcomes = self.outcomes.borrow_mut();
        match outcomes.get(&ticket) {
            Some(&Outcome::Known(result)) => {
                outcomes.remove(&ticket);
                Poll::Ready(result)
            }
            Some(Outcome::Awaited(Some(waker))) if waker.will_wake(context.waker()) => Poll::Pending,
            _ => {
                outcomes.insert(ticket, Outcome::Awaited(Some(context.waker().clone())));
                Poll::Pending
            }
        }
    }

    /// Has an operation carried out.
    pub async fn request(&self, op: Op) -> Result<(), Refusal> {
        let ticket = self.ask(op);
        self.outcome(ticket).await
    }

    /// The next epoch, or the next core that broke the rules. For one task.
    pub async fn event(&self) -> News {
        self.events.next().await
    }

    /// Opens a channel to the service of this name, wherever it is.
    pub async fn open(self: &Rc<Self>, name: &str) -> Result<Wire, NotOpen> {
        let wire = self.begin_to_open(name)?;
        if wire.opened().await { Ok(wire) } else { Err(NotOpen::Refused) }
    }

    /// The same; but that it is open is yet to be waited for.
    pub fn begin_to_open(self: &Rc<Self>, name: &str) -> Result<Wire, NotOpen> {
        let place = self.look(|monitor| monitor.system().names.look_up(name)).ok_or(NotOpen::NoSuchName)?;
        if place.core == self.look(|monitor| monitor.core()) {
            let (client, server) = pipe(&self.ledger, WINDOW as usize);
            let listeners = self.listeners.borrow();
            listeners.get(&place.service).ok_or(NotOpen::Refused)?.push(Knock::Near(server));
            return Ok(Wire::near(self.clone(), client));
        }
        let number = self.monitor(|monitor| monitor.open(name)).ok_or(NotOpen::NoSuchName)?;
        Ok(Wire::far(self.clone(), number, place.core, self.know(number), false))
    }

    /// The wire of a channel that was open before this kernel took over its core; none if there is no such channel.
    pub fn resume(self: &Rc<Self>, number: ChannelId, serves: bool) -> Option<Wire> {
        let (peer, opened) = self.look(|monitor| monitor.channel_peer(number))?;
        let far = self.know(number);
        far.opened.set(opened);
        Some(Wire::far(self.clone(), number, peer, far, serves))
    }

    /// Offers a service: clients may open channels to it until the listener falls.
    pub fn offer(self: &Rc<Self>, service: u64) -> Listener {
        let queue = Rc::new(Queue::default());
        self.listeners.borrow_mut().insert(service, queue.clone());
        self.monitor(|monitor| monitor.offer(service, true));
        Listener { desk: self.clone(), service, queue }
    }

    /// Watches names that begin like this. Those that are there come at once.
    pub fn watch(self: &Rc<Self>, beginning: &str) -> Watch {
        self.watch_on(beginning, None)
    }

    /// The same, or the watch of this number, if it went over from another kernel.
    pub fn watch_on(self: &Rc<Self>, beginning: &str, number: Option<u32>) -> Watch {
        let queue = Rc::new(Queue::default());
        let number = self.ledger.lend(self.account(), || {
            let mut monitor = self.monitor.borrow_mut();
            let names = &mut monitor.system_mut().names;
            let number =
                number.filter(|&number| names.is_watched(number)).unwrap_or_else(|| names.watch(beginning));
            drop(monitor);
            self.watches.borrow_mut().insert(number, queue.clone());
            self.hand_out();
            number
        });
        Watch { desk: self.clone(), number, queue }
    }
}

/// A service that is offered.
pub struct Listener {
    desk: Rc<Desk>,
    service: u64,
    queue: Rc<Queue<Knock>>,
}

impl Listener {
    /// The next client's wire.
    pub async fn accept(&self) -> Wire {
        self.wire(self.queue.next().await)
    }

    fn wire(&self, knock: Knock) -> Wire {
        match knock {
            Knock::Near(end) => Wire::near(self.desk.clone(), end),
            Knock::Far(number, peer) => {
                let far = self.desk.know(number);
                Wire::far(self.desk.clone(), number, peer, far, true)
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.desk.listeners.borrow_mut().remove(&self.service);
        self.desk.monitor(|monitor| monitor.offer(self.service, false));
        // Who still stands at the door is sent away.
        while let Some(knock) = self.queue.pop() {
            drop(self.wire(knock));
        }
    }
}

/// Names as they come and go: a stream without an end.
pub struct Watch {
    desk: Rc<Desk>,
    number: u32,
    queue: Rc<Queue<Notice>>,
}

impl Watch {
    /// Its number, for [`Desk::watch_on`].
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The next name that came or went.
    pub async fn next(&self) -> Notice {
        self.queue.next().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.desk.watches.borrow_mut().remove(&self.number);
        self.desk.monitor(|monitor| monitor.system_mut().names.unwatch(self.number));
    }
}
