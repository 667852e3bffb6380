//! What the tests of the page tables share: a frame pool that can run dry and checks every use, a second decoder of
//! the tables that owes nothing to the first, and a harness that holds both against a model.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod harness;
pub mod model;
pub mod pool;
pub mod raw;
