//! One task waits, and any other lets it go on.

use core::cell::Cell;
use core::fmt;
use core::task::{Context, Waker};

/// What a task waits at. One at a time: another that waits takes the place of the first.
#[derive(Default)]
pub struct Signal(Cell<Option<Waker>>);

impl Signal {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// The task of this context is woken by the next [`Signal::notify`].
    pub fn wait(&self, context: &Context<'_>) {
        let waker = match self.0.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.0.set(Some(waker));
    }

    /// Wakes who waits.
    pub fn notify(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Signal")
    }
}
