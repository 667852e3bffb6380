//! The guest's page tables: the walker against a second one, and the shadows against the walker.

#[path = "../../../../ept/tests/common/guest.rs"]
#[allow(dead_code, reason = "made for the tests of `ept`, which use all of it")]
mod guest;
#[path = "../../../../ept/tests/shadow/life.rs"]
#[allow(dead_code, reason = "as above")]
mod life;
#[path = "../../../../ept/tests/shadow/machine.rs"]
#[allow(dead_code, reason = "as above")]
mod machine;
mod reference;
#[path = "../../../../ept/tests/shadow/run.rs"]
mod run;
mod shadow;
mod walk;

pub use shadow::shadow;
pub use walk::guest_walk;
