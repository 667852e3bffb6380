//! What domain 0 itself says: on the machine's first serial port, and kept as its own console.

use alloc::format;
use alloc::string::String;

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

/// Bytes of one guest's lines that the machine's log takes at once.
const BURST: u64 = 16 * 1024;
/// Bytes that it takes in a millisecond, in the long run: less than half of what a serial line can carry.
const PER_MILLISECOND: u64 = 4;

/// A guest's lines in the machine's log. They belong to the guest's console, which keeps them all; the log shows them
/// with the guest's name, as long as the guest is no chatterbox: the serial line is slow, and everybody's.
#[derive(Debug)]
pub struct GuestLog {
    /// Bytes that may be printed now.
    budget: u64,
    /// Up to when the budget was counted.
    counted: u64,
    /// Lines left out since the last that was printed.
    left_out: u64,
}

impl GuestLog {
    /// A guest that has printed nothing.
    pub fn new(now: u64) -> Self {
        Self { budget: BURST, counted: now, left_out: 0 }
    }

    /// Prints a line, if the guest has not printed too much of late.
    pub fn line<H: Hypervisor>(&mut self, hypervisor: &mut H, name: &str, line: &str, tsc_khz: u64) {
        let now = hypervisor.ticks();
        let milliseconds = now.saturating_sub(self.counted) / tsc_khz.max(1);
        self.counted += milliseconds * tsc_khz;
        self.budget = BURST.min(self.budget.saturating_add(milliseconds.saturating_mul(PER_MILLISECOND)));
        let mut text = String::new();
        if self.left_out > 0 {
            text = format!("[{name}] ({} lines are left out here: see its console)\n", self.left_out);
        }
        text.push_str(&format!("[{name}] {line}\n"));
        match self.budget.checked_sub(text.len() as u64) {
            Some(rest) => {
                self.budget = rest;
                self.left_out = 0;
                hypervisor.console_write(text.as_bytes());
            }
            None => self.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const KHZ: u64 = 1000;

    #[test]
    fn a_chatterbox_is_heard_in_part_and_again_when_it_was_silent() {
        let mut fake = Fake::new(1);
        let mut log = GuestLog::new(0);
        for _ in 0..10_000 {
            log.line(&mut fake, "web", "chatter", KHZ);
        }
        assert!(fake.printed.len() as u64 <= BURST + PER_MILLISECOND * (fake.now / KHZ));
        let heard = fake.printed.lines().count();
        fake.now += KHZ * BURST / PER_MILLISECOND;
        log.line(&mut fake, "web", "news", KHZ);
        let left_out =
            format!("[web] ({} lines are left out here: see its console)\n[web] news\n", 10_000 - heard);
        assert!(fake.printed.ends_with(&left_out), "{}", fake.printed);
    }

    #[test]
    fn silence_does_not_add_up() {
        let mut fake = Fake::new(1);
        let mut log = GuestLog::new(0);
        fake.now = u64::MAX / 2;
        for _ in 0..10_000 {
            log.line(&mut fake, "web", "chatter", KHZ);
        }
        assert!((fake.printed.len() as u64) < BURST + 1000);
    }
}
