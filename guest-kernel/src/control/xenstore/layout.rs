//! The nodes that a toolstack makes for a guest, with the permissions that Xen's makes them with: the guest may see all
//! of it, and change what is for it to change.

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::xenbus::XenbusState;
use abi::xen::xs_wire::Error;
use alloc::string::{String, ToString};
use alloc::{format, vec, vec::Vec};

use super::path::home;
use super::permission::{Access, Permission};
use super::store::Store;

/// A guest that is to be introduced.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Its domain.
    pub domain: DomId,
    /// Its name.
    pub name: &'a str,
    /// What tells it from all other guests there ever were.
    pub uuid: [u8; 16],
    /// Its memory.
    pub memory_kib: u64,
    /// Its virtual CPUs.
    pub vcpus: u32,
    /// Frame of its console ring.
    pub console_frame: u64,
    /// Its port for that.
    pub console_port: Port,
    /// Frame of its store ring.
    pub store_frame: u64,
    /// Its port for that.
    pub store_port: Port,
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
pub fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl Store {
    /// Makes a node in domain 0's name; where permissions are given, it has these.
    pub(super) fn place(
        &mut self,
        path: &str,
        value: &[u8],
        permissions: &[Permission],
    ) -> Result<(), Error> {
        self.work(0, 0, |work| {
            work.write(path, value)?;
            if permissions.is_empty() { Ok(()) } else { work.set_permissions(path, permissions.into()) }
        })
    }

    /// Makes a guest's nodes. What was there under its number goes.
    pub(super) fn furnish(&mut self, newcomer: &Newcomer<'_>) -> Result<(), Error> {
        let Newcomer { domain, name, memory_kib, .. } = *newcomer;
        let (home, vm) = (home(domain), format!("/vm/{}", uuid(&newcomer.uuid)));
        let sees = [Permission::none(0), Permission::read(domain)];
        let owns = [Permission::none(domain)];
        for old in [&home, &vm] {
            if self.work(0, 0, |work| work.node(old, Access::READ)).is_ok() {
                self.work(0, 0, |work| work.remove(old))?;
            }
        }
        self.place(&vm, b"", &sees)?;
        for (leaf, value) in [
            ("uuid", uuid(&newcomer.uuid)),
            ("name", name.to_string()),
            ("image/ostype", "linux".to_string()),
            ("image/kernel", String::new()),
        ] {
            self.place(&format!("{vm}/{leaf}"), value.as_bytes(), &[])?;
        }
        self.place(&home, b"", &sees)?;
        let memory = memory_kib.to_string();
        let seen: Vec<(&str, String)> = vec![
            ("vm", vm),
            ("name", name.into()),
            ("domid", domain.to_string()),
            ("cpu", String::new()),
            ("memory/static-max", memory.clone()),
            ("memory/target", memory),
            ("memory/videoram", "0".into()),
            ("device", String::new()),
            ("control", String::new()),
            ("control/platform-feature-multiprocessor-suspend", "1".into()),
            ("control/platform-feature-xs_reset_watches", "1".into()),
            ("console/type", "xenconsoled".into()),
            ("console/ring-ref", newcomer.console_frame.to_string()),
            ("console/port", newcomer.console_port.to_string()),
            ("console/limit", "65536".into()),
            ("console/output", "pty".into()),
            ("console/tty", format!("atoll console {name}")),
            ("store/ring-ref", newcomer.store_frame.to_string()),
            ("store/port", newcomer.store_port.to_string()),
        ];
        for (leaf, value) in seen {
            self.place(&format!("{home}/{leaf}"), value.as_bytes(), &[])?;
        }
        for cpu in 0..newcomer.vcpus {
            self.place(&format!("{home}/cpu/{cpu}/availability"), b"online", &[])?;
        }
        for leaf in [
            "control/shutdown",
            "control/feature-poweroff",
            "control/feature-reboot",
            "control/feature-suspend",
            "control/feature-replace",
            "control/sysrq",
            "device/suspend/event-channel",
            "data",
            "drivers",
            "feature",
            "attr",
            "error",
        ] {
            self.place(&format!("{home}/{leaf}"), b"", &owns)?;
        }
        Ok(())
    }

    /// Makes the nodes of a device: the front end's, which its domain owns and the back end's may see, and the other
    /// way round.
    pub(super) fn connect(&mut self, device: &Device<'_>) -> Result<(), Error> {
        let Device { kind, front, back, index } = *device;
        let (here, there) = (device.front_path(), device.back_path());
        let initialising = XenbusState::Initialising.text();
        let sides = [
            (
                &here,
                [Permission::none(front), Permission::read(back)],
                "backend",
                &there,
                ("backend-id", back),
            ),
            (
                &there,
                [Permission::none(back), Permission::read(front)],
                "frontend",
                &here,
                ("frontend-id", front),
            ),
        ];
        for (own, permissions, other, path, (leaf, id)) in sides {
            self.place(own, b"", &permissions)?;
            let number = id.to_string();
            let nodes = [(other, path.as_str()), (leaf, &number), ("state", initialising), ("online", "1")];
            for (leaf, value) in nodes {
                self.place(&format!("{own}/{leaf}"), value.as_bytes(), &permissions)?;
            }
        }
        self.place(&format!("{here}/handle"), index.to_string().as_bytes(), &[])?;
        self.place(&format!("{there}/type"), kind.as_bytes(), &[])
    }
}

/// A device that two domains share.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// What it is: `vbd`, `vif`, ...
    pub kind: &'a str,
    /// The domain that uses it.
    pub front: DomId,
    /// The domain that serves it.
    pub back: DomId,
    /// Its number among its like.
    pub index: u32,
}

impl Device<'_> {
    /// Where the front end's nodes are.
    pub fn front_path(&self) -> String {
        format!("{}/device/{}/{}", home(self.front), self.kind, self.index)
    }

    /// Where the back end's nodes are.
    pub fn back_path(&self) -> String {
        format!("{}/backend/{}/{}/{}", home(self.back), self.kind, self.front, self.index)
    }
}
