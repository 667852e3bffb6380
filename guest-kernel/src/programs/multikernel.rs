//! A member of the multikernel: a monitor, and a console at which it can be told what to ask of the others.
//!
//! ```text
//! register NAME      two phases: the name is this core's from now on
//! unregister NAME    two phases
//! names              what this core's replica knows; no message
//! retype BASE SIZE   two phases: makes a frame of a part of the machine's memory
//! copy CORE [BASE]   two phases: that core may use the frame that begins there as well, or all memory
//! delete BASE        two phases: this core has that frame no longer
//! revoke [BASE]      two phases: nobody else has it, nor anything that was made of it
//! map BASE           this core's page tables have it from now on; no message
//! unmap BASE         one phase: no core's page tables have it any more
//! peek BASE          what the frame's first word is here; where it is not mapped, a page fault
//! poke BASE WORD     writes it
//! frames             all frames, and who has them; no message
//! bench 1pc COUNT [DEPTH]   so many of them, DEPTH at a time; one after the other where it is left out
//! bench 2pc COUNT [DEPTH]   the same of names that come and go
//! serve NAME         a server of that name begins: it answers calls
//! call NAME COUNT DEPTH   a client calls it so often, so many calls in flight
//! call NAME COUNT DEPTH pages   the same, each with a page that changes hands and comes back
//! counts             what this monitor has done so far
//! tasks              whose time it was
//! replace [FAILURE]  another kernel takes over this core; or fails: read, mesh, monitor, built, damaged
//! leave, join        the members
//! panic              ends in a panic, as a kernel that has gone wrong and noticed
//! hang               does nothing any more, as a kernel that has gone wrong: for its watchdog to find
//! ```
//!
//! Each line is answered with one that begins alike, in the order in which they were typed. The ticks of `counts` are those
//! spent in the monitor, whoever paid for them: lines taken in, things decided, lines sent.
//!
//! All of it are [tasks](crate::tasks): the monitor, the console (`console.rs`), the watch of names, and the servers and
//! clients (`service.rs`). What a task has to remember while it waits is in [`State`], and not in the task alone.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use abi::control::succession::Failure;
use io_rings::urpc::Message;

use crate::agreement::{CoreId, Topology};
use crate::handover::pack;
use crate::kernel::{Kernel, Pace, Program, Step};
use crate::mesh::Mesh;
use crate::monitor::{Monitor, News};
use crate::platform::Platform;
use crate::replica::System;
use crate::replica::capabilities::{CapId, Kind};
use crate::tasks::desk::{Desk, Watch};
use crate::tasks::{Crowded, Signal, Spawner, Tasks, tell};

#[cfg(feature = "bare")]
pub mod boot;
mod carry;
mod console;
pub mod frames;
mod service;
mod state;

pub use carry::{Carried, Core, Stage};
use frames::Pages;
pub use state::State;

/// The machine's memory, as far as the multikernel shares it out.
const MEMORY: CapId = CapId::root(1);
/// How much.
const MEMORY_BYTES: u64 = 1 << 30;
/// Names that begin like this are told of as they come and go.
const WATCHED: &str = "service/";
/// Lines of the console that may wait for their turn.
const LINES: usize = 32;

/// What the tasks of one core share.
struct App {
    desk: Rc<Desk>,
    spawner: Spawner,
    /// What is to be printed.
    out: RefCell<Vec<u8>>,
    /// What was typed.
    lines: RefCell<VecDeque<String>>,
    typed: Signal,
    state: RefCell<State>,
    /// This core's page tables.
    pages: Rc<dyn Pages>,
    /// What goes on within this core comes to its end: another kernel is to take over.
    drains: Cell<bool>,
    /// Another kernel is to take over, and how it is to fail.
    successor: Cell<Option<carry::Fails>>,
}

impl App {
    fn say(&self, what: &str) {
        self.out.borrow_mut().extend_from_slice(format!("multikernel: {what}\n").as_bytes());
    }

    fn core(&self) -> CoreId {
        self.desk.look(Monitor::core)
    }

