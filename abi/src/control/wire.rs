//! What toolstack and control domain say to each other, in postcard, one [`ToControl`] or [`ToToolstack`] a
//! [frame](super::frame).
//!
//! The toolstack speaks first (`Hello`); nothing else is answered before it. A request carries a number of the
//! toolstack's choice, and its reply carries the same; events come unasked. A line that breaks off loses nothing that
//! was answered, and a toolstack that comes back says `Hello` again.
//!
//! A frame may be lost either way, so a request without an answer is sent again under its number. It is carried out
//! once all the same: the toolstack has one request under way at a time, each under a number that the one before did
//! not have, and the control domain, asked again under the number it answered last, repeats that answer. A `Hello` alone
//! is taken anew each time; after it nothing is sent again from before.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::hypercall::ExitKind;
use super::topology::Known;

/// Version of this file's types. The two sides must have the same.
pub const VERSION: u16 = 14;

/// Toolstack → control domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToControl {
    /// Comes back in the reply. The same again means the same request, sent again.
    pub id: u32,
    /// What to do.
    pub request: Request,
}

/// Control domain → toolstack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToToolstack {
    /// Answer to the request with this number.
    Reply {
        /// The request's number.
        id: u32,
        /// What came of it.
        result: Result<Reply, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// The machine's configuration, as the boot archive carries it (checked by the toolstack).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Guests to start at boot, in this order.
    pub guests: Vec<GuestConfig>,
    /// What domain 0 does when its guests run and no toolstack has spoken: nothing, or stop the machine when the
    /// guests have all shut down by themselves (unattended benchmark and test runs).
    pub stop_when_done: bool,
}

/// One guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Unique, 1 to 32 bytes of `a-z A-Z 0-9 - _ .`
    pub name: String,
    /// Its kernel: an image of the boot archive's (under [`crate::archive::IMAGES`]) or one that was uploaded.
    pub image: String,
    /// That image is a PC's firmware, which a full guest starts in the place of a kernel.
    pub firmware: bool,
    /// Its first ramdisk, an image too; `None`: it has none.
    pub ramdisk: Option<String>,
    /// What its disk holds at first, an image too; `None`: it has none. For full guests: the first drive of a PC's ATA
    /// controller. What is written there is gone with the guest.
    pub disk: Option<String>,
    /// The cores it is pinned to, the one of virtual CPU 0 first; empty: idle ones, by `placement`.
    pub cores: Vec<u32>,
    /// How many virtual CPUs, each on a core of its own: at least 1, and as many as `cores` has where that is not empty.
    pub vcpus: u32,
    /// Which idle cores it gets where `cores` is empty.
    pub placement: Placement,
    /// Memory.
    pub memory_mib: u32,
    /// Handed to its kernel.
    pub command_line: String,
    /// Whether it is a member of the mesh: one of Atoll's own guest kernels.
    pub mesh: bool,
    /// How it is virtualized.
    pub virt: Virt,
    /// Which tables the processor translates its memory by.
    pub paging: Paging,
    /// A full guest's local APICs are emulated, also where processors could keep them up by themselves.
    pub emulated_apic: bool,
    /// The devices that other guests serve it.
    pub devices: Vec<DeviceConfig>,
    /// What becomes of it when it powers off.
    pub on_poweroff: Policy,
    /// When it asks for a reboot.
    pub on_reboot: Policy,
    /// When it crashes, by its own word or the hypervisor's.
    pub on_crash: Policy,
    /// When it does not feed its watchdog.
    pub on_watchdog: Policy,
    /// Seconds after which it is to be ended unless it has fed its watchdog, for members of the mesh; 0: it has none.
    pub watchdog: u32,
}

/// Which of the idle cores a guest gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// The lowest.
    #[default]
    Lowest,
    /// The nearest to this guest's first, by the knowledge base.
    Near(String),
    /// The farthest from it.
    Far(String),
}

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Virt {
    /// It knows that it is a guest, and calls the hypervisor: Xen's PVH.
    #[default]
    Para,
    /// It believes that it owns a PC.
    Full,
}

/// Which tables the processor translates a guest's memory by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paging {
    /// The guest's own, and behind them the hypervisor's extended page tables.
    #[default]
    Ept,
    /// Shadows that the hypervisor keeps of the guest's own: for full guests with one virtual CPU.
    Shadow,
}

