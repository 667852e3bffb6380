//! Requests one by one: answers, errors, permissions, quotas, and the nodes a guest finds.

use super::*;

#[test]
fn a_guest_finds_what_a_toolstack_writes() {
    let mut machine = Machine::new(2);
    for (path, value) in [
        ("name", "web"),
        ("domid", "1"),
        ("vm", "/vm/01010101-0101-0101-0101-010101010101"),
        ("/vm/01010101-0101-0101-0101-010101010101/name", "web"),
        ("memory/static-max", "65536"),
        ("cpu/1/availability", "online"),
        ("console/ring-ref", "1048574"),
        ("console/type", "xenconsoled"),
        ("store/port", "2"),
        ("control/platform-feature-xs_reset_watches", "1"),
        ("control/shutdown", ""),
        ("/local/domain/1/name", "web"),
    ] {
        assert_eq!(machine.read(1, path).as_deref(), Ok(value), "{path}");
    }
    assert_eq!(machine.ask(1, kind::GET_PERMS, "name\0").as_deref(), Ok("n0\0r1\0"));
    assert_eq!(machine.ask(1, kind::GET_PERMS, "control/shutdown\0").as_deref(), Ok("n1\0"));
    for path in ["name", "device", "control", "/local/domain/2/data", "/tool/x", "/mine"] {
        assert_eq!(machine.write(1, path, "x").unwrap_err(), "EACCES", "{path}");
    }
    for path in ["/local/domain/2/name", "/local/domain/2/nothing", "/tool", "/local", "/"] {
        assert_eq!(machine.read(1, path).unwrap_err(), "EACCES", "{path}");
    }
    machine.write(1, "control/feature-poweroff", "1").unwrap();
    machine.write(1, "attr/os/class", "Atoll").unwrap();
    assert_eq!(machine.ask(1, kind::GET_PERMS, "attr/os\0").as_deref(), Ok("n1\0"));
}

#[test]
fn values_children_and_what_goes_with_a_node() {
    let mut machine = Machine::new(1);
    machine.write(1, "data/a/b/c", "deep").unwrap();
    assert_eq!(machine.read(1, "data/a/b").as_deref(), Ok(""));
    assert_eq!(machine.write(1, "data/a/x", "\u{1}\0binary").as_deref(), Ok("OK\0"));
    assert_eq!(machine.read(1, "data/a/x").as_deref(), Ok("\u{1}\0binary"));
    assert_eq!(machine.ask(1, kind::DIRECTORY, "data/a\0").as_deref(), Ok("b\0x\0"));
    machine.ask(1, kind::MKDIR, "data/a/b\0").unwrap();
    assert_eq!(machine.read(1, "data/a/b/c").as_deref(), Ok("deep"), "mkdir leaves what is there");
    machine.ask(1, kind::RM, "data/a\0").unwrap();
    machine.fails(1, kind::READ, "data/a/b/c\0", "ENOENT");
    machine.ask(1, kind::RM, "data/a\0").unwrap();
    machine.fails(1, kind::RM, "data/a/b\0", "ENOENT");
    assert_eq!(machine.ask(1, kind::DIRECTORY, "data\0").as_deref(), Ok(""));
}

