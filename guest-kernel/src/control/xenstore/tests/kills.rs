//! Guests write to boards of each other's, and are killed and begun anew at any time, in the middle of a request too. What
//! was acknowledged is there: all of it, but for what went with a guest that was its owner.

use abi::xen::xs_wire::connection;
use proptest::prelude::*;

use super::*;

const GUESTS: DomId = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A guest writes a leaf of a guest's board.
    Write(DomId, DomId, u8, u8),
    /// A guest writes some bytes of a request, and no more.
    Half(DomId, usize),
    /// A guest begins its connection anew.
    Anew(DomId),
    /// A guest is destroyed, and one with its number is created.
    Kill(DomId),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guest = || 1..=GUESTS;
    let step = prop_oneof![
        8 => (guest(), guest(), 0u8..4, any::<u8>()).prop_map(|(who, whose, leaf, value)| Step::Write(who, whose, leaf, value)),
        1 => (guest(), 1usize..40).prop_map(|(who, bytes)| Step::Half(who, bytes)),
        1 => guest().prop_map(Step::Anew),
        1 => guest().prop_map(Step::Kill),
    ];
    proptest::collection::vec(step, 1..80)
}

fn board(whose: DomId) -> String {
    alloc::format!("/local/domain/{whose}/data/board")
}

impl Machine {
    /// A guest makes a board for everybody.
    fn make_board(&mut self, whose: DomId) {
        self.ask(whose, kind::MKDIR, "data/board\0").unwrap();
        self.ask(whose, kind::SET_PERMS, &alloc::format!("data/board\0b{whose}\0")).unwrap();
    }

    fn begin_anew(&mut self, domain: DomId) {
        self.guest(domain).page.set_connection(connection::RECONNECT);
        self.turn();
        let guest = self.guest(domain);
        assert_eq!(guest.page.connection(), connection::CONNECTED);
        guest.end = PageEnd::guest(guest.page);
        guest.input = Assembler::default();
    }
}

proptest! {
    #[test]
    fn what_was_acknowledged_is_there(steps in steps()) {
        let mut machine = Machine::new(GUESTS);
        (1..=GUESTS).for_each(|domain| machine.make_board(domain));
        // By path: value, and who made the node.
        let mut acknowledged = BTreeMap::<String, (String, DomId)>::new();
        let mut half = [false; GUESTS as usize + 1];
        for step in steps {
            match step {
                Step::Write(who, whose, leaf, value) => {
                    if core::mem::take(&mut half[usize::from(who)]) {
                        machine.begin_anew(who);
                    }
                    let path = alloc::format!("{}/{leaf}", board(whose));
                    let answer = machine.write(who, &path, &value.to_string());
                    prop_assert_eq!(answer, Ok("OK\0".to_string()));
                    acknowledged.entry(path).or_insert((String::new(), who)).0 = value.to_string();
                }
                // Two halves may be a whole.
                Step::Half(who, _) if half[usize::from(who)] => {}
                Step::Half(who, bytes) => {
                    let request = Message::bytes(kind::WRITE, 9, 0, &[b"data/board/0\0never said to its end"]);
                    machine.guest(who).end.write(&request[..bytes]);
                    machine.turn();
                    half[usize::from(who)] = true;
                }
                Step::Anew(who) => {
                    machine.begin_anew(who);
                    half[usize::from(who)] = false;
                }
                Step::Kill(who) => {
                    prop_assert!(machine.store.release(who).is_some());
                    machine.guests.retain(|guest| guest.domain != who);
                    acknowledged.retain(|path, (_, owner)| *owner != who && !path.starts_with(&board(who)));
                    machine.add(who);
                    machine.make_board(who);
                    half[usize::from(who)] = false;
                }
            }
            for whose in 1..=GUESTS {
                let (nodes, _) = machine.store.list(&board(whose), None).unwrap();
                let found = nodes.into_iter().skip(1).map(|node| (node.path, String::from_utf8(node.value).unwrap()));
                let is_below = |(path, _): &(&String, _)| path.starts_with(&board(whose));
                let wanted = acknowledged.iter().filter(is_below).map(|(path, (value, _))| (path.clone(), value.clone()));
                prop_assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
            }
        }
    }
}
