//! The event loop: one stack, one thing at a time, and a halt when there is nothing to do.
//!
//! A round takes what interrupts and events left behind, hands each mesh message and console line to the program, and
//! lets the program do a bounded step of its own. After rounds without news the core goes to sleep, in an order that
//! loses no wake-up: interrupts are off already; every receiver asks its peer for an event and looks once more; only
//! then are interrupts let in and the core halted, in one step.
//!
//! Xenstore ([`store`]) is looked at only when its event came, so a kernel that has nothing to do with it pays nothing.

use alloc::string::String;
use alloc::vec::Vec;

use abi::control::succession::{Failure, HANDED_OVER};
use abi::xen::event_channel::Port;
use abi::xen::sched::reason;
use io_rings::urpc::Message;
use serde::{Deserialize, Serialize};

use crate::mesh::{Mesh, News, NotSent};
use crate::platform::Platform;
use crate::xenstore::client;

mod probe;
pub mod store;
pub mod watchdog;

use probe::Probe;
use store::Store;
use watchdog::Watchdog;

/// The longest line that is taken from the console.
const LINE_BYTES: usize = 256;
/// How often domain 0 is told the mesh's counts, where they change.
const REPORT_MILLISECONDS: u64 = 100;
/// How long to sleep while something waits for room, of which no event tells.
const RETRY_MILLISECONDS: u64 = 1;
/// Messages taken in one round, so that the program's own step is not starved.
const MESSAGES_PER_ROUND: usize = 32;

/// What a program wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: come back at once.
    Busy,
    /// Nothing until something happens.
    Idle,
    /// Nothing until something happens, or this tick.
    IdleUntil(u64),
    /// The kernel shall end, with this [reason](abi::xen::sched::reason).
    Stop(u32),
}

/// What to do when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Keep looking: peers need send no events, and nobody else uses the core.
    Poll,
    /// Keep looking for this many rounds, then halt.
    Sleep(u32),
}

impl Pace {
    /// `pace=poll` or `pace=sleep`, the latter with a short while of polling.
    pub fn from_option(value: Option<&str>) -> Self {
        match value {
            Some("poll") => Pace::Poll,
            _ => Pace::Sleep(64),
        }
    }
}

/// A program on the kernel. Each method does a bounded piece of work and returns.
pub trait Program<P: Platform> {
    /// Once, before all else.
    fn start(&mut self, kernel: &mut Kernel<P>) {
        let _ = kernel;
    }

    /// Once a round.
    fn step(&mut self, kernel: &mut Kernel<P>) -> Step {
        let _ = kernel;
        Step::Idle
    }

    /// An event came at a port; those of console and mesh as well, which need no answer.
    fn event(&mut self, kernel: &mut Kernel<P>, port: Port) {
        let _ = (kernel, port);
    }

    /// A device interrupted at this vector.
    fn interrupt(&mut self, kernel: &mut Kernel<P>, vector: u8) {
        let _ = (kernel, vector);
    }

    /// A peer, or domain 0 (slot 0), sent a message.
    fn message(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        let _ = (kernel, slot, message);
    }

    /// The peer in `slot` came (true) or went, the latter for lying too.
    fn peer(&mut self, kernel: &mut Kernel<P>, slot: usize, up: bool) {
        let _ = (kernel, slot, up);
    }

    /// Somebody typed a line.
    fn line(&mut self, kernel: &mut Kernel<P>, line: &str) {
        let _ = (kernel, line);
    }

    /// Xenstore answered one of the program's requests, or told of a change that the program watches.
    fn store(&mut self, kernel: &mut Kernel<P>, news: &client::News) {
        let _ = (kernel, news);
    }

    /// The kernel is to suspend itself, and whoever has to know that is to be told: asked in each round until it is true.
    fn suspend(&mut self, kernel: &mut Kernel<P>) -> bool {
        let _ = kernel;
        true
    }

    /// Another kernel, of another image, is to take over: a [package](crate::handover) with all that it has to know, as soon as
    /// nothing is under way that it could not be told of. Asked in each round until there is one.
    fn hand_over(&mut self, kernel: &mut Kernel<P>) -> Option<Vec<u8>> {
        let _ = kernel;
        None
    }

    /// No other kernel has taken over, and this one goes on; why, where somebody knows.
    fn not_replaced(&mut self, kernel: &mut Kernel<P>, why: Option<Failure>) {
        let _ = (kernel, why);
    }

    /// The kernel goes on after it had suspended itself, with all it had; perhaps on another core, and much later.
    fn resumed(&mut self, kernel: &mut Kernel<P>) {
        let _ = kernel;
    }

    /// The kernel is about to halt. A program with rings of its own asks for events here; false, if it found news.
    fn may_sleep(&mut self) -> bool {
        true
    }

    /// The kernel is back from a halt, or did not halt after all.
    fn awake(&mut self) {}
}

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// There may be more.
    Busy,
    /// Nothing to do until something happens, or this tick.
    Quiet(Option<u64>),
    /// The program wants to end.
    Stop(u32),
}