/// A device that another guest serves. It is the guest's for life: whenever both are there, their nodes are in xenstore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceConfig {
    /// What it is, as xenstore names it: `vbd`, `vif`, ... 1 to 16 bytes of `a-z 0-9 -`. Devices of one kind are numbered
    /// from 0 on in their order.
    pub kind: String,
    /// The name of the guest that serves it.
    pub backend: String,
    /// Nodes for the back end to find beside its own, by their names, which are like kinds.
    pub parameters: Vec<(String, String)>,
}

/// What becomes of a guest that stopped, under the names that `xl.cfg` has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// It stays, stopped, to be looked at.
    #[default]
    Preserve,
    /// It is destroyed.
    Destroy,
    /// It is destroyed and created again.
    Restart,
}

/// What the toolstack may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Opens the conversation. → `Hello`
    Hello {
        /// The toolstack's [`VERSION`].
        version: u16,
    },
    /// → `Domains`
    List,
    /// The machine. → `Machine`
    Info,
    /// What is known of where cores are. → `Topology`
    Topology,
    /// Has the members of the mesh measure what messages cost, one after the other. → `Done`: it has begun.
    Measure,
    /// Creates and starts a guest. → `Created`
    Create(GuestConfig),
    /// By name. → `Done`
    Destroy(String),
    /// Asks a guest, through `control/shutdown` in xenstore, to power off. → `Done`: it was asked. What it does about it
    /// comes as an event.
    Shutdown(String),
    /// Asks a guest in the same way to reboot. → `Done`
    Reboot(String),
    /// The images there are. → `Images`
    Images,
    /// Begins to upload an image under this name; ends an upload that was under way. → `Done`
    Upload {
        /// The name that `Create` will use.
        name: String,
        /// How many bytes will come.
        bytes: u64,
        /// SHA-256 of all of them.
        sha256: [u8; 32],
    },
    /// The next bytes of the upload, at most [`MAX_PIECE`]. → `Done`. The answer to the last piece says whether the image
    /// is whole: if not, it is dropped.
    Piece {
        /// Position of the first one; where it is not the next, the piece is refused.
        from: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The same, where the bytes lie on the machine's [transfer disk](super::transfer), from its second sector on: a
    /// serial line that is emulated carries some thousand bytes a second, a disk millions. → `Done`
    PieceOnDisk {
        /// Position of the first one.
        from: u64,
        /// How many, at most [`super::transfer::MAX_BYTES`].
        bytes: u32,
    },
    /// Forgets an image that was uploaded. → `Done`
    RemoveImage(String),
    /// Forgets the upload that is under way, if one is: whoever began it is gone. → `Done`
    AbandonUpload,
    /// Nodes of xenstore, depth first, children by name. → `Xenstore`
    XenstoreList {
        /// The node to begin with; only it and what is below it is listed.
        path: String,
        /// Where the last answer ended, to go on from there.
        after: Option<String>,
    },
    /// Writes a node, and makes those above it. → `Done`
    XenstoreWrite {
        /// Which.
        path: String,
        /// What.
        value: Vec<u8>,
    },
    /// Removes a node and all below it. → `Done`
    XenstoreRemove(String),
    /// By name. → `Done`
    Pause(String),
    /// By name. → `Done`
    Unpause(String),
    /// What a guest has printed, from this position of its console on; the positions go on when it is restarted. → `Console`. With `follow`, what it prints
    /// later comes as events until the next `Console` request for the same guest without it.
    Console {
        /// Which guest; domain 0 is `Domain-0`.
        name: String,
        /// Position in bytes. `None`: where the guest's present life began; before that is, as far as it is kept, what it
        /// printed before it was restarted.
        from: Option<u64>,
        /// Keep sending.
        follow: bool,
    },
    /// Types into a guest's console. → `Done`
    Input {
        /// Which guest.
        name: String,
        /// The keys.
        bytes: Vec<u8>,
    },
    /// The hypervisor's log. → `Log`
    Dmesg {
        /// Position in bytes since start; one that is no longer kept is moved up to the oldest byte.
        from: u64,
    },
    /// Walks every EPT. → `Audit`
    Audit,
    /// All cores. → `Cores`
    Cores,
    /// Takes a core out of service; its guest, if it has one, is kept. → `Offline`, or `Leaving` where the guest was asked to
    /// suspend itself
    Offline {
        /// Its number.
        core: u32,
    },
    /// What became of the core that was leaving. → `Offline`, or `Leaving`: not yet
    Left,
    /// Lets another kernel take over a running guest's core, with all that the one there knows. → `Replacing`
    Replace {
        /// The core's number.
        core: u32,
        /// The image, or that of the same name as the one which the guest was created from.
        image: Option<String>,
        /// Its command line, or the guest's.
        command_line: Option<String>,
    },
    /// What became of the kernel that was to be replaced. → `Replaced`, or `Replacing`: not yet
    Replaced,
    /// Puts a core back into service: with the guest that it keeps, unless it says otherwise. → `Online`
    Online {
        /// Its number.
        core: u32,
        /// With this guest, which any core may keep.
        guest: Option<String>,
        /// Without a guest.
        empty: bool,
    },
    /// Why a guest crashed. → `Crash`
    Crash(String),
    /// Whose time it was on a guest's core, for a guest of the mesh. → `Accounts`: what it told when it was asked the time
    /// before; it is asked anew.
    Accounts(String),
    /// Ends the run with this [exit code](crate::exit_code). → `Done`, then silence.
    Stop(u8),
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The control domain's [`VERSION`].
        version: u16,
        /// Guests of the boot configuration that could not be started, and why.
        failed: Vec<(String, Refusal)>,
    },
    /// It is done.
    Done,
    /// All domains, domain 0 first.
    Domains(Vec<Domain>),
    /// The machine.
    Machine(Machine),
    /// What is known of where cores are.
    Topology {
        /// The machine, and what was measured.
        known: Box<Known>,
        /// Guests are still measuring.
        measuring: bool,
    },
    /// The new guest.
    Created {
        /// Its domain id.
        domain: u16,
        /// Its cores, that of virtual CPU 0 first.
        cores: Vec<u32>,
        /// TSC ticks from the request's arrival to its start.
        ticks: u64,
    },
    /// A piece of a console.
    Console(Text),
    /// A piece of the log.
    Log(Text),
    /// All images.
    Images(Vec<StoredImage>),
    /// Nodes of xenstore.
    Xenstore {
        /// As many as fit.
        nodes: Vec<XenstoreNode>,
        /// There are more behind the last one.
        more: bool,
    },
    /// The walk's result: the fields of [`super::hypercall::AuditReport`], in order.
    Audit([u64; 7]),
    /// All cores, by number.
    Cores(Vec<Core>),
    /// A core is on its way; ask `Left`.
    Leaving,
    /// A core is out of service.
    Offline {
        /// Its number.
        core: u32,
        /// The guest that it keeps, and how.
        guest: Option<(String, Kept)>,
        /// TSC ticks from the request's arrival.
        ticks: u64,
    },
    /// A kernel was asked to hand over to another one; ask `Replaced`.
    Replacing,
    /// Another kernel has taken over.
    Replaced {
        /// The core's number.
        core: u32,
        /// The guest there.
        guest: String,
        /// The kernel's image.
        image: String,
        /// Bytes that were handed over.
        bytes: u64,
        /// TSC ticks from the request's arrival until domain 0 heard that the new one had taken over.
        ticks: u64,
        /// Of those, since the old kernel had handed over: nobody did the guest's work meanwhile.
        pause: u64,
    },
    /// A core is in service.
    Online {
        /// Its number.
        core: u32,
        /// The guest that goes on there.
        guest: Option<String>,
        /// TSC ticks from the request's arrival.
        ticks: u64,
    },
    /// A guest's accounts, as it tells them.
    Accounts {
        /// How often it has told them since its start.
        told: u64,
        /// The accounts.
        accounts: Vec<Account>,
    },
    /// A crash, told in a line and in registers (name, value).
    Crash {
        /// One sentence.
        cause: String,
        /// Registers and exit fields.
        registers: Vec<(String, u64)>,
        /// The instruction at RIP and what is behind it, 15 bytes at most; empty: it could not be read.
        code: Vec<u8>,
        /// How wide that code is: 16, 32 or 64 bits.
        code_bits: u8,
    },
}

