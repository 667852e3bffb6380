//! A member of the multikernel: a monitor, and a console at which it can be told what to ask of the others.
//!
//! ```text
//! register NAME      two phases: the name is this core's from now on
//! unregister NAME    two phases
//! names              what this core's replica knows; no message
//! copy CORE          two phases: that core may use the machine's memory as well
//! retype BASE SIZE   two phases: makes a frame of a part of it
//! unmap              one phase: every core takes the memory out of its page tables
//! bench 1pc COUNT [DEPTH]   so many of them, DEPTH at a time; one after the other where it is left out
//! bench 2pc COUNT [DEPTH]   the same of names that come and go
//! counts             what this monitor has done so far
//! leave, join        the members
//! ```
//!
//! Each line is answered with one that begins alike. The ticks of `counts` are those spent in the monitor: lines taken in,
//! things decided, lines sent.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use io_rings::urpc::Message;

use crate::agreement::{CoreId, Refusal, Ticket, Topology};
use crate::kernel::{Kernel, Program, Step};
use crate::mesh::Mesh;
use crate::monitor::{Monitor, News};
use crate::platform::Platform;
use crate::replica::capabilities::{CapId, CapOp, Kind};
use crate::replica::names::{NameOp, Place};
use crate::replica::{Op, System};

/// The machine's memory, as far as the multikernel shares it out.
const MEMORY: CapId = CapId::root(1);
/// How much.
const MEMORY_BYTES: u64 = 1 << 30;
/// Names that begin like this are told of as they come and go.
const WATCHED: &str = "service/";

/// What a bench does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phases {
    One,
    Two,
}

struct Bench {
    phases: Phases,
    wanted: u64,
    asked: u64,
    done: u64,
    begun: u64,
    /// As many as are under way at a time: for each its ticket, and how many it was before.
    lanes: Vec<(Ticket, u64)>,
}

/// The most operations under way at a time.
const MAX_DEPTH: u64 = 64;

/// The program.
pub struct Multikernel {
    monitor: Monitor,
    /// What was asked for at the console, without answer.
    asked: Option<(Ticket, String)>,
    bench: Option<Bench>,
    /// While it takes leave to suspend itself: whether it was a member, and so wants to be one again.
    comes_back: Option<bool>,
    /// Ticks spent in the monitor.
    ticks: u64,
    frames: u32,
}

impl Multikernel {
    /// On this monitor, with [`Multikernel::replica`].
    pub fn new(mut monitor: Monitor) -> Self {
        monitor.system_mut().names.watch(WATCHED);
        Self { monitor, asked: None, bench: None, comes_back: None, ticks: 0, frames: 0 }
    }

    /// What the first member has; the others are given theirs as they come in.
    pub fn replica(me: CoreId) -> System {
        let mut system = System::new(me);
        system.caps.add_root(MEMORY, Kind::Ram, 0, MEMORY_BYTES, me);
        system
    }

    /// Of a guest in this mesh.
    pub fn in_mesh(mesh: &Mesh, topology: Topology) -> Self {
        Self::new(Monitor::in_mesh(mesh, Self::replica, topology))
    }

