//! Random requests of several guests, in and out of transactions, against the simplest store there is.
//!
//! The model knows no generations. It holds the store to this: what a transaction that was committed has seen and done
//! is what it would have seen and done had it been alone, all at once, at its end; one that has to be done anew has
//! changed nothing, and somebody else has; and every other request is answered as the model answers it.

use proptest::prelude::*;

use super::*;
use crate::control::xenstore::permission::Permission;

#[derive(Clone, Debug)]
enum Op {
    Read(String),
    List(String),
    Write(String, u8),
    Make(String),
    Remove(String),
}

#[derive(Clone, Debug)]
enum Step {
    /// Outside of a transaction, or in the domain's one of this number if it is open.
    Do(DomId, Option<usize>, Op),
    Begin(DomId, usize),
    End(DomId, usize, bool),
    /// The guest begins its connection anew: its transactions are gone.
    Reset(DomId),
}

/// Values by path, the root of it all included.
#[derive(Clone, Debug, PartialEq)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn answer(&mut self, op: &Op) -> Result<String, &'static str> {
        match op {
            Op::Read(path) => self.0.get(path).cloned().ok_or("ENOENT"),
            Op::List(path) => {
                self.0.get(path).ok_or("ENOENT")?;
                let names = self.0.keys().filter(|key| *key != "/" && path::parent(key) == path);
                Ok(names.map(|key| [path::leaf(key), "\0"].concat()).collect())
            }
            Op::Write(path, value) => {
                self.make(path);
                self.0.insert(path.clone(), value.to_string());
                Ok("OK\0".into())
            }
            Op::Make(path) => {
                self.make(path);
                Ok("OK\0".into())
            }
            Op::Remove(path) => {
                if !self.0.contains_key(path) && !self.0.contains_key(path::parent(path)) {
                    return Err("ENOENT");
                }
                self.0.retain(|key, _| !path::is_at_or_below(key, path));
                Ok("OK\0".into())
            }
        }
    }

    fn make(&mut self, path: &str) {
        let mut at = path;
        while !self.0.contains_key(at) {
            self.0.insert(at.into(), String::new());
            at = path::parent(at);
        }
    }
}

struct Open {
    number: u32,
    seen: Vec<(Op, Result<String, String>)>,
    /// How many changes there had been when it began.
    began: usize,
}

fn ask(machine: &mut Machine, domain: DomId, tx: u32, op: &Op) -> Result<String, String> {
    let (kind, payload) = match op {
        Op::Read(path) => (kind::READ, [path, "\0"].concat()),
        Op::List(path) => (kind::DIRECTORY, [path, "\0"].concat()),
        Op::Write(path, value) => (kind::WRITE, [path, "\0", &value.to_string()].concat()),
        Op::Make(path) => (kind::MKDIR, [path, "\0"].concat()),
        Op::Remove(path) => (kind::RM, [path, "\0"].concat()),
    };
    machine.ask_in(tx, domain, kind, payload.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn path_below() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("a-")], 1..4)
        .prop_map(|names| ["/all/", &names.join("/")].concat())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => path_below().prop_map(Op::Read),
        1 => path_below().prop_map(Op::List),
        3 => (path_below(), any::<u8>()).prop_map(|(path, value)| Op::Write(path, value)),
        1 => path_below().prop_map(Op::Make),
        1 => path_below().prop_map(Op::Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let domain = 1..4u16;
    let slot = 0..2usize;
    prop_oneof![
        6 => (domain.clone(), slot.clone(), op()).prop_map(|(domain, slot, op)| Step::Do(domain, Some(slot), op)),
        2 => (domain.clone(), op()).prop_map(|(domain, op)| Step::Do(domain, None, op)),
        2 => (domain.clone(), slot.clone()).prop_map(|(domain, slot)| Step::Begin(domain, slot)),
        2 => (domain.clone(), slot, any::<bool>()).prop_map(|(domain, slot, how)| Step::End(domain, slot, how)),
        1 => domain.prop_map(Step::Reset),
    ]
}

/// Follows the steps, and ends with both knowing the same.
fn follow(steps: Vec<Step>) {
    let mut machine = Machine::new(3);
    let everybody = alloc::vec![Permission { domain: 0, read: true, write: true }];
    machine.store.store.place("/all", b"", &everybody).unwrap();
    let mut model = Model(BTreeMap::from([("/all".into(), String::new())]));
    let mut open: BTreeMap<(DomId, usize), Open> = BTreeMap::new();
    let mut changes = 0;
    for step in steps {
        match step {
            Step::Do(domain, slot, op) => {
                match slot.and_then(|slot| open.get_mut(&(domain, slot))) {
                    Some(transaction) => {
                        let answer = ask(&mut machine, domain, transaction.number, &op);
                        transaction.seen.push((op, answer));
                    }
                    None => {
                        let expected = model.answer(&op).map_err(String::from);
                        assert_eq!(ask(&mut machine, domain, 0, &op), expected, "{op:?}");
                        changes += 1;
                    }
                };
            }
            Step::Begin(domain, slot) if !open.contains_key(&(domain, slot)) => {
                let number = machine.ask(domain, kind::TRANSACTION_START, "\0").unwrap();
                let number = number.trim_end_matches('\0').parse().unwrap();
                open.insert((domain, slot), Open { number, seen: Vec::new(), began: changes });
            }
            Step::End(domain, slot, commit) => {
                let Some(Open { number, seen, began }) = open.remove(&(domain, slot)) else { continue };
                let how: &[u8] = if commit { b"T\0" } else { b"F\0" };
                match machine.ask_in(number, domain, kind::TRANSACTION_END, how) {
                    Ok(_) if commit => {
                        changes += 1;
                        for (op, answer) in seen {
                            let expected = model.answer(&op).map_err(String::from);
                            assert_eq!(answer, expected, "{op:?}, as if alone at the end");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert!(commit && error == "EAGAIN", "{error}");
                        assert!(changes > began, "nobody else has done anything");
                    }
                }
            }
            Step::Reset(domain) => {
                open.retain(|(owner, _), _| *owner != domain);
                machine.ask(domain, kind::RESET_WATCHES, "\0").unwrap();
            }
            Step::Begin(..) => {}
        }
    }
    for (path, value) in &model.0 {
        assert_eq!(machine.store.read(path).as_deref(), Some(value.as_bytes()), "{path}");
    }
    let (nodes, more) = machine.store.list("/all", None).unwrap();
    assert!(!more);
    assert_eq!(nodes.len(), model.0.len());
    let owned: usize = (1..4).map(|domain| machine.store.store.tree.account(domain).nodes).sum();
    let counted = machine.store.store.tree.iter().filter(|(_, node)| (1..4).contains(&node.owner())).count();
    assert_eq!(owned, counted, "the accounts are right");
}

/// Alone, a transaction always passes.
#[test]
fn alone_a_transaction_passes() {
    let write = |name: &str| Op::Write(["/all/", name].concat(), 1);
    follow(alloc::vec![
        Step::Do(1, None, write("a/b")),
        Step::Begin(2, 0),
        Step::Do(2, Some(0), Op::Remove("/all/a".into())),
        Step::Do(2, Some(0), write("a/b/a")),
        Step::Do(2, Some(0), Op::List("/all/a".into())),
        Step::Do(2, Some(0), Op::Remove("/all/a/b/a".into())),
        Step::End(2, 0, true),
        Step::Do(3, None, Op::List("/all/a/b".into())),
    ]);
}

proptest! {
    #[test]
    fn the_store_is_as_simple_as_that(steps in proptest::collection::vec(step(), 1..80)) {
        follow(steps);
    }
}
