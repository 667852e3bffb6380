//! A control domain that is only pretended: it answers the wire as the real one does, over a socket pair.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use abi::control::{
    frame::{self, Decoder},
    topology::{Known, Latency, Topology},
    transfer,
    wire::{
        Account, Core, Domain, Event, GuestConfig, Kept, MAX_PIECE, Machine, Presence, Refusal, Reply,
        Request, State, StoredImage, Text, ToControl, ToToolstack, VERSION, XenstoreNode,
    },
};
use toolstack::line::Line;

/// What the fake remembers.
#[derive(Default)]
pub struct Memory {
    /// The guest of core 1, while that is offline.
    gone: Option<String>,
    /// The kernel that shall take over: its image, and its command line.
    successor: Option<(Option<String>, Option<String>)>,
    pub domains: Vec<Domain>,
    /// Somebody had the guests measure.
    pub measured: bool,
    pub console: Vec<u8>,
    /// Printed on the console whenever somebody has read of it.
    pub chatter: Vec<u8>,
    pub followed: bool,
    pub typed: Vec<u8>,
    pub hellos: u32,
    /// How often somebody asked for accounts.
    pub asked: u64,
    pub stopped: Option<u8>,
    /// Requests to leave unanswered.
    pub silent: u32,
    /// Answers to lose.
    pub mute: u32,
    /// How long each request takes.
    pub slow: Duration,
    /// The most requests that ever came while one was carried out, that one included.
    pub most_at_once: usize,
    /// The last answer, and the number of what it answered.
    answered: Option<(u32, Result<Reply, Refusal>)>,
    /// Noise to send before every reply.
    pub noise: Vec<u8>,
    lists: u64,
    /// Images that were uploaded, each with the checksum that it was announced with.
    pub uploaded: BTreeMap<String, (Vec<u8>, [u8; 32])>,
    /// How many pieces of images came.
    pub pieces: u32,
    /// The file of the machine's transfer disk, where it has one.
    pub disk: Option<PathBuf>,
    /// The last piece of an upload is answered as if the image were damaged.
    pub damages_uploads: bool,
    /// Guests do not do what they are asked.
    pub deaf: bool,
    upload: Option<Upload>,
    /// Nodes of xenstore.
    pub store: BTreeMap<String, Vec<u8>>,
    /// Guests that were created.
    pub created: Vec<GuestConfig>,
    /// Events to send behind the next answer.
    told: Vec<Event>,
}

impl Memory {
    /// Whether an upload is under way.
    pub fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }
}

struct Upload {
    name: String,
    bytes: u64,
    sha256: [u8; 32],
    come: Vec<u8>,
}

fn refusal(what: String) -> Refusal {
    Refusal { what, remedy: "see the list".into() }
}

#[derive(Clone)]
pub struct FakeControl {
    pub memory: Arc<Mutex<Memory>>,
    line: Arc<Mutex<UnixStream>>,
}

