//! An emulator lets one client onto its second serial port, once. The switchboard is that client, and lets others come,
//! go and come back, as they can on a real serial line; what is on its way when one goes is lost, as it is there.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switchboard {
    /// A switchboard at the end of this line.
    pub fn new(machine: Line) -> Result<Self> {
        let connected = Arc::<Mutex<Option<UnixStream>>>::default();
        let theirs = Arc::clone(&connected);
        let mut from_machine = machine.try_clone().at("sharing", "the control line")?;
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from_machine.read(&mut bytes) {
                if let Some(client) = lock(&theirs).as_mut() {
                    // Whoever went does not read what comes now.
                    let _ = client.write_all(&bytes[..count]);
                }
            }
            lock(&theirs).take();
        });
        Ok(Self { machine: Mutex::new(machine), connected })
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
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from_client.read(&mut bytes) {
                if to_machine.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
        });
        Ok(Line::Unix(theirs))
    }

    /// Bytes that nobody means, on their way to the machine.
    pub fn inject(&self, bytes: &[u8]) -> Result<()> {
        lock(&self.machine).write_all(bytes).at("writing to", "the control line")
    }
}
