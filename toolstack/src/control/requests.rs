//! What can be asked, each request a function with what it answers.

use abi::control::wire::MAX_TEXT;
use abi::control::{
    hypercall::AuditReport,
    topology::Known,
    wire::{
        Account, Core, Domain, GuestConfig, Kept, MAX_PIECE, Machine, Reply, Request, StoredImage, Text,
        XenstoreNode,
    },
};

use super::Client;
use crate::{
    error::{Error, Result},
    instruction,
    machine::TransferDisk,
};

impl Client {
    /// All domains.
    pub fn list(&self) -> Result<Vec<Domain>> {
        match self.ask(Request::List)? {
            Reply::Domains(domains) => Ok(domains),
            other => Err(unexpected(&other)),
        }
    }

    /// The domain with this name.
    pub fn domain(&self, name: &str) -> Result<Domain> {
        self.list()?
            .into_iter()
            .find(|domain| domain.name == name)
            .ok_or_else(|| Error::new(format!("there is no domain `{name}`"), "`atoll list` names them all"))
    }

    /// The machine.
    pub fn machine(&self) -> Result<Machine> {
        match self.ask(Request::Info)? {
            Reply::Machine(machine) => Ok(machine),
            other => Err(unexpected(&other)),
        }
    }

    /// All cores.
    pub fn cores(&self) -> Result<Vec<Core>> {
        match self.ask(Request::Cores)? {
            Reply::Cores(cores) => Ok(cores),
            other => Err(unexpected(&other)),
        }
    }

