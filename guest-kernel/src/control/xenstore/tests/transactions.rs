//! Transactions: all or nothing, alone or not at all.

use super::*;

impl Machine {
    fn begin(&mut self, domain: DomId) -> u32 {
        self.ask(domain, kind::TRANSACTION_START, "\0").unwrap().trim_end_matches('\0').parse().unwrap()
    }

    fn write_in(&mut self, tx: u32, domain: DomId, path: &str, value: &str) {
        self.ask_in(tx, domain, kind::WRITE, &[path.as_bytes(), b"\0", value.as_bytes()].concat()).unwrap();
    }

    fn read_in(&mut self, tx: u32, domain: DomId, path: &str) -> String {
        String::from_utf8(self.ask_in(tx, domain, kind::READ, &[path.as_bytes(), b"\0"].concat()).unwrap())
            .unwrap()
    }

    fn end(&mut self, tx: u32, domain: DomId, how: &str) -> Result<(), String> {
        self.ask_in(tx, domain, kind::TRANSACTION_END, &[how.as_bytes(), b"\0"].concat()).map(drop)
    }
}

#[test]
fn nobody_sees_it_before_its_end() {
    let mut machine = Machine::new(1);
    machine.ask(1, kind::WATCH, "data\0t\0").unwrap();
    machine.events(1);
    let tx = machine.begin(1);
    machine.write_in(tx, 1, "data/a", "1");
    machine.write_in(tx, 1, "data/b", "2");
    assert_eq!(machine.read_in(tx, 1, "data/a"), "1");
    machine.fails(1, kind::READ, "data/a\0", "ENOENT");
    assert!(machine.events(1).is_empty());
    machine.end(tx, 1, "T").unwrap();
    assert_eq!(machine.read(1, "data/a").as_deref(), Ok("1"));
    assert_eq!(machine.events(1), ["data/a t", "data/b t"]);
    assert_eq!(machine.end(tx, 1, "T").unwrap_err(), "ENOENT");
}

#[test]
fn what_is_dropped_never_was() {
    let mut machine = Machine::new(1);
    let tx = machine.begin(1);
    machine.write_in(tx, 1, "data/a", "1");
    machine.ask_in(tx, 1, kind::RM, b"attr\0").unwrap();
    machine.end(tx, 1, "F").unwrap();
    machine.fails(1, kind::READ, "data/a\0", "ENOENT");
    assert_eq!(machine.read(1, "attr").as_deref(), Ok(""));
}

#[test]
fn the_slower_one_tries_again() {
    let mut machine = Machine::new(1);
    machine.write(1, "data/a", "old").unwrap();
    let (one, other) = (machine.begin(1), machine.begin(1));
    assert_eq!(machine.read_in(one, 1, "data/a"), "old");
    machine.write_in(other, 1, "data/a", "new");
    machine.end(other, 1, "T").unwrap();
    assert_eq!(machine.read_in(one, 1, "data/a"), "old", "as it saw it first");
    machine.write_in(one, 1, "data/b", "after old");
    assert_eq!(machine.end(one, 1, "T").unwrap_err(), "EAGAIN");
    machine.fails(1, kind::READ, "data/b\0", "ENOENT");
}

#[test]
fn what_was_not_looked_at_does_not_matter() {
    let mut machine = Machine::new(2);
    let tx = machine.begin(1);
    machine.write_in(tx, 1, "data/a", "1");
    machine.write(2, "data/a", "x").unwrap();
    machine.write(1, "attr/x", "x").unwrap();
    machine.end(tx, 1, "T").unwrap();
    assert_eq!(machine.read(1, "data/a").as_deref(), Ok("1"));
}

#[test]
fn what_was_not_there_must_not_have_come() {
    let mut machine = Machine::new(1);
    let tx = machine.begin(1);
    assert_eq!(machine.ask_in(tx, 1, kind::READ, b"data/a\0").unwrap_err(), "ENOENT");
    machine.write(1, "data/a", "came").unwrap();
    machine.write_in(tx, 1, "attr/x", "1");
    assert_eq!(machine.end(tx, 1, "T").unwrap_err(), "EAGAIN");
}

#[test]
fn made_and_removed_again() {
    let mut machine = Machine::new(1);
    machine.write(1, "data/keep", "1").unwrap();
    let tx = machine.begin(1);
    machine.write_in(tx, 1, "data/a/b", "1");
    machine.ask_in(tx, 1, kind::RM, b"data/a\0").unwrap();
    machine.ask_in(tx, 1, kind::RM, b"data/keep\0").unwrap();
    machine.write_in(tx, 1, "data/keep/below", "2");
    machine.end(tx, 1, "T").unwrap();
    assert_eq!(machine.ask(1, kind::DIRECTORY, "data\0").as_deref(), Ok("keep\0"));
    assert_eq!(machine.read(1, "data/keep").as_deref(), Ok(""));
    assert_eq!(machine.read(1, "data/keep/below").as_deref(), Ok("2"));
}

#[test]
fn quotas_hold_in_transactions_too() {
    let mut machine = Machine::new(1);
    let tx = machine.begin(1);
    let mut count = 0;
    let failed = loop {
        let payload = alloc::format!("data/{count}\0");
        match machine.ask_in(tx, 1, kind::MKDIR, payload.as_bytes()) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(failed, "ENOSPC", "{count}");
    assert!((200..1000).contains(&count), "the names fill the node above first: {count}");
    machine.end(tx, 1, "F").unwrap();
    let tx = machine.begin(1);
    let mut looked = 0;
    while machine.ask_in(tx, 1, kind::READ, alloc::format!("data/no/{looked}\0").as_bytes()).unwrap_err()
        == "ENOENT"
    {
        looked += 1;
    }
    assert!((1000..1024).contains(&looked), "{looked}");
    assert_eq!(machine.end(tx, 1, "T").unwrap_err(), "ENOMEM", "it has failed");
}
