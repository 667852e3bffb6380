//! What waits for one task.

use alloc::collections::VecDeque;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use crate::tasks::Signal;

#[derive(Debug)]
pub struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    filled: Signal,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: RefCell::default(), filled: Signal::new() }
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        self.filled.notify();
    }

    /// Shows what waits, and leaves it there.
    pub fn each(&self, each: impl FnMut(&T)) {
        self.items.borrow().iter().for_each(each);
    }

    pub fn pop(&self) -> Option<T> {
        self.items.borrow_mut().pop_front()
    }

    pub async fn next(&self) -> T {
        poll_fn(|context| match self.pop() {
            Some(item) => Poll::Ready(item),
            None => {
                self.filled.wait(context);
                Poll::Pending
            }
        })
        .await
    }
}
