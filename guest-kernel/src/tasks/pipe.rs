//! A pipe between two tasks of one core: values move by ownership, so a buffer that was sent is its sender's no more.
//!
//! One side is the client's and one the server's. What the server takes out it works on at the cost of who put it in,
//! until it has put its answer in.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::task::Context;

use io_rings::PeerBroken;
use io_rings::session::{Failed, Put, Take};

use super::ledger::{Account, Ledger};
use super::{Signal, talk::Wait};

/// One direction.
#[derive(Debug)]
struct Way<T> {
    values: RefCell<VecDeque<(T, Option<Account>)>>,
    room: usize,
    /// An end is gone.
    closed: Cell<bool>,
    /// Where its reader waits.
    filled: Signal,
    /// Where its writer waits.
    emptied: Signal,
}

impl<T> Way<T> {
    fn new(room: usize) -> Rc<Self> {
        Rc::new(Self {
            values: RefCell::new(VecDeque::with_capacity(room)),
            room,
            closed: Cell::new(false),
            filled: Signal::new(),
            emptied: Signal::new(),
        })
    }

    fn close(&self) {
        self.closed.set(true);
        self.filled.notify();
        self.emptied.notify();
    }
}

/// An end from which `Out` is sent and `In` received. To let it fall closes the pipe; what is in it can still be read.
pub struct PipeEnd<Out, In> {
    out: Rc<Way<Out>>,
    back: Rc<Way<In>>,
    ledger: Rc<Ledger>,
    serves: bool,
}

/// A pipe with room for so many values each way: the client's end, and the server's.
pub fn pipe<T, U>(ledger: &Rc<Ledger>, room: usize) -> (PipeEnd<T, U>, PipeEnd<U, T>) {
    let (there, back) = (Way::new(room.max(1)), Way::new(room.max(1)));
    let client = PipeEnd { out: there.clone(), back: back.clone(), ledger: ledger.clone(), serves: false };
    (client, PipeEnd { out: back, back: there, ledger: ledger.clone(), serves: true })
}

impl<Out, In> Put<Out> for PipeEnd<Out, In> {
    fn put(&mut self, value: Out) -> Result<(), Failed<Out>> {
        if self.out.closed.get() {
            return Err(Failed::PeerBroken);
        }
        let mut values = self.out.values.borrow_mut();
        if values.len() >= self.out.room {
            return Err(Failed::NotYet(value));
        }
        values.push_back((value, self.ledger.payer()));
        self.ledger.sent();
        self.out.filled.notify();
        if self.serves {
            self.ledger.serve_self();
        }
        Ok(())
    }
}

impl<Out, In> Take<In> for PipeEnd<Out, In> {
    fn take(&mut self) -> Result<Option<In>, PeerBroken> {
        let Some((value, payer)) = self.back.values.borrow_mut().pop_front() else {
            return if self.back.closed.get() { Err(PeerBroken) } else { Ok(None) };
        };
        self.ledger.received();
        self.back.emptied.notify();
        if let Some(payer) = payer.filter(|_| self.serves) {
            self.ledger.serve(payer);
        }
        Ok(Some(value))
    }
}

impl<Out, In> Wait for PipeEnd<Out, In> {
    fn wait(&self, context: &Context<'_>) {
        self.back.filled.wait(context);
        self.out.emptied.wait(context);
    }
}

impl<Out, In> Drop for PipeEnd<Out, In> {
    fn drop(&mut self) {
        self.out.close();
        self.back.close();
    }
}