impl FakeControl {
    /// The fake, and the toolstack's end of the line to it.
    pub fn start() -> (Self, Line) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let memory = Memory {
            domains: vec![domain(0, "Domain-0"), domain(1, "web")],
            store: BTreeMap::from([("/".to_owned(), Vec::new())]),
            ..Memory::default()
        };
        let fake = Self {
            memory: Arc::new(Mutex::new(memory)),
            line: Arc::new(Mutex::new(ours.try_clone().unwrap())),
        };
        fake.serve(ours);
        (fake, Line::Unix(theirs))
    }

    /// Breaks the line off and goes on, with the same memory, on a new one.
    pub fn new_line(&self) -> Line {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let old = std::mem::replace(&mut *self.line.lock().unwrap(), ours.try_clone().unwrap());
        let _ = old.shutdown(std::net::Shutdown::Both);
        self.serve(ours);
        Line::Unix(theirs)
    }

    fn serve(&self, mut line: UnixStream) {
        let fake = self.clone();
        thread::spawn(move || {
            let (mut decoder, mut buffer) = (Decoder::new(), [0; 1024]);
            while let Ok(count @ 1..) = line.read(&mut buffer) {
                let messages: Vec<ToControl> =
                    buffer[..count].iter().filter_map(|&byte| decoder.push(byte)).collect();
                let most = fake.memory.lock().unwrap().most_at_once.max(messages.len());
                fake.memory.lock().unwrap().most_at_once = most;
                messages.into_iter().for_each(|message| fake.answer(message));
            }
        });
    }

    fn send(&self, message: &ToToolstack) {
        let _ = self.line.lock().unwrap().write_all(&frame::encode(message).unwrap());
    }

    /// Prints on every followed console.
    pub fn print(&self, bytes: &[u8]) {
        let mut memory = self.memory.lock().unwrap();
        let from = memory.console.len() as u64;
        memory.console.extend_from_slice(bytes);
        if memory.followed {
            let text = Text { from, next: memory.console.len() as u64, bytes: bytes.to_vec() };
            self.send(&ToToolstack::Event(Event::Console { name: "web".into(), text }));
        }
    }

    /// Tells of a domain that stopped.
    pub fn tell_stopped(&self, name: &str) {
        self.send(&ToToolstack::Event(Event::Stopped { name: name.into(), state: State::Crashed }));
    }

    fn answer(&self, ToControl { id, request }: ToControl) {
        let mut memory = self.memory.lock().unwrap();
        if memory.silent > 0 {
            memory.silent -= 1;
            return;
        }
        let noise = memory.noise.clone();
        let _ = self.line.lock().unwrap().write_all(&noise);
        thread::sleep(memory.slow);
        let result = match memory.answered.take() {
            Some((last, result)) if last == id => result,
            _ => memory.carry_out(request),
        };
        memory.answered = Some((id, result.clone()));
        if memory.mute > 0 {
            memory.mute -= 1;
            return;
        }
        let told = std::mem::take(&mut memory.told);
        drop(memory);
        self.send(&ToToolstack::Reply { id, result });
        told.into_iter().for_each(|event| self.send(&ToToolstack::Event(event)));
    }
}

impl Memory {
    fn find(&mut self, name: &str) -> Result<&mut Domain, Refusal> {
        self.domains
            .iter_mut()
            .find(|domain| domain.name == name)
            .ok_or_else(|| refusal(format!("there is no domain `{name}`")))
    }

    /// The guest does as it is asked, a moment later.
    fn ask_to_stop(&mut self, name: &str, state: State) -> Result<(), Refusal> {
        if self.deaf {
            return self.find(name).map(|_| ());
        }
        let guest = self.find(name)?;
        guest.state = state;
        if state == State::Shutdown(1) {
            (guest.id, guest.state) = (7, State::Running);
        }
        self.told.push(Event::Stopped { name: name.into(), state });
        if state == State::Shutdown(1) {
            self.told.push(Event::Restarted { name: name.into(), domain: Ok(7) });
        }
        Ok(())
    }

    fn core(&self, number: u32) -> Core {
        let gone = self.gone.clone().filter(|_| number == 1);
        Core {
            number,
            apic_id: number,
            package: number,
            core: 0,
            thread: 0,
            is_online: gone.is_none(),
            guest: None,
            since_tsc: gone.as_ref().map(|_| 1000),
            keeps: gone.map(|name| (name, Kept::Suspended)),
            presence: Presence::Known,
        }
    }

    fn images(&self) -> Vec<StoredImage> {
        let bundled = StoredImage { name: "mesh".into(), bytes: 1000, sha256: None };
        let uploaded = self.uploaded.iter().map(|(name, (bytes, sha256))| StoredImage {
            name: name.clone(),
            bytes: bytes.len() as u64,
            sha256: Some(*sha256),
        });
        std::iter::once(bundled).chain(uploaded).collect()
    }

    fn take(&mut self, from: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(upload) = &mut self.upload else { return Err(refusal("no upload is under way".into())) };
        if from != upload.come.len() as u64 {
            return Err(refusal(format!("{} bytes from {from} are not the next", bytes.len())));
        }
        upload.come.extend_from_slice(bytes);
        if upload.come.len() as u64 == upload.bytes
            && let Some(Upload { name, come, sha256, .. }) = self.upload.take()
        {
            if self.damages_uploads {
                return Err(refusal(format!("image `{name}` came damaged")));
            }
            self.uploaded.insert(name, (come, sha256));
        }
        Ok(())
    }

