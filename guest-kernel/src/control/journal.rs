//! What domain 0 itself says: on the machine's first serial port, and kept as its own console.

use alloc::format;

use super::hypervisor::Hypervisor;
use super::tail::Tail;

/// Domain 0's voice.
#[derive(Debug, Default)]
pub struct Journal {
    tail: Tail,
}

impl Journal {
    /// Says something as the control program.
    pub fn say<H: Hypervisor>(&mut self, hypervisor: &mut H, what: &str) {
        self.line(hypervisor, &format!("[control] {what}"));
    }

    /// Prints a line as it is.
    pub fn line<H: Hypervisor>(&mut self, hypervisor: &mut H, line: &str) {
        let line = format!("{line}\n");
        hypervisor.console_write(line.as_bytes());
        self.tail.push(line.as_bytes());
    }

    /// All that was said.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }
}

/// Prints a line of a guest's: it belongs to that guest's console, and the machine's log shows whose it is.
pub fn guest_line<H: Hypervisor>(hypervisor: &mut H, name: &str, line: &str) {
    hypervisor.console_write(format!("[{name}] {line}\n").as_bytes());
}
