//! Which devices of a kind there are: found in xenstore, where the toolstack makes and removes them at any time.
//!
//! A device is its path and the path of its other end. One whose other end is another than before has gone and come: the
//! toolstack may have done both before we look.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Role;
use crate::xenstore::client::{Client, News, Ticket};
use crate::xenstore::wire::{ByteRing, strings};

/// The most devices of a kind that are looked at.
const MAX_DEVICES: usize = 64;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is a device at this path.
    Came(String),
    /// There is none any more, or it is another one.
    Went(String),
}

/// A look under way: what was asked for by its ticket, and what was found.
#[derive(Debug, Default)]
struct Look {
    lists: BTreeMap<Ticket, (String, usize)>,
    links: BTreeMap<Ticket, String>,
    found: BTreeMap<String, String>,
}

/// All devices of a kind, at one end.
#[derive(Debug)]
pub struct Bus {
    role: Role,
    root: String,
    known: BTreeMap<String, String>,
    look: Option<Look>,
    /// Something may have changed meanwhile.
    again: bool,
}

impl Bus {
    /// Watches for devices of this kind.
    pub fn new<R: ByteRing>(role: Role, kind: &str, client: &mut Client<R>) -> Self {
        let root = role.root(kind);
        // The watch begins with an event.
        client.watch(&root, &root);
        Self { role, root, known: BTreeMap::new(), look: None, again: false }
    }

    /// Takes what arrived: what is different now.
    pub fn news<R: ByteRing>(&mut self, news: &News, client: &mut Client<R>) -> Vec<Change> {
        match news {
            News::Changed { path, token } if *token == self.root => {
                if self.concerns(path) {
                    self.again = true;
                    self.begin(client);
                }
                Vec::new()
            }
            News::Changed { .. } => Vec::new(),
            News::Answer { ticket, result } => {
                self.answer(*ticket, result.as_deref().unwrap_or_default(), client)
            }
        }
    }

    /// Whether a change there may be one of devices: of what is above them, of themselves, or of where their other ends
    /// are.
    fn concerns(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.root).unwrap_or_default();
        let names = below.split('/').filter(|name| !name.is_empty()).count();
        names <= self.role.levels() || below.ends_with(self.role.link())
    }

    fn begin<R: ByteRing>(&mut self, client: &mut Client<R>) {
        if self.look.is_none() && core::mem::take(&mut self.again) {
            let list = client.directory(None, &self.root);
            let lists = BTreeMap::from([(list, (self.root.clone(), 1))]);
            self.look = Some(Look { lists, ..Look::default() });
        }
    }

    fn answer<R: ByteRing>(&mut self, ticket: Ticket, result: &[u8], client: &mut Client<R>) -> Vec<Change> {
        let Some(look) = &mut self.look else { return Vec::new() };
        if let Some(path) = look.links.remove(&ticket) {
            // Without the other end's path it is no device, or none yet.
            if !result.is_empty() {
                look.found.insert(path, String::from_utf8_lossy(result).into_owned());
            }
        } else if let Some((above, level)) = look.lists.remove(&ticket) {
            for name in strings(result) {
                if look.lists.len() + look.links.len() + look.found.len() >= MAX_DEVICES {
                    break;
                }
                let path = format!("{above}/{}", String::from_utf8_lossy(name));
                if level < self.role.levels() {
                    look.lists.insert(client.directory(None, &path), (path, level + 1));
                } else {
                    look.links.insert(client.read(None, &format!("{path}/{}", self.role.link())), path);
                }
            }
        } else {
            return Vec::new();
        }
        if !look.lists.is_empty() || !look.links.is_empty() {
            return Vec::new();
        }
        let found = core::mem::take(&mut look.found);
        self.look = None;
        self.begin(client);
        self.compare(found)
    }

    fn compare(&mut self, found: BTreeMap<String, String>) -> Vec<Change> {
        let before = core::mem::replace(&mut self.known, found);
        let went = before.iter().filter(|(path, other)| self.known.get(*path) != Some(other));
        let came = self.known.iter().filter(|(path, other)| before.get(*path) != Some(other));
        let went = went.map(|(path, _)| Change::Went(path.clone()));
        went.chain(came.map(|(path, _)| Change::Came(path.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::xenstore::Xenstore;
    use crate::control::xenstore::layout::Device;
    use crate::control::xenstore::link::PageRing;
    use crate::programs::echo::tests::introduced;
    use crate::xenstore::wire::PageEnd;
    use alloc::vec;

    struct Guest {
        store: Xenstore<PageRing>,
        client: Client<PageEnd>,
        bus: Bus,
    }

    impl Guest {
        fn new(role: Role) -> Self {
            let mut store = Xenstore::new();
            let mut client = introduced(&mut store, 1);
            introduced(&mut store, 2);
            introduced(&mut store, 3);
            let bus = Bus::new(role, "echo", &mut client);
            Self { store, client, bus }
        }

        fn changes(&mut self) -> Vec<Change> {
            let mut changes = Vec::new();
            for _ in 0..20 {
                self.store.turn(|_| {});
                while let Some(news) = self.client.poll().unwrap() {
                    changes.extend(self.bus.news(&news, &mut self.client));
                }
            }
            changes
        }
    }

    fn device(front: u16, back: u16, index: u32) -> Device<'static> {
        Device { kind: "echo", front, back, index }
    }

    #[test]
    fn a_front_end_finds_its_devices_and_those_that_are_others_now() {
        let mut guest = Guest::new(Role::Front);
        assert_eq!(guest.changes(), []);
        let first = String::from("device/echo/0");
        guest.store.connect(&device(1, 2, 0)).unwrap();
        assert_eq!(guest.changes(), [Change::Came(first.clone())]);
        guest.store.connect(&device(1, 2, 1)).unwrap();
        assert_eq!(guest.changes(), [Change::Came("device/echo/1".into())]);
        guest.store.disconnect(&device(1, 2, 0));
        guest.store.connect(&device(1, 3, 0)).unwrap();
        assert_eq!(guest.changes(), [Change::Went(first.clone()), Change::Came(first.clone())]);
        guest.store.write("/local/domain/1/device/echo/0/state", b"4").unwrap();
        assert_eq!(guest.changes(), []);
        guest.store.disconnect(&device(1, 3, 0));
        assert_eq!(guest.changes(), [Change::Went(first)]);
    }

    #[test]
    fn a_back_end_finds_all_that_it_serves() {
        let mut guest = Guest::new(Role::Back);
        guest.store.connect(&device(2, 1, 0)).unwrap();
        guest.store.connect(&device(3, 1, 7)).unwrap();
        let paths = ["backend/echo/2/0", "backend/echo/3/7"].map(String::from);
        assert_eq!(guest.changes(), paths.clone().map(Change::Came));
        guest.store.release(2);
        guest.store.disconnect(&device(2, 1, 0));
        assert_eq!(guest.changes(), [Change::Went(paths[0].clone())]);
        assert_eq!(guest.changes(), vec![]);
    }

    #[test]
    fn of_any_number_of_devices_some_are_looked_at() {
        let mut guest = Guest::new(Role::Front);
        for index in 0..100 {
            guest.store.connect(&device(1, 2, index)).unwrap();
        }
        assert_eq!(guest.changes().len(), MAX_DEVICES);
    }
}
