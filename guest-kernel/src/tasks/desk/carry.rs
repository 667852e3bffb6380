//! A desk that goes over to another kernel: the monitor, and all that it has told and nobody has taken yet.

use alloc::rc::Rc;
use alloc::vec::Vec;

use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use super::doors::Knock;
use super::{Desk, Outcome};
use crate::agreement::CoreId;
use crate::handover::{Carry, Refused};
use crate::monitor::wire::Life;
use crate::monitor::{Monitor, News};
use crate::tasks::Spawner;

/// The most lines that are taken over.
const MOST: usize = 1 << 16;

/// What goes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    monitor: Monitor,
    inbox: Vec<(usize, Message)>,
}

impl Carry for Desk {
    type Carried = Carried;

    fn carry(&self) -> Carried {
        let mut news = Vec::new();
        for (&ticket, outcome) in self.outcomes.borrow().iter() {
            match *outcome {
                Outcome::Known(Ok(())) => news.push(News::Done(ticket)),
                Outcome::Known(Err(refusal)) => news.push(News::Refused(ticket, refusal)),
                Outcome::Awaited(_) => {}
            }
        }
        for (&service, listener) in self.listeners.borrow().iter() {
            listener.each(|knock| match *knock {
                Knock::Far(number, peer) => news.push(News::Accepted(service, number, peer)),
                // Who is on the same core goes over as well, and knocks again.
                Knock::Near(_) => {}
            });
        }
        self.events.each(|event| news.push(event.clone()));
        let mut notices = Vec::new();
        for watch in self.watches.borrow().values() {
            watch.each(|notice| notices.push(notice.clone()));
        }
        let mut monitor = self.monitor.borrow().clone();
        monitor.take_back(news, notices);
        Carried { monitor, inbox: self.inbox.borrow().iter().cloned().collect() }
    }
}

impl Desk {
    /// Goes on where another desk stood, that of core `me` in this life among so many. It tells its tasks nothing before
    /// [`Desk::release`], when all of them are there to hear it.
    pub fn take_over(
        carried: Carried,
        (me, life, cores): (CoreId, Life, usize),
        spawner: &Spawner,
    ) -> Result<Rc<Self>, Refused> {
        let Carried { monitor, inbox } = carried;
        if inbox.len() > MOST || !monitor.is_sound(me, life, cores) {
            return Err(Refused::Monitor);
        }
        let desk = Self::open_with(monitor, spawner).map_err(|_| Refused::Crowded)?;
        desk.held.set(true);
        desk.inbox.borrow_mut().extend(inbox);
        Ok(desk)
    }

    /// All tasks are there.
    pub fn release(&self) {
        self.held.set(false);
        self.monitor.borrow_mut().reclaim_pages();
        self.hand_out();
    }
}
