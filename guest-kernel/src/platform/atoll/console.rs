//! Where text goes: Xen's console ring where domain 0 set one up, else the hypervisor's own console.
//!
//! A keeper that is slow does not stop the kernel: what the ring cannot take waits in a backlog, and what the backlog
//! cannot take is dropped and counted.

use alloc::collections::VecDeque;
use core::fmt;

use abi::xen::event_channel::Port;
use abi::xen::hvm::param;
use io_rings::bytes::{ConsolePage, Reader, Writer};
use spin::Mutex;

use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;

use super::{cpu, hypercall, pc};

/// Bytes of the ring's two streams.
const KEYS: usize = 1024;
const SCREEN: usize = 2048;
/// The most bytes that wait for room in the ring.
const BACKLOG_BYTES: usize = 32 * 1024;

enum Keeper {
    Hypervisor,
    Serial(Uart16550<PioBackend>),
    Ring { keys: Reader<'static, KEYS>, screen: Writer<'static, SCREEN>, port: Port },
}

struct Console {
    keeper: Keeper,
    backlog: VecDeque<u8>,
    dropped: u64,
}

static CONSOLE: Mutex<Console> =
    Mutex::new(Console { keeper: Keeper::Hypervisor, backlog: VecDeque::new(), dropped: 0 });

/// Address of the ring's page, and its port, if domain 0 has set one up.
pub(super) fn find_ring() -> Option<(u64, Port)> {
    let frame = hypercall::get_param(param::CONSOLE_PFN).unwrap_or(0);
    let port = hypercall::get_param(param::CONSOLE_EVTCHN).unwrap_or(0);
    (frame != 0 && port != 0).then_some((frame.checked_mul(4096)?, u32::try_from(port).ok()?))
}

/// Prints to the ring at `address` from now on.
///
/// # Safety
/// `find_ring` gave that address, and the page is mapped for good.
pub(super) unsafe fn use_ring(address: u64, port: Port) {
    // SAFETY: by the caller, a page of console ring lies there, whose every byte pattern is valid.
    let page = unsafe { &*(address as *const ConsolePage) };
    let (keys, screen) = page.guest();
    CONSOLE.lock().keeper = Keeper::Ring { keys, screen, port };
}

/// Prints to the first serial port from now on, where there is one.
pub(super) fn use_serial_port() {
    if let Some(port) = pc::serial_port() {
        CONSOLE.lock().keeper = Keeper::Serial(port);
    }
}

/// Prints.
pub fn write(bytes: &[u8]) {
    CONSOLE.lock().write(bytes);
}

/// Reads what was typed: how many bytes of `into` were filled.
pub fn read(into: &mut [u8]) -> usize {
    match &mut CONSOLE.lock().keeper {
        Keeper::Hypervisor => 0,
        Keeper::Serial(port) => port.receive_bytes(into),
        Keeper::Ring { keys, port, .. } => {
            let count = keys.read(into);
            if count > 0 {
                // The keeper may wait for room; that it is gone is no reason to stop reading.
                let _ = hypercall::send(*port);
            }
            count
        }
    }
}

/// Moves the backlog on; true while some is left.
pub fn flush() -> bool {
    let mut console = CONSOLE.lock();
    if !console.backlog.is_empty() {
        console.move_backlog();
    }
    !console.backlog.is_empty()
}

/// The port whose events mean that the keeper moved something.
pub fn port() -> Option<Port> {
    match CONSOLE.lock().keeper {
        Keeper::Hypervisor | Keeper::Serial(_) => None,
        Keeper::Ring { port, .. } => Some(port),
    }
}

/// Waits until the keeper has read everything, at most `ticks`: before the kernel ends.
pub fn drain(ticks: u64) {
    let start = cpu::tsc();
    // Someone may have been interrupted by a panic while printing; then the last words are lost.
    while let Some(mut console) = CONSOLE.try_lock() {
        console.move_backlog();
        if console.is_read() || cpu::tsc().wrapping_sub(start) > ticks {
            return;
        }
        drop(console);
        core::hint::spin_loop();
    }
}

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        self.move_backlog();
        match &mut self.keeper {
            Keeper::Hypervisor => {
                // Nobody is left to tell if even this fails.
                let _ = hypercall::console_io_write(bytes);
            }
            Keeper::Serial(port) => port.send_bytes_exact(bytes),
            Keeper::Ring { screen, port, .. } => {
                let taken = if self.backlog.is_empty() { screen.write(bytes) } else { 0 };
                let rest = &bytes[taken..];
                let room = BACKLOG_BYTES.saturating_sub(self.backlog.len());
                self.backlog.extend(&rest[..rest.len().min(room)]);
                self.dropped += rest.len().saturating_sub(room) as u64;
                if taken > 0 {
                    let _ = hypercall::send(*port);
                }
            }
        }
    }

    fn move_backlog(&mut self) {
        let Keeper::Ring { screen, port, .. } = &mut self.keeper else { return };
        let (front, _) = self.backlog.as_slices();
        let taken = screen.write(front);
        self.backlog.drain(..taken);
        if taken == 0 {
            return;
        }
        if self.backlog.is_empty() && self.dropped > 0 {
            let note = alloc::format!("[{} bytes were not printed]\n", self.dropped);
            self.dropped = 0;
            self.backlog.extend(note.as_bytes());
        }
        // A keeper that is gone reads nothing more, and the backlog drops the rest.
        let _ = hypercall::send(*port);
    }

    /// Whether the keeper has read everything, or will read nothing more because it broke the ring's rules.
    fn is_read(&mut self) -> bool {
        match &mut self.keeper {
            Keeper::Hypervisor | Keeper::Serial(_) => true,
            Keeper::Ring { screen, .. } => {
                let all = screen.room() == SCREEN && self.backlog.is_empty();
                all || screen.broken()
            }
        }
    }
}

/// Formats to the console a line at a time, so that a line costs one event.
pub struct Printer;

impl Printer {
    /// Prints `arguments` and a line's end.
    pub fn line(arguments: fmt::Arguments<'_>) {
        let mut line = Line::default();
        // Writing to a `Line` does not fail.
        let _ = fmt::Write::write_fmt(&mut line, arguments);
        let _ = fmt::Write::write_str(&mut line, "\n");
        line.send();
    }
}

/// A buffer on the stack: a panic must be able to print without the heap.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 256], used: 0 }
    }
}

impl Line {
    fn send(&mut self) {
        let used = core::mem::take(&mut self.used);
        if let Some(mut console) = CONSOLE.try_lock() {
            console.write(&self.bytes[..used]);
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.send();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                log::Level::Error => "error: ",
                log::Level::Warn => "warning: ",
                _ => "",
            };
            Printer::line(format_args!("{level}{}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Lets `log` print here.
pub(super) fn install_logger(level: log::LevelFilter) {
    static LOGGER: Logger = Logger;
    // It fails where a logger is installed already: this one.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}
