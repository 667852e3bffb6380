//! The ladder: tests that boot Atoll in emulators and look at it from outside, as a person with the toolstack would.
//!
//! Each rung stands on the one below: a sentence where there is no VMX, boot, figures, messages, isolation, hostile
//! guests, life and death of guests, the control line, a CD that boots by itself, the demo, all of it nested, and
//! unmodified Linux. The
//! rungs themselves are in `ladder/`, a file each; here is what they stand on: how checks are run ([`runner`]), the
//! machine they share ([`stage`]), and how to look at a mesh ([`mesh`]).
//!
//! A machine takes longer to boot than to check, so checks share it: a [`Scene`] is one machine and all that is
//! checked on it, in order. A check passes on what the machine *says* and on typed exit codes. Time never decides: a
//! check waits for a condition ([`watch`]), and its deadline is only there so that what hangs fails at last.
//!
//! What is booted is built by the toolstack, and everything here goes through its public library. The next room is
//! therefore `toolstack`, or, for what is being checked, the room that a rung's file names.
#![forbid(unsafe_code)]

pub mod command;
pub mod linux;
pub mod load;
pub mod mesh;
pub mod multiboot;
pub mod runner;
pub mod skips;
pub mod stage;
pub mod switchboard;
pub mod watch;

pub use runner::{Check, Scene, Verdict};
pub use stage::Stage;
pub use toolstack::error::{Error, Result};

/// An error that is only a sentence: what was expected, and what was there.
pub fn wrong(what: impl Into<String>) -> Error {
    Error::new(what, "")
}

/// Ends a check with an error unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($told:tt)+) => {
        if !$condition {
            return Err($crate::wrong(format!($($told)+)));
        }
    };
}