#[test]
fn requests_that_make_no_sense() {
    let mut machine = Machine::new(1);
    for (kind, payload, error) in [
        (kind::READ, "data", "EINVAL"),
        (kind::READ, "", "EINVAL"),
        (kind::READ, "\0", "EINVAL"),
        (kind::READ, "data\0more\0", "EINVAL"),
        (kind::READ, "da ta\0", "EINVAL"),
        (kind::READ, "@introduceDomain\0", "EINVAL"),
        (kind::WRITE, "data", "EINVAL"),
        (kind::WRITE, "data/\0x", "EINVAL"),
        (kind::WATCH, "data\0", "EINVAL"),
        (kind::WATCH, "data\0t\0more\0", "EINVAL"),
        (kind::UNWATCH, "data\0t\0", "ENOENT"),
        (kind::SET_PERMS, "data\0", "EINVAL"),
        (kind::SET_PERMS, "data\0x1\0", "EINVAL"),
        (kind::SET_PERMS, "data\0n1\0r1\0r1\0r1\0r1\0r1\0", "ENOSPC"),
        (kind::SET_PERMS, "data\0n9\0", "ENOENT"),
        (kind::SET_PERMS, "data\0n0\0", "EPERM"),
        (kind::SET_PERMS, "name\0n1\0", "EACCES"),
        (kind::TRANSACTION_END, "T\0", "ENOENT"),
        (kind::TRANSACTION_END, "X\0", "EINVAL"),
        (kind::DIRECTORY_PART, "data\0", "EINVAL"),
        (kind::INTRODUCE, "1\0one\0one\0", "EACCES"),
        (kind::RELEASE, "1\0", "EACCES"),
        (kind::RESUME, "1\0", "EACCES"),
        (kind::SET_TARGET, "1\0two\0", "EACCES"),
        (kind::IS_DOMAIN_INTRODUCED, "1\0", "EACCES"),
        (kind::CONTROL, "check\0", "EACCES"),
        (kind::WATCH_EVENT, "a\0b\0", "ENOSYS"),
        (kind::RESTRICT, "1\0", "ENOSYS"),
        (23, "", "ENOSYS"),
        (u32::MAX, "", "ENOSYS"),
    ] {
        machine.fails(1, kind, payload, error);
    }
    assert_eq!(machine.ask_in(7, 1, kind::READ, b"name\0").unwrap_err(), "ENOENT");
    assert_eq!(machine.ask_in(7, 1, kind::TRANSACTION_START, b"\0").unwrap_err(), "ENOENT");
    assert_eq!(machine.ask(1, kind::GET_DOMAIN_PATH, "07\0").as_deref(), Ok("/local/domain/7\0"));
    assert_eq!(machine.read(1, "name").as_deref(), Ok("web"), "and it goes on");
}

#[test]
fn rights_are_given_and_taken() {
    let mut machine = Machine::new(3);
    machine.write(1, "data/shared", "one").unwrap();
    machine.ask(1, kind::SET_PERMS, "data/shared\0n1\0r2\0b3\0").unwrap();
    let path = "/local/domain/1/data/shared";
    assert_eq!(machine.read(2, path).as_deref(), Ok("one"));
    assert_eq!(machine.write(2, path, "two").unwrap_err(), "EACCES");
    machine.write(3, path, "three").unwrap();
    machine.write(3, &[path, "/below"].concat(), "").unwrap();
    let below = [path, "/below\0"].concat();
    assert_eq!(machine.ask(3, kind::GET_PERMS, &below).as_deref(), Ok("n3\0r2\0b3\0"));
    assert_eq!(machine.ask(2, kind::DIRECTORY, &[path, "\0"].concat()).as_deref(), Ok("below\0"));
    assert_eq!(machine.ask(3, kind::SET_PERMS, &[path, "\0n3\0"].concat()).unwrap_err(), "EACCES");
    machine.ask(1, kind::SET_PERMS, "data/shared\0n1\0r9\0").unwrap();
    assert_eq!(machine.ask(1, kind::GET_PERMS, "data/shared\0").as_deref(), Ok("n1\0"), "nobody is 9");
    assert_eq!(machine.read(2, path).unwrap_err(), "EACCES");
}

