//! The back end: one set of blocks, for all the devices that it is asked to serve.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use abi::xen::sched::reason;
use abi::xen::xenbus::XenbusState;
use guest_kernel::kernel::{Program, Step};
use guest_kernel::platform::atoll::Atoll;
use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::programs::echo::Block;
use guest_kernel::programs::echo::back::Back;
use guest_kernel::say;
use guest_kernel::xenbus::bus::{Bus, Change};
use guest_kernel::xenbus::{Role, end::End};
use guest_kernel::xenstore::client::News;

use crate::meter::Meter;
use crate::{EchoKernel, KIND, pace, tell};

/// How many blocks there are.
const BLOCKS: usize = 64;

/// The program.
pub struct BackEnd {
    grants: Grants,
    blocks: Box<[Block]>,
    scratch: Box<Block>,
    bus: Option<Bus>,
    devices: BTreeMap<String, End<Back<Grants>>>,
    meter: Meter,
    /// It powers off when a device was served and is closed.
    once: bool,
    done: bool,
}

impl BackEnd {
    /// A back end with empty blocks.
    pub fn new(grants: Grants, once: bool) -> Self {
        Self {
            meter: Meter::new(grants.clone()),
            grants,
            blocks: (0..BLOCKS).map(|_| Block::default()).collect(),
            scratch: Box::default(),
            bus: None,
            devices: BTreeMap::new(),
            once,
            done: false,
        }
    }
}

impl Program<Atoll> for BackEnd {
    fn start(&mut self, kernel: &mut EchoKernel) {
        if let Some(store) = &mut kernel.store {
            self.bus = Some(Bus::new(Role::Back, KIND, &mut store.client));
        }
        say!("echo: back end");
    }

    fn line(&mut self, kernel: &mut EchoKernel, line: &str) {
        if let Some(name) = line.strip_prefix("pace ") {
            kernel.pace = pace(Some(name));
            say!("echo: pace is {name}");
        }
    }

    fn store(&mut self, kernel: &mut EchoKernel, news: &News) {
        let (Some(store), Some(bus)) = (&mut kernel.store, &mut self.bus) else { return };
        for change in bus.news(news, &mut store.client) {
            match change {
                Change::Came(path) => {
                    say!("echo: {path} came");
                    let driver = Back::new(self.grants.clone(), BLOCKS as u64);
                    self.devices.insert(path.clone(), End::new(Role::Back, &path, driver, &mut store.client));
                }
                Change::Went(path) => {
                    if let Some(end) = self.devices.remove(&path) {
                        end.detach(&mut store.client);
                    }
                    say!("echo: {path} went");
                }
            }
        }
        for (path, end) in &mut self.devices {
            let before = end.state();
            end.news(news, &mut store.client);
            tell(path, before, end.state());
            self.done |= before == XenbusState::Connected && end.state() == XenbusState::Closed;
        }
    }

    fn step(&mut self, kernel: &mut EchoKernel) -> Step {
        let mut busy = false;
        for (path, end) in &mut self.devices {
            match end.driver.serve(&self.blocks, &self.scratch, || self.meter.figures()) {
                Ok(served) => busy |= served > 0,
                Err(_) => {
                    say!("echo: {path} broke the rules of the ring");
                    if let Some(store) = &mut kernel.store {
                        end.broken(&mut store.client);
                    }
                    kernel.notify_store();
                }
            }
        }
        match busy {
            _ if self.once && self.done => Step::Stop(reason::POWEROFF),
            true => Step::Busy,
            false => Step::Idle,
        }
    }

    fn may_sleep(&mut self) -> bool {
        self.meter.sleeps();
        // A ring that is broken is news, too.
        self.devices.values_mut().all(|end| end.driver.final_check() == Ok(false))
    }

    fn awake(&mut self) {
        self.meter.wakes();
    }
}