    /// The monitor, to look at.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    fn say<P: Platform>(&self, kernel: &Kernel<P>, what: &str) {
        kernel.platform.console_write(format!("multikernel: {what}\n").as_bytes());
    }

    fn op(&mut self, words: &[&str]) -> Option<Op> {
        let by = self.monitor.core();
        let root = MEMORY;
        Some(match *words {
            ["register", name] => {
                Op::Name(NameOp::Register { name: name.to_string(), place: Place { core: by, service: 1 } })
            }
            ["unregister", name] => Op::Name(NameOp::Unregister { name: name.to_string(), core: by }),
            ["copy", core] => Op::Cap(CapOp::Copy { root, cap: root, by, to: core.parse().ok()? }),
            ["retype", base, size] => {
                let (epoch, _) = self.monitor.epoch()?;
                self.frames += 1;
                let into = root.below(epoch, by, self.frames);
                let (base, size) = (base.parse().ok()?, size.parse().ok()?);
                Op::Cap(CapOp::Retype { root, from: root, by, into, kind: Kind::Frame, base, size })
            }
            ["unmap"] => Op::Cap(CapOp::Unmap { cap: root }),
            _ => return None,
        })
    }

    /// Whether a bench runs.
    pub fn is_measuring(&self) -> bool {
        self.bench.is_some()
    }

    /// The next operation of the bench in a lane that is free, or the bench's result.
    fn go_on<P: Platform>(&mut self, kernel: &Kernel<P>, lane: usize) {
        let Some(bench) = &mut self.bench else { return };
        let Bench { phases, wanted, asked, done, begun, .. } = *bench;
        if done == wanted {
            self.bench = None;
            let (ticks, members) = (kernel.platform.now().saturating_sub(begun), self.monitor.epoch());
            let members = members.map_or(0, |(_, members)| members.len());
            let name = if phases == Phases::One { "1pc" } else { "2pc" };
            self.say(kernel, &format!("bench {name}: {done} operations, {members} members, {ticks} ticks"));
            return;
        }
        if asked == wanted {
            // The other lanes have the last ones.
            return;
        }
        bench.asked += 1;
        let Some((_, turn)) = bench.lanes.get_mut(lane) else { return };
        let (core, service) = (self.monitor.core(), *turn);
        *turn += 1;
        let name = format!("bench{core}.{lane}");
        let op = match (phases, service % 2) {
            (Phases::One, _) => Op::Cap(CapOp::Unmap { cap: MEMORY }),
            (Phases::Two, 0) => Op::Name(NameOp::Register { name, place: Place { core, service } }),
            (Phases::Two, _) => Op::Name(NameOp::Unregister { name, core }),
        };
        let ticket = self.monitor.request(op);
        if let Some((current, _)) = self.bench.as_mut().and_then(|bench| bench.lanes.get_mut(lane)) {
            *current = ticket;
        }
    }

    fn answered<P: Platform>(&mut self, kernel: &Kernel<P>, ticket: Ticket, refusal: Option<Refusal>) {
        let lane = |bench: &Bench| bench.lanes.iter().position(|(current, _)| *current == ticket);
        if let Some(lane) = self.bench.as_ref().and_then(lane)
            && let Some(bench) = &mut self.bench
        {
            if let Some(refusal) = refusal {
                self.bench = None;
                return self.say(kernel, &format!("bench: refused: {refusal:?}"));
            }
            bench.done += 1;
            return self.go_on(kernel, lane);
        }
        if let Some((_, line)) = self.asked.take_if(|(asked, _)| *asked == ticket) {
            match refusal {
                None => self.say(kernel, &format!("{line}: done")),
                Some(refusal) => self.say(kernel, &format!("{line}: refused: {refusal:?}")),
            }
        }
    }

    fn tell_news<P: Platform>(&mut self, kernel: &Kernel<P>) {
        while let Some(news) = self.monitor.take_news() {
            match news {
                News::Done(ticket) => self.answered(kernel, ticket, None),
                News::Refused(ticket, refusal) => self.answered(kernel, ticket, Some(refusal)),
                News::Epoch(epoch, members) => self.say(kernel, &format!("epoch {epoch}: {members:?}")),
                // This program offers and opens none.
                News::Opened(_) | News::Accepted(..) | News::Closed(_) => {}
                News::Silenced(core) => self.say(kernel, &format!("core {core} broke the rules")),
            }
        }
        for notice in self.monitor.system_mut().names.take_notices() {
            match notice.place {
                Some(place) => self.say(kernel, &format!("{} is on core {}", notice.name, place.core)),
                None => self.say(kernel, &format!("{} is gone", notice.name)),
            }
        }
    }

    fn counts<P: Platform>(&self, kernel: &Kernel<P>) {
        let (counts, ticks) = (self.monitor.counts(), self.ticks);
        let text = format!(
            "counts: said {}, heard {}, lines out {}, lines in {}, ticks {ticks}",
            counts.said, counts.heard, counts.lines_out, counts.lines_in
        );
        self.say(kernel, &text);
    }

    fn names<P: Platform>(&self, kernel: &Kernel<P>) {
        let names = &self.monitor.system().names;
        let all = names.iter().map(|(name, place)| format!(" {name}@{}", place.core));
        self.say(kernel, &format!("names:{}", all.collect::<String>()));
    }

    /// Counts the ticks of what the monitor does.
    fn at_work<P: Platform, T>(
        &mut self,
        kernel: &mut Kernel<P>,
        work: impl FnOnce(&mut Self, &mut Kernel<P>) -> T,
    ) -> T {
        let begun = kernel.platform.now();
        let result = work(self, kernel);
        self.ticks += kernel.platform.now().saturating_sub(begun);
        result
    }
}