    /// What is known of where cores are, and whether guests still measure.
    pub fn topology(&self) -> Result<(Known, bool)> {
        match self.ask(Request::Topology)? {
            Reply::Topology { known, measuring } => Ok((*known, measuring)),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a core out of service. `None`: its guest was asked to suspend itself, and [`Client::core_left`] tells.
    pub fn core_offline(&self, core: u32) -> Result<Option<Offline>> {
        offline(self.ask(Request::Offline { core })?)
    }

    /// What became of that; `None`: nothing yet.
    pub fn core_left(&self) -> Result<Option<Offline>> {
        offline(self.ask(Request::Left)?)
    }

    /// Lets another kernel take over a core. [`Client::core_replaced`] tells what becomes of it.
    pub fn core_replace(&self, core: u32, image: Option<&str>, command_line: Option<&str>) -> Result<()> {
        let (image, command_line) = (image.map(str::to_owned), command_line.map(str::to_owned));
        replaced(self.ask(Request::Replace { core, image, command_line })?).map(drop)
    }

    /// What became of that; `None`: nothing yet.
    pub fn core_replaced(&self) -> Result<Option<Replaced>> {
        replaced(self.ask(Request::Replaced)?)
    }

    /// Puts a core back into service: its number, the guest that goes on there, and the TSC ticks it took.
    pub fn core_online(
        &self,
        core: u32,
        guest: Option<&str>,
        empty: bool,
    ) -> Result<(u32, Option<String>, u64)> {
        match self.ask(Request::Online { core, guest: guest.map(str::to_owned), empty })? {
            Reply::Online { core, guest, ticks } => Ok((core, guest, ticks)),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the members of the mesh measure what messages cost.
    pub fn measure(&self) -> Result<()> {
        self.order(Request::Measure)
    }

    /// Creates and starts a guest: its domain id, its cores, and the TSC ticks it took.
    pub fn create(&self, guest: GuestConfig) -> Result<(u16, Vec<u32>, u64)> {
        match self.ask(Request::Create(guest))? {
            Reply::Created { domain, cores, ticks } => Ok((domain, cores, ticks)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whose time it was on a guest's core, as it told when it was asked the time before; and how often it has told.
    pub fn accounts(&self, name: &str) -> Result<(u64, Vec<Account>)> {
        match self.ask(Request::Accounts(name.to_owned()))? {
            Reply::Accounts { told, accounts } => Ok((told, accounts)),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends a guest and frees what it had.
    pub fn destroy(&self, name: &str) -> Result<()> {
        self.order(Request::Destroy(name.to_owned()))
    }

    /// Takes a guest off its core.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.order(Request::Pause(name.to_owned()))
    }

    /// Lets a paused guest go on.
    pub fn unpause(&self, name: &str) -> Result<()> {
        self.order(Request::Unpause(name.to_owned()))
    }

    /// Types into a guest's console.
    pub fn input(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.order(Request::Input { name: name.to_owned(), bytes: bytes.to_vec() })
    }

    /// A piece of what a guest printed; `None`: from the first byte of its present life on.
    pub fn console(&self, name: &str, from: Option<u64>, follow: bool) -> Result<Text> {
        match self.ask(Request::Console { name: name.to_owned(), from, follow })? {
            Reply::Console(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// A piece of the hypervisor's log.
    pub fn log(&self, from: u64) -> Result<Text> {
        match self.ask(Request::Dmesg { from })? {
            Reply::Log(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// All of the hypervisor's log that is still kept.
    pub fn whole_log(&self) -> Result<Vec<u8>> {
        let (mut bytes, mut from) = (Vec::new(), 0);
        loop {
            let text = self.log(from)?;
            bytes.extend_from_slice(&text.bytes);
            if text.bytes.len() < MAX_TEXT {
                return Ok(bytes);
            }
            from = text.next;
        }
    }

    /// Walks every EPT.
    pub fn audit(&self) -> Result<AuditReport> {
        match self.ask(Request::Audit)? {
            Reply::Audit([domains, mappings, shared, leaked, hypervisor, free, miscounted]) => {
                Ok(AuditReport { domains, mappings, shared, leaked, hypervisor, free, miscounted })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Why a guest crashed: a sentence, with the instruction that it was at, and registers.
    pub fn crash(&self, name: &str) -> Result<(String, Vec<(String, u64)>)> {
        match self.ask(Request::Crash(name.to_owned()))? {
            Reply::Crash { cause, registers, code, code_bits } => {
                let cause = match instruction::text(&code, code_bits) {
                    Some(text) => format!("{cause}: {text}"),
                    None => cause,
                };
                Ok((cause, registers))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks a guest to power off. What it does about it is seen in [`Client::list`], and told as an event.
    pub fn shutdown(&self, name: &str) -> Result<()> {
        self.order(Request::Shutdown(name.to_owned()))
    }

    /// Asks a guest to reboot.
    pub fn reboot(&self, name: &str) -> Result<()> {
        self.order(Request::Reboot(name.to_owned()))
    }

    /// The images that guests can be made of.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        match self.ask(Request::Images)? {
            Reply::Images(images) => Ok(images),
            other => Err(unexpected(&other)),
        }
    }

    /// Brings an image into the machine, which checks that it came whole: by its transfer disk, if it has one, else over
    /// the line. After each piece `done` is told how many bytes are there.
    pub fn upload(
        &self,
        name: &str,
        bytes: &[u8],
        sha256: [u8; 32],
        disk: Option<&TransferDisk>,
        mut done: impl FnMut(u64),
    ) -> Result<()> {
        let begin = || Request::Upload { name: name.to_owned(), bytes: bytes.len() as u64, sha256 };
        self.order(begin())?;
        let mut from = 0;
        if let Some(disk) = disk {
            for piece in disk.pieces(bytes) {
                disk.put(piece)?;
                match self.order(Request::PieceOnDisk { from, bytes: piece.len() as u32 }) {
                    Ok(()) => {}
                    // A machine that does not read its disk is still to be had over the line, from the beginning.
                    Err(_) if from == 0 => {
                        self.order(begin())?;
                        break;
                    }
                    Err(error) => return Err(error),
                }
                from += piece.len() as u64;
                done(from);
            }
        }
        for piece in bytes[from as usize..].chunks(MAX_PIECE) {
            self.order(Request::Piece { from, bytes: piece.to_vec() })?;
            from += piece.len() as u64;
            done(from);
        }
        Ok(())
    }

    /// Forgets an image that was uploaded.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.order(Request::RemoveImage(name.to_owned()))
    }

    /// A node of xenstore and all below it, depth first.
    pub fn xenstore_list(&self, path: &str) -> Result<Vec<XenstoreNode>> {
        let (mut all, mut after) = (Vec::<XenstoreNode>::new(), None);
        loop {
            match self.ask(Request::XenstoreList { path: path.to_owned(), after: after.take() })? {
                Reply::Xenstore { nodes, more } => {
                    after = nodes.last().map(|node| node.path.clone());
                    all.extend(nodes);
                    // An answer that promises more and has nothing would be asked for for ever.
                    if !more || after.is_none() {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// One node of xenstore.
    pub fn xenstore_node(&self, path: &str) -> Result<XenstoreNode> {
        match self.ask(Request::XenstoreList { path: path.to_owned(), after: None })? {
            Reply::Xenstore { nodes, .. } => {
                nodes.into_iter().find(|node| node.path == path).ok_or_else(|| {
                    Error::new(format!("there is no node {path}"), "`atoll xenstore-ls` lists them")
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Writes a node of xenstore, and makes those above it.
    pub fn xenstore_write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.order(Request::XenstoreWrite { path: path.to_owned(), value: value.to_vec() })
    }

    /// Removes a node of xenstore and all below it.
    pub fn xenstore_remove(&self, path: &str) -> Result<()> {
        self.order(Request::XenstoreRemove(path.to_owned()))
    }

    fn order(&self, request: Request) -> Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// A core that went out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Its number.
    pub core: u32,
    /// The guest that it keeps, and how.
    pub guest: Option<(String, Kept)>,
    /// TSC ticks from the request's arrival.
    pub ticks: u64,
}

/// A kernel that has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its core's number.
    pub core: u32,
    /// The guest there.
    pub guest: String,
    /// The kernel's image.
    pub image: String,
    /// Bytes that were handed over.
    pub bytes: u64,
    /// TSC ticks from the request's arrival.
    pub ticks: u64,
    /// TSC ticks without a kernel on the core.
    pub pause: u64,
}

fn replaced(reply: Reply) -> Result<Option<Replaced>> {
    match reply {
        Reply::Replacing => Ok(None),
        Reply::Replaced { core, guest, image, bytes, ticks, pause } => {
            Ok(Some(Replaced { core, guest, image, bytes, ticks, pause }))
        }
        other => Err(unexpected(&other)),
    }
}

fn offline(reply: Reply) -> Result<Option<Offline>> {
    match reply {
        Reply::Leaving => Ok(None),
        Reply::Offline { core, guest, ticks } => Ok(Some(Offline { core, guest, ticks })),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn unexpected(reply: &Reply) -> Error {
    Error::new(
        format!("the control domain gave an answer to another question: {reply:?}"),
        "boot images that were built together with this command",
    )
}
