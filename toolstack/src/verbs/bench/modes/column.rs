//! The columns: where the program runs.

use abi::control::wire::{GuestConfig, Paging, Virt};

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name: also the mode that rows are printed under.
    pub name: &'static str,
    /// What is behind it, in a sentence.
    pub what: &'static str,
    /// Its colour in charts.
    pub colour: &'static str,
    runs: Runs,
}

#[derive(Clone, Copy, Debug)]
enum Runs {
    /// Without the hypervisor.
    Bare,
    /// As such a guest.
    Guest(fn(GuestConfig) -> GuestConfig),
    /// Not at all, and why.
    No(&'static str),
}

/// All of them.
pub const COLUMNS: &[Column] = &[
    Column {
        name: "bare",
        what: "the same file, started by GRUB on the same machine, without the hypervisor",
        colour: "#7f7f7f",
        runs: Runs::Bare,
    },
    Column {
        name: "para-ept",
        what: "virt = \"para\": the guest knows that it is one and calls the hypervisor",
        colour: "#0072b2",
        runs: Runs::Guest(|guest| GuestConfig { virt: Virt::Para, ..guest }),
    },
    Column {
        name: "full-ept",
        what: "virt = \"full\": the guest finds a PC, and what it does to devices exits and is emulated; its local APIC \
               the processor keeps up, where it can",
        colour: "#e69f00",
        runs: Runs::Guest(|guest| GuestConfig { virt: Virt::Full, ..guest }),
    },
    Column {
        name: "full-soft-apic",
        what: "assisted_apic = false: the same with a local APIC that is emulated, too, and not kept up by the processor",
        colour: "#f0e442",
        runs: Runs::Guest(|guest| GuestConfig { virt: Virt::Full, emulated_apic: true, ..guest }),
    },
    Column {
        name: "full-shadow",
        what: "the same again without the processor's EPT: the hypervisor keeps shadows of the guest's page tables",
        colour: "#d55e00",
        runs: Runs::Guest(|guest| GuestConfig { virt: Virt::Full, paging: Paging::Shadow, ..guest }),
    },
    Column {
        name: "para-shadow",
        what: "virt = \"para\" without the processor's EPT",
        colour: "#56b4e9",
        runs: Runs::No(
            "para guests start by Xen's PVH, which leaves page tables to the guest and memory to the processor's \
             second level: without EPT they are not offered",
        ),
    },
];

impl Column {
    /// How a guest is configured there. `None`: no guest runs there.
    pub fn guest(&self) -> Option<fn(GuestConfig) -> GuestConfig> {
        match self.runs {
            Runs::Guest(config) => Some(config),
            Runs::Bare | Runs::No(_) => None,
        }
    }

    /// Whether the guest has an interface to other guests: event channels, grants, rings.
    pub fn knows_others(&self) -> bool {
        self.name.starts_with("para")
    }

    /// Why nothing runs there.
    pub fn not_offered(&self) -> Option<&'static str> {
        match self.runs {
            Runs::No(why) => Some(why),
            Runs::Bare | Runs::Guest(_) => None,
        }
    }

    /// Whether it is the one that the others are compared with.
    pub fn is_bare(&self) -> bool {
        matches!(self.runs, Runs::Bare)
    }

    /// Those in which something runs.
    pub fn running() -> impl Iterator<Item = &'static Column> {
        COLUMNS.iter().filter(|column| column.not_offered().is_none())
    }
}
