//! The control client against a pretended control domain.

mod support;

use std::{thread, time::Duration};

use abi::control::wire::{Event, GuestConfig, MAX_KEPT, MAX_TEXT, State};
use support::FakeControl;
use toolstack::control::{Client, Console};

const SHORT: Duration = Duration::from_secs(5);

fn client() -> (FakeControl, Client) {
    let (fake, line) = FakeControl::start();
    let client = Client::new(line, SHORT, None).unwrap();
    assert!(client.hello(SHORT).unwrap().is_empty());
    (fake, client)
}

#[test]
fn requests_find_their_answers() {
    let (fake, client) = client();
    assert_eq!(client.list().unwrap().len(), 2);
    client.pause("web").unwrap();
    assert_eq!(client.domain("web").unwrap().state, State::Paused);
    assert_eq!(client.machine().unwrap().cores, 4);
    assert_eq!(client.audit().unwrap().mappings, 100);
    assert_eq!(client.whole_log().unwrap(), b"atoll: a line\natoll: another\n");
    client.stop(0x10).unwrap();
    assert_eq!(fake.memory.lock().unwrap().stopped, Some(0x10));
}

#[test]
fn a_refusal_brings_its_remedy() {
    let (_fake, client) = client();
    let error = client.destroy("nobody").unwrap_err();
    assert_eq!((error.what(), error.remedy()), ("there is no domain `nobody`", "see the list"));
}

#[test]
fn hello_is_said_until_it_is_answered() {
    let (fake, line) = FakeControl::start();
    fake.memory.lock().unwrap().silent = 2;
    let client = Client::new(line, SHORT, None).unwrap();
    client.hello(SHORT).unwrap();
}

#[test]
fn noise_costs_no_answer() {
    let (fake, client) = client();
    fake.memory.lock().unwrap().noise = b"\x07noise\xff\0\0more\0".to_vec();
    assert_eq!(client.list().unwrap().len(), 2);
}

#[test]
fn what_is_lost_either_way_is_sent_again_and_carried_out_once() {
    let (fake, client) = client();
    fake.memory.lock().unwrap().silent = 1;
    client.input("web", b"once").unwrap();
    fake.memory.lock().unwrap().mute = 1;
    client.input("web", b" more").unwrap();
    assert_eq!(fake.memory.lock().unwrap().typed, b"once more");
    fake.memory.lock().unwrap().mute = 1;
    let guest = GuestConfig { name: "new".into(), ..GuestConfig::default() };
    assert_eq!(client.create(guest).unwrap().0, 2);
    assert_eq!(client.list().unwrap().len(), 3);
}

#[test]
fn no_answer_at_all_is_an_error() {
    let (fake, line) = FakeControl::start();
    let client = Client::new(line, Duration::from_millis(1500), None).unwrap();
    client.hello(SHORT).unwrap();
    fake.memory.lock().unwrap().silent = 2;
    let error = client.pause("web").unwrap_err();
    assert!(error.what().contains("no answer"), "{error}");
    client.pause("web").unwrap();
}

#[test]
fn one_request_is_under_way_at_a_time() {
    let (fake, client) = client();
    fake.memory.lock().unwrap().slow = Duration::from_millis(20);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(client.list().unwrap().len(), 2)));
        }
    });
    assert_eq!(fake.memory.lock().unwrap().most_at_once, 1);
}

#[test]
fn a_line_that_breaks_off_is_made_again() {
    let (fake, line) = FakeControl::start();
    let other = fake.clone();
    let again = Box::new(move || Ok(other.new_line()));
    let client = Client::new(line, SHORT, Some(again)).unwrap();
    client.hello(SHORT).unwrap();
    drop(fake.new_line());
    // The first request may meet the broken line; after that all is as before.
    let _ = client.list();
    assert_eq!(client.list().unwrap().len(), 2);
    assert!(fake.memory.lock().unwrap().hellos >= 2);
}

#[test]
fn a_line_that_is_lost_is_an_error_at_once() {
    let (fake, client) = client();
    drop(fake.new_line());
    assert!(client.list().unwrap_err().what().contains("broke off"));
    assert!(client.is_closed());
}

/// One that prints faster than it can be read: at each piece more than the piece has.
#[test]
fn a_chatterbox_is_read_to_an_end() {
    let (fake, client) = client();
    fake.memory.lock().unwrap().console = vec![b'-'; MAX_TEXT];
    for chatter in [MAX_TEXT, 20] {
        fake.memory.lock().unwrap().chatter = vec![b'-'; chatter];
        let mut console = Console::new(&client, "web");
        assert!(console.read(false).unwrap().len() <= MAX_KEPT);
        assert!(!console.read(false).unwrap().is_empty());
    }
}

#[test]
fn a_console_is_read_without_gaps() {
    let (fake, client) = client();
    let long: Vec<u8> = (0..3000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    fake.print(&long);
    let mut console = Console::new(&client, "web");
    let mut seen = console.read(true).unwrap();
    fake.print(b" and more");
    let event = console.wait(SHORT).unwrap();
    seen.extend(console.bytes_of(&event).unwrap());
    // One event is lost: the next one makes good for it.
    fake.print(b" lost");
    assert!(client.next_event(SHORT).is_some());
    fake.print(b" found");
    let event = client.next_event(SHORT).unwrap();
    seen.extend(console.bytes_of(&event).unwrap());
    assert_eq!(seen, [long.as_slice(), b" and more lost found"].concat());
}

#[test]
fn events_come_unasked() {
    let (fake, client) = client();
    fake.tell_stopped("web");
    assert!(matches!(client.next_event(SHORT), Some(Event::Stopped { name, .. }) if name == "web"));
}
