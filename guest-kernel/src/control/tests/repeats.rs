//! A line that loses bytes, either way, and a toolstack that asks until it is answered.

use super::*;

/// What becomes of one frame and its answer.
#[derive(Clone, Debug)]
struct Fate {
    /// The byte that is lost on the way to domain 0.
    lost: Option<proptest::sample::Index>,
    /// The answer is lost.
    unheard: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    (any::<Option<proptest::sample::Index>>(), any::<bool>())
        .prop_map(|(lost, unheard)| Fate { lost, unheard })
}

fn request() -> impl Strategy<Value = Request> {
    let name = prop_oneof![Just("a"), Just("b")].prop_map(String::from);
    prop_oneof![
        2 => name.clone().prop_map(|name| Request::Create(super::guest(&name, None))),
        1 => name.clone().prop_map(Request::Destroy),
        1 => name.clone().prop_map(Request::Pause),
        1 => name.clone().prop_map(Request::Unpause),
        2 => (name, any::<u8>()).prop_map(|(name, key)| Request::Input { name, bytes: vec![key] }),
        1 => Just(Request::List),
    ]
}

impl Machine {
    /// Asks, under one number, until an answer comes through; after the last of the `fates` all does.
    fn insist(&mut self, request: &Request, fates: &[Fate]) -> Result<Reply, Refusal> {
        self.next_id += 1;
        let id = self.next_id;
        let frame = frame::encode(&ToControl { id, request: request.clone() }).unwrap();
        let well = Fate { lost: None, unheard: false };
        for fate in fates.iter().chain([&well, &well]) {
            let mut bytes = [&[0], &frame[..]].concat();
            if let Some(index) = &fate.lost {
                bytes.remove(index.index(bytes.len()));
            }
            bytes.into_iter().for_each(|byte| self.control.receive(byte));
            // A request before, whose end was lost, may be complete only now, and is answered again: to nobody.
            let reply = self.settle().filter(|(answered, _)| !fate.unheard && *answered == id);
            if let Some((_, result)) = reply {
                return result;
            }
        }
        panic!("no answer")
    }

    /// All keys that were typed into the guest in this slot.
    fn typed(&mut self, slot: Slot) -> Vec<u8> {
        let mut keys = vec![0; 1024];
        let count = self.inside(slot).keys.read(&mut keys);
        keys.truncate(count);
        keys
    }
}

/// The same, whenever it was.
fn timeless(result: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
    match result {
        Ok(Reply::Created { domain, cores, .. }) => Ok(Reply::Created { domain, cores, ticks: 0 }),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the line loses: the answers and what they did are those of a line that loses nothing.
    #[test]
    fn each_request_is_carried_out_once(
        requests in proptest::collection::vec((request(), proptest::collection::vec(fate(), 0..4)), 1..20),
    ) {
        let (mut lossy, mut sound) = (Machine::with(&["a"]), Machine::with(&["a"]));
        for (request, fates) in requests {
            let expected = timeless(sound.insist(&request, &[]));
            prop_assert_eq!(timeless(lossy.insist(&request, &fates)), expected);
        }
        for slot in 1..3 {
            prop_assert_eq!(lossy.typed(slot), sound.typed(slot));
        }
    }
}

#[test]
fn a_guest_is_created_once_though_its_answer_is_lost() {
    let mut machine = Machine::with(&["a"]);
    let unheard = Fate { lost: None, unheard: true };
    let create = Request::Create(guest("b", None));
    let reply = machine.insist(&create, &[unheard.clone(), unheard]);
    assert!(matches!(reply, Ok(Reply::Created { .. })), "{reply:?}");
    assert_eq!(machine.list().len(), 3);
}
