//! See the module above.
//!
//! The line may lose a frame either way, and an order must be carried out once. So one request is under way at a time,
//! whoever asks, and it is sent again under its number until it is answered; the control domain repeats an answer that
//! it has given already, and does nothing twice (see `abi::control::wire`).

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use abi::control::{
    frame::{self, Decoder},
    wire::{Event, Refusal, Reply, Request, ToControl, ToToolstack, VERSION},
};

use super::requests::unexpected;
use crate::{
    error::{Error, Result},
    line::Line,
};

/// Makes the line anew after it broke off.
pub type Reconnect = Box<dyn FnMut() -> std::io::Result<Line> + Send>;

/// After how long a request is sent again while no answer comes.
const REPEAT: Duration = Duration::from_secs(1);
/// And how much longer for each byte of it: the slowest line, Bochs's with busy guests, carries some 2,000 in a second.
const PER_BYTE: Duration = Duration::from_millis(1);
/// `Hello` is sent again each second, because it wakes nobody that is busy; the wait for others doubles up to this.
const LONGEST_REPEAT: Duration = Duration::from_secs(60);
/// How often a line that broke off is tried again before it counts as lost.
const RECONNECTS: u32 = 50;

/// What the control domain says at the start of a conversation: guests it could not start, and why.
pub type Greeting = Vec<(String, Refusal)>;

type Answer = std::result::Result<Reply, Refusal>;

/// A conversation with a control domain.
pub struct Client {
    shared: Arc<Shared>,
    events: Mutex<Receiver<Event>>,
    patience: Duration,
}

struct Shared {
    /// None while it is broken off.
    writer: Mutex<Option<Line>>,
    turn: Turn,
    waiting: Mutex<HashMap<u32, Sender<Answer>>>,
    next_id: AtomicU32,
    /// How often the line broke off.
    breaks: AtomicU32,
    /// The line broke off and will not come back, or nobody needs it any more.
    closed: AtomicBool,
}

/// Who may ask now: one at a time.
#[derive(Default)]
struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

/// A turn that was taken, until it is dropped.
struct Taken<'turn>(&'turn Turn);

impl Turn {
    fn take(&self, patience: Duration) -> Option<Taken<'_>> {
        let taken = lock(&self.taken);
        let waited = self.free.wait_timeout_while(taken, patience, |taken| *taken);
        let (mut taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        *taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        self.0.free.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client on this line. A request may take as long as `patience`; `reconnect` makes the line anew, if it can be.
    pub fn new(line: Line, patience: Duration, reconnect: Option<Reconnect>) -> std::io::Result<Self> {
        let reader = line.try_clone()?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(Some(line)),
            turn: Turn::default(),
            waiting: Mutex::default(),
            next_id: AtomicU32::new(1),
            breaks: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let (sender, events) = channel();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || theirs.read(reader, reconnect, &sender));
        Ok(Self { shared, events: Mutex::new(events), patience })
    }

