//! One kernel after another in the same domain: how far it is, and why a successor did not take over.
//!
//! ```text
//! domain 0: SUCCESSOR_CREATE, DOMAIN_WRITE      Prepared   the old kernel runs
//! old kernel: HAND_OVER                         Offered    it waits in that call
//! domain 0: SUCCESSOR_START                     Trial      the new kernel runs in its own memory
//! new kernel: TAKE_OVER                         Committed  the old one is no more
//! domain 0: SUCCESSOR_END                       None       and its memory is free
//! ```
//!
//! Up to `TAKE_OVER` domain 0 can go back (`SUCCESSOR_FAILED`): the old kernel's call returns then, with a [`Failure`].

/// The reason (`SHUTDOWN_*`) with which a domain stops whose kernel waits in `HAND_OVER`. Xen has none this high.
pub const HANDED_OVER: u32 = 0x80;

/// How far a succession is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// There is none.
    #[default]
    None = 0,
    /// There is memory for a successor.
    Prepared = 1,
    /// The old kernel has handed over, and waits.
    Offered = 2,
    /// The successor runs, and may fail still.
    Trial = 3,
    /// The successor has taken over.
    Committed = 4,
}

impl Stage {
    /// The stage with this number.
    pub const fn from_u8(stage: u8) -> Option<Self> {
        Some(match stage {
            0 => Self::None,
            1 => Self::Prepared,
            2 => Self::Offered,
            3 => Self::Trial,
            4 => Self::Committed,
            _ => return None,
        })
    }
}

/// A stage and the bytes of the package, as one word: what `SUCCESSION` returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Succession {
    /// How far it is.
    pub stage: Stage,
    /// Bytes that the old kernel hands over; 0 before it has.
    pub bytes: u64,
}

impl Succession {
    /// As a word.
    pub const fn to_word(self) -> u64 {
        self.stage as u64 | self.bytes << 8
    }

    /// A word as what it says.
    pub const fn from_word(word: u64) -> Option<Self> {
        match Stage::from_u8(word as u8) {
            Some(stage) => Some(Self { stage, bytes: word >> 8 }),
            None => None,
        }
    }
}

/// The longest package.
pub const MAX_PACKAGE: u64 = 4 << 20;

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a successor did not take over. A successor that refuses shuts its domain down with the reason
        /// [`Failure::as_reason`]; for one that says nothing domain 0 finds a word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Failure { $($(#[$doc])* $name = $number,)* }

        impl Failure {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// In words, behind "the new kernel".
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

failures! {
    /// It was handed no package.
    NoPackage = 1, "found no package";
    /// The package has another format.
    Version = 2, "cannot read a package of this version";
    /// The package is not whole.
    Damaged = 3, "found the package damaged";
    /// What is said of the mesh cannot be so.
    Mesh = 4, "found what the package says of the mesh impossible";
    /// The same of the monitor.
    Monitor = 5, "found what the package says of the monitor impossible";
    /// The same of the program.
    Program = 6, "found what the package says of the program impossible";
    /// It has less room.
    Crowded = 7, "has less room than the old one";
    /// It was told to fail.
    OnPurpose = 8, "failed as it was told to";
    /// The hypervisor stopped it.
    Crashed = 32, "crashed";
    /// It ended itself with a crash.
    Panicked = 33, "panicked";
    /// It was not done in time.
    Hung = 34, "was not done in time";
    /// It ended itself otherwise.
    Ended = 35, "shut itself down";
    /// The hypervisor or domain 0 could not start it.
    NotStarted = 36, "could not be started";
    /// Nobody wants one any more.
    Withdrawn = 37, "is not wanted any more";
}

impl Failure {
    /// The failure with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|failure| *failure as u8 == number)
    }

    /// As the reason of a shutdown.
    pub const fn as_reason(self) -> u32 {
        HANDED_OVER | self as u32
    }

    /// The failure that a reason names.
    pub fn from_reason(reason: u32) -> Option<Self> {
        let number = reason.checked_sub(HANDED_OVER).filter(|&number| number < HANDED_OVER)?;
        Self::from_u8(number as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_they_were_made_of() {
        for stage in [Stage::None, Stage::Prepared, Stage::Offered, Stage::Trial, Stage::Committed] {
            let succession = Succession { stage, bytes: MAX_PACKAGE };
            assert_eq!(Succession::from_word(succession.to_word()), Some(succession));
        }
        assert_eq!(Succession::from_word(5), None);
    }

    #[test]
    fn failures_go_through_a_byte_of_reason() {
        for &failure in Failure::ALL {
            assert_eq!(Failure::from_reason(failure.as_reason() & 0xff), Some(failure));
            assert_ne!(failure.as_reason(), HANDED_OVER);
        }
        assert_eq!(Failure::from_reason(HANDED_OVER), None);
        assert_eq!(Failure::from_reason(3), None);
    }
}