    /// Tells of epochs and of cores that broke the rules.
    async fn tell_events(self: Rc<Self>) {
        loop {
            match self.desk.event().await {
                News::Epoch(epoch, members) => self.say(&format!("epoch {epoch}: {members:?}")),
                News::Silenced(core) => self.say(&format!("core {core} broke the rules")),
                News::LeftOut(core) => self.say(&format!("core {core} does not answer, and is left out")),
                News::Expelled => self.say("left out by the others; comes in anew"),
                _ => {}
            }
        }
    }

    /// Tells of names as they come and go.
    async fn tell_names(self: Rc<Self>, watch: Watch) {
        loop {
            let notice = watch.next().await;
            match notice.place {
                Some(place) => self.say(&format!("{} is on core {}", notice.name, place.core)),
                None => self.say(&format!("{} is gone", notice.name)),
            }
        }
    }
}

/// The program.
pub struct Multikernel {
    tasks: Tasks,
    app: Rc<App>,
    /// Something waits for room in the mesh.
    waits: Cell<bool>,
    /// While it takes leave to suspend itself: whether it was a member, and so wants to be one again.
    comes_back: Option<bool>,
    /// When the monitor looks again whether the others answer.
    next_look: u64,
    /// It has halted since it looked.
    rested: bool,
}

impl Multikernel {
    /// On this monitor, with [`Multikernel::replica`]; `clock` is what time is counted by.
    pub fn new(
        monitor: Monitor,
        clock: impl Fn() -> u64 + 'static,
        pages: Rc<dyn Pages>,
    ) -> Result<Self, Crowded> {
        let tasks = Tasks::new(clock);
        let desk = Desk::open_with(monitor, tasks.spawner())?;
        Self::with_state(tasks, desk, State::default(), pages)
    }

    /// With tasks that go on where they stood in `state`.
    fn with_state(
        tasks: Tasks,
        desk: Rc<Desk>,
        mut state: State,
        pages: Rc<dyn Pages>,
    ) -> Result<Self, Crowded> {
        let spawner = tasks.spawner().clone();
        let watch = desk.watch_on(WATCHED, state.watch);
        state.watch = Some(watch.number());
        let lines = core::mem::take(&mut state.lines).into();
        let app = Rc::new(App {
            desk,
            spawner,
            out: RefCell::default(),
            lines: RefCell::new(lines),
            typed: Signal::new(),
            state: RefCell::new(state),
            pages,
            drains: Cell::new(false),
            successor: Cell::new(None),
        });
        app.spawner.spawn("events", app.clone().tell_events())?;
        app.spawner.spawn("names", app.clone().tell_names(watch))?;
        app.spawner.spawn("console", app.clone().console())?;
        app.resume_services()?;
        Ok(Self { tasks, app, waits: Cell::new(false), comes_back: None, next_look: 0, rested: false })
    }

    /// What the first member has; the others are given theirs as they come in.
    pub fn replica(me: CoreId) -> System {
        let mut system = System::new(me);
        system.caps.add_root(MEMORY, Kind::Ram, 0, MEMORY_BYTES, me);
        system
    }

    /// Of a guest in this mesh.
    pub fn in_mesh(
        mesh: &Mesh<'static>,
        topology: Topology,
        clock: impl Fn() -> u64 + 'static,
        pages: Rc<dyn Pages>,
    ) -> Result<Self, Crowded> {
        let program = Self::new(Monitor::in_mesh(mesh, Self::replica, topology), clock, pages)?;
        program.app.desk.reach(mesh);
        Ok(program)
    }

    /// Denounces members that owe an answer and say nothing for so many ticks; with 0 it waits for ever.
    pub fn set_patience(&mut self, ticks: u64) {
        self.app.desk.monitor(|monitor| monitor.set_patience(ticks));
        self.next_look = 0;
    }

    /// Does what has to be done before others are told that it is, and tells them; whether something waits for room.
    fn flush<P: Platform>(&self, kernel: &mut Kernel<P>) -> bool {
        self.app.take_out();
        self.app.desk.flush(|slot, line| kernel.send(slot, line))
    }