#[test]
fn quotas() {
    let mut machine = Machine::new(2);
    let mut count = 0;
    let error = loop {
        match machine.write(1, &alloc::format!("data/{}/{count}", count / 100), "x") {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, "ENOSPC");
    assert!((950..1000).contains(&count), "{count}");
    machine.ask(1, kind::RM, "data/0\0").unwrap();
    machine.write(1, "data/0/again", "x").unwrap();
    machine.write(2, "data/mine", &"x".repeat(2000)).unwrap();
    machine.fails(2, kind::WRITE, &["data/mine\0", &"x".repeat(2040)].concat(), "ENOSPC");
    assert_eq!(machine.read(2, "data/mine").unwrap().len(), 2000);
    for number in 0..128 {
        machine.ask(2, kind::WATCH, &alloc::format!("data\0{number}\0")).unwrap();
    }
    machine.fails(2, kind::WATCH, "data\0more\0", "E2BIG");
    for _ in 0..10 {
        machine.ask(2, kind::TRANSACTION_START, "\0").unwrap();
    }
    machine.fails(2, kind::TRANSACTION_START, "\0", "ENOSPC");
    machine.ask(2, kind::RESET_WATCHES, "\0").unwrap();
    machine.ask(2, kind::TRANSACTION_START, "\0").unwrap();
    machine.ask(2, kind::WATCH, "data\0more\0").unwrap();
}

#[test]
fn a_long_directory_comes_in_parts() {
    let mut machine = Machine::new(1);
    let names: Vec<String> =
        (0..300).map(|number| alloc::format!("a-name-of-some-length-{number:03}")).collect();
    for name in &names {
        machine.store.write(&alloc::format!("/local/domain/1/data/{name}"), b"").unwrap();
    }
    machine.fails(1, kind::DIRECTORY, "data\0", "E2BIG");
    let mut all = String::new();
    let mut generation = None;
    while !all.ends_with("\0\0") {
        let part = machine.ask(1, kind::DIRECTORY_PART, &alloc::format!("data\0{}\0", all.len())).unwrap();
        let (number, names) = part.split_once('\0').unwrap();
        assert_eq!(generation.get_or_insert(number.to_string()), number);
        assert!(part.len() <= 4096 && !names.is_empty());
        all.push_str(names);
    }
    assert_eq!(all.split_terminator('\0').filter(|name| !name.is_empty()).collect::<Vec<_>>(), names);
    let behind = machine.ask(1, kind::DIRECTORY_PART, &["data", "99999", ""].join("\0")).unwrap();
    assert!(behind.ends_with("\0\0"));
}

#[test]
fn whoever_goes_leaves_nothing() {
    let mut machine = Machine::new(2);
    machine.write(1, "data/x", "x").unwrap();
    machine.write(2, "data/shared", "x").unwrap();
    machine.ask(2, kind::SET_PERMS, "data/shared\0n2\0b1\0").unwrap();
    machine.write(1, "/local/domain/2/data/shared/of-1", "x").unwrap();
    assert_eq!(machine.store.release(1), Some(101));
    assert_eq!(machine.store.release(1), None);
    assert!(!machine.store.is_introduced(1) && machine.store.is_introduced(2));
    assert_eq!(machine.store.read("/local/domain/1"), None);
    assert_eq!(machine.store.read("/vm/01010101-0101-0101-0101-010101010101"), None);
    assert_eq!(machine.ask(2, kind::GET_PERMS, "data/shared\0").as_deref(), Ok("n2\0"));
    assert_eq!(machine.ask(2, kind::DIRECTORY, "data/shared\0").as_deref(), Ok(""));
    assert_eq!(machine.store.store.tree.account(1), Default::default());
    machine.add(1);
    assert_eq!(machine.guests.pop().map(|guest| guest.domain), Some(1));
    assert_eq!(machine.store.read("/local/domain/1/name").as_deref(), Some(&b"web"[..]));
}

#[test]
fn a_listing_goes_on_where_it_ended() {
    let mut machine = Machine::new(1);
    for path in ["/x/a", "/x/a/b", "/x/a-b", "/x/a/b/c"] {
        machine.store.write(path, &[b'v'; 3000]).unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let (nodes, more) = machine.store.list("/x", seen.last().map(String::as_str)).unwrap();
        seen.extend(nodes.into_iter().map(|node| node.path));
        if !more {
            break;
        }
    }
    assert_eq!(seen, ["/x", "/x/a", "/x/a/b", "/x/a/b/c", "/x/a-b"]);
    assert_eq!(machine.store.list("/y", None).unwrap_err(), Error::ENOENT);
}
