//! What guests print, and what is made of it.

use super::*;

#[test]
fn consoles_are_kept_logged_and_followed() {
    let mut machine = Machine::with(&["web"]);
    let mut web = machine.inside(1);
    web.screen.write(b"hello\nhalf a");
    machine.settle();
    assert!(machine.control.hypervisor.printed.ends_with("[web] hello\n"));
    let ask = |from, follow| Request::Console { name: "web".into(), from, follow };
    let Ok(Reply::Console(text)) = machine.ask(ask(Some(2), true)) else { panic!("text") };
    assert_eq!((text.from, text.next, &text.bytes[..]), (2, 12, &b"llo\nhalf a"[..]));
    web.screen.write(b" line\n");
    machine.settle();
    let [Event::Console { name, text }] = &machine.events[..] else { panic!("one event") };
    assert_eq!((&name[..], text.from, &text.bytes[..]), ("web", 12, &b" line\n"[..]));
    machine.ask(ask(None, false)).unwrap();
    web.screen.write(b"unheard\n");
    machine.settle();
    assert_eq!(machine.events.len(), 1);
    machine.ask(Request::Input { name: "web".into(), bytes: b"keys".to_vec() }).unwrap();
    let mut keys = [0; 10];
    assert_eq!(web.keys.read(&mut keys), 4);
    machine.refused(Request::Console { name: "nobody".into(), from: None, follow: true }, "no guest");
    // The last words of the dead are heard, and their events come before the end is told.
    machine.ask(ask(None, true)).unwrap();
    web.screen.write(b"last words");
    machine.stops(1, DomainState::Shutdown);
    assert!(machine.control.hypervisor.printed.contains("[web] last words\n"));
    assert!(matches!(machine.events.last(), Some(Event::Stopped { .. })));
    machine.refused(Request::Input { name: "web".into(), bytes: vec![1] }, "runs no more");
}

#[test]
fn a_lie_on_a_console_is_told_once_and_forgotten_with_its_guest() {
    let mut machine = Machine::with(&["web"]);
    let page = machine.control.pages.guest(1).unwrap().console;
    // The index behind both streams that says how much was printed.
    page.words().nth(3).unwrap().set(0x8000_0000);
    machine.settle();
    machine.settle();
    assert_eq!(machine.control.hypervisor.printed.matches("broke the rules of its console").count(), 1);
    machine.ask(Request::Destroy("web".into())).unwrap();
    machine.ask(Request::Create(guest("web", None))).unwrap();
    machine.inside(1).screen.write(b"honest\n");
    machine.settle();
    assert!(machine.control.hypervisor.printed.ends_with("[web] honest\n"));
}

#[test]
fn the_next_guest_in_a_slot_starts_with_an_empty_console() {
    let mut machine = Machine::with(&["web"]);
    machine.inside(1).screen.write(b"old");
    machine.ask(Request::Input { name: "web".into(), bytes: b"old keys".to_vec() }).unwrap();
    machine.ask(Request::Destroy("web".into())).unwrap();
    machine.ask(Request::Create(guest("web", None))).unwrap();
    let Ok(Reply::Console(text)) =
        machine.ask(Request::Console { name: "web".into(), from: None, follow: false })
    else {
        panic!("text")
    };
    assert_eq!(text.next, 0);
    assert_eq!(machine.inside(1).keys.read(&mut [0; 10]), 0);
}

#[test]
fn a_phase_is_measured_without_its_announcement() {
    let mut machine = Machine::with(&["bench"]);
    let mut inside = machine.inside(1);
    let exits = |machine: &mut Machine, more: u64| {
        let fake = &mut machine.control.hypervisor;
        fake.domain_mut(1).unwrap().exits[ExitKind::Hypercall as usize] += more;
    };
    let rest = |machine: &mut Machine| {
        for _ in 0..5 {
            machine.control.hypervisor.now += bench::REST / 5;
            machine.settle();
        }
    };
    let begins = machine.control.hypervisor.now + bench::REST;
    inside.screen.write(format!("bench: phase idle-begin {begins}\n").as_bytes());
    machine.settle();
    exits(&mut machine, 1);
    rest(&mut machine);
    exits(&mut machine, 3);
    let ended = machine.control.hypervisor.now;
    rest(&mut machine);
    inside.screen.write(format!("bench: phase idle-end {ended}\n").as_bytes());
    exits(&mut machine, 1);
    machine.control.hypervisor.now += bench::REST;
    machine.settle();
    let said = "[control] bench: {\"name\":\"idle\",\"median\":3,\"unit\":\"exits\",\"samples\":1,\"exits\":{\"hypercall\":3}}\n";
    assert!(machine.control.hypervisor.printed.contains(said));
}

#[test]
fn two_that_are_followed_share_the_line() {
    let mut machine = Machine::with(&["loud", "low"]);
    for name in ["loud", "low"] {
        machine.ask(Request::Console { name: name.into(), from: None, follow: true }).unwrap();
    }
    let (mut loud, mut low) = (machine.inside(1), machine.inside(2));
    let mut low_bytes = 0;
    for _ in 0..200 {
        loud.screen.write(&[b'!'; 2000]);
        low.screen.write(b"psst\n");
        machine.control.turn(false);
        // The line takes a little of what there is to send.
        for byte in core::iter::from_fn(|| machine.control.transmit()).take(300).collect::<Vec<_>>() {
            if let Some(ToToolstack::Event(Event::Console { name, text })) = machine.decoder.push(byte)
                && name == "low"
            {
                low_bytes += text.bytes.len();
            }
        }
    }
    assert!(low_bytes > 500, "{low_bytes} of 1000 bytes came through");
}
