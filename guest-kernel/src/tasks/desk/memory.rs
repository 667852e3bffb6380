//! The memory of the pages that change hands, and who waits for one.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use abi::mesh::PAGES;
use io_rings::PeerBroken;

use super::super::pages::Page;
use super::Desk;
use crate::agreement::CoreId;
use crate::mesh::{Mesh, SharedPage, Window};
use crate::monitor::Monitor;
use crate::monitor::pages::{Held, Note};

impl Desk {
    /// Has the pages of this mesh. A desk that has none has pages for its own core alone.
    pub fn reach(&self, mesh: &Mesh<'static>) {
        // A second mesh there is not.
        let _ = self.windows.set((0..mesh.slots()).map(|slot| mesh.window(slot)).collect());
    }

    /// A page of what this core shares with that one, or with itself, if one is free.
    pub fn free_page(self: &Rc<Self>, peer: CoreId) -> Option<Page> {
        let held = self.reaches(peer).then(|| self.monitor(|monitor| monitor.take_page(peer)))??;
        Some(Page::new(self.clone(), held, Note::default()))
    }

    /// The same as soon as one is free. Fails if there is no way to that core.
    pub async fn page(self: &Rc<Self>, peer: CoreId) -> Result<Page, PeerBroken> {
        if !self.reaches(peer) {
            return Err(PeerBroken);
        }
        poll_fn(|context| match self.free_page(peer) {
            Some(page) => Poll::Ready(Ok(page)),
            None => {
                self.wanted.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn reaches(&self, peer: CoreId) -> bool {
        peer == self.look(Monitor::core) || self.window(peer).is_some()
    }

    fn window(&self, peer: CoreId) -> Option<&'static Window> {
        *self.windows.get()?.get(usize::from(peer))?
    }

    /// The words of a page, while it is in this core's hands.
    pub(in crate::tasks) fn memory(&self, page: Held) -> Option<&SharedPage> {
        if !self.look(|monitor| monitor.holds(page)) {
            return None;
        }
        let pages = match self.window(page.peer) {
            Some(window) => &window.pages,
            // What is shared with nobody else is shared with itself.
            None => self.own.get_or_init(|| Box::new([const { SharedPage::new() }; PAGES])),
        };
        pages.get(usize::from(page.number))
    }

    /// Some page is free: whoever waits for one looks again.
    pub(super) fn tell_freed(&self) {
        core::mem::take(&mut *self.wanted.borrow_mut()).into_iter().for_each(Waker::wake);
    }
}
