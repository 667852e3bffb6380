//! A machine of thin air for host tests: domains whose event channels are joined, a clock that moves by hand, and a
//! domain 0 that tests play by themselves.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use abi::control::succession::Failure;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;

use super::{Handed, Platform};
use crate::events::SharedInfo;

/// Where one end of an event channel leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unbound { remote: DomId },
    Joined { remote: DomId, port: Port },
}

/// What the domains share: the part that a hypervisor plays.
#[derive(Default)]
pub struct Switch {
    ends: RefCell<BTreeMap<(DomId, Port), End>>,
    pages: RefCell<BTreeMap<DomId, Rc<SharedInfo>>>,
    clock: Cell<u64>,
    /// Events that were sent so far.
    pub sent: Cell<u64>,
}

impl Switch {
    /// A machine without domains.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Adds a domain.
    pub fn domain(self: &Rc<Self>, id: DomId) -> Fake {
        let shared = Rc::new(SharedInfo::new());
        self.pages.borrow_mut().insert(id, shared.clone());
        Fake {
            id,
            shared,
            switch: self.clone(),
            printed: RefCell::default(),
            typed: RefCell::default(),
            halts: Cell::new(0),
            fed: RefCell::default(),
            suspended: Cell::new(0),
            handed: RefCell::default(),
            deadline: Cell::new(None),
        }
    }

    /// Makes a port in `domain` that `remote` may bind to, as domain 0 does for a guest.
    pub fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Port {
        let mut ends = self.ends.borrow_mut();
        let port = (1..).find(|&port| !ends.contains_key(&(domain, port))).unwrap();
        ends.insert((domain, port), End::Unbound { remote });
        port
    }

    /// Lets time pass.
    pub fn advance(&self, ticks: u64) {
        self.clock.set(self.clock.get() + ticks);
    }
}

/// One domain's platform.
pub struct Fake {
    id: DomId,
    shared: Rc<SharedInfo>,
    switch: Rc<Switch>,
    /// What it printed.
    pub printed: RefCell<Vec<u8>>,
    /// What it has still to read.
    pub typed: RefCell<VecDeque<u8>>,
    /// How often it halted.
    pub halts: Cell<u64>,
    /// When its watchdog was fed, which, and for how long.
    pub fed: RefCell<Vec<(u64, u32, u32)>>,
    /// How often it suspended itself, and was resumed at once.
    pub suspended: Cell<u64>,
    /// What it has handed over; it goes on each time, for the same reason.
    pub handed: RefCell<Vec<Vec<u8>>>,
    /// Its timer.
    pub deadline: Cell<Option<u64>>,
}

impl Fake {
    /// The machine it is in.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// What [`Platform::now`] says, for those who have no platform at hand.
    pub fn clock(&self) -> impl Fn() -> u64 + 'static {
        let switch = self.switch.clone();
        move || switch.clock.get()
    }

    /// An event comes at one of its ports.
    pub fn deliver(&self, port: Port) {
        self.shared.send(port);
    }
}

impl Handed for Fake {
    fn same_core(&self) -> Self {
        Self {
            id: self.id,
            shared: self.shared.clone(),
            switch: self.switch.clone(),
            printed: RefCell::default(),
            typed: RefCell::default(),
            halts: Cell::new(0),
            fed: RefCell::default(),
            suspended: Cell::new(0),
            handed: RefCell::default(),
            deadline: Cell::new(None),
        }
    }
}

impl Platform for Fake {
    fn now(&self) -> u64 {
        self.switch.clock.get()
    }

    fn ticks_per_millisecond(&self) -> u64 {
        1000
    }

    fn set_deadline(&self, tick: Option<u64>) {
        self.deadline.set(tick);
    }

    fn take_events(&self, each: &mut dyn FnMut(Port)) {
        self.shared.take(each);
    }

    fn take_interrupts(&self, _: &mut dyn FnMut(u8)) {}

    fn let_interrupts_in(&self) {}

    fn halt_if(&self, may_halt: &mut dyn FnMut() -> bool) {
        if may_halt() && !self.shared.pending() {
            self.halts.set(self.halts.get() + 1);
        }
    }

    fn send_event(&self, port: Port) -> Result<(), Errno> {
        self.switch.sent.set(self.switch.sent.get() + 1);
        match self.switch.ends.borrow().get(&(self.id, port)) {
            Some(End::Joined { remote, port }) => {
                if let Some(page) = self.switch.pages.borrow().get(remote) {
                    page.send(*port);
                }
                Ok(())
            }
            Some(End::Unbound { .. }) => Ok(()),
            None => Err(Errno::EINVAL),
        }
    }

    fn alloc_unbound(&self, domain: DomId) -> Result<Port, Errno> {
        Ok(self.switch.alloc_unbound(self.id, domain))
    }

    fn bind_interdomain(&self, domain: DomId, remote_port: Port) -> Result<Port, Errno> {
        let there = (domain, remote_port);
        if self.switch.ends.borrow().get(&there) != Some(&(End::Unbound { remote: self.id })) {
            return Err(Errno::EINVAL);
        }
        let port = self.switch.alloc_unbound(self.id, domain);
        let mut ends = self.switch.ends.borrow_mut();
        ends.insert((self.id, port), End::Joined { remote: domain, port: remote_port });
        ends.insert(there, End::Joined { remote: self.id, port });
        drop(ends);
        // As Xen does: whatever was sent while unbound is not lost.
        self.shared.send(port);
        Ok(port)
    }

    fn close(&self, port: Port) {
        let mut ends = self.switch.ends.borrow_mut();
        if let Some(End::Joined { remote, port }) = ends.remove(&(self.id, port)) {
            ends.insert((remote, port), End::Unbound { remote: self.id });
        }
        self.shared.clear(port);
    }

    fn console_write(&self, bytes: &[u8]) {
        self.printed.borrow_mut().extend_from_slice(bytes);
    }

    fn console_read(&self, into: &mut [u8]) -> usize {
        let mut typed = self.typed.borrow_mut();
        let count = typed.len().min(into.len());
        for (byte, key) in into.iter_mut().zip(typed.drain(..count)) {
            *byte = key;
        }
        count
    }

    fn console_flush(&self) -> bool {
        false
    }

    fn watchdog(&self, id: u32, seconds: u32) -> Result<u32, Errno> {
        self.fed.borrow_mut().push((self.now(), id, seconds));
        Ok(if id == 0 { 1 } else { 0 })
    }

    fn suspend(&self) {
        self.suspended.set(self.suspended.get() + 1);
    }

    fn hand_over(&self, package: &[u8]) -> Result<Failure, Errno> {
        self.handed.borrow_mut().push(package.to_vec());
        Ok(Failure::Panicked)
    }

    fn shutdown(&self, reason: u32) -> ! {
        panic!("domain {} shut down with reason {reason}", self.id);
    }
}