/// Bytes that were printed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// Position of the first byte here.
    pub from: u64,
    /// Position to ask for next.
    pub next: u64,
    /// The bytes, at most [`MAX_TEXT`].
    pub bytes: Vec<u8>,
}

/// The most bytes of text in one reply or event. A reply with fewer has all there was.
pub const MAX_TEXT: usize = 1024;
/// The most bytes that are kept of what a guest has printed.
pub const MAX_KEPT: usize = 64 * 1024;
/// The most bytes of an image in one request.
pub const MAX_PIECE: usize = 8192;

/// An image that guests may be created from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// It was uploaded, with this SHA-256; `None`: it came in the boot archive.
    pub sha256: Option<[u8; 32]>,
}

/// One node of xenstore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XenstoreNode {
    /// Its whole path.
    pub path: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Its permissions as xenstore writes them: `n0`, `r5`, ... the owner's first.
    pub permissions: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores, those that may come among them.
    pub cores: u32,
    /// Time-stamp counter's rate.
    pub tsc_khz: u32,
    /// TSC now.
    pub tsc: u64,
    /// TSC at the hypervisor's first instruction.
    pub boot_tsc: u64,
    /// TSC when all guests of the boot configuration ran.
    pub guests_running_tsc: u64,
    /// Guest memory, 4 KiB frames in all.
    pub frames_total: u64,
    /// And free.
    pub frames_free: u64,
    /// The processor's brand string and VMX features, a line each.
    pub features: Vec<String>,
}

