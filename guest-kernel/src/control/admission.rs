//! What a guest must satisfy before anything is made for it. The toolstack has checked all this too; whoever wrote the
//! frame or the archive need not have been the toolstack.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::hypercall::{MAX_VCPUS, NO_DOMAIN, NO_PROCESSOR};
use abi::control::wire::{GuestConfig, Refusal};

use super::builder::MAX_MEMORY_MIB;
use super::hypervisor::Hypervisor;
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
        let known: Vec<&str> = self.images.names().collect();
        refuse(
            format!("there is no image `{}`", printable(image)),
            if known.is_empty() {
                String::from(
                    "there is no image at all: build a boot archive with `atoll image`, or upload one",
                )
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

    /// The slots of the cores that are wanted, if all are online and idle, or of those that are: the lowest, or the first in the
    /// order that is wanted.
    pub(super) fn choose_cores(&mut self, config: &GuestConfig) -> Result<Vec<u32>, Refusal> {
        let GuestConfig { cores: wanted, vcpus, placement, .. } = config;
        let vcpus = *vcpus;
        let cores = self.pages.slots() as u32;
        if vcpus == 0 || vcpus as usize > MAX_VCPUS {
            return Err(refuse(
                format!("a guest cannot have {vcpus} virtual CPUs"),
                format!("give it 1 to {MAX_VCPUS}"),
            ));
        }
        if wanted.is_empty() {
            let idle: Vec<u32> = (1..cores).filter(|&core| self.is_idle(core)).collect();
            let mut idle = self.in_order(idle, placement)?;
            idle.truncate(vcpus as usize);
            // Virtual CPUs are numbered as their cores are.
            idle.sort_unstable();
            return match idle.len() {
                0 => Err(refuse(
                    "every core has its guest",
                    "destroy a guest, or boot a machine with more cores",
                )),
                some if some < vcpus as usize => Err(refuse(
                    format!("the guest wants {vcpus} cores, and {some} are idle"),
                    "destroy a guest, or boot a machine with more cores",
                )),
                _ => Ok(idle),
            };
        }
        if wanted.len() != vcpus as usize || !wanted.is_sorted_by(|one, other| one < other) {
            return Err(refuse(
                format!("{vcpus} virtual CPUs cannot be on the cores {wanted:?}"),
                "name a core for each, in ascending order",
            ));
        }
        let mut slots = Vec::new();
        for &core in wanted {
            slots.push(self.check_core(core, cores)?);
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn check_core(&mut self, core: u32, cores: u32) -> Result<u32, Refusal> {
        if core == 0 {
            return Err(refuse(
                format!("core 0 belongs to {OWN_NAME}"),
                "choose another core, or none to get the lowest idle one",
            ));
        }
        if core >= cores {
            return Err(no_such_core(core));
        }
        let Some(slot) = self.slot_on(core) else {
            return Err(refuse(
                format!("core {core} is offline"),
                format!("`atoll core online {core}` brings it back, or choose another core"),
            ));
        };
        let slot = slot as u32;
        if !self.is_idle(slot) {
            let owner = self.guests.iter().find(|(_, guest)| guest.cores.contains(&slot));
            let owner = owner.map_or("another domain", |(_, guest)| &guest.name);
            return Err(refuse(
                format!("core {core} belongs to {owner}"),
                "choose another core, or destroy that guest first",
            ));
        }
        Ok(slot)
    }

    fn is_idle(&mut self, slot: u32) -> bool {
        !self.guests.iter().any(|(_, guest)| guest.cores.contains(&slot))
            && self
                .hypervisor
                .core_info(slot)
                .is_ok_and(|info| info.domain == NO_DOMAIN && info.processor != NO_PROCESSOR)
    }
}

/// The mesh has no place for that core, or the machine has no such core.
pub(super) fn no_such_core(core: u32) -> Refusal {
    refuse(format!("there is no core {core} for guests"), "see `atoll info` for the cores there are")
}
