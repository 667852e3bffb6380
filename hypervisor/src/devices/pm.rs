//! ACPI's fixed hardware (ACPI specification, "ACPI Hardware Specification"): PM1 event and control blocks, the power
//! management timer, and the register that resets a PC. ACPI mode is always on, and nothing raises the SCI but the
//! timer's overflow.

/// Ports of the PM1 event block: status, then enable.
pub const EVENT: u16 = 0x600;
/// Port of the PM1 control block.
pub const CONTROL: u16 = 0x604;
/// Port of the timer.
pub const TIMER: u16 = 0x608;
/// The port behind the last.
pub const END: u16 = 0x60c;
/// Rate of the timer in Hz.
pub const HZ: u64 = 3_579_545;

const SCI_ENABLED: u16 = 1;
const TIMER_STATUS: u16 = 1;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// `SLP_TYP` of S5, as the guest's DSDT has it.
const SOFT_OFF: u16 = 5 << 10;

/// The block.
#[derive(Clone, Debug)]
pub struct Pm {
    status: u16,
    enabled: u16,
    control: u16,
    /// Up to when the timer's overflow has been looked at, in its ticks.
    seen: u64,
}

impl Pm {
    /// As after power-up, in ACPI mode.
    pub const fn new() -> Self {
        Self { status: 0, enabled: 0, control: SCI_ENABLED, seen: 0 }
    }

    /// Reads a byte. `now`: the timer's ticks.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        self.look(now);
        let byte = |value: u32, first: u16| (value >> (u32::from(port - first) * 8)) as u8;
        match port {
            EVENT..0x602 => byte(self.status.into(), EVENT),
            0x602..CONTROL => byte(self.enabled.into(), 0x602),
            CONTROL..0x606 => byte(self.control.into(), CONTROL),
            TIMER..END => byte(now as u32, TIMER),
            _ => 0,
        }
    }

    /// Writes a byte. `true`: the PC is switched off.
    pub fn write(&mut self, port: u16, value: u8, now: u64) -> bool {
        self.look(now);
        let merge = |old: u16, first: u16| {
            let shift = u32::from(port - first) * 8;
            old & !(0xff << shift) | u16::from(value) << shift
        };
        match port {
            EVENT..0x602 => self.status &= !merge(0, EVENT),
            0x602..CONTROL => self.enabled = merge(self.enabled, 0x602) & TIMER_STATUS,
            CONTROL..0x606 => {
                let written = merge(self.control, CONTROL);
                self.control = written & (SLEEP_TYPE | 1 << 1) | SCI_ENABLED;
                return written & SLEEP_ENABLE != 0 && written & SLEEP_TYPE == SOFT_OFF;
            }
            _ => {}
        }
        false
    }

    /// Whether the SCI is up.
    pub fn interrupts(&mut self, now: u64) -> bool {
        self.look(now);
        self.status & self.enabled != 0
    }

    /// When the timer overflows next, in its ticks, where somebody wants to know.
    pub fn deadline(&self) -> Option<u64> {
        (self.enabled & TIMER_STATUS != 0).then(|| (self.seen | 0x7fff_ffff) + 1)
    }

    /// The status tells of each change of the timer's highest bit.
    fn look(&mut self, now: u64) {
        if now >> 31 != self.seen >> 31 {
            self.status |= TIMER_STATUS;
        }
        self.seen = now;
    }
}

impl Default for Pm {
    fn default() -> Self {
        Self::new()
    }
}
