//! ACPI's fixed hardware (ACPI specification, "ACPI Hardware Specification"): PM1 event and control blocks, and the power
//! management timer, with 32 bits. ACPI mode is always on. The SCI is raised by the timer's overflow and by the power
//! button; there are no general-purpose events.
//!
//! Time is passed in as ticks of the timer.

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

const ENABLE: u16 = EVENT + 2;
const TIMER_STATUS: u16 = 1 << 0;
const POWER_BUTTON: u16 = 1 << 8;
/// Events that can be enabled, of which some never come: timer, global lock, both buttons, clock.
const EVENTS: u16 = TIMER_STATUS | 1 << 5 | POWER_BUTTON | 1 << 9 | 1 << 10;
const WAKE_STATUS: u16 = 1 << 15;
const SCI_ENABLED: u16 = 1 << 0;
const BUS_MASTER_RELOAD: u16 = 1 << 1;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// `SLP_TYP` of S5: as Atoll's own DSDT has it, and as the PIIX4 does, whose tables firmware may make.
const SOFT_OFF: [u16; 2] = [5 << 10, 0];
/// The bit whose every change is told of.
const OVERFLOW: u32 = 31;

/// The block.
#[derive(Clone, Debug)]
pub struct Pm {
    status: u16,
    enabled: u16,
    control: u16,
    /// Up to when the timer's overflow has been looked at.
    seen: u64,
}

impl Pm {
    /// As after power-up, in ACPI mode.
    pub const fn new() -> Self {
        Self { status: 0, enabled: 0, control: SCI_ENABLED, seen: 0 }
    }

    /// Reads a byte.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        self.look(now);
        let (value, first) = match port {
            EVENT..ENABLE => (self.status.into(), EVENT),
            ENABLE..CONTROL => (self.enabled.into(), ENABLE),
            CONTROL..TIMER => (self.control.into(), CONTROL),
            TIMER..END => (now as u32, TIMER),
            _ => return 0xff,
        };
        value.to_le_bytes()[usize::from(port - first)]
    }

    /// Writes a byte. `true`: the PC is switched off.
    pub fn write(&mut self, port: u16, value: u8, now: u64) -> bool {
        self.look(now);
        // The register's value with this byte replaced.
        let with = |old: u16, first: u16| {
            let shift = u32::from(port & 1) * 8;
            debug_assert!(port - first < 2);
            old & !(0xff << shift) | u16::from(value) << shift
        };
        match port {
            // Ones clear.
            EVENT..ENABLE => self.status &= !with(0, EVENT),
            ENABLE..CONTROL => self.enabled = with(self.enabled, ENABLE) & EVENTS,
            CONTROL..0x606 => {
                let written = with(self.control, CONTROL);
                // `SLP_EN` and `GBL_RLS` do what they do when they are written, and read as 0.
                self.control = written & (SLEEP_TYPE | BUS_MASTER_RELOAD) | SCI_ENABLED;
                if written & SLEEP_ENABLE != 0 {
                    if SOFT_OFF.contains(&(written & SLEEP_TYPE)) {
                        return true;
                    }
                    // Any other sleep is over at once.
                    self.status |= WAKE_STATUS;
                }
            }
            _ => {}
        }
        false
    }

    /// Somebody presses the power button.
    pub const fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// Whether the SCI is up. It is a level.
    #[inline]
    pub fn interrupts(&mut self, now: u64) -> bool {
        self.look(now);
        self.status & self.enabled != 0
    }

    /// When the timer overflows next, where somebody wants to know.
    pub const fn deadline(&self) -> Option<u64> {
        if self.enabled & !self.status & TIMER_STATUS != 0 {
            Some(((self.seen >> OVERFLOW) + 1) << OVERFLOW)
        } else {
            None
        }
    }

    /// The status tells of each change of the timer's highest bit.
    #[inline]
    fn look(&mut self, now: u64) {
        if now >> OVERFLOW > self.seen >> OVERFLOW {
            self.status |= TIMER_STATUS;
        }
        self.seen = self.seen.max(now);
    }
}

impl Default for Pm {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pm: &mut Pm, port: u16, bytes: u16, now: u64) -> u32 {
        (0..bytes).rev().fold(0, |value, byte| value << 8 | u32::from(pm.read(port + byte, now)))
    }

    fn write(pm: &mut Pm, port: u16, value: u16, now: u64) -> bool {
        let [low, high] = value.to_le_bytes();
        let off = pm.write(port, low, now);
        pm.write(port + 1, high, now) || off
    }

    #[test]
    fn the_timer_counts() {
        let mut pm = Pm::new();
        assert_eq!(read(&mut pm, TIMER, 4, 0x1_2345_6789), 0x2345_6789);
        write(&mut pm, TIMER, 0, 5);
        assert_eq!(read(&mut pm, TIMER, 4, 0x1_2345_6789), 0x2345_6789, "read-only");
    }

    #[test]
    fn its_overflow_interrupts() {
        let mut pm = Pm::new();
        assert_eq!(pm.deadline(), None);
        write(&mut pm, ENABLE, TIMER_STATUS, 5);
        assert_eq!(pm.deadline(), Some(1 << 31));
        assert!(!pm.interrupts((1 << 31) - 1) && pm.interrupts(1 << 31));
        assert_eq!((read(&mut pm, EVENT, 2, 1 << 31), pm.deadline()), (1, None));
        write(&mut pm, EVENT, 0, 1 << 31);
        assert!(pm.interrupts(1 << 31), "only ones clear");
        write(&mut pm, EVENT, TIMER_STATUS, 1 << 31);
        assert!(!pm.interrupts(1 << 31));
        assert_eq!(pm.deadline(), Some(1 << 32));
        assert!(pm.interrupts(1 << 40), "many are one");
    }

    #[test]
    fn the_power_button() {
        let mut pm = Pm::new();
        pm.press_power_button();
        assert!(!pm.interrupts(0));
        write(&mut pm, ENABLE, 0xffff, 0);
        assert_eq!(read(&mut pm, ENABLE, 2, 0), u32::from(EVENTS));
        assert!(pm.interrupts(0));
        write(&mut pm, EVENT, POWER_BUTTON, 0);
        assert!(!pm.interrupts(0));
    }

    #[test]
    fn sleeping_soundly_is_off() {
        for (value, off) in [(0x3401, true), (0x1401, false), (0x2000, true), (0x2401, false)] {
            assert_eq!(write(&mut Pm::new(), CONTROL, value, 0), off, "{value:#x}");
        }
        let mut pm = Pm::new();
        assert_eq!(read(&mut pm, CONTROL, 4, 0), 1);
        write(&mut pm, CONTROL, 0x2402, 0);
        assert_eq!(
            (read(&mut pm, CONTROL, 2, 0), read(&mut pm, EVENT, 2, 0)),
            (0x0403, 0x8000),
            "awake again"
        );
        assert!(!pm.write(CONTROL, 0x34, 0), "the byte matters");
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(accesses: [(bool, u16, u8, u64); 24]) {
            let mut pm = Pm::new();
            for (writes, port, value, now) in accesses {
                if writes { pm.write(EVENT - 2 + port % 16, value, now); } else { pm.read(port, now); }
                prop_assert_eq!(pm.enabled & !EVENTS, 0);
                prop_assert!(pm.control & SCI_ENABLED != 0 && pm.control & SLEEP_ENABLE == 0);
                let _ = (pm.interrupts(now), pm.deadline());
            }
        }
    }
}
