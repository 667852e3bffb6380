//! What interrupt controllers tell each other: interrupt messages, and who they are for (SDM 3A, "Determining IPI
//! Destination").

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which local APICs it is for.
    pub to: Destination,
    /// What they are to do.
    pub delivery: Delivery,
    /// Whether its source holds it up until it has ended.
    pub is_level: bool,
}

/// What a message does to who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An interrupt with this vector.
    Fixed(u8),
    /// The same, at one of those it is for: any may be chosen.
    LowestPriority(u8),
    /// A system management interrupt, which a guest has no use for.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Starts a processor that had INIT, at the page with this number.
    StartUp(u8),
    /// The 8259 pair has the vector.
    External,
}

impl Delivery {
    /// Of a delivery mode, as registers have it. `None`: reserved.
    pub const fn from_mode(mode: u8, vector: u8) -> Option<Self> {
        Some(match mode & 7 {
            0 => Self::Fixed(vector),
            1 => Self::LowestPriority(vector),
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp(vector),
            7 => Self::External,
            _ => return None,
        })
    }
}

/// Who a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Its sender.
    Itself,
    /// All, the sender too.
    All,
    /// All but the sender.
    Others,
    /// The one with this APIC id.
    Physical(u32),
    /// Those whose logical id it matches.
    Logical(u32),
}

impl Destination {
    /// Of a destination field of 8 bits, where all ones are everybody.
    pub const fn narrow(field: u8, is_logical: bool) -> Self {
        match (field, is_logical) {
            (0xff, _) => Self::All,
            (_, true) => Self::Logical(field as u32),
            (_, false) => Self::Physical(field as u32),
        }
    }

    /// Of x2APIC mode's 32 bits.
    pub const fn wide(field: u32, is_logical: bool) -> Self {
        match (field, is_logical) {
            (u32::MAX, _) => Self::All,
            (_, true) => Self::Logical(field),
            (_, false) => Self::Physical(field),
        }
    }
}

/// What a local APIC answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// APIC id.
    pub id: u32,
    /// Logical destination register.
    pub logical: u32,
    /// Destination format register: the flat model if its upper four bits are ones. None in x2APIC mode.
    pub format: u32,
    /// Whether it is in x2APIC mode.
    pub is_x2apic: bool,
}

impl Address {
    /// Whether a message to `destination`, sent by another or, if `is_sender`, by itself, is for this one.
    pub const fn is_named_by(&self, destination: Destination, is_sender: bool) -> bool {
        match destination {
            Destination::Itself => is_sender,
            Destination::All => true,
            Destination::Others => !is_sender,
            Destination::Physical(id) => id == self.id,
            Destination::Logical(wanted) => self.has_logical(wanted),
        }
    }

    /// "Logical Destination Mode", and "Logical Destination Mode in x2APIC Mode".
    const fn has_logical(&self, wanted: u32) -> bool {
        if self.is_x2apic {
            return wanted >> 16 == self.logical >> 16 && wanted & self.logical & 0xffff != 0;
        }
        if wanted > 0xff {
            return false;
        }
        let logical = self.logical >> 24;
        if self.format >> 28 == 0xf {
            return wanted & logical != 0;
        }
        // The cluster model: four bits say which cluster, all ones all of them, and four which of its members.
        (wanted >> 4 == 0xf || wanted >> 4 == logical >> 4) && wanted & logical & 0xf != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn xapic(logical: u32, format: u32) -> Address {
        Address { id: 3, logical: logical << 24, format, is_x2apic: false }
    }

    #[test]
    fn physical_and_shorthands() {
        let apic = xapic(0, u32::MAX);
        assert!(apic.is_named_by(Destination::narrow(3, false), false));
        assert!(!apic.is_named_by(Destination::narrow(4, false), false));
        assert_eq!(
            (Destination::narrow(0xff, false), Destination::narrow(0xff, true)),
            (Destination::All, Destination::All)
        );
        assert_eq!(
            (Destination::wide(0xff, false), Destination::wide(u32::MAX, true)),
            (Destination::Physical(0xff), Destination::All)
        );
        for (destination, by_itself, by_other) in [
            (Destination::All, true, true),
            (Destination::Others, false, true),
            (Destination::Itself, true, false),
        ] {
            assert_eq!(apic.is_named_by(destination, true), by_itself);
            assert_eq!(apic.is_named_by(destination, false), by_other);
        }
    }

    /// SDM 3A, "Logical Destination Mode".
    #[test]
    fn logical() {
        let names = |apic: Address, field: u8| apic.is_named_by(Destination::narrow(field, true), false);
        let flat = xapic(0b100, u32::MAX);
        assert!(names(flat, 0b110) && !names(flat, 0b011));
        let cluster = xapic(0x24, 0x0fff_ffff);
        assert!(names(cluster, 0x24) && names(cluster, 0x2c) && names(cluster, 0xf4));
        assert!(!names(cluster, 0x14) && !names(cluster, 0x23) && !names(cluster, 0xf3));
    }

    /// SDM 3A, "Logical Destination Mode in x2APIC Mode".
    #[test]
    fn logical_in_x2apic_mode() {
        let apic = Address { id: 0x25, logical: 0x2_0020, format: u32::MAX, is_x2apic: true };
        let names = |field: u32| apic.is_named_by(Destination::wide(field, true), false);
        assert!(names(0x2_0020) && names(0x2_ffff));
        assert!(!names(0x1_0020) && !names(0x2_ffdf) && !names(0x20));
    }
}
