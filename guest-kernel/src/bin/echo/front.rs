//! The front end, and what can be typed to it:
//!
//! ```text
//! check SEED       fills all blocks and reads them back      echo: 64 blocks, 0 wrong
//! verify SEED      reads what an earlier check has written   the same
//! run DEPTH COUNT  so many requests, and what they cost      bench: {"name":"ring_depth32_front", ...}
//! stream           writes without end, until another task    echo: stream
//! count            how far that is                           echo: 1234 answers, 0 wrong
//! close, open      the device                                echo: device/echo/0 Closed
//! pace NAME        halt, sleep or poll                       echo: pace is NAME
//! ```
//!
//! `bench=1` runs at depths 1 and 32 by itself, closes the device and powers off.

use alloc::collections::VecDeque;

use abi::xen::sched::reason;
use abi::xen::xenbus::XenbusState;
use guest_kernel::kernel::{Program, Step};
use guest_kernel::platform::atoll::Atoll;
use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::programs::echo::Figures;
use guest_kernel::programs::echo::front::Front;
use guest_kernel::programs::echo::work::{Outcome, Task, Work};
use guest_kernel::say;
use guest_kernel::xenbus::bus::{Bus, Change};
use guest_kernel::xenbus::{Role, end::End};
use guest_kernel::xenstore::client::News;

use crate::meter::Meter;
use crate::{EchoKernel, KIND, pace, tell};

/// What the bench does: first something to warm up.
const BENCH: [Task; 3] = [
    Task::Run { depth: 32, count: 320 },
    Task::Run { depth: 1, count: 2000 },
    Task::Run { depth: 32, count: 9600 },
];

/// The program.
pub struct FrontEnd {
    bus: Option<Bus>,
    /// The device, by its path; while there is none, its driver waits for the next one.
    device: Option<(alloc::string::String, End<Front<Grants>>)>,
    driver: Option<Front<Grants>>,
    meter: Meter,
    work: Option<Work>,
    /// Tasks of the bench that are left, where that is what it does.
    bench: Option<VecDeque<Task>>,
}

impl FrontEnd {
    /// A front end without a device.
    pub fn new(grants: Grants, bench: bool) -> Self {
        Self {
            bus: None,
            device: None,
            meter: Meter::new(grants.clone()),
            driver: Some(Front::new(grants)),
            work: None,
            bench: bench.then(|| BENCH.into()),
        }
    }

    fn change(&mut self, kernel: &mut EchoKernel, change: Change) {
        let Some(store) = &mut kernel.store else { return };
        match change {
            Change::Came(path) => {
                say!("echo: {path} came");
                // One device is enough.
                if let Some(driver) = self.driver.take() {
                    let end = End::new(Role::Front, &path, driver, &mut store.client);
                    self.device = Some((path, end));
                }
            }
            Change::Went(path) => {
                if let Some((_, end)) = self.device.take_if(|(own, _)| *own == path) {
                    self.driver = Some(end.detach(&mut store.client));
                }
                say!("echo: {path} went");
            }
        }
    }

    fn over(&mut self, outcome: Outcome) {
        self.work = None;
        match outcome {
            Outcome::Checked { blocks, wrong } => say!("echo: {blocks} blocks, {wrong} wrong"),
            Outcome::Ran { depth, count, wrong, front, back } => {
                rows(depth, count, front, back);
                say!("echo: ran {count}, {wrong} wrong");
            }
        }
    }

    /// The bench's next task, when the last one is over: `false` where that was all.
    fn next_of_bench(&mut self, kernel: &mut EchoKernel) -> bool {
        let (Some(tasks), Some((_, end))) = (&mut self.bench, &mut self.device) else { return true };
        if self.work.is_some() {
            return true;
        }
        self.work = tasks.pop_front().map(Work::new);
        if self.work.is_none() {
            if end.state() == XenbusState::Closed {
                return false;
            }
            if let Some(store) = &mut kernel.store
                && end.state() == XenbusState::Connected
                && end.is_wanted()
            {
                end.want(false, &mut store.client);
            }
            kernel.notify_store();
        }
        true
    }
}

