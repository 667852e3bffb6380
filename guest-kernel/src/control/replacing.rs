//! Another kernel takes over a running guest's core: an image as a new build makes it, instead of the one that the guest was
//! created from.
//!
//! The domain stays, with its number, ports, rings and place in the mesh, and so nobody else notices; what is exchanged is
//! its memory (docs/decisions/0028). The new kernel is loaded into memory of its own before the old one hears of it. Then
//! the old one is asked, by `control/shutdown = replace`, for a package with all that it knows, and waits in the hypervisor
//! while the new one reads it. Whatever the new one does before it says that it has taken over (refuse, panic, crash,
//! take too long), the old one goes on where it was.

use alloc::format;
use alloc::string::{String, ToString};

use abi::control::succession::{Failure, Stage};
use abi::control::wire::{GuestConfig, Refusal, Reply, State, Virt};
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::sched::reason;

use super::builder::{copy, memory_of};
use super::guest::state;
use super::hypervisor::Hypervisor;
use super::image::{Image, Segment};
use super::pages::Slot;
use super::refusal::{hypercall_failed, refuse};
use super::start_info::{Facts, StartInfo, command_line};
use super::unpack::unpack;
use super::xenstore::path::home;
use super::{Control, crash};

/// Milliseconds that the old kernel has to hand over.
const PATIENCE: u64 = 2000;
/// Milliseconds that the new one has to take over.
const TRIAL: u64 = 1000;

/// What is under way.
#[derive(Clone, Debug)]
pub struct Replacing {
    slot: Slot,
    processor: u32,
    name: String,
    domain: DomId,
    successor: Successor,
    /// Bytes that were handed over, and since when the old kernel waits; `None`: it runs.
    handed: Option<(u64, u64)>,
    arrived: u64,
    deadline: u64,
}

/// The kernel that is to come.
#[derive(Clone, Debug)]
struct Successor {
    image: String,
    /// As the guest's configuration says it.
    configured: String,
    /// As the kernel finds it.
    command_line: String,
    /// Where it lies, and where it starts.
    layout: Image<'static>,
    memory: u64,
}

impl Successor {
    /// What it finds at its start, with a package of so many bytes.
    fn start_info(&self, package: u64) -> Result<StartInfo, Refusal> {
        let facts =
            Facts { memory: self.memory, command_line: &self.command_line, ramdisk: package, acpi: None };
        StartInfo::new(&self.layout, &facts)
    }
}

impl<H: Hypervisor> Control<H> {
    /// Begins with it. `Replacing`: the old kernel was asked, and [`Self::replaced`] will tell.
    pub(super) fn replace(
        &mut self,
        processor: u32,
        image: Option<&str>,
        line: Option<&str>,
        arrived: u64,
    ) -> Result<Reply, Refusal> {
        self.check_processor(processor)?;
        self.notice_stopped();
        if let Some(Replacing { processor, name, .. }) = &self.cores.replacing {
            return Err(refuse(
                format!("the kernel of {name} on core {processor} is being replaced"),
                "try again when that is done",
            ));
        }
        let slot = self.online_slot(processor)?;
        let Some(guest) = self.guests.get(slot).filter(|guest| !guest.is_remains) else {
            return Err(refuse(
                format!("core {processor} has no kernel that could be replaced"),
                "`atoll core list` shows which guest is where, and `atoll create` makes one",
            ));
        };
        let (name, domain, config) = (guest.name.clone(), guest.domain, guest.config.clone());
        if guest.state != State::Running || self.cores.is_leaving(slot) {
            return Err(refuse(format!("`{name}` does not run, and hands over nothing"), "let it run first"));
        }
        let feature = format!("{}/control/feature-replace", home(domain));
        let can = self.stores.xenstore().read(&feature).is_some_and(|value| value == b"1");
        if !can || config.virt != Virt::Para || config.vcpus != 1 || !config.mesh {
            return Err(refuse(
                format!("the kernel of `{name}` cannot hand over to another one"),
                "destroy the guest, and create it with the new image",
            ));
        }
        let successor = self.load_successor(domain, &config, processor, image, line)?;
        let word = format!("{}/control/shutdown", home(domain));
        if self.stores.xenstore().write(&word, b"replace").is_err() {
            self.end_succession(domain);
            return Err(refuse(format!("xenstore does not take a word for `{name}`"), "try again"));
        }
        let now = self.hypervisor.ticks();
        let deadline = self.after(now, PATIENCE);
        self.cores.replaced = None;
        self.cores.replacing =
            Some(Replacing { slot, processor, name, domain, successor, handed: None, arrived, deadline });
        Ok(Reply::Replacing)
    }

    /// What became of it.
    pub(super) fn replaced(&mut self) -> Result<Reply, Refusal> {
        if self.cores.replacing.is_some() {
            return Ok(Reply::Replacing);
        }
        let nothing = || refuse("no kernel was to be replaced", "`atoll core replace N` does it");
        self.cores.replaced.clone().unwrap_or_else(|| Err(nothing()))
    }