    fn carry_out(&mut self, request: Request) -> Result<Reply, Refusal> {
        if self.hellos == 0 && !matches!(request, Request::Hello { .. }) {
            return Err(Refusal { what: "nobody said hello".into(), remedy: String::new() });
        }
        match request {
            Request::Hello { .. } => {
                self.hellos += 1;
                return Ok(Reply::Hello { version: VERSION, failed: Vec::new() });
            }
            Request::List => {
                self.lists += 1;
                for domain in &mut self.domains {
                    domain.messages_in = self.lists * 100;
                }
                return Ok(Reply::Domains(self.domains.clone()));
            }
            Request::Accounts(name) => {
                self.find(&name)?;
                self.asked += 1;
                let task = |number, name: &str, worked, paid| Account {
                    number,
                    name: name.into(),
                    worked,
                    paid,
                    ..Account::default()
                };
                let core = Account { number: 2, is_core: true, paid: 400 * self.asked, ..Account::default() };
                let accounts = vec![task(0, "monitor", 500 * self.asked, 100 * self.asked), core];
                return Ok(Reply::Accounts { told: self.asked, accounts });
            }
            Request::Info => return Ok(Reply::Machine(machine())),
            Request::Measure => self.measured = true,
            Request::Topology => {
                let mut topology = Topology { cores: 4, nodes: 1, package_shift: 1, ..Topology::default() };
                for (core, apic_id) in topology.core.iter_mut().zip(0..4) {
                    core.apic_id = apic_id;
                }
                let latencies =
                    if self.measured { vec![Latency { from: 1, to: 2, ticks: 1234 }] } else { vec![] };
                return Ok(Reply::Topology {
                    known: Box::new(Known { topology, latencies }),
                    measuring: false,
                });
            }
            Request::Create(guest) => {
                self.created.push(guest.clone());
                let id = self.domains.len() as u16;
                let cores = if guest.cores.is_empty() { vec![1] } else { guest.cores };
                self.domains.push(Domain {
                    cores: cores.clone(),
                    image: guest.image,
                    ..domain(id, &guest.name)
                });
                return Ok(Reply::Created { domain: id, cores, ticks: 1000 });
            }
            Request::Destroy(name) => {
                self.find(&name)?;
                self.domains.retain(|domain| domain.name != name);
            }
            Request::Pause(name) => self.find(&name)?.state = State::Paused,
            Request::Unpause(name) => self.find(&name)?.state = State::Running,
            Request::Console { name, from, follow } => {
                self.find(&name)?;
                self.followed = follow;
                let text = piece(&self.console, from.unwrap_or_default());
                self.console.extend_from_slice(&self.chatter);
                return Ok(Reply::Console(text));
            }
            Request::Input { name, bytes } => {
                self.find(&name)?;
                self.typed.extend(bytes);
            }
            Request::Dmesg { from } => {
                return Ok(Reply::Log(piece(b"atoll: a line\natoll: another\n", from)));
            }
            Request::Audit => return Ok(Reply::Audit([2, 100, 4, 0, 0, 0, 0])),
            Request::Crash(name) => {
                self.find(&name)?;
                let registers = vec![("rip".into(), 0x1000)];
                let code = b"\x0f\x0b\0\0".to_vec();
                return Ok(Reply::Crash { cause: "triple fault".into(), registers, code, code_bits: 64 });
            }
            Request::Cores => return Ok(Reply::Cores((0..2).map(|number| self.core(number)).collect())),
            Request::Offline { core: 0 } => return Err(refusal("core 0 stays online".into())),
            Request::Offline { .. } => {
                self.gone = Some("web".into());
                return Ok(Reply::Leaving);
            }
            Request::Left => {
                let guest = self.gone.clone().map(|name| (name, Kept::Suspended));
                return Ok(Reply::Offline { core: 1, guest, ticks: 123_456 });
            }
            Request::Replace { core: 0, .. } => return Err(refusal("core 0 stays online".into())),
            Request::Replace { image, command_line, .. } => {
                self.successor = Some((image, command_line));
                return Ok(Reply::Replacing);
            }
            Request::Replaced => {
                let image = match self.successor.take() {
                    Some((image, None)) => image.unwrap_or_else(|| "hello".into()),
                    Some((_, Some(line))) => return Err(refusal(format!("{line}; the old one goes on"))),
                    None => return Err(refusal("no kernel was to be replaced".into())),
                };
                let guest = "web".into();
                return Ok(Reply::Replaced {
                    core: 1,
                    guest,
                    image,
                    bytes: 1_234,
                    ticks: 2_345_678,
                    pause: 256_000,
                });
            }
            Request::Online { core, guest, empty } => {
                let guest = guest.or(self.gone.take()).filter(|_| !empty);
                return Ok(Reply::Online { core, guest, ticks: 7_000 });
            }
            Request::Stop(code) => self.stopped = Some(code),
            Request::Shutdown(name) => self.ask_to_stop(&name, State::Shutdown(0))?,
            Request::Reboot(name) => self.ask_to_stop(&name, State::Shutdown(1))?,
            Request::Images => return Ok(Reply::Images(self.images())),
            Request::Upload { name, bytes, sha256 } => {
                self.upload = Some(Upload { name, bytes, sha256, come: Vec::new() });
            }
            Request::Piece { from, bytes } => {
                assert!(bytes.len() <= MAX_PIECE);
                self.pieces += 1;
                self.take(from, &bytes)?;
            }
            Request::PieceOnDisk { from, bytes } => {
                let Some(disk) = self.disk.as_ref().and_then(|disk| std::fs::read(disk).ok()) else {
                    return Err(refusal("there is no transfer disk".into()));
                };
                self.pieces += 1;
                self.take(from, &disk[transfer::SECTOR..][..bytes as usize])?;
            }
            Request::AbandonUpload => self.upload = None,
            Request::RemoveImage(name) => {
                self.uploaded.remove(&name).ok_or_else(|| refusal(format!("there is no image `{name}`")))?;
            }
            Request::XenstoreList { path, after } => {
                let below = format!("{}/", path.trim_end_matches('/'));
                let mut found = self
                    .store
                    .iter()
                    .filter(|(node, _)| **node == path || node.starts_with(&below))
                    .filter(|(node, _)| after.as_ref().is_none_or(|after| *node > after));
                let node = |(path, value): (&String, &Vec<u8>)| XenstoreNode {
                    path: path.clone(),
                    value: value.clone(),
                    permissions: vec!["n0".into()],
                };
                let nodes: Vec<XenstoreNode> = found.by_ref().take(2).map(node).collect();
                if nodes.is_empty() && after.is_none() {
                    return Err(refusal(format!("there is no node {path}")));
                }
                return Ok(Reply::Xenstore { nodes, more: found.next().is_some() });
            }
            Request::XenstoreWrite { path, value } => {
                self.store.insert(path, value);
            }
            Request::XenstoreRemove(path) => {
                self.store.remove(&path).ok_or_else(|| refusal(format!("there is no node {path}")))?;
            }
        }
        Ok(Reply::Done)
    }
}

fn piece(all: &[u8], from: u64) -> Text {
    let rest = &all[(from as usize).min(all.len())..];
    let bytes = rest[..rest.len().min(abi::control::wire::MAX_TEXT)].to_vec();
    Text { from, next: from + bytes.len() as u64, bytes }
}

fn machine() -> Machine {
    Machine {
        cores: 4,
        tsc_khz: 50_000,
        tsc: 2_000,
        boot_tsc: 1_000,
        frames_total: 262_144,
        frames_free: 131_072,
        ..Machine::default()
    }
}

fn domain(id: u16, name: &str) -> Domain {
    Domain {
        id,
        name: name.into(),
        image: "mesh".into(),
        cores: vec![id.into()],
        vcpus: 1,
        memory_mib: 32,
        state: State::Running,
        exits: [1; abi::control::hypercall::ExitKind::COUNT],
        events_in: 0,
        events_out: 0,
        messages_in: 0,
        messages_out: 0,
        messages_lost: 0,
        liars: 0,
        restarts: 0,
        recovery_ticks: None,
    }
}
