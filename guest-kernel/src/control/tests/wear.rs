//! Anything in any order.

use super::*;

/// What may happen to a machine, in any order.
#[derive(Clone, Debug)]
enum Happening {
    Ask(Request),
    Noise(Vec<u8>),
    Print(Slot, Vec<u8>),
    Say(Slot, Message),
    Scribble(Slot, u64),
    Stop(Slot, bool),
    Fail(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just(OWN_NAME)].prop_map(String::from);
    let core = proptest::option::of(0..6u32);
    let slot = 1..4usize;
    let message =
        (0..12u64, 0..5u64, any::<u64>()).prop_map(|(kind, slot, word)| [kind, slot, word, word, 0, 0, 0]);
    let request = prop_oneof![
        4 => (name.clone(), core).prop_map(|(name, core)| Request::Create(guest(&name, core))),
        3 => name.clone().prop_map(Request::Destroy),
        1 => name.clone().prop_map(Request::Pause),
        1 => name.clone().prop_map(Request::Unpause),
        1 => name.clone().prop_map(Request::Crash),
        1 => (name.clone(), any::<Option<u64>>(), any::<bool>())
            .prop_map(|(name, from, follow)| Request::Console { name, from, follow }),
        1 => (name, proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(|(name, bytes)| Request::Input { name, bytes }),
        1 => Just(Request::List),
        1 => Just(Request::Info),
    ];
    prop_oneof![
        6 => request.prop_map(Happening::Ask),
        1 => proptest::collection::vec(any::<u8>(), 0..50).prop_map(Happening::Noise),
        1 => (slot.clone(), proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(|(s, b)| Happening::Print(s, b)),
        4 => (slot.clone(), message).prop_map(|(s, m)| Happening::Say(s, m)),
        1 => (slot.clone(), any::<u64>()).prop_map(|(s, seed)| Happening::Scribble(s, seed)),
        1 => (slot, any::<bool>()).prop_map(|(s, crash)| Happening::Stop(s, crash)),
        1 => (0..40usize).prop_map(Happening::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever guests, wire and hypervisor do: every request is answered, nothing panics, nothing is leaked.
    #[test]
    fn nothing_wears_the_machine_down(happenings in proptest::collection::vec(happening(), 1..60)) {
        let mut machine = Machine::with(&["a"]);
        let mut insides: Vec<(Slot, u16, Inside)> = Vec::new();
        for happening in happenings {
            // The guest in a slot, with ends of its own as long as it lives.
            let domain = |machine: &Machine, slot| machine.control.guests.get(slot).map(|guest| guest.domain);
            insides.retain(|(slot, id, _)| domain(&machine, *slot) == Some(*id));
            for slot in 1..4 {
                if let Some(id) = domain(&machine, slot)
                    && !insides.iter().any(|(known, ..)| *known == slot)
                {
                    let inside = machine.inside(slot);
                    insides.push((slot, id, inside));
                }
            }
            let inside = |insides: &mut Vec<(Slot, u16, Inside)>, slot| {
                insides.iter_mut().position(|(known, ..)| *known == slot)
            };
            match happening {
                Happening::Ask(request) => {
                    let _ = machine.ask(request);
                    machine.control.hypervisor.calls_left = None;
                }
                Happening::Noise(bytes) => {
                    bytes.into_iter().chain([0]).for_each(|byte| machine.control.receive(byte));
                }
                Happening::Print(slot, bytes) => {
                    if let Some(at) = inside(&mut insides, slot) {
                        insides[at].2.screen.write(&bytes);
                    }
                }
                Happening::Say(slot, message) => {
                    if let Some(at) = inside(&mut insides, slot) {
                        let _ = insides[at].2.to_control.try_send(&message);
                        let _ = insides[at].2.from_control.try_receive();
                    }
                }
                Happening::Scribble(slot, seed) => {
                    let pair = machine.control.pages.pair(0, slot).unwrap();
                    let mut liar = Liar::new(seed);
                    liar.scribble(&pair.downwards);
                    liar.scribble(&pair.upwards);
                }
                Happening::Stop(slot, crash) => {
                    if machine.control.guests.get(slot).is_some_and(|guest| guest.is_alive()) {
                        machine.stops(slot, if crash { DomainState::Crashed } else { DomainState::Shutdown });
                    }
                }
                Happening::Fail(calls) => machine.control.hypervisor.calls_left = Some(calls),
            }
            machine.settle();
        }
        machine.control.hypervisor.calls_left = None;
        for domain in machine.list().into_iter().skip(1) {
            machine.ask(Request::Destroy(domain.name)).unwrap();
        }
        prop_assert_eq!(machine.control.hypervisor.own_ports(), 0);
        prop_assert_eq!(machine.control.hypervisor.domains.len(), 1);
        for name in ["a", "b", "c"] {
            machine.ask(Request::Create(guest(name, None))).unwrap();
        }
        let told = format!("{:?}", machine.list());
        prop_assert!(told.contains("Running"));
    }
}