    /// Refuses what would come in between.
    pub(super) fn check_not_replacing(&self, slot: Slot) -> Result<(), Refusal> {
        match &self.cores.replacing {
            Some(Replacing { slot: replaced, name, .. }) if *replaced == slot => Err(refuse(
                format!("the kernel of `{name}` is being replaced"),
                "try again when that is done",
            )),
            _ => Ok(()),
        }
    }

    /// Loads the new kernel into memory of its own. All that can be checked before comes first.
    fn load_successor(
        &mut self,
        domain: DomId,
        config: &GuestConfig,
        processor: u32,
        image: Option<&str>,
        line: Option<&str>,
    ) -> Result<Successor, Refusal> {
        let image = image.unwrap_or(&config.image).to_string();
        let configured = line.unwrap_or(&config.command_line).to_string();
        let Some(file) = self.images.find(&image) else { return Err(self.no_such_image(&image)) };
        let kernel = unpack(file)?;
        let memory = memory_of(config.memory_mib);
        let parsed = Image::parse(&kernel, memory)?;
        let segments = parsed.segments.iter();
        let layout = Image {
            entry: parsed.entry,
            segments: segments
                .map(|segment| Segment { bytes: &[], range: segment.range.clone(), ..*segment })
                .collect(),
        };
        let own = command_line(&configured, &config.name, processor, config.watchdog);
        let successor =
            Successor { image, configured, command_line: format!("handover=1 {own}"), layout, memory };
        successor.start_info(0)?;
        self.hypervisor.successor_create(domain).map_err(|error| match error {
            Errno::ENOMEM => refuse(
                format!("there is no memory for a second kernel of {} MiB", config.memory_mib),
                "destroy a guest that is not needed (`atoll list`), and say it again",
            ),
            error => hypercall_failed("making memory for the new kernel", error),
        })?;
        let loaded = parsed
            .segments
            .iter()
            .try_for_each(|segment| copy(&mut self.hypervisor, domain, segment.address, segment.bytes));
        match loaded {
            Ok(()) => Ok(successor),
            Err(refusal) => {
                self.end_succession(domain);
                Err(refusal)
            }
        }
    }

    /// Whether this domain's stop is a part of it, and not its end.
    pub(super) fn is_handing_over(&mut self, domain: DomId) -> bool {
        self.cores.replacing.as_ref().is_some_and(|replacing| replacing.domain == domain)
            && self
                .hypervisor
                .succession(domain)
                .is_ok_and(|succession| matches!(succession.stage, Stage::Offered | Stage::Trial))
    }

    /// Goes on with it, if something has come of it by `now`.
    pub(super) fn go_on_replacing(&mut self, now: u64) {
        let Some(replacing) = self.cores.replacing.clone() else { return };
        let Replacing { slot, domain, .. } = replacing;
        let lives = self.guests.get(slot).is_some_and(|guest| guest.domain == domain && guest.is_alive());
        let succession = self.hypervisor.succession(domain).map(|succession| succession.stage);
        let done = match (succession, replacing.handed) {
            // It was destroyed, and the memory for the new kernel went with it.
            (Err(_), _) => Some(Err(self.came_to_its_end(&replacing))),
            (Ok(Stage::Committed), Some(handed)) => Some(Ok(self.took_over(&replacing, handed))),
            (Ok(Stage::Offered), _) => self.start_successor(&replacing).err(),
            (Ok(Stage::Trial), _) => self.watch_trial(&replacing, now),
            (Ok(_), _) if !lives => {
                self.end_succession(domain);
                Some(Err(self.came_to_its_end(&replacing)))
            }
            (Ok(_), _) if now < replacing.deadline => None,
            (Ok(_), _) => self.withdraw(&replacing),
        };
        if let Some(done) = done {
            self.cores.replacing = None;
            self.cores.replaced = Some(done);
        }
    }

    /// When that has to be looked at.
    pub(super) fn replacing_deadline(&self) -> Option<u64> {
        self.cores.replacing.as_ref().map(|replacing| replacing.deadline)
    }

