//! The rows: what is done, in the order in which it is told.

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Its name: also what the guest program prints, behind the mode.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Why columns have no figure, by how their names begin.
    absent: &'static [(&'static str, &'static str)],
}

const fn work(name: &'static str, what: &'static str) -> Work {
    Work { name, what, absent: &[] }
}

/// Why a para guest has no figures of a local APIC's page.
const NO_PAGE: &[(&str, &str)] = &[("para", "a para guest's local APIC is in x2APIC mode for good")];

/// Why there are none of other guests'.
const NO_OTHERS: &[(&str, &str)] =
    &[("full", "a full guest has no interface to other guests"), ("bare", "there are no other guests")];
const NO_RING: &[(&str, &str)] =
    &[("full", "a full guest has no ring with other guests"), ("bare", "there are no other guests")];

/// All of them.
pub const WORKS: &[Work] = &[
    work(
        "null_call",
        "the least that can be asked of what is below: para, a hypercall; full and bare, CPUID",
    ),
    work("cpuid", "CPUID"),
    work("system_call", "from an application into its own kernel and back: INT3, handler, IRET"),
    work("page_table_update", "a page table's entry changed, INVLPG, and the page read"),
    work("page_table_batch", "the same, 64 entries at once and one load of CR3: for each entry"),
    work(
        "page_fault",
        "an entry taken away, INVLPG, a page fault, its handler maps the page, and it is read",
    ),
    work(
        "page_accessed",
        "an entry's accessed flag taken away, INVLPG, and the page read: the flag is set again",
    ),
    work("page_table_load", "CR3 loaded with what it holds"),
    work("context_switch", "CR3 loaded with another address space, of which 4 pages are read"),
    work(
        "process",
        "page tables made, 16 entries copied, a switch, 16 pages read, 4 copied on write, 4 new ones, a switch back, \
         all taken down",
    ),
    work("timer_set", "the TSC-deadline timer set, far off"),
    work("timer_fired", "the same, due at once, until its handler has ended the interrupt"),
    work("self_ipi_x2apic", "an IPI to oneself by an MSR, until its handler has ended the interrupt"),
    Work { absent: NO_PAGE, ..work("self_ipi_xapic", "the same by the page of registers") },
    Work { absent: NO_PAGE, ..work("mmio_apic_id", "the local APIC's id read from its page of registers") },
    work("port_uart_status", "the serial port's line status read"),
    work("port_timer_count", "a byte of the interval timer's count read"),
    Work {
        absent: NO_OTHERS,
        ..work(
            "notify_guest",
            "another guest that sleeps is told of a message in a ring: what the sender spends",
        )
    },
    work(
        "block_4k",
        "4 KiB: para, from or to another guest through a ring, what both ends spend; full and bare, from an ATA disk by \
         programmed I/O",
    ),
    Work { absent: NO_RING, ..work("block_4k_queued", "through the ring, 32 at a time: each") },
    work(
        "console_4k",
        "4 KiB on the console: para, a ring; full, an emulated 16550; bare, a 16550 at 115,200 baud",
    ),
];

/// Those of `bench boot`.
pub const BOOT_WORKS: &[Work] = &[work(
    "linux_boot",
    "Debian's kernel and a small file system in memory, from where the kernel first reads its clock to the shell, with one \
     processor",
)];

impl Work {
    /// The work of this name, in whichever benchmark.
    pub fn find(name: &str) -> Option<&'static Self> {
        WORKS.iter().chain(BOOT_WORKS).find(|work| work.name == name)
    }

    /// Whether it can be done in that column.
    pub fn is_in(&self, column: &str) -> bool {
        !self.absent.iter().any(|(prefix, _)| column.starts_with(prefix))
    }

    /// Whether the guest's own instructions are there what they are on the bare machine: not where it has a ring for a device.
    pub fn is_comparable(&self, column: &str) -> bool {
        !column.starts_with("para") || !["block_4k", "console_4k"].contains(&self.name)
    }

    /// Why a column has no figure here.
    pub fn absent(&self, column: &str) -> &'static str {
        let why = self.absent.iter().find(|(prefix, _)| column.starts_with(prefix));
        why.map_or("the guest printed no such row", |(_, why)| why)
    }
}
