//! An 8254 interval timer (Intel's 8254 data sheet) as a PC has it: counter 0 interrupts, counter 1 refreshes memory that
//! needs none, counter 2 is gated by port 61h and heard there.
//!
//! Nothing ticks: a counter knows when it was loaded, and its count and output follow from the time, which is passed in as
//! ticks of its own clock, 1.193182 MHz.

mod counter;

#[cfg(test)]
mod tests;

use counter::Counter;

/// Its clock in Hz.
pub const HZ: u64 = 1_193_182;

/// Ticks after which the refresh bit of port 61h toggles: 15 microseconds.
const REFRESH: u64 = 18;
const SELECT_READ_BACK: u8 = 3;

/// The timer, and the port by which counter 2 is gated and heard.
#[derive(Clone, Debug)]
pub struct Pit {
    counters: [Counter; 3],
    /// Port 61h: gate of counter 2, speaker, and two bits that are only kept.
    control_b: u8,
    /// Up to when counter 0's output has been looked at, and whether it has risen until then.
    seen: u64,
    rose: bool,
}

impl Pit {
    /// As after power-up: nothing counts.
    pub const fn new() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            control_b: 0,
            seen: 0,
            rose: false,
        }
    }

    /// Reads a port: 40h to 43h, or 61h.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].read(now),
            0x61 => {
                let refresh = ((now / REFRESH) as u8 & 1) << 4;
                self.control_b | refresh | u8::from(self.counters[2].output(now)) << 5
            }
            _ => 0xff,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        self.look(now);
        let was_up = self.counters[0].output(now);
        match port {
            0x40..=0x42 => self.counters[usize::from(port & 3)].write(value, now),
            0x43 if value >> 6 == SELECT_READ_BACK => self.read_back(value, now),
            0x43 => self.counters[usize::from(value >> 6)].control(value, now),
            0x61 => {
                self.control_b = value & 0xf;
                self.counters[2].set_gate(value & 1 != 0, now);
            }
            _ => {}
        }
        self.rose |= !was_up && self.counters[0].output(now);
    }

    /// "Read-Back Command": bits 1 to 3 are the counters', bits 4 and 5 say what not to latch.
    fn read_back(&mut self, value: u8, now: u64) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if value & 2 << index != 0 {
                if value & 1 << 5 == 0 {
                    counter.latch_count(now);
                }
                if value & 1 << 4 == 0 {
                    counter.latch_status(now);
                }
            }
        }
    }

    /// Counter 0's output, which is the interrupt line.
    pub fn output(&self, now: u64) -> bool {
        self.counters[0].output(now)
    }

    /// When counter 0's output rises next after it was last looked at.
    pub fn deadline(&self) -> Option<u64> {
        if self.rose { Some(self.seen) } else { self.counters[0].next_rise(self.seen) }
    }

    /// Whether counter 0's output has risen since this was last asked, be it once or often.
    pub fn expire(&mut self, now: u64) -> bool {
        self.look(now);
        core::mem::take(&mut self.rose)
    }

    fn look(&mut self, now: u64) {
        self.rose |= self.counters[0].next_rise(self.seen).is_some_and(|rise| rise <= now);
        self.seen = self.seen.max(now);
    }
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}