    /// Opens the conversation, asking each second until there is an answer: the machine may still be booting.
    pub fn hello(&self, patience: Duration) -> Result<Greeting> {
        match self.ask_within(Request::Hello { version: VERSION }, patience)? {
            Reply::Hello { version, failed } if version == VERSION => Ok(failed),
            Reply::Hello { version, .. } => Err(Error::new(
                format!(
                    "the control domain speaks version {version} of the wire, this command version {VERSION}"
                ),
                "boot images that were built together with this command",
            )),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks and waits for the answer; a refusal is an error.
    pub fn ask(&self, request: Request) -> Result<Reply> {
        self.ask_within(request, self.patience)
    }

    fn ask_within(&self, request: Request, patience: Duration) -> Result<Reply> {
        self.exchange(request, patience)?.map_err(Error::from)
    }

    /// Asks and waits for the answer, whichever it is. An error is the line's.
    pub fn exchange(&self, request: Request, patience: Duration) -> Result<Answer> {
        let start = Instant::now();
        let backs_off = !matches!(request, Request::Hello { .. });
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = frame::encode(&ToControl { id, request }) else {
            return Err(Error::new(
                "the request is too long for the control line",
                "use shorter names and texts",
            ));
        };
        // A long frame takes its time on a slow line, and is not to be sent a second time before it has arrived.
        let mut pause = REPEAT + PER_BYTE * u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Some(_turn) = self.shared.turn.take(patience) else {
            return Err(Error::new("the control domain is busy with another request", "try again"));
        };
        let (sender, answer) = channel();
        lock(&self.shared.waiting).insert(id, sender);
        let result = loop {
            if self.shared.closed.load(Ordering::SeqCst) {
                break Err(line_lost());
            }
            self.shared.send(id, &frame);
            let left = patience.saturating_sub(start.elapsed());
            match answer.recv_timeout(left.min(pause)) {
                Ok(answer) => break Ok(answer),
                Err(RecvTimeoutError::Disconnected) => break Err(line_lost()),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= patience => {
                    let seconds = patience.as_secs();
                    break Err(Error::new(format!("the control domain gave no answer in {seconds} s"), ""));
                }
                Err(RecvTimeoutError::Timeout) if backs_off => pause = LONGEST_REPEAT.min(pause * 2),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        lock(&self.shared.waiting).remove(&id);
        result
    }

    /// The next event, if one comes in time.
    pub fn next_event(&self, patience: Duration) -> Option<Event> {
        lock(&self.events).recv_timeout(patience).ok()
    }

    /// Whether the line is gone for good.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::SeqCst)
    }

    /// Ends the run. The machine may stop before its answer has left it, so a line that breaks off is an answer too.
    pub fn stop(&self, code: u8) -> Result<()> {
        let breaks = self.shared.breaks.load(Ordering::SeqCst);
        match self.exchange(Request::Stop(code), self.patience) {
            Ok(answer) => answer.map(|_| ()).map_err(Error::from),
            Err(_) if self.shared.breaks.load(Ordering::SeqCst) != breaks => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        if let Some(line) = lock(&self.shared.writer).as_ref() {
            line.shutdown();
        }
    }
}

impl Shared {
    /// Sends a request, if it is still waited for and there is a line. What was sent on a line that broke off must not
    /// be sent on the next, which begins with a `Hello`: the control domain forgets what it has answered then.
    fn send(&self, id: u32, frame: &[u8]) {
        if let Some(line) = lock(&self.writer).as_mut()
            && lock(&self.waiting).contains_key(&id)
        {
            write(line, frame);
        }
    }

    fn read(&self, mut line: Line, mut reconnect: Option<Reconnect>, events: &Sender<Event>) {
        loop {
            self.read_to_end(&mut line, events);
            // What was asked before is not answered on a new line.
            let mut writer = lock(&self.writer);
            *writer = None;
            self.breaks.fetch_add(1, Ordering::SeqCst);
            lock(&self.waiting).clear();
            drop(writer);
            match reconnect.as_mut().and_then(|reconnect| self.connect_again(reconnect)) {
                Some(again) => line = again,
                None => {
                    self.closed.store(true, Ordering::SeqCst);
                    return lock(&self.waiting).clear();
                }
            }
        }
    }

    fn read_to_end(&self, line: &mut Line, events: &Sender<Event>) {
        let mut decoder = Decoder::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = line.read(&mut buffer) {
            for &byte in &buffer[..count] {
                match decoder.push(byte) {
                    Some(ToToolstack::Reply { id, result }) => {
                        if let Some(waiting) = lock(&self.waiting).remove(&id) {
                            // Whoever asked may have given up.
                            let _ = waiting.send(result);
                        }
                    }
                    Some(ToToolstack::Event(event)) => {
                        let _ = events.send(event);
                    }
                    None => {}
                }
            }
        }
    }

    fn connect_again(&self, reconnect: &mut Reconnect) -> Option<Line> {
        for _ in 0..RECONNECTS {
            if self.closed.load(Ordering::SeqCst) {
                return None;
            }
            thread::sleep(Duration::from_millis(100));
            let Some((mut line, reader)) =
                reconnect().ok().and_then(|line| line.try_clone().ok().map(|r| (line, r)))
            else {
                continue;
            };
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let hello = ToControl { id, request: Request::Hello { version: VERSION } };
            frame::encode(&hello).iter().for_each(|frame| write(&mut line, frame));
            *lock(&self.writer) = Some(line);
            return Some(reader);
        }
        None
    }
}

/// Sends a frame. An error is not told here: the reader meets it too, and deals with it.
fn write(line: &mut Line, frame: &[u8]) {
    // The zero before it ends whatever noise the line may have carried.
    let bytes: Vec<u8> = std::iter::once(0).chain(frame.iter().copied()).collect();
    let _ = line.write_all(&bytes);
}

fn line_lost() -> Error {
    Error::new("the control line broke off", "see whether the machine still runs: `atoll info`")
}
