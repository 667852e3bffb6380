//! A device between two guests: `echo=back` serves sectors, `echo=front` writes and reads them, and says what came of it.
//!
//! The two meet over the mesh, where each tells the other its domain; all else they find in xenstore, below `data/echo`
//! of either. The back end keeps its sectors when the front end goes, and the other way round what was under way is done
//! by the next back end.
#![no_std]
#![no_main]

extern crate alloc;

use abi::mesh::kind;
use abi::xen::DomId;
use abi::xen::xenbus::XenbusState;
use abi::xen::xs_wire::kind as request;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use guest_kernel::kernel::store::Store;
use guest_kernel::kernel::{Kernel, Pace, Program, Step};
use guest_kernel::platform::atoll::ground::Grants;
use guest_kernel::platform::atoll::{Atoll, Started};
use guest_kernel::programs::echo::{SECTOR, back::Back, front::Front, operation, status};
use guest_kernel::say;
use guest_kernel::xenbus::{Role, end::End};
use guest_kernel::xenstore::client::{Client, News};
use guest_kernel::xenstore::wire::PageEnd;
use io_rings::urpc::Message;

guest_kernel::main!(run);

/// The message that tells the other guest our domain.
const DOMAIN: u64 = kind::PROGRAM;
/// Sectors of the back end.
const SECTORS: u64 = 256;
/// Rounds of writing all of them and reading them back, after each of which the front end says how it went.
const ROUNDS: u64 = 4;
/// Where the device's nodes are, in either guest.
const NODES: &str = "data/echo";

enum Device {
    Front(End<Front<Grants>>),
    Back(End<Back<Grants>>),
}

struct Echo {
    role: Role,
    device: Option<Device>,
    grants: Option<Grants>,
    /// Requests made, and of those answered well and otherwise.
    made: u64,
    good: u64,
    bad: u64,
}

fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}/{NODES}")
}

impl Echo {
    /// Makes the nodes that a toolstack would make, and begins.
    fn meet(&mut self, own: DomId, other: DomId, client: &mut Client<PageEnd>) {
        let Some(grants) = self.grants.take() else { return };
        let link = self.role.link();
        let own_home = home(own);
        client.mkdir(None, &own_home);
        let permissions = format!("{own_home}\0n{own}\0r{other}\0");
        client.ask(None, request::SET_PERMS, &[permissions.as_bytes()]);
        client.write(None, &format!("{own_home}/{link}"), home(other).as_bytes());
        client.write(None, &format!("{own_home}/{link}-id"), format!("{other}").as_bytes());
        self.device = Some(match self.role {
            Role::Front => Device::Front(End::new(self.role, &own_home, Front::new(grants), client)),
            Role::Back => {
                let sectors = vec![[0; SECTOR]; SECTORS as usize];
                Device::Back(End::new(self.role, &own_home, Back::new(grants, sectors), client))
            }
        });
    }

    /// Keeps the ring full until all is done.
    fn work(&mut self, front: &mut Front<Grants>) -> bool {
        let all = 2 * SECTORS * ROUNDS;
        while front.is_served() && front.under_way() < 32 && self.made < all {
            let (round, step) = (self.made / (2 * SECTORS), self.made % (2 * SECTORS));
            let sector = step % SECTORS;
            match step / SECTORS {
                0 => front.write(sector, [(sector + round) as u8; SECTOR]),
                _ => front.read(sector),
            };
            self.made += 1;
        }
        front.send();
        let mut any = false;
        while let Ok(Some((asked, answer))) = front.take() {
            any = true;
            let round = asked.id / (2 * SECTORS);
            let expected = match asked.operation {
                operation::READ => [(asked.sector + round) as u8; SECTOR],
                _ => [0; SECTOR],
            };
            let well = answer.status == status::OKAY && answer.data == expected;
            if well {
                self.good += 1;
            } else {
                self.bad += 1;
            }
            if self.good + self.bad == all {
                say!("echo: {} sectors written and read, {} answers wrong", self.good / 2, self.bad);
            }
        }
        any || front.final_check() == Ok(true)
    }
}

impl Program<Atoll> for Echo {
    fn peer(&mut self, kernel: &mut Kernel<Atoll>, slot: usize, up: bool) {
        let Some(own) = kernel.mesh.as_ref().map(|mesh| mesh.own_domain()) else { return };
        if up {
            // Should it not arrive, there is no device; the mesh tells of lost messages.
            let _ = kernel.send(slot, &[DOMAIN, own.into(), 0, 0, 0, 0, 0]);
        }
    }

    fn message(&mut self, kernel: &mut Kernel<Atoll>, _: usize, message: &Message) {
        let (Some(mesh), [DOMAIN, other, ..]) = (&kernel.mesh, *message) else { return };
        let (own, Ok(other)) = (mesh.own_domain(), DomId::try_from(other)) else { return };
        if let Some(store) = &mut kernel.store
            && self.device.is_none()
        {
            self.meet(own, other, &mut store.client);
        }
        kernel.notify_store();
    }

    fn store(&mut self, kernel: &mut Kernel<Atoll>, news: &News) {
        let Some(store) = &mut kernel.store else { return };
        match &mut self.device {
            Some(Device::Front(end)) => {
                let before = end.state();
                end.news(news, &mut store.client);
                tell(before, end.state());
            }
            Some(Device::Back(end)) => {
                let before = end.state();
                end.news(news, &mut store.client);
                tell(before, end.state());
            }
            None => {}
        }
    }

    fn step(&mut self, _: &mut Kernel<Atoll>) -> Step {
        let mut device = self.device.take();
        let busy = match &mut device {
            Some(Device::Front(end)) => self.work(&mut end.driver),
            Some(Device::Back(end)) => {
                end.driver.serve().unwrap_or(0) > 0 || end.driver.final_check() == Ok(true)
            }
            None => false,
        };
        self.device = device;
        if busy { Step::Busy } else { Step::Idle }
    }
}

fn tell(before: XenbusState, now: XenbusState) {
    if before != now {
        say!("echo: {now:?}");
    }
}

fn run(started: Started) -> ! {
    let Started { platform, handover, mesh, store, .. } = started;
    let role = if handover.option("echo") == Some("back") { Role::Back } else { Role::Front };
    let pace = Pace::from_option(handover.option("pace"));
    let grants = Grants::new();
    if grants.is_none() {
        say!("echo: there is no grant table to be had");
    }
    let mut kernel = Kernel::new(platform, mesh, pace);
    kernel.store = store.map(|(page, port)| Store::new(page, port));
    kernel.run(&mut Echo { role, device: None, grants, made: 0, good: 0, bad: 0 })
}