/// A domain's state, as a person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// On its core.
    Running,
    /// Off its core on request.
    Paused,
    /// Kept while its core is offline.
    Kept,
    /// It ended itself: the `SHUTDOWN_*` reason.
    Shutdown(u32),
    /// The hypervisor stopped it.
    Crashed,
}

/// How a guest is kept while its core is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// It suspended itself.
    Suspended,
    /// It was stopped between two instructions.
    Frozen,
    /// As it was: paused, or at its end.
    Still,
}

/// One core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its number.
    pub number: u32,
    /// Its local APIC id.
    pub apic_id: u32,
    /// Its package.
    pub package: u32,
    /// Which core of that.
    pub core: u32,
    /// Which thread of that.
    pub thread: u32,
    /// Whether it is in service; else it has left VMX and waits for a start-up IPI.
    pub is_online: bool,
    /// The guest on it.
    pub guest: Option<String>,
    /// The guest that comes back with it, and how it is kept.
    pub keeps: Option<(String, Kept)>,
    /// When it came or went last; `None`: it is there since the machine's start.
    pub since_tsc: Option<u64>,
    /// Whether it is there at all.
    pub presence: Presence,
}

/// Whether a processor is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It is, and was in service.
    Known,
    /// It was put in while the machine runs, and was never started.
    New,
    /// The machine has a place for it, which is empty.
    Absent,
}

/// One domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Its id.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its image's name.
    pub image: String,
    /// Its cores, that of virtual CPU 0 first, without those that are offline.
    pub cores: Vec<u32>,
    /// How many virtual CPUs it has.
    pub vcpus: u32,
    /// Its memory.
    pub memory_mib: u32,
    /// Its state.
    pub state: State,
    /// VM exits by [`ExitKind`].
    pub exits: [u64; ExitKind::COUNT],
    /// Events it was sent.
    pub events_in: u64,
    /// Events it sent.
    pub events_out: u64,
    /// Mesh messages it says it received.
    pub messages_in: u64,
    /// Mesh messages it says it sent.
    pub messages_out: u64,
    /// Mesh messages it says were lost or out of order.
    pub messages_lost: u64,
    /// Peers it says it dropped because they broke the rules of the ring.
    pub liars: u64,
    /// How often it was created again after its end.
    pub restarts: u32,
    /// TSC ticks from its last end to the first word of the life after it: a message, or what it printed.
    pub recovery_ticks: Option<u64>,
}

/// Whose time it was on a guest's core: a task's, or that of another core's tasks, for which work was done here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The task's or the core's number.
    pub number: u32,
    /// It is a core's.
    pub is_core: bool,
    /// The task's name, at most 8 printable characters.
    pub name: String,
    /// Ticks that it worked, whoever paid.
    pub worked: u64,
    /// Ticks that it paid, whoever worked.
    pub paid: u64,
    /// How often it was polled.
    pub polls: u64,
    /// Messages it sent.
    pub sent: u64,
    /// Messages it received.
    pub received: u64,
}

/// What comes unasked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A followed guest printed.
    Console {
        /// Which.
        name: String,
        /// What.
        text: Text,
    },
    /// A domain stopped by itself or was stopped by the hypervisor.
    Stopped {
        /// Which.
        name: String,
        /// How.
        state: State,
    },
    /// A guest that stopped was created again, by its [`Policy`] or because it asked for a reboot.
    Restarted {
        /// Which.
        name: String,
        /// Its new domain id, or why it could not be.
        domain: Result<u16, Refusal>,
    },
}

/// Why a request was not carried out: what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, where.
    pub what: String,
    /// What the person can do.
    pub remedy: String,
}
