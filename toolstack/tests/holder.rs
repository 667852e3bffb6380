//! Two commands on one control line.

mod support;

use std::{io::Write, sync::Arc, thread, time::Duration};

use abi::control::{
    frame,
    wire::{Event, Request, State, ToControl},
};
use support::FakeControl;
use tempfile::TempDir;
use toolstack::{
    control::{Client, Console},
    holder::{SOCKET, attach, hub::Hub},
    line,
};

const SHORT: Duration = Duration::from_secs(5);

fn held() -> (FakeControl, TempDir) {
    let (fake, line) = FakeControl::start();
    let client = Client::new(line, SHORT, None).unwrap();
    let greeting = client.hello(SHORT).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let listener = line::listen_unix(directory.path(), SOCKET).unwrap();
    let hub = Hub::new(client, greeting, SHORT);
    thread::spawn(move || hub.serve(&listener));
    (fake, directory)
}

/// Whether it becomes so while the line is patient.
fn comes_true(is_so: impl Fn() -> bool) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        is_so()
    })
}

#[test]
fn answers_go_to_whom_they_belong() {
    let (_fake, directory) = held();
    let path = Arc::new(directory);
    let asking: Vec<_> = (0..4)
        .map(|number| {
            let path = Arc::clone(&path);
            thread::spawn(move || {
                let client = attach(path.path()).unwrap();
                for _ in 0..50 {
                    if number % 2 == 0 {
                        assert_eq!(client.list().unwrap().len(), 2);
                    } else {
                        assert_eq!(client.machine().unwrap().cores, 4);
                    }
                }
            })
        })
        .collect();
    for thread in asking {
        thread.join().unwrap();
    }
}

#[test]
fn hello_reaches_the_control_domain_once() {
    let (fake, directory) = held();
    for _ in 0..3 {
        attach(directory.path()).unwrap();
    }
    assert_eq!(fake.memory.lock().unwrap().hellos, 1);
}

#[test]
fn refusals_pass_through() {
    let (_fake, directory) = held();
    let client = attach(directory.path()).unwrap();
    assert_eq!(client.pause("nobody").unwrap_err().remedy(), "see the list");
    client.pause("web").unwrap();
    assert_eq!(client.domain("web").unwrap().state, State::Paused);
}

#[test]
fn what_takes_long_is_carried_out_once() {
    let (fake, directory) = held();
    let client = attach(directory.path()).unwrap();
    // Long enough that both lines carry the order more than once.
    fake.memory.lock().unwrap().slow = Duration::from_millis(1200);
    client.input("web", b"once").unwrap();
    fake.memory.lock().unwrap().slow = Duration::ZERO;
    assert_eq!(client.list().unwrap().len(), 2);
    assert_eq!(fake.memory.lock().unwrap().typed, b"once");
}

#[test]
fn a_console_is_followed_as_long_as_anyone_does() {
    let (fake, directory) = held();
    let (one, two) = (attach(directory.path()).unwrap(), attach(directory.path()).unwrap());
    let (mut first, mut second) = (Console::new(&one, "web"), Console::new(&two, "web"));
    first.read(true).unwrap();
    second.read(true).unwrap();
    // The first stops to follow; the second still sees what is printed.
    first.read(false).unwrap();
    fake.print(b"hello");
    let event = second.wait(SHORT).unwrap();
    assert_eq!(second.bytes_of(&event).unwrap(), b"hello");
    assert!(one.next_event(Duration::from_millis(200)).is_none());
    drop(two);
    assert!(
        comes_true(|| !fake.memory.lock().unwrap().followed),
        "nobody is there, and the control domain still sends"
    );
}

#[test]
fn an_upload_ends_with_whoever_began_it() {
    let (fake, directory) = held();
    let is_uploading = || fake.memory.lock().unwrap().is_uploading();
    let mut line = line::Line::connect_unix(directory.path(), SOCKET).unwrap();
    let request = Request::Upload { name: "mine".into(), bytes: 8, sha256: [0; 32] };
    line.write_all(&frame::encode(&ToControl { id: 1, request }).unwrap()).unwrap();
    assert!(comes_true(is_uploading), "it has begun");
    // Somebody else comes and goes.
    attach(directory.path()).unwrap().list().unwrap();
    assert!(is_uploading());
    drop(line);
    assert!(comes_true(|| !is_uploading()), "half an image is kept for nobody");
}

#[test]
fn everyone_hears_of_a_stopped_guest() {
    let (fake, directory) = held();
    let clients = [attach(directory.path()).unwrap(), attach(directory.path()).unwrap()];
    fake.tell_stopped("web");
    for client in &clients {
        assert!(matches!(client.next_event(SHORT), Some(Event::Stopped { name, .. }) if name == "web"));
    }
}

#[test]
fn without_a_machine_there_is_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let error = attach(directory.path()).err().unwrap();
    assert_eq!((error.what(), error.remedy()), ("no machine is running", "start one with `atoll up`"));
}
