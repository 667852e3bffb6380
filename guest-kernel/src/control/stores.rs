//! Domain 0 and its xenstore: guests are introduced and released, the toolstack looks and writes, and guests are asked
//! to stop and heard when they say that they will.

use abi::address::PAGE_SIZE;
use abi::control::wire::{Refusal, Reply, State};
use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::version::guest_handle;
use abi::xen::xs_wire::Error;
use alloc::format;
use alloc::vec::Vec;

use super::builder::{CONSOLE_PAGE, STORE_PAGE};
use super::hypervisor::Hypervisor;
use super::pages::Slot;
use super::refusal::{printable, refuse};
use super::xenstore::Xenstore;
use super::xenstore::layout::Newcomer;
use super::xenstore::link::PageRing;
use super::xenstore::path::home;
use super::{Control, OWN_NAME};

/// What the watches of `control/shutdown` are known by.
const SHUTDOWN: &str = "shutdown";

/// The store, and what domain 0 awaits of it.
#[derive(Default)]
pub struct Stores {
    xenstore: Xenstore<PageRing>,
    /// Guests that were asked to stop, and have not said that they heard it.
    asked: Vec<DomId>,
}

impl Stores {
    /// The store.
    pub(super) fn xenstore(&mut self) -> &mut Xenstore<PageRing> {
        &mut self.xenstore
    }

    /// A guest runs no more.
    pub(super) fn stopped(&mut self, domain: DomId) {
        self.xenstore.stopped(domain);
    }
}

/// A guest's channels, as its builder made them: its own ports, and ours for the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// The guest's port for its console.
    pub console: Port,
    /// The guest's port for its store.
    pub store: Port,
    /// Our port for that.
    pub own_store: Port,
}

impl<H: Hypervisor> Control<H> {
    /// Makes a new guest's nodes, and serves its ring from now on; its page was made fresh before the guest was built.
    pub(super) fn introduce_to_store(
        &mut self,
        domain: DomId,
        name: &str,
        (memory_mib, vcpus): (u32, u32),
        slot: Slot,
        ports: Ports,
    ) {
        let Some(pages) = self.pages.guest(slot) else { return };
        // The same that the hypervisor tells the guest.
        let boot_tsc = self.hypervisor.machine_info().unwrap_or_default().boot_tsc;
        let newcomer = Newcomer {
            domain,
            name,
            uuid: guest_handle(domain, boot_tsc),
            memory_kib: u64::from(memory_mib) * 1024,
            vcpus,
            console_frame: CONSOLE_PAGE.as_u64() / PAGE_SIZE,
            console_port: ports.console,
            store_frame: STORE_PAGE.as_u64() / PAGE_SIZE,
            store_port: ports.store,
        };
        let shutdown = format!("{}/control/shutdown", home(domain));
        let introduced =
            self.stores.xenstore.introduce(&newcomer, PageRing::new(pages.store), ports.own_store);
        if let Err(error) = introduced.and_then(|()| self.stores.xenstore.watch(&shutdown, SHUTDOWN)) {
            // It lives without a store; whoever wonders finds out why.
            self.journal.say(&mut self.hypervisor, &format!("{name} has no xenstore: {error:?}"));
        }
    }

    /// A guest is gone, and what the store had of it goes.
    pub(super) fn release_from_store(&mut self, domain: DomId) {
        let shutdown = format!("{}/control/shutdown", home(domain));
        // There is none where the guest was never introduced.
        let _ = self.stores.xenstore.unwatch(&shutdown, SHUTDOWN);
        self.stores.asked.retain(|asked| *asked != domain);
        if let Some(port) = self.stores.xenstore.release(domain) {
            self.hypervisor.close(port);
        }
    }

    /// Serves all guests' requests, a bounded piece of them. True: there may be more.
    pub(super) fn serve_store(&mut self) -> bool {
        let Self { stores, hypervisor, .. } = self;
        let more = stores.xenstore.turn(|port| hypervisor.send(port));
        while let Some(heard) = self.stores.xenstore.heard() {
            if heard.token == SHUTDOWN
                && self.stores.xenstore.read(&heard.path).is_some_and(|value| value.is_empty())
            {
                self.heard_of_shutdown(&heard.path);
            }
        }
        more
    }

    /// A guest has taken the word that was left for it.
    fn heard_of_shutdown(&mut self, path: &str) {
        let Self { guests, journal, hypervisor, stores: Stores { asked: all, .. }, .. } = self;
        let asked = all.iter().position(|domain| path == format!("{}/control/shutdown", home(*domain)));
        let Some(asked) = asked else { return };
        let domain = all.swap_remove(asked);
        if let Some((_, guest)) = guests.iter().find(|(_, guest)| guest.domain == domain) {
            journal.say(hypervisor, &format!("{} has heard that it is to stop", guest.name));
        }
    }

    /// Asks a guest to stop: `poweroff` or `reboot`.
    pub(super) fn ask_to_stop(&mut self, name: &str, how: &str) -> Result<Reply, Refusal> {
        let domain = self.domain_in_state(name, State::Running, "asked to stop")?;
        let path = format!("{}/control/shutdown", home(domain));
        self.stores.xenstore.write(&path, how.as_bytes()).map_err(|error| failed(&path, error))?;
        if !self.stores.asked.contains(&domain) {
            self.stores.asked.push(domain);
        }
        Ok(Reply::Done)
    }

    /// Nodes, for the toolstack.
    pub(super) fn store_list(&self, path: &str, after: Option<&str>) -> Result<Reply, Refusal> {
        let (nodes, more) = self.stores.xenstore.list(path, after).map_err(|error| failed(path, error))?;
        Ok(Reply::Xenstore { nodes, more })
    }

    /// Writes a node for the toolstack.
    pub(super) fn store_write(&mut self, path: &str, value: &[u8]) -> Result<Reply, Refusal> {
        self.stores.xenstore.write(path, value).map_err(|error| failed(path, error))?;
        Ok(Reply::Done)
    }

    /// Removes a node for the toolstack.
    pub(super) fn store_remove(&mut self, path: &str) -> Result<Reply, Refusal> {
        self.stores.xenstore.remove(path).map_err(|error| failed(path, error))?;
        Ok(Reply::Done)
    }
}

fn failed(path: &str, error: Error) -> Refusal {
    let path = printable(path);
    match error {
        Error::ENOENT => refuse(format!("xenstore has no node `{path}`"), "see `atoll xenstore-ls`"),
        Error::EINVAL => refuse(
            format!("`{path}` is no path of xenstore's"),
            "begin with `/`, and use letters, digits, `-`, `_`, `@` and single slashes",
        ),
        other => refuse(
            format!("xenstore refused it for `{path}` ({other:?})"),
            format!("see what {OWN_NAME} says"),
        ),
    }
}
