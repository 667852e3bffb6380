//! An emulator lets one client onto its second serial port, once. The switchboard is that client, and lets others come,
//! go and come back, as they can on a real serial line; what is on its way when one goes is lost, as it is there. It can
//! also lose whole frames, as noise does.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use toolstack::{control::Client, error::At, line::Line};

use crate::Result;

/// See the module.
pub struct Switchboard {
    machine: Mutex<Line>,
    /// The end towards whoever is connected now.
    connected: Arc<Mutex<Option<UnixStream>>>,
    loses: Arc<AtomicU32>,
}

/// Finds whole frames in one direction, and loses some.
#[derive(Default)]
struct Sieve {
    frame: Vec<u8>,
    frames: u32,
}

impl Sieve {
    /// What of these bytes goes on, where each so-many-th frame is lost; 0: none is.
    fn pass(&mut self, bytes: &[u8], loses: u32) -> Vec<u8> {
        let mut passed = Vec::new();
        for &byte in bytes {
            self.frame.push(byte);
            if byte != 0 {
                continue;
            }
            // A zero by itself is no frame, but the end of whatever was before.
            self.frames += u32::from(self.frame.len() > 1);
            let lost = self.frame.len() > 1 && loses != 0 && self.frames.is_multiple_of(loses);
            if !lost {
                passed.append(&mut self.frame);
            }
            self.frame.clear();
        }
        if loses == 0 {
            passed.append(&mut self.frame);
        }
        passed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switchboard {
    /// A switchboard at the end of this line.
    pub fn new(machine: Line) -> Result<Self> {
        let connected = Arc::<Mutex<Option<UnixStream>>>::default();
        let loses = Arc::<AtomicU32>::default();
        let (theirs, their_loses) = (Arc::clone(&connected), Arc::clone(&loses));
        let mut from_machine = machine.try_clone().at("sharing", "the control line")?;
        thread::spawn(move || {
            let (mut sieve, mut bytes) = (Sieve::default(), [0; 4096]);
            while let Ok(count @ 1..) = from_machine.read(&mut bytes) {
                let passed = sieve.pass(&bytes[..count], their_loses.load(Ordering::SeqCst));
                if let Some(client) = lock(&theirs).as_mut() {
                    // Whoever went does not read what comes now.
                    let _ = client.write_all(&passed);
                }
            }
            lock(&theirs).take();
        });
        Ok(Self { machine: Mutex::new(machine), connected, loses })
    }

    /// A client in place of whoever was connected before.
    pub fn connect(&self, patience: Duration) -> Result<Client> {
        self.connect_line()
            .and_then(|line| Client::new(line, patience, None))
            .at("sharing", "the control line")
    }

    fn connect_line(&self) -> io::Result<Line> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut from_client = ours.try_clone()?;
        let mut to_machine = lock(&self.machine).try_clone()?;
        *lock(&self.connected) = Some(ours);
        let loses = Arc::clone(&self.loses);
        thread::spawn(move || {
            let (mut sieve, mut bytes) = (Sieve::default(), [0; 4096]);
            while let Ok(count @ 1..) = from_client.read(&mut bytes) {
                let passed = sieve.pass(&bytes[..count], loses.load(Ordering::SeqCst));
                if to_machine.write_all(&passed).is_err() {
                    return;
                }
            }
        });
        Ok(Line::Unix(theirs))
    }

    /// From now on each `every`th frame is lost, either way; 0: none is.
    pub fn lose(&self, every: u32) {
        self.loses.store(every, Ordering::SeqCst);
    }

    /// Bytes that nobody means, on their way to the machine.
    pub fn inject(&self, bytes: &[u8]) -> Result<()> {
        lock(&self.machine).write_all(bytes).at("writing to", "the control line")
    }
}