    /// The old kernel has handed over: the new one begins. An error is the end of it.
    fn start_successor(&mut self, replacing: &Replacing) -> Result<(), Result<Reply, Refusal>> {
        let Replacing { domain, successor, .. } = replacing;
        let since = self.hypervisor.domain_info(*domain).map_or(0, |info| info.stopped_tsc);
        let started = self.hypervisor.succession(*domain).map_err(of("asking for the package")).and_then(
            |succession| {
                let info = successor.start_info(succession.bytes)?;
                for (address, bytes) in &info.pieces {
                    copy(&mut self.hypervisor, *domain, *address, bytes)?;
                }
                let (entry, package) = (successor.layout.entry, info.ramdisk);
                self.hypervisor
                    .successor_start(*domain, entry, info.address, package)
                    .map_err(of("exchanging the guest's memory"))?;
                Ok(succession.bytes)
            },
        );
        match started {
            Ok(bytes) => {
                let now = self.hypervisor.ticks();
                let deadline = self.after(now, TRIAL);
                if let Some(replacing) = &mut self.cores.replacing {
                    (replacing.handed, replacing.deadline) = (Some((bytes, since)), deadline);
                }
                Ok(())
            }
            Err(refusal) => Err(Err(self.go_back(replacing, Failure::NotStarted, Some(refusal.what)))),
        }
    }

    /// Looks how the new kernel does.
    fn watch_trial(&mut self, replacing: &Replacing, now: u64) -> Option<Result<Reply, Refusal>> {
        let info = self.hypervisor.domain_info(replacing.domain).unwrap_or_default();
        let (why, more) = match state(&info) {
            State::Running if now < replacing.deadline => return None,
            State::Crashed => {
                let record = self.hypervisor.domain_crash(replacing.domain).ok();
                (Failure::Crashed, record.map(|record| crash::cause(&record)))
            }
            State::Shutdown(reason::CRASH) => (Failure::Panicked, None),
            State::Shutdown(reason) => (Failure::from_reason(reason).unwrap_or(Failure::Ended), None),
            State::Running | State::Paused | State::Kept => {
                // Should this fail, the next call does, and says why.
                let _ = self.hypervisor.domain_pause(replacing.domain);
                let stage = self.hypervisor.succession(replacing.domain).map(|succession| succession.stage);
                if stage == Ok(Stage::Committed) {
                    // In the last moment.
                    let _ = self.hypervisor.domain_unpause(replacing.domain);
                    return Some(Ok(self.took_over(replacing, replacing.handed.unwrap_or_default())));
                }
                (Failure::Hung, None)
            }
        };
        Some(Err(self.go_back(replacing, why, more)))
    }

    /// Nobody has handed over in time.
    fn withdraw(&mut self, replacing: &Replacing) -> Option<Result<Reply, Refusal>> {
        let Replacing { name, domain, .. } = replacing;
        if self.hypervisor.successor_end(*domain) == Err(Errno::EBUSY) {
            // It has just done it.
            return None;
        }
        let _ = self.stores.xenstore().write(&format!("{}/control/shutdown", home(*domain)), b"");
        Some(Err(refuse(
            format!("the kernel of `{name}` did not hand over within {} s, and goes on", PATIENCE / 1000),
            "it waits until calls within its own core have come to their end: try again",
        )))
    }

    /// The old kernel goes on; what whoever asked is told.
    fn go_back(&mut self, replacing: &Replacing, why: Failure, more: Option<String>) -> Refusal {
        let Replacing { name, domain, successor, .. } = replacing;
        let back = self.hypervisor.successor_failed(*domain, why);
        let more = more.map_or(String::new(), |more| format!(": {more}"));
        let told = format!("the new kernel of {name}, {}, {}{more}", successor.image, why.text());
        self.journal.say(&mut self.hypervisor, &told);
        match back {
            Ok(()) => refuse(
                format!("{told}; the old one goes on"),
                format!("what it said is at its console: `atoll console {name} --dump`"),
            ),
            Err(error) => hypercall_failed("letting the old kernel go on", error),
        }
    }

    /// The new kernel has taken over.
    fn took_over(&mut self, replacing: &Replacing, (bytes, since): (u64, u64)) -> Reply {
        let Replacing { slot, processor, name, domain, successor, arrived, .. } = replacing;
        let now = self.hypervisor.ticks();
        self.end_succession(*domain);
        if let Some(guest) = self.guests.get_mut(*slot).filter(|guest| guest.domain == *domain) {
            guest.config.image.clone_from(&successor.image);
            guest.config.command_line.clone_from(&successor.configured);
        }
        let told = format!("{name} on core {processor} has another kernel: {}", successor.image);
        self.journal.say(&mut self.hypervisor, &told);
        Reply::Replaced {
            core: *processor,
            guest: name.clone(),
            image: successor.image.clone(),
            bytes,
            ticks: now.saturating_sub(*arrived),
            pause: now.saturating_sub(since),
        }
    }

    fn came_to_its_end(&self, replacing: &Replacing) -> Refusal {
        refuse(
            format!("{} came to its end before another kernel had taken over", replacing.name),
            "look at `atoll list`, and say it again",
        )
    }

    /// Frees the memory that nobody uses. Where there is none, that is what is wanted.
    fn end_succession(&mut self, domain: DomId) {
        let _ = self.hypervisor.successor_end(domain);
    }
}

fn of(call: &'static str) -> impl Fn(Errno) -> Refusal {
    move |error| hypercall_failed(call, error)
}
