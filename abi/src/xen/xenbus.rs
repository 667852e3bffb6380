//! The states that the two ends of a device tell each other in xenstore (`io/xenbus.h`).

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $number:literal)*) => {
        /// `enum xenbus_state`, kept as a decimal number in the node `state` of either end.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum XenbusState { $($(#[$doc])* $name = $number,)* }

        impl XenbusState {
            /// The state of this number, as the node has it; one that is no number or is not known is `Unknown`.
            pub fn parse(text: &[u8]) -> Self {
                $(if text == stringify!($number).as_bytes() { return Self::$name; })*
                Self::Unknown
            }

            /// The number, as the node has it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => stringify!($number),)* }
            }
        }
    };
}

states! {
    /// Nothing is known of this end: it is not there.
    #[default]
    Unknown = 0
    /// It is there, and gathers what it will offer.
    Initialising = 1
    /// It has offered its features, and waits for the other's ring.
    InitWait = 2
    /// It has published its ring, and waits for the other to connect.
    Initialised = 3
    /// It works.
    Connected = 4
    /// It wants to end, or the other has to.
    Closing = 5
    /// It has ended.
    Closed = 6
    /// It is being changed.
    Reconfiguring = 7
    /// It has been changed.
    Reconfigured = 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_states() {
        assert_eq!(XenbusState::parse(b"4"), XenbusState::Connected);
        assert_eq!(XenbusState::parse(XenbusState::InitWait.text().as_bytes()), XenbusState::InitWait);
        for nonsense in [&b""[..], b"9", b"04", b"4\0", b"-1"] {
            assert_eq!(XenbusState::parse(nonsense), XenbusState::Unknown);
        }
    }
}
