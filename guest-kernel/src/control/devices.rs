//! The devices that guests serve each other. A guest's configuration names them, and the guest that serves each; what
//! domain 0 does for them is the toolstack's part in Xen: while both guests are there, so are the nodes by which they find
//! each other. All else is between the two.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::wire::{DeviceConfig, GuestConfig, Refusal};
use abi::xen::DomId;

use super::hypervisor::Hypervisor;
use super::refusal::{printable, refuse};
use super::xenstore::layout::Device;
use super::{Control, OWN_NAME};

/// The most devices of one guest, and the most parameters of one device.
const MOST: usize = 16;
/// The longest name of a kind or a parameter.
const MAX_KIND: usize = 16;
/// The longest value of a parameter.
const MAX_VALUE: usize = 256;

/// A device whose two ends are there.
struct Pair {
    kind: String,
    front: DomId,
    back: DomId,
    index: u32,
    parameters: Vec<(String, String)>,
}

impl Pair {
    fn device(&self) -> Device<'_> {
        Device { kind: &self.kind, front: self.front, back: self.back, index: self.index }
    }
}

impl<H: Hypervisor> Control<H> {
    /// Devices that can be, served by guests that are there.
    pub(super) fn check_devices(&self, config: &GuestConfig) -> Result<(), Refusal> {
        if config.devices.len() > MOST {
            let what = format!("a guest cannot have {} devices", config.devices.len());
            return Err(refuse(what, format!("give it {MOST} at most")));
        }
        for DeviceConfig { kind, backend, parameters } in &config.devices {
            let names = core::iter::once(kind).chain(parameters.iter().map(|(name, _)| name));
            if let Some(strange) = names.into_iter().find(|name| !is_kind(name)) {
                return Err(refuse(
                    format!("`{}` is no name for a kind of device, or for a parameter", printable(strange)),
                    format!("use 1 to {MAX_KIND} of a-z 0-9 -"),
                ));
            }
            if parameters.len() > MOST || parameters.iter().any(|(_, value)| value.len() > MAX_VALUE) {
                return Err(refuse(
                    format!("the parameters of the {kind} device are too many or too long"),
                    format!("at most {MOST}, each of at most {MAX_VALUE} bytes"),
                ));
            }
            if backend == OWN_NAME || *backend == config.name || self.guests.find(backend).is_none() {
                return Err(refuse(
                    format!("there is no guest `{}` that could serve the {kind} device", printable(backend)),
                    "name another guest, and create that one first",
                ));
            }
        }
        Ok(())
    }

    /// A domain has come: makes the nodes of its devices, and of those that it serves.
    pub(super) fn attach_devices(&mut self, domain: DomId) {
        for pair in self.pairs(domain) {
            let mut made = self.stores.xenstore().connect(&pair.device());
            let path = pair.device().back_path();
            for (name, value) in &pair.parameters {
                made = made
                    .and_then(|()| self.stores.xenstore().write(&format!("{path}/{name}"), value.as_bytes()));
            }
            if let Err(error) = made {
                // The two live without it; whoever wonders finds out why.
                self.journal.say(&mut self.hypervisor, &format!("{path} is not to be had: {error:?}"));
            }
        }
    }

    /// A domain goes: its devices go, and those that it serves.
    pub(super) fn detach_devices(&mut self, domain: DomId) {
        for pair in self.pairs(domain) {
            self.stores.xenstore().disconnect(&pair.device());
        }
    }

    /// The devices at either end of which this domain is.
    fn pairs(&self, domain: DomId) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (_, front) in self.guests.iter().filter(|(_, guest)| !guest.is_remains) {
            for (place, device) in front.config.devices.iter().enumerate() {
                let before = front.config.devices.iter().take(place);
                let index = before.filter(|other| other.kind == device.kind).count() as u32;
                let back = self.guests.find(&device.backend).and_then(|slot| self.guests.get(slot));
                let Some(back) = back.filter(|back| !back.is_remains) else { continue };
                if [front.domain, back.domain].contains(&domain) {
                    pairs.push(Pair {
                        kind: device.kind.clone(),
                        front: front.domain,
                        back: back.domain,
                        index,
                        parameters: device.parameters.clone(),
                    });
                }
            }
        }
        pairs
    }
}

fn is_kind(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= MAX_KIND && name.bytes().all(sound)
}