impl<P: Platform> Program<P> for Multikernel {
    fn step(&mut self, kernel: &mut Kernel<P>) -> Step {
        if !self.monitor.has_work() {
            return Step::Idle;
        }
        self.at_work(kernel, |this, kernel| {
            this.tell_news(kernel);
            this.monitor.round(kernel)
        })
    }

    fn message(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        if super::answer::manners(kernel, slot, message) {
            return;
        }
        self.at_work(kernel, |this, _| this.monitor.line(slot, message));
    }

    fn peer(&mut self, kernel: &mut Kernel<P>, slot: usize, up: bool) {
        self.at_work(kernel, |this, _| this.monitor.peer(slot, up));
    }

    fn suspend(&mut self, kernel: &mut Kernel<P>) -> bool {
        let members = self.monitor.epoch().map(|(_, members)| members);
        if self.comes_back.is_none() {
            self.comes_back = Some(members.is_some());
            self.at_work(kernel, |this, _| this.monitor.want_in(false));
        }
        // The last member stays one: nobody misses it.
        let is_alone = members.is_none_or(|members| members.len() == 1);
        self.at_work(kernel, |this, kernel| {
            this.tell_news(kernel);
            is_alone && this.monitor.round(kernel) == Step::Idle && !this.monitor.has_work()
        })
    }

    fn resumed(&mut self, kernel: &mut Kernel<P>) {
        let comes_back = self.comes_back.take().unwrap_or(false);
        self.say(kernel, "resumed");
        if comes_back {
            self.at_work(kernel, |this, _| this.monitor.want_in(true));
        }
    }

    fn line(&mut self, kernel: &mut Kernel<P>, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["counts"] => self.counts(kernel),
            ["names"] => self.names(kernel),
            ["leave"] => self.monitor.want_in(false),
            ["join"] => self.monitor.want_in(true),
            _ if self.bench.is_some() || self.asked.is_some() => self.say(kernel, "busy"),
            ["bench", phases @ ("1pc" | "2pc"), count, ref depth @ ..] => {
                let phases = if phases == "1pc" { Phases::One } else { Phases::Two };
                let (wanted, begun) = (count.parse().unwrap_or(0), kernel.platform.now());
                let depth = depth.first().and_then(|depth| depth.parse().ok()).unwrap_or(1);
                let lanes = alloc::vec![(Ticket::MAX, 0); u64::clamp(depth, 1, MAX_DEPTH) as usize];
                let count = lanes.len();
                self.bench = Some(Bench { phases, wanted, asked: 0, done: 0, begun, lanes });
                self.at_work(kernel, |this, kernel| (0..count).for_each(|lane| this.go_on(kernel, lane)));
            }
            _ => match self.op(&words) {
                Some(op) => {
                    let ticket = self.monitor.request(op);
                    self.asked = Some((ticket, line.to_string()));
                }
                None => self.say(kernel, &format!("{line}: what?")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
