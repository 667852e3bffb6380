//! What an end does, given both ends' states: the whole protocol in one table.
//!
//! ```text
//!   front            back
//!   Initialising     Initialising
//!                    InitWait          features are there
//!   Initialised                        the ring is there
//!                    Connected         it is served
//!   Connected
//! ```
//!
//! An end that starts while the other one still believes in an earlier connection has it closed first: a back end by
//! `Closing`, a front end by `Initialising`. So nobody connects to what is left of before.

use abi::xen::xenbus::XenbusState::{self, *};

use super::Role;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing, until the other end does something.
    Wait,
    /// Say only that this is the state.
    Become(XenbusState),
    /// Tell what there is to offer, and that this is the state.
    Offer(XenbusState),
    /// Connect, and then say so.
    Connect,
    /// Let go of everything, and then say that this is the state.
    Leave(XenbusState),
}

/// What an end in state `own` does when the other is in state `other`. `wanted`: the device is to work.
pub fn reaction(role: Role, own: XenbusState, other: XenbusState, wanted: bool) -> Reaction {
    match (wanted, role) {
        (false, _) if own == Closed => Reaction::Wait,
        (false, _) => Reaction::Leave(Closed),
        (true, Role::Front) => front(own, other),
        (true, Role::Back) => back(own, other),
    }
}

fn front(own: XenbusState, other: XenbusState) -> Reaction {
    match (own, other) {
        (Initialising | Closed, InitWait) => Reaction::Offer(Initialised),
        (Initialised, Connected) => Reaction::Connect,
        // It began anew, without a word.
        (Connected, InitWait) | (Initialised | Connected, Initialising) => Reaction::Leave(Initialising),
        (Initialised | Connected, Closing | Closed | Unknown) => Reaction::Leave(Closed),
        // Ask for another beginning.
        (Closed, Closed) => Reaction::Become(Initialising),
        (Initialising, Closing) => Reaction::Become(Closed),
        _ => Reaction::Wait,
    }
}

fn back(own: XenbusState, other: XenbusState) -> Reaction {
    match (own, other) {
        (Initialising | Closing | Closed, Initialising | Closed) => Reaction::Offer(InitWait),
        (InitWait, Initialised | Connected) => Reaction::Connect,
        // It believes in a connection of before.
        (Initialising, InitWait | Initialised | Connected | Closing) => Reaction::Become(Closing),
        (Connected, Initialising | Closing | Closed | Unknown) => Reaction::Leave(Closed),
        _ => Reaction::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [XenbusState; 9] = [
        Unknown,
        Initialising,
        InitWait,
        Initialised,
        Connected,
        Closing,
        Closed,
        Reconfiguring,
        Reconfigured,
    ];

    /// The state an end has after its reaction; `None` where it waits.
    fn after(reaction: Reaction) -> Option<XenbusState> {
        match reaction {
            Reaction::Wait => None,
            Reaction::Become(state) | Reaction::Offer(state) | Reaction::Leave(state) => Some(state),
            Reaction::Connect => Some(Connected),
        }
    }

    /// Whoever starts, and whatever the other one is at, and whoever is quicker: they end up connected.
    #[test]
    fn any_two_ends_that_start_anew_connect() {
        let fronts = [Initialising, Initialised, Connected, Closed].map(|stale| (stale, Initialising));
        let backs = [Initialising, InitWait, Connected, Closing, Closed].map(|stale| (Initialising, stale));
        for start in fronts.into_iter().chain(backs) {
            for order in 0u32..1 << 12 {
                let (mut front, mut back) = start;
                for step in 0..40 {
                    let front_first = order >> (step % 12) & 1 == 0;
                    for role in if front_first { [Role::Front, Role::Back] } else { [Role::Back, Role::Back] }
                    {
                        let (own, other) = match role {
                            Role::Front => (&mut front, back),
                            Role::Back => (&mut back, front),
                        };
                        *own = after(reaction(role, *own, other, true)).unwrap_or(*own);
                    }
                    // Nobody is left out for ever.
                    front = after(reaction(Role::Front, front, back, true)).unwrap_or(front);
                }
                assert_eq!((front, back), (Connected, Connected), "from {start:?}");
            }
        }
    }

    #[test]
    fn an_end_that_is_not_wanted_closes_and_rests() {
        for (own, other) in ALL.into_iter().flat_map(|own| ALL.map(|other| (own, other))) {
            for role in [Role::Front, Role::Back] {
                let expected = if own == Closed { Reaction::Wait } else { Reaction::Leave(Closed) };
                assert_eq!(reaction(role, own, other, false), expected);
            }
        }
    }

    #[test]
    fn nobody_connects_to_what_is_left_of_before() {
        assert_eq!(reaction(Role::Back, Initialising, Connected, true), Reaction::Become(Closing));
        assert_eq!(reaction(Role::Front, Initialising, Connected, true), Reaction::Wait);
        assert_eq!(reaction(Role::Front, Initialised, InitWait, true), Reaction::Wait);
    }
}