    /// The monitor, to look at.
    pub fn look<T>(&self, look: impl FnOnce(&Monitor) -> T) -> T {
        self.app.desk.look(look)
    }

    /// Whether a bench runs, or waits for its turn.
    pub fn is_measuring(&self) -> bool {
        !self.is_done()
    }

    /// Nothing that was typed is left to do.
    pub fn is_done(&self) -> bool {
        self.app.lines.borrow().is_empty() && self.app.state.borrow().is_done()
    }
}

impl<P: Platform> Program<P> for Multikernel {
    fn step(&mut self, kernel: &mut Kernel<P>) -> Step {
        let now = kernel.platform.now();
        if core::mem::take(&mut self.rested) {
            self.app.desk.monitor(|monitor| monitor.rested(now));
        }
        let looked = now >= self.next_look;
        if looked {
            self.next_look = self.app.desk.tick(now);
        }
        let ran = self.tasks.run();
        if ran || looked || self.waits.get() {
            self.waits.set(self.flush(kernel));
        }
        if !self.app.out.borrow().is_empty() {
            kernel.platform.console_write(&core::mem::take(&mut *self.app.out.borrow_mut()));
        }
        if !self.tasks.is_idle() {
            return Step::Busy;
        }
        let retry = self.waits.get().then(|| kernel.after(1));
        // One that polls comes by anyway.
        let halts = kernel.pace != Pace::Poll;
        let look = (halts && self.look(Monitor::is_waiting)).then_some(self.next_look);
        match [retry, look, self.tasks.deadline()].into_iter().flatten().min() {
            Some(tick) => Step::IdleUntil(tick),
            None => Step::Idle,
        }
    }

    fn message(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        let ledger = self.tasks.spawner().ledger();
        if !super::answer::manners(kernel, slot, message) && !tell::accounts(kernel, ledger, slot, message) {
            self.app.desk.line(slot, message);
        }
    }

    fn peer(&mut self, _: &mut Kernel<P>, slot: usize, up: bool) {
        self.app.desk.peer(slot, up);
    }

    fn line(&mut self, kernel: &mut Kernel<P>, line: &str) {
        match line.trim() {
            "panic" => panic!("asked to"),
            "hang" => loop {
                core::hint::spin_loop();
            },
            _ => {}
        }
        let mut lines = self.app.lines.borrow_mut();
        if lines.len() >= LINES {
            kernel.platform.console_write(b"multikernel: busy\n");
            return;
        }
        lines.push_back(line.to_string());
        self.app.typed.notify();
    }

    fn suspend(&mut self, kernel: &mut Kernel<P>) -> bool {
        let desk = &self.app.desk;
        let members = desk.look(Monitor::epoch).map(|(_, members)| members);
        if self.comes_back.is_none() {
            self.comes_back = Some(members.is_some());
            desk.monitor(|monitor| monitor.want_in(false));
        }
        let waits = self.flush(kernel);
        // The last member stays one: nobody misses it.
        let is_alone = members.is_none_or(|members| members.len() == 1);
        is_alone && !waits && self.tasks.is_idle()
    }

    fn hand_over(&mut self, kernel: &mut Kernel<P>) -> Option<Vec<u8>> {
        self.drain(true);
        if self.is_drained() { Some(pack(&self.carry(kernel)?)) } else { None }
    }

    fn not_replaced(&mut self, _: &mut Kernel<P>, why: Option<Failure>) {
        self.drain(false);
        match why {
            Some(why) => self.app.say(&format!("the new kernel {}; the old one goes on", why.text())),
            None => self.app.say("nobody took over; the old kernel goes on"),
        }
    }

    fn resumed(&mut self, _: &mut Kernel<P>) {
        self.app.say("resumed");
        if self.comes_back.take().unwrap_or(false) {
            self.app.desk.monitor(|monitor| monitor.want_in(true));
            self.waits.set(true);
        }
    }

    fn may_sleep(&mut self) -> bool {
        self.tasks.is_idle()
    }

    fn awake(&mut self) {
        self.rested = true;
    }
}

#[cfg(test)]
mod replaces;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
