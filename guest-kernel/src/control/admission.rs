//! What a guest must satisfy before anything is made for it. The toolstack has checked all this too; whoever wrote the
//! frame or the archive need not have been the toolstack.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::hypercall::NO_DOMAIN;
use abi::control::wire::Refusal;

use super::builder::MAX_MEMORY_MIB;
use super::hypervisor::Hypervisor;
use super::pages::Slot;
use super::refusal::{printable, refuse};
use super::{Control, OWN_NAME};

/// The longest name.
const MAX_NAME: usize = 32;

impl<H: Hypervisor> Control<H> {
    /// A sound name that nobody has.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(sound) {
            return Err(refuse(
                format!("`{}` is no name for a guest", printable(name)),
                "use 1 to 32 of a-z A-Z 0-9 - _ .",
            ));
        }
        if name == OWN_NAME || self.guests.find(name).is_some() {
            return Err(refuse(
                format!("there is a `{name}` already"),
                "choose another name, or destroy that guest first",
            ));
        }
        Ok(())
    }

    /// Why there is no guest without an image.
    pub(super) fn no_such_image(&self, image: &str) -> Refusal {
        let known: Vec<&str> = self.archive.images().collect();
        refuse(
            format!("there is no image `{}` in the boot archive", printable(image)),
            if known.is_empty() {
                String::from("the archive holds no image at all: build it with `atoll image`")
            } else {
                format!("choose one of: {}", known.join(", "))
            },
        )
    }

    /// Memory that exists and is free.
    pub(super) fn check_memory(&mut self, mib: u32) -> Result<(), Refusal> {
        if mib == 0 || mib > MAX_MEMORY_MIB {
            return Err(refuse(
                format!("a guest cannot have {mib} MiB of memory"),
                format!("give it 1 to {MAX_MEMORY_MIB} MiB"),
            ));
        }
        let free = self.hypervisor.machine_info().map_or(u64::MAX, |machine| machine.frames_free) / 256;
        if u64::from(mib) > free {
            return Err(refuse(
                format!("the guest wants {mib} MiB of memory, and {free} MiB are free"),
                "give it less, or destroy another guest",
            ));
        }
        Ok(())
    }

    /// The core that is wanted, if it is idle, or the lowest that is.
    pub(super) fn choose_core(&mut self, wanted: Option<u32>) -> Result<u32, Refusal> {
        let cores = self.pages.slots() as u32;
        let Some(core) = wanted else {
            let idle = (1..cores).find(|&core| self.is_idle(core));
            return idle.ok_or_else(|| {
                refuse("every core has its guest", "destroy a guest, or boot a machine with more cores")
            });
        };
        if core == 0 {
            return Err(refuse(
                format!("core 0 belongs to {OWN_NAME}"),
                "choose another core, or none to get the lowest idle one",
            ));
        }
        if core >= cores {
            return Err(no_such_core(core));
        }
        if !self.is_idle(core) {
            let owner = self.guests.get(core as Slot).map_or("another domain", |guest| &guest.name);
            return Err(refuse(
                format!("core {core} belongs to {owner}"),
                "choose another core, or destroy that guest first",
            ));
        }
        Ok(core)
    }

    fn is_idle(&mut self, core: u32) -> bool {
        self.guests.get(core as Slot).is_none()
            && self.hypervisor.core_info(core).is_ok_and(|info| info.domain == NO_DOMAIN)
    }
}

/// The mesh has no place for that core, or the machine has no such core.
pub(super) fn no_such_core(core: u32) -> Refusal {
    refuse(format!("there is no core {core} for guests"), "see `atoll info` for the cores there are")
}
