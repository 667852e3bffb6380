//! One control line, many commands.
//!
//! Each command has a connection and speaks the wire's own frames. Its requests go on under numbers of the shared
//! client's, so two commands cannot take each other's answers; `Hello` is answered here, because the conversation with
//! the control domain is open already. Events go to whom they concern.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use abi::control::{
    frame::{self, Decoder},
    wire::{Event, Refusal, Reply, Request, ToControl, ToToolstack, VERSION},
};

use crate::control::{Client, Greeting};

/// A command that does not read for so long loses its connection, lest the others wait for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// The shared line.
pub struct Hub {
    client: Client,
    greeting: Greeting,
    patience: Duration,
    connections: Mutex<HashMap<u64, Connection>>,
    next: AtomicU64,
    /// The connection that began the last upload; 0: none.
    uploader: AtomicU64,
}

struct Connection {
    line: UnixStream,
    follows: HashSet<String>,
}

impl Hub {
    /// Shares a client whose conversation is open.
    pub fn new(client: Client, greeting: Greeting, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            client,
            greeting,
            patience,
            connections: Mutex::default(),
            next: AtomicU64::new(1),
            uploader: AtomicU64::new(0),
        })
    }

    /// Serves all who connect, for ever.
    pub fn serve(self: &Arc<Self>, listener: &UnixListener) {
        let hub = Arc::clone(self);
        thread::spawn(move || hub.hand_out_events());
        for line in listener.incoming().flatten() {
            let hub = Arc::clone(self);
            thread::spawn(move || hub.serve_one(line));
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_one(&self, mut line: UnixStream) {
        let Ok(writer) = line.try_clone() else { return };
        if writer.set_write_timeout(Some(WRITE_PATIENCE)).is_err() {
            return;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, Connection { line: writer, follows: HashSet::new() });
        let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
        // A request that comes again while it is carried out is answered again, as the control domain does it.
        let mut answered = None;
        while let Ok(count @ 1..) = line.read(&mut buffer) {
            for &byte in &buffer[..count] {
                if let Some(ToControl { id, request }) = decoder.push(byte) {
                    let result = match answered.take() {
                        Some((last, result)) if last == id => result,
                        _ => self.carry_out(number, request),
                    };
                    answered = Some((id, result.clone()));
                    self.send(number, &ToToolstack::Reply { id, result });
                }
            }
        }
        self.leave(number);
    }

    fn carry_out(&self, number: u64, mut request: Request) -> Result<Reply, Refusal> {
        match &mut request {
            Request::Hello { .. } => {
                return Ok(Reply::Hello { version: VERSION, failed: self.greeting.clone() });
            }
            // The control domain follows for all of us: as long as one wants to, it goes on.
            Request::Console { name, follow, .. } => *follow = self.follow(number, name, *follow),
            Request::Upload { .. } => self.uploader.store(number, Ordering::Relaxed),
            _ => {}
        }
        self.client
            .exchange(request, self.patience)
            .unwrap_or_else(|error| Err(Refusal { what: error.what().into(), remedy: error.remedy().into() }))
    }

    /// Notes whether a connection follows a console; whether any does.
    fn follow(&self, number: u64, name: &str, wants: bool) -> bool {
        let mut connections = self.connections();
        if let Some(connection) = connections.get_mut(&number) {
            if wants {
                connection.follows.insert(name.to_owned());
            } else {
                connection.follows.remove(name);
            }
        }
        connections.values().any(|connection| connection.follows.contains(name))
    }

    fn leave(&self, number: u64) {
        let Some(gone) = self.connections().remove(&number) else { return };
        // Half an image would keep the control domain's memory. Where all of it came, nothing is under way.
        if self.uploader.compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let _ = self.client.exchange(Request::AbandonUpload, self.patience);
        }
        for name in gone.follows {
            if !self.follow(number, &name, false) {
                // Whether the guest is still there does not matter any more.
                let _ =
                    self.client.exchange(Request::Console { name, from: None, follow: false }, self.patience);
            }
        }
    }

    fn send(&self, number: u64, message: &ToToolstack) {
        let Some(frame) = frame::encode(message) else { return };
        if let Some(connection) = self.connections().get_mut(&number)
            && connection.line.write_all(&frame).is_err()
        {
            // Its reader meets the end and leaves.
            let _ = connection.line.shutdown(std::net::Shutdown::Both);
        }
    }

    fn hand_out_events(&self) {
        while !self.client.is_closed() {
            let Some(event) = self.client.next_event(Duration::from_millis(500)) else { continue };
            let concerned: Vec<u64> = self
                .connections()
                .iter()
                .filter(|(_, connection)| match &event {
                    Event::Console { name, .. } => connection.follows.contains(name),
                    Event::Stopped { .. } | Event::Restarted { .. } => true,
                })
                .map(|(&number, _)| number)
                .collect();
            for number in concerned {
                self.send(number, &ToToolstack::Event(event.clone()));
            }
        }
    }
}
