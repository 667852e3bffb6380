//! An I/O APIC (Intel's 82093AA data sheet; version 20h, which has an EOI register).
//!
//! What it sends is returned: by a line that rises one message at most, by an end one for each input with that vector.

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use super::message::{Delivery, Destination, Message};

/// Its inputs.
pub const PINS: usize = 24;
/// Where its registers are.
pub const ADDRESS: u64 = 0xfec0_0000;

/// What one access sends.
pub type Messages = ArrayVec<Message, PINS>;

const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const EOI: u32 = 0x40;

const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const FIRST_ENTRY: u8 = 0x10;

const LOGICAL: u64 = 1 << 11;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Bits of an entry that software can write: all but delivery status, remote IRR, and those that are reserved. Messages
/// are sent at once, so the delivery status is never pending.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    id: u32,
    select: u8,
    entries: [u64; PINS],
    /// The inputs' levels.
    lines: u32,
}

impl IoApic {
    /// As after reset: all masked.
    pub const fn new(id: u8) -> Self {
        Self { id: (id as u32 & 0xf) << 24, select: 0, entries: [MASKED; PINS], lines: 0 }
    }

    /// Reads the 32-bit register at this offset of its page.
    pub fn read(&self, offset: u32) -> u32 {
        match offset {
            SELECT => self.select.into(),
            WINDOW => self.register(self.select),
            _ => 0,
        }
    }

    /// Writes the 32-bit register at this offset.
    pub fn write(&mut self, offset: u32, value: u32) -> Messages {
        match offset {
            SELECT => self.select = value as u8,
            WINDOW => return self.set_register(self.select, value).into_iter().collect(),
            EOI => return self.end(value as u8),
            _ => {}
        }
        Messages::new()
    }

    fn register(&self, number: u8) -> u32 {
        match number {
            ID | ARBITRATION => self.id,
            VERSION => 0x20 | (PINS as u32 - 1) << 16,
            _ => entry_of(number)
                .and_then(|(pin, shift)| Some((self.entries.get(pin)? >> shift) as u32))
                .unwrap_or(0),
        }
    }

    fn set_register(&mut self, number: u8, value: u32) -> Option<Message> {
        if number == ID {
            self.id = value & 0x0f00_0000;
            return None;
        }
        let (pin, shift) = entry_of(number)?;
        let entry = self.entries.get_mut(pin)?;
        let written = *entry & !(0xffff_ffff << shift) | u64::from(value) << shift;
        *entry = written & WRITABLE | *entry & REMOTE_IRR;
        if *entry & LEVEL == 0 {
            // An edge awaits no end.
            *entry &= !REMOTE_IRR;
        }
        self.look_at_level(pin)
    }

    /// Raises or lowers an input. "Interrupt Mask": an edge that comes while it is masked is lost.
    #[inline]
    pub fn set(&mut self, pin: usize, up: bool) -> Option<Message> {
        let entry = *self.entries.get(pin)?;
        let bit = 1 << pin;
        let was_up = self.lines & bit != 0;
        if up == was_up {
            return None;
        }
        self.lines ^= bit;
        if entry & LEVEL != 0 {
            self.look_at_level(pin)
        } else if self.is_active(pin) && entry & MASKED == 0 {
            message(entry)
        } else {
            None
        }
    }

    /// An interrupt with this vector has ended: levels that are still active interrupt again.
    pub fn end(&mut self, vector: u8) -> Messages {
        let mut sent = Messages::new();
        for pin in 0..PINS {
            let entry = &mut self.entries[pin];
            if *entry & REMOTE_IRR != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
                // There is room for one of each input.
                sent.extend(self.look_at_level(pin));
            }
        }
        sent
    }

    const fn is_active(&self, pin: usize) -> bool {
        (self.lines & 1 << pin != 0) == (self.entries[pin] & ACTIVE_LOW == 0)
    }

    fn look_at_level(&mut self, pin: usize) -> Option<Message> {
        let entry = self.entries[pin];
        if entry & LEVEL == 0 || entry & (MASKED | REMOTE_IRR) != 0 || !self.is_active(pin) {
            return None;
        }
        let message = message(entry)?;
        if !message.is_level {
            // "Delivery Mode": these have to be edges, and have no end.
            return None;
        }
        self.entries[pin] |= REMOTE_IRR;
        Some(message)
    }
}

/// The input that a register is of, and where it lies in the entry.
const fn entry_of(number: u8) -> Option<(usize, u32)> {
    match number.checked_sub(FIRST_ENTRY) {
        Some(index) => Some((index as usize / 2, (index & 1) as u32 * 32)),
        None => None,
    }
}

/// What an entry sends. `None`: its delivery mode is reserved.
fn message(entry: u64) -> Option<Message> {
    let delivery = Delivery::from_mode((entry >> 8) as u8, entry as u8)?;
    let has_end = matches!(delivery, Delivery::Fixed(_) | Delivery::LowestPriority(_));
    if matches!(delivery, Delivery::StartUp(_)) {
        return None;
    }
    let to = Destination::narrow((entry >> 56) as u8, entry & LOGICAL != 0);
    Some(Message { to, delivery, is_level: has_end && entry & LEVEL != 0 })
}
