//! Pages in tasks' hands: memory that goes from task to task by changing its owner, on one core or between two.
//!
//! ```text
//! type Sum = Send<Page, Recv<Page, End>>;
//!
//! let page = wire.page().await?;                      // a free one, that the other side can reach
//! page.with(|words| ...)?;                            // write
//! let session = talk::send(session, page).await?;     // it is theirs: `page` cannot be named any more
//! let (page, session) = talk::receive(session).await?;
//! ```
//!
//! That a page is used by one side at a time is the compiler's to see on this side, and the monitors' books on the other
//! ([`crate::monitor::pages`]). A page that falls is free again, wherever it fell.

use alloc::rc::Rc;
use core::sync::atomic::{AtomicU64, Ordering};

use io_rings::PeerBroken;

use super::desk::Desk;
use crate::agreement::CoreId;
use crate::mesh::WORDS;
use crate::monitor::channels::NotNow;
use crate::monitor::pages::{Held, Note};

/// A page in this task's hands.
pub struct Page {
    desk: Rc<Desk>,
    /// None once it is somebody else's.
    held: Option<Held>,
    /// What goes along with it, in the same line.
    pub note: Note,
}

impl Page {
    pub(super) fn new(desk: Rc<Desk>, held: Held, note: Note) -> Self {
        Self { desk, held: Some(held), note }
    }

    /// Works on its words. The other side can write to them at any time, if it breaks the rules: what is to be checked and
    /// then used is loaded once. Fails if the life of the other side has ended, and the page with it.
    pub fn with<T>(&self, work: impl FnOnce(&[AtomicU64; WORDS]) -> T) -> Result<T, PeerBroken> {
        let memory = self.held.and_then(|held| self.desk.memory(held)).ok_or(PeerBroken)?;
        Ok(work(memory.words()))
    }

    /// Hands it over by `send`, after which it is no more this task's.
    pub(super) fn hand_over<E>(
        mut self,
        send: impl FnOnce(Held, &Note) -> Result<(), E>,
    ) -> Result<(), (E, Self)> {
        let Some(held) = self.held else { return Ok(()) };
        match send(held, &self.note) {
            Ok(()) => {
                self.held = None;
                Ok(())
            }
            Err(error) => Err((error, self)),
        }
    }

    /// Itself if that core can reach it, else a page with the same words that it can. `Full`: none is free. `Closed`: the life
    /// that it came from has ended, and with it what was in it.
    pub(super) fn within_reach_of(self, peer: CoreId) -> Result<Self, (NotNow, Self)> {
        if self.held.is_some_and(|held| held.peer == peer) {
            return Ok(self);
        }
        let Some(mut there) = self.desk.free_page(peer) else { return Err((NotNow::Full, self)) };
        let copied = self.with(|from| {
            there.with(|to| {
                to.iter()
                    .zip(from)
                    .for_each(|(to, from)| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed));
            })
        });
        // Else what lay there before would go, which nobody has sent.
        let Ok(Ok(())) = copied else { return Err((NotNow::Closed, self)) };
        there.note = self.note;
        Ok(there)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.desk.monitor(|monitor| monitor.give_back(held));
        }
    }
}