/// What goes over to another kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    typed: Vec<u8>,
    reporting: bool,
    watchdog: Watchdog,
}

/// The kernel's state on one core.
pub struct Kernel<P: Platform> {
    /// Where it runs.
    pub platform: P,
    /// Its peers, if it has any.
    pub mesh: Option<Mesh<'static>>,
    /// What it does when idle.
    pub pace: Pace,
    /// Whether it tells domain 0 the mesh's counts from time to time.
    pub reporting: bool,
    /// What ends it, should it hang.
    pub watchdog: Watchdog,
    /// Its line to xenstore, if it wants one.
    pub store: Option<Store>,
    /// A measurement that domain 0 asked for.
    probe: Option<Probe>,
    typed: Vec<u8>,
    next_report: u64,
    suspending: bool,
    handing_over: bool,
}

impl<P: Platform> Kernel<P> {
    /// A kernel that has not begun.
    pub fn new(platform: P, mesh: Option<Mesh<'static>>, pace: Pace) -> Self {
        Self {
            platform,
            mesh,
            pace,
            reporting: true,
            watchdog: Watchdog::default(),
            store: None,
            probe: None,
            typed: Vec::new(),
            next_report: 0,
            suspending: false,
            handing_over: false,
        }
    }

    /// What of it goes over to another kernel: half a line that was typed. Its mesh is carried by itself.
    pub fn carry(&self) -> Carried {
        Carried { typed: self.typed.clone(), reporting: self.reporting, watchdog: self.watchdog }
    }

    /// A kernel that goes on where another stood; none if that cannot have stood there.
    pub fn take_over(carried: Carried, platform: P, mesh: Mesh<'static>, pace: Pace) -> Option<Self> {
        let Carried { typed, reporting, watchdog } = carried;
        let kernel = Self::new(platform, Some(mesh), pace);
        (typed.len() <= LINE_BYTES).then_some(Self { typed, reporting, watchdog, ..kernel })
    }

    /// Runs the program for ever.
    pub fn run(mut self, program: &mut impl Program<P>) -> ! {
        self.begin(program);
        loop {
            self.run_while(program, |_| true);
        }
    }

    /// Begins the program.
    pub fn begin(&mut self, program: &mut impl Program<P>) {
        self.watchdog.feed(&self.platform);
        program.start(self);
        self.notify_store();
    }

    /// Runs the program, which has begun, as long as it is to go on.
    pub fn run_while<R: Program<P>>(&mut self, program: &mut R, goes_on: impl Fn(&R) -> bool) {
        let mut quiet_rounds = 0;
        while goes_on(program) {
            match self.round(program) {
                Round::Busy => quiet_rounds = 0,
                Round::Stop(reason) => self.platform.shutdown(reason),
                Round::Quiet(until) => {
                    quiet_rounds += 1;
                    match self.pace {
                        Pace::Sleep(rounds) if quiet_rounds > rounds => {
                            self.halt(program, until);
                            quiet_rounds = 0;
                        }
                        _ => core::hint::spin_loop(),
                    }
                }
            }
        }
    }

    /// One turn of the loop.
    pub fn round(&mut self, program: &mut impl Program<P>) -> Round {
        self.platform.let_interrupts_in();
        // Messages first: where one woke the kernel, nothing stands between it and the program.
        let mut busy = self.take_messages(program);
        busy |= self.take_interrupts(program);
        let step = program.step(self);
        if self.watchdog.next().is_some() {
            self.watchdog.feed(&self.platform);
        }
        self.report();
        if let Some(mesh) = &mut self.mesh {
            mesh.flush(&self.platform);
        }
        let printing = self.platform.console_flush();
        match self.store.as_mut().and_then(Store::ordered) {
            Some(reason::SUSPEND) => self.suspend_soon(),
            Some(HANDED_OVER) => self.handing_over = true,
            Some(reason) => return Round::Stop(reason),
            None => {}
        }
        if self.suspending {
            self.suspend(program);
            return Round::Busy;
        }
        if self.handing_over {
            if !printing {
                self.hand_over(program);
            }
            return Round::Busy;
        }
        let until = match step {
            Step::Stop(reason) => return Round::Stop(reason),
            Step::Busy => return Round::Busy,
            _ if busy => return Round::Busy,
            Step::Idle => None,
            Step::IdleUntil(tick) => Some(tick),
        };
        let mut until = until.unwrap_or(u64::MAX).min(self.watchdog.next().unwrap_or(u64::MAX));
        if let Some(mesh) = &self.mesh {
            if self.reporting && mesh.report_is_due() {
                until = until.min(self.next_report);
            }
            if mesh.has_backlog() {
                until = until.min(self.after(RETRY_MILLISECONDS));
            }
        }
        if printing {
            until = until.min(self.after(RETRY_MILLISECONDS));
        }
        Round::Quiet((until != u64::MAX).then_some(until))
    }

    /// Has the kernel suspend itself: now, or when the program has taken leave.
    pub fn suspend_soon(&mut self) {
        self.suspending = true;
    }

