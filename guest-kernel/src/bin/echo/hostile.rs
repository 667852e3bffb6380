//! The front end that breaks the rules. It says `echo: hostile ACT: DUE` for each of its acts, and `echo: hostile done`
//! behind the last.

use guest_kernel::kernel::{Pace, Program, Step};
use guest_kernel::platform::atoll::Atoll;
use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::programs::echo::hostile::{Act, Hostile};
use guest_kernel::say;
use guest_kernel::xenbus::bus::{Bus, Change};
use guest_kernel::xenbus::{Role, end::End};
use guest_kernel::xenstore::client::News;

use abi::xen::xenbus::XenbusState;

use crate::{EchoKernel, KIND};

/// The lies of the ladder's run; others follow from others.
const SEED: u64 = 7;

/// The program.
pub struct HostileEnd {
    bus: Option<Bus>,
    driver: Option<Hostile<Grants>>,
    device: Option<End<Hostile<Grants>>>,
    /// The device is to be opened again when it is closed.
    reopens: bool,
}

impl HostileEnd {
    /// A front end without a device.
    pub fn new(grants: Grants) -> Self {
        Self { bus: None, driver: Some(Hostile::new(grants, SEED)), device: None, reopens: false }
    }
}

impl Program<Atoll> for HostileEnd {
    fn start(&mut self, kernel: &mut EchoKernel) {
        // Nobody sends it an event once it has closed its port.
        kernel.pace = Pace::Poll;
        if let Some(store) = &mut kernel.store {
            self.bus = Some(Bus::new(Role::Front, KIND, &mut store.client));
        }
    }

    fn store(&mut self, kernel: &mut EchoKernel, news: &News) {
        let (Some(store), Some(bus)) = (&mut kernel.store, &mut self.bus) else { return };
        for change in bus.news(news, &mut store.client) {
            if let Change::Came(path) = change
                && let Some(driver) = self.driver.take()
            {
                self.device = Some(End::new(Role::Front, &path, driver, &mut store.client));
            }
        }
        let Some(end) = &mut self.device else { return };
        end.news(news, &mut store.client);
        if self.reopens && end.state() == XenbusState::Closed {
            self.reopens = false;
            end.want(true, &mut store.client);
        }
    }

    fn step(&mut self, kernel: &mut EchoKernel) -> Step {
        let (Some(store), Some(end)) = (&mut kernel.store, &mut self.device) else { return Step::Idle };
        let Some((act, due)) = end.driver.turn() else { return Step::Idle };
        say!("echo: hostile {act:?}: {due:?}");
        if act == Act::ClosedPort {
            self.reopens = true;
            end.want(false, &mut store.client);
        }
        if end.driver.is_done() {
            say!("echo: hostile done");
        }
        kernel.notify_store();
        Step::Busy
    }
}