/// The figures, a row each, as means: `ring_depth32_front`.
fn rows(depth: usize, count: u64, front: Figures, back: Figures) {
    let each = |sum: u64| (sum + count / 2) / count.max(1);
    let rows = [
        ("front", each(front.awake)),
        ("back", each(back.awake)),
        ("hypervisor", each(front.hypervisor.wrapping_add(back.hypervisor))),
    ];
    for (name, mean) in rows {
        say!(
            r#"bench: {{"name":"ring_depth{depth}_{name}","median":{mean},"unit":"instructions","samples":{count}}}"#
        );
    }
    let exits = front.calls.wrapping_add(back.calls);
    let thousandths = each(exits.saturating_mul(1000));
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    say!(
        r#"bench: {{"name":"ring_depth{depth}_exits","median":{whole}.{rest:03},"unit":"exits","samples":{count}}}"#
    );
}

impl Program<Atoll> for FrontEnd {
    fn start(&mut self, kernel: &mut EchoKernel) {
        if let Some(store) = &mut kernel.store {
            self.bus = Some(Bus::new(Role::Front, KIND, &mut store.client));
        }
        say!("echo: front end");
    }

    fn line(&mut self, kernel: &mut EchoKernel, line: &str) {
        let mut words = line.split_whitespace();
        let command = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let task = match command {
            Some("check") => Task::Check { seed: number(), write: true },
            Some("verify") => Task::Check { seed: number(), write: false },
            Some("run") => Task::Run { depth: number() as usize, count: number() },
            Some("stream") => Task::Stream,
            Some("count") => {
                let (answers, wrong) = self.work.map_or((0, 0), |work| work.answers());
                return say!("echo: {answers} answers, {wrong} wrong");
            }
            Some("pace") => {
                let name = words.next();
                kernel.pace = pace(name);
                return say!("echo: pace is {}", name.unwrap_or("sleep"));
            }
            Some(word @ ("close" | "open")) => {
                if let (Some(store), Some((_, end))) = (&mut kernel.store, &mut self.device) {
                    end.want(word == "open", &mut store.client);
                }
                return kernel.notify_store();
            }
            _ => return say!("echo: unknown: {line}"),
        };
        if task == Task::Stream {
            say!("echo: stream");
        }
        self.work = Some(Work::new(task));
    }

    fn store(&mut self, kernel: &mut EchoKernel, news: &News) {
        let (Some(store), Some(bus)) = (&mut kernel.store, &mut self.bus) else { return };
        for change in bus.news(news, &mut store.client) {
            self.change(kernel, change);
        }
        let (Some(store), Some((path, end))) = (&mut kernel.store, &mut self.device) else { return };
        let before = end.state();
        end.news(news, &mut store.client);
        tell(path, before, end.state());
    }

    fn step(&mut self, kernel: &mut EchoKernel) -> Step {
        if !self.next_of_bench(kernel) {
            say!("bench: done");
            return Step::Stop(reason::POWEROFF);
        }
        let (Some(work), Some((path, end))) = (&mut self.work, &mut self.device) else { return Step::Idle };
        match work.turn(&mut end.driver, || self.meter.figures()) {
            Ok((any, outcome)) => {
                let busy = any || outcome.is_some();
                if let Some(outcome) = outcome {
                    self.over(outcome);
                }
                if busy { Step::Busy } else { Step::Idle }
            }
            Err(_) => {
                say!("echo: {path} broke the rules of the ring");
                if let Some(store) = &mut kernel.store {
                    end.broken(&mut store.client);
                }
                kernel.notify_store();
                Step::Idle
            }
        }
    }

    fn may_sleep(&mut self) -> bool {
        self.meter.sleeps();
        self.device.as_mut().is_none_or(|(_, end)| end.driver.final_check() == Ok(false))
    }

    fn awake(&mut self) {
        self.meter.wakes();
    }
}