    /// Suspends, as soon as the program has taken leave and all it had to say has left.
    fn suspend(&mut self, program: &mut impl Program<P>) {
        let ready = program.suspend(self);
        if let Some(mesh) = &mut self.mesh {
            mesh.flush(&self.platform);
        }
        self.notify_store();
        if ready && !self.mesh.as_ref().is_some_and(Mesh::has_backlog) {
            self.suspending = false;
            self.platform.suspend();
            program.resumed(self);
        }
    }

    /// Lets another kernel take over, as soon as the program can and nothing is half done with console and store, which the
    /// other one begins anew.
    fn hand_over(&mut self, program: &mut impl Program<P>) {
        if self.probe.is_some() || !self.store.as_ref().is_none_or(Store::is_quiet) {
            return;
        }
        let Some(package) = program.hand_over(self) else { return };
        self.handing_over = false;
        let why = self.platform.hand_over(&package).ok();
        program.not_replaced(self, why);
    }

    /// Halts until something happens, or until this tick, unless something has happened already.
    fn halt(&mut self, program: &mut impl Program<P>, until: Option<u64>) {
        if until.is_some_and(|tick| tick <= self.platform.now()) {
            return;
        }
        self.platform.set_deadline(until);
        let mesh = &mut self.mesh;
        self.platform.halt_if(&mut || program.may_sleep() && mesh.as_mut().is_none_or(Mesh::sleep));
        if let Some(mesh) = &mut self.mesh {
            mesh.awake();
        }
        program.awake();
    }

    fn take_interrupts(&mut self, program: &mut impl Program<P>) -> bool {
        let mut vectors = Vec::new();
        self.platform.take_interrupts(&mut |vector| vectors.push(vector));
        let mut ports = Vec::new();
        self.platform.take_events(&mut |port| ports.push(port));
        let any = !vectors.is_empty() || !ports.is_empty();
        for vector in vectors {
            program.interrupt(self, vector);
        }
        if !ports.is_empty() {
            // Whichever port it was: a look at the console costs no more than to ask whether it was the console's.
            self.take_typed(program);
        }
        for port in ports {
            if self.store.as_ref().is_some_and(|store| store.port() == port) {
                self.take_store_news(program);
            }
            program.event(self, port);
        }
        any
    }

    fn take_store_news(&mut self, program: &mut impl Program<P>) {
        while let Some(news) = self.store.as_mut().and_then(Store::take) {
            program.store(self, &news);
        }
        self.notify_store();
    }

    /// Has xenstore look at what was asked of it. The kernel does so by itself behind [`Program::start`] and
    /// [`Program::store`]; whoever asks elsewhere does it then.
    pub fn notify_store(&mut self) {
        if let Some(store) = &mut self.store
            && store.client.moved()
        {
            // A store that is gone answers nothing; there is nobody to tell.
            let _ = self.platform.send_event(store.port());
        }
    }

    fn take_typed(&mut self, program: &mut impl Program<P>) {
        let mut chunk = [0; 64];
        loop {
            let count = self.platform.console_read(&mut chunk);
            if count == 0 {
                return;
            }
            for &byte in &chunk[..count] {
                if byte != b'\r' && byte != b'\n' {
                    if self.typed.len() < LINE_BYTES {
                        self.typed.push(byte);
                    }
                } else if !self.typed.is_empty() {
                    let line = String::from_utf8_lossy(&core::mem::take(&mut self.typed)).into_owned();
                    program.line(self, &line);
                }
            }
        }
    }

    fn take_messages(&mut self, program: &mut impl Program<P>) -> bool {
        for taken in 0..MESSAGES_PER_ROUND {
            let Some(news) = self.mesh.as_mut().and_then(|mesh| mesh.poll(&self.platform)) else {
                return taken > 0;
            };
            match news {
                News::Message(slot, message) => program.message(self, slot, &message),
                News::Up(slot) => program.peer(self, slot, true),
                News::Down(slot) => {
                    self.probe_lost(slot);
                    program.peer(self, slot, false);
                }
                News::Liar(slot) => {
                    self.probe_lost(slot);
                    log::warn!("slot {slot} broke the rules of the ring: dropped");
                    program.peer(self, slot, false);
                }
            }
        }
        true
    }

    /// Sends a message to a slot. The peer hears of it at the end of the round at the latest.
    pub fn send(&mut self, slot: usize, message: &Message) -> Result<(), NotSent> {
        self.mesh.as_mut().map_or(Err(NotSent::NoPeer), |mesh| mesh.send(slot, message))
    }

    /// The tick `milliseconds` from now.
    pub fn after(&self, milliseconds: u64) -> u64 {
        self.platform.now().saturating_add(milliseconds.saturating_mul(self.platform.ticks_per_millisecond()))
    }

    fn report(&mut self) {
        if !self.reporting || self.platform.now() < self.next_report {
            return;
        }
        if let Some(mesh) = &mut self.mesh
            && mesh.report_is_due()
        {
            mesh.report();
            self.next_report = self.after(REPORT_MILLISECONDS);
        }
    }
}

#[cfg(test)]
mod tests;
