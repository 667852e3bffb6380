//! An I/O APIC (Intel's 82093AA data sheet; version 20h, which has an EOI register).

/// Its inputs.
pub const PINS: usize = 24;
/// Where its registers are.
pub const ADDRESS: u64 = 0xfec0_0000;

const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const EOI: u32 = 0x40;

const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const FIRST_ENTRY: u8 = 0x10;

const PENDING: u64 = 1 << 12;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Bits of an entry that software can write.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An interrupt that an I/O APIC sends: a redirection table entry's own fields, where an interrupt command has them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Destination, 8 bits.
    pub destination: u8,
    /// Whether that is logical.
    pub is_logical: bool,
    /// Delivery mode: 0 fixed, 1 lowest priority, 4 NMI, 5 INIT, 7 external.
    pub mode: u8,
    /// Vector.
    pub vector: u8,
    /// Whether it is a level, whose end is awaited.
    pub is_level: bool,
}

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
        Self { id: (id as u32) << 24, select: 0, entries: [MASKED; PINS], lines: 0 }
    }

    /// Reads the register at this offset.
    pub fn read(&self, offset: u32) -> u32 {
        match offset & 0xff {
            SELECT => self.select.into(),
            WINDOW => self.register(self.select),
            _ => 0,
        }
    }

    /// Writes the register at this offset. What is sent for it goes to `send`.
    pub fn write(&mut self, offset: u32, value: u32, mut send: impl FnMut(Message)) {
        match offset & 0xff {
            SELECT => self.select = value as u8,
            WINDOW => self.set_register(self.select, value, &mut send),
            EOI => self.end(value as u8, send),
            _ => {}
        }
    }

    fn register(&self, number: u8) -> u32 {
        match number {
            ID | ARBITRATION => self.id,
            VERSION => 0x20 | (PINS as u32 - 1) << 16,
            _ => match self.entries.get(usize::from(number.wrapping_sub(FIRST_ENTRY) / 2)) {
                Some(entry) if number >= FIRST_ENTRY => (entry >> (u32::from(number & 1) * 32)) as u32,
                _ => 0,
            },
        }
    }

    fn set_register(&mut self, number: u8, value: u32, send: &mut impl FnMut(Message)) {
        if number == ID {
            self.id = value & 0x0f00_0000;
        } else if number >= FIRST_ENTRY {
            let pin = usize::from((number - FIRST_ENTRY) / 2);
            let Some(entry) = self.entries.get_mut(pin) else { return };
            let shift = u32::from(number & 1) * 32;
            let written = *entry & !(0xffff_ffff << shift) | u64::from(value) << shift;
            *entry = written & WRITABLE | *entry & (PENDING | REMOTE_IRR);
            if *entry & LEVEL == 0 {
                // An edge awaits no end.
                *entry &= !REMOTE_IRR;
            }
            self.look_at_level(pin, send);
        }
    }

    /// Raises or lowers an input.
    pub fn set(&mut self, pin: usize, up: bool, mut send: impl FnMut(Message)) {
        let Some(entry) = self.entries.get(pin).copied() else { return };
        let bit = 1 << pin;
        let was_up = self.lines & bit != 0;
        self.lines = if up { self.lines | bit } else { self.lines & !bit };
        if entry & LEVEL != 0 {
            self.look_at_level(pin, &mut send);
        } else if self.is_active(pin) && up != was_up && entry & MASKED == 0 {
            send(message(entry));
        }
    }

    /// An interrupt with this vector has ended: levels that are still active interrupt again.
    pub fn end(&mut self, vector: u8, mut send: impl FnMut(Message)) {
        for pin in 0..PINS {
            let entry = &mut self.entries[pin];
            if *entry & LEVEL != 0 && *entry as u8 == vector && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                self.look_at_level(pin, &mut send);
            }
        }
    }

    fn is_active(&self, pin: usize) -> bool {
        (self.lines & 1 << pin != 0) == (self.entries[pin] & ACTIVE_LOW == 0)
    }

    fn look_at_level(&mut self, pin: usize, send: &mut impl FnMut(Message)) {
        let entry = self.entries[pin];
        if entry & LEVEL != 0 && entry & (MASKED | REMOTE_IRR) == 0 && self.is_active(pin) {
            self.entries[pin] |= REMOTE_IRR;
            send(message(entry));
        }
    }
}

const fn message(entry: u64) -> Message {
    Message {
        destination: (entry >> 56) as u8,
        is_logical: entry & 1 << 11 != 0,
        mode: (entry >> 8 & 7) as u8,
        vector: entry as u8,
        is_level: entry & LEVEL != 0,
    }
}
