//! Xenstore as the toolstack and the guests find it.

use abi::xen::xs_wire::kind;
use io_rings::hostile::SharedPage;

use super::*;
use crate::xenstore::wire::{Assembler, ByteRing, Message, PageEnd};

/// A guest's end of its store.
struct Shopper {
    end: PageEnd,
    input: Assembler,
}

impl Machine {
    fn shopper(&self, slot: Slot) -> Shopper {
        let page = self.control.pages.guest(slot).unwrap().store;
        Shopper { end: PageEnd::guest(page), input: Assembler::default() }
    }

    fn nodes(&mut self, path: &str) -> Vec<(String, String)> {
        let mut after = None;
        let mut all = Vec::new();
        loop {
            let request = Request::XenstoreList { path: path.into(), after: after.clone() };
            let Ok(Reply::Xenstore { nodes, more }) = self.ask(request) else { panic!("nodes") };
            all.extend(nodes.into_iter().map(|node| (node.path, String::from_utf8(node.value).unwrap())));
            after = all.last().map(|(path, _)| path.clone());
            if !more {
                return all;
            }
        }
    }
}

impl Shopper {
    fn ask(&mut self, machine: &mut Machine, kind: u32, parts: &[&str]) -> String {
        let payload: Vec<u8> = parts.join("\0").into_bytes();
        self.end.write(&Message::bytes(kind, 1, 0, &[&payload]));
        machine.settle();
        let mut answer = self.input.take(&mut self.end).unwrap().expect("an answer");
        while answer.header.kind == kind::WATCH_EVENT {
            answer = self.input.take(&mut self.end).unwrap().expect("an answer behind events");
        }
        String::from_utf8(answer.payload).unwrap()
    }
}

#[test]
fn guests_and_the_toolstack_see_the_same_nodes() {
    let mut machine = Machine::with(&["one", "two"]);
    let (domains, vms) = (machine.nodes("/local/domain"), machine.nodes("/vm"));
    assert!(domains.contains(&("/local/domain/1/name".into(), "one".into())));
    assert!(domains.contains(&("/local/domain/2/store/ring-ref".into(), "983037".into())));
    assert_eq!(vms.iter().filter(|(_, value)| value == "two").count(), 1);
    let mut two = machine.shopper(2);
    let sent = machine.control.hypervisor.sent.len();
    assert_eq!(two.ask(&mut machine, kind::READ, &["name", ""]), "two");
    assert!(machine.control.hypervisor.sent.len() > sent, "the guest is notified");
    two.ask(&mut machine, kind::WRITE, &["data/x", "from two"]);
    assert_eq!(machine.nodes("/local/domain/2/data")[1].1, "from two");
    machine
        .ask(Request::XenstoreWrite { path: "/local/domain/2/data/y".into(), value: b"v".into() })
        .unwrap();
    assert_eq!(two.ask(&mut machine, kind::READ, &["data/y", ""]), "v");
    machine.ask(Request::XenstoreRemove("/local/domain/2/data/y".into())).unwrap();
    assert_eq!(two.ask(&mut machine, kind::READ, &["data/y", ""]), "ENOENT\0");
    machine.refused(Request::XenstoreList { path: "/nowhere".into(), after: None }, "no node");
    machine.refused(Request::XenstoreRemove("no/slash/ending/".into()), "no path");
}

#[test]
fn a_guest_is_asked_to_stop_and_heard() {
    let mut machine = Machine::with(&["one"]);
    let mut one = machine.shopper(1);
    one.ask(&mut machine, kind::WATCH, &["control/shutdown", "token", ""]);
    machine.ask(Request::Shutdown("one".into())).unwrap();
    assert_eq!(one.ask(&mut machine, kind::READ, &["control/shutdown", ""]), "poweroff");
    assert!(!machine.control.hypervisor.printed.contains("has heard"));
    for _ in 0..3 {
        one.ask(&mut machine, kind::WRITE, &["control/shutdown", ""]);
    }
    assert_eq!(machine.control.hypervisor.printed.matches("one has heard that it is to stop").count(), 1);
    machine.stops(1, DomainState::Shutdown);
    machine.refused(Request::Reboot("one".into()), "shut down");
}

#[test]
fn lives_and_deaths_leave_no_node_and_no_port() {
    let mut machine = Machine::with(&["one", "two"]);
    let mut before = None;
    for _ in 0..20 {
        machine.ask(Request::Destroy("two".into())).unwrap();
        let now = (machine.nodes("/").len(), machine.control.hypervisor.own_ports());
        assert_eq!(*before.get_or_insert(now), now);
        machine.ask(Request::Create(guest("two", Some(2)))).unwrap();
        let mut two = machine.shopper(2);
        assert_eq!(two.ask(&mut machine, kind::READ, &["name", ""]), "two");
    }
}

#[test]
fn a_guest_that_scribbles_in_its_page_is_alone_with_it() {
    let mut machine = Machine::with(&["one", "bad"]);
    machine.control.pages.guest(2).unwrap().store.words().for_each(|word| word.set(0x7777));
    machine.settle();
    let mut one = machine.shopper(1);
    assert_eq!(one.ask(&mut machine, kind::READ, &["name", ""]), "one");
    machine.ask(Request::Destroy("bad".into())).unwrap();
}
